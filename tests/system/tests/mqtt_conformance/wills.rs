//! Wills (3.1.2.5, 3.1.3.2).

use super::support::*;

fn with_will(version: Version, topic: &str) -> Connect {
    Connect::new(version, &unique("mortal")).will(Will::new(topic, "gone"))
}

#[test]
fn v5_3_1_2_7_a_will_is_published_when_the_connection_ends() {
    clauses!(v5 "3.1.2-7" "3.1.2-8"; v311 "3.1.2-8");
    for version in NUMBERED {
        let (topic, mut watcher) = watcher(version);
        connect(&with_will(version, &topic)).cut();
        assert_eq!(watcher.delivery().text(), "gone");
        // Also where the server ends it: by an error of the client,
        let peer = connect(&with_will(version, &topic));
        ends(peer, &[0x00, 0x00], &[0x81]);
        assert_eq!(watcher.delivery().text(), "gone");
        // and by its silence.
        let silent = with_will(version, &topic).keep_alive(1);
        connect(&silent).end();
        assert_eq!(watcher.delivery().text(), "gone");
    }
}

#[test]
fn v5_3_1_2_10_a_will_is_forgotten_after_disconnect_and_after_it_came() {
    clauses!(v5 "3.1.2-10" "3.14.4-3" "3.1.2-8"; v311 "3.1.2-10" "3.14.4-3" "3.1.2-8");
    for version in NUMBERED {
        let (topic, mut watcher) = watcher(version);
        connect(&with_will(version, &topic)).leave();
        let mut again = Connect::lasting(version, &unique("mortal"));
        again.will = Some(Will::new(&topic, "once"));
        connect(&again).cut();
        assert_eq!(watcher.delivery().text(), "once");
        // The session is there still, and has no will any more.
        again.will = None;
        come_back(&again).cut();
        publish(version, &topic, "last", 1);
        assert_eq!(watcher.answered_delivery().text(), "last");
    }
}

#[test]
fn v5_3_1_2_8_a_disconnect_with_another_reason_leaves_the_will() {
    clauses!(v5 "3.1.2-8");
    for reason in [0x04, 0x80, 0x81, 0x93] {
        let (topic, mut watcher) = watcher(V5);
        let mut peer = connect(&with_will(V5, &topic));
        peer.send(&wire::disconnect_with(reason, &[]));
        assert_eq!(peer.end(), []);
        assert_eq!(watcher.delivery().text(), "gone");
    }
}

#[test]
fn v5_3_1_2_8_a_will_waits_for_its_delay() {
    clauses!(v5 "3.1.2-8");
    let (topic, mut watcher) = watcher(V5);
    let mut will = Will::new(&topic, "late");
    will.properties = vec![property::four(property::WILL_DELAY, 5)];
    let began = std::time::Instant::now();
    connect(&Connect::lasting(V5, &unique("mortal")).will(will)).cut();
    publish(V5, &topic, "early", 1);
    assert_eq!(watcher.answered_delivery().text(), "early");
    assert_eq!(watcher.delivery().text(), "late");
    assert!(began.elapsed().as_secs() >= 5, "{:?}", began.elapsed());
}

#[test]
fn v5_3_1_3_9_no_will_where_the_client_is_back_in_time() {
    clauses!(v5 "3.1.3-9" "3.1.2-8");
    let (topic, mut watcher) = watcher(V5);
    let mut will = Will::new(&topic, "not to come");
    will.properties = vec![property::four(property::WILL_DELAY, 5)];
    let again = Connect::lasting(V5, &unique("back")).will(will);
    connect(&again).cut();
    let _peer = come_back(&again);
    pass(6);
    publish(V5, &topic, "last", 1);
    assert_eq!(watcher.answered_delivery().text(), "last");
}

#[test]
fn v311_3_1_2_12_no_will_where_none_was_set() {
    clauses!(v311 "3.1.2-12");
    for version in NUMBERED {
        // Nobody else publishes at QoS 2 here: a topic of everything would show it.
        let (topic, mut watcher) = watcher(version);
        let id = unique("immortal");
        watcher.subscribe(&format!("{topic}/#"), 0);
        connect(&Connect::new(version, &id)).cut();
        publish(version, &topic, "last", 0);
        assert_eq!(watcher.delivery().text(), "last");
    }
}

#[test]
fn v5_3_1_2_14_a_will_is_retained_as_its_flag_says() {
    clauses!(v5 "3.1.2-14" "3.1.2-15" "3.1.2-9"; v311 "3.1.2-16" "3.1.2-17" "3.1.2-9");
    for version in NUMBERED {
        for (retain, qos) in [(false, 1), (true, 1), (true, 0)] {
            let (topic, mut watcher) = watcher(version);
            let mut mortal = with_will(version, &topic);
            let will = mortal.will.as_mut().unwrap();
            (will.retain, will.qos) = (retain, qos);
            connect(&mortal).cut();
            let delivered = watcher.answered_delivery();
            assert_eq!((delivered.retain, delivered.qos), (false, qos));
            // Who comes later finds it, or does not.
            let mut later = client(version);
            later.subscribe(&topic, 1);
            if retain {
                let delivered = later.answered_delivery();
                assert_eq!((delivered.retain, &delivered.text()[..]), (true, "gone"));
            } else {
                later.nothing();
            }
        }
    }
}

#[test]
fn v5_3_1_3_10_a_will_has_its_properties() {
    clauses!(v5 "3.1.3-10");
    let (topic, mut watcher) = watcher(V5);
    let users = [("b", "1"), ("a", "2"), ("b", "3"), ("a", "")];
    let mut properties: Vec<_> = users
        .map(|(name, value)| property::user(name, value))
        .into();
    properties.push(property::byte(property::PAYLOAD_FORMAT, 1));
    properties.push(property::bytes(property::CONTENT_TYPE, "text/plain"));
    properties.push(property::bytes(property::RESPONSE_TOPIC, "answer/here"));
    properties.push(property::bytes(property::CORRELATION_DATA, [0, 0xff]));
    let will = Will {
        properties: properties.clone(),
        ..Will::new(&topic, "gone")
    };
    connect(&Connect::new(V5, &unique("mortal")).will(will)).cut();
    let delivered = watcher.delivery();
    let expected: Vec<_> = properties[..4]
        .iter()
        .map(|user| user[1..].to_vec())
        .collect();
    assert_eq!(delivered.all(property::USER_PROPERTY), expected);
    for property in &properties[4..] {
        assert_eq!(
            delivered.property(property[0]).as_deref(),
            Some(&property[1..])
        );
    }
}
