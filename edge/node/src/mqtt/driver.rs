//! One connection's task: bytes between the socket and the session machine, and the machine's events
//! to whoever they concern. What they mean is in `publishing` and `serving`.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::{Decoder, Text};
use tidegate_edge_protocol::mqtt::connection::{CloseReason, Closed, Connection, Event};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::Context;
use super::mailbox::{Contents, Mailbox};
use super::transport::{Peer, Socket};
use super::wire::{Moved, Wire};
use crate::committer::Gate;
use crate::limits::{FAREWELL_TIMEOUT, TAKE_OVER_TIMEOUT, WRITE_BYTES_MAX};
use crate::retained::Reading;
use crate::router::ConnectionId;
use crate::sessions::{Feed, Held, SharedDelivery};

/// Runs a connection to its end. The task has a place of its own: as a part of what runs it, it would be
/// there twice, and most connections do nothing most of the time.
pub(super) fn run(mut task: Box<Task>, stopping: watch::Receiver<bool>) -> Running {
    Box::pin(async move { task.run(stopping).await })
}

/// A connection that goes on until it ends.
pub(super) type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Task {
    pub(super) machine: Connection,
    decoder: Decoder,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) id: ConnectionId,
    pub(super) peer: Peer,
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
    /// Retained messages that are still to be delivered.
    pub(super) retained: Reading,
    wire: Wire,
    /// Nothing but a farewell is left to be said.
    pub(super) ended: bool,
}

impl Task {
    pub(super) fn new(socket: Socket, peer: Peer, context: Context) -> Box<Self> {
        let packet_bytes_max = context.limits.packet_bytes_max.get();
        Box::new(Self {
            machine: Connection::new(context.limits.clone(), Instant::now()),
            decoder: Decoder::server(packet_bytes_max),
            mailbox: Arc::new(Mailbox::default()),
            id: context.next_id(),
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
            retained: Reading::default(),
            wire: Wire::new(socket),
            ended: false,
        })
    }

    async fn run(&mut self, mut stopping: watch::Receiver<bool>) {
        let mut stopped = pin!(async move { stopping.changed().await });
        // Set again only when it must come earlier, or came: most deadlines move on with each packet.
        let mut alarm = pin!(sleep_until(far().into()));
        while !self.ended {
            let deadlines = [self.machine.poll_timeout(), self.store_cursor_at];
            let deadline = deadlines.into_iter().flatten().min();
            if alarm.is_elapsed() || deadline.is_some_and(|at| at < alarm.deadline().into_std()) {
                alarm.as_mut().reset(deadline.unwrap_or_else(far).into());
            }
            let can_read = self.takes_more() && self.wire.unwritten() < WRITE_BYTES_MAX;
            tokio::select! {
                moved = poll_fn(|context| self.wire.poll_move(context, can_read)) => {
                    self.moved(moved).await;
                }
                () = self.mailbox.filled() => self.empty_mailbox(),
                () = feed_ready(&mut self.feed), if self.feed.is_some() => {}
                () = tokio::task::yield_now(), if self.may_read_retained() => {}
                () = alarm.as_mut() => {
                    let now = Instant::now();
                    self.machine.handle_timeout(now);
                    self.store_cursor(now);
                }
                _ = stopped.as_mut() => {
                    let reason = ReasonCode::ServerShuttingDown;
                    self.machine.handle_shutdown(Instant::now(), reason);
                }
            }
            if self.takes_more() && !self.wire.input.is_empty() {
                // What was left when the machine had enough.
                self.decode().await;
            }
            self.settle().await;
            if self.may_read_retained() {
                // A socket that takes everything would never let go of the thread.
                tokio::task::yield_now().await;
            }
        }
        // The session is given up when it is known what became of all that came in: who takes it up must
        // not find a message received that is refused yet. Where the journal has failed nobody is told:
        // the node is about to end.
        let _ = timeout(TAKE_OVER_TIMEOUT, self.wait_for_fate()).await;
        self.held = None;
        self.count_withheld();
        // A peer that does not read must not hold the connection, or the node's end, for ever.
        let _ = timeout(FAREWELL_TIMEOUT, Box::pin(self.say_farewell())).await;
    }

    async fn moved(&mut self, moved: Moved) {
        match moved {
            Moved::Read(bytes) => {
                self.context
                    .metrics
                    .mqtt_received_bytes
                    .inc_by(bytes as u64);
                self.decode().await;
            }
            Moved::Written(bytes) => {
                self.context.metrics.mqtt_sent_bytes.inc_by(bytes as u64);
            }
            Moved::Closed => self.machine.handle_closed(Instant::now()),
        }
    }

    /// Whether there is more to send of retained messages, and room for it.
    pub(super) fn may_read_retained(&self) -> bool {
        !self.retained.is_empty() && self.machine.is_connected() && self.machine.outbound_has_room()
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

    async fn say_farewell(&mut self) -> std::io::Result<()> {
        loop {
            self.settle().await;
            if self.wire.unwritten() == 0 {
                return self.wire.socket.end().await;
            }
            match poll_fn(|context| self.wire.poll_move(context, false)).await {
                Moved::Closed => return Ok(()),
                moved => self.moved(moved).await,
            }
        }
    }

    /// Feeds whole packets to the machine while it takes them.
    async fn decode(&mut self) {
        while self.takes_more() && !self.machine.is_closed() {
            match self.decoder.decode(&mut self.wire.input) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    self.context.metrics.mqtt_packets_received.inc();
                    self.machine.handle_packet(Instant::now(), packet);
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
        self.feed();
        while self.wire.unwritten() < WRITE_BYTES_MAX
            && self.machine.poll_transmit(self.wire.output())
        {
            self.handle_events().await;
            // Retained messages are there at once, by the hundred thousand: once in a turn is enough.
            if self.retained.is_empty() {
                self.feed();
            }
        }
        let sent = self.machine.take_sent();
        self.context.metrics.mqtt_packets_sent.inc_by(sent.packets);
        self.context
            .metrics
            .mqtt_publishes_sent
            .inc_by(sent.publishes);
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

    /// What comes once in a connection's life, or hardly ever, is boxed: a connection's task would have
    /// room for it all the time, 10,000 of them that send nothing too.
    async fn handle_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Connect(request) => Box::pin(self.connect(*request)).await,
                Event::Publish { token, publish } => self.publish(token, publish).await,
                Event::PublishAgain {
                    token,
                    publish,
                    is_probe,
                } => Box::pin(self.publish_again(token, publish, is_probe)).await,
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
                Event::WillDue(will) => Box::pin(self.will_due(*will)).await,
                Event::Closed(closed) => {
                    self.ended = true;
                    self.log_end(&closed);
                    Box::pin(self.let_go(&closed)).await;
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
