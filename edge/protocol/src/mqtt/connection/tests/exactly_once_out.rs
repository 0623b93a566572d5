//! QoS 2 to the client: what must be durable before which packet, and order.

use super::*;

/// With a receive maximum of 2.
const TWO_V5: &[u8] = b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x02\x00\x01c";

fn deliver(server: &mut Server, token: u64, qos: Qos) {
    deliver_again(server, token, qos, None);
}

fn deliver_again(server: &mut Server, token: u64, qos: Qos, resent: Option<u16>) {
    let mut delivery = delivery(token, "a", qos);
    delivery.resent = resent.map(packet_id);
    let outcome = server.connection.handle_deliver(server.now, delivery);
    assert_eq!(outcome, DeliverOutcome::Queued);
}

fn assign(token: u64, id: u16) -> Event {
    Event::Assign {
        token: DeliveryToken(token),
        packet_id: packet_id(id),
    }
}

fn received(token: u64, id: u16) -> Event {
    Event::Received {
        token: DeliveryToken(token),
        packet_id: packet_id(id),
    }
}

fn done(token: u64, outcome: DeliveryOutcome) -> Event {
    let token = DeliveryToken(token);
    Event::DeliveryDone { token, outcome }
}

/// As a client of MQTT 3.1.1 gets it.
fn publish(qos: u8, again: bool, id: u8) -> Vec<u8> {
    let flags = qos << 1 | u8::from(again) << 3;
    vec![0x30 | flags, 7, 0, 1, b'a', 0, id, b'h', b'i']
}

/// Sent with the identifier 1, which is the token, too.
fn sent(connect: &[u8]) -> Server {
    let mut server = Server::default(connect);
    deliver(&mut server, 1, Qos::ExactlyOnce);
    server.connection.handle_assigned(DeliveryToken(1));
    server.events();
    server.transmitted();
    server
}

fn closed(mut server: Server) -> Vec<(u16, DeliveryStage)> {
    server.connection.handle_closed(server.now);
    let Some(Event::Closed(closed)) = server.events().pop() else {
        panic!("not closed");
    };
    let unacknowledged = closed.unacknowledged.into_iter();
    unacknowledged
        .map(|one| (one.packet_id.get(), one.stage))
        .collect()
}

/// [MQTT-4.3.3-1] to [MQTT-4.3.3-5]
#[test]
fn each_step_waits_for_its_commit() {
    let mut server = Server::default(V4);
    deliver(&mut server, 7, Qos::ExactlyOnce);
    assert_eq!(server.events(), [assign(7, 1)]);
    assert!(server.transmitted().is_empty());
    server.connection.handle_assigned(DeliveryToken(7));
    assert_eq!(server.transmitted(), publish(2, false, 1));
    server.send(b"\x50\x02\x00\x01");
    assert_eq!(server.events(), [received(7, 1)]);
    // Again, while the commit is under way: one PUBREL answers both.
    server.send(b"\x50\x02\x00\x01");
    assert!(server.events().is_empty() && server.transmitted().is_empty());
    server.connection.handle_received(DeliveryToken(7));
    assert_eq!(server.transmitted(), b"\x62\x02\x00\x01");
    server.send(b"\x50\x02\x00\x01");
    assert_eq!(server.transmitted(), b"\x62\x02\x00\x01");
    server.send(b"\x70\x02\x00\x01");
    assert_eq!(server.events(), [done(7, DeliveryOutcome::Acknowledged)]);
    assert!(closed(server).is_empty());
}

/// [MQTT-4.6.0-5]: nothing overtakes a delivery that waits for its identifier.
#[test]
fn deliveries_keep_their_order_while_identifiers_become_durable() {
    let mut server = Server::default(V4);
    deliver(&mut server, 1, Qos::ExactlyOnce);
    deliver(&mut server, 2, Qos::AtMostOnce);
    deliver(&mut server, 3, Qos::ExactlyOnce);
    deliver(&mut server, 4, Qos::AtLeastOnce);
    assert_eq!(server.events(), [assign(1, 1), assign(3, 2)]);
    server.connection.handle_assigned(DeliveryToken(3));
    assert!(server.transmitted().is_empty());
    server.connection.handle_assigned(DeliveryToken(1));
    let zero = b"\x30\x05\x00\x01ahi".to_vec();
    let all = [
        publish(2, false, 1),
        zero,
        publish(2, false, 2),
        publish(1, false, 3),
    ];
    assert_eq!(server.transmitted(), all.concat());
    let expected = [
        (1, DeliveryStage::ExactlyOnceAssigned),
        (2, DeliveryStage::ExactlyOnceAssigned),
        (3, DeliveryStage::AtLeastOnce),
    ];
    assert_eq!(closed(server), expected);
}

