//! A message on its way in, whoever it is of: to online subscribers at once, and by the committer's queue to everybody else
//! and to what is owed for it.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_journal::{RowEntry, record_bytes};
use tidegate_edge_protocol::mqtt::codec::{Message, PacketId, PublishQos, Qos, Text};
use tidegate_edge_protocol::mqtt::connection::{PublishRefused, PublishToken};
use tidegate_edge_protocol::mqtt::destination::{Destination, final_topic, is_addressed};
use tidegate_shared::fleet::RouteKey;

use super::Context;
use super::mailbox::{Again, Answer, Mailbox, Published};
use super::outbox::Outbox;
use super::queueing::{Stuck, Unqueued};
use super::sparkplug::Certificate;
use crate::committer::{Append, Gate, now_ms};
use crate::delayed::DelayedMessage;
use crate::record::Arrived;
use crate::retained::{RetainedFull, RetainedMessage};
use crate::router::ConnectionId;
use crate::system::is_of_the_server;

/// What the commit is waited for with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owed {
    Publish(PublishToken),
    /// Of the node's own: a will, a delayed message, or what a source brings. By its number in its mailbox. It waits for
    /// space, and nobody can be told that it can't be retained.
    Posted(u64),
}

impl Owed {
    fn answer(self, published: Published) -> Answer {
        match self {
            Self::Publish(token) => Answer::Publish(token, Box::new(published)),
            Self::Posted(number) => Answer::Posted(number),
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
        let is_special = message.topic.as_bytes().starts_with(b"$");
        let destination = match is_allowed {
            true if is_special => self.destination(&message.topic, is_certificate),
            true => Ok(Destination::Subscribers),
            false => Err(PublishRefused::NotAuthorized),
        };
        let destination = match destination {
            Ok(destination) => destination,
            Err(refused) => {
                self.refuse_for_good(rows, owed, published, patient.is_some(), refused);
                return TakenIn::OnItsWay;
            }
        };
        published.again = patient.map(|qos| Again {
            message: Arc::clone(&message),
            qos,
            retain,
        });
        if let Destination::Delayed { delay_s, topic } = destination {
            let delayed = DelayedMessage {
                message: Arc::new(with_topic(&message, topic)),
                qos,
                retain,
                publisher: Bytes::copy_from_slice(client_id),
                at_ms: self.clock.now_ms(),
            };
            return self.delay(delayed, delay_s, rows, owed, published);
        }
        let is_posted = matches!(owed, Some((_, Owed::Posted(_))));
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
        let certificate = self.certify(&message, qos, is_repeated, client_id, id, outbox);
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
        // What is posted waits for space, too, and nothing behind it.
        let waits = patient.is_some() || is_posted;
        let gate = owed.filter(|_| waits).map(|(mailbox, _)| Gate::of(mailbox));
        let waiter = owed.map(|(mailbox, owed)| (Arc::clone(mailbox), owed.answer(published)));
        let is_addressed = is_special && is_addressed(&message.topic);
        let Some(route) = &way.kept else {
            self.metrics.messages_unrouted.inc();
            return self.queue(before, Unqueued::Rows(rows, waiter, None), retained);
        };
        let arrived = Arrived {
            message: &message,
            qos,
            retain,
            client_id,
            no_local: no_local || is_addressed,
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
            is_addressed,
        };
        self.queue(before, Unqueued::Append(append), retained)
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

    /// Where a topic that begins with a `$` leads; the server speaks for itself.
    fn destination<'a>(
        &self,
        topic: &'a str,
        is_certificate: bool,
    ) -> Result<Destination<'a>, PublishRefused> {
        let last = final_topic(topic);
        if is_of_the_server(last) || (!is_certificate && self.is_of_sparkplug(last)) {
            return Err(PublishRefused::NotAuthorized);
        }
        Destination::of(topic).map_err(|_| PublishRefused::TopicNameInvalid)
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
        if !self.fits_a_record(&message) {
            self.refuse_for_good(rows, owed, published, false, PublishRefused::TooLarge);
            return TakenIn::OnItsWay;
        }
        let Ok((row, accepted)) = self.delayed.accept(message, delay_s) else {
            self.metrics.alarm("delayed_full");
            self.refuse(rows, owed, published);
            return TakenIn::OnItsWay;
        };
        rows.push(row);
        let waiter = owed.map(|(mailbox, owed)| (Arc::clone(mailbox), owed.answer(published)));
        self.queue(None, Unqueued::Rows(rows, waiter, Some(accepted)), None)
    }

    /// Whether the journal will take a message when it is due, by the routes as they are.
    fn fits_a_record(&self, delayed: &DelayedMessage) -> bool {
        let way = self.router.way(&delayed.message.topic);
        let arrived = Arrived {
            message: &delayed.message,
            qos: delayed.qos,
            retain: delayed.retain,
            client_id: &delayed.publisher,
            no_local: true,
            at_ms: now_ms(),
        };
        let (key, origin) = match &way.kept {
            Some(route) => (route.key, Arc::clone(&route.origin)),
            None => (RouteKey::None, Arc::default()),
        };
        let (record, _) = arrived.record(key, &origin);
        record_bytes(&record) <= self.record_bytes_max
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

/// In memory of its own: it waits for long.
fn with_topic(message: &Message, topic: &str) -> Message {
    Message {
        topic: Text::try_from(topic).expect("it is a part of a text"),
        ..message.detached()
    }
}
