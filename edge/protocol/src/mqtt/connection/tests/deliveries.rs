//! What clients are sent.

use super::*;
use crate::mqtt::codec::SubscriptionIdentifier;

/// With a receive maximum of 2 and a maximum packet size of 30.
const SMALL_V5: &[u8] =
    b"\x10\x16\x00\x04MQTT\x05\x02\x00\x3c\x08\x21\x00\x02\x27\x00\x00\x00\x1e\x00\x01c";

fn deliver(server: &mut Server, delivery: Delivery) -> DeliverOutcome {
    server.connection.handle_deliver(server.now, delivery)
}

fn done(token: u64, outcome: DeliveryOutcome) -> Event {
    let token = DeliveryToken(token);
    Event::DeliveryDone { token, outcome }
}

fn unacknowledged(id: u16, token: u64, stage: DeliveryStage) -> Unacknowledged {
    Unacknowledged {
        packet_id: packet_id(id),
        token: DeliveryToken(token),
        stage,
    }
}

fn small() -> Server {
    Server::connected(ConnectionLimits::default(), SMALL_V5)
}

/// [MQTT-3.3.4-9], [MQTT-4.9.0-1]
#[test]
fn the_clients_receive_maximum_is_kept() {
    let mut server = small();
    for token in 1..=3 {
        let outcome = deliver(&mut server, delivery(token, "a", Qos::AtLeastOnce));
        assert_eq!(outcome, DeliverOutcome::Queued);
    }
    assert_eq!(
        server.transmitted(),
        b"\x32\x08\x00\x01a\x00\x01\x00hi\x32\x08\x00\x01a\x00\x02\x00hi"
    );
    server.send(b"\x40\x03\x00\x01\x97");
    let refused = DeliveryOutcome::RefusedByClient(ReasonCode::QuotaExceeded);
    assert_eq!(server.events(), [done(1, refused)]);
    assert_eq!(server.transmitted(), b"\x32\x08\x00\x01a\x00\x03\x00hi");
    server.send(b"\x40\x02\x00\x03\x40\x02\x00\x03\x40\x02\x00\x09");
    assert_eq!(server.events(), [done(3, DeliveryOutcome::Acknowledged)]);
    server.connection.handle_closed(server.now);
    let Some(Event::Closed(closed)) = server.events().pop() else {
        panic!("not closed");
    };
    assert_eq!(
        closed.unacknowledged,
        [unacknowledged(2, 2, DeliveryStage::AtLeastOnce)]
    );
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
#[test]
fn the_clients_maximum_packet_size_is_kept() {
    let mut server = small();
    let mut large = delivery(1, "a", Qos::AtLeastOnce);
    Arc::make_mut(&mut large.message).payload = vec![0; 23].into();
    assert_eq!(
        deliver(&mut server, large.clone()),
        DeliverOutcome::TooLarge
    );
    assert_eq!(server.connection.outbound_counters().skipped_too_large, 1);
    Arc::make_mut(&mut large.message).payload = vec![0; 22].into();
    assert_eq!(deliver(&mut server, large), DeliverOutcome::Queued);
    assert_eq!(server.transmitted().len(), 30);
}

/// [MQTT-3.8.4-8]
#[test]
fn the_lower_qos_counts() {
    let mut server = Server::default(V4);
    let mut low = delivery(1, "a", Qos::AtLeastOnce);
    low.qos_max = Qos::AtMostOnce;
    low.retain = true;
    assert_eq!(deliver(&mut server, low), DeliverOutcome::Queued);
    assert_eq!(server.transmitted(), b"\x31\x05\x00\x01ahi");
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
#[test]
fn what_expires_is_not_sent_and_what_lives_says_how_long() {
    let mut server = Server::default(V5);
    // The third is over at the very moment at which it would be sent.
    for (token, left_ms) in [(1, 500), (2, 2_500), (3, 1_000)] {
        let mut delivery = delivery(token, "a", Qos::AtLeastOnce);
        delivery.expires_at = Some(server.now + Duration::from_millis(left_ms));
        assert_eq!(deliver(&mut server, delivery), DeliverOutcome::Queued);
    }
    server.pass(Duration::from_secs(1));
    let sent = b"\x32\x0d\x00\x01a\x00\x01\x05\x02\x00\x00\x00\x02hi";
    assert_eq!(server.transmitted(), sent);
    let expired = [1, 3].map(|token| done(token, DeliveryOutcome::Expired));
    assert_eq!(server.events(), expired);
}

#[test]
fn a_full_queue_drops_qos_0_and_says_so_for_qos_1() {
    let limits = ConnectionLimits {
        outbound_queue_messages_max: 2,
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits, V5);
    for token in 1..=2 {
        let outcome = deliver(&mut server, delivery(token, "a", Qos::AtMostOnce));
        assert_eq!(outcome, DeliverOutcome::Queued);
    }
    assert!(!server.connection.outbound_has_room());
    let outcome = deliver(&mut server, delivery(3, "a", Qos::AtMostOnce));
    assert_eq!(outcome, DeliverOutcome::Dropped);
    assert_eq!(server.connection.outbound_counters().dropped_qos0, 1);
    let outcome = deliver(&mut server, delivery(4, "a", Qos::AtLeastOnce));
    assert_eq!(outcome, DeliverOutcome::Overflow);
    server
        .connection
        .handle_shutdown(server.now, ReasonCode::QuotaExceeded);
    server.assert_refused(Some(0x97));
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let limits = ConnectionLimits {
        packet_bytes_max: NonZeroU32::new(20).unwrap(),
        outbound_queue_bytes_max: 20,
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits, V5);
    let outcomes =
        [1, 2, 3].map(|token| deliver(&mut server, delivery(token, "a", Qos::AtLeastOnce)));
    use DeliverOutcome::{Overflow, Queued};
    assert_eq!(outcomes, [Queued, Queued, Overflow]);
    server.transmitted();
    assert!(server.connection.outbound_has_room());
}

/// [MQTT-4.4.0-1], [MQTT-2.2.1-4]
#[test]
fn a_resent_message_keeps_its_identifier() {
    let mut server = Server::default(V4);
    let mut again = delivery(1, "a", Qos::AtLeastOnce);
    again.resent = Some(packet_id(1));
    assert_eq!(deliver(&mut server, again), DeliverOutcome::Queued);
    let outcome = deliver(&mut server, delivery(2, "a", Qos::AtLeastOnce));
    assert_eq!(outcome, DeliverOutcome::Queued);
    assert_eq!(
        server.transmitted(),
        b"\x3a\x07\x00\x01a\x00\x01hi\x32\x07\x00\x01a\x00\x02hi"
    );
}

/// [MQTT-3.3.4-3]
#[test]
fn subscription_identifiers_are_sent() {
    let mut server = Server::default(V5);
    let mut delivery = delivery(1, "a", Qos::AtMostOnce);
    delivery.subscription_identifiers = vec![
        SubscriptionIdentifier::new(1).unwrap(),
        SubscriptionIdentifier::new(200).unwrap(),
    ];
    assert_eq!(deliver(&mut server, delivery), DeliverOutcome::Queued);
    assert_eq!(
        server.transmitted(),
        b"\x30\x0b\x00\x01a\x05\x0b\x01\x0b\xc8\x01hi"
    );
}

#[test]
fn one_poll_is_bounded() {
    let limits = ConnectionLimits {
        transmit_bytes_max: 20,
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits, V5);
    for token in 0..10 {
        let _ = deliver(&mut server, delivery(token, "a", Qos::AtMostOnce));
    }
    let mut out = BytesMut::new();
    assert!(server.connection.poll_transmit(&mut out));
    assert_eq!(out.len(), 24);
    assert_eq!(server.transmitted().len(), 56);
}
