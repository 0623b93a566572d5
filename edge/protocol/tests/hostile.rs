//! All generated hostile packets, in every version and state, against decoder and session machine: each must
//! end the connection in the way that the specification says. A running edge is tried with a sample.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/system/src/mqtt/hostile/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests over sockets"
)]
mod hostile;
#[path = "../../../tests/system/src/mqtt/wire.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests over sockets"
)]
mod wire;

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use hostile::{Case, Expected, Silence, State};
use tidegate_edge_protocol::mqtt::codec::{Decoder, Message, Qos, Text};
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, Connection, Delivery, DeliveryToken, Event, SubscriptionRequest,
};
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use wire::{Connect, Publish, Version};

/// Fewer than this, and the generator has lost something.
const CASES_MIN: usize = 5_000;

/// What is shown of cases that fail.
const WRONG_SHOWN: usize = 20;
const BYTES_SHOWN: usize = 40;

/// A connection with a driver that agrees to everything.
struct Server {
    connection: Connection,
    decoder: Decoder,
    now: Instant,
}

impl Server {
    fn new() -> Self {
        let (limits, now) = (ConnectionLimits::default(), Instant::now());
        Self {
            decoder: Decoder::server(limits.packet_bytes_max.get()),
            connection: Connection::new(limits, now),
            now,
        }
    }

    /// What is sent for these bytes.
    fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut input = BytesMut::from(bytes);
        while !self.connection.is_closed() {
            match self.decoder.decode(&mut input) {
                Ok(Some(packet)) => self.connection.handle_packet(self.now, packet),
                Ok(None) => break,
                Err(error) => self.connection.handle_decode_error(self.now, &error),
            }
            self.answer();
            if !self.connection.is_connected() {
                break;
            }
        }
        self.transmitted()
    }

    fn transmitted(&mut self) -> Vec<u8> {
        let mut out = BytesMut::new();
        while self.connection.poll_transmit(&mut out) {
            self.answer();
        }
        out.to_vec()
    }

    fn answer(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            let connection = &mut self.connection;
            match event {
                Event::Connect(_) => connection.handle_accepted(self.now, Accepted::default()),
                Event::Publish {
                    token: Some(token), ..
                } => connection.handle_committed(token, Ok(())),
                Event::Release { token, .. } => connection.handle_released(token),
                Event::Assign { token, .. } => connection.handle_assigned(token),
                Event::Received { token, .. } => connection.handle_received(token),
                Event::Subscribe { token, filters, .. } => {
                    let granted = filters.iter().map(SubscriptionRequest::granted).collect();
                    connection.handle_subscribed(token, granted);
                }
                Event::Unsubscribe { token, filters } => {
                    connection.handle_unsubscribed(token, vec![ReasonCode::Success; filters.len()]);
                }
                _ => {}
            }
        }
    }

    /// In a case's state.
    fn in_state(version: Version, state: State) -> Self {
        let mut server = Self::new();
        if state == State::Fresh {
            return server;
        }
        let connack = server.send(&Connect::new(version, "hostile").bytes());
        assert_eq!((connack[0], connack[3]), (0x20, 0));
        match state {
            State::Receiving => {
                let publish = Publish::new(version, "a", "x").qos(2, 1);
                assert_eq!(server.send(&publish.bytes())[0], wire::PUBREC);
            }
            State::Delivering => {
                for (token, qos) in [(1, Qos::AtLeastOnce), (2, Qos::ExactlyOnce)] {
                    let _ = server
                        .connection
                        .handle_deliver(server.now, delivery(token, qos));
                    server.answer();
                    assert_eq!(server.transmitted()[0] & 0xf0, wire::PUBLISH);
                }
            }
            State::Fresh | State::Connected => {}
        }
        server
    }
}

fn delivery(token: u64, qos: Qos) -> Delivery {
    Delivery {
        token: DeliveryToken(token),
        message: Arc::new(Message {
            topic: Text::try_from("a").unwrap(),
            ..Message::default()
        }),
        qos,
        qos_max: Qos::ExactlyOnce,
        retain: false,
        subscription_identifiers: Vec::new(),
        expires_at: None,
        resent: None,
    }
}

/// What is wrong with the answer to a case.
fn check(case: &Case) -> Result<(), String> {
    let mut server = Server::in_state(case.version, case.state);
    let answer = server.send(&case.bytes);
    if !server.connection.is_closed() {
        return Err(format!("the connection goes on: {answer:02x?}"));
    }
    let holds = match (case.expected, case.version, &answer[..]) {
        (Expected::Disconnect(reasons), Version::V5, [0xe0, _, reason, ..]) => {
            // It is the only packet, and its last.
            usize::from(answer[1]) + 2 == answer.len() && reasons.contains(reason)
        }
        (Expected::Disconnect(_), Version::V5, _) => false,
        (Expected::Disconnect(_), _, answer) => answer.is_empty(),
        (Expected::Connack(_, silence), _, []) => silence == Silence::Allowed,
        (Expected::Connack(codes, _), _, [0x20, _, 0, code, ..]) => codes.contains(code),
        (Expected::Connack(..), ..) => false,
    };
    match holds {
        true => Ok(()),
        false => Err(format!("answered by {answer:02x?}")),
    }
}

#[test]
fn every_hostile_packet_is_answered_as_the_specification_says() {
    let cases = hostile::cases();
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(why) = check(case) {
            let Case {
                name,
                version,
                state,
                bytes,
                expected,
            } = case;
            let first = &bytes[..bytes.len().min(BYTES_SHOWN)];
            wrong.push(format!(
                "{version:?} {state:?} {name}: {why}; {expected:x?} for {first:02x?}"
            ));
        }
    }
    println!("{} cases", cases.len());
    assert!(cases.len() > CASES_MIN, "only {} cases", cases.len());
    let first: Vec<_> = wrong.iter().take(WRONG_SHOWN).map(String::as_str).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        first.join("\n")
    );
}

/// Otherwise a case might be refused for something else than what it was made for.
#[test]
fn what_they_are_made_from_is_taken() {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        for (state, base) in hostile::CONNECTED.into_iter().flat_map(|state| {
            hostile::bases(version)
                .into_iter()
                .map(move |base| (state, base))
        }) {
            let mut server = Server::in_state(version, state);
            let answer = server.send(&base.bytes());
            let ended = server.connection.is_closed();
            assert_eq!(
                ended,
                base.name == "DISCONNECT",
                "{version:?} {}: {answer:02x?}",
                base.name
            );
            assert!(!ended || answer.is_empty(), "{answer:02x?}");
        }
    }
}
