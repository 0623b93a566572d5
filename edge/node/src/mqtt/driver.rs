//! One connection's task: bytes between the socket and the session machine, and the machine's events
//! to whoever they concern. What they mean is in `publishing` and `serving`.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::{Decoder, Text};
use tidegate_edge_protocol::mqtt::connection::{CloseReason, Closed, Connection, Event, RateLimit};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::Context;
use super::mailbox::{Contents, Mailbox};
use super::outbox::Outbox;
use super::publishing::Stuck;
use super::transport::{Peer, Socket};
use super::wire::{Moved, Wire};
use crate::committer::Gate;
use crate::limits::{FAREWELL_TIMEOUT, TAKE_OVER_TIMEOUT, WRITE_BYTES_MAX};
use crate::retained::Reading;
use crate::router::ConnectionId;
use crate::sessions::{Feed, Held, SharedDelivery};

/// Runs a connection to its end.
pub(super) async fn run(
    socket: Socket,
    peer: Peer,
    context: Arc<Context>,
    stopping: watch::Receiver<bool>,
) {
    let mut task = Task::new(socket, peer, context);
    task.context.open.insert(task.id, &task.mailbox);
    if *stopping.borrow() {
        // It came too late to be told.
        task.stop();
    }
    drop(stopping);
    task.serve().await;
    Box::pin(task.end()).await;
}

pub(super) struct Task {
    pub(super) machine: Connection,
    decoder: Decoder,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) id: ConnectionId,
    pub(super) peer: Peer,
    pub(super) client_id: Bytes,
    pub(super) context: Arc<Context>,
    /// The client's session, from CONNECT to the end.
    pub(super) held: Option<Held>,
    /// There where the session is served from the journal: where it outlives its connection.
    pub(super) feed: Option<Box<Feed>>,
    /// The cursor has moved, and is stored then.
    pub(super) store_cursor_at: Option<Instant>,
    /// Filters that are served as messages come, and what they take.
    pub(super) subscriptions: usize,
    pub(super) subscriptions_bytes: usize,
    pub(super) next_delivery: u64,
    /// Groups of those filters.
    pub(super) groups: Vec<Text>,
    /// Deliveries whose group waits for their end, by token.
    pub(super) shared: BTreeMap<u64, SharedDelivery>,
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
    wire: Wire,
    /// What came in, for those who are served as messages come.
    pub(super) outbox: Outbox,
    pub(super) counts: Counts,
    /// Nothing but a farewell is left to be said.
    pub(super) ended: bool,
}

/// Counted while packets are read and messages handed over; metrics get them in one go.
#[derive(Debug, Default)]
pub(super) struct Counts {
    packets: u64,
    pub(super) received: u64,
    pub(super) unrouted: u64,
    pub(super) delivered: u64,
}

impl Task {
    fn new(socket: Socket, peer: Peer, context: Arc<Context>) -> Box<Self> {
        let id = context.next_id();
        let packet_bytes_max = context.limits.packet_bytes_max.get();
        Box::new(Self {
            machine: Connection::new(Arc::clone(&context.limits), Instant::now()),
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
            shared: BTreeMap::new(),
            unanswered: 0,
            gate: Gate::default(),
            withheld: (0, 0),
            rate_exceeded: None,
            retained: Reading::default(),
            wire: Wire::new(socket),
            outbox: Outbox::default(),
            counts: Counts::default(),
            ended: false,
        })
    }

