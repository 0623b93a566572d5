//! Messages from the client: topic aliases, the receive maximum, the identifiers of QoS 2, and
//! acknowledgements in the order in which their packets came, whatever the order of the commits
//! `[MQTT-4.6.0-2]`, `[MQTT-4.6.0-3]`.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU16,
};

use crate::mqtt::{
    codec::{PacketId, Publish, PublishQos, Qos, Text, Version},
    connection::{
        event::{PublishRefused, PublishToken, ReleaseToken},
        on_demand::ById,
    },
    limits::ConnectionLimits,
    reply_code::ReasonCode,
};

/// A code for the peer, and what was wrong.
pub(super) type Violation = (ReasonCode, &'static str);

#[derive(Debug, Default)]
pub(super) struct Inbound {
    aliases: HashMap<NonZeroU16, Text, ById>,
    /// Oldest first. Tokens are consecutive, and `first_token` is that of the front.
    answers: VecDeque<Answer>,
    first_token: u64,
    /// QoS 2 identifiers that wait for their PUBREL: at most as many as there are identifiers.
    received: HashMap<PacketId, Received, ById>,
    /// Messages of this connection that count against the receive maximum: QoS 1 until the
    /// PUBACK, QoS 2 until the PUBCOMP or a PUBREC with an error.
    inflight: usize,
}

/// An acknowledgement that waits for its turn.
#[derive(Debug)]
struct Answer {
    kind: AnswerKind,
    packet_id: PacketId,
    /// `None` until the commit.
    outcome: Option<Result<(), PublishRefused>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerKind {
    Puback,
    Pubrec,
    /// To a PUBLISH that came again.
    PubrecAgain,
    Pubcomp {
        counted: bool,
    },
    /// To a PUBREL that releases nothing.
    PubcompUnknown,
}

#[derive(Clone, Copy, Debug)]
struct Received {
    /// Its PUBREC was sent, by this connection or an earlier one of the session.
    promised: bool,
    /// It counts in `inflight`: its PUBLISH came on this connection (4.9).
    counted: bool,
}

/// What a PUBLISH is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// QoS 0.
    Unacknowledged,
    New(PublishToken),
    /// Of QoS 2, and received before: it is only answered `[MQTT-4.3.3-10]`.
    Duplicate,
}

impl Inbound {
    /// What earlier connections of the session have received and not seen released.
    pub(super) fn resume(&mut self, received: Vec<PacketId>) {
        let before = Received {
            promised: true,
            counted: false,
        };
        self.received = received.into_iter().map(|id| (id, before)).collect();
    }

    /// Checks a PUBLISH, fills in its topic, and queues its acknowledgement.
    pub(super) fn handle_publish(
        &mut self,
        publish: &mut Publish,
        version: Version,
        limits: &ConnectionLimits,
    ) -> Result<Arrival, Violation> {
        check_offered(publish, limits)?;
        self.resolve_alias(publish, limits)?;
        if !limits.allows_levels(&publish.message.topic) {
            let message = "the topic has more levels than the server takes";
            return Err((ReasonCode::TopicNameInvalid, message));
        }
        match publish.qos {
            PublishQos::AtMostOnce => Ok(Arrival::Unacknowledged),
            PublishQos::AtLeastOnce(packet_id) => {
                self.count(version, limits)?;
                let token = self.push(AnswerKind::Puback, packet_id, None);
                Ok(Arrival::New(PublishToken(token)))
            }
            PublishQos::ExactlyOnce(packet_id) => {
                self.handle_exactly_once(packet_id, version, limits)
            }
        }
    }

    fn handle_exactly_once(
        &mut self,
        packet_id: PacketId,
        version: Version,
        limits: &ConnectionLimits,
    ) -> Result<Arrival, Violation> {
        let known = self.received.get(&packet_id).copied();
        if known.is_none_or(|known| !known.counted) {
            self.count(version, limits)?;
        }
        let received = Received {
            promised: known.is_some_and(|known| known.promised),
            counted: true,
        };
        self.received.insert(packet_id, received);
        if known.is_some() {
            // Behind the first one's answer, if that is still to come.
            self.push(AnswerKind::PubrecAgain, packet_id, Some(Ok(())));
            return Ok(Arrival::Duplicate);
        }
        let token = self.push(AnswerKind::Pubrec, packet_id, None);
        Ok(Arrival::New(PublishToken(token)))
    }

    /// Queues the PUBCOMP. `None` where nothing of this identifier is there to be released; an
    /// earlier PUBREL may have done it, so the answer stays behind that one's.
    pub(super) fn handle_pubrel(
        &mut self,
        packet_id: PacketId,
    ) -> Result<Option<ReleaseToken>, Violation> {
        match self.received.get(&packet_id).copied() {
            None => {
                self.push(AnswerKind::PubcompUnknown, packet_id, Some(Ok(())));
                Ok(None)
            }
            Some(Received {
                promised: false, ..
            }) => Err((
                ReasonCode::ProtocolError,
                "a PUBREL came before its PUBREC was sent",
            )),
            Some(Received { counted, .. }) => {
                self.received.remove(&packet_id);
                let token = self.push(AnswerKind::Pubcomp { counted }, packet_id, None);
                Ok(Some(ReleaseToken(token)))
            }
        }
    }

    /// Whether it is as good as new. Tokens are then all answered, and may begin anew.
    pub(super) fn is_idle(&self) -> bool {
        self.answers.is_empty()
            && self.aliases.is_empty()
            && self.received.is_empty()
            && self.inflight == 0
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

    fn count(&mut self, version: Version, limits: &ConnectionLimits) -> Result<(), Violation> {
        if version == Version::V5 && self.inflight >= window(limits) {
            // [MQTT-3.3.4-7]
            let message = "more messages are unacknowledged than the receive maximum allows";
            return Err((ReasonCode::ReceiveMaximumExceeded, message));
        }
        self.inflight += 1;
        Ok(())
    }

    /// Gives the answer's token.
    fn push(
        &mut self,
        kind: AnswerKind,
        packet_id: PacketId,
        outcome: Option<Result<(), PublishRefused>>,
    ) -> u64 {
        let token = self.first_token + self.answers.len() as u64;
        self.answers.push_back(Answer {
            kind,
            packet_id,
            outcome,
        });
        token
    }

    /// Whether to read on. Only what waits for us counts: a client may send a PUBREL only if it is
    /// read from. One of MQTT 5 knows the window and is held to it, so there it is the number of
    /// answers that can be open if it keeps the rules, one for each PUBLISH and each PUBREL.
    pub(super) fn has_room(&self, version: Version, limits: &ConnectionLimits) -> bool {
        let answers_max = match version {
            Version::V5 => 2 * window(limits),
            Version::V3_1 | Version::V3_1_1 => window(limits),
        };
        self.answers.len() < answers_max
    }

    pub(super) fn handle_committed(
        &mut self,
        PublishToken(token): PublishToken,
        outcome: Result<(), PublishRefused>,
    ) {
        self.answer(token, outcome);
    }

    pub(super) fn handle_released(&mut self, ReleaseToken(token): ReleaseToken) {
        self.answer(token, Ok(()));
    }

    fn answer(&mut self, token: u64, outcome: Result<(), PublishRefused>) {
        let index = token.checked_sub(self.first_token);
        let answer = index
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| self.answers.get_mut(index));
        let answer = answer.expect("a token is answered once, by the connection's own driver");
        assert!(answer.outcome.is_none(), "a token is answered once");
        answer.outcome = Some(outcome);
    }

    /// The next acknowledgement whose turn it is.
    pub(super) fn poll(&mut self) -> Option<(AnswerKind, PacketId, Result<(), PublishRefused>)> {
        let outcome = self.answers.front()?.outcome?;
        let Answer {
            kind, packet_id, ..
        } = self.answers.pop_front()?;
        self.first_token += 1;
        match (kind, outcome) {
            (AnswerKind::Puback | AnswerKind::Pubcomp { counted: true }, _) => self.inflight -= 1,
            (AnswerKind::Pubrec, Ok(())) => {
                let received = self.received.get_mut(&packet_id);
                received.expect("only its PUBREL ends it").promised = true;
            }
            (AnswerKind::Pubrec, Err(refused)) => self.refuse(packet_id, refused),
            (
                AnswerKind::PubrecAgain
                | AnswerKind::PubcompUnknown
                | AnswerKind::Pubcomp { counted: false },
                _,
            ) => {}
        }
        Some((kind, packet_id, outcome))
    }

    /// The identifier is free again `[MQTT-4.3.3-9]`; what came under it meanwhile was the same
    /// message.
    fn refuse(&mut self, packet_id: PacketId, refused: PublishRefused) {
        self.inflight -= 1;
        self.received.remove(&packet_id);
        for answer in &mut self.answers {
            if answer.kind == AnswerKind::PubrecAgain && answer.packet_id == packet_id {
                answer.outcome = Some(Err(refused));
            }
        }
    }
}

fn window(limits: &ConnectionLimits) -> usize {
    limits.inflight_inbound_max.get().into()
}

fn check_offered(publish: &Publish, limits: &ConnectionLimits) -> Result<(), Violation> {
    if !publish.subscription_identifiers.is_empty() {
        // [MQTT-3.3.4-6]
        let message = "a client's PUBLISH has no subscription identifier";
        return Err((ReasonCode::ProtocolError, message));
    }
    let qos: Qos = publish.qos.qos();
    if qos > limits.qos_max {
        // [MQTT-3.2.2-11]
        let message = "the PUBLISH has a QoS that is not offered";
        return Err((ReasonCode::QosNotSupported, message));
    }
    if publish.retain && !limits.retain_available {
        // [MQTT-3.2.2-14]
        let message = "retained messages are not offered";
        return Err((ReasonCode::RetainNotSupported, message));
    }
    Ok(())
}
