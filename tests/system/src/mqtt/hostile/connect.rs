//! CONNECT made wrong. What is told to whom depends on the version more than elsewhere: MQTT 5 has a CONNACK
//! for everything, 3.1.1 closes in silence what it can't read.

use super::super::scram::METHOD;
use super::super::wire::{self, Connect, Version, Will, property};
use super::auth::NOT_FIRST;
use super::{
    Case, Expected, FAILED, MALFORMED, NOT_UTF8, PROTOCOL, Silence, State, TOPIC, WITH_NULL,
    properties,
};

struct Adder<'a> {
    version: Version,
    cases: &'a mut Vec<Case>,
}

impl Adder<'_> {
    fn expect(&mut self, name: String, bytes: Vec<u8>, expected: Expected) {
        self.cases.push(Case {
            name: format!("CONNECT: {name}"),
            version: self.version,
            state: State::Fresh,
            bytes,
            expected,
        });
    }

    /// What can't be read: told in MQTT 5 only.
    fn add(&mut self, name: String, bytes: Vec<u8>, codes: &'static [u8]) {
        let expected = match self.version {
            Version::V5 => Expected::Connack(codes, Silence::Wrong),
            _ => Expected::Connack(&[], Silence::Allowed),
        };
        self.expect(name, bytes, expected);
    }
}

/// One with everything in it.
fn full(version: Version) -> Connect {
    let mut will = Will::new("hostile/will", "gone");
    will.qos = 1;
    will.properties = vec![
        property::four(property::WILL_DELAY, 1),
        property::byte(property::PAYLOAD_FORMAT, 1),
        property::bytes(property::CONTENT_TYPE, "text/plain"),
        property::user("name", "value"),
    ];
    let mut connect = Connect::new(version, "hostile").keep_alive(60).will(will);
    connect.user = Some(b"user".to_vec());
    connect.password = Some(b"password".to_vec());
    connect.properties = vec![
        property::four(property::SESSION_EXPIRY, 1),
        property::two(property::RECEIVE_MAXIMUM, 10),
        property::four(property::MAXIMUM_PACKET_SIZE, 1_000),
        property::two(property::TOPIC_ALIAS_MAXIMUM, 10),
        property::byte(property::REQUEST_RESPONSE, 1),
        property::byte(property::REQUEST_PROBLEM, 1),
        property::user("name", "value"),
    ];
    connect
}

pub fn cases(version: Version, cases: &mut Vec<Case>) {
    let mut adder = Adder { version, cases };
    names_and_levels(&mut adder);
    flags(&mut adder);
    strings(&mut adder);
    lengths(&mut adder);
    if version == Version::V5 {
        version_5(&mut adder);
        authentication(&mut adder);
    }
    if version > Version::V3_1 {
        for flags in 1..16 {
            let mut bytes = full(version).bytes();
            bytes[0] |= flags;
            adder.add(format!("header flags {flags:#06b}"), bytes, MALFORMED);
        }
    }
}

fn names_and_levels(adder: &mut Adder) {
    let connect = Connect::new(adder.version, "hostile");
    for name in ["", "M", "mqtt", "MQTTX", "MQISDP", "HTTP", "MQTT\0"] {
        let bytes = connect.bytes_named(name, adder.version as u8, 2);
        let expected = Expected::Connack(&[0x84], Silence::Allowed);
        adder.expect(format!("protocol name {name:?}"), bytes, expected);
    }
    // Levels that are no version's, told as the nearest version would.
    for level in (0..=255).filter(|level| ![4, 5].contains(level)) {
        let bytes = connect.bytes_named("MQTT", level, 2);
        let expected = Expected::Connack(&[0x84, 0x01], Silence::Wrong);
        adder.expect(format!("level {level} of MQTT"), bytes, expected);
    }
}

/// All connect flags that contradict themselves, whatever follows them.
fn flags(adder: &mut Adder) {
    let version = adder.version;
    for flags in 0..=255_u8 {
        let will = flags & 0x04 != 0;
        let bad_will = flags & 0x18 == 0x18 || (!will && flags & 0x38 != 0);
        let lone_password = version == Version::V3_1_1 && flags & 0xc0 == 0x40;
        let wrong = match version {
            // It checks QoS 3 only.
            Version::V3_1 => will && flags & 0x18 == 0x18,
            _ => flags & 0x01 != 0 || bad_will || lone_password,
        };
        if wrong {
            let bytes = full(version).bytes_with_flags(flags);
            adder.add(format!("flags {flags:#010b}"), bytes, MALFORMED);
        }
    }
}

fn strings(adder: &mut Adder) {
    let version = adder.version;
    for bad in NOT_UTF8.iter().chain(&WITH_NULL) {
        let id = Connect {
            client_id: bad.to_vec(),
            ..full(version)
        };
        adder.add(format!("client id {bad:x?}"), id.bytes(), MALFORMED);
        let user = Connect {
            user: Some(bad.to_vec()),
            ..full(version)
        };
        adder.add(format!("user name {bad:x?}"), user.bytes(), MALFORMED);
        let will = Will {
            topic: bad.to_vec(),
            ..Will::default()
        };
        adder.add(
            format!("will topic {bad:x?}"),
            full(version).will(will).bytes(),
            MALFORMED,
        );
    }
    for topic in ["", "#", "+", "a/#", "a/+", "a+"] {
        let bytes = full(version).will(Will::new(topic, "gone")).bytes();
        adder.add(format!("will topic {topic:?}"), bytes, TOPIC);
    }
    if version < Version::V5 {
        // An empty client id that may not be: it is told.
        let mut connect = Connect::new(version, "");
        connect.clean = version == Version::V3_1;
        let expected = Expected::Connack(&[0x02], Silence::Wrong);
        adder.expect("no client id".into(), connect.bytes(), expected);
    }
}

