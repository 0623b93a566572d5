//! A client that sends faster than it may.

use super::*;

const PUBLISH: &[u8] = b"\x30\x05\x00\x01a\x00x";

fn limits(messages: u32, bytes: u64) -> ConnectionLimits {
    ConnectionLimits {
        messages_per_second_max: messages.try_into().ok(),
        bytes_per_second_max: bytes.try_into().ok(),
        ..ConnectionLimits::default()
    }
}

#[test]
fn past_its_messages_a_client_is_not_read_from_until_there_is_room() {
    let mut server = Server::connected(limits(2, 0), V5);
    server.send(PUBLISH);
    assert!(server.connection.can_read());
    server.send(PUBLISH);
    assert!(!server.connection.can_read());
    assert_eq!(server.connection.rate_exceeded(), Some(RateLimit::Messages));
    assert_eq!(server.events().len(), 2, "nothing is refused");
    let half = Duration::from_millis(500);
    assert_eq!(server.connection.poll_timeout(), Some(server.now + half));
    server.pass(half);
    assert!(server.connection.can_read());
    assert_eq!(server.connection.rate_exceeded(), None);
}

#[test]
fn bytes_count_whatever_they_are_and_the_keep_alive_stands_still() {
    let mut server = Server::connected(limits(0, 10), V5);
    server.send(b"\xc0\x00");
    assert_eq!(server.transmitted(), b"\xd0\x00");
    server.connection.handle_bytes(server.now, 1_000);
    assert_eq!(server.connection.rate_exceeded(), Some(RateLimit::Bytes));
    // 60 s of keep alive; 99 s of silence, of which the client is not at fault for any.
    server.pass(Duration::from_secs(98));
    assert!(!server.connection.can_read() && server.connection.is_connected());
    server.pass(Duration::from_secs(2));
    assert!(server.connection.can_read());
    server.pass(Duration::from_secs(89));
    assert!(server.connection.is_connected());
    server.pass(Duration::from_secs(100));
    server.assert_refused(Some(0x8d));
}

#[test]
fn a_topic_or_a_filter_with_too_many_levels_ends_the_connection() {
    let limits = ConnectionLimits {
        topic_levels_max: NonZeroU32::new(2),
        ..ConnectionLimits::default()
    };
    for (fitting, packet, code) in [
        (
            &b"\x30\x07\x00\x03a/b\x00x"[..],
            &b"\x30\x08\x00\x04a/b/\x00x"[..],
            0x90,
        ),
        (
            b"\x82\x09\x00\x01\x00\x00\x03a/#\x00",
            b"\x82\x0a\x00\x01\x00\x00\x04a//#\x00",
            0x8f,
        ),
    ] {
        let mut server = Server::connected(limits.clone(), V5);
        server.send(fitting);
        assert!(server.connection.is_connected());
        server.transmitted();
        server.send(packet);
        server.assert_refused(Some(code));
    }
}
