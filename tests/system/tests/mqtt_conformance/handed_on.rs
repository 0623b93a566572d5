//! What is handed on with a message, unaltered (3.3.2.3), and topic aliases.

use super::support::*;

/// Publishes with these properties; gives what a subscriber of a connection and one of a session get.
#[track_caller]
fn handed_on(properties: &[Vec<u8>], payload: &[u8]) -> [Delivered; 2] {
    let topic = unique("handed/on");
    let [mut live, mut kept] = [client(V5), lasting(V5).1];
    live.subscribe(&topic, 1);
    kept.subscribe(&topic, 1);
    let mut publish = Publish::new(V5, &topic, payload).retain();
    publish.properties = properties.to_vec();
    client(V5).publish(publish, 1);
    // Who comes later is shown the same.
    let mut later = client(V5);
    later.subscribe(&topic, 1);
    let found = [live.delivery(), kept.delivery()];
    assert_eq!(found[0].properties, later.delivery().properties);
    assert!(found.iter().all(|delivered| delivered.payload == payload));
    found
}

#[track_caller]
fn each_is_unaltered(properties: &[Vec<u8>]) {
    for delivered in handed_on(properties, b"payload") {
        for property in properties {
            assert_eq!(
                delivered.property(property[0]).as_deref(),
                Some(&property[1..])
            );
        }
    }
}

#[test]
fn v5_3_3_2_4_the_payload_format_is_unaltered() {
    clauses!(v5 "3.3.2-4");
    each_is_unaltered(&[property::byte(property::PAYLOAD_FORMAT, 1)]);
    // 0 means the same as none.
    for delivered in handed_on(&[property::byte(property::PAYLOAD_FORMAT, 0)], b"\xff") {
        let format = delivered.property(property::PAYLOAD_FORMAT);
        assert!(format.is_none_or(|format| format == [0]));
    }
}

#[test]
fn v5_3_3_2_15_response_topic_and_correlation_data_are_unaltered() {
    clauses!(v5 "3.3.2-15" "3.3.2-16");
    let long = vec![0xfe; 3_000];
    for data in [&b"\0\xff\x80"[..], b"", &long] {
        let topic = property::bytes(property::RESPONSE_TOPIC, "answer/\u{feff}\u{20ac}/here");
        each_is_unaltered(&[topic, property::bytes(property::CORRELATION_DATA, data)]);
    }
}

#[test]
fn v5_3_3_2_20_the_content_type_is_unaltered() {
    clauses!(v5 "3.3.2-20");
    for content_type in ["application/json; charset=utf-8", "", "\u{1F600}"] {
        each_is_unaltered(&[property::bytes(property::CONTENT_TYPE, content_type)]);
    }
}

#[test]
fn v5_3_3_2_17_user_properties_are_unaltered_and_in_order() {
    clauses!(v5 "3.3.2-17" "3.3.2-18");
    let users = [
        ("b", "1"),
        ("a", "2"),
        ("b", "1"),
        ("", ""),
        ("a", "\u{20ac}"),
        ("B", "0"),
    ];
    let properties = users.map(|(name, value)| property::user(name, value));
    let expected: Vec<_> = properties.iter().map(|user| user[1..].to_vec()).collect();
    for delivered in handed_on(&properties, b"x") {
        assert_eq!(delivered.all(property::USER_PROPERTY), expected);
    }
}

fn alias(value: u16) -> Vec<u8> {
    property::two(property::TOPIC_ALIAS, value)
}

/// A client's maximum of aliases, as the server's CONNACK says it.
fn aliases_max() -> (Peer, u16) {
    let (peer, connack) = Peer::asked(broker(), &Connect::new(V5, &unique("aliases")));
    let max = connack.property(property::TOPIC_ALIAS_MAXIMUM).unwrap();
    (peer, u16::from_be_bytes([max[0], max[1]]))
}

