//! How a connection ends: what the client is told as far as its version and the state allow, and what the
//! driver learns.

use bytes::BytesMut;

use super::{CloseReason, Closed, Connection, Event, OnDemand, State, handshake, packets};
use crate::mqtt::{
    codec::{Disconnect, DisconnectProperties, Packet, PacketType, Text, Version, encode},
    reply_code::ReasonCode,
};

impl Connection {
    /// `[MQTT-3.1.2-24]`: a reply that is larger than the client takes loses what only explains
    /// it; where that is not enough, the connection ends, since the client waits for the reply.
    pub(super) fn transmit_reply(&mut self, mut reply: Packet, out: &mut BytesMut) {
        let start = out.len();
        for _ in 0..2 {
            let encoded = encode(&reply, self.version, out);
            if encoded.is_ok() && self.outbound.fits_client(out.len() - start) {
                self.pending.get_mut().sent.packets += 1;
                return;
            }
            out.truncate(start);
            packets::without_explanation(&mut reply);
        }
        let message = "a reply does not fit the client's maximum packet size";
        self.close_with_error(ReasonCode::PacketTooLarge, message.to_owned());
        self.forget_replies();
    }

    /// The client is at fault: it is told as far as its version and the state allow, and the
    /// connection ends.
    pub(super) fn fail(&mut self, reason: ReasonCode, message: &str) {
        let farewell = match self.state {
            State::Connected => {
                // A second CONNECT may be wrong in a way that only a CONNACK can tell [MQTT-3.14.2-1].
                let sayable = reason.is_allowed_in(PacketType::Disconnect);
                self.disconnect(or_protocol_error(reason, sayable), message)
            }
            // No DISCONNECT before CONNACK [MQTT-3.14.0-1].
            State::Fresh => handshake::refusal(self.version, reason, message)
                .map(|connack| Packet::Connack(Box::new(connack))),
            // Its CONNECT was right: what only a CONNACK says would be of that one.
            State::Authenticating { .. } | State::Deciding { .. } => {
                let types = [PacketType::Connack, PacketType::Disconnect];
                let sayable = types.into_iter().all(|kind| reason.is_allowed_in(kind));
                let reason = or_protocol_error(reason, sayable);
                handshake::refusal(self.version, reason, message)
                    .map(|connack| Packet::Connack(Box::new(connack)))
            }
            State::Closed => None,
        };
        let message = message.to_owned();
        self.close(CloseReason::PeerError { reason, message }, farewell, None);
    }

    pub(super) fn close_with_error(&mut self, reason: ReasonCode, message: String) {
        self.close(CloseReason::PeerError { reason, message }, None, None);
    }

    pub(super) fn reject(&mut self, reason: ReasonCode, message: &str) {
        let farewell = handshake::refusal(self.version, reason, message)
            .map(|connack| Packet::Connack(Box::new(connack)));
        self.close(CloseReason::Rejected(reason), farewell, None);
    }

    /// Only MQTT 5 has a DISCONNECT from the server.
    pub(super) fn disconnect(&self, reason: ReasonCode, message: &str) -> Option<Packet> {
        let properties = DisconnectProperties {
            reason_string: Text::try_from(message).ok().filter(|text| !text.is_empty()),
            ..DisconnectProperties::default()
        };
        (self.version == Version::V5)
            .then_some(Packet::Disconnect(Disconnect { reason, properties }))
    }

    pub(super) fn close(
        &mut self,
        reason: CloseReason,
        farewell: Option<Packet>,
        session_expiry_interval_s: Option<u32>,
    ) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.state = State::Closed;
        self.keep_alive.stop();
        self.authentication = OnDemand::default();
        self.withheld = OnDemand::default();
        let pending = self.pending.get_mut();
        pending.subscribes.clear();
        pending.replies.extend(farewell);
        if let Some(will) = self.will.take() {
            self.tell(Event::WillDue(will));
        }
        let unacknowledged = self.outbound.close();
        self.tell(Event::Closed(Closed {
            reason,
            session_expiry_interval_s,
            unacknowledged,
        }));
    }
}

fn or_protocol_error(reason: ReasonCode, sayable: bool) -> ReasonCode {
    match sayable {
        true => reason,
        false => ReasonCode::ProtocolError,
    }
}