/// What the fixed header takes.
fn header(bytes: &[u8]) -> usize {
    let longer = bytes.iter().skip(1).take_while(|byte| **byte & 0x80 != 0);
    2 + longer.count()
}

/// The packet is cut at each of its bytes, or goes on behind its end.
fn lengths(adder: &mut Adder) {
    let connect = full(adder.version);
    let bytes = connect.bytes();
    let body = &bytes[header(&bytes)..];
    // Up to its level the packet has no version, and may be anything.
    let name = if adder.version == Version::V3_1 { 9 } else { 7 };
    // In MQTT 3.1 the length goes before the flags of user name and password.
    let credentials = wire::field("user").len() + wire::field("password").len();
    let password = wire::field("password").len();
    for length in 0..body.len() {
        let left = body.len() - length;
        if adder.version == Version::V3_1 && (left == credentials || left == password) {
            continue;
        }
        let cut = wire::packet(wire::CONNECT, &body[..length]);
        let name_of = format!("cut after {length} bytes");
        if length < name {
            adder.expect(name_of, cut, Expected::Connack(&[0x81], Silence::Allowed));
        } else {
            adder.add(name_of, cut, MALFORMED);
        }
    }
    for more in [1, 2, 10] {
        let long = wire::packet(wire::CONNECT, &[body, &vec![0; more]].concat());
        adder.add(format!("{more} bytes behind it"), long, MALFORMED);
    }
    let large = [&b"\x10\xff\xff\xff\x7f"[..], body].concat();
    let expected = Expected::Connack(&[0x95], Silence::Allowed);
    adder.expect("a length that is not taken".into(), large, expected);
}

/// Properties of the packet and of its will.
fn version_5(adder: &mut Adder) {
    let connect = full(Version::V5);
    let whole = connect.bytes();
    let at = |block: &[u8]| {
        let found = whole
            .windows(block.len())
            .position(|window| window == block);
        found.expect("the block is in the packet")
    };
    let replaced = |right: &[u8], block: &[u8]| {
        let from = at(right);
        wire::packet(
            wire::CONNECT,
            &[
                &whole[header(&whole)..from],
                block,
                &whole[from + right.len()..],
            ]
            .concat(),
        )
    };
    let right = wire::block(&connect.properties);
    let mut found = Vec::new();
    properties::blocks(
        wire::CONNECT,
        &connect.properties,
        &mut |name, block, codes| {
            found.push((name, replaced(&right, block), codes));
        },
    );
    for (name, bytes, codes) in found {
        adder.add(name, bytes, codes);
    }
    // Of the will: those of a PUBLISH but for the alias, and its delay.
    let will = connect
        .will
        .as_ref()
        .map(|will| &will.properties[..])
        .unwrap_or_default();
    let will_block = wire::block(will);
    for property in will
        .iter()
        .filter(|property| property[0] != property::USER_PROPERTY)
    {
        let twice = wire::block(&[will, std::slice::from_ref(property)].concat());
        adder.add(
            format!("will property {:#x} twice", property[0]),
            replaced(&will_block, &twice),
            PROTOCOL,
        );
    }
    for foreign in [
        property::two(property::TOPIC_ALIAS, 1),
        property::two(property::RECEIVE_MAXIMUM, 1),
        property::four(property::SESSION_EXPIRY, 1),
        property::identifier(1),
        property::bytes(property::REASON_STRING, "why"),
        vec![0x7f, 0],
    ] {
        let block = wire::block(&[will, std::slice::from_ref(&foreign)].concat());
        adder.add(
            format!("will property {foreign:x?}"),
            replaced(&will_block, &block),
            MALFORMED,
        );
    }
    for topic in ["#", "a/+"] {
        let response = property::bytes(property::RESPONSE_TOPIC, topic);
        let block = wire::block(&[will, &[response]].concat());
        adder.add(
            format!("will response topic {topic}"),
            replaced(&will_block, &block),
            TOPIC,
        );
    }
}

/// Methods that nobody has [MQTT-4.12.0-1], and messages that SCRAM does not begin with.
fn authentication(adder: &mut Adder) {
    let connect = full(Version::V5);
    let method = |name: &str| property::bytes(property::AUTHENTICATION_METHOD, name);
    let data = |data: &[u8]| property::bytes(property::AUTHENTICATION_DATA, data);
    adder.add(
        "data without a method".into(),
        connect.clone().with(data(b"data")).bytes(),
        // 3.1.2.11.10
        PROTOCOL,
    );
    for name in ["", "PLAIN", "SCRAM-SHA-1", "scram-sha-256"] {
        let asked = connect.clone().with(method(name));
        adder.add(format!("method {name:?}"), asked.bytes(), &[0x87, 0x8c]);
        let begun = asked.with(data(b"n,,n=pump,r=abc"));
        adder.add(
            format!("method {name:?} with data"),
            begun.bytes(),
            &[0x87, 0x8c],
        );
    }
    let asked = connect.with(method(METHOD));
    for message in NOT_FIRST {
        let name = format!("the message {}", message.escape_ascii());
        adder.add(name, asked.clone().with(data(message)).bytes(), FAILED);
    }
    for property in [method(METHOD), data(b"n,,n=pump,r=abc")] {
        let once = asked.clone().with(data(b"n,,n=pump,r=abc"));
        let name = format!("property {:#04x} twice", property[0]);
        adder.add(name, once.with(property).bytes(), PROTOCOL);
    }
}