#[test]
fn v5_3_3_2_12_every_alias_up_to_the_maximum_works() {
    clauses!(v5 "3.3.2-12" "3.2.2-17");
    let (mut peer, max) = aliases_max();
    let root = unique("alias");
    let mut subscriber = client(V5);
    subscriber.subscribe(&format!("{root}/+"), 1);
    for number in 1..=max {
        peer.publish(
            Publish::new(V5, &format!("{root}/{number}"), "set").with(alias(number)),
            1,
        );
        subscriber.answered_delivery();
    }
    for number in (1..=max).rev() {
        peer.publish(Publish::new(V5, "", "used").with(alias(number)), 1);
        assert_eq!(
            subscriber.answered_delivery().topic,
            format!("{root}/{number}")
        );
    }
    // An alias may be given to another topic.
    peer.publish(
        Publish::new(V5, &format!("{root}/other"), "set").with(alias(1)),
        1,
    );
    peer.publish(Publish::new(V5, "", "used").with(alias(1)), 1);
    for _ in 0..2 {
        assert_eq!(
            subscriber.answered_delivery().topic,
            format!("{root}/other")
        );
    }
}

#[test]
fn v5_3_3_2_8_aliases_beyond_the_limits_end_the_connection() {
    clauses!(v5 "3.3.2-8" "3.3.2-9" "3.2.2-17" "3.2.2-18");
    let (_, max) = aliases_max();
    for number in [0, max + 1, u16::MAX] {
        let publish = Publish::new(V5, "a", "x").with(alias(number));
        ends(client(V5), &publish.bytes(), &[0x94]);
    }
    // One that was never set, and no topic at all.
    ends(
        client(V5),
        &Publish::new(V5, "", "x").with(alias(1)).bytes(),
        &[0x82],
    );
    ends(client(V5), &Publish::new(V5, "", "x").bytes(), &[0x82]);
}

#[test]
fn v5_3_3_2_7_aliases_end_with_their_connection() {
    clauses!(v5 "3.3.2-7");
    let (again, mut peer) = lasting(V5);
    peer.publish(Publish::new(V5, &unique("alias"), "x").with(alias(1)), 1);
    peer.leave();
    let peer = come_back(&again);
    ends(
        peer,
        &Publish::new(V5, "", "x").with(alias(1)).bytes(),
        &[0x82],
    );
    // In the other direction: the topic is said again.
    let topic = unique("alias");
    let again = again.with(property::two(property::TOPIC_ALIAS_MAXIMUM, 5));
    let mut peer = come_back(&again);
    peer.subscribe(&topic, 1);
    for _ in 0..2 {
        for _ in 0..3 {
            publish(V5, &topic, "x", 1);
        }
        assert_eq!(peer.answered_delivery().topic, topic);
        peer.answered_delivery();
        peer.answered_delivery();
        peer.nothing();
        peer.leave();
        peer = come_back(&again);
    }
}

#[test]
fn v5_3_1_2_26_the_servers_aliases_keep_to_the_clients_maximum() {
    clauses!(v5 "3.1.2-26" "3.1.2-27" "3.3.2-11" "3.3.2-8" "3.3.2-10");
    for max in [None, Some(0), Some(1), Some(3)] {
        let mut asked = Connect::new(V5, &unique("aliases"));
        asked
            .properties
            .extend(max.map(|max| property::two(property::TOPIC_ALIAS_MAXIMUM, max)));
        let mut peer = connect(&asked);
        let root = unique("alias");
        peer.subscribe(&format!("{root}/#"), 1);
        let mut known = std::collections::BTreeMap::new();
        for round in 0..20 {
            let topic = format!("{root}/{}", round % 5);
            publish(V5, &topic, "x", 1);
            let delivered = peer.answered_delivery();
            let Some(value) = delivered.property(property::TOPIC_ALIAS) else {
                assert_eq!(delivered.topic, topic);
                continue;
            };
            let value = u16::from_be_bytes([value[0], value[1]]);
            assert!(value > 0 && value <= max.unwrap_or(0), "{value} of {max:?}");
            if !delivered.topic.is_empty() {
                known.insert(value, delivered.topic);
            }
            assert_eq!(known[&value], topic);
        }
    }
}
