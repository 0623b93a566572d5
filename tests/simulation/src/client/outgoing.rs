//! What a client brings to the server: a queue of its application's messages, those in flight, and
//! after each new connection what was not acknowledged again, in its order.

use std::collections::VecDeque;

use tidegate_edge_protocol::mqtt::codec::{
    Ack, Message, Packet, PacketId, Publish, PublishQos, Qos,
};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;

use super::packet_id;
use crate::{Stop, violated};

#[derive(Debug)]
pub(super) struct Outgoing {
    inflight_max: usize,
    queue: VecDeque<Queued>,
    inflight: Vec<Inflight>,
}

#[derive(Debug)]
struct Queued {
    number: u64,
    qos: Qos,
    message: Message,
}

#[derive(Debug)]
struct Inflight {
    packet_id: PacketId,
    queued: Queued,
    /// The PUBREC came.
    released: bool,
}

impl Outgoing {
    pub(super) fn new(inflight_max: usize) -> Self {
        Self {
            inflight_max,
            queue: VecDeque::new(),
            inflight: Vec::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.inflight.is_empty()
    }

    pub(super) fn push(&mut self, number: u64, qos: Qos, message: Message) {
        self.queue.push_back(Queued {
            number,
            qos,
            message,
        });
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.inflight.clear();
    }

    /// What may go now.
    pub(super) fn send(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while self.inflight.len() < self.inflight_max {
            let Some(queued) = self.queue.pop_front() else {
                break;
            };
            if queued.qos == Qos::AtMostOnce {
                packets.push(publish(&queued, PublishQos::AtMostOnce, false));
                continue;
            }
            // The lowest that is free, so that each is used again and again.
            let is_free = |id: &PacketId| self.inflight.iter().all(|one| one.packet_id != *id);
            let free = (1..).map(packet_id).find(is_free);
            let inflight = Inflight {
                packet_id: free.expect("few are in flight"),
                queued,
                released: false,
            };
            packets.push(inflight.packet(false));
            self.inflight.push(inflight);
        }
        packets
    }

    /// All that is in flight, on a new connection `[MQTT-4.4.0-1]`.
    pub(super) fn send_again(&self) -> Vec<Packet> {
        let inflight = self.inflight.iter();
        inflight.map(|inflight| inflight.packet(true)).collect()
    }

    /// The message that is refused by it, if it is.
    pub(super) fn on_pubrec(&mut self, ack: &Ack) -> Result<(Vec<Packet>, Option<u64>), Stop> {
        let is_it =
            |one: &Inflight| one.packet_id == ack.packet_id && one.queued.qos == Qos::ExactlyOnce;
        let Some(at) = self.inflight.iter().position(is_it) else {
            return violated("a PUBREC answers a PUBLISH", format!("{ack:?}"));
        };
        if ack.reason.is_error() {
            let refused = self.inflight.remove(at).queued.number;
            return Ok((Vec::new(), Some(refused)));
        }
        self.inflight[at].released = true;
        Ok((vec![self.inflight[at].packet(true)], None))
    }

    /// A PUBACK or PUBCOMP; gives the message that it ends.
    pub(super) fn on_end(&mut self, ack: &Ack, qos: Qos) -> Result<Option<u64>, Stop> {
        let is_ended = |one: &Inflight| {
            one.packet_id == ack.packet_id
                && one.queued.qos == qos
                && one.released == (qos == Qos::ExactlyOnce)
        };
        match self.inflight.iter().position(is_ended) {
            Some(at) => Ok(Some(self.inflight.remove(at).queued.number)),
            // A PUBREL that was sent again has been answered twice.
            None if qos == Qos::ExactlyOnce => Ok(None),
            None => violated("a PUBACK answers a PUBLISH", format!("{ack:?}")),
        }
    }
}

impl Inflight {
    fn packet(&self, again: bool) -> Packet {
        if self.released {
            return Packet::Pubrel(Ack::new(self.packet_id, ReasonCode::Success));
        }
        let qos = match self.queued.qos {
            Qos::ExactlyOnce => PublishQos::ExactlyOnce(self.packet_id),
            _ => PublishQos::AtLeastOnce(self.packet_id),
        };
        publish(&self.queued, qos, again)
    }
}

fn publish(queued: &Queued, qos: PublishQos, duplicate: bool) -> Packet {
    Packet::Publish(Publish {
        duplicate,
        qos,
        retain: false,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        message: queued.message.clone(),
    })
}
