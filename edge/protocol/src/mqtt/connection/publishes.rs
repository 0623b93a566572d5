//! Messages from the client: events for the driver, and PUBACK, PUBREC and PUBCOMP once the driver
//! has answered them.

use std::time::Instant;

use super::{
    CloseReason, Connection, Event, PublishRefused, PublishToken, ReleaseToken, State,
    inbound::{AnswerKind, Arrival, Inbound, Violation},
    withheld::Submission,
};
use crate::mqtt::{
    codec::{Ack, Packet, PacketId, Publish, Version},
    reply_code::ReasonCode,
};

impl Connection {
    /// Answers `Event::Publish` with a token: the commit is durable (with the packet identifier,
    /// if QoS 2), or the message was refused.
    pub fn handle_committed(&mut self, token: PublishToken, outcome: Result<(), PublishRefused>) {
        if matches!(self.state, State::Connected) {
            self.inbound.get_mut().handle_committed(token, outcome);
            self.acknowledge();
            self.submit_withheld(token);
        }
    }

    /// Where the oldest was taken, the others may follow; not if its answer has ended the connection.
    fn submit_withheld(&mut self, answered: PublishToken) {
        if !matches!(self.state, State::Connected) {
            return;
        }
        for submission in self.withheld.get_mut().answered(answered) {
            self.pending.get_mut().events.push_back(match submission {
                Submission::First(token, publish) => Event::Publish {
                    token: Some(token),
                    publish,
                },
                Submission::Again(token, publish) => Event::PublishAgain {
                    token,
                    publish,
                    is_probe: false,
                },
            });
        }
    }

    /// Whether a PUBLISH that finds no space in the journal may wait for it (`handle_withheld`):
    /// the client's version has no code for a refusal.
    pub fn withholds(&self) -> bool {
        self.version != Version::V5
    }

    /// Answers a publish's event where `withholds`: there is no space for it now. It comes again,
    /// with all that was behind it, as `Event::PublishAgain`.
    pub fn handle_withheld(&mut self, now: Instant, token: PublishToken, publish: Publish) {
        assert!(self.withholds(), "a client of MQTT 5 is told");
        self.advance(now);
        if !matches!(self.state, State::Connected) {
            return;
        }
        self.withheld
            .get_mut()
            .withhold(self.now, &self.limits, token, publish);
        if !self.can_read() {
            self.keep_alive.pause();
        }
    }

    /// Publishes that wait for space, and what they take.
    pub fn withheld(&self) -> (usize, usize) {
        let withheld = self.withheld.get();
        withheld.map_or((0, 0), |withheld| (withheld.len(), withheld.bytes()))
    }

    pub(super) fn try_withheld(&mut self) {
        let withheld = self.withheld.there();
        let due = withheld.and_then(|withheld| withheld.handle_timeout(self.now));
        if let Some((token, publish)) = due {
            self.tell(Event::PublishAgain {
                token,
                publish,
                is_probe: true,
            });
        }
    }

    /// Answers `Event::Release`: it is durable that the identifier is free.
    pub fn handle_released(&mut self, token: ReleaseToken) {
        if matches!(self.state, State::Connected) {
            self.inbound.get_mut().handle_released(token);
            self.acknowledge();
        }
    }

    pub(super) fn on_publish(&mut self, mut publish: Publish) -> Result<(), Violation> {
        if let Some(rates) = &mut self.rates {
            rates.spend_message(self.now);
        }
        let arrival =
            self.inbound
                .get_mut()
                .handle_publish(&mut publish, self.version, &self.limits)?;
        let token = match arrival {
            Arrival::Unacknowledged => None,
            Arrival::New(token) => Some(token),
            Arrival::Duplicate => {
                self.acknowledge();
                return Ok(());
            }
        };
        let publish = match token {
            None => Some(publish),
            Some(token) => self.withheld.get_mut().arrive(token, publish),
        };
        if let Some(publish) = publish {
            self.tell(Event::Publish { token, publish });
        }
        Ok(())
    }

    pub(super) fn on_pubrel(&mut self, packet_id: PacketId) -> Result<(), Violation> {
        match self.inbound.get_mut().handle_pubrel(packet_id)? {
            Some(token) => self.tell(Event::Release { token, packet_id }),
            None => self.acknowledge(),
        }
        Ok(())
    }

    /// Sends the acknowledgements whose turn it is.
    fn acknowledge(&mut self) {
        while let Some((kind, packet_id, outcome)) = self.inbound.there().and_then(Inbound::poll) {
            let reason = match outcome {
                Ok(()) if kind == AnswerKind::PubcompUnknown => self.not_found(),
                Ok(()) => ReasonCode::Success,
                Err(PublishRefused::TooLarge) if self.version == Version::V5 => {
                    let message = "the message is larger than the server stores";
                    return self.fail(ReasonCode::PacketTooLarge, message);
                }
                Err(refused) if self.version == Version::V5 => refused.reason_code(),
                Err(refused) => {
                    return self.close(CloseReason::PublishRefused(refused), None, None);
                }
            };
            let ack = Ack::new(packet_id, reason);
            self.reply(match kind {
                AnswerKind::Puback => Packet::Puback(ack),
                AnswerKind::Pubrec | AnswerKind::PubrecAgain => Packet::Pubrec(ack),
                AnswerKind::Pubcomp { .. } | AnswerKind::PubcompUnknown => Packet::Pubcomp(ack),
            });
        }
    }

    /// What answers a packet of QoS 2 whose identifier is not in flight.
    pub(super) fn not_found(&self) -> ReasonCode {
        match self.version {
            Version::V5 => ReasonCode::PacketIdentifierNotFound,
            Version::V3_1 | Version::V3_1_1 => ReasonCode::Success,
        }
    }
}
