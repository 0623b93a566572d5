//! Publishes of clients that cannot be told that there is no space: their acknowledgements are
//! withheld, in order, and reading stops at a bound.

use super::*;
use crate::mqtt::codec::Publish;

const RETRY: Duration = Duration::from_millis(250);

/// A PUBLISH of QoS 1, MQTT 3.1.1.
fn publish(id: u8) -> [u8; 7] {
    [0x32, 5, 0, 1, b'a', 0, id]
}

fn publishes(ids: std::ops::RangeInclusive<u8>) -> Vec<u8> {
    ids.flat_map(publish).collect()
}

/// What goes to the journal: token, message, and whether it is new, again, or a probe.
fn submitted(server: &mut Server) -> Vec<(PublishToken, Publish, &'static str)> {
    let events = server.events().into_iter().filter_map(|event| match event {
        Event::Publish { token, publish } => token.map(|token| (token, publish, "new")),
        Event::PublishAgain {
            token,
            publish,
            is_probe,
        } => Some((token, publish, if is_probe { "probe" } else { "again" })),
        _ => None,
    });
    events.collect()
}

fn ids(submitted: &[(PublishToken, Publish, &'static str)]) -> Vec<(u16, &'static str)> {
    let ids = submitted.iter();
    ids.map(|(_, publish, how)| (publish.qos.packet_id().unwrap().get(), *how))
        .collect()
}

/// The journal is full for all of these.
fn withhold(server: &mut Server, submitted: Vec<(PublishToken, Publish, &'static str)>) {
    for (token, publish, _) in submitted {
        server
            .connection
            .handle_withheld(server.now, token, publish);
    }
}

fn commit(server: &mut Server, submitted: &[(PublishToken, Publish, &'static str)]) {
    for (token, ..) in submitted {
        server.connection.handle_committed(*token, Ok(()));
    }
}

fn small(messages: usize) -> ConnectionLimits {
    ConnectionLimits {
        withheld_messages_max: messages,
        ..ConnectionLimits::default()
    }
}

#[test]
fn what_comes_while_the_only_one_that_waits_is_tried_waits_too() {
    let mut server = Server::default(V4);
    server.send(&publish(1));
    let first = submitted(&mut server);
    withhold(&mut server, first);
    server.pass(RETRY);
    let probe = submitted(&mut server);
    assert_eq!(ids(&probe), [(1, "probe")]);
    server.send(&publish(2));
    assert!(submitted(&mut server).is_empty(), "it would overtake");
    commit(&mut server, &probe);
    assert_eq!(ids(&submitted(&mut server)), [(2, "new")]);
}

#[test]
fn what_waits_is_tried_again_in_order_and_acknowledged_in_order() {
    let mut server = Server::default(V4);
    server.send(&publishes(1..=3));
    let mut first = submitted(&mut server);
    let third = first.pop().unwrap();
    withhold(&mut server, first);
    // Behind what waits, a new one waits; what was under way comes back after it.
    server.send(&publish(4));
    assert!(submitted(&mut server).is_empty());
    server.pass(2 * RETRY);
    assert!(submitted(&mut server).is_empty(), "one is still under way");
    withhold(&mut server, vec![third]);
    assert_eq!(server.connection.withheld().0, 4);
    server.pass(RETRY);
    let probe = submitted(&mut server);
    assert_eq!(ids(&probe), [(1, "probe")]);
    // No space yet.
    withhold(&mut server, probe);
    server.pass(RETRY / 2);
    assert!(submitted(&mut server).is_empty());
    server.pass(RETRY / 2);
    let probe = submitted(&mut server);
    assert_eq!(ids(&probe), [(1, "probe")]);
    assert!(server.transmitted().is_empty());
    commit(&mut server, &probe);
    assert_eq!(server.transmitted(), b"\x40\x02\x00\x01");
    server.send(&publish(5));
    let rest = submitted(&mut server);
    let expected = [(2, "again"), (3, "again"), (4, "new"), (5, "new")];
    assert_eq!(ids(&rest), expected);
    commit(&mut server, &rest);
    let pubacks = b"\x40\x02\x00\x02\x40\x02\x00\x03\x40\x02\x00\x04\x40\x02\x00\x05";
    assert_eq!(server.transmitted(), pubacks);
    assert_eq!(server.connection.withheld(), (0, 0));
}

#[test]
fn reading_stops_at_the_bound_and_the_keep_alive_stands_still() {
    let mut server = Server::connected(small(2), V4);
    server.send(&publish(1));
    let first = submitted(&mut server);
    withhold(&mut server, first);
    assert!(server.connection.can_read());
    server.send(&publish(2));
    assert!(!server.connection.can_read());
    // Its keep alive is 60 s.
    for _ in 0..10 {
        server.pass(Duration::from_secs(100));
        let probe = submitted(&mut server);
        assert_eq!(ids(&probe), [(1, "probe")]);
        withhold(&mut server, probe);
    }
    assert!(!server.connection.is_closed());
    server.pass(RETRY);
    let probe = submitted(&mut server);
    commit(&mut server, &probe);
    assert!(server.connection.can_read());
}

/// Space comes in drops: what was taken lets no more in than would be held.
#[test]
fn after_a_refusal_what_is_under_way_is_bounded_as_well() {
    let mut server = Server::connected(small(2), V4);
    server.send(&publish(1));
    let first = submitted(&mut server);
    withhold(&mut server, first);
    server.pass(RETRY);
    let probe = submitted(&mut server);
    commit(&mut server, &probe);
    assert!(server.connection.can_read());
    server.send(&publishes(2..=3));
    assert!(!server.connection.can_read());
    let rest = submitted(&mut server);
    commit(&mut server, &rest);
    assert!(server.connection.can_read());
    // After a while without another, it has its window again.
    server.pass(Duration::from_secs(10));
    server.send(&publishes(4..=9));
    assert!(server.connection.can_read());
}

#[test]
fn bytes_are_bounded_too() {
    let limits = ConnectionLimits {
        withheld_bytes_max: 1_000,
        ..ConnectionLimits::default()
    };
    let mut server = Server::connected(limits, V4);
    server.send(&[&b"\x32\x85\x08\x00\x01a\x00\x01"[..], &[0; 1_024]].concat());
    let first = submitted(&mut server);
    withhold(&mut server, first);
    assert!(!server.connection.can_read());
}

/// QoS 2 waits the same way: its PUBREC is withheld, and comes once.
#[test]
fn a_pubrec_is_withheld() {
    let mut server = Server::default(V4);
    server.send(b"\x34\x05\x00\x01a\x00\x01");
    let first = submitted(&mut server);
    withhold(&mut server, first);
    // Sent again by the client, it is the same message.
    server.send(b"\x3c\x05\x00\x01a\x00\x01");
    assert!(server.transmitted().is_empty());
    server.pass(RETRY);
    let probe = submitted(&mut server);
    assert_eq!(ids(&probe), [(1, "probe")]);
    commit(&mut server, &probe);
    assert_eq!(server.transmitted(), b"\x50\x02\x00\x01\x50\x02\x00\x01");
}

#[test]
fn a_connection_that_ends_forgets_what_waits() {
    let mut server = Server::default(V4);
    server.send(&publishes(1..=2));
    let all = submitted(&mut server);
    let (first, second) = (all[..1].to_vec(), all[1..].to_vec());
    withhold(&mut server, first);
    server.connection.handle_closed(server.now);
    withhold(&mut server, second);
    assert_eq!(server.connection.withheld(), (0, 0));
    assert_eq!(server.connection.poll_timeout(), None);
}

/// Where the one that was tried ends the connection, nothing behind it is published.
#[test]
fn nothing_is_published_behind_a_message_that_ends_the_connection() {
    let mut server = Server::default(V4);
    server.send(&publishes(1..=2));
    let all = submitted(&mut server);
    withhold(&mut server, all);
    server.pass(RETRY);
    let probe = submitted(&mut server);
    let refused = Err(PublishRefused::TooLarge);
    server.connection.handle_committed(probe[0].0, refused);
    assert!(server.connection.is_closed());
    assert!(submitted(&mut server).is_empty());
}
