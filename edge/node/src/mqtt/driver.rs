//! One connection's task: bytes between the socket and the session machine, and the machine's events
//! to whoever they concern. What they mean is in `publishing` and `serving`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tidegate_edge_protocol::mqtt::codec::{Decoder, Text};
use tidegate_edge_protocol::mqtt::connection::{CloseReason, Closed, Connection, Event, RateLimit};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::Context;
use super::mailbox::{Contents, Mailbox};
use crate::committer::Gate;
use crate::limits::{FAREWELL_TIMEOUT, READ_BYTES, TAKE_OVER_TIMEOUT, WRITE_BYTES_MAX};
use crate::retained::Reading;
use crate::router::ConnectionId;
use crate::sessions::{Feed, Held, SharedDelivery};

/// Runs a connection to its end.
pub(super) async fn run(
    socket: TcpStream,
    peer: SocketAddr,
    context: Context,
    stopping: watch::Receiver<bool>,
) {
    let id = context.next_id();
    let packet_bytes_max = context.limits.packet_bytes_max.get();
    let mut machine = Connection::new(context.limits.clone(), Instant::now());
    if let Some(authenticator) = context.scram.authenticator() {
        machine.offer_authentication(authenticator);
    }
    let task = Task {
        machine,
        decoder: Decoder::server(packet_bytes_max),
        mailbox: Arc::new(Mailbox::default()),
        id,
        peer,
        client_id: Bytes::new(),
        context,
        held: None,
        feed: None,
        store_cursor_at: None,
        subscriptions: 0,
        subscriptions_bytes: 0,
        next_delivery: 0,
        groups: Vec::new(),
        shared: HashMap::new(),
        unanswered: 0,
        gate: Gate::default(),
        withheld: (0, 0),
        rate_exceeded: None,
        retained: Reading::default(),
        input: BytesMut::new(),
        output: BytesMut::new(),
        ended: false,
    };
    Box::pin(task.run(socket, stopping)).await;
}

pub(super) struct Task {
    pub(super) machine: Connection,
    decoder: Decoder,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    pub(super) client_id: Bytes,
    pub(super) context: Context,
    /// The client's session, from CONNECT to the end.
    pub(super) held: Option<Held>,
    /// There where the session is served from the journal: where it outlives its connection.
    pub(super) feed: Option<Feed>,
    /// The cursor has moved, and is stored then.
    pub(super) store_cursor_at: Option<Instant>,
    /// Filters that are served as messages come, and what they take.
    pub(super) subscriptions: usize,
    pub(super) subscriptions_bytes: usize,
    pub(super) next_delivery: u64,
    /// Groups of those filters.
    pub(super) groups: Vec<Text>,
    /// Deliveries whose group waits for their end, by token.
    pub(super) shared: HashMap<u64, SharedDelivery>,
    /// Publishes whose commit is still to come.
    pub(super) unanswered: usize,
    /// Of what the client publishes, where it waits for space.
    pub(super) gate: Gate,
    /// What of it waits, as it was last counted: messages and bytes.
    pub(super) withheld: (usize, usize),
    /// The rate that the client had used up when it was last counted.
    rate_exceeded: Option<RateLimit>,
    /// Retained messages that are still to be delivered.
    pub(super) retained: Reading,
    input: BytesMut,
    output: BytesMut,
    /// Nothing but a farewell is left to be said.
    pub(super) ended: bool,
}

