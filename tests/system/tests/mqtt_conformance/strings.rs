//! Sections 1.5 and 2.2: strings, variable byte integers, identifiers, property lengths.

use super::support::*;

/// What is no UTF-8: bytes that never stand there, a surrogate, an overlong form, a cut one, past U+10FFFF.
pub const NOT_UTF8: [&[u8]; 6] = [
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"a\xe2\x82",
    b"\xf4\x90\x80\x80",
    b"\x80a",
];

#[track_caller]
fn each_topic_ends(topic: &[u8]) {
    each_ends(
        |version| {
            let mut publish = Publish::new(version, "", "x");
            publish.topic = topic.to_vec();
            publish.bytes()
        },
        &[0x81],
    );
}

#[test]
fn v5_1_5_4_1_a_topic_that_is_no_utf8_ends_the_connection() {
    clauses!(v5 "1.5.4-1" "3.3.2-1"; v311 "1.5.3-1" "3.3.2-1");
    NOT_UTF8.iter().for_each(|topic| each_topic_ends(topic));
}

#[test]
fn v5_3_8_3_1_a_filter_that_is_no_utf8_ends_the_connection() {
    clauses!(v5 "1.5.4-1" "3.8.3-1" "3.10.3-1"; v311 "3.8.3-1" "3.10.3-1");
    let with = |version: Version, first: u8, filter: &[u8], end: &[u8]| {
        let mut body = vec![0, 1];
        body.extend((version == V5).then_some(0));
        body.extend(wire::field(filter));
        body.extend(end);
        wire::packet(first, &body)
    };
    for filter in NOT_UTF8 {
        each_ends(
            |version| with(version, wire::SUBSCRIBE, filter, &[0]),
            &[0x81],
        );
        each_ends(
            |version| with(version, wire::UNSUBSCRIBE, filter, &[]),
            &[0x81],
        );
    }
}

#[test]
fn v5_1_5_4_2_a_string_with_u_0000_ends_the_connection() {
    clauses!(v5 "1.5.4-2" "4.7.3-2"; v311 "1.5.3-2" "4.7.3-2");
    each_topic_ends(b"a\0b");
    each_ends(
        |version| wire::subscribe(version, 1, &[("a\0b", 0)]),
        &[0x81],
    );
}

#[test]
fn v5_1_5_4_3_a_byte_order_mark_is_a_character() {
    clauses!(v5 "1.5.4-3"; v311 "1.5.3-3");
    for version in NUMBERED {
        let topic = unique("\u{feff}mark/\u{feff}");
        let bare = topic.replace('\u{feff}', "");
        let mut subscriber = client(version);
        subscriber.subscribe(&topic, 1);
        publish(version, &bare, "bare", 1);
        publish(version, &topic, "marked", 1);
        let delivered = subscriber.answered_delivery();
        assert_eq!(
            (delivered.topic, delivered.payload),
            (topic, b"marked".to_vec())
        );
    }
}

#[test]
fn v5_1_5_5_1_a_length_in_more_bytes_than_it_needs_ends_the_connection() {
    clauses!(v5 "1.5.5-1");
    // The property length, and the remaining length.
    ends(client(V5), b"\x30\x05\x00\x01a\x80\x00", &[0x81]);
    ends(client(V5), b"\xc0\x80\x00", &[0x81]);
    // Five bytes of it.
    ends(client(V5), b"\x30\xff\xff\xff\xff\x01", &[0x81]);
}

#[test]
fn v5_1_5_5_1_the_server_writes_lengths_in_their_shortest_form() {
    clauses!(v5 "1.5.5-1");
    // 127 and 128 bytes of payload lie on both sides of the second byte.
    for length in [100, 115, 116, 117, 118, 119, 120, 121, 130, 16_384] {
        let topic = unique("length");
        let mut subscriber = client(V5);
        subscriber.subscribe(&topic, 0);
        let payload = vec![b'x'; length];
        client(V5).publish(Publish::new(V5, &topic, &payload), 0);
        // The reader takes lengths as they come: one too long leaves bytes that are no packet.
        assert_eq!(subscriber.delivery().payload, payload);
        subscriber.nothing();
    }
}

#[test]
fn v5_1_5_7_1_both_strings_of_a_user_property_are_checked() {
    clauses!(v5 "1.5.7-1");
    for bad in NOT_UTF8.iter().copied().chain([b"a\0".as_slice()]) {
        for property in [property::user(bad, "value"), property::user("name", bad)] {
            let publish = Publish::new(V5, "a", "x").with(property);
            ends(client(V5), &publish.bytes(), &[0x81]);
        }
    }
}

