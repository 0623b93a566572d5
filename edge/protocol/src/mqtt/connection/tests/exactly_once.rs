//! QoS 2 from the client: what is asked of the driver, and when it is answered.

use super::*;

const PUBLISH_1: &[u8] = b"\x34\x06\x00\x01a\x00\x01\x00";
const PUBLISH_2: &[u8] = b"\x34\x06\x00\x01a\x00\x02\x00";
const PUBLISH_1_AGAIN: &[u8] = b"\x3c\x06\x00\x01a\x00\x01\x00";
const PUBREL_1: &[u8] = b"\x62\x02\x00\x01";

fn release_tokens(server: &mut Server) -> Vec<(ReleaseToken, u16)> {
    let events = server.events().into_iter();
    let tokens = events.map(|event| match event {
        Event::Release { token, packet_id } => (token, packet_id.get()),
        other => panic!("{other:?}"),
    });
    tokens.collect()
}

/// PUBLISH, commit and PUBREC, by the identifier 1 or 2.
fn received(server: &mut Server, publish: &[u8]) {
    server.send(publish);
    let tokens = server.publish_tokens();
    server.connection.handle_committed(tokens[0], Ok(()));
    let pubrec = [0x50, 0x02, 0x00, publish[6]];
    assert_eq!(server.transmitted(), pubrec);
}

