//! Bytes from the specification, and what must hold for any packet and for any bytes.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{strategy, *};
use crate::mqtt::reply_code::ReasonCode;

const CONNECT_V5: &[u8] = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00";
const CONNECT_V4: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
const CONNECT_V3: &[u8] = b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a";

const PACKET_BYTES_MAX: u32 = 1024;

fn text(value: &str) -> Text {
    Text::try_from(value).unwrap()
}

fn encoded(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).unwrap();
    out
}

/// A server's decoder that has read a CONNECT of this version.
fn server(version: Version) -> Decoder {
    let mut decoder = Decoder::server(PACKET_BYTES_MAX);
    let connect = match version {
        Version::V3_1 => CONNECT_V3,
        Version::V3_1_1 => CONNECT_V4,
        Version::V5 => CONNECT_V5,
    };
    let packet = decoder.decode(&mut BytesMut::from(connect)).unwrap();
    assert_eq!(packet.unwrap().packet_type(), PacketType::Connect);
    assert_eq!(decoder.version(), Some(version));
    decoder
}

fn client(version: Version) -> Decoder {
    Decoder::client(version, PACKET_BYTES_MAX)
}

fn refusal(decoder: &mut Decoder, bytes: &[u8]) -> (DecodeErrorKind, ReasonCode) {
    match decoder.decode(&mut BytesMut::from(bytes)) {
        Err(error) => (error.kind, error.reason_code()),
        Ok(packet) => panic!("{bytes:02x?} was taken: {packet:?}"),
    }
}

/// Each reads as the packet, and the packet encodes as the bytes.
fn check_bytes(mut decoder: Decoder, version: Version, bytes: &[u8], packet: &Packet) {
    let mut input = BytesMut::from(bytes);
    assert_eq!(decoder.decode(&mut input).unwrap().as_ref(), Some(packet));
    assert!(input.is_empty());
    assert_eq!(&encoded(packet, version)[..], bytes);
}

/// Figure 3-6 of MQTT 5 and figure 3.6 of 3.1.1: the CONNECT example, completed by a payload.
#[test]
fn connect_of_the_specification() {
    let will = Will {
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: text("w"),
        payload: Bytes::from_static(b"gone"),
        properties: WillProperties::default(),
    };
    let mut connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 10,
        client_id: text("c"),
        will: Some(will),
        username: Some(text("u")),
        password: Some(Bytes::from_static(b"p")),
        properties: ConnectProperties {
            session_expiry_interval_s: Some(10),
            ..ConnectProperties::default()
        },
    };
    let v5 = b"\x10\x23\x00\x04MQTT\x05\xce\x00\x0a\x05\x11\x00\x00\x00\x0a\x00\x01c\
        \x00\x00\x01w\x00\x04gone\x00\x01u\x00\x01p";
    let packet = Packet::Connect(Box::new(connect.clone()));
    check_bytes(Decoder::server(100), Version::V5, v5, &packet);

    connect.version = Version::V3_1_1;
    connect.properties = ConnectProperties::default();
    let v4 =
        b"\x10\x1c\x00\x04MQTT\x04\xce\x00\x0a\x00\x01c\x00\x01w\x00\x04gone\x00\x01u\x00\x01p";
    let packet = Packet::Connect(Box::new(connect));
    check_bytes(Decoder::server(100), Version::V3_1_1, v4, &packet);
}

/// Figure 3-9 (PUBLISH `a/b`, id 10), with the properties of MQTT 5.
#[test]
fn publish_of_the_specification() {
    let mut publish = Publish {
        duplicate: false,
        qos: PublishQos::AtLeastOnce(PacketId::new(10).unwrap()),
        retain: false,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        message: Message {
            topic: text("a/b"),
            payload: Bytes::from_static(b"hi"),
            properties: PublishProperties::default(),
        },
    };
    let packet = Packet::Publish(publish.clone());
    let v4 = b"\x32\x09\x00\x03a/b\x00\x0ahi";
    check_bytes(server(Version::V3_1_1), Version::V3_1_1, v4, &packet);
    let v5 = b"\x32\x0a\x00\x03a/b\x00\x0a\x00hi";
    check_bytes(server(Version::V5), Version::V5, v5, &packet);

    publish.duplicate = true;
    publish.retain = true;
    publish.topic_alias = std::num::NonZeroU16::new(7);
    publish.subscription_identifiers = vec![SubscriptionIdentifier::new(321).unwrap()];
    publish.message.properties.message_expiry_interval_s = Some(60);
    let v5 = b"\x3b\x15\x00\x03a/b\x00\x0a\x0b\x23\x00\x07\x0b\xc1\x02\x02\x00\x00\x00\x3chi";
    let packet = Packet::Publish(publish);
    check_bytes(client(Version::V5), Version::V5, v5, &packet);
}