#[test]
fn v5_3_3_2_13_the_response_topic_and_the_content_type_are_strings() {
    clauses!(v5 "3.3.2-13" "3.3.2-19");
    for bad in NOT_UTF8 {
        for id in [property::RESPONSE_TOPIC, property::CONTENT_TYPE] {
            let publish = Publish::new(V5, "a", "x").with(property::bytes(id, bad));
            ends(client(V5), &publish.bytes(), &[0x81]);
        }
    }
}

#[test]
fn v5_2_2_1_2_qos_0_has_no_packet_identifier() {
    clauses!(v5 "2.2.1-2" "4.3.1-1" "3.3.1-2"; v311 "2.3.1-5" "4.3.1-1" "3.3.1-2");
    for version in NUMBERED {
        let topic = unique("qos0");
        let mut subscriber = client(version);
        subscriber.subscribe(&topic, 2);
        publish(version, &topic, "\0\x01", 0);
        let packet = subscriber.packet();
        let mut expected = wire::field(&topic);
        expected.extend((version == V5).then_some(0));
        expected.extend(b"\0\x01");
        assert_eq!((packet.first, packet.body), (0x30, expected));
    }
}

#[test]
fn v5_2_2_1_3_identifier_0_ends_the_connection() {
    clauses!(v5 "2.2.1-3"; v311 "2.3.1-1");
    // The specification names no code for it.
    let codes = [0x81, 0x82];
    each_ends(|version| wire::subscribe(version, 0, &[("a", 0)]), &codes);
    each_ends(|version| wire::unsubscribe(version, 0, &["a"]), &codes);
    for qos in [1, 2] {
        each_ends(
            |version| Publish::new(version, "a", "x").qos(qos, 0).bytes(),
            &codes,
        );
    }
    for first in [wire::PUBACK, wire::PUBREC, wire::PUBREL, wire::PUBCOMP] {
        each_ends(|_| wire::ack(first, 0), &codes);
    }
}

#[test]
fn v5_2_2_1_4_the_server_uses_identifiers_that_are_free() {
    clauses!(v5 "2.2.1-4" "4.3.2-1" "4.3.3-1"; v311 "2.3.1-4");
    for (version, qos) in NUMBERED
        .into_iter()
        .flat_map(|version| [(version, 1), (version, 2)])
    {
        let topic = unique("identifiers");
        let mut subscriber = client(version);
        subscriber.subscribe(&topic, qos);
        let mut publisher = client(version);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20 {
            publisher.publish(Publish::new(version, &topic, "x"), qos);
            let delivered = subscriber.delivery();
            assert_eq!((delivered.qos, delivered.duplicate), (qos, false));
            let id = delivered.id.unwrap();
            assert!(id != 0 && seen.insert(id), "{id} is in use: {seen:?}");
        }
    }
}

#[test]
fn v5_2_2_1_5_acknowledgements_carry_the_identifier() {
    clauses!(v5 "2.2.1-5" "2.2.1-6" "3.3.4-1"; v311 "2.3.1-6" "2.3.1-7" "3.3.4-1");
    for (version, id) in NUMBERED
        .into_iter()
        .flat_map(|version| [1, 77, 65_535].map(|id| (version, id)))
    {
        let mut peer = client(version);
        let topic = unique("answers");
        peer.send(&Publish::new(version, &topic, "x").qos(1, id).bytes());
        assert_eq!(peer.acknowledged(wire::PUBACK, id), 0);
        peer.send(&Publish::new(version, &topic, "x").qos(2, id).bytes());
        assert_eq!(peer.acknowledged(wire::PUBREC, id), 0);
        peer.send(&wire::ack(wire::PUBREL, id));
        assert_eq!(peer.acknowledged(wire::PUBCOMP, id), 0);
        peer.send(&wire::subscribe(version, id, &[("other", 0)]));
        assert_eq!(peer.take(wire::SUBACK).id(), id);
        peer.send(&wire::unsubscribe(version, id, &["other"]));
        assert_eq!(peer.take(wire::UNSUBACK).id(), id);
    }
}

#[test]
fn v5_2_2_2_1_no_properties_are_a_length_of_0() {
    clauses!(v5 "2.2.2-1");
    let mut peer = client(V5);
    peer.send(&wire::subscribe(V5, 9, &[("none", 0)]));
    assert_eq!(peer.packet().body, [0, 9, 0, 0]);
    peer.send(&wire::unsubscribe(V5, 9, &["none"]));
    assert_eq!(peer.packet().body, [0, 9, 0, 0]);
    // A SUBSCRIBE without the length has a filter's length in its place, and is no packet.
    ends(peer, b"\x82\x06\x00\x01\x00\x01a\x00", &[0x81]);
}
