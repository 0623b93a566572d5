//! What a client publishes: to online subscribers at once, and through the journal's commit to everybody
//! else and to the acknowledgement.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_edge_journal::RowEntry;
use tidegate_edge_protocol::mqtt::codec::{Message, PacketId, Publish, PublishQos, Qos};
use tidegate_edge_protocol::mqtt::connection::{PublishRefused, PublishToken, ReleaseToken};
use tidegate_edge_protocol::mqtt::session::Change;

use super::Context;
use super::driver::Task;
use super::mailbox::{Again, Answer, Mailbox, Published};
use super::outbox::Outbox;
use super::rights::Refused;
use super::turn::Turn;
use crate::committer::{Append, Gate, Room, Waiter, now_ms, rows_bytes};
use crate::limits::WITHHELD_BYTES_MAX;
use crate::record::Arrived;
use crate::retained::{OnItsWay, RetainedFull, RetainedMessage};
use crate::router::{ConnectionId, expires_at};
use crate::system::is_of_the_server;

/// What the commit is waited for with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owed {
    Publish(PublishToken),
    Will,
    /// Of a source, by its number there.
    Source(u64),
}

impl Owed {
    fn answer(self, published: Published) -> Answer {
        match self {
            Self::Publish(token) => Answer::Publish(token, Box::new(published)),
            Self::Will => Answer::Will,
            Self::Source(number) => Answer::Source(number),
        }
    }

    /// It waits for space, and nobody can be told that it can't be retained.
    fn is_of_no_client(self) -> bool {
        matches!(self, Self::Will | Self::Source(_))
    }
}

/// A message on its way in.
pub(super) struct Incoming<'a> {
    pub message: Arc<Message>,
    pub qos: Qos,
    pub retain: bool,
    pub no_local: bool,
    /// Goes into the same commit.
    pub row: Option<RowEntry>,
    /// Who waits for the commit, and the identifier of QoS 2.
    pub owed: Option<(&'a Arc<Mailbox>, Owed)>,
    pub received: Option<PacketId>,
    /// There where the publisher waits for space rather than be refused.
    pub patient: Option<PublishQos>,
    /// Who is served as messages come has had it.
    pub is_repeated: bool,
    /// By the rules.
    pub is_allowed: bool,
}

/// What became of a message.
pub(super) enum TakenIn {
    /// Who waits for its commit is told.
    OnItsWay,
    /// Nothing is kept, so nothing is promised beyond the online subscribers.
    Settled,
    /// The committer's queue is full: `wait_for_room` with it, before anything that came later.
    Stuck(Box<Stuck>),
}

/// What waits for room in the committer's queue.
pub(super) struct Stuck {
    what: Unqueued,
    retained: Option<RetainedMessage>,
}

/// What a message is to the committer.
enum Unqueued {
    Append(Append),
    /// Nothing but the rows is kept.
    Rows(Vec<RowEntry>, Option<Waiter>),
}

impl Unqueued {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.bytes(),
            Self::Rows(rows, _) => rows_bytes(rows),
        }
    }

    fn is_promised(&self) -> bool {
        match self {
            Self::Append(append) => append.waiter.is_some(),
            Self::Rows(_, waiter) => waiter.is_some(),
        }
    }
}

impl Context {
    /// Takes a message in. Its waiter is told when all that is owed to it is durable.
    pub(super) fn take_in(
        &self,
        incoming: Incoming<'_>,
        client_id: &Bytes,
        id: ConnectionId,
        outbox: &mut Outbox,
    ) -> TakenIn {
        let Incoming {
            message,
            qos,
            retain,
            no_local,
            row,
            owed,
            received,
            patient,
            is_repeated,
            is_allowed,
        } = incoming;
        let mut rows: Vec<RowEntry> = row.into_iter().collect();
        let mut published = Published {
            received,
            again: None,
        };
        if !is_allowed || is_of_the_server(message.topic.as_str()) {
            self.refuse_unauthorized(rows, owed, published, patient.is_some());
            return TakenIn::OnItsWay;
        }
        let is_of_no_client = owed.is_some_and(|(_, owed)| owed.is_of_no_client());
        let retained = match retain.then(|| self.retain(&message, qos, &mut rows)) {
            // Better a message that is not retained than none, where nobody can be told.
            Some(Err(RetainedFull)) if is_of_no_client || owed.is_none() => None,
            Some(Err(RetainedFull)) => {
                self.refuse(rows, owed, published);
                return TakenIn::OnItsWay;
            }
            Some(Ok(retained)) => Some(retained),
            None => None,
        };
        let way = self.router.way(&message.topic);
        if !is_repeated && !way.online.is_empty() {
            let expires_at = expires_at(&message);
            for online in &way.online {
                if let Some(letter) = online.letter(id, &message, qos, retain, expires_at) {
                    outbox.put(online.id, &online.mailbox, letter);
                }
            }
        }
        if way.kept.is_none() && rows.is_empty() {
            return TakenIn::Settled;
        }
        published.again = patient.map(|qos| Again {
            message: Arc::clone(&message),
            qos,
            retain,
        });
        // A will waits for space, too, and nothing behind it; and what a source brings does.
        let waits = patient.is_some() || is_of_no_client;
        let gate = owed.filter(|_| waits).map(|(mailbox, _)| Gate::of(mailbox));
        let waiter = owed.map(|(mailbox, owed)| (Arc::clone(mailbox), owed.answer(published)));
        let Some(route) = &way.kept else {
            self.metrics.messages_unrouted.inc();
            return self.queue(Unqueued::Rows(rows, waiter), retained);
        };
        let arrived = Arrived {
            message: &message,
            qos,
            retain,
            client_id,
            no_local,
            at_ms: now_ms(),
        };
        let (record, mark) = arrived.record(route.key, &route.origin);
        let append = Append {
            stream: route.stream,
            record,
            mark: mark.to_byte(),
            rows,
            waiter,
            gate,
            retained: None,
        };
        self.queue(Unqueued::Append(append), retained)
    }

