//! The keep alive (3.1.2.10).

use std::time::{Duration, Instant};

use tidegate_system_tests::wait;

use super::support::*;

#[test]
fn v5_3_1_2_22_a_silent_client_is_closed_after_one_and_a_half_times() {
    clauses!(v5 "3.1.2-20" "3.1.2-22" "3.2.2-22"; v311 "3.1.2-23" "3.1.2-24");
    let (topic, mut seen) = watcher(V5);
    let silent = |version, keep_alive: u16| {
        let connect = Connect::new(version, &unique("silent")).keep_alive(keep_alive);
        connect.will(Will::new(&topic, &keep_alive.to_string()))
    };
    // Its time is over later than that of the others.
    let mut patient = connect(&silent(V5, 4));
    let began = Instant::now();
    let peers = NUMBERED.map(|version| (version, connect(&silent(version, 1))));
    for (version, mut peer) in peers {
        let last = peer.end();
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1_500), "{took:?}");
        match version {
            V5 => assert_eq!(last[0].reason(), 0x8d),
            _ => assert_eq!(last, []),
        }
    }
    patient.end();
    for keep_alive in ["1", "1", "4"] {
        assert_eq!(seen.delivery().text(), keep_alive);
    }
}

#[test]
fn v5_3_1_2_22_any_packet_keeps_it_alive() {
    clauses!(v5 "3.1.2-22"; v311 "3.1.2-24");
    let mut peers =
        NUMBERED.map(|version| connect(&Connect::new(version, &unique("lively")).keep_alive(2)));
    let began = Instant::now();
    // It speaks within its time for longer than one and a half times of it.
    wait::until("they have spoken for longer", wait::SOON, || {
        for peer in &mut peers {
            peer.nothing();
        }
        (began.elapsed() >= Duration::from_secs(4)).then_some(())
    });
}

#[test]
fn v5_3_2_2_22_without_a_server_keep_alive_the_clients_own_counts() {
    clauses!(v5 "3.2.2-22" "3.2.2-21" "3.1.2-21");
    let asked = Connect::new(V5, &unique("own")).keep_alive(1);
    let (mut peer, connack) = Peer::asked(broker(), &asked);
    assert_eq!(connack.property(property::SERVER_KEEP_ALIVE), None);
    assert_eq!(peer.end()[0].reason(), 0x8d);
    // 0 is none: it is still there after another has been closed.
    let mut none = client(V5);
    connect(&asked).end();
    none.nothing();
}

#[test]
fn v5_3_2_2_21_a_server_keep_alive_counts_in_place_of_the_clients() {
    clauses!(v5 "3.2.2-21" "3.1.2-21" "3.1.2-22"; v311 "3.1.2-24");
    let other = edge_with_keep_alive_max(1);
    for asked in [0, 600] {
        let connect = Connect::new(V5, &unique("told")).keep_alive(asked);
        let (mut peer, connack) = Peer::asked(other.mqtt, &connect);
        assert_eq!(
            connack.property(property::SERVER_KEEP_ALIVE),
            Some(vec![0, 1])
        );
        assert_eq!(peer.end()[0].reason(), 0x8d);
    }
    // An older client can't be told: its own counts.
    let mut older = Peer::connected(other.mqtt, &Connect::new(V3_1_1, &unique("told")));
    let connect = Connect::new(V5, &unique("told"));
    Peer::connected(other.mqtt, &connect).end();
    older.nothing();
}
