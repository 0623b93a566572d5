//! MQTT as bytes: the few packets that a load tool sends, made once, and where those that come begin and
//! end. It trusts the broker to be well formed and stops the run where it is not; it is no codec. Written
//! from the MQTT 3.1.1 and 5.0 specifications, so that the broker under test is not measured by its own.

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;

/// DISCONNECT, in both versions.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// What is after the fixed header of an acknowledgement that says "success".
const ACK_REMAINING: u8 = 2;

/// The property Receive Maximum of CONNACK (MQTT 5, 3.2.2.3.3).
const RECEIVE_MAXIMUM: u8 = 0x21;

/// Reason codes from here on are errors (MQTT 5, 2.4); 0x80 is also failure in a SUBACK of 3.1.1.
const ERROR_MIN: u8 = 0x80;

const KEEP_ALIVE_S: u16 = 600;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// 3.1.1.
    #[default]
    #[value(name = "3")]
    V3,
    /// 5.0.
    #[value(name = "5")]
    V5,
}

impl Version {
    fn level(self) -> u8 {
        match self {
            Version::V3 => 4,
            Version::V5 => 5,
        }
    }

    /// No properties.
    fn put_properties(self, out: &mut Vec<u8>) {
        if self == Version::V5 {
            out.push(0);
        }
    }
}

/// A packet as it came.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub first: u8,
    pub body: &'a [u8],
    /// Fixed header and body.
    pub packet: &'a [u8],
}

impl<'a> Frame<'a> {
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Of a PUBLISH.
    pub fn qos(&self) -> u8 {
        (self.first >> 1) & 3
    }

    /// The first whole packet of `input`; none if it is not all there.
    pub fn next(input: &'a [u8]) -> anyhow::Result<Option<Self>> {
        let mut length = 0;
        let mut header = 1;
        loop {
            let Some(&byte) = input.get(header) else {
                return Ok(None);
            };
            length |= usize::from(byte & 0x7f) << (7 * (header - 1));
            header += 1;
            if byte & 0x80 == 0 {
                break;
            }
            ensure!(header <= 4, "a remaining length has no end");
        }
        let bytes = header + length;
        Ok(input.get(..bytes).map(|packet| Frame {
            first: packet[0],
            body: &packet[header..],
            packet,
        }))
    }

    /// Of an acknowledgement; an error that it carries is one.
    pub fn acknowledged(&self) -> anyhow::Result<u16> {
        let id = self.body.get(..2).context("an acknowledgement is short")?;
        if let Some(&reason) = self.body.get(2) {
            ensure!(reason < ERROR_MIN, "the broker refused: {reason:#04x}");
        }
        Ok(u16::from_be_bytes([id[0], id[1]]))
    }

    /// Of a PUBLISH of QoS 1 or 2.
    pub fn packet_id(&self) -> anyhow::Result<u16> {
        let at = 2 + self.topic()?.len();
        let id = self.body.get(at..at + 2).context("a PUBLISH is short")?;
        Ok(u16::from_be_bytes([id[0], id[1]]))
    }

    /// Of a PUBLISH.
    pub fn topic(&self) -> anyhow::Result<&'a [u8]> {
        let length = self.body.get(..2).context("a PUBLISH is short")?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        self.body.get(2..2 + length).context("a PUBLISH is short")
    }

    /// Of a PUBLISH whose payload has this size.
    pub fn payload(&self, bytes: usize) -> anyhow::Result<&'a [u8]> {
        let start = self.body.len().checked_sub(bytes);
        Ok(&self.body[start.context("a PUBLISH is short")?..])
    }

    /// Checks a CONNACK; tells how many messages of QoS 1 and 2 may be under way.
    pub fn accepted(&self, version: Version) -> anyhow::Result<u16> {
        ensure!(self.kind() == CONNACK, "packet {} for CONNACK", self.first);
        let code = *self.body.get(1).context("a CONNACK is short")?;
        ensure!(code == 0, "CONNACK says {code:#04x}");
        match version {
            Version::V3 => Ok(u16::MAX),
            Version::V5 => receive_maximum(self.body.get(2..).unwrap_or_default()),
        }
    }

    /// Checks a SUBACK.
    pub fn granted(&self, version: Version, qos: u8) -> anyhow::Result<()> {
        ensure!(self.kind() == SUBACK, "packet {} for SUBACK", self.first);
        let at = if version == Version::V5 { 3 } else { 2 };
        let granted = *self.body.last().context("a SUBACK is short")?;
        ensure!(
            self.body.len() > at && granted == qos,
            "granted: {granted:#04x}"
        );
        Ok(())
    }
}