#[test]
fn short_packets_of_the_specification() {
    let id = PacketId::new(10).unwrap();
    let ack = |reason| Ack::new(id, reason);
    let to_server = |version| (server(version), version);
    let to_client = |version| (client(version), version);
    let disconnect = |reason| {
        Packet::Disconnect(Disconnect {
            reason,
            properties: DisconnectProperties::default(),
        })
    };
    let suback = |reasons: &[ReasonCode]| Suback {
        packet_id: id,
        reasons: reasons.to_vec(),
        properties: AckProperties::default(),
    };
    use ReasonCode as Reason;
    use Version::{V3_1, V3_1_1, V5};
    let cases: Vec<((Decoder, Version), &[u8], Packet)> = vec![
        (to_server(V3_1), b"\xc0\x00", Packet::Pingreq),
        (to_client(V5), b"\xd0\x00", Packet::Pingresp),
        (
            to_client(V3_1_1),
            b"\x40\x02\x00\x0a",
            Packet::Puback(ack(Reason::Success)),
        ),
        (
            to_client(V5),
            b"\x40\x02\x00\x0a",
            Packet::Puback(ack(Reason::Success)),
        ),
        (
            to_client(V5),
            b"\x40\x03\x00\x0a\x97",
            Packet::Puback(ack(Reason::QuotaExceeded)),
        ),
        (
            to_server(V5),
            b"\x62\x02\x00\x0a",
            Packet::Pubrel(ack(Reason::Success)),
        ),
        (to_server(V3_1_1), b"\xe0\x00", disconnect(Reason::Success)),
        (to_server(V5), b"\xe0\x00", disconnect(Reason::Success)),
        (
            to_server(V5),
            b"\xe0\x01\x04",
            disconnect(Reason::DisconnectWithWill),
        ),
        (
            to_client(V3_1_1),
            b"\x90\x05\x00\x0a\x00\x02\x80",
            Packet::Suback(suback(&[
                Reason::Success,
                Reason::GrantedQos2,
                Reason::UnspecifiedError,
            ])),
        ),
        (
            to_client(V5),
            b"\x90\x05\x00\x0a\x00\x01\x87",
            Packet::Suback(suback(&[Reason::GrantedQos1, Reason::NotAuthorized])),
        ),
        (
            to_client(V3_1_1),
            b"\xb0\x02\x00\x0a",
            Packet::Unsuback(suback(&[])),
        ),
        (
            to_client(V5),
            b"\xb0\x05\x00\x0a\x00\x00\x11",
            Packet::Unsuback(suback(&[Reason::Success, Reason::NoSubscriptionExisted])),
        ),
    ];
    for ((decoder, version), bytes, packet) in cases {
        check_bytes(decoder, version, bytes, &packet);
    }
}

/// Figure 3-23: two filters, `a/b` at QoS 1 and `c/d` at QoS 2.
#[test]
fn subscribe_of_the_specification() {
    let options = |qos_max| SubscriptionOptions {
        qos_max,
        ..SubscriptionOptions::default()
    };
    let packet = Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(10).unwrap(),
        filters: vec![
            (text("a/b"), options(Qos::AtLeastOnce)),
            (text("c/d"), options(Qos::ExactlyOnce)),
        ],
        properties: SubscribeProperties::default(),
    });
    let v4 = b"\x82\x0e\x00\x0a\x00\x03a/b\x01\x00\x03c/d\x02";
    check_bytes(server(Version::V3_1_1), Version::V3_1_1, v4, &packet);
    let v5 = b"\x82\x0f\x00\x0a\x00\x00\x03a/b\x01\x00\x03c/d\x02";
    check_bytes(server(Version::V5), Version::V5, v5, &packet);
}

#[test]
fn long_forms_are_read_too() {
    let packet = server(Version::V5).decode(&mut BytesMut::from(&b"\x40\x04\x00\x0a\x10\x00"[..]));
    let ack = Ack::new(
        PacketId::new(10).unwrap(),
        ReasonCode::NoMatchingSubscribers,
    );
    assert_eq!(packet, Ok(Some(Packet::Puback(ack))));
    // MQTT 3.1 may set DUP where MQTT 3.1.1 may not.
    let subscribe = b"\x8a\x06\x00\x0a\x00\x01a\x01";
    assert!(
        server(Version::V3_1)
            .decode(&mut BytesMut::from(&subscribe[..]))
            .is_ok()
    );
    refusal(&mut server(Version::V3_1_1), subscribe);
}

