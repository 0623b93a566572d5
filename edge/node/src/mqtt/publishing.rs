//! What a client publishes, and what it is answered.

use std::sync::Arc;
use std::time::Instant;

use tidegate_edge_protocol::mqtt::codec::{PacketId, Publish, PublishQos};
use tidegate_edge_protocol::mqtt::connection::{PublishRefused, PublishToken, ReleaseToken};
use tidegate_edge_protocol::mqtt::session::Change;

use super::driver::Task;
use super::mailbox::{Answer, Published};
use super::queueing::Stuck;
use super::rights::Refused;
use super::taking_in::{Incoming, Owed, TakenIn};
use super::turn::Turn;
use crate::limits::WITHHELD_BYTES_MAX;

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
