//! What a CONNECT must be like (3.1.2, 3.1.3), and what becomes of one that is not.

use super::strings::NOT_UTF8;
use super::support::*;

/// Codes that fit a CONNECT that can't be read, for MQTT 5 and before: then nothing is said.
const MALFORMED: [Option<u8>; 1] = [Some(0x81)];
const SILENCE: [Option<u8>; 1] = [None];

#[track_caller]
fn each_refused(bytes: impl Fn(Version) -> Vec<u8>) {
    refused(V5, &bytes(V5), &MALFORMED);
    refused(V3_1_1, &bytes(V3_1_1), &SILENCE);
}

fn plain(version: Version) -> Connect {
    Connect::new(version, "form")
}

fn with_will(version: Version) -> Connect {
    plain(version).will(Will::new("will", "gone"))
}

#[test]
fn v5_3_1_2_1_another_protocol_name_is_not_answered_as_mqtt() {
    clauses!(v5 "3.1.2-1"; v311 "3.1.2-1");
    for version in NUMBERED {
        for name in ["", "mqtt", "MQTT ", "MQTTX", "AMQP"] {
            let bytes = plain(version).bytes_named(name, version as u8, 2);
            refused(version, &bytes, &[None, Some(0x84)]);
        }
    }
}

#[test]
fn v5_3_1_2_2_another_version_is_told_0x84() {
    clauses!(v5 "3.1.2-2");
    for level in [6, 7, 127, 255] {
        refused(V5, &plain(V5).bytes_named("MQTT", level, 2), &[Some(0x84)]);
    }
}

#[test]
fn v311_3_1_2_2_another_level_is_told_0x01() {
    clauses!(v311 "3.1.2-2");
    for level in [0, 1, 2, 3] {
        refused(
            V3_1_1,
            &plain(V3_1_1).bytes_named("MQTT", level, 2),
            &[Some(0x01)],
        );
    }
    refused(
        V3_1,
        &plain(V3_1).bytes_named("MQIsdp", 4, 2),
        &[Some(0x01)],
    );
}

#[test]
fn v5_3_1_2_3_the_reserved_connect_flag_is_checked() {
    clauses!(v5 "3.1.2-3" "3.1.4-1"; v311 "3.1.2-3" "3.1.4-1" "3.2.2-6");
    each_refused(|version| plain(version).bytes_with_flags(0x03));
}

#[test]
fn v5_3_1_2_9_a_will_has_its_fields() {
    clauses!(v5 "3.1.2-9"; v311 "3.1.2-9");
    // The flag without the fields, and with an empty packet's end in them.
    each_refused(|version| plain(version).bytes_with_flags(0x06));
    each_refused(|version| {
        let mut body = with_will(version).bytes();
        let length = body.len();
        body.truncate(length - 1);
        body[1] -= 1;
        body
    });
}

#[test]
fn v5_3_1_2_11_without_a_will_its_qos_is_0() {
    clauses!(v5 "3.1.2-11"; v311 "3.1.2-11" "3.1.2-13");
    for qos in [1, 2, 3] {
        each_refused(|version| plain(version).bytes_with_flags(0x02 | qos << 3));
    }
    // And its fields are not there: they would be no user name either.
    each_refused(|version| with_will(version).bytes_with_flags(0x02));
}

#[test]
fn v5_3_1_2_12_a_will_of_qos_3_ends_the_connection() {
    clauses!(v5 "3.1.2-12"; v311 "3.1.2-14");
    each_refused(|version| with_will(version).bytes_with_flags(0x02 | 0x04 | 3 << 3));
}

#[test]
fn v5_3_1_2_13_without_a_will_nothing_is_retained() {
    clauses!(v5 "3.1.2-13"; v311 "3.1.2-15");
    each_refused(|version| plain(version).bytes_with_flags(0x02 | 0x20));
}

#[test]
fn v5_3_1_2_16_credentials_are_there_as_their_flags_say() {
    clauses!(v5 "3.1.2-16" "3.1.2-17" "3.1.2-18" "3.1.2-19";
        v311 "3.1.2-18" "3.1.2-19" "3.1.2-20" "3.1.2-21");
    for (user, password) in [(true, false), (true, true)] {
        let mut connect = plain(V5);
        connect.user = user.then(|| b"user".to_vec());
        connect.password = password.then(|| b"password".to_vec());
        each_refused(|version| {
            Connect {
                version,
                ..connect.clone()
            }
            .bytes_with_flags(0x02)
        });
        // The flags without the fields.
        each_refused(|version| plain(version).bytes_with_flags(connect.flags()));
    }
    // MQTT 5 allows a password alone.
    each_refused(|version| match version {
        V5 => plain(version).bytes_with_flags(0x42),
        _ => plain(version).bytes_with_flags(0x82),
    });
}

#[test]
fn v311_3_1_2_22_no_password_without_a_user_name() {
    clauses!(v311 "3.1.2-22");
    let mut connect = plain(V3_1_1);
    connect.password = Some(b"password".to_vec());
    refused(V3_1_1, &connect.bytes(), &SILENCE);
    // MQTT 5 lifted it.
    connect.version = V5;
    connect.client_id = unique("password").into();
    super::support::connect(&connect);
}

