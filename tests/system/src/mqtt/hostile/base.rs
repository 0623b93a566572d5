//! Packets that are right, as lists of their fields.

use super::super::wire::{self, Version, property};

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    PacketId(u16),
    Topic(Vec<u8>),
    Filter(Vec<u8>),
    Reason(u8),
    Options(u8),
    /// Only in MQTT 5.
    Properties(Vec<Vec<u8>>),
    Payload(Vec<u8>),
}

/// A packet that the server takes in any state in which the client is connected.
#[derive(Clone, Debug)]
pub struct Base {
    pub name: String,
    pub version: Version,
    pub first: u8,
    pub parts: Vec<Part>,
    /// After so many of its parts it may end.
    pub may_end_after: Vec<usize>,
}

impl Part {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::PacketId(id) => id.to_be_bytes().to_vec(),
            Self::Topic(text) | Self::Filter(text) => wire::field(text),
            Self::Reason(byte) | Self::Options(byte) => vec![*byte],
            Self::Properties(properties) => wire::block(properties),
            Self::Payload(bytes) => bytes.clone(),
        }
    }
}

impl Base {
    pub fn kind(&self) -> u8 {
        self.first & 0xf0
    }

    pub fn body(&self) -> Vec<u8> {
        self.parts.iter().flat_map(Part::bytes).collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        wire::packet(self.first, &self.body())
    }

    /// With other bytes for one of its parts.
    pub fn with_bytes(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            body.extend(if index == at {
                bytes.to_vec()
            } else {
                part.bytes()
            });
        }
        wire::packet(self.first, &body)
    }

    pub fn with(&self, at: usize, part: &Part) -> Vec<u8> {
        self.with_bytes(at, &part.bytes())
    }

    /// Where its properties are, and what they are.
    pub fn properties(&self) -> Option<(usize, &[Vec<u8>])> {
        self.parts
            .iter()
            .enumerate()
            .find_map(|(at, part)| match part {
                Part::Properties(properties) => Some((at, &properties[..])),
                _ => None,
            })
    }
}

/// One of each packet that a connected client may send at any time, DISCONNECT last.
pub fn bases(version: Version) -> Vec<Base> {
    let mut bases: Vec<_> = (0..3).map(|qos| publish(version, qos)).collect();
    let acks = [wire::PUBACK, wire::PUBREC, wire::PUBREL, wire::PUBCOMP];
    bases.extend(acks.map(|first| ack(version, first)));
    bases.push(subscribe(version));
    bases.push(unsubscribe(version));
    let empty = |name: &str, first| base(version, name, first, Vec::new(), &[0]);
    bases.push(empty("PINGREQ", wire::PINGREQ));
    bases.push(match version {
        Version::V5 => {
            let parts = vec![Part::Reason(0), properties(&[&expiry(), &reason_string()])];
            base(version, "DISCONNECT", wire::DISCONNECT, parts, &[0, 1])
        }
        _ => empty("DISCONNECT", wire::DISCONNECT),
    });
    bases
}

fn base(
    version: Version,
    name: &str,
    first: u8,
    parts: Vec<Part>,
    may_end_after: &[usize],
) -> Base {
    let kept = |part: &Part| version == Version::V5 || !matches!(part, Part::Properties(_));
    Base {
        name: name.to_owned(),
        version,
        first,
        parts: parts.into_iter().filter(kept).collect(),
        may_end_after: may_end_after.to_vec(),
    }
}

fn properties(properties: &[&[u8]]) -> Part {
    let user = property::user("name", "value");
    let all = properties.iter().copied().chain([&user[..]]);
    Part::Properties(all.map(<[u8]>::to_vec).collect())
}

fn reason_string() -> Vec<u8> {
    property::bytes(property::REASON_STRING, "why")
}

fn expiry() -> Vec<u8> {
    property::four(property::SESSION_EXPIRY, 0)
}

fn publish(version: Version, qos: u8) -> Base {
    let mut parts = vec![Part::Topic(b"hostile/topic".to_vec())];
    parts.extend((qos > 0).then_some(Part::PacketId(0x0a00 + u16::from(qos))));
    parts.push(properties(&[
        &property::byte(property::PAYLOAD_FORMAT, 1),
        &property::four(property::MESSAGE_EXPIRY, 60),
        &property::two(property::TOPIC_ALIAS, 1),
        &property::bytes(property::RESPONSE_TOPIC, "hostile/answer"),
        &property::bytes(property::CORRELATION_DATA, [1, 2, 3]),
        &property::bytes(property::CONTENT_TYPE, "text/plain"),
    ]));
    parts.push(Part::Payload(b"payload".to_vec()));
    let name = format!("PUBLISH of QoS {qos}");
    let packet = base(version, &name, wire::PUBLISH | qos << 1, parts, &[]);
    let may_end_after = vec![packet.parts.len() - 1];
    Base {
        may_end_after,
        ..packet
    }
}

/// An acknowledgement of nothing: that is no error.
fn ack(version: Version, first: u8) -> Base {
    let name = ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"][usize::from(first >> 4) - 4];
    let id = Part::PacketId(0x0bff);
    match version {
        Version::V5 => {
            let parts = vec![id, Part::Reason(0), properties(&[&reason_string()])];
            base(version, name, first, parts, &[1, 2])
        }
        _ => base(version, name, first, vec![id], &[]),
    }
}

fn subscribe(version: Version) -> Base {
    let parts = vec![
        Part::PacketId(0x0c01),
        properties(&[&property::identifier(77)]),
        Part::Filter(b"hostile/first/+".to_vec()),
        Part::Options(1),
        Part::Filter(b"hostile/second/#".to_vec()),
        Part::Options(0),
    ];
    let may_end_after = if version == Version::V5 { 4 } else { 3 };
    base(
        version,
        "SUBSCRIBE",
        wire::SUBSCRIBE,
        parts,
        &[may_end_after],
    )
}

fn unsubscribe(version: Version) -> Base {
    let parts = vec![
        Part::PacketId(0x0c02),
        properties(&[]),
        Part::Filter(b"hostile/first/+".to_vec()),
        Part::Filter(b"hostile/second/#".to_vec()),
    ];
    let may_end_after = if version == Version::V5 { 3 } else { 2 };
    base(
        version,
        "UNSUBSCRIBE",
        wire::UNSUBSCRIBE,
        parts,
        &[may_end_after],
    )
}
