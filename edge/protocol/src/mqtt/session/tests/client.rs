//! A client that keeps to MQTT and never loses its state: what it took, what it refused, and what
//! it has yet to bring to the server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::mqtt::{
    codec::{Ack, Connect, ConnectProperties, Message, Packet, Publish, PublishQos, Version},
    reply_code::ReasonCode,
};

/// QoS 1 and 2 messages of the client that are on their way at once.
pub(super) const CLIENT_INFLIGHT_MAX: usize = 3;

pub(super) type Violated = String;

pub(super) struct Client {
    pub version: Version,
    window: u16,
    /// QoS 2 of the server that is not released: the identifier and what it carried.
    received: BTreeMap<PacketId, u64>,
    /// What counts against the window, of this connection only.
    unacknowledged: BTreeSet<PacketId>,
    /// What the application got, by number, with duplicates.
    pub delivered: Vec<(u64, Qos)>,
    pub refused: BTreeSet<u64>,
    outgoing: VecDeque<(u64, Qos)>,
    inflight: Vec<Inflight>,
    pub published: u64,
    connected: bool,
    /// The application takes its time with QoS 1.
    pub slow: bool,
    /// PUBACKs that it has yet to send.
    held: VecDeque<Packet>,
}

struct Inflight {
    packet_id: PacketId,
    number: u64,
    qos: Qos,
    released: bool,
}

