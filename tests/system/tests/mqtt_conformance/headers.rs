//! The flags of fixed headers (2.1.3), and packets that may not come.

use super::support::*;

/// A packet of each type with other flags than its own.
fn with_flags(version: Version, kind: u8, flags: u8) -> Vec<u8> {
    let mut bytes = match kind {
        wire::PUBACK | wire::PUBREC | wire::PUBCOMP | 0x60 => wire::ack(kind, 1),
        0x80 => wire::subscribe(version, 1, &[("a", 0)]),
        0xa0 => wire::unsubscribe(version, 1, &["a"]),
        _ => wire::packet(kind, &[]),
    };
    bytes[0] = kind | flags;
    bytes
}

fn each_flag_ends(kind: u8, right: u8) {
    for flags in (0..16).filter(|flags| *flags != right) {
        each_ends(|version| with_flags(version, kind, flags), &[0x81]);
    }
}

#[test]
fn v5_2_1_3_1_reserved_flags_end_the_connection() {
    clauses!(v5 "2.1.3-1"; v311 "2.2.2-1" "2.2.2-2");
    for kind in [wire::PUBACK, wire::PUBREC, wire::PUBCOMP, wire::PINGREQ] {
        each_flag_ends(kind, 0);
    }
}

#[test]
fn v5_3_6_1_1_the_flags_of_pubrel_are_fixed() {
    clauses!(v5 "3.6.1-1"; v311 "3.6.1-1");
    each_flag_ends(0x60, 2);
}

#[test]
fn v5_3_8_1_1_the_flags_of_subscribe_are_fixed() {
    clauses!(v5 "3.8.1-1"; v311 "3.8.1-1");
    each_flag_ends(0x80, 2);
}

#[test]
fn v5_3_10_1_1_the_flags_of_unsubscribe_are_fixed() {
    clauses!(v5 "3.10.1-1"; v311 "3.10.1-1");
    each_flag_ends(0xa0, 2);
}

#[test]
fn v5_3_14_1_1_the_flags_of_disconnect_are_fixed() {
    clauses!(v5 "3.14.1-1"; v311 "3.14.1-1");
    each_flag_ends(wire::DISCONNECT, 0);
}

#[test]
fn v5_3_15_1_1_the_flags_of_auth_are_fixed() {
    clauses!(v5 "3.15.1-1");
    for flags in 1..16 {
        ends(client(V5), &with_flags(V5, wire::AUTH, flags), &[0x81]);
    }
}

#[test]
fn v5_2_1_3_1_the_server_sends_the_flags_of_the_table() {
    clauses!(v5 "2.1.3-1"; v311 "2.2.2-1");
    for version in NUMBERED {
        let topic = unique("flags");
        let mut peer = client(version);
        let mut firsts = Vec::new();
        let mut ask = |bytes: &[u8], answers: usize| {
            peer.send(bytes);
            firsts.extend((0..answers).map(|_| peer.packet().first));
        };
        ask(&wire::subscribe(version, 1, &[(&topic, 0)]), 1);
        ask(&Publish::new(version, "other", "x").qos(1, 2).bytes(), 1);
        ask(&Publish::new(version, "other", "x").qos(2, 3).bytes(), 1);
        ask(&wire::ack(wire::PUBREL, 3), 1);
        ask(&wire::packet(wire::PINGREQ, &[]), 1);
        ask(&wire::unsubscribe(version, 4, &[&topic]), 1);
        assert_eq!(firsts, [0x90, 0x40, 0x50, 0x70, 0xd0, 0xb0]);
    }
}

#[test]
fn v5_3_1_0_1_the_first_packet_is_connect() {
    clauses!(v5 "3.1.0-1" "3.14.0-1"; v311 "3.1.0-1");
    for version in NUMBERED {
        for bytes in [
            wire::packet(wire::PINGREQ, &[]),
            Publish::new(version, "a", "x").bytes(),
            wire::subscribe(version, 1, &[("a", 0)]),
            wire::disconnect(),
            wire::packet(wire::AUTH, &[]),
            wire::packet(0x00, &[]),
        ] {
            let mut peer = Peer::open(broker(), version);
            peer.send(&bytes);
            assert_eq!(peer.end(), [], "{bytes:x?}");
        }
    }
}

#[test]
fn v5_3_1_0_2_a_second_connect_ends_the_connection() {
    clauses!(v5 "3.1.0-2" "4.13.1-1"; v311 "3.1.0-2" "4.8.0-1");
    each_ends(|version| Connect::new(version, "again").bytes(), &[0x82]);
    // Whatever it is like: a DISCONNECT can't say that a version is not supported.
    let other = Connect::new(V5, "again");
    each_ends(|_| other.bytes_named("MQTT", 9, 2), &[0x82]);
    each_ends(|_| other.bytes_named("NOTMQTT", 5, 2), &[0x82]);
}

#[test]
fn v5_3_2_0_2_there_is_one_connack() {
    clauses!(v5 "3.2.0-2"; v311 "3.2.0-1");
    for version in NUMBERED {
        let again = Connect::new(version, &unique("twice")).bytes();
        let mut peer = Peer::open(broker(), version);
        peer.send(&[again.clone(), again].concat());
        let kinds: Vec<_> = peer.end().iter().map(Packet::kind).collect();
        let disconnect = (version == V5).then_some(wire::DISCONNECT);
        let expected: Vec<_> = [wire::CONNACK].into_iter().chain(disconnect).collect();
        // It may be refused before it is accepted: then there is one CONNACK, too.
        assert!(kinds == expected || kinds == [wire::CONNACK], "{kinds:x?}");
    }
}

#[test]
fn v5_4_13_1_1_what_only_servers_send_ends_the_connection() {
    clauses!(v5 "4.13.1-1"; v311 "4.8.0-1");
    let connack = |version| match version {
        V5 => wire::packet(wire::CONNACK, &[0, 0, 0]),
        _ => wire::packet(wire::CONNACK, &[0, 0]),
    };
    each_ends(connack, &[0x82]);
    each_ends(|_| wire::packet(wire::SUBACK, &[0, 1, 0, 0]), &[0x82]);
    each_ends(|_| wire::packet(wire::UNSUBACK, &[0, 1, 0, 0]), &[0x82]);
    each_ends(|_| wire::packet(wire::PINGRESP, &[]), &[0x82]);
    each_ends(|_| wire::packet(0x00, &[]), &[0x81]);
}

#[test]
fn v5_3_12_4_1_a_pingreq_is_answered() {
    clauses!(v5 "3.12.4-1"; v311 "3.12.4-1");
    for version in NUMBERED {
        let mut peer = client(version);
        peer.send(&[0xc0, 0, 0xc0, 0]);
        for _ in 0..2 {
            let packet = peer.packet();
            assert_eq!((packet.first, packet.body), (0xd0, vec![]));
        }
    }
}