#[test]
fn what_a_server_refuses_in_mqtt_5() {
    use DecodeErrorKind as Kind;
    use PropertyId as Id;
    use ReasonCode::{MalformedPacket, ProtocolError, TopicAliasInvalid};
    let cases: &[(&[u8], Kind, ReasonCode)] = &[
        (b"\x00", Kind::ReservedPacketType(0), MalformedPacket),
        (b"\xc1", Kind::ReservedFlags(1), MalformedPacket),
        (b"\x80", Kind::ReservedFlags(0), MalformedPacket), // [MQTT-3.8.1-1]
        (b"\x36", Kind::Qos, MalformedPacket),              // [MQTT-3.3.1-4]
        (b"\x38", Kind::DuplicateQos0, MalformedPacket),    // [MQTT-3.3.1-2]
        (b"\xd0", Kind::UnexpectedPacket, ProtocolError),
        (
            b"\x30\xff\xff\xff\xff",
            Kind::RemainingLengthTooLong,
            MalformedPacket,
        ),
        (b"\x30\x80\x00", Kind::VariableInteger, MalformedPacket), // [MQTT-1.5.5-1]
        (b"\x30\x02\x00\x05", Kind::Truncated, MalformedPacket),
        (b"\xc0\x01\x00", Kind::TrailingBytes(1), MalformedPacket),
        (
            b"\x30\x04\x00\x01\xff\x00",
            Kind::Text(TextError::NotUtf8),
            MalformedPacket,
        ), // [MQTT-1.5.4-1]
        (
            b"\x30\x06\x00\x03\xed\xa0\x80\x00",
            Kind::Text(TextError::NotUtf8),
            MalformedPacket,
        ),
        (
            b"\x30\x04\x00\x01\x00\x00",
            Kind::Text(TextError::Null),
            MalformedPacket,
        ), // [MQTT-1.5.4-2]
        (b"\x30\x03\x00\x00\x00", Kind::TopicMissing, ProtocolError),
        (
            b"\x32\x06\x00\x01a\x00\x00\x00",
            Kind::PacketIdZero,
            MalformedPacket,
        ), // [MQTT-2.2.1-3]
        (
            b"\x30\x07\x00\x01a\x03\x23\x00\x00",
            Kind::TopicAliasZero,
            TopicAliasInvalid,
        ), // [MQTT-3.3.2-8]
        (
            b"\x30\x0a\x00\x01a\x06\x23\x00\x01\x23\x00\x01",
            Kind::PropertyTwice(Id::TopicAlias),
            ProtocolError,
        ),
        (
            b"\x30\x06\x00\x01a\x02\x0b\x00",
            Kind::PropertyValue(Id::SubscriptionIdentifier),
            ProtocolError,
        ),
        (
            b"\x30\x06\x00\x01a\x02\x24\x01",
            Kind::PropertyNotAllowed(Id::MaximumQos),
            MalformedPacket,
        ),
        (
            b"\x30\x06\x00\x01a\x02\x04\x01",
            Kind::UnknownProperty(4),
            MalformedPacket,
        ),
        (
            b"\x30\x06\x00\x01a\x02\x01\x02",
            Kind::PropertyValue(Id::PayloadFormatIndicator),
            ProtocolError,
        ),
        (b"\x82\x03\x00\x0a\x00", Kind::FiltersMissing, ProtocolError), // [MQTT-3.8.3-2]
        (
            b"\x82\x07\x00\x0a\x00\x00\x01a\x41",
            Kind::SubscriptionOptions(0x41),
            MalformedPacket,
        ), // [MQTT-3.8.3-5]
        (
            b"\x82\x07\x00\x0a\x00\x00\x01a\x31",
            Kind::RetainHandling,
            ProtocolError,
        ),
        (
            b"\x82\x07\x00\x0a\x00\x00\x01a\x03",
            Kind::SubscriptionQos,
            ProtocolError,
        ),
        (b"\xa2\x03\x00\x0a\x00", Kind::FiltersMissing, ProtocolError), // [MQTT-3.10.3-2]
        (
            b"\x40\x03\x00\x0a\x92",
            Kind::ReasonCode(0x92),
            ProtocolError,
        ),
        (b"\xe0\x01\x01", Kind::ReasonCode(1), ProtocolError),
    ];
    for (bytes, kind, reason) in cases {
        let found = refusal(&mut server(Version::V5), bytes);
        assert_eq!(found, (*kind, *reason), "{bytes:02x?}");
    }
}

