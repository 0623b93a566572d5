//! MQTT 5's properties made wrong: those that do not belong there, twice the same, values out of their
//! range, values that are cut, lengths that lie.

use super::super::wire::{self, property as p};
use super::base::Base;
use super::{ALIAS, Add, EITHER, MALFORMED, NOT_UTF8, PROTOCOL, WITH_NULL};

/// One value of each property that exists, right for its type.
fn all() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = [
        p::PAYLOAD_FORMAT,
        p::REQUEST_PROBLEM,
        p::REQUEST_RESPONSE,
        p::MAXIMUM_QOS,
        p::RETAIN_AVAILABLE,
        p::WILDCARD_AVAILABLE,
        p::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        p::SHARED_AVAILABLE,
    ]
    .map(|id| p::byte(id, 1))
    .into();
    let twos = [
        p::SERVER_KEEP_ALIVE,
        p::RECEIVE_MAXIMUM,
        p::TOPIC_ALIAS_MAXIMUM,
        p::TOPIC_ALIAS,
    ];
    all.extend(twos.map(|id| p::two(id, 1)));
    let fours = [
        p::MESSAGE_EXPIRY,
        p::SESSION_EXPIRY,
        p::WILL_DELAY,
        p::MAXIMUM_PACKET_SIZE,
    ];
    all.extend(fours.map(|id| p::four(id, 1)));
    all.extend(TEXTS.map(|id| p::bytes(id, "text")));
    all.extend([p::CORRELATION_DATA, p::AUTHENTICATION_DATA].map(|id| p::bytes(id, "data")));
    all.push(p::identifier(1));
    all
}

const TEXTS: [u8; 7] = [
    p::CONTENT_TYPE,
    p::RESPONSE_TOPIC,
    p::ASSIGNED_CLIENT_ID,
    p::AUTHENTICATION_METHOD,
    p::RESPONSE_INFORMATION,
    p::SERVER_REFERENCE,
    p::REASON_STRING,
];

/// What may stand in a packet that a client sends (table 2-4); user properties may everywhere.
fn allowed(kind: u8) -> &'static [u8] {
    match kind {
        wire::CONNECT => &[
            p::SESSION_EXPIRY,
            p::RECEIVE_MAXIMUM,
            p::MAXIMUM_PACKET_SIZE,
            p::TOPIC_ALIAS_MAXIMUM,
            p::REQUEST_RESPONSE,
            p::REQUEST_PROBLEM,
            p::AUTHENTICATION_METHOD,
            p::AUTHENTICATION_DATA,
        ],
        wire::PUBLISH => &[
            p::PAYLOAD_FORMAT,
            p::MESSAGE_EXPIRY,
            p::TOPIC_ALIAS,
            p::RESPONSE_TOPIC,
            p::CORRELATION_DATA,
            p::CONTENT_TYPE,
        ],
        0x80 => &[p::SUBSCRIPTION_IDENTIFIER],
        0xa0 => &[],
        // A server's alone, and the connection ends in any case.
        wire::DISCONNECT => &[p::SESSION_EXPIRY, p::REASON_STRING, p::SERVER_REFERENCE],
        wire::AUTH => &[
            p::AUTHENTICATION_METHOD,
            p::AUTHENTICATION_DATA,
            p::REASON_STRING,
        ],
        _ => &[p::REASON_STRING],
    }
}

/// Values that their property excludes, and how that is told.
fn out_of_range() -> Vec<(Vec<u8>, &'static [u8])> {
    let mut values = vec![
        (p::two(p::RECEIVE_MAXIMUM, 0), PROTOCOL),
        (p::four(p::MAXIMUM_PACKET_SIZE, 0), PROTOCOL),
        (p::two(p::TOPIC_ALIAS, 0), ALIAS),
        (p::two(p::TOPIC_ALIAS, u16::MAX), ALIAS),
        (p::identifier(0), PROTOCOL),
        // A variable byte integer of five bytes, and one in more bytes than it needs.
        (b"\x0b\xff\xff\xff\xff\x01".to_vec(), MALFORMED),
        (b"\x0b\x81\x00".to_vec(), MALFORMED),
    ];
    for wildcard in ["#", "a/+", "a#"] {
        values.push((p::bytes(p::RESPONSE_TOPIC, wildcard), super::TOPIC));
    }
    for value in [2, 3, 0x7f, 0x80, 0xff] {
        values.push((p::byte(p::REQUEST_PROBLEM, value), PROTOCOL));
        values.push((p::byte(p::REQUEST_RESPONSE, value), PROTOCOL));
        // No code is named for this one.
        values.push((p::byte(p::PAYLOAD_FORMAT, value), EITHER));
    }
    for text in NOT_UTF8.iter().chain(&WITH_NULL) {
        values.extend(TEXTS.map(|id| (p::bytes(id, text), MALFORMED)));
    }
    values
}

