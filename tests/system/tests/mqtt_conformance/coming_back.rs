//! What is sent again when a client comes back to its session (4.4).

use super::support::*;

#[test]
fn v5_4_4_0_1_unacknowledged_messages_come_again_in_their_order() {
    clauses!(v5 "4.4.0-1" "3.3.1-1" "4.3.2-3" "4.6.0-1"; v311 "4.4.0-1" "3.3.1-1" "4.3.2-1" "4.6.0-1");
    for version in NUMBERED {
        let topic = unique("again");
        let (again, mut peer) = lasting(version);
        peer.subscribe(&topic, 2);
        for (payload, qos) in [("a", 1), ("b", 2), ("c", 1), ("d", 2), ("e", 1)] {
            publish(version, &topic, payload, qos);
        }
        let first: Vec<_> = (0..5).map(|_| peer.delivery()).collect();
        assert!(first.iter().all(|delivered| !delivered.duplicate));
        // One is acknowledged; nothing is sent again meanwhile.
        peer.send(&wire::ack(wire::PUBACK, first[2].id.unwrap()));
        peer.nothing();
        peer.cut();
        let mut peer = come_back(&again);
        for sent in first.iter().filter(|sent| sent.text() != "c") {
            let resent = peer.delivery();
            assert!(resent.duplicate);
            assert_eq!(
                (&resent.payload, resent.id, resent.qos),
                (&sent.payload, sent.id, sent.qos)
            );
        }
        peer.nothing();
    }
}

#[test]
fn v5_4_4_0_1_nothing_is_sent_again_without_a_session() {
    clauses!(v5 "4.4.0-1" "3.1.2-4"; v311 "3.1.2-6");
    for version in NUMBERED {
        let topic = unique("again");
        let (again, mut peer) = lasting(version);
        peer.subscribe(&topic, 1);
        publish(version, &topic, "lost", 1);
        peer.delivery();
        peer.cut();
        connect(&Connect {
            clean: true,
            ..again
        })
        .nothing();
    }
}

#[test]
fn v5_4_3_2_2_a_new_message_of_qos_1_has_dup_0_and_a_free_identifier() {
    clauses!(v5 "4.3.2-1" "4.3.2-2" "4.3.2-3" "2.2.1-4"; v311 "4.3.2-1" "2.3.1-4");
    for version in NUMBERED {
        let topic = unique("fresh");
        let (again, mut peer) = lasting(version);
        peer.subscribe(&topic, 1);
        publish(version, &topic, "old", 1);
        let old = peer.delivery();
        peer.cut();
        publish(version, &topic, "new", 1);
        let mut peer = come_back(&again);
        let resent = peer.delivery();
        assert_eq!(
            (&resent.text()[..], resent.id, resent.duplicate),
            ("old", old.id, true)
        );
        let new = peer.delivery();
        assert_eq!((&new.text()[..], new.duplicate, new.qos), ("new", false, 1));
        assert_ne!(new.id, old.id);
    }
}

#[test]
fn v5_4_3_2_3_an_acknowledged_message_does_not_come_again() {
    clauses!(v5 "4.3.2-3"; v311 "4.3.2-1");
    for version in NUMBERED {
        let topic = unique("done");
        let (again, mut peer) = lasting(version);
        peer.subscribe(&topic, 2);
        publish(version, &topic, "one", 1);
        publish(version, &topic, "two", 2);
        peer.answered_delivery();
        peer.answered_delivery();
        peer.leave();
        come_back(&again).nothing();
    }
}

#[test]
fn v5_2_2_1_3_a_publish_that_is_sent_again_has_its_identifier() {
    clauses!(v5 "4.4.0-1"; v311 "2.3.1-2" "2.3.1-3");
    // A client that sends again gets the same answers, whether or not the first arrived.
    for version in NUMBERED {
        let topic = unique("resent");
        let (again, mut peer) = lasting(version);
        let publish = Publish::new(version, &topic, "x");
        peer.send(&publish.clone().qos(1, 11).bytes());
        peer.send(&publish.clone().qos(2, 12).bytes());
        assert_eq!(peer.acknowledged(wire::PUBACK, 11), 0);
        assert_eq!(peer.acknowledged(wire::PUBREC, 12), 0);
        peer.cut();
        let mut peer = come_back(&again);
        peer.send(&publish.clone().qos(1, 11).duplicate().bytes());
        peer.send(&publish.clone().qos(2, 12).duplicate().bytes());
        assert_eq!(peer.acknowledged(wire::PUBACK, 11), 0);
        assert_eq!(peer.acknowledged(wire::PUBREC, 12), 0);
        peer.send(&wire::ack(wire::PUBREL, 12));
        assert_eq!(peer.acknowledged(wire::PUBCOMP, 12), 0);
    }
}

#[test]
fn v5_4_5_0_2_what_is_not_acknowledged_stays() {
    clauses!(v5 "4.5.0-2"; v311 "4.5.0-2");
    for version in NUMBERED {
        let topic = unique("stays");
        let (again, mut peer) = lasting(version);
        peer.subscribe(&topic, 1);
        publish(version, &topic, "x", 1);
        for round in 0..3 {
            assert_eq!(peer.delivery().duplicate, round > 0);
            peer.leave();
            peer = come_back(&again);
        }
    }
}