#[test]
fn v5_3_1_3_1_the_payload_has_its_order() {
    clauses!(v5 "3.1.3-1" "3.1.3-3"; v311 "3.1.3-1" "3.1.3-3");
    for version in NUMBERED {
        let topic = unique("order/will");
        let mut watcher = client(version);
        watcher.subscribe(&topic, 0);
        let id = unique("order");
        let mut connect = Connect::new(version, &id).will(Will::new(&topic, &id));
        connect.user = Some(b"user".to_vec());
        connect.password = Some(b"password".to_vec());
        super::support::connect(&connect).cut();
        assert_eq!(watcher.delivery().text(), id);
    }
    // Without a client id field nothing can follow.
    each_refused(|version| {
        let mut bytes = Connect::new(version, "").bytes();
        let length = bytes.len();
        bytes.truncate(length - 2);
        bytes[1] -= 2;
        bytes
    });
}

#[test]
fn v5_3_1_3_4_the_strings_of_a_connect_are_checked() {
    clauses!(v5 "3.1.3-4" "3.1.3-11" "3.1.3-12" "3.1.4-1";
        v311 "3.1.3-4" "3.1.3-10" "3.1.3-11" "3.1.4-1");
    for bad in NOT_UTF8.iter().copied().chain([b"a\0".as_slice()]) {
        each_refused(|version| {
            Connect {
                client_id: bad.to_vec(),
                ..plain(version)
            }
            .bytes()
        });
        each_refused(|version| {
            let will = Will {
                topic: bad.to_vec(),
                ..Will::default()
            };
            plain(version).will(will).bytes()
        });
        each_refused(|version| {
            Connect {
                user: Some(bad.to_vec()),
                ..plain(version)
            }
            .bytes()
        });
    }
}

#[test]
fn v5_3_1_3_5_letters_and_digits_are_a_client_id() {
    clauses!(v5 "3.1.3-5"; v311 "3.1.3-5");
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in NUMBERED {
        for id in all.as_bytes().chunks(23).chain(all.as_bytes().chunks(1)) {
            let id = std::str::from_utf8(id).unwrap();
            connect(&Connect::new(version, id)).leave();
        }
    }
}

#[test]
fn v5_3_1_3_8_a_client_id_is_refused_only_with_an_end() {
    clauses!(v5 "3.1.3-8"; v311 "3.1.3-9");
    // No string is refused: long ones, odd ones, and in MQTT 5 the empty one without a clean start.
    let long = "x".repeat(2_000);
    for id in ["a/b", "+", "#", "$SYS", "\u{1F600}", " ", &long] {
        for version in NUMBERED {
            connect(&Connect::new(version, id)).leave();
        }
    }
    connect(&Connect::lasting(V5, "")).leave();
    // The only one that is: 3.1.1 asks for it.
    refused(V3_1_1, &Connect::lasting(V3_1_1, "").bytes(), &[Some(0x02)]);
    refused(V3_1, &Connect::new(V3_1, "").bytes(), &[Some(0x02)]);
}

#[test]
fn v311_3_1_3_8_an_empty_client_id_needs_a_clean_session() {
    clauses!(v311 "3.1.3-7" "3.1.3-8" "3.2.2-4" "3.2.2-5");
    refused(V3_1_1, &Connect::lasting(V3_1_1, "").bytes(), &[Some(0x02)]);
    connect(&Connect::new(V3_1_1, "")).leave();
}

#[test]
fn v5_3_1_4_1_a_connect_that_is_cut_or_too_long_ends_the_connection() {
    clauses!(v5 "3.1.4-1" "3.2.2-7" "4.13.2-1"; v311 "3.1.4-1" "3.2.2-6");
    each_refused(|version| {
        let bytes = plain(version).bytes();
        wire::packet(wire::CONNECT, &[&bytes[2..], b"more"].concat())
    });
    for cut in 1..8 {
        each_refused(|version| {
            let bytes = plain(version).bytes();
            wire::packet(wire::CONNECT, &bytes[2..bytes.len() - cut])
        });
    }
}

#[test]
fn v5_3_1_4_6_nothing_behind_a_refused_connect_is_processed() {
    clauses!(v5 "3.1.4-6"; v311 "3.1.4-5");
    for version in NUMBERED {
        let topic = unique("behind");
        let mut watcher = client(version);
        watcher.subscribe(&topic, 1);
        let bad = plain(version).bytes_with_flags(0x03);
        let publish = Publish::new(version, &topic, "refused").qos(1, 1).bytes();
        let mut peer = Peer::open(broker(), version);
        peer.send(&[bad, publish].concat());
        assert!(
            peer.end()
                .iter()
                .all(|packet| packet.kind() == wire::CONNACK)
        );
        super::support::publish(version, &topic, "taken", 1);
        assert_eq!(watcher.delivery().text(), "taken");
    }
}
