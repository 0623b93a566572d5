//! AUTH made wrong (3.15, 4.12): its fields as everybody's, methods that are not CONNECT's, reasons out of
//! their turn, and messages that SCRAM does not have.

use super::super::scram::{Client, METHOD};
use super::super::wire::{self, Version, property};
use super::base::{Base, Part};
use super::state::{Awaited, State};
use super::{Add, FAILED, METHOD_WRONG, PROTOCOL, fields, properties};

const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;

/// Methods that are not the CONNECT's [MQTT-4.12.0-5].
const OTHER_METHODS: [&str; 6] = [
    "",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256-PLUS",
    "scram-sha-256",
    "SCRAM-SHA-256 ",
    "PLAIN",
];

/// What no client begins with.
pub const NOT_FIRST: [&[u8]; 17] = [
    b"",
    b"n",
    b"n,",
    b"n,,",
    b"n,,n=pump",
    b"n,,r=abc",
    b"n,,n=pump,r=",
    b"n,,n=pump,r=a\x07b",
    b"n,,r=abc,n=pump",
    b"n,,m=must,n=pump,r=abc",
    b"n,,n=pu=mp,r=abc",
    b"n,a=valve,n=pump,r=abc",
    b"p=tls-unique,,n=pump,r=abc",
    b"x,,n=pump,r=abc",
    b"n,,n=\xff,r=abc",
    b"\xc0\x80",
    b"c=biws,r=abc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];

/// What proves nothing.
pub const NOT_FINAL: [&[u8]; 12] = [
    b"",
    b"c=biws",
    b"c=biws,r=abc",
    b"c=biws,r=abc,p=",
    b"c=biws,r=abc,p=AAAA",
    b"c=biws,r=abc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"c=eSws,r=abc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"r=abc,c=biws,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b",p=",
    b"n,,n=pump,r=abc",
    b"\xff\xfe",
    b"c=biws,r=\xed\xa0\x80,p=AAAA",
];

/// One that the server goes on with where it waits for a client's first message, or for none yet.
pub fn base(state: State) -> Base {
    let reason = match state {
        State::Authenticated => AGAIN,
        _ => CONTINUE,
    };
    with_data(reason, Client::new("pump", "pencil").first().as_bytes())
}

/// An AUTH with everything in it.
pub fn with_data(reason: u8, data: &[u8]) -> Base {
    Base {
        name: "AUTH".to_owned(),
        version: Version::V5,
        first: wire::AUTH,
        parts: vec![
            Part::Reason(reason),
            Part::Properties(vec![
                method(METHOD),
                property::bytes(property::AUTHENTICATION_DATA, data),
                property::bytes(property::REASON_STRING, "why"),
                property::user("name", "value"),
            ]),
        ],
        may_end_after: Vec::new(),
    }
}

fn method(name: &str) -> Vec<u8> {
    property::bytes(property::AUTHENTICATION_METHOD, name)
}

pub fn cases(state: State, add: &mut Add) {
    let base = base(state);
    fields::cases(&base, add);
    properties::cases(&base, add);
    let right = base.parts[0].bytes()[0];
    for reason in [0x00, CONTINUE, AGAIN] {
        // Where there is no method, none has its turn.
        if reason != right || !state.has_method() {
            let name = format!("AUTH: reason {reason:#04x} out of its turn");
            add(name, base.with(0, &Part::Reason(reason)), PROTOCOL);
        }
    }
    methods(&base, add);
    messages(state, &base, add);
}

fn methods(base: &Base, add: &mut Add) {
    let (at, right) = base.properties().expect("an AUTH has properties");
    let with = |method: Option<Vec<u8>>| {
        let others = right[1..].iter().cloned();
        base.with(
            at,
            &Part::Properties(method.into_iter().chain(others).collect()),
        )
    };
    add("AUTH: no method".into(), with(None), PROTOCOL);
    for name in OTHER_METHODS {
        add(
            format!("AUTH: method {name:?}"),
            with(Some(method(name))),
            METHOD_WRONG,
        );
    }
    let long = "x".repeat(usize::from(u16::MAX));
    add(
        "AUTH: a method of 65,535 bytes".into(),
        with(Some(method(&long))),
        METHOD_WRONG,
    );
}

/// Messages that end an exchange [MQTT-4.12.0-4], [MQTT-4.12.1-2].
fn messages(state: State, base: &Base, add: &mut Add) {
    let reason = base.parts[0].bytes()[0];
    let known: &[&[u8]] = match state.awaited() {
        Some(Awaited::Final) => &NOT_FINAL,
        Some(Awaited::First) | None => &NOT_FIRST,
    };
    for data in known {
        let name = format!("AUTH: the message {}", data.escape_ascii());
        add(name, with_data(reason, data).bytes(), FAILED);
    }
    for length in [2_049, usize::from(u16::MAX)] {
        let data = [b"n,,n=pump,r=", &vec![b'a'; length - 12][..]].concat();
        let name = format!("AUTH: a message of {length} bytes");
        add(name, with_data(reason, &data).bytes(), FAILED);
    }
    if state.awaited().is_some() {
        let alone = Part::Properties(vec![method(METHOD)]);
        add("AUTH: no message".into(), base.with(1, &alone), FAILED);
    }
}
