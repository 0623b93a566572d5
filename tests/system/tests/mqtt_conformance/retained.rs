//! Retained messages (3.3.1.3), and what subscriptions say of them (3.8.3.1).

use super::support::*;

const AT_NEW: u8 = 1 << 4;
const NEVER: u8 = 2 << 4;
const AS_PUBLISHED: u8 = 1 << 3;

/// What a new subscriber of a filter is shown.
#[track_caller]
fn shown(version: Version, filter: &str) -> Vec<Delivered> {
    let marker = unique("marker");
    let mut reader = client(version);
    reader.subscribe(&marker, 0);
    reader.subscribe(filter, 2);
    let mut found = Vec::new();
    // A PINGRESP comes when all that is retained has gone out.
    reader.send(&wire::packet(wire::PINGREQ, &[]));
    loop {
        let packet = reader.packet();
        match packet.kind() {
            wire::PUBLISH => found.push(packet.publish()),
            _ => return found,
        }
    }
}

fn texts(found: &[Delivered]) -> Vec<String> {
    let mut texts: Vec<_> = found.iter().map(Delivered::text).collect();
    texts.sort();
    texts
}

#[test]
fn v5_3_3_1_5_a_retained_message_replaces_the_one_before() {
    clauses!(v5 "3.3.1-5"; v311 "3.3.1-5" "3.3.1-6" "3.3.1-7" "3.3.1-8");
    for version in NUMBERED {
        let topic = unique("retained");
        for (payload, qos) in [("a", 1), ("b", 2), ("c", 0), ("d", 1)] {
            retain(version, &topic, payload, qos);
            let found = shown(version, &topic);
            assert_eq!(texts(&found), [payload]);
            assert_eq!((found[0].qos, found[0].retain), (qos, true));
        }
    }
}

#[test]
fn v311_3_3_1_6_all_topics_that_match_are_shown() {
    clauses!(v311 "3.3.1-6"; v5 "3.3.1-9");
    for version in NUMBERED {
        let root = unique("retained");
        for topic in ["a", "b", "c/d"] {
            retain(version, &format!("{root}/{topic}"), topic, 1);
        }
        assert_eq!(
            texts(&shown(version, &format!("{root}/#"))),
            ["a", "b", "c/d"]
        );
        assert_eq!(texts(&shown(version, &format!("{root}/+"))), ["a", "b"]);
        assert_eq!(texts(&shown(version, &format!("{root}/c/d"))), ["c/d"]);
    }
}

#[test]
fn v5_3_3_1_6_an_empty_one_is_handed_on_and_takes_it_away() {
    clauses!(v5 "3.3.1-6" "3.3.1-7"; v311 "3.3.1-10" "3.3.1-11");
    for version in NUMBERED {
        let topic = unique("retained");
        retain(version, &topic, "kept", 1);
        let mut subscriber = client(version);
        subscriber.subscribe(&topic, 1);
        assert_eq!(subscriber.answered_delivery().text(), "kept");
        for _ in 0..2 {
            retain(version, &topic, "", 1);
            let delivered = subscriber.answered_delivery();
            assert_eq!((delivered.payload, delivered.retain), (vec![], false));
            assert_eq!(shown(version, &topic), []);
        }
    }
}

#[test]
fn v5_3_3_1_8_without_retain_nothing_is_kept_or_changed() {
    clauses!(v5 "3.3.1-8"; v311 "3.3.1-12");
    for version in NUMBERED {
        let topic = unique("retained");
        publish(version, &topic, "passing", 1);
        assert_eq!(shown(version, &topic), []);
        retain(version, &topic, "kept", 1);
        publish(version, &topic, "passing", 1);
        publish(version, &topic, "", 1);
        assert_eq!(texts(&shown(version, &topic)), ["kept"]);
    }
}

#[test]
fn v5_3_3_1_9_handling_0_shows_them_at_each_subscribe() {
    clauses!(v5 "3.3.1-9" "3.8.4-4"; v311 "3.8.4-3");
    for version in NUMBERED {
        let topic = unique("retained");
        retain(version, &topic, "kept", 1);
        let mut subscriber = client(version);
        for _ in 0..3 {
            subscriber.subscribe(&topic, 1);
            let delivered = subscriber.answered_delivery();
            assert_eq!((&delivered.text()[..], delivered.retain), ("kept", true));
        }
    }
}

#[test]
fn v5_3_3_1_10_handling_1_shows_them_to_a_new_subscription() {
    clauses!(v5 "3.3.1-10");
    let topic = unique("retained");
    retain(V5, &topic, "kept", 1);
    for (_, mut subscriber) in [lasting(V5), (Connect::new(V5, ""), client(V5))] {
        subscriber.subscribe(&topic, 1 | AT_NEW);
        assert_eq!(subscriber.answered_delivery().text(), "kept");
        subscriber.subscribe(&topic, 1 | AT_NEW);
        subscriber.nothing();
        // New again after it was given up.
        subscriber.send(&wire::unsubscribe(V5, 1, &[&topic]));
        subscriber.take(wire::UNSUBACK);
        subscriber.subscribe(&topic, 1 | AT_NEW);
        assert_eq!(subscriber.answered_delivery().text(), "kept");
    }
    // A session that is taken up has its subscription.
    let (again, mut subscriber) = lasting(V5);
    subscriber.subscribe(&topic, 1 | NEVER);
    subscriber.leave();
    let mut subscriber = come_back(&again);
    subscriber.subscribe(&topic, 1 | AT_NEW);
    subscriber.nothing();
}

#[test]
fn v5_3_3_1_11_handling_2_shows_none() {
    clauses!(v5 "3.3.1-11");
    let topic = unique("retained");
    retain(V5, &topic, "kept", 1);
    let mut subscriber = client(V5);
    subscriber.subscribe(&topic, 1 | NEVER);
    subscriber.nothing();
    publish(V5, &topic, "live", 1);
    assert_eq!(subscriber.delivery().text(), "live");
}

#[test]
fn v5_3_3_1_12_retain_is_taken_off_for_who_is_subscribed() {
    clauses!(v5 "3.3.1-12"; v311 "3.3.1-9");
    for version in NUMBERED {
        for (_, mut subscriber) in [
            lasting(version),
            (Connect::new(version, ""), client(version)),
        ] {
            let topic = unique("retained");
            subscriber.subscribe(&topic, 1);
            retain(version, &topic, "kept", 1);
            assert!(!subscriber.answered_delivery().retain);
            publish(version, &topic, "passing", 1);
            assert!(!subscriber.answered_delivery().retain);
        }
    }
}

#[test]
fn v5_3_3_1_13_or_left_as_it_came_where_that_is_wanted() {
    clauses!(v5 "3.3.1-13");
    for (_, mut subscriber) in [lasting(V5), (Connect::new(V5, ""), client(V5))] {
        let topic = unique("retained");
        subscriber.subscribe(&topic, 1 | AS_PUBLISHED);
        retain(V5, &topic, "kept", 1);
        assert!(subscriber.answered_delivery().retain);
        publish(V5, &topic, "passing", 1);
        assert!(!subscriber.answered_delivery().retain);
    }
}
