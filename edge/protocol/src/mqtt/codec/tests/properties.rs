//! What must hold for any packet and for any bytes.

use proptest::prelude::*;

use super::*;
use crate::mqtt::codec::strategy;

proptest! {
    #[test]
    fn packets_survive_the_wire(
        (version, (to_client, packet)) in strategy::version()
            .prop_flat_map(|version| (Just(version), strategy::later_packet(version))),
    ) {
        let mut input = encoded(&packet, version);
        let mut decoder = if to_client { client(version) } else { server(version) };
        prop_assert_eq!(decoder.decode(&mut input), Ok(Some(packet)));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn connects_survive_the_wire(packet in strategy::version().prop_flat_map(strategy::connect)) {
        let Packet::Connect(connect) = &packet else { unreachable!() };
        let mut input = encoded(&packet, connect.version);
        prop_assert_eq!(Decoder::server(PACKET_BYTES_MAX).decode(&mut input), Ok(Some(packet)));
    }

    /// Bytes that arrive one by one give the same packet, and never an error before it.
    #[test]
    fn a_packet_in_pieces_is_the_same_packet(
        (version, (to_client, packet)) in strategy::version()
            .prop_flat_map(|version| (Just(version), strategy::later_packet(version))),
    ) {
        let bytes = encoded(&packet, version);
        let mut decoder = if to_client { client(version) } else { server(version) };
        let mut input = BytesMut::new();
        for byte in &bytes[..bytes.len() - 1] {
            input.extend_from_slice(&[*byte]);
            prop_assert_eq!(decoder.decode(&mut input), Ok(None));
        }
        input.extend_from_slice(&bytes[bytes.len() - 1..]);
        prop_assert_eq!(decoder.decode(&mut input), Ok(Some(packet)));
    }

    #[test]
    fn the_size_of_a_publish_is_known_beforehand(
        (version, packet) in strategy::version()
            .prop_flat_map(|version| (Just(version), strategy::publish(version))),
    ) {
        let Packet::Publish(publish) = &packet else { unreachable!() };
        let header = PublishHeader {
            duplicate: publish.duplicate,
            qos: publish.qos,
            retain: publish.retain,
            topic_alias: publish.topic_alias,
            is_topic_known: false,
            subscription_identifiers: &publish.subscription_identifiers,
            message_expiry_interval_s: publish.message.properties.message_expiry_interval_s,
        };
        let bytes = publish_bytes(&header, &publish.message, version);
        prop_assert_eq!(bytes, Ok(encoded(&packet, version).len()));
    }

    #[test]
    fn a_detached_message_is_the_same_message(packet in strategy::publish(Version::V5)) {
        let Packet::Publish(publish) = &packet else { unreachable!() };
        prop_assert_eq!(&publish.message.detached(), &publish.message);
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        version in strategy::version(),
    ) {
        for mut decoder in [Decoder::server(PACKET_BYTES_MAX), server(version), client(version)] {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decoder.decode(&mut input) {}
        }
    }

    /// Whatever a changed packet is read as, it can be written and read again.
    #[test]
    fn changed_packets_never_panic(
        (version, (to_client, packet)) in strategy::version()
            .prop_flat_map(|version| (Just(version), strategy::later_packet(version))),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&packet, version);
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let cut = cut.index(bytes.len() * 3);
        bytes.truncate(cut.max(1));
        let mut decoder = if to_client { client(version) } else { server(version) };
        if let Ok(Some(packet)) = decoder.clone().decode(&mut bytes) {
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => version,
            };
            let mut again = encoded(&packet, version);
            prop_assert_eq!(decoder.decode(&mut again), Ok(Some(packet)));
        }
    }
}
