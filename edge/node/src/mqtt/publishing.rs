//! What a client publishes: to online subscribers at once, and through the journal's commit to everybody
//! else and to the acknowledgement.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_edge_journal::RowEntry;
use tidegate_edge_protocol::mqtt::codec::{Message, PacketId, Publish, PublishQos, Qos, Text};
use tidegate_edge_protocol::mqtt::connection::{PublishRefused, PublishToken, ReleaseToken};
use tidegate_edge_protocol::mqtt::destination::{Destination, final_topic};
use tidegate_edge_protocol::mqtt::session::Change;

use super::Context;
use super::driver::Task;
use super::mailbox::{Again, Answer, Mailbox, Published};
use super::outbox::Outbox;
use super::rights::Refused;
use super::sparkplug::Certificate;
use super::turn::Turn;
use crate::committer::{Append, Gate, Room, Waiter, now_ms, rows_bytes};
use crate::delayed::{Accepted, DelayedMessage};
use crate::limits::WITHHELD_BYTES_MAX;
use crate::record::Arrived;
use crate::retained::{OnItsWay, RetainedFull, RetainedMessage};
use crate::router::ConnectionId;
use crate::system::is_of_the_server;

/// What the commit is waited for with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owed {
    Publish(PublishToken),
    /// Of the server's own accord.
    Posted,
}

