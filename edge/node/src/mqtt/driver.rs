//! One connection's task: bytes between the socket and the session machine, and the machine's events
//! to whoever they concern. What they mean is in `publishing` and `serving`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::Decoder;
use tidegate_edge_protocol::mqtt::connection::{Connection, RateLimit};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Sleep, sleep_until, timeout};

use super::events::Wait;
use super::mailbox::{Contents, Letter, Mailbox};
use super::rights::Identity;
use super::subscribing::Live;
use super::transport::{Opened, Peer};
use super::turn::Turn;
use super::wire::{Moved, Wire};
use super::{Context, Seat};
use crate::limits::{
    FAREWELL_TIMEOUT, READ_BYTES, TAKE_OVER_TIMEOUT, UNWRITTEN_ATTACHED_MAX, WRITE_BYTES_MAX,
};
use crate::retained::Reading;
use crate::router::ConnectionId;
use crate::sessions::{Feed, Held};

/// A connection that has begun. It is told when the node stops, by its mailbox; `is_stopping`: it came too
/// late for that.
pub(super) fn begin(opened: Opened, seat: Seat, is_stopping: impl FnOnce() -> bool) -> Box<Task> {
    let mut task = Task::new(opened, seat);
    if let Some(authenticator) = task.context.doors.authenticator() {
        task.machine.offer_authentication(authenticator);
    }
    task.context.open.insert(task.id, &task.mailbox);
    if is_stopping() {
        task.stop();
    }
    task
}

/// A connection from its handshakes to its end. They are behind a pointer: what they need is not there while
/// the connection runs. What is alive across an await here is in every connection's future (`sizes`): so
/// waiting is done by hand, and not with a `select!`, where each branch would have its place.
pub(super) async fn run(opening: impl Future<Output = Option<Box<Task>>>) {
    let Some(mut task) = opening.await else {
        return;
    };
    {
        let mut alarm = pin!(sleep_until(far().into()));
        while !task.ended {
            task.set(alarm.as_mut());
            task.rest();
            poll_fn(|context| task.poll_turn(context, alarm.as_mut())).await;
            while let Some(wait) = task.progress() {
                Box::pin(task.attend(wait)).await;
            }
            if task.may_read_retained() || std::mem::take(&mut task.has_read_much) {
                // A socket that takes or gives everything would never let go of the thread.
                tokio::task::yield_now().await;
            }
        }
    }
    Box::pin(task.end()).await;
}

pub(super) struct Task {
    pub(super) machine: Connection,
    decoder: Decoder,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) id: ConnectionId,
    pub(super) peer: Peer,
    pub(super) client_id: Bytes,
    /// There if the client has a certificate that counts, has proved a name, or there are rules.
    pub(super) identity: Option<Box<Identity>>,
    pub(super) context: Arc<Context>,
    _seat: Seat,
    /// The client's session, from CONNECT to the end.
    pub(super) held: Option<Held>,
    /// There where the session is served from the journal: where it outlives its connection.
    pub(super) feed: Option<Box<Feed>>,
    /// The cursor has moved, and is stored then.
    pub(super) store_cursor_at: Option<Instant>,
    /// Its address has failed often: it has waited for a turn of its own.
    pub(super) has_had_turn: bool,
    pub(super) live: Option<Box<Live>>,
    pub(super) next_delivery: u64,
    /// Publishes whose commit is still to come.
    pub(super) unanswered: usize,
    /// What of it waits, as it was last counted: messages and bytes.
    pub(super) withheld: (usize, usize),
    /// The rate that the client had used up when it was last counted.
    rate_exceeded: Option<RateLimit>,
    /// There may be more: others have their turn first.
    has_read_much: bool,
    /// Retained messages that are still to be delivered.
    pub(super) retained: Reading,
    wire: Wire,
    /// Taken out of the mailbox, and not delivered yet.
    letters: VecDeque<Letter>,
    /// There are more in the mailbox, which says no more of them.
    letters_left: bool,
    /// Nothing but a farewell is left to be said.
    pub(super) ended: bool,
}