/// [MQTT-4.9.0-2]: only PUBACK, PUBCOMP and a PUBREC with an error make room.
#[test]
fn the_window_bounds_what_waits_for_an_identifier_too() {
    let mut server = Server::connected(ConnectionLimits::default(), TWO_V5);
    for token in 1..=4 {
        deliver(&mut server, token, Qos::ExactlyOnce);
    }
    assert_eq!(server.events(), [assign(1, 1), assign(2, 2)]);
    server.connection.handle_assigned(DeliveryToken(1));
    server.connection.handle_assigned(DeliveryToken(2));
    server.transmitted();
    server.send(b"\x50\x02\x00\x01");
    assert_eq!(server.events(), [received(1, 1)]);
    server.connection.handle_received(DeliveryToken(1));
    server.send(b"\x50\x03\x00\x02\x97");
    // [MQTT-4.4.0-2]
    let refused = DeliveryOutcome::RefusedByClient(ReasonCode::QuotaExceeded);
    assert_eq!(server.events(), [done(2, refused), assign(3, 3)]);
    server.send(b"\x70\x02\x00\x01");
    let acknowledged = DeliveryOutcome::Acknowledged;
    assert_eq!(server.events(), [done(1, acknowledged), assign(4, 4)]);
}

/// [MQTT-4.6.0-4]
#[test]
fn pubrels_are_in_the_order_of_the_pubrecs() {
    let mut server = Server::default(V4);
    for token in 1..=2 {
        deliver(&mut server, token, Qos::ExactlyOnce);
        server.connection.handle_assigned(DeliveryToken(token));
    }
    server.transmitted();
    server.send(b"\x50\x02\x00\x02\x50\x02\x00\x01");
    server.connection.handle_received(DeliveryToken(1));
    assert!(server.transmitted().is_empty());
    server.connection.handle_received(DeliveryToken(2));
    assert_eq!(server.transmitted(), b"\x62\x02\x00\x02\x62\x02\x00\x01");
}

/// [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-4.3.3-6]
#[test]
fn a_session_is_taken_up_where_it_was() {
    let mut server = Server::resumed(V4, &[]);
    server
        .connection
        .handle_release_again(server.now, packet_id(9), DeliveryToken(0));
    deliver_again(&mut server, 1, Qos::ExactlyOnce, Some(1));
    deliver(&mut server, 2, Qos::AtLeastOnce);
    deliver_again(&mut server, 3, Qos::ExactlyOnce, Some(3));
    deliver(&mut server, 4, Qos::ExactlyOnce);
    // Identifiers that are taken are not assigned.
    assert_eq!(server.events(), [assign(4, 2)]);
    server.connection.handle_assigned(DeliveryToken(4));
    let all = [
        b"\x62\x02\x00\x09".to_vec(),
        publish(2, true, 1),
        publish(1, false, 4),
        publish(2, true, 3),
        publish(2, false, 2),
    ];
    assert_eq!(server.transmitted(), all.concat());
    server.send(b"\x70\x02\x00\x09\x50\x02\x00\x01");
    let acknowledged = done(0, DeliveryOutcome::Acknowledged);
    assert_eq!(server.events(), [acknowledged, received(1, 1)]);
    let expected = [
        (1, DeliveryStage::ExactlyOnceReleased),
        (4, DeliveryStage::AtLeastOnce),
        (3, DeliveryStage::ExactlyOnceAssigned),
        (2, DeliveryStage::ExactlyOnceAssigned),
    ];
    assert_eq!(closed(server), expected);
}

/// [MQTT-2.2.1-4]: nor are those whose deliveries are still to come.
#[test]
fn identifiers_of_the_session_are_not_given_to_others() {
    let mut server = Server::new(ConnectionLimits::default());
    server.send(V4);
    let accepted = Accepted {
        unacknowledged: vec![packet_id(1), packet_id(2)],
        ..Accepted::default()
    };
    server.connection.handle_accepted(server.now, accepted);
    server.transmitted();
    deliver(&mut server, 1, Qos::AtLeastOnce);
    assert_eq!(server.transmitted(), publish(1, false, 3));
    deliver_again(&mut server, 2, Qos::ExactlyOnce, Some(1));
    assert_eq!(server.transmitted(), publish(2, true, 1));
}

