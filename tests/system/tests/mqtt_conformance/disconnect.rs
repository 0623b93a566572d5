//! DISCONNECT and the end of connections (3.14, 4.13).

use super::support::*;

#[test]
fn v5_3_14_4_1_nothing_follows_a_disconnect() {
    clauses!(v5 "3.14.4-1" "3.14.4-2" "3.14.2-1" "3.14.2-2" "4.13.2-1");
    for (bad, reason) in [
        (wire::packet(0x00, &[]), 0x81),
        (wire::packet(wire::PINGRESP, &[]), 0x82),
        (
            Publish::new(V5, "a", "x")
                .with(property::two(property::TOPIC_ALIAS, 0))
                .bytes(),
            0x94,
        ),
    ] {
        let topic = unique("after");
        let mut peer = client(V5);
        peer.subscribe(&topic, 0);
        // What comes behind it in the same segment is not answered.
        let behind = [vec![0xc0, 0], wire::subscribe(V5, 1, &[("a", 0)])].concat();
        peer.send(&[bad, behind].concat());
        publish(V5, &topic, "x", 1);
        let packets = peer.end();
        let last = packets.last().unwrap();
        assert_eq!(
            (last.kind(), last.reason()),
            (wire::DISCONNECT, reason),
            "{packets:x?}"
        );
        assert_eq!(
            packets
                .iter()
                .filter(|packet| packet.kind() == wire::DISCONNECT)
                .count(),
            1
        );
        assert_eq!(last.property(property::SESSION_EXPIRY), None);
    }
}

#[test]
fn v311_3_14_4_2_nothing_behind_a_clients_disconnect_is_processed() {
    clauses!(v311 "3.14.4-1" "3.14.4-2"; v5 "3.14.4-1" "3.14.4-2");
    for version in NUMBERED {
        let topic = unique("behind");
        let mut watcher = client(version);
        watcher.subscribe(&topic, 1);
        let mut peer = client(version);
        let behind = Publish::new(version, &topic, "behind").bytes();
        peer.send(&[wire::disconnect(), behind, vec![0xc0, 0]].concat());
        assert_eq!(
            peer.end(),
            [],
            "the server closes what the client left open"
        );
        publish(version, &topic, "last", 1);
        assert_eq!(watcher.answered_delivery().text(), "last");
    }
}

#[test]
fn v5_3_14_2_1_a_code_that_no_disconnect_has_ends_it_all_the_same() {
    clauses!(v5 "3.14.2-1");
    for code in [0x01, 0x02, 0x10, 0x18, 0x84, 0x85, 0x91, 0x92, 0xff] {
        ends(
            client(V5),
            &wire::packet(wire::DISCONNECT, &[code]),
            &[0x81, 0x82],
        );
    }
}

#[test]
fn v5_3_14_2_2_an_expiry_that_grows_from_0_is_an_error() {
    clauses!(v5 "3.14.2-2" "4.13.1-1");
    let longer = wire::disconnect_with(0, &[property::four(property::SESSION_EXPIRY, 5)]);
    ends(client(V5), &longer, &[0x82]);
    let (_, mut peer) = lasting(V5);
    peer.send(&longer);
    assert_eq!(peer.end(), []);
}

#[test]
fn v5_4_13_1_1_an_error_of_one_client_is_no_other_ones() {
    clauses!(v5 "4.13.1-1" "4.13.2-1"; v311 "4.8.0-1");
    for version in NUMBERED {
        let topic = unique("bystander");
        let mut bystander = client(version);
        bystander.subscribe(&topic, 1);
        ends(client(version), &[0x00, 0x00], &[0x81]);
        publish(version, &topic, "x", 1);
        assert_eq!(bystander.answered_delivery().text(), "x");
    }
}
