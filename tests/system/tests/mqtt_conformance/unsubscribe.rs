//! UNSUBSCRIBE and UNSUBACK (3.10, 3.11).

use super::support::*;

#[test]
fn v5_3_10_3_2_an_unsubscribe_has_a_filter() {
    clauses!(v5 "3.10.3-2"; v311 "3.10.3-2");
    each_ends(|version| wire::unsubscribe(version, 1, &[]), &[0x82]);
}

#[test]
fn v5_3_10_4_4_an_unsubscribe_is_answered_even_where_there_was_nothing() {
    clauses!(v5 "3.10.4-4" "3.10.4-5" "3.11.3-2"; v311 "3.10.4-4" "3.10.4-5");
    for version in NUMBERED {
        for mut peer in [client(version), lasting(version).1] {
            peer.send(&wire::unsubscribe(version, 0x4321, &["never/subscribed"]));
            let unsuback = peer.take(wire::UNSUBACK);
            assert_eq!(unsuback.id(), 0x4321);
            match version {
                V5 => assert_eq!(unsuback.reasons(), [0x11]),
                _ => assert_eq!(unsuback.body.len(), 2),
            }
        }
    }
}

#[test]
fn v5_3_10_4_6_several_filters_have_one_answer_in_their_order() {
    clauses!(v5 "3.10.4-6" "3.11.3-1" "3.11.3-2"; v311 "3.10.4-6");
    for version in NUMBERED {
        for mut peer in [client(version), lasting(version).1] {
            let root = unique("several");
            let names: Vec<_> = (0..4).map(|number| format!("{root}/{number}")).collect();
            peer.subscribe(&names[1], 1);
            peer.subscribe(&names[3], 1);
            peer.subscribe(&root, 1);
            let filters: Vec<_> = names.iter().map(|name| &name[..]).collect();
            peer.send(&wire::unsubscribe(version, 9, &filters));
            let unsuback = peer.take(wire::UNSUBACK);
            if version == V5 {
                assert_eq!(unsuback.reasons(), [0x11, 0, 0x11, 0]);
            }
            names
                .iter()
                .for_each(|name| publish(version, name, "gone", 1));
            publish(version, &root, "left", 1);
            assert_eq!(peer.answered_delivery().text(), "left");
        }
    }
}

#[test]
fn v5_3_10_4_1_only_the_same_filter_is_deleted() {
    clauses!(v5 "3.10.4-1"; v311 "3.10.4-1");
    for version in NUMBERED {
        for mut peer in [client(version), lasting(version).1] {
            let root = unique("same");
            let filter = format!("{root}/a");
            peer.subscribe(&filter, 1);
            // What matches the same topics, or looks alike, is another filter.
            let others = [
                format!("{root}/+"),
                format!("{root}/#"),
                format!("{root}/A"),
                format!("{root}/a/"),
                format!("/{root}/a"),
                "#".to_owned(),
            ];
            for other in &others {
                peer.send(&wire::unsubscribe(version, 5, &[other]));
                peer.take(wire::UNSUBACK);
            }
            publish(version, &filter, "still", 1);
            assert_eq!(peer.answered_delivery().text(), "still");
            peer.send(&wire::unsubscribe(version, 5, &[&filter]));
            peer.take(wire::UNSUBACK);
            publish(version, &filter, "gone", 1);
            peer.nothing();
        }
    }
}

#[test]
fn v5_3_10_4_2_nothing_new_comes_after_it() {
    clauses!(v5 "3.10.4-2"; v311 "3.10.4-2");
    for version in NUMBERED {
        for mut peer in [client(version), lasting(version).1] {
            let (topic, other) = (unique("stopped"), unique("goes/on"));
            peer.subscribe(&topic, 2);
            peer.subscribe(&other, 2);
            peer.send(&wire::unsubscribe(version, 5, &[&topic]));
            peer.take(wire::UNSUBACK);
            for qos in 0..3 {
                publish(version, &topic, "gone", qos);
                publish(version, &other, "comes", 1);
                assert_eq!(peer.answered_delivery().text(), "comes");
            }
        }
    }
}

#[test]
fn v5_3_10_4_3_what_was_begun_is_completed() {
    clauses!(v5 "3.10.4-3"; v311 "3.10.4-3");
    for version in NUMBERED {
        let topic = unique("begun");
        let (again, mut peer) = lasting(version);
        peer.subscribe(&topic, 2);
        publish(version, &topic, "one", 1);
        publish(version, &topic, "two", 2);
        publish(version, &topic, "released", 2);
        let sent: Vec<_> = (0..3).map(|_| peer.delivery()).collect();
        let released = sent[2].id.unwrap();
        peer.send(&wire::ack(wire::PUBREC, released));
        peer.take(wire::PUBREL);
        peer.send(&wire::unsubscribe(version, 5, &[&topic]));
        peer.take(wire::UNSUBACK);
        // Also over another connection of the session.
        peer.cut();
        let mut peer = come_back(&again);
        assert_eq!(peer.take(wire::PUBREL).id(), released);
        peer.send(&wire::ack(wire::PUBCOMP, released));
        for expected in &sent[..2] {
            let resent = peer.answered_delivery();
            assert_eq!(
                (resent.id, &resent.payload),
                (expected.id, &expected.payload)
            );
        }
        peer.nothing();
    }
}
