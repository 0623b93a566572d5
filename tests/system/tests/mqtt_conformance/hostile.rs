//! A sample of the generated hostile packets, sent to the running edge. All of them are tried with the
//! session machine alone in `edge/protocol/tests/hostile.rs`.

use tidegate_system_tests::mqtt::hostile::{Case, Expected, Silence, State, cases};

use super::support::*;

/// Each so many'th case. A prime, so that no kind of case is passed over for good.
const EACH: usize = 11;

/// The client of a case, in its state.
fn client_of(case: &Case, user: &mut scram::Client) -> Peer {
    let version = case.version;
    match case.state {
        // An edge without users refuses any method at once.
        State::Fresh => Peer::open(edge_with_user().mqtt, version),
        State::Deciding => {
            // What is hostile follows at once.
            let mut peer = Peer::open(broker(), version);
            let connect = Connect::new(version, &unique("client")).bytes();
            peer.send(&[connect, case.bytes.clone()].concat());
            peer
        }
        State::Authenticating(awaited) => authenticating(awaited, user).0,
        State::Authenticated => authenticated(user),
        State::Reauthenticating(awaited) => {
            let mut peer = authenticated(user);
            asks(&mut peer, 0x19, awaited, user);
            peer
        }
        State::Connected | State::Withheld => client(version),
        State::Receiving => {
            let mut peer = client(version);
            let publish = Publish::new(version, "hostile/received", "x").qos(2, 1);
            peer.send(&publish.bytes());
            peer.acknowledged(wire::PUBREC, 1);
            peer
        }
        State::Delivering => {
            let topic = unique("delivering");
            let mut peer = client(version);
            peer.subscribe(&topic, 2);
            for qos in [1, 2] {
                publish(version, &topic, "x", qos);
                peer.delivery();
            }
            peer
        }
    }
}

fn check(case: &Case, user: &mut scram::Client) {
    let mut peer = client_of(case, user);
    if case.state != State::Deciding {
        peer.send(&case.bytes);
    }
    let mut packets = peer.end();
    let is_accepted = |packet: &Packet| (packet.kind(), packet.reason()) == (wire::CONNACK, 0);
    if case.state == State::Deciding && packets.first().is_some_and(is_accepted) {
        packets.remove(0);
    }
    let last = packets.pop().map(|packet| (packet.kind(), packet.reason()));
    let (connack, disconnect, silence) = match case.expected {
        Expected::Disconnect(reasons) => (&[][..], reasons, Silence::Wrong),
        Expected::Connack(codes, silence) => (codes, &[][..], silence),
        Expected::Undecided {
            connack,
            disconnect,
        } => (connack, disconnect, Silence::Wrong),
    };
    let is_older = case.version < V5 && !matches!(case.expected, Expected::Connack(..));
    let holds = match last {
        None => silence == Silence::Allowed || is_older,
        Some((wire::CONNACK, code)) => connack.contains(&code) && !is_older,
        Some((wire::DISCONNECT, reason)) => disconnect.contains(&reason) && !is_older,
        Some(_) => false,
    };
    assert!(
        holds && packets.is_empty(),
        "{case:x?} was answered by {last:x?} after {packets:x?}"
    );
}

#[test]
fn v5_4_13_1_1_hostile_packets_of_every_kind_end_the_connection() {
    clauses!(v5 "4.13.1-1" "3.1.4-1" "1.5.4-1" "1.5.4-2" "2.1.3-1" "3.4.2-1" "3.5.2-1" "3.6.2-1" "3.7.2-1"
        "3.1.2-30" "3.14.0-1" "3.15.1-1" "3.15.2-1" "4.12.0-4" "4.12.0-7";
        v311 "4.8.0-1" "3.1.4-1" "1.5.3-1" "1.5.3-2" "2.2.2-2");
    let mut user = scram::Client::new("pump", "pencil");
    let mut bystander = client(V5);
    // A full journal is what `fullness` is about.
    let all: Vec<_> = cases()
        .into_iter()
        .filter(|case| case.state != State::Withheld)
        .collect();
    let mut count = 0;
    for case in all.iter().step_by(EACH) {
        check(case, &mut user);
        count += 1;
    }
    bystander.nothing();
    println!("{count} of {} cases", all.len());
    assert!(count > 5_000, "{count}");
}