/// [MQTT-4.3.3-8], [MQTT-4.3.3-11], [MQTT-4.3.3-12]
#[test]
fn each_step_waits_for_its_commit() {
    let mut server = Server::default(V5);
    for _ in 0..2 {
        server.send(PUBLISH_1);
        let events = server.events();
        let [
            Event::Publish {
                token: Some(token),
                publish,
            },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!(publish.qos.packet_id(), Some(packet_id(1)));
        assert!(server.transmitted().is_empty());
        server.connection.handle_committed(*token, Ok(()));
        assert_eq!(server.transmitted(), b"\x50\x02\x00\x01");
        server.send(PUBREL_1);
        let releases = release_tokens(&mut server);
        assert_eq!(releases[0].1, 1);
        assert!(server.transmitted().is_empty());
        server.connection.handle_released(releases[0].0);
        assert_eq!(server.transmitted(), b"\x70\x02\x00\x01");
    }
}

/// [MQTT-4.6.0-3], and PUBCOMP in the order of the PUBRELs.
#[test]
fn answers_are_in_the_order_of_what_they_answer() {
    let mut server = Server::default(V5);
    server.send(&[PUBLISH_1, PUBLISH_2].concat());
    let tokens = server.publish_tokens();
    server.connection.handle_committed(tokens[1], Ok(()));
    assert!(server.transmitted().is_empty());
    server.connection.handle_committed(tokens[0], Ok(()));
    assert_eq!(server.transmitted(), b"\x50\x02\x00\x01\x50\x02\x00\x02");
    server.send(b"\x62\x02\x00\x02\x62\x02\x00\x01");
    let releases = release_tokens(&mut server);
    assert_eq!((releases[0].1, releases[1].1), (2, 1));
    server.connection.handle_released(releases[1].0);
    assert!(server.transmitted().is_empty());
    server.connection.handle_released(releases[0].0);
    assert_eq!(server.transmitted(), b"\x70\x02\x00\x02\x70\x02\x00\x01");
}

/// [MQTT-4.3.3-10]
#[test]
fn a_duplicate_is_answered_and_not_published() {
    let mut server = Server::default(V4);
    let (first, again) = (
        b"\x34\x05\x00\x01a\x00\x01",
        b"\x3c\x05\x00\x01a\x00\x01\x3c\x05\x00\x01a\x00\x01",
    );
    server.send(first);
    let tokens = server.publish_tokens();
    // Before the commit it is not known to be kept: nothing may say so.
    server.send(again);
    assert!(server.events().is_empty() && server.transmitted().is_empty());
    server.connection.handle_committed(tokens[0], Ok(()));
    assert_eq!(server.transmitted(), b"\x50\x02\x00\x01".repeat(3));
    server.send(first);
    assert!(server.events().is_empty());
    assert_eq!(server.transmitted(), b"\x50\x02\x00\x01");
}

/// [MQTT-4.3.3-9], [MQTT-4.3.3-10] across connections, [MQTT-4.4.0-1]
#[test]
fn what_an_earlier_connection_received_is_a_duplicate() {
    let mut server = Server::resumed(V5, &[1, 2]);
    server.send(PUBLISH_1_AGAIN);
    assert!(server.events().is_empty());
    assert_eq!(server.transmitted(), b"\x50\x02\x00\x01");
    server.send(b"\x62\x02\x00\x02\x62\x02\x00\x01");
    for (token, id) in release_tokens(&mut server) {
        server.connection.handle_released(token);
        assert_eq!(server.transmitted(), [0x70, 0x02, 0x00, id as u8]);
    }
    server.send(PUBLISH_1);
    assert_eq!(server.publish_tokens().len(), 1);
}

/// [MQTT-4.3.3-9]
#[test]
fn a_refused_identifier_is_free_again() {
    let mut server = Server::default(V5);
    server.send(&[PUBLISH_1, PUBLISH_1_AGAIN].concat());
    let tokens = server.publish_tokens();
    let refused = PublishRefused::QuotaExceeded;
    server.connection.handle_committed(tokens[0], Err(refused));
    assert_eq!(
        server.transmitted(),
        b"\x50\x03\x00\x01\x97\x50\x03\x00\x01\x97"
    );
    received(&mut server, PUBLISH_1);

    let mut server = Server::default(V4);
    server.send(b"\x34\x05\x00\x01a\x00\x01");
    let tokens = server.publish_tokens();
    server.connection.handle_committed(tokens[0], Err(refused));
    assert_eq!(
        server.end(),
        (Vec::new(), CloseReason::PublishRefused(refused))
    );
}

/// [MQTT-3.3.4-7], 4.9: until PUBCOMP, or PUBREC with an error.
#[test]
fn the_receive_maximum_counts_qos_2_until_its_end() {
    let limits = ConnectionLimits {
        inflight_inbound_max: NonZeroU16::new(2).unwrap(),
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits.clone(), V5);
    received(&mut server, PUBLISH_1);
    received(&mut server, PUBLISH_2);
    server.send(PUBREL_1);
    let releases = release_tokens(&mut server);
    server.connection.handle_released(releases[0].0);
    assert_eq!(server.transmitted(), b"\x70\x02\x00\x01");
    server.send(PUBLISH_1);
    let tokens = server.publish_tokens();
    let refused = PublishRefused::NotAuthorized;
    server.connection.handle_committed(tokens[0], Err(refused));
    assert_eq!(server.transmitted(), b"\x50\x03\x00\x01\x87");
    received(&mut server, PUBLISH_1);
    server.send(b"\x34\x06\x00\x01a\x00\x03\x00");
    server.assert_refused(Some(0x93));

    // Before MQTT 5 no one told the client, and it could not release if it were not read from.
    let mut server = Server::connected(limits, V4);
    for id in 1..=5 {
        server.send(&[0x34, 5, 0, 1, b'a', 0, id]);
        let tokens = server.publish_tokens();
        server.connection.handle_committed(tokens[0], Ok(()));
        assert!(server.connection.can_read());
    }
    server.send(b"\x34\x05\x00\x01a\x00\x06\x34\x05\x00\x01a\x00\x07");
    assert!(!server.connection.can_read());
}

/// 4.9: what an earlier connection received counts only if it is sent again.
#[test]
fn a_resumed_session_begins_with_a_whole_receive_maximum() {
    let mut server = Server::new(ConnectionLimits {
        inflight_inbound_max: NonZeroU16::new(1).unwrap(),
        ..ConnectionLimits::default()
    });
    server.send(V5);
    let accepted = Accepted {
        received: vec![packet_id(1), packet_id(2)],
        ..Accepted::default()
    };
    server.connection.handle_accepted(server.now, accepted);
    server.transmitted();
    server.events();
    server.send(PUBLISH_1_AGAIN);
    assert_eq!(server.transmitted(), b"\x50\x02\x00\x01");
    server.send(PUBREL_1);
    let releases = release_tokens(&mut server);
    server.connection.handle_released(releases[0].0);
    server.transmitted();
    server.send(b"\x62\x02\x00\x02");
    let releases = release_tokens(&mut server);
    server.connection.handle_released(releases[0].0);
    server.transmitted();
    received(&mut server, PUBLISH_1);
    server.send(PUBLISH_2);
    server.assert_refused(Some(0x93));
}

#[test]
fn a_pubrel_that_comes_again_waits_for_the_first_ones_commit() {
    let mut server = Server::default(V4);
    received(&mut server, b"\x34\x05\x00\x01a\x00\x01");
    server.send(&PUBREL_1.repeat(2));
    let releases = release_tokens(&mut server);
    assert_eq!(releases.len(), 1);
    assert!(server.transmitted().is_empty());
    server.connection.handle_released(releases[0].0);
    assert_eq!(server.transmitted(), b"\x70\x02\x00\x01".repeat(2));
}

#[test]
fn a_pubrel_before_the_pubrec_is_a_protocol_error() {
    for (connect, publish, code) in [
        (V4, &b"\x34\x05\x00\x01a\x00\x01"[..], None),
        (V5, PUBLISH_1, Some(0x82)),
    ] {
        let mut server = Server::default(connect);
        server.send(publish);
        server.send(PUBREL_1);
        server.assert_refused(code);
    }
}

/// 3.7.2.1, 3.6.2.1: 0x92 where the version has codes.
#[test]
fn what_is_not_in_flight_is_answered() {
    let mut server = Server::default(V5);
    server.send(b"\x62\x02\x00\x05\x50\x02\x00\x06");
    assert_eq!(
        server.transmitted(),
        b"\x70\x03\x00\x05\x92\x62\x03\x00\x06\x92"
    );
    let mut server = Server::default(V4);
    server.send(b"\x62\x02\x00\x05");
    assert_eq!(server.transmitted(), b"\x70\x02\x00\x05");
}
