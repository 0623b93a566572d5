//! Flow control (4.9, 3.3.4), order (4.6), and the limits that both sides announce.

use super::support::*;

fn with_receive_maximum(max: u16) -> Connect {
    let connect = Connect::lasting(V5, &unique("flow"));
    connect.with(property::two(property::RECEIVE_MAXIMUM, max))
}

#[test]
fn v5_3_3_4_9_the_server_keeps_to_the_receive_maximum() {
    clauses!(v5 "3.3.4-9" "3.3.4-10" "4.9.0-1" "4.9.0-2" "4.9.0-3");
    for (max, qos) in [(1, 1), (3, 1), (1, 2), (3, 2)] {
        let topic = unique("flow");
        let mut peer = connect(&with_receive_maximum(max));
        peer.subscribe(&topic, qos);
        for number in 0..max * 2 {
            publish(V5, &topic, &number.to_string(), 2);
        }
        let first: Vec<_> = (0..max).map(|_| peer.delivery()).collect();
        // No more come; all else is answered.
        peer.nothing();
        peer.subscribe(&unique("other"), 1);
        peer.publish(Publish::new(V5, &unique("other"), "x"), 1);
        for (number, delivered) in (0..).zip(first) {
            assert_eq!(delivered.text(), number.to_string());
            let id = delivered.id.unwrap();
            if qos == 1 {
                peer.send(&wire::ack(wire::PUBACK, id));
            } else {
                // A PUBREC makes no room, a PUBCOMP does.
                peer.send(&wire::ack(wire::PUBREC, id));
                assert_eq!(peer.take(wire::PUBREL).id(), id);
                peer.nothing();
                peer.send(&wire::ack(wire::PUBCOMP, id));
            }
            assert_eq!(peer.delivery().text(), (number + max).to_string());
        }
        peer.nothing();
    }
}

#[test]
fn v5_3_3_4_9_a_refusal_makes_room_and_qos_0_needs_none() {
    clauses!(v5 "3.3.4-9" "4.9.0-2");
    let (topic, free) = (unique("flow"), unique("free"));
    let mut peer = connect(&with_receive_maximum(1));
    peer.subscribe(&topic, 2);
    peer.subscribe(&free, 0);
    publish(V5, &topic, "first", 2);
    let id = peer.delivery().id.unwrap();
    publish(V5, &topic, "second", 1);
    peer.nothing();
    peer.send(&wire::ack_with(wire::PUBREC, id, 0x97));
    assert_eq!(peer.answered_delivery().text(), "second");
    publish(V5, &free, "free", 1);
    assert_eq!(peer.delivery().text(), "free");
}

#[test]
fn v5_3_3_4_7_a_client_that_exceeds_the_servers_is_told_0x93() {
    clauses!(v5 "3.3.4-7" "3.3.4-8");
    let (mut peer, connack) = Peer::asked(broker(), &Connect::new(V5, &unique("flow")));
    let max = connack.property(property::RECEIVE_MAXIMUM).unwrap();
    let max = u16::from_be_bytes([max[0], max[1]]);
    let topic = unique("flow");
    let publish = |id: u16| Publish::new(V5, &topic, "x").qos(2, id).bytes();
    // As many as it may, all of them answered; their PUBRELs do not come.
    for id in 1..=max {
        peer.send(&publish(id));
        assert_eq!(peer.acknowledged(wire::PUBREC, id), 0);
    }
    peer.nothing();
    ends(peer, &publish(max + 1), &[0x93]);
}

#[test]
fn v5_3_2_2_15_a_packet_above_the_servers_maximum_is_told_0x95() {
    clauses!(v5 "3.2.2-15"; v311 "4.8.0-1");
    let (peer, connack) = Peer::asked(broker(), &Connect::new(V5, &unique("large")));
    let max = connack.property(property::MAXIMUM_PACKET_SIZE).unwrap();
    let max = u32::from_be_bytes(max.try_into().unwrap()) as usize;
    // The header alone says it.
    let header =
        |packet_bytes: usize| [vec![0x30], wire::variable(packet_bytes as u32 - 5)].concat();
    ends(peer, &header(max + 10), &[0x95]);
    ends(client(V3_1_1), &header(max + 10), &[]);
    // The largest that may come, does.
    for version in NUMBERED {
        let topic = unique("large");
        let mut subscriber = client(version);
        subscriber.subscribe(&topic, 0);
        let fixed = 4 + 2 + topic.len() + usize::from(version == V5);
        let payload = vec![b'x'; max - fixed];
        client(version).publish(Publish::new(version, &topic, &payload), 0);
        assert_eq!(subscriber.delivery().payload, payload);
    }
}

#[test]
fn v5_4_6_0_5_messages_of_one_client_come_in_their_order() {
    clauses!(v5 "4.6.0-5" "4.6.0-6"; v311 "4.6.0-5" "4.6.0-6");
    for version in NUMBERED {
        let topic = unique("ordered");
        let mut subscribers = [client(version), lasting(version).1];
        for subscriber in &mut subscribers {
            subscriber.subscribe(&topic, 2);
        }
        let mut publisher = client(version);
        for (qos, first) in [(0, None), (1, Some(wire::PUBACK)), (2, Some(wire::PUBREC))] {
            for id in 1..=60 {
                let publish = Publish::new(version, &topic, id.to_string()).qos(qos, id);
                publisher.send(&publish.bytes());
            }
            for subscriber in &mut subscribers {
                for id in 1..=60 {
                    let delivered = subscriber.packet_of_publish();
                    assert_eq!((delivered.text(), delivered.qos), (id.to_string(), qos));
                }
            }
            if let Some(first) = first {
                (1..=60).for_each(|id| assert_eq!(publisher.acknowledged(first, id), 0));
            }
        }
    }
}
