//! What MQTT clients send, right and full: each type of packet in each version, with all that a version lets
//! it carry, by chance. It knows the wire alone; sequences that mean something to the session machine are
//! made in `session_inputs`.

use crate::mutate::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V3_1 = 3,
    V3_1_1 = 4,
    V5 = 5,
}

impl Version {
    pub fn any(random: &mut Random) -> Self {
        [Self::V3_1, Self::V3_1_1, Self::V5][random.below(3) as usize]
    }

    /// How a CONNECT begins: the protocol's name and level.
    pub fn name(self) -> Vec<u8> {
        let name: &[u8] = match self {
            Self::V3_1 => b"\0\x06MQIsdp",
            Self::V3_1_1 | Self::V5 => b"\0\x04MQTT",
        };
        [name, &[self as u8]].concat()
    }

    /// The properties, behind their length; nothing before MQTT 5.
    pub fn properties(self, properties: &[u8]) -> Vec<u8> {
        match self {
            Self::V5 => [&length(properties.len()), properties].concat(),
            Self::V3_1 | Self::V3_1_1 => Vec::new(),
        }
    }

    /// By chance some of them.
    fn some(self, of: &[&[u8]], random: &mut Random) -> Vec<u8> {
        let some = of.iter().filter(|_| random.below(3) == 0);
        let properties: Vec<_> = some.copied().collect();
        self.properties(&properties.concat())
    }
}

/// A variable byte integer.
fn length(mut rest: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        if rest == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// A packet of this first byte.
pub fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], &length(body.len())[..], body].concat()
}

/// A string or binary data, behind its length.
pub fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

// Properties, by their names in the specification.
const PAYLOAD_FORMAT: &[u8] = b"\x01\x01";
const MESSAGE_EXPIRY: &[u8] = b"\x02\0\0\0\x09";
const CONTENT_TYPE: &[u8] = b"\x03\0\x04text";
const RESPONSE_TOPIC: &[u8] = b"\x08\0\x03r/t";
const CORRELATION_DATA: &[u8] = b"\x09\0\x02\0\xff";
const SUBSCRIPTION_IDENTIFIER: &[u8] = b"\x0b\x81\x01";
const SESSION_EXPIRY: &[u8] = b"\x11\0\0\0\x3c";
const METHOD: &[u8] = b"\x15\0\x0dSCRAM-SHA-256";
const DATA: &[u8] = b"\x16\0\x0en,,n=user,r=ab";
const REQUEST_PROBLEM_INFORMATION: &[u8] = b"\x17\0";
const WILL_DELAY: &[u8] = b"\x18\0\0\0\x05";
const REQUEST_RESPONSE_INFORMATION: &[u8] = b"\x19\x01";
const REASON_STRING: &[u8] = b"\x1f\0\x02no";
const RECEIVE_MAXIMUM: &[u8] = b"\x21\0\x02";
const TOPIC_ALIAS_MAXIMUM: &[u8] = b"\x22\0\x02";
const TOPIC_ALIAS: &[u8] = b"\x23\0\x01";
const USER_PROPERTY: &[u8] = b"\x26\0\x01k\0\x01v";
const MAXIMUM_PACKET_SIZE: &[u8] = b"\x27\0\0\x10\0";

/// A CONNECT and packets behind it.
pub fn input(random: &mut Random) -> Vec<u8> {
    let version = Version::any(random);
    let mut out = connect(version, random);
    for _ in 0..random.below(6) {
        out.extend(any(version, random));
    }
    out
}

fn connect(version: Version, random: &mut Random) -> Vec<u8> {
    let (has_will, has_username) = (random.below(2) == 0, random.below(2) == 0);
    let has_password = has_username && random.below(2) == 0;
    let mut flags = 0x02;
    if has_will {
        flags |= [0x04, 0x2c, 0x34][random.below(3) as usize];
    }
    flags |= u8::from(has_username) << 7 | u8::from(has_password) << 6;
    let properties: &[&[u8]] = &[
        SESSION_EXPIRY,
        RECEIVE_MAXIMUM,
        MAXIMUM_PACKET_SIZE,
        TOPIC_ALIAS_MAXIMUM,
        REQUEST_RESPONSE_INFORMATION,
        REQUEST_PROBLEM_INFORMATION,
        USER_PROPERTY,
        USER_PROPERTY,
        &[METHOD, DATA].concat(),
    ];
    let mut body = [&version.name()[..], &[flags, 0, 60]].concat();
    body.extend(version.some(properties, random));
    body.extend(prefixed(b"a"));
    if has_will {
        let properties = [
            WILL_DELAY,
            PAYLOAD_FORMAT,
            MESSAGE_EXPIRY,
            CONTENT_TYPE,
            RESPONSE_TOPIC,
            CORRELATION_DATA,
            USER_PROPERTY,
        ];
        body.extend(version.some(&properties, random));
        body.extend([prefixed(b"will/a"), prefixed(b"gone")].concat());
    }
    if has_username {
        body.extend(prefixed(b"user"));
    }
    if has_password {
        body.extend(prefixed(b"\0secret"));
    }
    framed(0x10, &body)
}