/// Hands over each whole packet; tells how many bytes they have together.
pub fn frames(
    input: &[u8],
    mut take: impl FnMut(Frame<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut at = 0;
    while let Some(frame) = Frame::next(&input[at..])? {
        take(frame)?;
        at += frame.packet.len();
    }
    Ok(at)
}

/// How the PUBLISH packets of one topic, QoS and size begin: all alike up to the topic's end, so that
/// finding the next one takes no parsing.
pub struct Shape {
    head: Vec<u8>,
    packet_bytes: usize,
}

impl Shape {
    /// Of packets like this one.
    pub fn of(publish: &Frame<'_>) -> anyhow::Result<Self> {
        let header = publish.packet.len() - publish.body.len();
        let head = header + 2 + publish.topic()?.len();
        Ok(Self {
            head: publish.packet[..head].to_vec(),
            packet_bytes: publish.packet.len(),
        })
    }

    /// The first packet of `input`, if it is whole and of this shape.
    #[inline]
    pub fn first<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let packet = input.get(..self.packet_bytes)?;
        packet.starts_with(&self.head).then_some(packet)
    }

    /// Of a packet of this shape, and of QoS 1 or 2.
    #[inline]
    pub fn packet_id(&self, packet: &[u8]) -> anyhow::Result<u16> {
        let at = self.head.len();
        let id = packet.get(at..at + 2).context("a PUBLISH is short")?;
        Ok(u16::from_be_bytes([id[0], id[1]]))
    }
}

/// Looks through CONNACK's properties; those before Receive Maximum in all brokers are of fixed size or
/// strings.
fn receive_maximum(properties: &[u8]) -> anyhow::Result<u16> {
    let short = "a CONNACK's properties are short";
    let mut rest = properties.split_first().context(short)?.1;
    while let Some((&name, value)) = rest.split_first() {
        let size = match name {
            RECEIVE_MAXIMUM => {
                let value = value.get(..2).context(short)?;
                return Ok(u16::from_be_bytes([value[0], value[1]]));
            }
            0x11 | 0x27 => 4,
            0x13 | 0x22 => 2,
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x12 | 0x1a | 0x1c | 0x1f | 0x15 => string_bytes(value).context(short)?,
            0x26 => {
                let first = string_bytes(value).context(short)?;
                first + string_bytes(value.get(first..).context(short)?).context(short)?
            }
            other => bail!("CONNACK has property {other:#04x}"),
        };
        rest = value.get(size..).context(short)?;
    }
    Ok(u16::MAX)
}

fn string_bytes(value: &[u8]) -> Option<usize> {
    let length = value.get(..2)?;
    Some(2 + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    let mut length = body.len();
    loop {
        let more = length > 0x7f;
        out.push((length & 0x7f) as u8 | if more { 0x80 } else { 0 });
        length >>= 7;
        if !more {
            break;
        }
    }
    out.extend_from_slice(body);
}

/// A clean session. No run takes as long as the keep-alive; some brokers refuse to do without one.
pub fn connect(version: Version, client_id: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, "MQTT");
    body.extend_from_slice(&[version.level(), 0b10]);
    body.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
    version.put_properties(&mut body);
    put_string(&mut body, client_id);
    let mut out = Vec::new();
    put_packet(&mut out, 0x10, &body);
    out
}

pub fn connack(version: Version) -> Vec<u8> {
    let mut body = vec![0, 0];
    version.put_properties(&mut body);
    let mut out = Vec::new();
    put_packet(&mut out, CONNACK << 4, &body);
    out
}

/// With packet identifier 1.
pub fn subscribe(version: Version, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    version.put_properties(&mut body);
    put_string(&mut body, filter);
    body.push(qos);
    let mut out = Vec::new();
    put_packet(&mut out, 0x82, &body);
    out
}