/// Takes a block's name, the block, and the reasons that end it.
pub type With<'a> = dyn FnMut(String, &[u8], &'static [u8]) + 'a;

pub fn cases(base: &Base, add: &mut Add) {
    let Some((at, right)) = base.properties() else {
        return;
    };
    let mut with = |name: String, block: &[u8], reasons: &'static [u8]| {
        add(
            format!("{}: {name}", base.name),
            base.with_bytes(at, block),
            reasons,
        );
    };
    blocks(base.kind(), right, &mut with);
}

/// Blocks of properties for a packet whose right ones are these.
pub fn blocks(kind: u8, right: &[Vec<u8>], with: &mut With) {
    foreign(kind, right, with);
    twice(right, with);
    let added = |property: &[u8]| {
        wire::block(&[&without(right, property[0])[..], &[property.to_vec()]].concat())
    };
    for (property, reasons) in out_of_range() {
        if allowed(kind).contains(&property[0]) {
            with(
                format!("property {property:x?}"),
                &added(&property),
                reasons,
            );
        }
    }
    for text in NOT_UTF8.iter().chain(&WITH_NULL) {
        with(
            format!("user name {text:x?}"),
            &added(&p::user(text, "value")),
            MALFORMED,
        );
        with(
            format!("user value {text:x?}"),
            &added(&p::user("name", text)),
            MALFORMED,
        );
    }
    lengths(right, with);
}

fn without(right: &[Vec<u8>], id: u8) -> Vec<Vec<u8>> {
    let others = right.iter().filter(|property| property[0] != id);
    others.cloned().collect()
}

/// Properties that are another packet's, and numbers that are none's (2.2.2.2: malformed).
fn foreign(kind: u8, right: &[Vec<u8>], with: &mut With) {
    let mut add = |property: Vec<u8>, reasons| {
        let name = format!("property {:#04x} does not belong there", property[0]);
        with(name, &wire::block(&[right, &[property]].concat()), reasons);
    };
    for property in all() {
        if allowed(kind).contains(&property[0]) {
            continue;
        }
        // [MQTT-3.3.4-6]: this one is a protocol error.
        let identified = kind == wire::PUBLISH && property[0] == p::SUBSCRIPTION_IDENTIFIER;
        add(property, if identified { PROTOCOL } else { MALFORMED });
    }
    let known: Vec<_> = all().iter().map(|property| property[0]).collect();
    for id in (0..0x80).filter(|id| *id != p::USER_PROPERTY && !known.contains(id)) {
        add(vec![id, 0, 0, 0, 0], MALFORMED);
    }
    // A number of two bytes, and one in more bytes than it needs.
    add(vec![0x80, 0x01, 0], MALFORMED);
    add(vec![p::USER_PROPERTY | 0x80, 0x00, 0, 0, 0, 0], MALFORMED);
}

fn twice(right: &[Vec<u8>], with: &mut With) {
    for property in right
        .iter()
        .filter(|property| property[0] != p::USER_PROPERTY)
    {
        let name = format!("property {:#04x} twice", property[0]);
        let block = wire::block(&[right, std::slice::from_ref(property)].concat());
        with(name, &block, PROTOCOL);
    }
}

/// A block that is cut within a property, and lengths that say more or less than there is.
fn lengths(right: &[Vec<u8>], with: &mut With) {
    let block = right.concat();
    let mut borders: Vec<usize> = vec![0];
    for property in right {
        borders.push(borders[borders.len() - 1] + property.len());
    }
    for length in (0..block.len()).filter(|length| !borders.contains(length)) {
        let cut = [wire::variable(length as u32), block[..length].to_vec()].concat();
        with(
            format!("properties cut after {length} bytes"),
            &cut,
            MALFORMED,
        );
    }
    for length in [
        &b"\xff\x7f"[..],
        b"\xff\xff\x7f",
        b"\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff\x01",
    ] {
        let lying = [length, &block].concat();
        with(
            format!("a property length of {length:x?}"),
            &lying,
            MALFORMED,
        );
    }
    let mut long = wire::variable(block.len() as u32);
    *long.last_mut().expect("it is not empty") |= 0x80;
    long.push(0);
    with(
        "a property length in more bytes".into(),
        &[long, block].concat(),
        MALFORMED,
    );
}