    async fn serve(&mut self) {
        // Set again only when it must come earlier, or came: most deadlines move on with each packet.
        let mut alarm = pin!(sleep_until(far().into()));
        while !self.ended {
            let deadlines = [self.machine.poll_timeout(), self.store_cursor_at];
            let deadline = deadlines.into_iter().flatten().min();
            if alarm.is_elapsed() || deadline.is_some_and(|at| at < alarm.deadline().into_std()) {
                alarm.as_mut().reset(deadline.unwrap_or_else(far).into());
            }
            let can_read = self.takes_more() && self.wire.unwritten() < WRITE_BYTES_MAX;
            self.machine.rest();
            self.wire.rest();
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
            }
            if self.takes_more() && !self.wire.input.is_empty() {
                // What was left when the machine had enough.
                self.decode().await;
            }
            self.settle().await;
        }
    }

    async fn end(&mut self) {
        // The session is given up when it is known what became of all that came in: who takes it up must
        // not find a message received that is refused yet. Where the journal has failed nobody is told:
        // the node is about to end.
        let _ = timeout(TAKE_OVER_TIMEOUT, self.wait_for_fate()).await;
        self.held = None;
        self.context.open.remove(self.id);
        self.mailbox.close();
        self.count_withheld();
        self.count_rate();
        // A peer that does not read must not hold the connection, or the node's end, for ever.
        let _ = timeout(FAREWELL_TIMEOUT, self.say_farewell()).await;
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
        let now = Instant::now();
        while self.takes_more() && !self.machine.is_closed() {
            let before = self.wire.input.len();
            match self.decoder.decode(&mut self.wire.input) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    self.counts.packets += 1;
                    let bytes = before - self.wire.input.len();
                    self.machine.handle_bytes(now, bytes);
                    self.machine.handle_packet(now, packet);
                }
                Err(error) => self.machine.handle_decode_error(now, &error),
            }
            self.handle_events().await;
        }
        self.pass_on();
    }

    /// What was gathered while packets were read.
    fn pass_on(&mut self) {
        self.outbox.flush();
        let counts = std::mem::take(&mut self.counts);
        let metrics = &self.context.metrics;
        for (counter, count) in [
            (&metrics.mqtt_packets_received, counts.packets),
            (&metrics.messages_received, counts.received),
            (&metrics.messages_unrouted, counts.unrouted),
            (&metrics.mqtt_messages_delivered, counts.delivered),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }

    /// Events, deliveries and output until all is done, or the output is full.
    async fn settle(&mut self) {
        self.handle_events().await;
        self.count_withheld();
        self.count_rate();
        self.feed();
        while self.wire.unwritten() < WRITE_BYTES_MAX
            && self.machine.poll_transmit(self.wire.output())
        {
            self.handle_events().await;
            self.feed();
        }
        self.pass_on();
        let sent = self.machine.take_sent();
        if sent.packets > 0 {
            let metrics = &self.context.metrics;
            metrics.mqtt_packets_sent.inc_by(sent.packets);
            metrics.mqtt_publishes_sent.inc_by(sent.publishes);
        }
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
            ..
        }) = self.mailbox.take()
        else {
            return;
        };
        for (answer, outcome) in outcomes {
            self.answer(answer, outcome);
        }
        let now = Instant::now();
        for letter in letters {
            self.deliver(now, letter);
        }
        let dropped = self.mailbox.take_dropped();
        if dropped > 0 {
            self.context.metrics.mqtt_messages_dropped.inc_by(dropped);
        }
        match shut_down {
            Some(ReasonCode::ServerShuttingDown) => self.stop(),
            Some(reason) => self.machine.handle_shutdown(Instant::now(), reason),
            None => {}
        }
    }

    async fn handle_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Publish { token, publish } => {
                    let stuck = self.publish(token, publish);
                    self.wait_for_room(stuck).await;
                }
                Event::PublishAgain {
                    token,
                    publish,
                    is_probe,
                } => {
                    let stuck = self.publish_again(token, publish, is_probe);
                    self.wait_for_room(stuck).await;
                }
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
                Event::Connect(request) => Box::pin(self.connect(*request)).await,
                Event::WillDue(will) => {
                    self.outbox.flush();
                    Box::pin(self.will_due(*will)).await;
                }
                Event::Closed(closed) => {
                    self.outbox.flush();
                    self.ended = true;
                    self.log_end(&closed);
                    Box::pin(self.let_go(&closed)).await;
                }
            }
        }
    }

    async fn wait_for_room(&mut self, stuck: Option<Box<Stuck>>) {
        if let Some(stuck) = stuck {
            self.outbox.flush();
            Box::pin(self.context.wait_for_room(*stuck)).await;
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

async fn feed_ready(feed: &mut Option<Box<Feed>>) {
    match feed {
        // Most clients have none: they need not hold what a feed waits with.
        Some(feed) => Box::pin(feed.ready()).await,
        None => std::future::pending().await,
    }
}

/// No deadline: the branch is switched off, but it wants a time.
fn far() -> Instant {
    Instant::now() + std::time::Duration::from_secs(3600)
}