pub fn suback(version: Version, packet_id: [u8; 2], qos: u8) -> Vec<u8> {
    let mut body = packet_id.to_vec();
    version.put_properties(&mut body);
    body.push(qos);
    let mut out = Vec::new();
    put_packet(&mut out, SUBACK << 4, &body);
    out
}

/// The payload is the last of it.
pub fn publish(version: Version, topic: &str, qos: u8, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, topic);
    if qos > 0 {
        body.extend_from_slice(&packet_id.to_be_bytes());
    }
    version.put_properties(&mut body);
    body.extend_from_slice(payload);
    let mut out = Vec::new();
    put_packet(&mut out, PUBLISH << 4 | qos << 1, &body);
    out
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP that says "success".
#[inline]
pub fn put_ack(out: &mut Vec<u8>, kind: u8, packet_id: u16) {
    let flags = if kind == PUBREL { 0b10 } else { 0 };
    let id = packet_id.to_be_bytes();
    out.extend_from_slice(&[kind << 4 | flags, ACK_REMAINING, id[0], id[1]]);
}

/// What whoever gets this PUBLISH answers.
pub fn put_answer(out: &mut Vec<u8>, publish: &Frame<'_>) -> anyhow::Result<()> {
    if let Some(kind) = answer(publish.qos()) {
        put_ack(out, kind, publish.packet_id()?);
    }
    Ok(())
}

/// The packet that answers a PUBLISH of this QoS.
pub fn answer(qos: u8) -> Option<u8> {
    match qos {
        0 => None,
        1 => Some(PUBACK),
        _ => Some(PUBREC),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_whole_in_what_was_sent() {
        for version in [Version::V3, Version::V5] {
            for size in [16, 100, 200, 4096, 20_000] {
                let packet = publish(version, "bench/0", 1, 7, &vec![9; size]);
                assert!(Frame::next(&packet[..packet.len() - 1]).unwrap().is_none());
                let frame = Frame::next(&packet).unwrap().unwrap();
                assert_eq!(
                    (frame.kind(), frame.qos(), frame.packet),
                    (PUBLISH, 1, &packet[..])
                );
                assert_eq!(frame.packet_id().unwrap(), 7);
                assert_eq!(frame.payload(size).unwrap(), vec![9; size]);
            }
        }
    }

    #[test]
    fn a_shape_finds_packets_like_the_first_and_no_others() {
        for version in [Version::V3, Version::V5] {
            let first = publish(version, "bench/0", 1, 7, &[1; 300]);
            let shape = Shape::of(&Frame::next(&first).unwrap().unwrap()).unwrap();
            let mut input = publish(version, "bench/0", 1, 8, &[2; 300]);
            let bytes = input.len();
            assert!(shape.first(&input[..bytes - 1]).is_none());
            input.push(0);
            let found = shape.first(&input).unwrap();
            assert_eq!((found.len(), shape.packet_id(found).unwrap()), (bytes, 8));
            // Sent again, of another size, of another topic, of QoS 2.
            let mut again = first.clone();
            again[0] |= 0b1000;
            for other in [
                again,
                publish(version, "bench/0", 1, 7, &[1; 301]),
                publish(version, "bench/1", 1, 7, &[1; 300]),
                publish(version, "bench/0", 2, 7, &[1; 300]),
            ] {
                assert!(shape.first(&other).is_none());
            }
        }
    }

    #[test]
    fn refusals_are_noticed() {
        let refused = Frame::next(&[0x20, 2, 0, 5]).unwrap().unwrap();
        assert!(refused.accepted(Version::V3).is_err());
        let full = Frame::next(&[0x40, 3, 0, 1, 0x97]).unwrap().unwrap();
        assert!(full.acknowledged().is_err());
        let refused = Frame::next(&[0x90, 3, 0, 1, 0x80]).unwrap().unwrap();
        assert!(refused.granted(Version::V3, 1).is_err());
    }

    #[test]
    fn receive_maximum_is_found_behind_other_properties() {
        let body = [0, 0, 8, 0x27, 0, 0, 1, 0, 0x21, 4, 0];
        let mut packet = Vec::new();
        put_packet(&mut packet, 0x20, &body);
        let frame = Frame::next(&packet).unwrap().unwrap();
        assert_eq!(frame.accepted(Version::V5).unwrap(), 1024);
    }
}
