//! Sequences for `sessions`: a CONNECT, packets of a client with small numbers that meet, and a driver that
//! does this and that. The client can be somebody who proves a name (SCRAM), at CONNECT and again later: the
//! nonces are those of a fixed seed, so its proofs are made once.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::BytesMut;
use tidegate_edge_protocol::mqtt::authentication::{SCRAM, Users, Verifier};
use tidegate_edge_protocol::mqtt::codec::{Decoder, Packet};
use tidegate_edge_protocol::mqtt::connection::{Accepted, Authenticator, Connection, Event};
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;

use crate::mutate::Random;
use crate::packets::{Version, framed, prefixed};
use crate::scram::{self, METHOD};

const NAME: &str = "pump";
const PASSWORD: &str = "pencil";
const NONCE_SEED: [u8; 32] = [3; 32];

/// Exchanges of one connection whose proofs are known: at CONNECT, and twice again.
const PROOFS: usize = 3;

const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;

/// What the machine offers.
pub fn authenticator() -> Authenticator {
    static USERS: OnceLock<Arc<Users>> = OnceLock::new();
    let users = USERS.get_or_init(|| {
        let verifier =
            Verifier::derive(SCRAM, PASSWORD, b"salt of 16 bytes", 4_096).expect("a password");
        let line = format!("{NAME}:{verifier}\n");
        Arc::new(Users::parse(&line, [1; 32]).expect("a line of a user"))
    });
    Authenticator::new(Arc::clone(users), NONCE_SEED)
}

/// A CONNECT, and steps: what the driver does, and packets.
pub fn input(random: &mut Random) -> Vec<u8> {
    let version = Version::any(random);
    let mut client = Client::new(version, random);
    let mut out = Vec::new();
    step(&mut out, 0, &client.connect(random));
    if client.is_named && random.below(8) > 0 {
        step(&mut out, 0, &client.auth(CONTINUE, &proof(0)));
    }
    for _ in 0..random.below(24) {
        let op = match random.below(3) {
            0 => 0,
            _ => random.number() as u8,
        };
        let mut packets = Vec::new();
        for _ in 0..random.below(3) {
            packets.extend(client.packet(random));
        }
        step(&mut out, op, &packets);
    }
    out
}

fn step(out: &mut Vec<u8>, op: u8, packets: &[u8]) {
    out.push(op);
    out.extend((packets.len() as u16).to_le_bytes());
    out.extend(packets);
}

/// What one client has said of itself.
struct Client {
    version: Version,
    /// Its CONNECT names an authentication method.
    is_named: bool,
    /// Exchanges that it has begun.
    exchanges: usize,
}

impl Client {
    fn new(version: Version, random: &mut Random) -> Self {
        Self {
            version,
            is_named: version == Version::V5 && random.below(2) == 0,
            exchanges: 0,
        }
    }

    fn connect(&mut self, random: &mut Random) -> Vec<u8> {
        let mut body = self.version.name();
        body.extend([2, 0, random.below(3) as u8]);
        // Receive Maximum, and Topic Alias Maximum.
        let maxima = [1 + random.below(4) as u8, random.below(3) as u8];
        let mut properties = vec![0x21, 0, maxima[0], 0x22, 0, maxima[1]];
        if self.is_named {
            properties.extend(authentication(client_first().as_bytes()));
            self.exchanges = 1;
        }
        body.extend(self.version.properties(&properties));
        body.extend(prefixed(b"c"));
        framed(0x10, &body)
    }

    fn auth(&self, reason: u8, data: &[u8]) -> Vec<u8> {
        let properties = self.version.properties(&authentication(data));
        framed(0xf0, &[&[reason], &properties[..]].concat())
    }

