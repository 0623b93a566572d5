//! What a client takes from the server: messages to its application, each QoS 2 identifier once until
//! its PUBREL, and acknowledgements, which a slow application gives late.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_edge_protocol::mqtt::codec::{
    Ack, Packet, PacketId, Publish, PublishQos, Qos, Version,
};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;

use crate::promises::{ClientIndex, Promises};
use crate::{Stop, violated};

#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// QoS 2 that is not released: the identifier, and what it carried.
    received: BTreeMap<PacketId, u64>,
    /// What counts against the window, of this connection only.
    unacknowledged: BTreeSet<PacketId>,
    /// PUBACKs and PUBRECs that the application has yet to allow.
    held: VecDeque<Packet>,
    pub is_slow: bool,
}

impl Incoming {
    pub(super) fn is_idle(&self) -> bool {
        self.received.is_empty() && self.held.is_empty()
    }

    pub(super) fn disconnected(&mut self) {
        self.unacknowledged.clear();
        self.held.clear();
    }

    pub(super) fn acknowledge(&mut self, messages: usize) -> Vec<Packet> {
        let messages = messages.min(self.held.len());
        let acks: Vec<_> = self.held.drain(..messages).collect();
        for ack in &acks {
            if let Packet::Puback(ack) = ack {
                self.unacknowledged.remove(&ack.packet_id);
            }
        }
        acks
    }

    pub(super) fn on_publish(
        &mut self,
        publish: &Publish,
        (client, window): (ClientIndex, u16),
        promises: &mut Promises,
    ) -> Result<Vec<Packet>, Stop> {
        self.unacknowledged.extend(publish.qos.packet_id());
        if self.unacknowledged.len() > usize::from(window) {
            let what = format!("client {client} has more than {window}");
            return violated("the receive maximum holds", what);
        }
        match publish.qos {
            PublishQos::AtMostOnce => {
                promises.deliver(client, &publish.message, Qos::AtMostOnce)?;
            }
            PublishQos::AtLeastOnce(packet_id) => {
                promises.deliver(client, &publish.message, Qos::AtLeastOnce)?;
                self.hold(Packet::Puback(Ack::new(packet_id, ReasonCode::Success)));
            }
            PublishQos::ExactlyOnce(packet_id) => {
                self.take_exactly_once(packet_id, publish, client, promises)?;
                self.hold(Packet::Pubrec(Ack::new(packet_id, ReasonCode::Success)));
            }
        }
        let messages = if self.is_slow { 0 } else { self.held.len() };
        Ok(self.acknowledge(messages))
    }

    fn hold(&mut self, ack: Packet) {
        // One that is sent again on the same connection is answered once.
        if !self.held.contains(&ack) {
            self.held.push_back(ack);
        }
    }

    fn take_exactly_once(
        &mut self,
        packet_id: PacketId,
        publish: &Publish,
        client: ClientIndex,
        promises: &mut Promises,
    ) -> Result<(), Stop> {
        let Some(before) = self.received.get(&packet_id).copied() else {
            let number = promises.deliver(client, &publish.message, Qos::ExactlyOnce)?;
            self.received.insert(packet_id, number);
            return Ok(());
        };
        let number = promises.number_of(&publish.message)?;
        match number == before && publish.duplicate {
            true => Ok(()),
            false => violated(
                "an identifier in flight belongs to one message",
                format!("client {client}: {packet_id:?} is {before}, and now {number}"),
            ),
        }
    }

    pub(super) fn on_pubrel(&mut self, ack: &Ack, version: Version) -> Packet {
        self.unacknowledged.remove(&ack.packet_id);
        let known = self.received.remove(&ack.packet_id).is_some();
        let reason = match known || version < Version::V5 {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        Packet::Pubcomp(Ack::new(ack.packet_id, reason))
    }
}
