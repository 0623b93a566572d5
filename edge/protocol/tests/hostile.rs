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
#[path = "../../../tests/system/src/mqtt/scram.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests over sockets"
)]
mod scram;
#[path = "../../../tests/system/src/mqtt/wire.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests over sockets"
)]
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::BytesMut;
use hostile::{Awaited, Case, Expected, Silence, State};
use tidegate_edge_protocol::mqtt::authentication::{SCRAM, Users, Verifier};
use tidegate_edge_protocol::mqtt::codec::{Decoder, Message, Qos, Text};
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, Authenticator, Connection, Delivery, DeliveryToken, Event, SubscriptionRequest,
};
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use wire::{Connect, Publish, Version, property};

/// Fewer than this, and the generator has lost something.
const CASES_MIN: usize = 57_000;

/// What is shown of cases that fail.
const WRONG_SHOWN: usize = 20;
const BYTES_SHOWN: usize = 40;

/// A connection with a driver that agrees to everything but what its state says.
struct Server {
    connection: Connection,
    decoder: Decoder,
    now: Instant,
    state: State,
    /// The last events, but those of an end.
    acted: Vec<Event>,
}

impl Server {
    fn new(state: State) -> Self {
        let (limits, now) = (ConnectionLimits::default(), Instant::now());
        let decoder = Decoder::server(limits.packet_bytes_max.get());
        let mut connection = Connection::new(limits, now);
        connection.offer_authentication(Authenticator::new(users(), [3; 32]));
        Self {
            connection,
            decoder,
            now,
            state,
            acted: Vec::new(),
        }
    }

    /// What is sent for these bytes.
    fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut input = BytesMut::from(bytes);
        self.acted.clear();
        loop {
            match self.decoder.decode(&mut input) {
                Ok(Some(packet)) => self.connection.handle_packet(self.now, packet),
                Ok(None) => break,
                Err(error) => {
                    self.connection.handle_decode_error(self.now, &error);
                    break;
                }
            }
            self.answer();
        }
        self.answer();
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
            match event.clone() {
                Event::Connect(_) if self.state == State::Deciding => {}
                Event::Connect(_) => connection.handle_accepted(self.now, Accepted::default()),
                Event::Publish {
                    token: Some(token),
                    publish,
                } if self.state == State::Withheld => {
                    connection.handle_withheld(self.now, token, publish);
                }
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
            if !matches!(event, Event::Closed(_) | Event::WillDue(_)) {
                self.acted.push(event);
            }
        }
    }

    /// In a case's state.
    fn in_state(version: Version, state: State) -> Self {
        let mut server = Self::new(state);
        let connect = Connect::new(version, "hostile");
        match state {
            State::Fresh => return server,
            State::Deciding => {
                assert_eq!(server.send(&connect.bytes()), [0_u8; 0]);
                return server;
            }
            State::Authenticating(awaited) => {
                server.authenticating(connect, awaited);
                return server;
            }
            State::Authenticated => server.authenticated(connect),
            State::Reauthenticating(awaited) => {
                server.authenticated(connect);
                server.asks(0x19, awaited);
            }
            _ => assert_connack(&server.send(&connect.bytes())),
        }
        server.go_on(version);
        server
    }

    /// What a client that is connected has done since.
    fn go_on(&mut self, version: Version) {
        let publish = |qos| Publish::new(version, "a", "x").qos(qos, 1).bytes();
        match self.state {
            State::Receiving => assert_eq!(self.send(&publish(2))[0], wire::PUBREC),
            State::Withheld => {
                assert_eq!(self.send(&publish(1)), [0_u8; 0]);
                assert_eq!(self.connection.withheld().0, 1);
            }
            State::Delivering => {
                for (token, qos) in [(1, Qos::AtLeastOnce), (2, Qos::ExactlyOnce)] {
                    let _ = self
                        .connection
                        .handle_deliver(self.now, delivery(token, qos));
                    self.answer();
                    assert_eq!(self.transmitted()[0] & 0xf0, wire::PUBLISH);
                }
            }
            _ => {}
        }
    }

    /// Gives the server's last words before it awaits this message.
    fn authenticating(&mut self, connect: Connect, awaited: Awaited) -> Vec<u8> {
        let method = property::bytes(property::AUTHENTICATION_METHOD, scram::METHOD);
        let asked = self.send(&connect.with(method).bytes());
        assert_eq!((asked[0], asked[2]), (wire::AUTH, 0x18));
        match awaited {
            Awaited::First => asked,
            Awaited::Final => self.asks(0x18, awaited),
        }
    }

    /// Sends its first message, or says without one that it has one.
    fn asks(&mut self, reason: u8, awaited: Awaited) -> Vec<u8> {
        let method = property::bytes(property::AUTHENTICATION_METHOD, scram::METHOD);
        let first = scram::Client::new("pump", "pencil").first();
        let data = property::bytes(property::AUTHENTICATION_DATA, first);
        let properties = match awaited {
            Awaited::First => wire::block(&[method]),
            Awaited::Final => wire::block(&[method, data]),
        };
        let auth = wire::packet(wire::AUTH, &[vec![reason], properties].concat());
        let said = self.send(&auth);
        assert_eq!((said[0], said[2]), (wire::AUTH, 0x18));
        said
    }

    fn authenticated(&mut self, connect: Connect) {
        let said = self.authenticating(connect, Awaited::Final);
        assert_connack(&self.send(&proof(&said)));
    }
}

