//! What is on its way to the client: packet identifiers, how far each delivery has come, and how
//! many there may be at once. It holds no messages; those are in the queue or with the client.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::mqtt::{
    codec::{PacketId, Qos},
    connection::{
        event::{DeliveryStage, DeliveryToken, Unacknowledged},
        inbound::Violation,
        on_demand::{ById, OnDemand},
    },
    limits::ConnectionLimits,
    reply_code::ReasonCode,
};

#[derive(Debug)]
pub(super) struct Window {
    tables: OnDemand<Tables>,
    /// QoS 1 and 2 deliveries of this connection that were let in and have not come to their end.
    admitted: u32,
    /// PUBRELs for an earlier connection's deliveries, not completed yet.
    released_again: u32,
    /// The client's Receive Maximum.
    receive_max: u16,
    last_packet_id: u16,
}

/// Empty while nothing is in flight.
#[derive(Debug, Default)]
struct Tables {
    entries: HashMap<PacketId, Entry, ById>,
    /// The identifiers of QoS 2.
    by_token: HashMap<DeliveryToken, PacketId, ById>,
    /// Identifiers of the session whose deliveries have not been handed in yet.
    kept: HashSet<PacketId, ById>,
    /// Identifiers whose PUBREL waits for its turn `[MQTT-4.6.0-4]`.
    releasing: VecDeque<PacketId>,
}

impl Tables {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.kept.is_empty() && self.releasing.is_empty()
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    token: DeliveryToken,
    /// Its place in the order of deliveries.
    order: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An earlier connection sent it, and it has not gone out again.
    Reserved(Qos),
    /// QoS 2: the driver is making the identifier durable.
    Assigning,
    Assigned,
    SentAtLeastOnce,
    SentExactlyOnce,
    /// PUBREC came: the driver is making that durable.
    Receiving,
    /// The PUBREL waits for its turn.
    Received,
    Released {
        again: bool,
    },
}

/// What a PUBREC asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pubrec {
    /// The driver must make it durable.
    Received(DeliveryToken),
    Refused(DeliveryToken),
    /// Nothing of this identifier is in flight.
    Unknown,
    Nothing,
}

const OTHER_QOS: Violation = (
    ReasonCode::ProtocolError,
    "an acknowledgement is of another QoS than its PUBLISH, or comes too early",
);

impl Window {
    pub(super) fn new(receive_maximum: u16) -> Self {
        Self {
            receive_max: receive_maximum,
            tables: OnDemand::default(),
            admitted: 0,
            released_again: 0,
            last_packet_id: 0,
        }
    }

    /// Nobody but the deliveries that have them already gets these identifiers.
    pub(super) fn keep(&mut self, packet_ids: Vec<PacketId>) {
        if !packet_ids.is_empty() {
            self.tables.get_mut().kept = packet_ids.into_iter().collect();
        }
    }

    /// Lets one more in, if there is room `[MQTT-4.9.0-2]`. PUBRELs of earlier connections don't
    /// count for the client, but for our own limit.
    pub(super) fn admit(&mut self, limits: &ConnectionLimits) -> bool {
        let inflight_max = limits.inflight_outbound_max.get();
        let room = self.admitted < u32::from(self.receive_max)
            && self.admitted + self.released_again < u32::from(inflight_max);
        self.admitted += u32::from(room);
        room
    }

    /// What was let in ends before it had an identifier.
    pub(super) fn leave(&mut self) {
        self.admitted -= 1;
    }

    /// Keeps the identifier of an earlier sending.
    pub(super) fn reserve(
        &mut self,
        packet_id: PacketId,
        token: DeliveryToken,
        order: u64,
        qos: Qos,
    ) {
        self.insert(packet_id, token, order, Stage::Reserved(qos));
    }

    /// A new identifier for QoS 2.
    pub(super) fn assign(&mut self, token: DeliveryToken, order: u64) -> PacketId {
        let packet_id = self.next_packet_id();
        self.insert(packet_id, token, order, Stage::Assigning);
        packet_id
    }