impl Client {
    pub(super) fn new(version: Version) -> Self {
        Self {
            version,
            window: u16::MAX,
            received: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
            delivered: Vec::new(),
            refused: BTreeSet::new(),
            outgoing: VecDeque::new(),
            inflight: Vec::new(),
            published: 0,
            connected: false,
            slow: false,
            held: VecDeque::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
            && self.inflight.is_empty()
            && self.received.is_empty()
            && self.held.is_empty()
    }

    pub(super) fn disconnected(&mut self) {
        self.connected = false;
        self.unacknowledged.clear();
        self.held.clear();
    }

    /// The application has done with so many messages of QoS 1.
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

    pub(super) fn connect(&mut self, window: u16) -> Packet {
        self.window = match self.version {
            Version::V5 => window,
            Version::V3_1 | Version::V3_1_1 => u16::MAX,
        };
        let v5 = self.version == Version::V5;
        let properties = ConnectProperties {
            session_expiry_interval_s: v5.then_some(u32::MAX),
            receive_maximum: std::num::NonZeroU16::new(window).filter(|_| v5),
            ..ConnectProperties::default()
        };
        Packet::Connect(Box::new(Connect {
            version: self.version,
            clean_start: false,
            keep_alive_s: 0,
            client_id: text("c"),
            will: None,
            username: None,
            password: None,
            properties,
        }))
    }

    /// The application has one more message for the server.
    pub(super) fn publish(&mut self, qos: Qos) -> Vec<Packet> {
        self.outgoing.push_back((self.published, qos));
        self.published += 1;
        self.send_outgoing()
    }

    fn send_outgoing(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while self.connected && self.inflight.len() < CLIENT_INFLIGHT_MAX {
            let Some((number, qos)) = self.outgoing.pop_front() else {
                break;
            };
            // The lowest that is free, so that each is used again and again.
            let free = (1..).map(packet_id).find(|id| {
                let mut inflight = self.inflight.iter();
                inflight.all(|inflight| inflight.packet_id != *id)
            });
            let inflight = Inflight {
                packet_id: free.unwrap(),
                number,
                qos,
                released: false,
            };
            packets.push(inflight.packet(false));
            self.inflight.push(inflight);
        }
        packets
    }

    /// Takes one packet, and gives what the client sends for it.
    pub(super) fn handle_packet(&mut self, packet: Packet) -> Result<Vec<Packet>, Violated> {
        match packet {
            Packet::Connack(connack) => {
                if !connack.session_present || connack.reason != ReasonCode::Success {
                    return Err(format!("not taken up: {connack:?}"));
                }
                self.connected = true;
                let again = self.inflight.iter().map(|inflight| inflight.packet(true));
                let mut packets: Vec<_> = again.collect();
                packets.extend(self.send_outgoing());
                Ok(packets)
            }
            Packet::Publish(publish) => self.on_publish(&publish),
            Packet::Pubrel(ack) => {
                self.unacknowledged.remove(&ack.packet_id);
                let known = self.received.remove(&ack.packet_id).is_some();
                let reason = match known || self.version < Version::V5 {
                    true => ReasonCode::Success,
                    false => ReasonCode::PacketIdentifierNotFound,
                };
                Ok(vec![Packet::Pubcomp(Ack::new(ack.packet_id, reason))])
            }
            Packet::Puback(ack) => self.on_end(&ack, Qos::AtLeastOnce),
            Packet::Pubcomp(ack) => self.on_end(&ack, Qos::ExactlyOnce),
            Packet::Pubrec(ack) => {
                let mut inflight = self.inflight.iter_mut();
                let inflight = inflight
                    .find(|inflight| inflight.packet_id == ack.packet_id)
                    .filter(|inflight| inflight.qos == Qos::ExactlyOnce)
                    .ok_or_else(|| format!("no QoS 2 for {ack:?}"))?;
                inflight.released = true;
                Ok(vec![inflight.packet(true)])
            }
            other => Err(format!("the client got {other:?}")),
        }
    }

    fn on_publish(&mut self, publish: &Publish) -> Result<Vec<Packet>, Violated> {
        let number = number(&publish.message);
        if let Some(packet_id) = publish.qos.packet_id() {
            self.unacknowledged.insert(packet_id);
        }
        if self.unacknowledged.len() > self.window.into() {
            return Err(format!("more than {} are in flight", self.window));
        }
        match publish.qos {
            PublishQos::AtMostOnce => {
                self.delivered.push((number, Qos::AtMostOnce));
                Ok(Vec::new())
            }
            PublishQos::AtLeastOnce(packet_id) => {
                self.delivered.push((number, Qos::AtLeastOnce));
                let ack = Ack::new(packet_id, ReasonCode::Success);
                self.held.push_back(Packet::Puback(ack));
                let messages = if self.slow { 0 } else { self.held.len() };
                Ok(self.acknowledge(messages))
            }
            PublishQos::ExactlyOnce(packet_id) => {
                let reason = self.take_exactly_once(packet_id, number, publish.duplicate)?;
                Ok(vec![Packet::Pubrec(Ack::new(packet_id, reason))])
            }
        }
    }

    fn take_exactly_once(
        &mut self,
        packet_id: PacketId,
        number: u64,
        duplicate: bool,
    ) -> Result<ReasonCode, Violated> {
        match self.received.get(&packet_id) {
            Some(before) if *before != number || !duplicate => {
                return Err(format!("{packet_id:?} is {before}, and now {number}"));
            }
            Some(_) => return Ok(ReasonCode::Success),
            None => {}
        }
        // Some messages it does not want.
        if self.version == Version::V5 && number % 5 == 3 {
            self.unacknowledged.remove(&packet_id);
            self.refused.insert(number);
            return Ok(ReasonCode::QuotaExceeded);
        }
        self.received.insert(packet_id, number);
        self.delivered.push((number, Qos::ExactlyOnce));
        Ok(ReasonCode::Success)
    }

    fn on_end(&mut self, ack: &Ack, qos: Qos) -> Result<Vec<Packet>, Violated> {
        let before = self.inflight.len();
        self.inflight.retain(|inflight| {
            let ended = inflight.qos == qos && inflight.released == (qos == Qos::ExactlyOnce);
            inflight.packet_id != ack.packet_id || !ended
        });
        match self.inflight.len() < before {
            true => Ok(self.send_outgoing()),
            // A PUBREL that was sent again has been answered twice.
            false if qos == Qos::ExactlyOnce => Ok(Vec::new()),
            false => Err(format!("nothing to end for {ack:?}")),
        }
    }
}

impl Inflight {
    fn packet(&self, again: bool) -> Packet {
        if self.released {
            return Packet::Pubrel(Ack::new(self.packet_id, ReasonCode::Success));
        }
        Packet::Publish(Publish {
            duplicate: again,
            qos: match self.qos {
                Qos::ExactlyOnce => PublishQos::ExactlyOnce(self.packet_id),
                _ => PublishQos::AtLeastOnce(self.packet_id),
            },
            retain: false,
            topic_alias: None,
            subscription_identifiers: Vec::new(),
            message: message("in", self.number),
        })
    }
}

pub(super) fn message(topic: &str, number: u64) -> Message {
    Message {
        topic: text(topic),
        payload: number.to_le_bytes().to_vec().into(),
        ..Message::default()
    }
}

pub(super) fn number(message: &Message) -> u64 {
    u64::from_le_bytes(message.payload[..].try_into().unwrap())
}
