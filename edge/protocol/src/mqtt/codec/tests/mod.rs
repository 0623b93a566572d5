//! Bytes from the specification.

mod properties;
mod refusals;

use super::*;
use crate::mqtt::reply_code::ReasonCode;
use bytes::{Bytes, BytesMut};

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
            properties: PublishProperties::default().into(),
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
