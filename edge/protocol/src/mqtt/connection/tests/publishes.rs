//! What clients publish and subscribe to.

use super::*;
use crate::mqtt::codec::{RetainHandling, SubscriptionOptions};

const PUBLISH_1: &[u8] = b"\x32\x06\x00\x01a\x00\x01\x00";
const PUBLISH_2: &[u8] = b"\x32\x06\x00\x01a\x00\x02\x00";
const PUBLISH_3: &[u8] = b"\x32\x06\x00\x01a\x00\x03\x00";

fn limits(inflight: u16) -> ConnectionLimits {
    ConnectionLimits {
        inflight_inbound_max: NonZeroU16::new(inflight).unwrap(),
        ..ConnectionLimits::default()
    }
}

/// [MQTT-4.6.0-2]
#[test]
fn pubacks_are_in_the_order_of_the_publishes() {
    let mut server = Server::default(V5);
    server.send(&[PUBLISH_1, PUBLISH_2, PUBLISH_3].concat());
    let tokens = server.publish_tokens();
    server.connection.handle_committed(tokens[2], Ok(()));
    server
        .connection
        .handle_committed(tokens[1], Err(PublishRefused::QuotaExceeded));
    assert!(server.transmitted().is_empty());
    server.connection.handle_committed(tokens[0], Ok(()));
    let pubacks = b"\x40\x02\x00\x01\x40\x03\x00\x02\x97\x40\x02\x00\x03";
    assert_eq!(server.transmitted(), pubacks);
}

#[test]
fn a_refused_publish_before_mqtt_5_ends_the_connection_at_its_turn() {
    let mut server = Server::default(V4);
    server.send(b"\x32\x05\x00\x01a\x00\x01\x32\x05\x00\x01a\x00\x02");
    let tokens = server.publish_tokens();
    let refused = PublishRefused::NotAuthorized;
    server.connection.handle_committed(tokens[1], Err(refused));
    assert!(!server.connection.is_closed());
    server.connection.handle_committed(tokens[0], Ok(()));
    let end = (
        b"\x40\x02\x00\x01".to_vec(),
        CloseReason::PublishRefused(refused),
    );
    assert_eq!(server.end(), end);
}

#[test]
fn no_puback_says_too_large() {
    let mut server = Server::default(V5);
    server.send(PUBLISH_1);
    let tokens = server.publish_tokens();
    server
        .connection
        .handle_committed(tokens[0], Err(PublishRefused::TooLarge));
    server.assert_refused(Some(0x95));
}

/// [MQTT-3.3.4-7]
#[test]
fn the_receive_maximum_is_enforced() {
    let mut server = Server::connected(limits(2), V5);
    server.send(&[PUBLISH_1, PUBLISH_2].concat());
    let tokens = server.publish_tokens();
    server.connection.handle_committed(tokens[0], Ok(()));
    server.send(PUBLISH_3);
    assert!(server.connection.can_read());
    server.send(PUBLISH_1);
    let (last, _) = server.end();
    assert!(last.starts_with(b"\x40\x02\x00\x01\xe0"), "{last:02x?}");
    assert_eq!(last[6], 0x93);
}

#[test]
fn an_older_client_is_not_read_from_while_its_window_is_full() {
    let mut server = Server::connected(limits(1), V4);
    server.send(b"\x32\x05\x00\x01a\x00\x01");
    assert!(!server.connection.can_read());
    // Its keep alive of 60 s stands still meanwhile, and begins again after.
    server.pass(Duration::from_secs(100));
    let tokens = server.publish_tokens();
    server.connection.handle_committed(tokens[0], Ok(()));
    assert!(server.connection.can_read());
    assert_eq!(server.transmitted(), b"\x40\x02\x00\x01");
    server.pass(Duration::from_secs(89));
    server.pass(Duration::from_secs(2));
    assert!(!server.connection.is_closed());
    server.pass(Duration::from_secs(90));
    assert!(matches!(server.end(), (_, CloseReason::KeepAliveTimeout)));
}

