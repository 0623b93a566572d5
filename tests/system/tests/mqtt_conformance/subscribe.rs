//! SUBSCRIBE and SUBACK (3.8, 3.9).

use super::support::*;

const NO_LOCAL: u8 = 1 << 2;
const NEVER_RETAINED: u8 = 2 << 4;

#[test]
fn v5_3_8_3_2_a_subscribe_has_a_filter() {
    clauses!(v5 "3.8.3-2"; v311 "3.8.3-3");
    each_ends(|version| wire::subscribe(version, 1, &[]), &[0x82]);
}

#[test]
fn v5_3_8_3_5_reserved_options_end_the_connection() {
    clauses!(v5 "3.8.3-5"; v311 "3.8.3-4");
    for options in [0x40, 0x80, 0xc0, 0x41] {
        ends(
            client(V5),
            &wire::subscribe(V5, 1, &[("a", options)]),
            &[0x81],
        );
    }
    for options in [0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xfc, 0x03] {
        ends(
            client(V3_1_1),
            &wire::subscribe(V3_1_1, 1, &[("a", options)]),
            &[],
        );
    }
    // QoS 3 and Retain Handling 3 are protocol errors in MQTT 5.
    for options in [0x03, 0x30, 0x33] {
        ends(
            client(V5),
            &wire::subscribe(V5, 1, &[("a", options)]),
            &[0x82],
        );
    }
}

#[test]
fn v5_3_8_4_1_a_subscribe_is_answered_with_a_code_for_each_filter() {
    clauses!(v5 "3.8.4-1" "3.8.4-2" "3.8.4-5" "3.8.4-6" "3.8.4-7" "3.9.3-1" "3.9.3-2";
        v311 "3.8.4-1" "3.8.4-2" "3.8.4-4" "3.8.4-5" "3.9.3-1" "3.9.3-2" "3.8.3-2");
    for version in NUMBERED {
        for mut peer in [client(version), lasting(version).1] {
            let root = unique("many");
            let names: Vec<_> = (0..7).map(|number| format!("{root}/{number}")).collect();
            let codes = [2, 0, 1, 1, 0, 2, 0];
            let filters: Vec<_> = names.iter().map(|name| &name[..]).zip(codes).collect();
            peer.send(&wire::subscribe(version, 0x1234, &filters));
            let suback = peer.take(wire::SUBACK);
            assert_eq!((suback.id(), suback.reasons()), (0x1234, codes.to_vec()));
            // Each is a subscription of its own.
            for (name, qos) in filters {
                publish(version, name, name, 2);
                let delivered = peer.answered_delivery();
                assert_eq!((&delivered.topic[..], delivered.qos), (name, qos));
            }
            // Wildcards are taken.
            assert_eq!(peer.subscribe(&format!("{root}/+/#"), 1), 1);
        }
    }
}

#[test]
fn v5_3_8_4_8_a_message_comes_with_the_lower_qos() {
    clauses!(v5 "3.8.4-8"; v311 "3.8.4-6");
    for version in NUMBERED {
        for mut peer in [client(version), lasting(version).1] {
            for granted in 0..3 {
                let topic = unique("lower");
                peer.subscribe(&topic, granted);
                for published in 0..3 {
                    publish(version, &topic, "x", published);
                    assert_eq!(peer.answered_delivery().qos, granted.min(published));
                }
            }
        }
    }
}

