//! Sessions (3.1.2.4, 4.1): who has one, for how long, and who takes it over.

use super::support::*;

#[test]
fn v5_3_1_2_4_a_clean_start_discards_the_session() {
    clauses!(v5 "3.1.2-4" "3.1.4-4"; v311 "3.1.2-6" "3.1.4-3");
    for version in NUMBERED {
        let (again, mut peer) = lasting(version);
        let topic = unique("discarded");
        peer.subscribe(&topic, 1);
        peer.leave();
        publish(version, &topic, "before", 1);
        // What waited is gone, and so is the subscription.
        let mut peer = connect(&Connect {
            clean: true,
            ..again.clone()
        });
        publish(version, &topic, "after", 1);
        peer.nothing();
        peer.subscribe(&topic, 1);
        publish(version, &topic, "last", 1);
        assert_eq!(peer.answered_delivery().text(), "last");
    }
}

#[test]
fn v311_3_1_2_6_a_clean_session_ends_with_its_connection() {
    clauses!(v311 "3.1.2-6" "3.2.2-3");
    let clean = Connect::new(V3_1_1, &unique("clean"));
    let mut peer = connect(&clean);
    peer.subscribe("nothing/stays", 1);
    peer.leave();
    let (_, connack) = Peer::asked(
        broker(),
        &Connect {
            clean: false,
            ..clean
        },
    );
    assert!(!connack.session_present());
}

#[test]
fn v5_3_1_2_5_a_session_is_resumed_with_its_subscriptions_and_messages() {
    clauses!(v5 "3.1.2-5" "3.1.2-23" "4.5.0-1" "3.1.3-2" "4.1.0-1";
        v311 "3.1.2-4" "3.1.2-5" "4.5.0-1" "3.1.3-2" "4.1.0-1");
    for version in NUMBERED {
        let (again, mut peer) = lasting(version);
        let topic = unique("resumed");
        peer.subscribe(&topic, 2);
        peer.cut();
        for (payload, qos) in [("one", 1), ("two", 2), ("three", 1)] {
            publish(version, &topic, payload, qos);
        }
        let mut peer = come_back(&again);
        for expected in [("one", 1), ("two", 2), ("three", 1)] {
            let delivered = peer.answered_delivery();
            assert_eq!((&delivered.text()[..], delivered.qos), expected);
        }
        publish(version, &topic, "live", 1);
        assert_eq!(peer.answered_delivery().text(), "live");
    }
}

#[test]
fn v5_3_1_2_6_a_session_is_made_where_there_is_none() {
    clauses!(v5 "3.1.2-6"; v311 "3.1.2-4");
    for version in NUMBERED {
        let again = Connect::lasting(version, &unique("made"));
        let (mut peer, connack) = Peer::asked(broker(), &again);
        assert!(!connack.session_present());
        peer.nothing();
        peer.cut();
        come_back(&again);
    }
}

#[test]
fn v5_3_1_3_2_each_client_id_has_its_own_session() {
    clauses!(v5 "3.1.3-2"; v311 "3.1.3-2");
    for version in NUMBERED {
        let topic = unique("own");
        let (one, mut peer) = lasting(version);
        peer.subscribe(&topic, 1);
        peer.leave();
        let (other, peer) = lasting(version);
        peer.leave();
        publish(version, &topic, "for one", 1);
        come_back(&other).nothing();
        assert_eq!(come_back(&one).delivery().text(), "for one");
    }
}

#[test]
fn v5_3_1_4_3_a_second_connection_takes_the_session_over() {
    clauses!(v5 "3.1.4-3" "3.14.2-1"; v311 "3.1.4-2");
    for version in NUMBERED {
        let (again, mut first) = lasting(version);
        let topic = unique("taken");
        first.subscribe(&topic, 1);
        let mut second = come_back(&again);
        let last = first.end();
        match version {
            V5 => assert_eq!(
                (last.len(), last[0].kind(), last[0].reason()),
                (1, 0xe0, 0x8e)
            ),
            _ => assert_eq!(last, []),
        }
        publish(version, &topic, "for the second", 1);
        assert_eq!(second.answered_delivery().text(), "for the second");
    }
}

