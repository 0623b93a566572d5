//! Sparkplug 3.0, an Aware server: births are kept, and deaths say when they are told. What a topic and a payload say is
//! `edge/protocol`'s.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::{Message, Qos, Text};
use tidegate_edge_protocol::mqtt::sparkplug::{
    Sparkplug, certificate_topic, is_certificate, with_timestamp,
};

use super::Context;
use super::outbox::Outbox;
use super::queueing::Stuck;
use super::taking_in::{Incoming, TakenIn};
use crate::committer::now_ms;
use crate::router::ConnectionId;

/// What came of a message's birth certificate.
pub(super) enum Certificate {
    /// It is none.
    No,
    /// It goes with the next commit.
    Kept,
    /// To be waited for, before the message itself.
    Stuck(Box<Stuck>),
}

impl Context {
    fn sparkplug(&self, message: &Message) -> Option<Sparkplug> {
        let counts = self.topics.is_sparkplug_aware;
        Sparkplug::of(&message.topic).filter(|_| counts)
    }

    /// Whether only the server publishes to a topic.
    pub(super) fn is_of_sparkplug(&self, topic: &str) -> bool {
        self.topics.is_sparkplug_aware && is_certificate(topic)
    }

    /// A death as it is told now; other messages as they are.
    pub(super) fn told_now(&self, message: Arc<Message>) -> Arc<Message> {
        if self.sparkplug(&message) != Some(Sparkplug::NodeDeath) {
            return message;
        }
        let time_ms = u64::try_from(now_ms()).unwrap_or(0);
        match with_timestamp(&message.payload, time_ms) {
            Some(payload) => Arc::new(Message {
                payload,
                ..Message::clone(&message)
            }),
            // It is no payload of Sparkplug: whoever reads it sees that.
            None => message,
        }
    }

    /// Keeps the birth that a message is, as a retained message of the server's own.
    pub(super) fn certify(
        &self,
        message: &Message,
        qos: Qos,
        is_repeated: bool,
        client_id: &Bytes,
        id: ConnectionId,
        outbox: &mut Outbox,
    ) -> Certificate {
        if self.sparkplug(message) != Some(Sparkplug::Birth) {
            return Certificate::No;
        }
        let Ok(topic) = Text::try_from(certificate_topic(&message.topic)) else {
            return Certificate::No;
        };
        let certificate = Incoming {
            message: Arc::new(Message {
                topic,
                ..message.clone()
            }),
            qos,
            retain: true,
            no_local: false,
            row: None,
            owed: None,
            received: None,
            patient: None,
            is_repeated,
            is_allowed: true,
            is_certificate: true,
        };
        match self.take_in(certificate, client_id, id, outbox) {
            TakenIn::OnItsWay | TakenIn::Settled => Certificate::Kept,
            TakenIn::Stuck(stuck) => Certificate::Stuck(stuck),
        }
    }
}