fn assert_connack(said: &[u8]) {
    assert_eq!((said[0], said[3]), (wire::CONNACK, 0), "{said:02x?}");
}

fn users() -> Arc<Users> {
    static USERS: OnceLock<Arc<Users>> = OnceLock::new();
    let users = USERS.get_or_init(|| {
        let verifier = Verifier::derive(SCRAM, "pencil", b"salt of 16 bytes", 4_096).unwrap();
        Arc::new(Users::parse(&format!("pump:{verifier}\n"), [1; 32]).unwrap())
    });
    Arc::clone(users)
}

/// The AUTH that answers the server's challenge.
fn proof(challenge: &[u8]) -> Vec<u8> {
    static CLIENT: OnceLock<std::sync::Mutex<scram::Client>> = OnceLock::new();
    let client = CLIENT.get_or_init(|| scram::Client::new("pump", "pencil").into());
    let text = String::from_utf8_lossy(challenge);
    let server_first = &text[text.find("r=").unwrap()..];
    let last = client.lock().unwrap().last(server_first);
    hostile::auth_with_data(0x18, last.as_bytes()).bytes()
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
        priority: 0,
    }
}

/// What the driver says to a CONNECT once all of a case is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Accept,
    Reject,
}

/// What is wrong with the answer to a case.
fn check(case: &Case, decision: Decision) -> Result<(), String> {
    let mut server = Server::in_state(case.version, case.state);
    let mut answer = server.send(&case.bytes);
    if case.state == State::Deciding {
        match decision {
            Decision::Accept => {
                let (connection, now) = (&mut server.connection, server.now);
                connection.handle_accepted(now, Accepted::default());
            }
            Decision::Reject => server.connection.handle_rejected(ReasonCode::NotAuthorized),
        }
        server.answer();
        answer.extend(server.transmitted());
    }
    if !server.connection.is_closed() {
        return Err(format!("the connection goes on: {answer:02x?}"));
    }
    if !server.acted.is_empty() {
        return Err(format!("it led to {:?}", server.acted));
    }
    let holds = match case.expected {
        Expected::Undecided {
            connack,
            disconnect,
        } => match decision {
            Decision::Accept => is_undecided(case.version, connack, disconnect, &answer),
            Decision::Reject => is_rejected(case.version, connack, &answer),
        },
        Expected::Disconnect(reasons) => is_disconnect(case.version, reasons, &answer),
        Expected::Connack(codes, silence) => match &answer[..] {
            [] => silence == Silence::Allowed,
            answer => is_connack(codes, answer),
        },
    };
    match holds {
        true => Ok(()),
        false => Err(format!("answered by {answer:02x?}")),
    }
}

