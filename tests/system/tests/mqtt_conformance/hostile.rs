//! A sample of the generated hostile packets, sent to the running edge. All of them are tried with the
//! session machine alone in `edge/protocol/tests/hostile.rs`.

use tidegate_system_tests::mqtt::hostile::{Case, Expected, Silence, State, cases};

use super::support::*;

/// Each so many'th case. A prime, so that no kind of case is passed over for good.
const EACH: usize = 41;

/// The client of a case, in its state.
fn client_of(case: &Case) -> Peer {
    let version = case.version;
    match case.state {
        State::Fresh => Peer::open(broker(), version),
        State::Connected => client(version),
        State::Receiving => {
            let mut peer = client(version);
            peer.send(
                &Publish::new(version, "hostile/received", "x")
                    .qos(2, 1)
                    .bytes(),
            );
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

fn check(case: &Case) {
    let mut peer = client_of(case);
    peer.send(&case.bytes);
    let mut packets = peer.end();
    let last = packets.pop().map(|packet| (packet.kind(), packet.reason()));
    let holds = match (case.expected, case.version, last) {
        (Expected::Disconnect(reasons), V5, Some((wire::DISCONNECT, reason))) => {
            reasons.contains(&reason)
        }
        (Expected::Disconnect(_), V5, _) => false,
        (Expected::Disconnect(_), _, last) => last.is_none(),
        (Expected::Connack(codes, _), _, Some((wire::CONNACK, code))) => codes.contains(&code),
        (Expected::Connack(_, silence), _, last) => last.is_none() && silence == Silence::Allowed,
    };
    assert!(
        holds && packets.is_empty(),
        "{case:x?} was answered by {last:x?} after {packets:x?}"
    );
}

#[test]
fn v5_4_13_1_1_hostile_packets_of_every_kind_end_the_connection() {
    clauses!(v5 "4.13.1-1" "3.1.4-1" "1.5.4-1" "1.5.4-2" "2.1.3-1" "3.4.2-1" "3.5.2-1" "3.6.2-1" "3.7.2-1";
        v311 "4.8.0-1" "3.1.4-1" "1.5.3-1" "1.5.3-2" "2.2.2-2");
    let mut bystander = client(V5);
    let all = cases();
    let mut count = 0;
    for case in all.iter().step_by(EACH) {
        check(case);
        count += 1;
    }
    bystander.nothing();
    println!("{count} of {} cases", all.len());
    assert!(count > 300, "{count}");
}
