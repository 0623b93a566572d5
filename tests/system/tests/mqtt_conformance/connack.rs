//! CONNACK (3.2).

use super::support::*;

#[test]
fn v5_3_1_4_5_success_is_told_first() {
    clauses!(v5 "3.1.4-5" "3.2.0-1" "3.2.2-1" "3.2.2-8"; v311 "3.1.4-4" "3.2.0-1");
    for version in NUMBERED {
        let (mut peer, connack) = Peer::asked(broker(), &Connect::new(version, &unique("first")));
        assert_eq!(
            (connack.first, connack.body[0], connack.body[1]),
            (0x20, 0, 0)
        );
        peer.nothing();
    }
}

#[test]
fn v5_3_2_0_1_even_where_messages_wait() {
    clauses!(v5 "3.2.0-1"; v311 "3.2.0-1");
    for version in NUMBERED {
        let (again, mut peer) = lasting(version);
        let topic = unique("waits");
        peer.subscribe(&topic, 1);
        peer.cut();
        publish(version, &topic, "x", 1);
        // Everything at once: SUBSCRIBE and PINGREQ do not overtake either.
        let mut peer = Peer::open(broker(), version);
        let subscribe = wire::subscribe(version, 5, &[("other", 0)]);
        peer.send(&[again.bytes(), subscribe, vec![0xc0, 0]].concat());
        assert_eq!(peer.packet().kind(), wire::CONNACK);
        let mut kinds = [peer.packet(), peer.packet(), peer.packet()].map(|packet| packet.kind());
        kinds.sort_unstable();
        assert_eq!(kinds, [wire::PUBLISH, wire::SUBACK, wire::PINGRESP]);
    }
}

#[test]
fn v5_3_2_2_2_session_present_is_0_after_a_clean_start() {
    clauses!(v5 "3.2.2-2" "3.1.2-4"; v311 "3.2.2-1" "3.1.2-6");
    for version in NUMBERED {
        let (again, peer) = lasting(version);
        peer.leave();
        let clean = Connect {
            clean: true,
            ..again
        };
        let (_, connack) = Peer::asked(broker(), &clean);
        assert_eq!((connack.body[0], connack.reason()), (0, 0));
    }
}

#[test]
fn v5_3_2_2_3_session_present_says_whether_there_was_one() {
    clauses!(v5 "3.2.2-3" "3.2.2-5" "3.1.2-6" "3.1.2-5"; v311 "3.2.2-2" "3.2.2-3" "3.1.2-4");
    for version in NUMBERED {
        let again = Connect::lasting(version, &unique("present"));
        let (peer, connack) = Peer::asked(broker(), &again);
        assert_eq!(connack.body[..2], [0, 0]);
        peer.leave();
        let (peer, connack) = Peer::asked(broker(), &again);
        assert_eq!(connack.body[..2], [1, 0]);
        peer.cut();
        let (_, connack) = Peer::asked(broker(), &again);
        assert_eq!(connack.body[..2], [1, 0]);
    }
}

#[test]
fn v5_3_2_2_6_a_refusal_has_no_session_and_ends_the_connection() {
    clauses!(v5 "3.2.2-6" "3.2.2-7" "3.2.2-8" "4.13.2-1");
    // A session that is there, and a CONNECT for it that is refused.
    let (again, peer) = lasting(V5);
    peer.leave();
    let method = property::bytes(property::AUTHENTICATION_METHOD, "nobody-has-this");
    refused(
        V5,
        &again.clone().with(method).bytes(),
        &[Some(0x8c), Some(0x87)],
    );
    let twice = property::four(property::SESSION_EXPIRY, 1);
    refused(V5, &again.clone().with(twice).bytes(), &[Some(0x82)]);
    come_back(&again);
}

#[test]
fn v5_3_2_2_9_all_qos_are_offered_and_work() {
    clauses!(v5 "3.2.2-9" "3.2.2-10" "3.2.2-11");
    let (mut peer, connack) = Peer::asked(broker(), &Connect::new(V5, &unique("qos")));
    // Absent is QoS 2.
    assert_eq!(connack.property(property::MAXIMUM_QOS), None);
    for qos in 0..3 {
        let topic = unique("offered");
        assert_eq!(peer.subscribe(&topic, qos), qos);
        publish(V5, &topic, "x", qos);
        assert_eq!(peer.answered_delivery().qos, qos);
    }
}

