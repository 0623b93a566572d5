//! Keep alive, wills, and how connections end.

use super::*;

/// With the will `w`, and a session that outlives the connection.
const WILL_V4: &[u8] = b"\x10\x12\x00\x04MQTT\x04\x06\x00\x3c\x00\x01c\x00\x01w\x00\x00";
const WILL_V5: &[u8] = b"\x10\x14\x00\x04MQTT\x05\x06\x00\x3c\x00\x00\x01c\x00\x00\x01w\x00\x00";

fn will_is_due(server: &mut Server) -> bool {
    let events = server.events();
    assert!(
        matches!(events.last(), Some(Event::Closed(_))),
        "{events:?}"
    );
    events
        .iter()
        .any(|event| matches!(event, Event::WillDue(_)))
}

#[test]
fn a_silent_stranger_is_let_go() {
    let mut server = Server::new(ConnectionLimits::default());
    let timeout = server.connection.poll_timeout().unwrap();
    assert_eq!(
        timeout - server.now,
        ConnectionLimits::default().connect_timeout
    );
    server.pass(Duration::from_millis(9_999));
    assert!(!server.connection.is_closed());
    server.pass(Duration::from_millis(1));
    assert_eq!(server.end(), (Vec::new(), CloseReason::ConnectTimeout));
}

/// [MQTT-3.1.2-22] of MQTT 5, [MQTT-3.1.2-24] of 3.1.1
#[test]
fn a_silent_client_is_let_go_after_one_and_a_half_keep_alives() {
    for (connect, last) in [(V4, &b""[..]), (V5, b"\xe0\x01\x8d")] {
        let mut server = Server::default(connect);
        server.pass(Duration::from_secs(80));
        server.send(b"\xc0\x00");
        assert_eq!(server.transmitted(), b"\xd0\x00"); // [MQTT-3.12.4-1]
        server.pass(Duration::from_millis(89_999));
        assert!(!server.connection.is_closed());
        server.pass(Duration::from_millis(1));
        assert_eq!(server.end(), (last.to_vec(), CloseReason::KeepAliveTimeout));
    }
}

#[test]
fn without_keep_alive_there_is_no_timeout() {
    let server = Server::default(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c");
    assert_eq!(server.connection.poll_timeout(), None);
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.14.4-3]
#[test]
fn the_will_is_due_unless_the_client_takes_it_back() {
    let cases: &[(&[u8], &[u8], bool)] = &[
        (WILL_V4, b"\xe0\x00", false),
        (WILL_V5, b"\xe0\x00", false),
        (WILL_V5, b"\xe0\x02\x00\x00", false),
        (WILL_V5, b"\xe0\x01\x04", true),
        (WILL_V5, b"\x00", true),
        (WILL_V4, b"\x00", true),
    ];
    for (connect, end, due) in cases {
        let mut server = Server::default(connect);
        server.send(end);
        assert_eq!(will_is_due(&mut server), *due, "{end:02x?}");
        // The socket's end adds nothing.
        server.connection.handle_closed(server.now);
        assert!(server.events().is_empty());
    }
    let mut server = Server::default(WILL_V5);
    server.connection.handle_closed(server.now);
    assert!(will_is_due(&mut server));
    let mut server = Server::default(WILL_V5);
    server.pass(Duration::from_secs(90));
    assert!(will_is_due(&mut server));
}

#[test]
fn a_rejected_client_has_no_will() {
    let mut server = Server::new(ConnectionLimits::default());
    server.send(WILL_V5);
    server.connection.handle_rejected(ReasonCode::Banned);
    assert!(!will_is_due(&mut server));
}

/// [MQTT-4.13.1-1]
#[test]
fn malformed_packets_are_answered_where_the_version_can() {
    for (connect, code) in [(V4, None), (V5, Some(0x81))] {
        let mut server = Server::default(connect);
        server.send(b"\xc1\x00");
        server.assert_refused(code);
    }
    let mut server = Server::default(V5);
    server.send(b"\xc1\x00");
    let (last, reason) = server.end();
    let message = "PINGREQ: the flags 0b0001 are reserved";
    assert!(last.ends_with(message.as_bytes()), "{last:02x?}");
    let expected = CloseReason::PeerError {
        reason: ReasonCode::MalformedPacket,
        message: message.to_owned(),
    };
    assert_eq!(reason, expected);
}

/// A client that takes 20 bytes gets the code without the explanation [MQTT-3.14.2-3].
#[test]
fn an_explanation_that_does_not_fit_is_left_out() {
    let connect = b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x27\x00\x00\x00\x14\x00\x01c";
    let mut server = Server::default(connect);
    server.send(b"\xc1\x00");
    let (last, _) = server.end();
    assert_eq!(last, b"\xe0\x01\x81");
}

#[test]
fn the_session_expiry_can_change_at_the_end() {
    // 3.14.2.2.2: not from nothing to something.
    let mut server = Server::default(V5);
    server.send(b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01");
    server.assert_refused(Some(0x82));

    let connect = b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x09\x00\x01c";
    let mut server = Server::default(connect);
    server.send(b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01");
    let Some(Event::Closed(closed)) = server.events().pop() else {
        panic!("not closed");
    };
    assert_eq!(closed.session_expiry_interval_s, Some(1));
    assert_eq!(
        closed.reason,
        CloseReason::ClientDisconnected(ReasonCode::Success)
    );
}

#[test]
fn shutdown_and_takeover_say_why() {
    for reason in [ReasonCode::ServerShuttingDown, ReasonCode::SessionTakenOver] {
        let mut server = Server::default(V5);
        server.connection.handle_shutdown(server.now, reason);
        let last = vec![0xe0, 1, reason as u8];
        assert_eq!(server.end(), (last, CloseReason::Shutdown(reason)));
        let mut server = Server::default(V4);
        server.connection.handle_shutdown(server.now, reason);
        server.assert_refused(None);
    }
}

#[test]
fn answers_that_come_too_late_are_ignored() {
    let mut server = Server::default(V4);
    server.send(b"\x32\x05\x00\x01a\x00\x01");
    let tokens = server.publish_tokens();
    server.connection.handle_closed(server.now);
    server.connection.handle_committed(tokens[0], Ok(()));
    let outcome = server
        .connection
        .handle_deliver(server.now, delivery(1, "a", Qos::AtMostOnce));
    assert_eq!(outcome, DeliverOutcome::NotConnected);
    assert!(server.transmitted().is_empty());
}