#[test]
fn topic_aliases_are_resolved() {
    let mut server = Server::default(V5);
    server.send(b"\x30\x07\x00\x01a\x03\x23\x00\x01\x30\x06\x00\x00\x03\x23\x00\x01");
    server.send(b"\x30\x07\x00\x01b\x03\x23\x00\x01\x30\x06\x00\x00\x03\x23\x00\x01");
    let topics: Vec<_> = server
        .events()
        .into_iter()
        .map(|event| match event {
            Event::Publish { publish, .. } => publish.message.topic.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, ["a", "a", "b", "b"]);
}

#[test]
fn what_a_publish_may_not_be() {
    let cases: &[(&[u8], u8)] = &[
        (b"\x30\x06\x00\x00\x03\x23\x00\x02", 0x82), // an alias that was never set
        (b"\x30\x07\x00\x01a\x03\x23\x00\x11", 0x94), // [MQTT-3.3.2-9]
        (b"\x30\x06\x00\x01a\x02\x0b\x01", 0x82),    // [MQTT-3.3.4-6]
        (b"\x30\x04\x00\x01#\x00", 0x81),            // [MQTT-3.3.2-2]
        (b"\x30\xff\xff\x7f", 0x95),
        (b"\xf0\x00", 0x82), // AUTH that nobody asked for
    ];
    for (bytes, code) in cases {
        let mut server = Server::default(V5);
        server.send(bytes);
        server.assert_refused(Some(*code));
    }
    for bytes in [&b"\x30\x03\x00\x01#"[..], b"\x36"] {
        let mut server = Server::default(V4);
        server.send(bytes);
        server.assert_refused(None);
    }
}

/// [MQTT-3.2.2-11]
#[test]
fn qos_2_that_is_not_offered_is_refused() {
    let limits = ConnectionLimits {
        qos_max: Qos::AtLeastOnce,
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits.clone(), V4);
    server.send(b"\x34\x05\x00\x01a\x00\x01");
    server.assert_refused(None);
    // V5 is told so in the CONNACK.
    let mut server = Server::connected(limits, V5);
    server.send(b"\x34\x06\x00\x01a\x00\x01\x00");
    server.assert_refused(Some(0x9b));
}

#[test]
fn retain_that_is_not_offered_is_refused() {
    let limits = ConnectionLimits {
        retain_available: false,
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits, V5);
    server.send(b"\x31\x04\x00\x01a\x00"); // [MQTT-3.2.2-14]
    server.assert_refused(Some(0x9a));
}

/// [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-6], [MQTT-3.8.4-7]
#[test]
fn subscriptions_are_granted_and_taken_back() {
    let mut server = Server::default(V5);
    server.send(b"\x82\x18\x00\x09\x02\x0b\x05\x00\x01a\x02\x00\x0c$share/g/b/1\x00");
    let events = server.events();
    let [
        Event::Subscribe {
            token,
            filters,
            subscription_identifier,
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(subscription_identifier.unwrap().get(), 5);
    assert_eq!(filters[0].granted(), ReasonCode::GrantedQos2);
    assert_eq!(filters[1].filter.group.as_deref(), Some("g"));
    assert_eq!(filters[1].filter.filter.as_str(), "b/1");
    let reasons = vec![filters[0].granted(), ReasonCode::NotAuthorized];
    server.connection.handle_subscribed(*token, reasons);
    assert_eq!(server.transmitted(), b"\x90\x05\x00\x09\x00\x02\x87");

    server.send(b"\xa2\x06\x00\x0a\x00\x00\x01a");
    let events = server.events();
    let [Event::Unsubscribe { token, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    let reasons = vec![ReasonCode::NoSubscriptionExisted];
    server.connection.handle_unsubscribed(*token, reasons);
    assert_eq!(server.transmitted(), b"\xb0\x04\x00\x0a\x00\x11");
}

#[test]
fn subscribes_that_are_refused() {
    let none = ConnectionLimits {
        wildcard_subscription_available: false,
        shared_subscription_available: false,
        subscription_identifier_available: false,
        ..ConnectionLimits::default()
    };
    let all = ConnectionLimits::default();
    let cases: &[(&ConnectionLimits, &[u8], u8)] = &[
        (&all, b"\x82\x08\x00\x01\x00\x00\x02a#\x00", 0x8f), // [MQTT-4.7.1-1]
        (&all, b"\x82\x10\x00\x01\x00\x00\x0a$share/g/b\x04", 0x82), // [MQTT-3.8.3-4]
        (&none, b"\x82\x07\x00\x01\x00\x00\x01#\x00", 0xa2),
        (&none, b"\x82\x10\x00\x01\x00\x00\x0a$share/g/b\x00", 0x9e),
        (&none, b"\x82\x09\x00\x01\x02\x0b\x01\x00\x01a\x00", 0xa1),
    ];
    for (limits, bytes, code) in cases {
        let mut server = Server::connected((*limits).clone(), V5);
        server.send(bytes);
        server.assert_refused(Some(*code));
    }
}

/// 3.8.3.1: the options reach the driver, which knows whether the subscription is new; the QoS is
/// what this server can grant [MQTT-3.8.4-7].
#[test]
fn subscription_options_reach_the_driver() {
    let limits = ConnectionLimits {
        qos_max: Qos::AtLeastOnce,
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits, V5);
    server.send(b"\x82\x0b\x00\x09\x00\x00\x01a\x1e\x00\x01b\x20");
    let events = server.events();
    let [Event::Subscribe { filters, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    let first = SubscriptionOptions {
        qos_max: Qos::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::AtNewSubscribe,
    };
    assert_eq!(filters[0].options, first);
    assert_eq!(filters[1].options.retain_handling, RetainHandling::Never);
}