impl Task {
    fn new(opened: Opened, seat: Seat) -> Box<Self> {
        let Opened {
            socket,
            peer,
            certified,
        } = opened;
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
            identity: Identity::certified(certified),
            has_had_turn: false,
            context,
            _seat: seat,
            held: None,
            feed: None,
            store_cursor_at: None,
            live: None,
            next_delivery: 0,
            unanswered: 0,
            withheld: (0, 0),
            rate_exceeded: None,
            has_read_much: false,
            retained: Reading::default(),
            wire: Wire::new(socket),
            letters: VecDeque::new(),
            letters_left: false,
            ended: false,
        })
    }

    /// Sets the alarm, only when it must come earlier, or came: most deadlines move on with each packet.
    fn set(&self, mut alarm: Pin<&mut Sleep>) {
        let deadlines = [
            self.machine.poll_timeout(),
            self.store_cursor_at,
            self.token_ends_at(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        if alarm.is_elapsed() || deadline.is_some_and(|at| at < alarm.deadline().into_std()) {
            alarm.as_mut().reset(deadline.unwrap_or_else(far).into());
        }
    }

    fn rest(&mut self) {
        self.machine.rest();
        self.wire.rest();
        if self.letters.is_empty() {
            self.letters = VecDeque::new();
        }
    }

    /// Ready once there is a reason to go on; what came is taken in. Nobody has to wait for another to be
    /// silent.
    fn poll_turn(&mut self, context: &mut TaskContext<'_>, alarm: Pin<&mut Sleep>) -> Poll<()> {
        // A mailbox that is always filled must neither keep the thread nor keep the socket waiting, which is
        // not read or written once the turn of this task is over.
        if !has_budget_remaining() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut is_woken = self.may_read_retained();
        let can_read = self.takes_more() && self.wire.unwritten() < WRITE_BYTES_MAX;
        if let Poll::Ready(moved) = self.wire.poll_move(context, can_read) {
            self.moved(moved);
            is_woken = true;
        }
        if self.mailbox.poll_filled(context).is_ready() {
            self.empty_mailbox();
            is_woken = true;
        }
        if let Some(feed) = &mut self.feed {
            is_woken |= feed.poll_ready(context).is_ready();
        }
        if alarm.poll(context).is_ready() {
            let now = Instant::now();
            self.machine.handle_timeout(now);
            self.check_token(now);
            self.store_cursor(now);
            is_woken = true;
        }
        match is_woken {
            true => Poll::Ready(()),
            false => Poll::Pending,
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

    fn moved(&mut self, moved: Moved) {
        let metrics = &self.context.metrics;
        match moved {
            Moved::Read(bytes) => {
                metrics.mqtt_received_bytes.inc_by(bytes as u64);
                self.has_read_much = bytes >= READ_BYTES / 2;
            }
            Moved::Written(bytes) => drop(metrics.mqtt_sent_bytes.inc_by(bytes as u64)),
            Moved::Closed => self.machine.handle_closed(Instant::now()),
        }
    }

    /// Whether there is more to send of retained messages, and room for it.
    pub(super) fn may_read_retained(&self) -> bool {
        let is_next = |behind| self.feed.as_ref().is_none_or(|feed| feed.is_past(behind));
        self.retained.behind().is_some_and(is_next)
            && self.machine.is_connected()
            && self.machine.outbound_has_room()
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
            while let Some(wait) = self.progress() {
                self.attend(wait).await;
            }
            if self.wire.unwritten() == 0 {
                return self.wire.socket.end().await;
            }
            match poll_fn(|context| self.wire.poll_move(context, false)).await {
                Moved::Closed => return Ok(()),
                moved => self.moved(moved),
            }
        }
    }

    /// All that can be done now: what came in, what it leads to, and what goes out. Gives what must be waited
    /// for before the next step; that is rare, and then behind a pointer.
    fn progress(&mut self) -> Option<Wait> {
        let mut turn = Turn::default();
        let wait = self.take_turn(&mut turn);
        self.pass_on(&mut turn);
        wait
    }

    fn take_turn(&mut self, turn: &mut Turn) -> Option<Wait> {
        let now = Instant::now();
        loop {
            if let Some(wait) = self.handle_events(turn) {
                return Some(wait);
            }
            if !self.decode(now, turn) {
                break;
            }
        }
        self.pass_on(turn);
        self.count_withheld();
        self.count_rate();
        self.deliver_letters(now, turn);
        self.feed(turn);
        loop {
            // What was delivered may wait for an identifier, with nothing to be sent before it has one.
            if let Some(wait) = self.handle_events(turn) {
                return Some(wait);
            }
            if self.wire.unwritten() >= WRITE_BYTES_MAX
                || !self.machine.poll_transmit(self.wire.output())
            {
                return None;
            }
            self.deliver_letters(now, turn);
            // Retained messages are there at once, by the hundred thousand: once in a turn is enough.
            if !self.may_read_retained() {
                self.feed(turn);
            }
        }
    }

    /// As many as the connection has room for; the others wait, and behind them those in the mailbox.
    fn deliver_letters(&mut self, now: Instant, turn: &mut Turn) {
        loop {
            while self.machine.outbound_has_room() || !self.machine.is_connected() {
                let Some(mut letter) = self.letters.pop_front() else {
                    break;
                };
                if self.wire.unwritten() > UNWRITTEN_ATTACHED_MAX {
                    letter.detach();
                }
                self.deliver(now, letter, &mut turn.counts);
            }
            if !self.letters.is_empty() || !std::mem::take(&mut self.letters_left) {
                return;
            }
            (self.letters, self.letters_left) = self.mailbox.take_letters();
        }
    }

    /// Feeds a packet to the machine, if it takes one and one is there.
    fn decode(&mut self, now: Instant, turn: &mut Turn) -> bool {
        if self.wire.input.is_empty() || !self.takes_more() {
            return false;
        }
        let before = self.wire.input.len();
        match self.decoder.decode(&mut self.wire.input) {
            Ok(None) => return false,
            Ok(Some(packet)) => {
                turn.counts.packets += 1;
                let bytes = before - self.wire.input.len();
                self.machine.handle_bytes(now, bytes);
                self.machine.handle_packet(now, packet);
            }
            Err(error) => self.machine.handle_decode_error(now, &error),
        }
        true
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
            judge_again,
            ..
        }) = self.mailbox.take(self.letters.is_empty())
        else {
            return;
        };
        for (answer, outcome) in outcomes {
            self.answer(answer, outcome);
        }
        if self.letters.is_empty() {
            self.letters = letters;
        }
        self.letters_left |= letters_left;
        let dropped = self.mailbox.take_dropped();
        if dropped > 0 {
            self.context.metrics.mqtt_messages_dropped.inc_by(dropped);
        }
        if judge_again {
            self.judge_again();
        }
        match shut_down {
            Some(ReasonCode::ServerShuttingDown) => self.stop(),
            Some(reason) => self.machine.handle_shutdown(Instant::now(), reason),
            None => {}
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It has not come to its end: nobody must go on sending to it.
            self.context.router.leave(self.id);
            self.context.open.remove(self.id);
            self.mailbox.close();
        }
    }
}

/// No deadline: the alarm comes all the same, and finds nothing to do.
fn far() -> Instant {
    Instant::now() + std::time::Duration::from_secs(3600)
}