impl Owed {
    fn answer(self, published: Published) -> Answer {
        match self {
            Self::Publish(token) => Answer::Publish(token, Box::new(published)),
            Self::Posted => Answer::Posted,
        }
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
    /// A birth that the server keeps.
    pub is_certificate: bool,
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
    /// What comes before it.
    before: Option<Box<Stuck>>,
    what: Unqueued,
    retained: Option<RetainedMessage>,
}

/// What a message is to the committer.
enum Unqueued {
    Append(Append),
    /// Nothing but the rows is kept.
    Rows(Vec<RowEntry>, Option<Waiter>),
    /// One of the rows is that of a delayed message.
    Delayed(Vec<RowEntry>, Option<Waiter>, Accepted),
}

impl Unqueued {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.bytes(),
            Self::Rows(rows, _) | Self::Delayed(rows, ..) => rows_bytes(rows),
        }
    }

    fn is_promised(&self) -> bool {
        match self {
            Self::Append(append) => append.waiter.is_some(),
            Self::Rows(_, waiter) | Self::Delayed(_, waiter, _) => waiter.is_some(),
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
            is_certificate,
        } = incoming;
        let mut rows: Vec<RowEntry> = row.into_iter().collect();
        let mut published = Published {
            received,
            again: None,
        };
        let destination = match message.topic.as_bytes().starts_with(b"$") {
            true => Destination::of(&message.topic),
            false => Ok(Destination::Subscribers),
        };
        let refused = match destination {
            _ if !is_allowed || is_of_the_server(final_topic(&message.topic)) => {
                Some(PublishRefused::NotAuthorized)
            }
            _ if !is_certificate && self.is_of_sparkplug(&message.topic) => {
                Some(PublishRefused::NotAuthorized)
            }
            Err(_) => Some(PublishRefused::TopicNameInvalid),
            Ok(_) => None,
        };
        if let Some(refused) = refused {
            self.refuse_for_good(rows, owed, published, patient.is_some(), refused);
            return TakenIn::OnItsWay;
        }
        if let Ok(Destination::Delayed { delay_s, topic }) = destination {
            let delayed = DelayedMessage {
                message: Arc::new(with_topic(&message, topic)),
                qos,
                retain,
                publisher: Bytes::copy_from_slice(client_id),
                at_ms: self.clock.now_ms(),
            };
            return self.delay(delayed, delay_s, rows, owed, published);
        }
        let is_posted = matches!(owed, Some((_, Owed::Posted)));
        let retained = match retain.then(|| self.retain(&message, qos, &mut rows)) {
            // Better a message that is not retained than none, where nobody can be told.
            Some(Err(RetainedFull)) if is_posted || owed.is_none() => None,
            Some(Err(RetainedFull)) => {
                self.refuse(rows, owed, published);
                return TakenIn::OnItsWay;
            }
            Some(Ok(retained)) => Some(retained),
            None => None,
        };
        // One that is tried again was kept then.
        let certificate = match is_repeated && patient.is_some() {
            true => Certificate::No,
            false => self.certify(&message, qos, client_id, id, outbox),
        };
        let is_certified = !matches!(certificate, Certificate::No);
        let before = match certificate {
            Certificate::Stuck(stuck) => Some(stuck),
            Certificate::No | Certificate::Kept => None,
        };
        let way = self.router.way(&message.topic);
        if !is_repeated {
            let put = |to, mailbox: &_, letter| outbox.put(to, mailbox, letter);
            self.to_online(&way, id, &message, qos, retain, put);
        }
        if way.kept.is_none() && rows.is_empty() && !is_certified {
            return TakenIn::Settled;
        }
        published.again = patient.map(|qos| Again {
            message: Arc::clone(&message),
            qos,
            retain,
        });
        // What is posted waits for space, too, and nothing behind it.
        let waits = patient.is_some() || is_posted;
        let gate = owed.filter(|_| waits).map(|(mailbox, _)| Gate::of(mailbox));
        let waiter = owed.map(|(mailbox, owed)| (Arc::clone(mailbox), owed.answer(published)));
        let Some(route) = &way.kept else {
            self.metrics.messages_unrouted.inc();
            return self.queue(before, Unqueued::Rows(rows, waiter), retained);
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
        self.queue(before, Unqueued::Append(append), retained)
    }

    /// Hands it over, if there is room, and nothing that comes before it waits for some.
    fn queue(
        &self,
        before: Option<Box<Stuck>>,
        what: Unqueued,
        retained: Option<RetainedMessage>,
    ) -> TakenIn {
        let is_next = before.is_none();
        let room = is_next.then(|| self.committer.try_room_for(what.bytes()));
        match room.flatten() {
            Some(room) => {
                self.queue_in(what, retained, room);
                TakenIn::OnItsWay
            }
            None => TakenIn::Stuck(Box::new(Stuck {
                before,
                what,
                retained,
            })),
        }
    }

    /// Waits until a message has room, and hands it over.
    pub(super) async fn wait_for_room(&self, stuck: Stuck) {
        let mut next = Some(stuck);
        let mut all = Vec::new();
        while let Some(mut stuck) = next {
            next = stuck.before.take().map(|before| *before);
            all.push(stuck);
        }
        while let Some(Stuck { what, retained, .. }) = all.pop() {
            if let Some(room) = self.committer.room_for(what.bytes()).await {
                self.queue_in(what, retained, room);
            }
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
            Unqueued::Delayed(rows, waiter, accepted) => {
                self.committer
                    .store_retained(rows, waiter, retained, Some(room));
                self.delayed.waits(accepted);
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

    /// Takes a message in that is published later. It is promised once its row is durable.
    fn delay(
        &self,
        message: DelayedMessage,
        delay_s: u32,
        mut rows: Vec<RowEntry>,
        owed: Option<(&Arc<Mailbox>, Owed)>,
        published: Published,
    ) -> TakenIn {
        let Ok((row, accepted)) = self.delayed.accept(message, delay_s) else {
            self.metrics.alarm("delayed_full");
            self.refuse(rows, owed, published);
            return TakenIn::OnItsWay;
        };
        rows.push(row);
        let waiter = owed.map(|(mailbox, owed)| (Arc::clone(mailbox), owed.answer(published)));
        self.queue(None, Unqueued::Delayed(rows, waiter, accepted), None)
    }

    /// Nobody speaks for the server, who the rules do not allow it does not publish, and some topics are none. Who can be
    /// told is told; others are acknowledged, and nothing comes of it [MQTT-3.3.5-2].
    fn refuse_for_good(
        &self,
        rows: Vec<RowEntry>,
        owed: Option<(&Arc<Mailbox>, Owed)>,
        published: Published,
        is_silent: bool,
        refused: PublishRefused,
    ) {
        self.metrics.mqtt_messages_dropped.inc();
        match owed {
            Some((mailbox, owed)) if !is_silent => {
                let answer = owed.answer(published);
                mailbox.answered(vec![(answer, Err(refused))]);
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
        let mut publish = publish;
        if !is_repeated {
            self.rewrite_topic(&mut publish.message.topic);
        }
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
            message: self.context.told_now(Arc::new(publish.message)),
            qos: publish.qos.qos(),
            retain: publish.retain,
            no_local,
            row,
            owed: token.map(|token| (&self.mailbox, Owed::Publish(token))),
            received,
            patient: waits.then_some(publish.qos),
            is_repeated,
            is_allowed,
            is_certificate: false,
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

/// In memory of its own: it waits for long.
fn with_topic(message: &Message, topic: &str) -> Message {
    Message {
        topic: Text::try_from(topic).expect("it is a part of a text"),
        ..message.detached()
    }
}
