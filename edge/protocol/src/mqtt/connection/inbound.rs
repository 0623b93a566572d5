//! Messages from the client: topic aliases, the receive maximum, and acknowledgements in the order
//! in which the messages came, whatever the order of their commits `[MQTT-4.6.0-2]`.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU16,
};

use crate::mqtt::{
    codec::{PacketId, Publish, PublishQos, Text, Version},
    connection::event::{PublishRefused, PublishToken},
    limits::ConnectionLimits,
    reply_code::ReasonCode,
};

/// A code for the peer, and what was wrong.
pub(super) type Violation = (ReasonCode, &'static str);

#[derive(Debug, Default)]
pub(super) struct Inbound {
    aliases: HashMap<NonZeroU16, Text>,
    /// Oldest first. Tokens are consecutive, and `first_token` is that of the front.
    unacknowledged: VecDeque<Unacknowledged>,
    first_token: u64,
}

#[derive(Debug)]
struct Unacknowledged {
    packet_id: PacketId,
    /// `None` until the commit.
    outcome: Option<Result<(), PublishRefused>>,
}

impl Inbound {
    /// Checks a PUBLISH, fills in its topic, and queues its acknowledgement.
    pub(super) fn handle_publish(
        &mut self,
        publish: &mut Publish,
        version: Version,
        limits: &ConnectionLimits,
    ) -> Result<Option<PublishToken>, Violation> {
        if !publish.subscription_identifiers.is_empty() {
            // [MQTT-3.3.4-6]
            let message = "a client's PUBLISH has no subscription identifier";
            return Err((ReasonCode::ProtocolError, message));
        }
        if publish.qos.qos() > limits.qos_max {
            // [MQTT-3.2.2-11]
            return Err((
                ReasonCode::QosNotSupported,
                "the PUBLISH has a QoS that is not offered",
            ));
        }
        if publish.retain && !limits.retain_available {
            // [MQTT-3.2.2-14]
            return Err((
                ReasonCode::RetainNotSupported,
                "retained messages are not offered",
            ));
        }
        self.resolve_alias(publish, limits)?;
        match publish.qos {
            PublishQos::AtMostOnce => Ok(None),
            PublishQos::AtLeastOnce(packet_id) | PublishQos::ExactlyOnce(packet_id) => self
                .queue_acknowledgement(packet_id, version, limits)
                .map(Some),
        }
    }

    fn resolve_alias(
        &mut self,
        publish: &mut Publish,
        limits: &ConnectionLimits,
    ) -> Result<(), Violation> {
        let Some(alias) = publish.topic_alias.take() else {
            return Ok(());
        };
        if alias.get() > limits.topic_alias_inbound_max {
            // [MQTT-3.3.2-9]
            let message = "the topic alias is above the announced maximum";
            return Err((ReasonCode::TopicAliasInvalid, message));
        }
        if publish.message.topic.is_empty() {
            let topic = self.aliases.get(&alias);
            let message = "the topic alias was never set on this connection";
            publish.message.topic = topic.ok_or((ReasonCode::ProtocolError, message))?.clone();
        } else {
            let topic = publish.message.topic.detached();
            self.aliases.insert(alias, topic);
        }
        Ok(())
    }

    fn queue_acknowledgement(
        &mut self,
        packet_id: PacketId,
        version: Version,
        limits: &ConnectionLimits,
    ) -> Result<PublishToken, Violation> {
        if version == Version::V5 && !self.has_room(limits) {
            // [MQTT-3.3.4-7]
            let message = "more messages are unacknowledged than the receive maximum allows";
            return Err((ReasonCode::ReceiveMaximumExceeded, message));
        }
        let token = PublishToken(self.first_token + self.unacknowledged.len() as u64);
        self.unacknowledged.push_back(Unacknowledged {
            packet_id,
            outcome: None,
        });
        Ok(token)
    }

    /// Whether one more QoS 1 message fits.
    pub(super) fn has_room(&self, limits: &ConnectionLimits) -> bool {
        self.unacknowledged.len() < usize::from(limits.inflight_inbound_max.get())
    }

    pub(super) fn handle_committed(
        &mut self,
        token: PublishToken,
        outcome: Result<(), PublishRefused>,
    ) {
        let index = token.0.checked_sub(self.first_token);
        let slot = index
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| self.unacknowledged.get_mut(index));
        let slot = slot.expect("a publish token is answered once, by the connection's own driver");
        assert!(slot.outcome.is_none(), "a publish token is answered once");
        slot.outcome = Some(outcome);
    }

    /// The next acknowledgement whose turn it is.
    pub(super) fn poll(&mut self) -> Option<(PacketId, Result<(), PublishRefused>)> {
        let outcome = self.unacknowledged.front()?.outcome?;
        let packet_id = self.unacknowledged.pop_front()?.packet_id;
        self.first_token += 1;
        Some((packet_id, outcome))
    }
}
