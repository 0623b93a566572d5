//! QoS 2 (4.3.3), with the server as receiver and as sender.

use super::support::*;

#[test]
fn v5_4_3_3_10_what_comes_again_before_its_pubrel_is_delivered_once() {
    clauses!(v5 "4.3.3-10" "4.3.3-8"; v311 "4.3.3-2");
    for version in NUMBERED {
        let topic = unique("once");
        let mut subscriber = client(version);
        subscriber.subscribe(&topic, 2);
        let (again, mut peer) = lasting(version);
        let publish = Publish::new(version, &topic, "once").qos(2, 4);
        for copy in [
            publish.clone(),
            publish.clone().duplicate(),
            publish.clone(),
        ] {
            peer.send(&copy.bytes());
            assert_eq!(peer.acknowledged(wire::PUBREC, 4), 0);
        }
        // Also on another connection of the session.
        peer.cut();
        let mut peer = come_back(&again);
        peer.send(&publish.clone().duplicate().bytes());
        assert_eq!(peer.acknowledged(wire::PUBREC, 4), 0);
        peer.send(&wire::ack(wire::PUBREL, 4));
        assert_eq!(peer.acknowledged(wire::PUBCOMP, 4), 0);
        assert_eq!(subscriber.answered_delivery().text(), "once");
        // After that it is another one.
        peer.send(&publish.bytes());
        assert_eq!(peer.acknowledged(wire::PUBREC, 4), 0);
        assert_eq!(subscriber.answered_delivery().text(), "once");
        super::support::publish(version, &topic, "last", 2);
        assert_eq!(subscriber.answered_delivery().text(), "last");
    }
}

#[test]
fn v5_4_3_3_9_after_a_refusal_an_identifier_is_a_new_message() {
    clauses!(v5 "4.3.3-9");
    let topic = unique("refused");
    let mut subscriber = client(V5);
    subscriber.subscribe(&topic, 2);
    let mut peer = client(V5);
    peer.send(
        &Publish::new(V5, "$SYS/broker/x", "refused")
            .qos(2, 4)
            .bytes(),
    );
    assert_eq!(peer.acknowledged(wire::PUBREC, 4), 0x87);
    peer.send(&Publish::new(V5, &topic, "taken").qos(2, 4).bytes());
    assert_eq!(peer.acknowledged(wire::PUBREC, 4), 0);
    assert_eq!(subscriber.delivery().text(), "taken");
}

#[test]
fn v5_4_3_3_11_a_pubrel_is_answered_whether_or_not_it_releases_anything() {
    clauses!(v5 "4.3.3-11" "3.7.2-1"; v311 "4.3.3-2");
    for version in NUMBERED {
        let mut peer = client(version);
        peer.send(&wire::ack(wire::PUBREL, 31));
        // MQTT 5 can say that there was nothing.
        let unknown = if version == V5 { 0x92 } else { 0 };
        assert_eq!(peer.acknowledged(wire::PUBCOMP, 31), unknown);
    }
}

/// A client that was sent a message of QoS 2 and has not answered.
#[track_caller]
fn in_flight(version: Version) -> (Connect, Peer, Delivered) {
    let topic = unique("flight");
    let (again, mut peer) = lasting(version);
    peer.subscribe(&topic, 2);
    publish(version, &topic, "flies", 2);
    let delivered = peer.delivery();
    assert_eq!((delivered.qos, delivered.duplicate), (2, false));
    (again, peer, delivered)
}

#[test]
fn v5_4_3_3_2_a_new_message_goes_out_once_and_waits_for_its_pubrec() {
    clauses!(v5 "4.3.3-1" "4.3.3-2" "4.3.3-3" "3.3.1-1"; v311 "4.3.3-1" "3.3.1-1");
    for version in NUMBERED {
        let (again, mut peer, first) = in_flight(version);
        peer.nothing();
        for _ in 0..2 {
            peer.cut();
            peer = come_back(&again);
            let resent = peer.delivery();
            assert_eq!(
                (resent.duplicate, resent.qos, resent.id),
                (true, 2, first.id)
            );
            assert_eq!(
                (resent.topic, resent.payload),
                (first.topic.clone(), first.payload.clone())
            );
        }
    }
}

#[test]
fn v5_4_3_3_4_pubrec_is_answered_by_pubrel_and_the_publish_does_not_come_again() {
    clauses!(v5 "4.3.3-4" "4.3.3-5" "4.3.3-6" "4.4.0-1" "3.6.2-1"; v311 "4.3.3-1" "4.4.0-1");
    for version in NUMBERED {
        let (again, mut peer, first) = in_flight(version);
        let id = first.id.unwrap();
        peer.send(&wire::ack(wire::PUBREC, id));
        assert_eq!(peer.acknowledged(wire::PUBREL, id), 0);
        // Unacknowledged until the PUBCOMP: it comes again with the next connection, and the PUBLISH
        // does not.
        for _ in 0..2 {
            peer.cut();
            peer = come_back(&again);
            assert_eq!(peer.acknowledged(wire::PUBREL, id), 0);
            peer.nothing();
        }
        peer.send(&wire::ack(wire::PUBCOMP, id));
        peer.nothing();
        peer.leave();
        come_back(&again).nothing();
    }
}

#[test]
fn v5_3_6_2_1_a_pubrec_of_nothing_is_answered_by_0x92() {
    clauses!(v5 "3.6.2-1");
    let mut peer = client(V5);
    peer.send(&wire::ack(wire::PUBREC, 77));
    assert_eq!(peer.acknowledged(wire::PUBREL, 77), 0x92);
}

#[test]
fn v5_4_4_0_2_a_refused_message_does_not_come_again() {
    clauses!(v5 "4.4.0-2" "4.3.3-4");
    for (first, qos) in [(wire::PUBACK, 1), (wire::PUBREC, 2)] {
        let topic = unique("refused");
        let (again, mut peer) = lasting(V5);
        peer.subscribe(&topic, qos);
        publish(V5, &topic, "refused", qos);
        let id = peer.delivery().id.unwrap();
        peer.send(&wire::ack_with(first, id, 0x80));
        // No PUBREL follows a PUBREC of an error.
        peer.nothing();
        peer.cut();
        let mut peer = come_back(&again);
        publish(V5, &topic, "next", qos);
        let next = peer.delivery();
        assert_eq!((&next.text()[..], next.duplicate), ("next", false));
    }
}