#[test]
fn what_a_server_refuses_as_a_connect() {
    use DecodeErrorKind as Kind;
    let cases: &[(&[u8], Kind)] = &[
        (b"\x30", Kind::ConnectExpected), // [MQTT-3.1.0-1]
        (b"GET / HTTP/1.1", Kind::ConnectExpected),
        (b"\x10\x0a\x00\x04MQTX\x05\x02\x00\x3c", Kind::ProtocolName), // [MQTT-3.1.2-1]
        (
            b"\x10\x0a\x00\x04MQTT\x06\x02\x00\x3c",
            Kind::UnsupportedVersion { level: 6 },
        ),
        (
            b"\x11\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
            Kind::ReservedFlags(1),
        ),
        (
            b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00",
            Kind::ConnectFlags(0x03),
        ), // [MQTT-3.1.2-3]
        (
            b"\x10\x0c\x00\x04MQTT\x04\x0a\x00\x3c\x00\x00",
            Kind::ConnectFlags(0x0a),
        ), // [MQTT-3.1.2-11]
        (
            b"\x10\x0c\x00\x04MQTT\x04\x22\x00\x3c\x00\x00",
            Kind::ConnectFlags(0x22),
        ), // [MQTT-3.1.2-13]
        (
            b"\x10\x0c\x00\x04MQTT\x04\x1e\x00\x3c\x00\x00",
            Kind::ConnectFlags(0x1e),
        ), // [MQTT-3.1.2-12]
        (
            b"\x10\x0c\x00\x04MQTT\x04\x42\x00\x3c\x00\x00",
            Kind::ConnectFlags(0x42),
        ), // 3.1.1 [MQTT-3.1.2-22]
        (
            b"\x10\x0c\x00\x04MQTT\x04\x82\x00\x3c\x00\x00",
            Kind::Truncated,
        ),
        (
            b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x03\x16\x00\x00\x00\x00",
            Kind::AuthenticationMethodMissing,
        ),
        (
            b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x00\x00\x00",
            Kind::PropertyValue(PropertyId::ReceiveMaximum),
        ),
    ];
    for (bytes, kind) in cases {
        let (found, _) = refusal(&mut Decoder::server(100), bytes);
        assert_eq!(found, *kind, "{bytes:02x?}");
    }
}

#[test]
fn a_connect_that_is_wrong_past_its_version_is_answered_in_that_version() {
    let bytes = &b"\x10\x0d\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x00"[..];
    let error = Decoder::server(100)
        .decode(&mut BytesMut::from(bytes))
        .unwrap_err();
    assert_eq!(error.version, Some(Version::V5));
    assert_eq!(
        error.to_string(),
        "CONNECT: the connect flags 0b00000011 contradict each other or set reserved bits"
    );
}

#[test]
fn an_oversize_packet_is_refused_from_its_header() {
    let (kind, reason) = refusal(&mut Decoder::server(127), b"\x10\x7e");
    let packet_bytes_max = 127;
    assert_eq!(
        kind,
        DecodeErrorKind::TooLarge {
            packet_bytes: 128,
            packet_bytes_max
        }
    );
    assert_eq!(reason, ReasonCode::PacketTooLarge);
    assert_eq!(
        Decoder::server(128).decode(&mut BytesMut::from(&b"\x10\x7e"[..])),
        Ok(None)
    );
}

#[test]
fn topic_and_payload_are_slices_of_the_input() {
    let mut input = BytesMut::from(&b"\x30\x08\x00\x03a/b\x00hi"[..]);
    let range = input.as_ptr_range();
    let Ok(Some(Packet::Publish(publish))) = server(Version::V5).decode(&mut input) else {
        panic!("no PUBLISH");
    };
    assert!(range.contains(&publish.message.topic.as_bytes().as_ptr()));
    assert!(range.contains(&publish.message.payload.as_ptr()));
}

#[test]
fn what_an_older_version_cannot_say_is_not_said() {
    let id = PacketId::new(1).unwrap();
    let mut out = BytesMut::new();
    let refused = Packet::Puback(Ack::new(id, ReasonCode::QuotaExceeded));
    let failed = encode(&refused, Version::V3_1_1, &mut out);
    assert_eq!(failed, Err(EncodeError::NotInVersion));
    assert!(out.is_empty());
}

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
            subscription_identifiers: &publish.subscription_identifiers,
            message_expiry_interval_s: publish.message.properties.message_expiry_interval_s,
        };
        let bytes = publish_bytes(&header, &publish.message, version);
        prop_assert_eq!(bytes, Ok(encoded(&packet, version).len()));
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
