//! A client that takes small packets only (3.1.2.11.4).

use super::support::*;

/// What the CONNACK takes, and little more.
const SMALL: u32 = 30;

fn small(connect: Connect) -> Connect {
    connect.with(property::four(property::MAXIMUM_PACKET_SIZE, SMALL))
}

/// The bytes of a packet as they were on the wire; all here have one byte of length.
fn size(packet: &Packet) -> usize {
    2 + packet.body.len()
}

#[test]
fn v5_3_1_2_24_no_packet_exceeds_the_clients_maximum() {
    clauses!(v5 "3.1.2-24" "3.1.2-25");
    let topic = unique("t");
    for (asked, qos) in [
        (small(Connect::lasting(V5, &unique("small"))), 1),
        (small(Connect::lasting(V5, &unique("small"))), 2),
        (small(Connect::new(V5, &unique("small"))), 0),
        (small(Connect::new(V5, &unique("small"))), 1),
    ] {
        let mut peer = connect(&asked);
        peer.subscribe(&topic, qos);
        let mut publisher = client(V5);
        let length = SMALL as usize - topic.len() - 5 - 2 * usize::from(qos > 0);
        // One that fits to the byte, one that is a byte longer, and one that is much longer.
        for length in [length, length + 1, 1_000, length] {
            publisher.publish(Publish::new(V5, &topic, vec![b'x'; length]), qos);
        }
        for _ in 0..2 {
            let packet = peer.take(wire::PUBLISH);
            assert_eq!(size(&packet), SMALL as usize);
            let id = packet.publish().id;
            match (qos, id) {
                (1, Some(id)) => peer.send(&wire::ack(wire::PUBACK, id)),
                (2, Some(id)) => {
                    peer.send(&wire::ack(wire::PUBREC, id));
                    peer.wait_for_pubrel(id);
                    peer.send(&wire::ack(wire::PUBCOMP, id));
                }
                _ => {}
            }
        }
        peer.nothing();
    }
}

#[test]
fn v5_3_1_2_25_what_is_too_large_is_done_with() {
    clauses!(v5 "3.1.2-25");
    let topic = unique("t");
    let again = small(Connect::lasting(V5, &unique("small")));
    let mut peer = connect(&again);
    peer.subscribe(&topic, 1);
    publish(V5, &topic, &"x".repeat(100), 1);
    publish(V5, &topic, "y", 1);
    assert_eq!(peer.answered_delivery().text(), "y");
    peer.leave();
    // It does not come later either, where it would fit.
    let mut wide = again;
    wide.properties.pop();
    let mut peer = come_back(&wide);
    publish(V5, &topic, "z", 1);
    assert_eq!(peer.answered_delivery().text(), "z");
}

#[test]
fn v5_3_2_2_19_a_refusing_connack_keeps_to_it() {
    clauses!(v5 "3.2.2-19" "3.2.2-20");
    let method = property::bytes(property::AUTHENTICATION_METHOD, "nobody-has-this");
    let asked = Connect::new(V5, &unique("small")).with(method);
    let smallest = asked.with(property::four(property::MAXIMUM_PACKET_SIZE, 10));
    let (mut peer, connack) = Peer::asked(broker(), &smallest);
    assert!(connack.reason() >= 0x80);
    assert!(size(&connack) <= 10, "{connack:x?}");
    assert_eq!(peer.end(), []);
}

#[test]
fn v5_3_14_2_3_a_disconnect_keeps_to_it() {
    clauses!(v5 "3.14.2-3" "3.14.2-4");
    for bad in [
        wire::packet(0x00, &[]),
        Connect::new(V5, "again").bytes(),
        Publish::new(V5, "a", "x").qos(3, 1).bytes(),
    ] {
        let mut peer = connect(&small(Connect::new(V5, &unique("small"))));
        peer.send(&bad);
        let last = peer.end();
        assert_eq!(last.len(), 1);
        assert_eq!(last[0].kind(), wire::DISCONNECT);
        assert!(size(&last[0]) <= SMALL as usize, "{last:x?}");
    }
}

#[test]
fn v5_3_4_2_2_acknowledgements_keep_to_it() {
    clauses!(v5 "3.4.2-2" "3.4.2-3" "3.5.2-2" "3.5.2-3" "3.6.2-2" "3.6.2-3" "3.7.2-2" "3.7.2-3"
        "3.9.2-1" "3.9.2-2" "3.11.2-1" "3.11.2-2");
    let topic = unique("t");
    let mut peer = connect(&small(Connect::new(V5, &unique("small"))));
    let mut answers = Vec::new();
    // Of success and of errors alike.
    let mut ask = |bytes: &[u8]| {
        peer.send(bytes);
        answers.push(peer.packet());
    };
    ask(&wire::subscribe(V5, 1, &[(&topic, 2)]));
    ask(&Publish::new(V5, "o", "x").qos(1, 2).bytes());
    ask(&Publish::new(V5, "$SYS/broker/x", "x").qos(1, 3).bytes());
    ask(&Publish::new(V5, "o", "x").qos(2, 4).bytes());
    ask(&Publish::new(V5, "$SYS/broker/x", "x").qos(2, 5).bytes());
    ask(&wire::ack(wire::PUBREL, 4));
    ask(&wire::ack(wire::PUBREL, 6));
    ask(&wire::ack(wire::PUBREC, 7));
    ask(&wire::unsubscribe(V5, 8, &["n"]));
    let kinds: Vec<_> = answers.iter().map(|packet| packet.first).collect();
    assert_eq!(
        kinds,
        [0x90, 0x40, 0x40, 0x50, 0x50, 0x70, 0x70, 0x62, 0xb0]
    );
    assert!(answers.iter().all(|packet| size(packet) <= SMALL as usize));
}