    /// Hands it over, if there is room.
    fn queue(&self, what: Unqueued, retained: Option<RetainedMessage>) -> TakenIn {
        match self.committer.try_room_for(what.bytes()) {
            Some(room) => {
                self.queue_in(what, retained, room);
                TakenIn::OnItsWay
            }
            None => TakenIn::Stuck(Box::new(Stuck { what, retained })),
        }
    }

    /// Waits until a message has room, and hands it over.
    pub(super) async fn wait_for_room(&self, stuck: Stuck) {
        let Stuck { what, retained } = stuck;
        if let Some(room) = self.committer.room_for(what.bytes()).await {
            self.queue_in(what, retained, room);
        }
    }

    /// With its room: whoever has a turn must not wait.
    fn queue_in(&self, what: Unqueued, retained: Option<RetainedMessage>, room: Room) {
        self.hand_over(retained, what.is_promised(), |retained| match what {
            Unqueued::Append(append) => {
                self.committer.append(Append { retained, ..append }, room);
            }
            Unqueued::Rows(rows, waiter) => {
                let room = Some(room);
                self.committer.store_retained(rows, waiter, retained, room);
            }
        });
    }

    /// The retained message that a publish is, and its row among `rows`.
    fn retain(
        &self,
        message: &Message,
        qos: Qos,
        rows: &mut Vec<RowEntry>,
    ) -> Result<RetainedMessage, RetainedFull> {
        let retained = RetainedMessage {
            message: Arc::new(message.detached()),
            qos,
            at_ms: self.clock.now_ms(),
        };
        match self.retained.row(&retained) {
            Ok(row) => {
                rows.push(row);
                Ok(retained)
            }
            Err(full) => {
                self.metrics.alarm("retained_full");
                tracing::debug!(topic = %message.topic, "no room for another retained message");
                Err(full)
            }
        }
    }

    /// A retained message is handed over in its turn, so that what is shown of a topic is what its row
    /// says. Of QoS 0 nothing is promised: it is shown at once.
    fn hand_over(
        &self,
        retained: Option<RetainedMessage>,
        is_promised: bool,
        hand_over: impl FnOnce(Option<OnItsWay>),
    ) {
        match retained {
            Some(retained) => self.retained.in_turn(retained, is_promised, hand_over),
            None => hand_over(None),
        }
    }

    /// Nobody speaks for the server, and who the rules do not allow it does not publish. Who can be told is told;
    /// others are acknowledged, and nothing comes of it [MQTT-3.3.5-2].
    fn refuse_unauthorized(
        &self,
        rows: Vec<RowEntry>,
        owed: Option<(&Arc<Mailbox>, Owed)>,
        published: Published,
        is_silent: bool,
    ) {
        self.metrics.mqtt_messages_dropped.inc();
        match owed {
            Some((mailbox, owed)) if !is_silent => {
                let answer = owed.answer(published);
                mailbox.answered(vec![(answer, Err(PublishRefused::NotAuthorized))]);
            }
            owed => {
                let waiter =
                    owed.map(|(mailbox, owed)| (Arc::clone(mailbox), owed.answer(published)));
                if waiter.is_some() || !rows.is_empty() {
                    self.committer.store(rows, waiter);
                }
            }
        }
    }

