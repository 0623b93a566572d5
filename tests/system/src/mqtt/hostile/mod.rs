//! Hostile packets, generated: each field of each packet that a client sends, in each version, made wrong in
//! every way that the specification names, with the reason codes that it allows for it. The session machine
//! is tried with all of them (`edge/protocol/tests/hostile.rs`), a running edge with a sample.
//!
//! It knows nothing of the product, and takes no part in what is right: where the specification names one
//! code, one is expected; where it names none, both of its general ones are.

mod auth;
mod base;
mod connect;
mod fields;
mod properties;
mod state;

use super::wire::{self, Version};

pub use auth::{base as auth, with_data as auth_with_data};
pub use base::bases;
use state::or_protocol;
pub use state::{Awaited, Expected, Silence, State};

#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub version: Version,
    pub state: State,
    pub bytes: Vec<u8>,
    pub expected: Expected,
}

/// Reason codes by what is wrong. The bytes can't be read (1.2: malformed packet):
pub const MALFORMED: &[u8] = &[0x81];
/// They can be read, and are not allowed (1.2: protocol error):
pub const PROTOCOL: &[u8] = &[0x82];
/// The specification names neither.
pub const EITHER: &[u8] = &[0x81, 0x82];
pub const TOPIC: &[u8] = &[0x81, 0x82, 0x90];
pub const FILTER: &[u8] = &[0x81, 0x82, 0x8f];
pub const TOO_LARGE: &[u8] = &[0x95];
pub const ALIAS: &[u8] = &[0x94];
/// It "does not match the authentication method currently in use" (table 3-1).
pub const METHOD_WRONG: &[u8] = &[0x8c];
/// Who does not prove what it says.
pub const FAILED: &[u8] = &[0x87];

/// What is no UTF-8: a byte that never stands there, surrogates, overlong forms, cut ones, past U+10FFFF.
pub const NOT_UTF8: [&[u8]; 9] = [
    b"\xff",
    b"a\xfe/b",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xc0\x80",
    b"\xe0\x80\xaf",
    b"a\xe2\x82",
    b"\xf4\x90\x80\x80",
    b"\x80",
];

/// A string that is wrong wherever a string stands, beside those.
pub const WITH_NULL: [&[u8]; 3] = [b"\0", b"a\0b", b"a\0"];

/// All cases, always in the same order.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        connect::cases(version, &mut cases);
        first_packets(version, &mut cases);
        for state in State::all(version) {
            in_state(version, state, &mut cases);
        }
    }
    cases
}

/// All packets but CONNECT, where the client has sent one.
fn in_state(version: Version, state: State, cases: &mut Vec<Case>) {
    let mut add = |name: String, bytes: Vec<u8>, reasons| {
        cases.push(Case {
            name,
            version,
            state,
            bytes,
            expected: state.expected(reasons),
        });
    };
    if version == Version::V5 {
        auth::cases(
            state,
            &mut |name, bytes, reasons| match state.has_method() {
                true => add(name, bytes, reasons),
                false => add(name, bytes, or_protocol(reasons)),
            },
        );
    }
    let mut other = |name: String, bytes: Vec<u8>, reasons| match state.takes_all() {
        true => add(name, bytes, reasons),
        false => add(name, bytes, or_protocol(reasons)),
    };
    unexpected(version, &mut other);
    for base in bases(version) {
        fields::cases(&base, &mut other);
        properties::cases(&base, &mut other);
        if !state.takes_all() && base.name != "DISCONNECT" {
            other(format!("{} not now", base.name), base.bytes(), PROTOCOL);
        }
    }
}

/// Takes a case's name, its bytes, and the reasons that end it.
pub type Add<'a> = dyn FnMut(String, Vec<u8>, &'static [u8]) + 'a;

/// Anything but CONNECT before a CONNECT is closed in silence (3.14.0-1).
fn first_packets(version: Version, cases: &mut Vec<Case>) {
    let mut others: Vec<_> = bases(version)
        .iter()
        .map(|base| (base.name.clone(), base.bytes()))
        .collect();
    for first in (0x00..=0xf0).step_by(0x10).filter(|first| *first != 0x10) {
        let bytes = wire::packet(first, &[0, 0]);
        others.push((format!("type {first:#x}"), bytes));
    }
    let cases_of = others.into_iter().map(|(name, bytes)| Case {
        name: format!("{name} before CONNECT"),
        version,
        state: State::Fresh,
        bytes,
        expected: Expected::Connack(&[], Silence::Allowed),
    });
    cases.extend(cases_of);
}

/// Packets that never come from a client, or not now, and lengths that no packet has.
fn unexpected(version: Version, add: &mut Add) {
    let ack: &[u8] = if version == Version::V5 {
        &[0, 1, 0, 0]
    } else {
        &[0, 1, 0]
    };
    add(
        "CONNACK".into(),
        wire::packet(wire::CONNACK, &[0, 0, 0]),
        PROTOCOL,
    );
    add("SUBACK".into(), wire::packet(wire::SUBACK, ack), PROTOCOL);
    add(
        "UNSUBACK".into(),
        wire::packet(wire::UNSUBACK, ack),
        PROTOCOL,
    );
    add(
        "PINGRESP".into(),
        wire::packet(wire::PINGRESP, &[]),
        PROTOCOL,
    );
    for connect in [
        wire::Connect::new(version, "again").bytes(),
        wire::Connect::new(version, "again").bytes_named("MQTT", 77, 2),
        wire::Connect::new(version, "again").bytes_named("other", 5, 2),
    ] {
        add("a second CONNECT".into(), connect, PROTOCOL);
    }
    for flags in 0..16 {
        add(format!("type 0, flags {flags}"), vec![flags, 0], MALFORMED);
    }
    for length in [&b"\xff\xff\xff\xff\x01"[..], b"\x80\x80\x80\x80\x00"] {
        for first in [0x30, 0x82, 0xc0] {
            let bytes = [&[first], length, &[0; 8]].concat();
            add(
                format!("{first:#x} with a length of five bytes"),
                bytes,
                MALFORMED,
            );
        }
    }
    for length in [&b"\x80\x00"[..], b"\x82\x80\x00", b"\x80\x80\x80\x00"] {
        let bytes = [b"\xc0", length].concat();
        add(
            "a length in more bytes than it needs".into(),
            bytes,
            MALFORMED,
        );
    }
    for length in [&b"\xff\xff\xff\x7f"[..], b"\x80\x80\x80\x01"] {
        for first in [0x30, 0x32, 0x34, 0x82, 0xa2] {
            let bytes = [&[first], length, &[0; 8]].concat();
            add(
                format!("{first:#x} of a length that is not taken"),
                bytes,
                TOO_LARGE,
            );
        }
    }
    if version < Version::V5 {
        add("AUTH".into(), wire::packet(wire::AUTH, &[]), PROTOCOL);
    }
}