#[test]
fn v5_3_1_4_3_also_where_no_session_lasts() {
    clauses!(v5 "3.1.4-3"; v311 "3.1.4-2");
    for version in NUMBERED {
        let clean = Connect::new(version, &unique("taken"));
        let mut first = connect(&clean);
        connect(&clean).nothing();
        first.end();
    }
}

#[test]
fn v5_4_1_0_1_a_session_lives_while_its_connection_does() {
    clauses!(v5 "4.1.0-1"; v311 "4.1.0-2" "4.1.0-1");
    for version in NUMBERED {
        // An expiry of 0 begins to count at the end only.
        let mut peer = client(version);
        let topic = unique("lives");
        peer.subscribe(&topic, 1);
        pass(1);
        publish(version, &topic, "x", 1);
        assert_eq!(peer.answered_delivery().text(), "x");
    }
}

#[test]
fn v5_4_1_0_2_a_session_is_discarded_when_its_expiry_has_passed() {
    clauses!(v5 "4.1.0-2" "3.1.2-23");
    let topic = unique("expired");
    let mut watcher = client(V5);
    watcher.subscribe(&topic, 0);
    // A will with a longer delay comes when the session ends (3.1.3.2.2).
    let mut will = Will::new(&topic, "ended");
    will.properties = vec![property::four(property::WILL_DELAY, 1_000)];
    let mut again = Connect::new(V5, &unique("expires")).will(will);
    again.clean = false;
    let short = again
        .clone()
        .with(property::four(property::SESSION_EXPIRY, 1));
    connect(&short).cut();
    assert_eq!(watcher.delivery().text(), "ended");
    let (_, connack) = Peer::asked(broker(), &again);
    assert!(!connack.session_present());
}

#[test]
fn v5_4_1_0_2_an_expiry_of_0_ends_it_at_once() {
    clauses!(v5 "4.1.0-2");
    let id = unique("short");
    let mut none = Connect::new(V5, &id);
    none.clean = false;
    connect(&none).leave();
    let (peer, connack) = Peer::asked(broker(), &none);
    assert!(!connack.session_present());
    peer.leave();
    // A DISCONNECT may change it, to 0 too.
    let lasting = Connect::lasting(V5, &id);
    let mut peer = connect(&lasting);
    peer.send(&wire::disconnect_with(
        0,
        &[property::four(property::SESSION_EXPIRY, 0)],
    ));
    assert_eq!(peer.end(), []);
    let (_, connack) = Peer::asked(broker(), &lasting);
    assert!(!connack.session_present());
}

#[test]
fn v311_3_1_2_7_retained_messages_outlive_sessions() {
    clauses!(v311 "3.1.2-7");
    for version in NUMBERED {
        let topic = unique("outlives");
        let (again, mut peer) = lasting(version);
        peer.publish(Publish::new(version, &topic, "kept").retain(), 1);
        peer.leave();
        connect(&Connect {
            clean: true,
            properties: Vec::new(),
            ..again
        })
        .leave();
        let mut reader = client(version);
        reader.subscribe(&topic, 1);
        assert_eq!(reader.answered_delivery().text(), "kept");
    }
}

#[test]
fn v311_7_0_0_2_no_extension_is_needed() {
    clauses!(v311 "7.0.0-2" "7.1.1-1"; v5 "4.2.0-1");
    // The smallest client over plain TCP: it connects, subscribes, publishes, and leaves.
    for version in [V3_1, V3_1_1, V5] {
        let topic = unique("plain");
        let mut peer = client(version);
        peer.subscribe(&topic, 0);
        peer.send(&Publish::new(version, &topic, "x").bytes());
        assert_eq!(peer.delivery().text(), "x");
        peer.leave();
    }
}