    fn packet(&mut self, random: &mut Random) -> Vec<u8> {
        let id = [0, 1 + random.below(5) as u8];
        let none = self.version.properties(&[]);
        let publish = |first, id: &[u8]| framed(first, &[b"\0\x01t", id, &none, b"21"].concat());
        match random.below(if self.is_named { 17 } else { 14 }) {
            0 if random.below(4) == 0 => framed(0xe0, &[]),
            0 => framed(0xc0, &[]),
            1 => framed(0x82, &[&id[..], &none, b"\0\x01#\x01"].concat()),
            2 => framed(0xa2, &[&id[..], &none, b"\0\x01#"].concat()),
            3 => publish(0x30, &[]),
            4..=6 => publish(0x32, &id),
            7 | 8 => publish(0x34, &id),
            9 => framed(0x62, &id),
            10 | 11 => framed(0x40, &id),
            12 => framed(0x50, &id),
            13 => framed(0x70, &id),
            _ => self.prove_again(random),
        }
    }

    /// All of a further exchange, mostly; else a part that is out of place.
    fn prove_again(&mut self, random: &mut Random) -> Vec<u8> {
        let begin = self.auth(AGAIN, client_first().as_bytes());
        match random.below(16) {
            0 => self.auth(CONTINUE, &proof(0)),
            1 => begin,
            _ if self.exchanges == PROOFS => framed(0xc0, &[]),
            _ => {
                let proof = proof(self.exchanges);
                self.exchanges += 1;
                [begin, self.auth(CONTINUE, &proof)].concat()
            }
        }
    }
}

/// Authentication Method and Data.
fn authentication(data: &[u8]) -> Vec<u8> {
    let method = prefixed(METHOD.as_bytes());
    [&[0x15], &method[..], &[0x16], &prefixed(data)].concat()
}

fn client_first() -> String {
    scram::Client::new(NAME, PASSWORD).first()
}

/// The client's last message of its exchange of this number, below `PROOFS`.
fn proof(exchange: usize) -> Vec<u8> {
    static MADE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let made = MADE.get_or_init(proofs);
    made[exchange].clone()
}

/// Made with a machine of its own, which must take them.
fn proofs() -> Vec<Vec<u8>> {
    let now = Instant::now();
    let limits = ConnectionLimits::default();
    let mut server = Decoder::server(limits.packet_bytes_max.get());
    let mut machine = Connection::new(limits, now);
    machine.offer_authentication(authenticator());
    let mut user = scram::Client::new(NAME, PASSWORD);
    let mut client = Client {
        version: Version::V5,
        is_named: true,
        exchanges: 0,
    };
    let mut exchange = |bytes: Vec<u8>| {
        let packet = server.decode(&mut BytesMut::from(&bytes[..]));
        let packet = packet.expect("a packet").expect("a whole one");
        machine.handle_packet(now, packet);
        while let Some(event) = machine.poll_event() {
            if let Event::Connect(_) = event {
                machine.handle_accepted(now, Accepted::default());
            }
        }
        let mut output = BytesMut::new();
        while machine.poll_transmit(&mut output) {}
        let answer = Decoder::client(tidegate_edge_protocol::mqtt::codec::Version::V5, u32::MAX)
            .decode(&mut output);
        answer.expect("a packet").expect("an answer")
    };
    let mut first = client.connect(&mut Random::new(0));
    let mut made = Vec::new();
    for _ in 0..PROOFS {
        let Packet::Auth(challenge) = exchange(first) else {
            panic!("a client that names a method is asked for its proof");
        };
        let challenge = challenge.properties.authentication_data.expect("data");
        let proof = user.last(&String::from_utf8_lossy(&challenge)).into_bytes();
        let is_refused = match exchange(client.auth(CONTINUE, &proof)) {
            Packet::Connack(connack) => connack.reason.is_error(),
            Packet::Auth(auth) => auth.reason.is_error(),
            _ => true,
        };
        assert!(!is_refused, "a right proof is taken");
        made.push(proof);
        first = client.auth(AGAIN, user.first().as_bytes());
    }
    made
}