    pub(super) fn handle_assigned(&mut self, token: DeliveryToken) {
        self.answer(token, Stage::Assigning, Stage::Assigned);
    }

    pub(super) fn is_assigning(&self, packet_id: PacketId) -> bool {
        let entry = self.entry(packet_id);
        entry.is_some_and(|entry| entry.stage == Stage::Assigning)
    }

    /// A PUBLISH of QoS 1 goes out, with its earlier identifier or a new one.
    pub(super) fn send_at_least_once(
        &mut self,
        packet_id: Option<PacketId>,
        token: DeliveryToken,
        order: u64,
    ) -> PacketId {
        let packet_id = packet_id.unwrap_or_else(|| self.next_packet_id());
        self.tables.get_mut().entries.remove(&packet_id);
        self.insert(packet_id, token, order, Stage::SentAtLeastOnce);
        packet_id
    }

    pub(super) fn send_exactly_once(&mut self, packet_id: PacketId) {
        let entry = self.tables.get_mut().entries.get_mut(&packet_id);
        entry.expect("it was assigned or reserved").stage = Stage::SentExactlyOnce;
    }

    /// The PUBREL of an earlier connection's delivery goes out again.
    pub(super) fn release_again(&mut self, packet_id: PacketId, token: DeliveryToken, order: u64) {
        self.released_again += 1;
        self.insert(packet_id, token, order, Stage::Released { again: true });
    }

    fn insert(&mut self, packet_id: PacketId, token: DeliveryToken, order: u64, stage: Stage) {
        let entry = Entry {
            token,
            order,
            stage,
        };
        let tables = self.tables.get_mut();
        let before = tables.entries.insert(packet_id, entry);
        assert!(before.is_none(), "an identifier is in use once");
        tables.kept.remove(&packet_id);
        let exactly_once = !matches!(
            stage,
            Stage::SentAtLeastOnce | Stage::Reserved(Qos::AtMostOnce | Qos::AtLeastOnce)
        );
        if exactly_once {
            tables.by_token.insert(token, packet_id);
        }
    }