#[test]
fn v5_3_2_2_12_a_will_of_every_qos_is_taken() {
    clauses!(v5 "3.2.2-12" "3.2.2-13" "3.1.2-12" "3.2.2-14");
    for (version, qos) in NUMBERED
        .into_iter()
        .flat_map(|version| [0, 1, 2].map(|qos| (version, qos)))
    {
        let mut watcher = client(version);
        let topic = unique("will/qos");
        watcher.subscribe(&topic, 2);
        let will = Will {
            qos,
            retain: true,
            ..Will::new(&topic, "gone")
        };
        let (peer, connack) =
            Peer::asked(broker(), &Connect::new(version, &unique("w")).will(will));
        assert_eq!(connack.reason(), 0);
        if version == V5 {
            assert_eq!(connack.property(property::RETAIN_AVAILABLE), None);
        }
        peer.cut();
        assert_eq!(watcher.answered_delivery().qos, qos);
    }
}

#[test]
fn v5_3_2_2_16_an_assigned_client_id_is_told_and_unique() {
    clauses!(v5 "3.1.3-6" "3.1.3-7" "3.2.2-16"; v311 "3.1.3-6");
    let mut peers = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let (peer, connack) = Peer::asked(broker(), &Connect::lasting(V5, ""));
        let id = connack.property(property::ASSIGNED_CLIENT_ID).unwrap();
        let id = String::from_utf8(id[2..].to_vec()).unwrap();
        assert!(!id.is_empty() && ids.insert(id));
        peers.push(peer);
    }
    // It is the id of the session: who names it takes it up.
    peers.into_iter().for_each(Peer::leave);
    for id in ids {
        come_back(&Connect::lasting(V5, &id)).leave();
    }
    // Who named one is told none.
    let (_, connack) = Peer::asked(broker(), &Connect::new(V5, &unique("named")));
    assert_eq!(connack.property(property::ASSIGNED_CLIENT_ID), None);
    // Two at once in 3.1.1 do not take each other over.
    let mut first = connect(&Connect::new(V3_1_1, ""));
    connect(&Connect::new(V3_1_1, "")).nothing();
    first.nothing();
}

#[test]
fn v5_3_1_2_28_response_information_is_not_sent_unasked() {
    clauses!(v5 "3.1.2-28");
    for asked in [None, Some(0)] {
        let mut ask = Connect::new(V5, &unique("response"));
        ask.properties
            .extend(asked.map(|value| property::byte(property::REQUEST_RESPONSE, value)));
        let (_, connack) = Peer::asked(broker(), &ask);
        assert_eq!(connack.property(property::RESPONSE_INFORMATION), None);
    }
}

#[test]
fn v5_3_1_2_29_no_problem_information_where_none_is_wanted() {
    clauses!(v5 "3.1.2-29" "3.4.2-1" "3.5.2-1" "3.7.2-1");
    let quiet = Connect::new(V5, &unique("quiet"));
    let mut peer = connect(&quiet.with(property::byte(property::REQUEST_PROBLEM, 0)));
    // Each of these is answered by an error.
    let asked = [
        Publish::new(V5, "$SYS/broker/load", "x").qos(1, 1).bytes(),
        Publish::new(V5, "$SYS/broker/load", "x").qos(2, 2).bytes(),
        wire::ack(wire::PUBREL, 9),
        wire::unsubscribe(V5, 3, &["never/subscribed"]),
    ];
    let codes = asked.map(|bytes| {
        peer.send(&bytes);
        let answer = peer.packet();
        (answer.kind(), answer.body)
    });
    assert_eq!(codes[0], (wire::PUBACK, vec![0, 1, 0x87]));
    assert_eq!(codes[1], (wire::PUBREC, vec![0, 2, 0x87]));
    assert_eq!(codes[2], (wire::PUBCOMP, vec![0, 9, 0x92]));
    assert_eq!(codes[3], (wire::UNSUBACK, vec![0, 3, 0, 0x11]));
}