/// 4.9: PUBRELs that are sent again take nothing from the client's receive maximum; our own limit
/// holds for all.
#[test]
fn released_deliveries_count_for_our_own_limit() {
    let limits = ConnectionLimits {
        inflight_outbound_max: NonZeroU16::new(3).unwrap(),
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits, TWO_V5);
    for id in 1..=2 {
        let token = DeliveryToken(id.into());
        server
            .connection
            .handle_release_again(server.now, packet_id(id), token);
    }
    for token in 3..=5 {
        deliver(&mut server, token, Qos::ExactlyOnce);
    }
    assert_eq!(server.events(), [assign(3, 3)]);
    server.send(b"\x70\x03\x00\x01\x92");
    let acknowledged = DeliveryOutcome::Acknowledged;
    assert_eq!(server.events(), [done(1, acknowledged), assign(4, 4)]);
    server.send(b"\x70\x02\x00\x02");
    assert_eq!(server.events(), [done(2, acknowledged)]);
}

/// [MQTT-3.3.2-5], [MQTT-4.3.3-7]
#[test]
fn what_has_its_identifier_does_not_expire() {
    let mut server = Server::connected(ConnectionLimits::default(), TWO_V5);
    for (token, resent) in [(1, Some(packet_id(5))), (2, None), (3, None)] {
        let mut delivery = delivery(token, "a", Qos::ExactlyOnce);
        delivery.resent = resent;
        delivery.expires_at = Some(server.now + Duration::from_secs(1));
        let outcome = server.connection.handle_deliver(server.now, delivery);
        assert_eq!(outcome, DeliverOutcome::Queued);
    }
    assert_eq!(server.events(), [assign(2, 1)]);
    server.pass(Duration::from_secs(2));
    server.connection.handle_assigned(DeliveryToken(2));
    let sent = [
        &b"\x3c\x0d\x00\x01a\x00\x05\x05\x02\x00\x00\x00\x00hi"[..],
        b"\x34\x0d\x00\x01a\x00\x01\x05\x02\x00\x00\x00\x00hi",
    ];
    assert_eq!(server.transmitted(), sent.concat());
    // The third has no place in the window before it expires.
    server.send(b"\x50\x03\x00\x05\x97");
    let refused = DeliveryOutcome::RefusedByClient(ReasonCode::QuotaExceeded);
    assert_eq!(server.events(), [done(1, refused)]);
    assert!(server.transmitted().is_empty());
    assert_eq!(server.events(), [done(3, DeliveryOutcome::Expired)]);
    // It has left its place to the next.
    deliver(&mut server, 4, Qos::ExactlyOnce);
    assert_eq!(server.events(), [assign(4, 2)]);
}

/// 4.13: no answer makes sense of it.
#[test]
fn an_acknowledgement_of_the_other_qos_is_a_protocol_error() {
    for (connect, code) in [(V4, None), (V5, Some(0x82))] {
        for wrong in [b"\x40\x02\x00\x01", b"\x70\x02\x00\x01"] {
            let mut server = sent(connect);
            server.send(wrong);
            server.assert_refused(code);
        }
        for wrong in [b"\x50\x02\x00\x01", b"\x70\x02\x00\x01"] {
            let mut server = Server::default(connect);
            deliver(&mut server, 1, Qos::AtLeastOnce);
            server.transmitted();
            server.send(wrong);
            server.assert_refused(code);
        }
    }
}

/// It is about an earlier connection, and our own packet will be answered, too.
#[test]
fn an_acknowledgement_of_what_is_not_sent_yet_is_ignored() {
    let mut server = Server::default(V4);
    deliver_again(&mut server, 1, Qos::ExactlyOnce, Some(1));
    deliver(&mut server, 2, Qos::ExactlyOnce);
    server.events();
    for id in 1..=2 {
        for kind in [0x40, 0x50, 0x70] {
            server.send(&[kind, 2, 0, id]);
        }
    }
    assert!(server.events().is_empty());
    server.connection.handle_assigned(DeliveryToken(2));
    let both = [publish(2, true, 1), publish(2, false, 2)];
    assert_eq!(server.transmitted(), both.concat());
}