impl Task {
    async fn run(mut self, mut socket: TcpStream, mut stopping: watch::Receiver<bool>) {
        while !self.ended {
            let (mut reader, mut writer) = socket.split();
            let deadlines = [self.machine.poll_timeout(), self.store_cursor_at];
            let deadline = deadlines.into_iter().flatten().min();
            let can_read = self.takes_more() && self.output.len() < WRITE_BYTES_MAX;
            if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            tokio::select! {
                read = reader.read_buf(&mut self.input), if can_read => match read {
                    Ok(bytes @ 1..) => {
                        self.context.metrics.mqtt_received_bytes.inc_by(bytes as u64);
                        self.decode().await;
                    }
                    Ok(0) | Err(_) => self.machine.handle_closed(Instant::now()),
                },
                written = writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                    match written {
                        Ok(bytes @ 1..) => {
                            self.context.metrics.mqtt_sent_bytes.inc_by(bytes as u64);
                        }
                        Ok(0) | Err(_) => self.machine.handle_closed(Instant::now()),
                    }
                }
                () = self.mailbox.filled() => self.empty_mailbox(),
                () = feed_ready(&mut self.feed) => {}
                () = tokio::task::yield_now(), if self.may_read_retained() => {}
                () = sleep_until(deadline.unwrap_or_else(far).into()), if deadline.is_some() => {
                    let now = Instant::now();
                    self.machine.handle_timeout(now);
                    self.store_cursor(now);
                }
                _ = stopping.changed() => {
                    self.stop();
                }
            }
            if self.takes_more() && !self.input.is_empty() {
                // What was left when the machine had enough.
                self.decode().await;
            }
            self.settle().await;
        }
        // The session is given up when it is known what became of all that came in: who takes it up must
        // not find a message received that is refused yet. Where the journal has failed nobody is told:
        // the node is about to end.
        let _ = timeout(TAKE_OVER_TIMEOUT, self.wait_for_fate()).await;
        self.held = None;
        self.count_withheld();
        self.count_rate();
        // A peer that does not read must not hold the connection, or the node's end, for ever.
        let _ = timeout(FAREWELL_TIMEOUT, self.say_farewell(&mut socket)).await;
    }

    /// Whether there is more to send of retained messages, and room for it.
    pub(super) fn may_read_retained(&self) -> bool {
        !self.retained.is_empty() && self.machine.is_connected() && self.machine.outbound_has_room()
    }

    fn stop(&mut self) {
        let now = Instant::now();
        match &self.context.redirect.at_shutdown {
            Some(redirect) if self.machine.is_connected() => {
                self.machine.handle_redirected(now, redirect);
            }
            _ => self
                .machine
                .handle_shutdown(now, ReasonCode::ServerShuttingDown),
        }
    }

    /// Whether to read on.
    fn takes_more(&self) -> bool {
        self.machine.can_read() && self.held.as_ref().is_none_or(Held::takes_more)
    }

    async fn wait_for_fate(&mut self) {
        while self.unanswered > 0 {
            self.mailbox.filled().await;
            self.empty_mailbox();
        }
    }

    async fn say_farewell(&mut self, socket: &mut TcpStream) -> std::io::Result<()> {
        loop {
            self.settle().await;
            if self.output.is_empty() {
                return socket.shutdown().await;
            }
            let bytes = self.output.len() as u64;
            socket.write_all_buf(&mut self.output).await?;
            self.context.metrics.mqtt_sent_bytes.inc_by(bytes);
        }
    }

    /// Feeds whole packets to the machine while it takes them.
    async fn decode(&mut self) {
        while self.takes_more() && !self.machine.is_closed() {
            let before = self.input.len();
            match self.decoder.decode(&mut self.input) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    self.context.metrics.mqtt_packets_received.inc();
                    let now = Instant::now();
                    self.machine.handle_bytes(now, before - self.input.len());
                    self.machine.handle_packet(now, packet);
                }
                Err(error) => self.machine.handle_decode_error(Instant::now(), &error),
            }
            self.handle_events().await;
        }
    }

    /// Events, deliveries and output until all is done, or the output is full.
    async fn settle(&mut self) {
        self.handle_events().await;
        self.count_withheld();
        self.count_rate();
        self.feed();
        while self.output.len() < WRITE_BYTES_MAX && self.machine.poll_transmit(&mut self.output) {
            self.handle_events().await;
            self.feed();
        }
        let sent = self.machine.take_sent();
        self.context.metrics.mqtt_packets_sent.inc_by(sent.packets);
        self.context
            .metrics
            .mqtt_publishes_sent
            .inc_by(sent.publishes);
    }

    /// Keeps the node's figures of clients that send faster than they may.
    fn count_rate(&mut self) {
        let now = self.machine.rate_exceeded();
        let before = std::mem::replace(&mut self.rate_exceeded, now);
        let metrics = &self.context.metrics;
        match (before, now) {
            (None, Some(limit)) => {
                metrics.mqtt_rate_paused_clients.inc();
                metrics.rate_paused(limit);
            }
            (Some(_), None) => drop(metrics.mqtt_rate_paused_clients.dec()),
            _ => {}
        }
    }

    fn empty_mailbox(&mut self) {
        let Some(Contents {
            outcomes,
            letters,
            shut_down,
        }) = self.mailbox.take()
        else {
            return;
        };
        for (answer, outcome) in outcomes {
            self.answer(answer, outcome);
        }
        for letter in letters {
            self.deliver(letter);
        }
        let dropped = self.mailbox.take_dropped();
        if dropped > 0 {
            self.context.metrics.mqtt_messages_dropped.inc_by(dropped);
        }
        if let Some(reason) = shut_down {
            self.machine.handle_shutdown(Instant::now(), reason);
        }
    }

    async fn handle_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Connect(request) => self.connect(*request).await,
                Event::Publish { token, publish } => self.publish(token, publish).await,
                Event::PublishAgain {
                    token,
                    publish,
                    is_probe,
                } => self.publish_again(token, publish, is_probe).await,
                Event::Release { token, packet_id } => self.release(token, packet_id),
                Event::Subscribe {
                    token,
                    filters,
                    subscription_identifier,
                } => self.subscribe(token, filters, subscription_identifier),
                Event::Unsubscribe { token, filters } => self.unsubscribe(token, filters),
                Event::Assign { token, packet_id } => self.assign(token, packet_id),
                Event::Received { token, packet_id } => self.received(token, packet_id),
                Event::DeliveryDone { token, .. } => self.delivery_done(token),
                Event::WillDue(will) => self.will_due(*will).await,
                Event::Closed(closed) => {
                    self.ended = true;
                    self.log_end(&closed);
                    self.let_go(&closed).await;
                }
            }
        }
    }

    fn log_end(&self, closed: &Closed) {
        let client = String::from_utf8_lossy(&self.client_id);
        let peer = self.peer;
        match &closed.reason {
            CloseReason::ClientDisconnected(_)
            | CloseReason::NetworkClosed
            | CloseReason::Shutdown(ReasonCode::ServerShuttingDown) => {
                tracing::debug!(%peer, %client, "mqtt: disconnected");
            }
            CloseReason::PeerError { reason, message } => {
                self.context.metrics.closed("peer_error");
                let code = *reason as u8;
                tracing::warn!(%peer, %client, code, why = message, "mqtt: closed for a breach");
            }
            other => {
                self.context.metrics.closed(reason_label(other));
                tracing::info!(%peer, %client, why = ?other, "mqtt: closed");
            }
        }
    }
}

fn reason_label(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::ConnectTimeout => "connect_timeout",
        CloseReason::KeepAliveTimeout => "keep_alive_timeout",
        CloseReason::Rejected(_) => "rejected",
        CloseReason::Shutdown(ReasonCode::SessionTakenOver) => "taken_over",
        CloseReason::Shutdown(ReasonCode::UseAnotherServer | ReasonCode::ServerMoved) => {
            "redirected"
        }
        CloseReason::Shutdown(_) => "quota",
        CloseReason::PublishRefused(_) => "publish_refused",
        _ => "other",
    }
}

async fn feed_ready(feed: &mut Option<Feed>) {
    match feed {
        Some(feed) => feed.ready().await,
        None => std::future::pending().await,
    }
}

/// No deadline: the branch is switched off, but it wants a time.
fn far() -> Instant {
    Instant::now() + std::time::Duration::from_secs(3600)
}