#[test]
fn v5_3_8_4_3_a_filter_that_is_subscribed_is_replaced() {
    clauses!(v5 "3.8.4-3" "3.8.4-4"; v311 "3.8.4-3");
    for version in NUMBERED {
        for mut peer in [client(version), lasting(version).1] {
            let topic = unique("replaced");
            for qos in [2, 0, 1] {
                assert_eq!(peer.subscribe(&topic, qos), qos);
                publish(version, &topic, "once", 2);
                // One copy, as the new subscription says.
                assert_eq!(peer.answered_delivery().qos, qos);
                peer.nothing();
            }
        }
    }
    // Its identifier, too.
    let topic = unique("replaced");
    let mut peer = client(V5);
    peer.subscribe_with(&topic, 1, &[property::identifier(1)]);
    peer.subscribe_with(&topic, 1, &[property::identifier(2)]);
    publish(V5, &topic, "x", 1);
    let found = peer
        .answered_delivery()
        .all(property::SUBSCRIPTION_IDENTIFIER);
    assert_eq!(found, [[2]]);
    peer.subscribe(&topic, 1);
    publish(V5, &topic, "x", 1);
    assert_eq!(
        peer.answered_delivery()
            .all(property::SUBSCRIPTION_IDENTIFIER),
        [[0_u8; 0]; 0]
    );
}

#[test]
fn v5_3_8_4_4_no_message_is_lost_by_a_replacement() {
    clauses!(v5 "3.8.4-4"; v311 "3.8.4-3");
    for version in NUMBERED {
        for mut peer in [client(version), lasting(version).1] {
            let topic = unique("replaced");
            peer.subscribe(&topic, 1);
            let mut publisher = client(version);
            for id in 1..=30 {
                let publish = Publish::new(version, &topic, id.to_string()).qos(1, id);
                publisher.send(&publish.bytes());
                let options = if version == V5 { 1 | NEVER_RETAINED } else { 1 };
                peer.send(&wire::subscribe(version, id, &[(&topic, options)]));
            }
            let (mut found, mut subacks) = (Vec::new(), 0);
            while found.len() < 30 || subacks < 30 {
                let packet = peer.packet();
                if packet.kind() == wire::SUBACK {
                    subacks += 1;
                } else {
                    let delivered = packet.publish();
                    peer.send(&wire::ack(wire::PUBACK, delivered.id.unwrap()));
                    found.push(delivered.text());
                }
            }
            let expected: Vec<_> = (1..=30).map(|id| id.to_string()).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn v5_3_8_3_3_no_local_keeps_a_clients_own_messages_back() {
    clauses!(v5 "3.8.3-3");
    for mut peer in [client(V5), lasting(V5).1] {
        let topic = unique("local");
        peer.subscribe(&topic, 1 | NO_LOCAL);
        for qos in 0..3 {
            peer.publish(Publish::new(V5, &topic, "own"), qos);
            publish(V5, &topic, "another's", 1);
            assert_eq!(peer.answered_delivery().text(), "another's");
        }
        // Without it they come.
        peer.subscribe(&topic, 1);
        peer.send(&Publish::new(V5, &topic, "own").bytes());
        assert_eq!(peer.delivery().text(), "own");
    }
}

#[test]
fn v5_3_8_3_4_no_local_on_a_shared_subscription_is_an_error() {
    clauses!(v5 "3.8.3-4");
    let bytes = wire::subscribe(V5, 1, &[("$share/group/a", 1 | NO_LOCAL)]);
    ends(client(V5), &bytes, &[0x82]);
}

#[test]
fn v5_4_5_0_1_a_message_is_added_to_every_session_that_matches() {
    clauses!(v5 "4.5.0-1"; v311 "4.5.0-1");
    for version in NUMBERED {
        let (root, leaf) = (unique("every"), unique("leaf"));
        let filters = [
            format!("{root}/{leaf}"),
            format!("{root}/+"),
            format!("{root}/#"),
            format!("+/{leaf}"),
        ];
        let mut away = Vec::new();
        for filter in &filters {
            let (again, mut peer) = lasting(version);
            peer.subscribe(filter, 1);
            peer.leave();
            away.push(again);
        }
        publish(version, &format!("{root}/{leaf}"), "for all", 1);
        for again in away {
            let mut peer = come_back(&again);
            assert_eq!(peer.answered_delivery().text(), "for all");
            // Nobody else may fill the session of everything.
            connect(&Connect {
                clean: true,
                ..again
            });
        }
    }
}
