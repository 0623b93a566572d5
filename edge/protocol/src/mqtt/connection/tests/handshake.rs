//! CONNECT and CONNACK.

use super::*;

#[test]
fn an_mqtt_5_connack_announces_the_limits() {
    let mut server = Server::new(ConnectionLimits {
        packet_bytes_max: NonZeroU32::new(1000).unwrap(),
        inflight_inbound_max: NonZeroU16::new(20).unwrap(),
        keep_alive_s_max: NonZeroU16::new(30),
        topic_alias_inbound_max: 5,
        qos_max: Qos::AtLeastOnce,
        retain_available: false,
        shared_subscription_available: false,
        ..ConnectionLimits::default()
    });
    server.send(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00");
    let events = server.events();
    let [Event::Connect(request)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(
        (request.client_id.as_ref(), request.receive_maximum),
        (None, 65_535)
    );
    let accepted = Accepted {
        assigned_client_id: Some(text("x")),
        session_expiry_interval_s: Some(7),
        ..Accepted::default()
    };
    server.connection.handle_accepted(server.now, accepted);
    // [MQTT-3.1.3-7], [MQTT-3.1.2-21], [MQTT-3.2.2-9]
    let connack = b"\x20\x20\x00\x00\x1d\x11\x00\x00\x00\x07\x21\x00\x14\x24\x01\x25\x00\
        \x27\x00\x00\x03\xe8\x12\x00\x01x\x22\x00\x05\x2a\x00\x13\x00\x1e";
    assert_eq!(server.transmitted(), connack);
}

#[test]
fn an_mqtt_3_1_1_connack_says_whether_the_session_was_there() {
    let mut server = Server::new(ConnectionLimits::default());
    server.send(V4);
    let accepted = Accepted {
        session_present: true,
        ..Accepted::default()
    };
    server.connection.handle_accepted(server.now, accepted);
    assert_eq!(server.transmitted(), b"\x20\x02\x01\x00");
}

#[test]
fn a_connect_that_no_server_accepts() {
    let cases: &[(&str, &[u8], &[u8])] = &[
        (
            "[MQTT-3.1.3-8] of 3.1.1: an empty client id needs a clean session",
            b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00",
            b"\x20\x02\x00\x02",
        ),
        (
            "[MQTT-3.1.2-2]: a level that does not exist",
            b"\x10\x0c\x00\x04MQTT\x07\x02\x00\x3c\x00\x00",
            b"\x20",
        ),
        (
            "a bridge's private level of 3.1.1",
            b"\x10\x0c\x00\x04MQTT\x84\x02\x00\x3c\x00\x00",
            b"\x20\x02\x00\x01",
        ),
        (
            "[MQTT-3.1.2-3] before MQTT 5: no code, so nothing is said",
            b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00",
            b"",
        ),
        (
            "[MQTT-3.1.2-1]: not MQTT",
            b"\x10\x0c\x00\x04HTTP\x04\x03\x00\x3c\x00\x00",
            b"",
        ),
        ("[MQTT-3.1.0-1]: not CONNECT", b"\xc0\x00", b""),
    ];
    for (name, connect, answer) in cases {
        let mut server = Server::new(ConnectionLimits::default());
        server.send(connect);
        let (last, _) = server.end();
        assert!(
            last.starts_with(answer) && last.is_empty() == answer.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn an_mqtt_5_connect_is_refused_with_its_code() {
    let cases: &[(&[u8], u8)] = &[
        (b"\x10\x0d\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x00", 0x81), // [MQTT-3.1.2-3]
        (b"\x10\x0d\x00\x04MQTT\x07\x02\x00\x3c\x00\x00\x00", 0x84), // [MQTT-3.1.2-2]
        (
            b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x04\x15\x00\x01x\x00\x00",
            0x8c,
        ), // [MQTT-4.12.0-1]
        // [MQTT-3.2.2-12]: the will's QoS is 2.
        (
            b"\x10\x13\x00\x04MQTT\x05\x16\x00\x3c\x00\x00\x00\x00\x00\x01w\x00\x00",
            0x9b,
        ),
    ];
    for (connect, code) in cases {
        let mut server = Server::new(ConnectionLimits {
            qos_max: Qos::AtLeastOnce,
            ..ConnectionLimits::default()
        });
        server.send(connect);
        let (last, _) = server.end();
        assert_eq!((last[0], last[2], last[3]), (0x20, 0, *code), "{last:02x?}");
    }
}

#[test]
fn the_driver_rejects_in_the_words_of_the_version() {
    for (connect, answer) in [
        (V4, &b"\x20\x02\x00\x05"[..]),
        (V5, b"\x20\x03\x00\x87\x00"),
    ] {
        let mut server = Server::new(ConnectionLimits::default());
        server.send(connect);
        server.connection.handle_rejected(ReasonCode::NotAuthorized);
        let rejected = CloseReason::Rejected(ReasonCode::NotAuthorized);
        assert_eq!(server.end(), (answer.to_vec(), rejected));
    }
}

/// 4.11, [MQTT-3.2.2-22]
#[test]
fn a_client_is_sent_to_another_server() {
    for (connect, is_permanent, answer) in [
        (V5, false, &b"\x20\x07\x00\x9c\x04\x1c\x00\x01b"[..]),
        (V5, true, b"\x20\x07\x00\x9d\x04\x1c\x00\x01b"),
        (V4, false, b"\x20\x02\x00\x03"),
    ] {
        let redirect = Redirect {
            server: text("b"),
            is_permanent,
        };
        let mut server = Server::new(ConnectionLimits::default());
        server.send(connect);
        server.connection.handle_redirected(server.now, &redirect);
        let reason = CloseReason::Shutdown(redirect.reason_code());
        assert_eq!(server.end(), (answer.to_vec(), reason));
    }
}

/// [MQTT-3.14.2-4]; one of MQTT 3 is left in silence.
#[test]
fn a_connected_client_is_sent_to_another_server() {
    let redirect = Redirect {
        server: text("b"),
        is_permanent: false,
    };
    for (connect, answer) in [(V5, &b"\xe0\x06\x9c\x04\x1c\x00\x01b"[..]), (V4, b"")] {
        let mut server = Server::default(connect);
        server.connection.handle_redirected(server.now, &redirect);
        assert_eq!(server.end().0, answer);
    }
}

/// [MQTT-3.1.2-24]
#[test]
fn a_refusal_is_no_larger_than_the_client_takes() {
    let redirect = Redirect {
        server: text(&"b".repeat(30)),
        is_permanent: false,
    };
    let mut server = Server::new(ConnectionLimits::default());
    server.send(b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x27\x00\x00\x00\x14\x00\x01c");
    server.connection.handle_redirected(server.now, &redirect);
    assert_eq!(server.end().0, b"");
}

#[test]
fn what_comes_before_the_connack_waits_for_it() {
    let mut server = Server::new(ConnectionLimits::default());
    server.send(V5);
    assert!(!server.connection.can_read());
    server.send(b"\xc0\x00");
    assert!(server.transmitted().is_empty());
    server.accept();
    let sent = server.transmitted();
    assert!(sent.starts_with(b"\x20") && sent.ends_with(b"\xd0\x00"));
}

/// [MQTT-3.1.0-2]
#[test]
fn a_second_connect_is_a_protocol_error() {
    for (connect, code) in [(V4, None), (V5, Some(0x82))] {
        let mut server = Server::default(connect);
        server.send(connect);
        server.assert_refused(code);
    }
}
