//! What a PUBLISH must be like (3.3.1, 3.3.2), and how it is answered (3.3.4).

use super::support::*;

#[test]
fn v5_3_3_1_4_qos_3_ends_the_connection() {
    clauses!(v5 "3.3.1-4"; v311 "3.3.1-4");
    each_ends(
        |version| Publish::new(version, "a", "x").qos(3, 1).bytes(),
        &[0x81],
    );
}

#[test]
fn v5_3_3_1_2_dup_at_qos_0_ends_the_connection() {
    clauses!(v5 "3.3.1-2"; v311 "3.3.1-2");
    // The specification names no code for it.
    each_ends(
        |version| Publish::new(version, "a", "x").duplicate().bytes(),
        &[0x81, 0x82],
    );
}

#[test]
fn v5_3_3_1_3_dup_is_not_handed_on() {
    clauses!(v5 "3.3.1-3"; v311 "3.3.1-3");
    for version in NUMBERED {
        for (_, mut subscriber) in [
            lasting(version),
            (Connect::new(version, ""), client(version)),
        ] {
            let topic = unique("dup");
            subscriber.subscribe(&topic, 2);
            let mut publisher = client(version);
            publisher.publish(Publish::new(version, &topic, "1").duplicate(), 1);
            publisher.publish(Publish::new(version, &topic, "2").duplicate(), 2);
            for _ in 0..2 {
                assert!(!subscriber.answered_delivery().duplicate);
            }
        }
    }
}

#[test]
fn v5_3_3_2_2_a_wildcard_in_a_topic_ends_the_connection() {
    clauses!(v5 "3.3.2-2" "4.7.0-1"; v311 "3.3.2-2" "4.7.1-1");
    for topic in ["#", "+", "a/+", "a/#", "a+b", "a#"] {
        // 0x90 is for topics that are of the right form; the specification names no code for others.
        each_ends(
            |version| Publish::new(version, topic, "x").bytes(),
            &[0x81, 0x82, 0x90],
        );
    }
}

#[test]
fn v5_3_3_2_14_a_wildcard_in_a_response_topic_ends_the_connection() {
    clauses!(v5 "3.3.2-14");
    for topic in ["#", "a/+", "a+b"] {
        let publish = Publish::new(V5, "a", "x");
        let publish = publish.with(property::bytes(property::RESPONSE_TOPIC, topic));
        ends(client(V5), &publish.bytes(), &[0x81, 0x82, 0x90]);
    }
}

#[test]
fn v5_3_3_4_6_a_subscription_identifier_from_a_client_ends_the_connection() {
    clauses!(v5 "3.3.4-6");
    let publish = Publish::new(V5, "a", "x").with(property::identifier(1));
    ends(client(V5), &publish.bytes(), &[0x82]);
}

#[test]
fn v5_3_3_4_1_each_qos_has_its_answer() {
    clauses!(v5 "3.3.4-1" "4.3.2-4" "4.3.3-8" "4.3.3-11"; v311 "3.3.4-1" "4.3.2-2" "4.3.3-2");
    for version in NUMBERED {
        let topic = unique("answered");
        let mut peer = client(version);
        peer.send(&Publish::new(version, &topic, "0").bytes());
        peer.nothing();
        peer.send(&Publish::new(version, &topic, "1").qos(1, 5).bytes());
        assert_eq!(peer.acknowledged(wire::PUBACK, 5), 0);
        peer.send(&Publish::new(version, &topic, "2").qos(2, 6).bytes());
        assert_eq!(peer.acknowledged(wire::PUBREC, 6), 0);
        peer.nothing();
        peer.send(&wire::ack(wire::PUBREL, 6));
        assert_eq!(peer.acknowledged(wire::PUBCOMP, 6), 0);
        peer.nothing();
    }
}

#[test]
fn v5_4_3_2_5_after_its_puback_an_identifier_is_a_new_message() {
    clauses!(v5 "4.3.2-5" "4.3.3-12"; v311 "4.3.2-2" "4.3.3-2");
    for version in NUMBERED {
        let topic = unique("again");
        let mut subscriber = client(version);
        subscriber.subscribe(&topic, 2);
        let mut peer = client(version);
        for qos in [1, 2] {
            for payload in ["first", "second", "third"] {
                let publish = Publish::new(version, &topic, payload).qos(qos, 9);
                let publish = if payload == "second" {
                    publish.duplicate()
                } else {
                    publish
                };
                peer.send(&publish.bytes());
                if qos == 1 {
                    peer.acknowledged(wire::PUBACK, 9);
                } else {
                    peer.acknowledged(wire::PUBREC, 9);
                    peer.send(&wire::ack(wire::PUBREL, 9));
                    peer.acknowledged(wire::PUBCOMP, 9);
                }
                assert_eq!(subscriber.answered_delivery().text(), payload);
            }
        }
    }
}

#[test]
fn v311_3_3_5_2_what_is_not_authorised_is_acknowledged_and_goes_to_nobody() {
    clauses!(v311 "3.3.5-2"; v5 "3.4.2-1" "3.5.2-1");
    let topic = "$SYS/broker/conformance";
    for version in NUMBERED {
        let mut subscriber = client(version);
        subscriber.subscribe(topic, 2);
        let mut peer = client(version);
        let refused = if version == V5 { 0x87 } else { 0 };
        peer.send(&Publish::new(version, topic, "x").qos(1, 1).bytes());
        assert_eq!(peer.acknowledged(wire::PUBACK, 1), refused);
        peer.send(&Publish::new(version, topic, "x").qos(2, 2).bytes());
        assert_eq!(peer.acknowledged(wire::PUBREC, 2), refused);
        subscriber.nothing();
    }
}

#[test]
fn v5_4_6_0_2_acknowledgements_come_in_order() {
    clauses!(v5 "4.6.0-2" "4.6.0-3" "4.6.0-4"; v311 "4.6.0-2" "4.6.0-3" "4.6.0-4");
    // They bind clients; the server's own are in order, too.
    for version in NUMBERED {
        let mut peer = client(version);
        let topic = unique("order");
        for (qos, first) in [(1, wire::PUBACK), (2, wire::PUBREC)] {
            let ids: Vec<u16> = (0..50).map(|at| 1 + (at * 37) % 50).collect();
            let publish = |id: &u16| Publish::new(version, &topic, "x").qos(qos, *id).bytes();
            peer.send(&ids.iter().flat_map(publish).collect::<Vec<_>>());
            ids.iter()
                .for_each(|id| assert_eq!(peer.acknowledged(first, *id), 0));
        }
        let pubrels = (1..=50).rev().flat_map(|id| wire::ack(wire::PUBREL, id));
        peer.send(&pubrels.collect::<Vec<_>>());
        (1..=50)
            .rev()
            .for_each(|id| assert_eq!(peer.acknowledged(wire::PUBCOMP, id), 0));
    }
}