    /// There is no room for a message.
    fn refuse(
        &self,
        rows: Vec<RowEntry>,
        owed: Option<(&Arc<Mailbox>, Owed)>,
        published: Published,
    ) {
        match owed {
            Some((mailbox, owed)) => {
                let answer = owed.answer(published);
                mailbox.answered(vec![(answer, Err(PublishRefused::QuotaExceeded))]);
            }
            None => self.committer.store(rows, None),
        }
    }
}

impl Task {
    /// Gives back what has no room yet.
    pub(super) fn publish(
        &mut self,
        token: Option<PublishToken>,
        publish: Publish,
        turn: &mut Turn,
    ) -> Option<Box<Stuck>> {
        turn.counts.received += 1;
        self.submit(token, publish, false, turn)
    }

    /// A message that waited for space is tried again.
    pub(super) fn publish_again(
        &mut self,
        token: PublishToken,
        publish: Publish,
        is_probe: bool,
        turn: &mut Turn,
    ) -> Option<Box<Stuck>> {
        if is_probe {
            self.mailbox.open_gate();
        }
        self.submit(Some(token), publish, true, turn)
    }

    fn submit(
        &mut self,
        token: Option<PublishToken>,
        publish: Publish,
        is_repeated: bool,
        turn: &mut Turn,
    ) -> Option<Box<Stuck>> {
        let is_allowed = self.may_publish(&publish.message.topic);
        if !is_allowed {
            self.refused(Refused::Publish, &publish.message.topic);
        }
        let received = match publish.qos {
            PublishQos::ExactlyOnce(packet_id) => Some(packet_id),
            _ => None,
        };
        let change = received.map(Change::InboundReceived);
        let held = self.held.as_mut();
        let (no_local, row) = held.map_or((false, None), |held| {
            let no_local = held.has_no_local();
            (no_local, change.and_then(|change| held.change(&change)))
        });
        self.unanswered += usize::from(token.is_some());
        let waits = token.is_some() && self.machine.withholds();
        let incoming = Incoming {
            message: Arc::new(publish.message),
            qos: publish.qos.qos(),
            retain: publish.retain,
            no_local,
            row,
            owed: token.map(|token| (&self.mailbox, Owed::Publish(token))),
            received,
            patient: waits.then_some(publish.qos),
            is_repeated,
            is_allowed,
        };
        let context = &self.context;
        match context.take_in(incoming, &self.client_id, self.id, &mut turn.outbox) {
            TakenIn::OnItsWay => None,
            TakenIn::Stuck(stuck) => Some(stuck),
            TakenIn::Settled => {
                turn.counts.unrouted += 1;
                if let Some(token) = token {
                    let published = Published {
                        received,
                        again: None,
                    };
                    self.published(token, published, Ok(()));
                }
                None
            }
        }
    }

    /// A message that was refused was never received: its identifier is free.
    pub(super) fn published(
        &mut self,
        token: PublishToken,
        published: Published,
        outcome: Result<(), PublishRefused>,
    ) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let (Some(packet_id), Some(held)) = (published.received, &mut self.held) {
            if outcome.is_err() {
                held.store(&[Change::InboundReleased(packet_id)], None);
            }
            held.fate_is_known();
        }
        match published.again {
            Some(again) if outcome == Err(PublishRefused::QuotaExceeded) && self.may_wait() => {
                self.machine
                    .handle_withheld(Instant::now(), token, again.publish());
                self.count_withheld();
            }
            _ => self.machine.handle_committed(token, outcome),
        }
    }

    /// Whether the node has room for what waits for space, over all connections.
    fn may_wait(&self) -> bool {
        let bytes = self.context.metrics.mqtt_withheld_bytes.get();
        usize::try_from(bytes).is_ok_and(|bytes| bytes < WITHHELD_BYTES_MAX)
    }

    /// Keeps the node's figures of what waits for space.
    pub(super) fn count_withheld(&mut self) {
        let now = self.machine.withheld();
        let before = std::mem::replace(&mut self.withheld, now);
        let metrics = &self.context.metrics;
        let change = |now: usize, before: usize| now as i64 - before as i64;
        metrics
            .mqtt_publishes_withheld
            .inc_by(change(now.0, before.0));
        metrics.mqtt_withheld_bytes.inc_by(change(now.1, before.1));
    }

    pub(super) fn release(&mut self, token: ReleaseToken, packet_id: PacketId) {
        match &mut self.held {
            Some(held) if held.session().is_present() => {
                let waiter = (Arc::clone(&self.mailbox), Answer::Released(token));
                held.store(&[Change::InboundReleased(packet_id)], Some(waiter));
            }
            _ => self.machine.handle_released(token),
        }
    }
}
