//! Messages to the client: what the driver hands in and answers, and what the client acknowledges.

use std::time::Instant;

use super::{
    Connection, DeliverOutcome, Delivery, DeliveryOutcome, DeliveryToken, Event, State,
    inbound::Violation, window::Pubrec,
};
use crate::mqtt::{
    codec::{Ack, Packet, PacketId},
    reply_code::ReasonCode,
};

impl Connection {
    /// A message for this client.
    pub fn handle_deliver(&mut self, now: Instant, delivery: Delivery) -> DeliverOutcome {
        self.advance(now);
        match self.state {
            State::Connected => {
                let outcome = self.outbound.handle_deliver(delivery, &self.limits);
                self.assign();
                outcome
            }
            State::Fresh
            | State::Authenticating { .. }
            | State::Deciding { .. }
            | State::Closed => DeliverOutcome::NotConnected,
        }
    }

    /// Answers `Event::Assign`: it is durable that the identifier belongs to this delivery.
    pub fn handle_assigned(&mut self, token: DeliveryToken) {
        if matches!(self.state, State::Connected) {
            self.outbound.window.handle_assigned(token);
        }
    }

    /// Answers `Event::Received`: it is durable that the client has the message.
    pub fn handle_received(&mut self, token: DeliveryToken) {
        if matches!(self.state, State::Connected) {
            self.outbound.window.handle_received(token);
            self.release();
        }
    }

    /// An earlier connection of this session saw the PUBREC, and no PUBCOMP: the PUBREL is sent
    /// again `[MQTT-4.4.0-1]`, and `DeliveryDone` or `Closed` follows. Hand these in before any
    /// delivery, in the order of their PUBRECs.
    pub fn handle_release_again(
        &mut self,
        now: Instant,
        packet_id: PacketId,
        token: DeliveryToken,
    ) {
        self.advance(now);
        if matches!(self.state, State::Connected) {
            self.outbound.release_again(packet_id, token);
            self.push_pubrel(packet_id, ReasonCode::Success);
        }
    }

    pub(super) fn on_puback(&mut self, ack: &Ack) -> Result<(), Violation> {
        // An unknown identifier may be of an earlier connection of the session.
        let token = self.outbound.window.handle_puback(ack.packet_id)?;
        self.done(token, ack.reason);
        Ok(())
    }

    pub(super) fn on_pubrec(&mut self, ack: &Ack) -> Result<(), Violation> {
        let packet_id = ack.packet_id;
        let window = &mut self.outbound.window;
        match window.handle_pubrec(packet_id, ack.reason.is_error())? {
            Pubrec::Received(token) => {
                self.tell(Event::Received { token, packet_id });
            }
            // [MQTT-4.4.0-2]
            Pubrec::Refused(token) => self.done(Some(token), ack.reason),
            Pubrec::Unknown => self.push_pubrel(packet_id, self.not_found()),
            Pubrec::Nothing => {}
        }
        self.release();
        Ok(())
    }

    /// That the client does not know the identifier is an answer, too: it has let go of it.
    pub(super) fn on_pubcomp(&mut self, ack: &Ack) -> Result<(), Violation> {
        let token = self.outbound.window.handle_pubcomp(ack.packet_id)?;
        self.done(token, ReasonCode::Success);
        Ok(())
    }

    fn done(&mut self, token: Option<DeliveryToken>, reason: ReasonCode) {
        let Some(token) = token else {
            return;
        };
        let outcome = match reason.is_error() {
            true => DeliveryOutcome::RefusedByClient(reason),
            false => DeliveryOutcome::Acknowledged,
        };
        self.tell(Event::DeliveryDone { token, outcome });
        self.assign();
    }

    /// Sends the PUBRELs whose turn it is.
    fn release(&mut self) {
        while let Some(packet_id) = self.outbound.window.poll_release() {
            self.push_pubrel(packet_id, ReasonCode::Success);
        }
    }

    fn push_pubrel(&mut self, packet_id: PacketId, reason: ReasonCode) {
        let ack = Ack::new(packet_id, reason);
        self.reply(Packet::Pubrel(ack));
    }

    /// Asks for the identifiers that the window has room for.
    pub(super) fn assign(&mut self) {
        while let Some((token, packet_id)) = self.outbound.poll_assign(self.now, &self.limits) {
            self.tell(Event::Assign { token, packet_id });
        }
    }
}