/// The only packet, and its last.
fn is_connack(codes: &[u8], answer: &[u8]) -> bool {
    matches!(answer, [0x20, length, 0, code, ..]
        if usize::from(*length) + 2 == answer.len() && codes.contains(code))
}

/// The same.
fn is_disconnect(version: Version, reasons: &[u8], answer: &[u8]) -> bool {
    match (version, answer) {
        (Version::V5, [0xe0, length, reason, ..]) => {
            usize::from(*length) + 2 == answer.len() && reasons.contains(reason)
        }
        (Version::V5, _) => false,
        (_, answer) => answer.is_empty(),
    }
}

fn is_undecided(version: Version, connack: &[u8], disconnect: &[u8], answer: &[u8]) -> bool {
    match answer {
        [0x20, length, 0, 0, ..] => {
            is_disconnect(version, disconnect, &answer[usize::from(*length) + 2..])
        }
        [] => version < Version::V5,
        answer => version == Version::V5 && is_connack(connack, answer),
    }
}

/// Nothing of what is behind the CONNECT is looked at [MQTT-3.1.4-6], or it was what ended the connection.
fn is_rejected(version: Version, connack: &[u8], answer: &[u8]) -> bool {
    match (version, answer) {
        (Version::V5, answer) => is_connack(&[0x87], answer) || is_connack(connack, answer),
        (_, []) => true,
        (_, answer) => answer == b"\x20\x02\0\x05",
    }
}

#[test]
fn every_hostile_packet_is_answered_as_the_specification_says() {
    let cases = hostile::cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let mut decisions = vec![Decision::Accept];
        decisions.extend((case.state == State::Deciding).then_some(Decision::Reject));
        for decision in decisions {
            if let Err(why) = check(case, decision) {
                wrong.push(shown(case, &why));
            }
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

fn shown(case: &Case, why: &str) -> String {
    let Case {
        name,
        version,
        state,
        bytes,
        expected,
    } = case;
    let first = &bytes[..bytes.len().min(BYTES_SHOWN)];
    format!("{version:?} {state:?} {name}: {why}; {expected:x?} for {first:02x?}")
}

/// Otherwise a case might be refused for something else than what it was made for.
#[test]
fn what_they_are_made_from_is_taken() {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        for state in State::all(version) {
            for base in hostile::bases(version) {
                if state.takes_all() || base.name == "DISCONNECT" {
                    assert_taken(version, state, &base.name, &base.bytes());
                }
            }
            let begins = state == State::Authenticated || state.awaited() == Some(Awaited::First);
            if begins {
                let answer = assert_taken(version, state, "AUTH", &hostile::auth(state).bytes());
                assert_eq!((answer[0], answer[2]), (wire::AUTH, 0x18));
            }
        }
    }
}

fn assert_taken(version: Version, state: State, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut server = Server::in_state(version, state);
    let mut answer = server.send(bytes);
    if state == State::Deciding {
        let (connection, now) = (&mut server.connection, server.now);
        connection.handle_accepted(now, Accepted::default());
        server.answer();
        answer.extend(server.transmitted());
    }
    let ended = server.connection.is_closed();
    assert_eq!(
        ended,
        name == "DISCONNECT",
        "{version:?} {state:?} {name}: {answer:02x?}"
    );
    assert!(!ended || answer.is_empty(), "{answer:02x?}");
    answer
}

/// A proof is taken with everything that an AUTH may have.
#[test]
fn who_proves_what_it_says_is_let_in_and_goes_on() {
    let mut server = Server::new(State::Authenticated);
    server.authenticated(Connect::new(Version::V5, "hostile"));
    for _ in 0..2 {
        let challenge = server.asks(0x19, Awaited::Final);
        let said = server.send(&proof(&challenge));
        assert_eq!((said[0], said[2]), (wire::AUTH, 0x00));
    }
    assert!(server.connection.is_connected());
}
