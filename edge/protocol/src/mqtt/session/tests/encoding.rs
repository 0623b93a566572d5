//! Changes and sessions as bytes.

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, option, prelude::*};
use tidegate_shared::wire::{Reader, WireError};

use super::*;
use crate::mqtt::{
    codec::{SubscriptionIdentifier, Version, strategy},
    connection::SharedFilter,
};

fn position() -> impl Strategy<Value = Position> {
    // Few, so that changes meet each other.
    prop_oneof![4 => 0..20_u64, 1 => any::<u64>()].prop_map(Position)
}

fn any_packet_id() -> impl Strategy<Value = PacketId> {
    prop_oneof![4 => (1..10_u16).prop_map(packet_id), 1 => strategy::packet_id()]
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let name = "(\\$share/g/)?(\\+|a|é)(/(\\+|a|b)){0,3}(/#)?";
    let options = strategy::options(Version::V5);
    let identifier = option::of(strategy::identifier());
    (name, options, identifier, position()).prop_map(|(name, options, identifier, since)| {
        Subscription {
            filter: SharedFilter::parse(text(&name)).unwrap(),
            options,
            identifier,
            since,
        }
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => (any::<u32>(), position()).prop_map(|(expiry_interval_s, position)| Change::Begun {
            expiry_interval_s,
            position,
        }),
        1 => Just(Change::Ended),
        3 => subscription().prop_map(Change::Subscribed),
        1 => strategy::text().prop_map(Change::Unsubscribed),
        3 => any_packet_id().prop_map(Change::InboundReceived),
        2 => any_packet_id().prop_map(Change::InboundReleased),
        2 => position().prop_map(Change::CursorMoved),
        6 => (any_packet_id(), position()).prop_map(|(packet_id, position)| {
            Change::OutboundAssigned { packet_id, position }
        }),
        4 => any_packet_id().prop_map(Change::OutboundReceived),
        3 => any_packet_id().prop_map(Change::OutboundCompleted),
        1 => any::<u32>()
            .prop_map(|expiry_interval_s| Change::ExpiryChanged { expiry_interval_s }),
        1 => Just(Change::Connected),
        1 => any::<u64>().prop_map(|at_ms| Change::Disconnected { at_ms }),
        1 => strategy::will(Version::V5).prop_map(|will| Change::WillSet(Box::new(will))),
        1 => Just(Change::WillCleared),
    ]
}

fn begun(changes: &[Change]) -> ClientSession {
    let mut session = ClientSession::new(text("c"));
    session.apply(&Change::Begun {
        expiry_interval_s: 60,
        position: Position(3),
    });
    changes.iter().for_each(|change| session.apply(change));
    session
}

fn encoded(session: &ClientSession) -> Bytes {
    let mut bytes = BytesMut::new();
    session.encode(&mut bytes);
    bytes.freeze()
}

fn decode_all(bytes: Bytes) -> Result<Vec<Change>, WireError> {
    let mut reader = Reader::new(bytes);
    let mut changes = Vec::new();
    while !reader.is_empty() {
        changes.push(Change::decode(&mut reader)?);
    }
    Ok(changes)
}

proptest! {
    #[test]
    fn changes_round_trip(changes in vec(change(), 0..10)) {
        let mut bytes = BytesMut::new();
        changes.iter().for_each(|change| change.encode(&mut bytes));
        prop_assert_eq!(decode_all(bytes.freeze()), Ok(changes));
    }

    /// In any order that changes may come, also such as no driver would write.
    #[test]
    fn sessions_round_trip(changes in vec(change(), 0..60)) {
        let session = begun(&changes);
        prop_assert_eq!(ClientSession::decode(encoded(&session)), Ok(session));
    }

    #[test]
    fn damaged_bytes_do_not_panic(
        changes in vec(change(), 0..30),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut records = BytesMut::new();
        changes.iter().for_each(|change| change.encode(&mut records));
        for bytes in [encoded(&begun(&changes)).to_vec(), records.to_vec()] {
            let mut bytes = bytes;
            for (index, value) in &flips {
                if !bytes.is_empty() {
                    let index = index.index(bytes.len());
                    bytes[index] = *value;
                }
            }
            bytes.truncate(end.index(bytes.len() + 1));
            let bytes = Bytes::from(bytes);
            let session = ClientSession::decode(bytes.clone()).unwrap_or_else(|_| begun(&[]));
            let damaged = decode_all(bytes).unwrap_or_default();
            let mut session = session;
            damaged.iter().for_each(|change| session.apply(change));
            encoded(&session);
        }
    }
}

/// What is on disk stays readable: these bytes never change.
#[test]
fn the_bytes_of_changes_are_pinned() {
    let subscription = Subscription {
        filter: SharedFilter::parse(text("a/+")).unwrap(),
        options: crate::mqtt::codec::SubscriptionOptions {
            qos_max: Qos::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: crate::mqtt::codec::RetainHandling::Never,
        },
        identifier: SubscriptionIdentifier::new(9),
        since: Position(258),
    };
    let id = packet_id(0x0102);
    let position = Position(7);
    let cases: &[(Change, &[u8])] = &[
        (
            Change::Begun {
                expiry_interval_s: 60,
                position,
            },
            b"\x01\x3c\0\0\0\x07\0\0\0\0\0\0\0",
        ),
        (Change::Ended, b"\x02"),
        (
            Change::Subscribed(subscription),
            b"\x03\x03\0\0\0a/+\x2e\x09\0\0\0\x02\x01\0\0\0\0\0\0",
        ),
        (Change::Unsubscribed(text("a")), b"\x04\x01\0\0\0a"),
        (Change::InboundReceived(id), b"\x05\x02\x01"),
        (Change::InboundReleased(id), b"\x06\x02\x01"),
        (Change::CursorMoved(position), b"\x07\x07\0\0\0\0\0\0\0"),
        (
            Change::OutboundAssigned {
                packet_id: id,
                position,
            },
            b"\x08\x02\x01\x07\0\0\0\0\0\0\0",
        ),
        (Change::OutboundReceived(id), b"\x09\x02\x01"),
        (Change::OutboundCompleted(id), b"\x0a\x02\x01"),
        (
            Change::ExpiryChanged {
                expiry_interval_s: 60,
            },
            b"\x0b\x3c\0\0\0",
        ),
        (Change::Connected, b"\x0c"),
        (Change::Disconnected { at_ms: 5 }, b"\x0d\x05\0\0\0\0\0\0\0"),
        (Change::WillCleared, b"\x0f"),
    ];
    for (change, expected) in cases {
        let mut bytes = BytesMut::new();
        change.encode(&mut bytes);
        assert_eq!(&bytes[..], *expected, "{change:?}");
    }
}

#[test]
fn a_will_and_a_session_are_pinned() {
    let will = Will {
        qos: Qos::AtLeastOnce,
        retain: true,
        topic: text("w"),
        payload: Bytes::from_static(b"bye"),
        properties: crate::mqtt::codec::WillProperties {
            will_delay_interval_s: Some(5),
            ..Default::default()
        },
    };
    let will_bytes = b"\x01\x01\x01\0\0\0w\x03\0\0\0bye\x01\x05\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut bytes = BytesMut::new();
    Change::WillSet(Box::new(will.clone())).encode(&mut bytes);
    assert_eq!(bytes[0], 0x0e);
    assert_eq!(&bytes[1..], will_bytes);

    let assigned = |id, position| Change::OutboundAssigned {
        packet_id: packet_id(id),
        position: Position(position),
    };
    let session = begun(&[
        Change::InboundReceived(packet_id(8)),
        assigned(1, 4),
        assigned(2, 5),
        Change::OutboundReceived(packet_id(2)),
        Change::Disconnected { at_ms: 6 },
        Change::WillSet(Box::new(will)),
    ]);
    let expected = [
        &b"\x01\x01\0\0\0c\x02\x06\0\0\0\0\0\0\0\x3c\0\0\0"[..],
        b"\0\0\0\0\x01\0\0\0\x08\0",
        b"\x03\0\0\0\0\0\0\0\x01\0\0\0\x01\0\x04\0\0\0\0\0\0\0",
        b"\x01\0\0\0\x05\0\0\0\0\0\0\0\x01\0\0\0\x02\0\x05\0\0\0\0\0\0\0",
        b"\x01",
        will_bytes,
    ];
    assert_eq!(encoded(&session), expected.concat());
}