    /// The next identifier that is not in use `[MQTT-2.2.1-4]`. The limits leave some.
    fn next_packet_id(&mut self) -> PacketId {
        let tables = self.tables.get_mut();
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            if let Some(packet_id) = PacketId::new(self.last_packet_id)
                && !tables.entries.contains_key(&packet_id)
                && !tables.kept.contains(&packet_id)
            {
                return packet_id;
            }
        }
    }

    /// `None` where nothing that was sent has this identifier.
    pub(super) fn handle_puback(
        &mut self,
        packet_id: PacketId,
    ) -> Result<Option<DeliveryToken>, Violation> {
        match self.stage(packet_id) {
            Some(Stage::SentAtLeastOnce) => Ok(self.end(packet_id)),
            None | Some(Stage::Reserved(_) | Stage::Assigning | Stage::Assigned) => Ok(None),
            Some(_) => Err(OTHER_QOS),
        }
    }

    pub(super) fn handle_pubrec(
        &mut self,
        packet_id: PacketId,
        refused: bool,
    ) -> Result<Pubrec, Violation> {
        let tables = self.tables.get_mut();
        let Some(entry) = tables.entries.get_mut(&packet_id) else {
            return Ok(match refused {
                true => Pubrec::Nothing,
                false => Pubrec::Unknown,
            });
        };
        match entry.stage {
            Stage::SentExactlyOnce if refused => {
                let refused = self.end(packet_id).map(Pubrec::Refused);
                Ok(refused.unwrap_or(Pubrec::Nothing))
            }
            Stage::SentExactlyOnce => {
                entry.stage = Stage::Receiving;
                tables.releasing.push_back(packet_id);
                Ok(Pubrec::Received(entry.token))
            }
            // The client lost our PUBREL; it has its turn again.
            Stage::Released { .. } if !tables.releasing.contains(&packet_id) => {
                tables.releasing.push_back(packet_id);
                Ok(Pubrec::Nothing)
            }
            Stage::SentAtLeastOnce => Err(OTHER_QOS),
            // It is answered when the time comes; what was not sent here is sent all the same.
            _ => Ok(Pubrec::Nothing),
        }
    }

    pub(super) fn handle_received(&mut self, token: DeliveryToken) {
        self.answer(token, Stage::Receiving, Stage::Received);
    }

    /// The next identifier whose PUBREL may go out.
    pub(super) fn poll_release(&mut self) -> Option<PacketId> {
        let tables = self.tables.there()?;
        let packet_id = *tables.releasing.front()?;
        match tables.entries.get_mut(&packet_id) {
            Some(entry) if entry.stage == Stage::Receiving => return None,
            Some(entry) if entry.stage == Stage::Received => {
                entry.stage = Stage::Released { again: false };
            }
            _ => {}
        }
        tables.releasing.pop_front()
    }

    pub(super) fn handle_pubcomp(
        &mut self,
        packet_id: PacketId,
    ) -> Result<Option<DeliveryToken>, Violation> {
        match self.stage(packet_id) {
            Some(Stage::Released { .. }) => {
                // A PUBREL that was to be repeated has become needless.
                let tables = self.tables.get_mut();
                tables.releasing.retain(|releasing| *releasing != packet_id);
                Ok(self.end(packet_id))
            }
            None | Some(Stage::Reserved(_) | Stage::Assigning | Stage::Assigned) => Ok(None),
            Some(_) => Err(OTHER_QOS),
        }
    }

    /// Frees the identifier, and the place that it had.
    pub(super) fn end(&mut self, packet_id: PacketId) -> Option<DeliveryToken> {
        let tables = self.tables.there()?;
        let entry = tables.entries.remove(&packet_id)?;
        if !tables.by_token.is_empty() {
            tables.by_token.remove(&entry.token);
        }
        match entry.stage {
            Stage::Released { again: true } => self.released_again -= 1,
            _ => self.admitted -= 1,
        }
        Some(entry.token)
    }

    fn stage(&self, packet_id: PacketId) -> Option<Stage> {
        self.entry(packet_id).map(|entry| entry.stage)
    }

    fn entry(&self, packet_id: PacketId) -> Option<&Entry> {
        self.tables.get()?.entries.get(&packet_id)
    }

    /// Gives back what empty tables have taken.
    pub(super) fn rest(&mut self) {
        self.tables.rest(Tables::is_empty);
    }

    fn answer(&mut self, token: DeliveryToken, from: Stage, to: Stage) {
        let tables = self.tables.get_mut();
        let packet_id = tables.by_token.get(&token);
        let entry = packet_id.and_then(|packet_id| tables.entries.get_mut(packet_id));
        let entry = entry.expect("a token is answered by the connection's own driver");
        assert!(entry.stage == from, "a token is answered once");
        entry.stage = to;
    }

    /// Forgets all, and gives what is not acknowledged in the order of deliveries.
    pub(super) fn close(&mut self) -> Vec<Unacknowledged> {
        let mut entries: Vec<_> = self.tables.take().entries.into_iter().collect();
        entries.sort_unstable_by_key(|(_, entry)| entry.order);
        let entries = entries.into_iter();
        entries
            .map(|(packet_id, entry)| Unacknowledged {
                packet_id,
                token: entry.token,
                stage: entry.stage.reported(),
            })
            .collect()
    }
}

impl Stage {
    /// As the driver knows it, which may have yet to make it durable.
    fn reported(self) -> DeliveryStage {
        match self {
            Self::SentAtLeastOnce | Self::Reserved(Qos::AtMostOnce | Qos::AtLeastOnce) => {
                DeliveryStage::AtLeastOnce
            }
            Self::Reserved(Qos::ExactlyOnce)
            | Self::Assigning
            | Self::Assigned
            | Self::SentExactlyOnce => DeliveryStage::ExactlyOnceAssigned,
            Self::Receiving | Self::Received | Self::Released { .. } => {
                DeliveryStage::ExactlyOnceReleased
            }
        }
    }
}