/// Of any type but CONNECT.
fn any(version: Version, random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0..=2 => publish(version, random),
        3..=5 => acknowledgement(version, random),
        6 => subscribe(version, random),
        7 => unsubscribe(version, random),
        8 => framed(0xc0, &[]),
        _ => ending(version, random),
    }
}

fn packet_id(random: &mut Random) -> [u8; 2] {
    [0, 1 + random.below(3) as u8]
}

fn publish(version: Version, random: &mut Random) -> Vec<u8> {
    let first = [0x30, 0x31, 0x32, 0x33, 0x3a, 0x34, 0x3d][random.below(7) as usize];
    let mut body = prefixed([&b"t"[..], b"plant/line1"][random.below(2) as usize]);
    if first & 0x06 != 0 {
        body.extend(packet_id(random));
    }
    let properties = [
        PAYLOAD_FORMAT,
        MESSAGE_EXPIRY,
        TOPIC_ALIAS,
        RESPONSE_TOPIC,
        CORRELATION_DATA,
        USER_PROPERTY,
        CONTENT_TYPE,
    ];
    body.extend(version.some(&properties, random));
    body.extend([&b""[..], b"21.5"][random.below(2) as usize]);
    // Longer than one byte of length can say.
    body.extend(vec![b'x'; [0, 200][random.below(2) as usize]]);
    framed(first, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP; since MQTT 5 with a reason, and with properties.
fn acknowledgement(version: Version, random: &mut Random) -> Vec<u8> {
    let (first, reason) =
        [(0x40, 0x10), (0x50, 0x97), (0x62, 0x92), (0x70, 0x92)][random.below(4) as usize];
    let mut body = packet_id(random).to_vec();
    if version == Version::V5 && random.below(2) == 0 {
        body.push(reason * random.below(2) as u8);
        if random.below(2) == 0 {
            body.extend(version.some(&[REASON_STRING, USER_PROPERTY], random));
        }
    }
    framed(first, &body)
}

fn subscribe(version: Version, random: &mut Random) -> Vec<u8> {
    let mut body = packet_id(random).to_vec();
    body.extend(version.some(&[SUBSCRIPTION_IDENTIFIER, USER_PROPERTY], random));
    for _ in 0..=random.below(3) {
        let filter = [&b"#"[..], b"plant/+/x", b"$share/g/#"][random.below(3) as usize];
        body.extend(prefixed(filter));
        // No Local is not for shared ones; Retain As Published, and two ways of Retain Handling.
        let options = match version {
            Version::V5 => [0, 0x08, 0x10, 0x28][random.below(4) as usize],
            Version::V3_1 | Version::V3_1_1 => 0,
        };
        body.push(options | random.below(3) as u8);
    }
    framed(0x82, &body)
}

fn unsubscribe(version: Version, random: &mut Random) -> Vec<u8> {
    let mut body = packet_id(random).to_vec();
    body.extend(version.some(&[USER_PROPERTY], random));
    for _ in 0..=random.below(2) {
        body.extend(prefixed(b"plant/+/x"));
    }
    framed(0xa2, &body)
}

/// DISCONNECT, or since MQTT 5 AUTH.
fn ending(version: Version, random: &mut Random) -> Vec<u8> {
    if version != Version::V5 {
        return framed(0xe0, &[]);
    }
    let mut body = Vec::new();
    let first = [0xe0, 0xf0][random.below(2) as usize];
    if first == 0xe0 {
        if random.below(2) == 0 {
            body.push([0, 0x04][random.below(2) as usize]);
            let properties = [SESSION_EXPIRY, REASON_STRING, USER_PROPERTY];
            body.extend(version.some(&properties, random));
        }
        return framed(first, &body);
    }
    body.push([0x18, 0x19][random.below(2) as usize]);
    let others = [DATA, REASON_STRING, USER_PROPERTY];
    let others = others.iter().filter(|_| random.below(2) == 0);
    let properties: Vec<_> = [METHOD].iter().chain(others).copied().collect();
    body.extend(version.properties(&properties.concat()));
    framed(first, &body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::BytesMut;
    use tidegate_edge_protocol::mqtt::codec::Decoder;

    use super::*;

    /// Else a fuzzer would try little more than refusals.
    #[test]
    fn each_type_of_each_version_is_there_and_taken() {
        let mut random = Random::new(1);
        let mut seen = BTreeSet::new();
        for _ in 0..2_000 {
            let version = Version::any(&mut random);
            let mut decoder = Decoder::server(1 << 16);
            let connect = connect(version, &mut random);
            let packet = any(version, &mut random);
            for bytes in [connect, packet] {
                let mut input = BytesMut::from(&bytes[..]);
                let taken = decoder.decode(&mut input);
                assert!(matches!(taken, Ok(Some(_))), "{taken:?}: {bytes:02x?}");
                assert!(input.is_empty(), "{bytes:02x?}");
                seen.insert((version as u8, bytes[0] >> 4));
            }
        }
        // What a client sends: 1, 3 to 8, 10, 12 and 14, and AUTH since MQTT 5.
        assert_eq!(seen.len(), 3 * 10 + 1, "{seen:?}");
    }
}
