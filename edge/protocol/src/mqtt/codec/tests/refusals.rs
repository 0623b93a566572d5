//! What is refused, and with which code.

use super::*;
use crate::mqtt::limits::CONNECT_BYTES_MAX;
use tidegate_shared::topic::TopicError;

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
            b"\x30\x08\x00\x01a\x04\x08\x00\x01#",
            Kind::Topic(TopicError::Wildcard),
            MalformedPacket,
        ), // [MQTT-3.3.2-14]
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
fn who_has_not_connected_is_not_waited_for_past_a_connects_size() {
    // Remaining lengths: with the four bytes of the header, the limit, and one more.
    let (most, more) = (&b"\x10\xfc\xff\x07"[..], &b"\x10\xfd\xff\x07"[..]);
    let mut decoder = Decoder::server(1 << 20);
    assert_eq!(decoder.decode(&mut BytesMut::from(most)), Ok(None));
    let (kind, reason) = refusal(&mut decoder, more);
    let too_large = DecodeErrorKind::TooLarge {
        packet_bytes: CONNECT_BYTES_MAX as usize + 1,
        packet_bytes_max: CONNECT_BYTES_MAX,
    };
    assert_eq!((kind, reason), (too_large, ReasonCode::PacketTooLarge));
    // Who has, may send more.
    let connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
    let connected = decoder.decode(&mut BytesMut::from(&connect[..]));
    assert!(matches!(connected, Ok(Some(Packet::Connect(_)))));
    let publish = BytesMut::from(&b"\x30\xfd\xff\x07"[..]);
    assert_eq!(decoder.decode(&mut publish.clone()), Ok(None));
}
