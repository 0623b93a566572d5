//! One connection's task: bytes between the socket and the session machine, and the machine's events
//! to whoever they concern. What they mean is in `publishing` and `serving`.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::{Decoder, Text};
use tidegate_edge_protocol::mqtt::connection::{Connection, RateLimit};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tokio::time::{sleep_until, timeout};

use super::events::Wait;
use super::mailbox::{Contents, Letter, Mailbox};
use super::outbox::Outbox;
use super::transport::{Peer, Socket};
use super::wire::{Moved, Wire};
use super::{Context, Seat};
use crate::committer::Gate;
use crate::limits::{FAREWELL_TIMEOUT, TAKE_OVER_TIMEOUT, UNWRITTEN_ATTACHED_MAX, WRITE_BYTES_MAX};
use crate::retained::Reading;
use crate::router::ConnectionId;
use crate::sessions::{Feed, Held, SharedDelivery};

/// A connection that has begun. It is told when the node stops, by its mailbox; `is_stopping`: it came too
/// late for that.
pub(super) fn begin(
    socket: Socket,
    peer: Peer,
    seat: Seat,
    is_stopping: impl FnOnce() -> bool,
) -> Box<Task> {
    let mut task = Task::new(socket, peer, seat);
    if let Some(authenticator) = task.context.scram.authenticator() {
        task.machine.offer_authentication(authenticator);
    }
    task.context.open.insert(task.id, &task.mailbox);
    if is_stopping() {
        task.stop();
    }
    task
}

pub(super) struct Task {
    pub(super) machine: Connection,
    decoder: Decoder,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) id: ConnectionId,
    pub(super) peer: Peer,
    pub(super) client_id: Bytes,
    pub(super) context: Arc<Context>,
    _seat: Seat,
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
    /// Taken out of the mailbox, and not delivered yet.
    letters: VecDeque<Letter>,
    /// There are more in the mailbox, which says no more of them.
    letters_left: bool,
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
    fn new(socket: Socket, peer: Peer, seat: Seat) -> Box<Self> {
        let context = Arc::clone(&seat.context);
        let id = context.next_id();
        let packet_bytes_max = context.limits.packet_bytes_max.get();
        Box::new(Self {
            machine: Connection::new(Arc::clone(&context.limits), Instant::now()),
            decoder: Decoder::server(packet_bytes_max),
            mailbox: Arc::new(Mailbox::new(&context.limits)),
            id,
            peer,
            client_id: Bytes::new(),
            context,
            _seat: seat,
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
            letters: VecDeque::new(),
            letters_left: false,
            outbox: Outbox::default(),
            counts: Counts::default(),
            ended: false,
        })
    }

    /// Runs the connection; then `end` is due.
    pub(super) async fn serve(&mut self) {
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
            if self.letters.is_empty() {
                self.letters = VecDeque::new();
            }
            tokio::select! {
                moved = poll_fn(|context| self.wire.poll_move(context, can_read)) => {
                    self.moved(moved);
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
            self.work().await;
            if self.may_read_retained() {
                // A socket that takes everything would never let go of the thread.
                tokio::task::yield_now().await;
            }
        }
    }

    pub(super) async fn end(&mut self) {
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

    fn moved(&mut self, moved: Moved) {
        let metrics = &self.context.metrics;
        match moved {
            Moved::Read(bytes) => drop(metrics.mqtt_received_bytes.inc_by(bytes as u64)),
            Moved::Written(bytes) => drop(metrics.mqtt_sent_bytes.inc_by(bytes as u64)),
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
            self.work().await;
            if self.wire.unwritten() == 0 {
                return self.wire.socket.end().await;
            }
            match poll_fn(|context| self.wire.poll_move(context, false)).await {
                Moved::Closed => return Ok(()),
                moved => self.moved(moved),
            }
        }
    }

    /// All that can be done now: what came in, what it leads to, and what goes out.
    async fn work(&mut self) {
        while let Some(wait) = self.progress() {
            // Others see what was gathered so far.
            self.outbox.flush();
            // Rare, and then behind a pointer: each connection has room for what is awaited here.
            Box::pin(self.attend(wait)).await;
        }
    }

    /// Gives what must be waited for before the next step.
    fn progress(&mut self) -> Option<Wait> {
        let now = Instant::now();
        loop {
            if let Some(wait) = self.handle_events() {
                return Some(wait);
            }
            if !self.decode(now) {
                break;
            }
        }
        self.pass_on();
        self.count_withheld();
        self.count_rate();
        self.deliver_letters(now);
        self.feed();
        loop {
            // What was delivered may wait for an identifier, with nothing to be sent before it has one.
            if let Some(wait) = self.handle_events() {
                return Some(wait);
            }
            if self.wire.unwritten() >= WRITE_BYTES_MAX
                || !self.machine.poll_transmit(self.wire.output())
            {
                break;
            }
            self.deliver_letters(now);
            // Retained messages are there at once, by the hundred thousand: once in a turn is enough.
            if self.retained.is_empty() {
                self.feed();
            }
        }
        self.pass_on();
        None
    }

    /// As many as the connection has room for; the others wait, and behind them those in the mailbox.
    fn deliver_letters(&mut self, now: Instant) {
        loop {
            while self.machine.outbound_has_room() || !self.machine.is_connected() {
                let Some(mut letter) = self.letters.pop_front() else {
                    break;
                };
                if self.wire.unwritten() > UNWRITTEN_ATTACHED_MAX {
                    letter.detach();
                }
                self.deliver(now, letter);
            }
            if !self.letters.is_empty() || !std::mem::take(&mut self.letters_left) {
                return;
            }
            self.letters = self.mailbox.take_letters().into();
        }
    }

    /// Feeds a packet to the machine, if it takes one and one is there.
    fn decode(&mut self, now: Instant) -> bool {
        if self.wire.input.is_empty() || !self.takes_more() {
            return false;
        }
        let before = self.wire.input.len();
        match self.decoder.decode(&mut self.wire.input) {
            Ok(None) => return false,
            Ok(Some(packet)) => {
                self.counts.packets += 1;
                let bytes = before - self.wire.input.len();
                self.machine.handle_bytes(now, bytes);
                self.machine.handle_packet(now, packet);
            }
            Err(error) => self.machine.handle_decode_error(now, &error),
        }
        true
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
        let sent = self.machine.take_sent();
        if sent.packets > 0 {
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
            letters_left,
            shut_down,
            ..
        }) = self.mailbox.take(self.letters.is_empty())
        else {
            return;
        };
        for (answer, outcome) in outcomes {
            self.answer(answer, outcome);
        }
        match self.letters.is_empty() {
            true => self.letters = letters.into(),
            false => self.letters_left |= letters_left,
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
