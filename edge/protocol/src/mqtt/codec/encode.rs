//! All packets but CONNECT and CONNACK, to bytes. Each body is measured first and then written
//! once, straight into the output.

use std::{borrow::Cow, num::NonZeroU16};

use bytes::BytesMut;

use super::{
    encode_connect::{write_connack, write_connect},
    error::EncodeError,
    packet::{
        Ack, Auth, Disconnect, Message, Packet, PacketType, PublishQos, Qos, Suback, Subscribe,
        SubscriptionOptions, Unsubscribe, Version,
    },
    property::{
        AckProperties, AuthProperties, DisconnectProperties, PropertyId, PropertyList,
        PublishProperties, SubscriptionIdentifier, write_once, write_properties,
    },
    wire::{Measure, Sink, variable_length},
};
use crate::mqtt::{limits::FIXED_HEADER_BYTES_MAX, reply_code::ReasonCode};

/// Appends a packet to `out`. What `version` can't carry (properties, reasons) is left out; where
/// that would change the packet's meaning, and on any other error, nothing is appended.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    if let Packet::Publish(publish) = packet {
        let header = PublishHeader {
            duplicate: publish.duplicate,
            qos: publish.qos,
            retain: publish.retain,
            topic_alias: publish.topic_alias,
            is_topic_known: false,
            subscription_identifiers: &publish.subscription_identifiers,
            message_expiry_interval_s: publish.message.properties.message_expiry_interval_s,
        };
        return encode_publish(&header, &publish.message, version, out);
    }
    let flags = match packet {
        Packet::Pubrel(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) => 0x02,
        _ => 0,
    };
    let mut measure = Measure::default();
    write_body(packet, version, &mut measure)?;
    write_header(packet.packet_type(), flags, measure.0, out)?;
    write_body(packet, version, out)
}

/// What one subscriber's PUBLISH does not share with the others'.
#[derive(Clone, Copy, Debug)]
pub struct PublishHeader<'a> {
    /// Ignored for QoS 0.
    pub duplicate: bool,
    pub qos: PublishQos,
    pub retain: bool,
    pub topic_alias: Option<NonZeroU16>,
    /// The receiver knows the topic by its alias: it is left out.
    pub is_topic_known: bool,
    pub subscription_identifiers: &'a [SubscriptionIdentifier],
    /// What is left of it `[MQTT-3.3.2-6]`; stands in for the message's own.
    pub message_expiry_interval_s: Option<u32>,
}

impl PublishHeader<'_> {
    fn flags(&self) -> u8 {
        let qos = self.qos.qos();
        let duplicate = self.duplicate && qos != Qos::AtMostOnce;
        u8::from(duplicate) << 3 | (qos as u8) << 1 | u8::from(self.retain)
    }
}

/// Appends a PUBLISH to `out`. The message may be shared by many: the payload is copied once, into
/// `out`.
pub fn encode_publish(
    header: &PublishHeader<'_>,
    message: &Message,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let body_bytes = publish_body_bytes(header, message, version)?;
    write_header(PacketType::Publish, header.flags(), body_bytes, out)?;
    write_publish_head(header, message, version, out)?;
    out.slice(&message.payload);
    Ok(())
}

/// What `encode_publish` would append, in bytes.
pub fn publish_bytes(
    header: &PublishHeader<'_>,
    message: &Message,
    version: Version,
) -> Result<usize, EncodeError> {
    let body_bytes = publish_body_bytes(header, message, version)?;
    let mut measure = Measure::default();
    measure.variable(variable_length(body_bytes)?);
    Ok(1 + measure.0 + body_bytes)
}

fn publish_body_bytes(
    header: &PublishHeader<'_>,
    message: &Message,
    version: Version,
) -> Result<usize, EncodeError> {
    let mut measure = Measure::default();
    write_publish_head(header, message, version, &mut measure)?;
    Ok(measure.0 + message.payload.len())
}

fn write_publish_head(
    header: &PublishHeader<'_>,
    message: &Message,
    version: Version,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    match header.is_topic_known {
        true => sink.u16(0),
        false => sink.text(&message.topic)?,
    }
    if let Some(packet_id) = header.qos.packet_id() {
        sink.u16(packet_id.get());
    }
    if version < Version::V5 {
        return Ok(());
    }
    let expiry_interval_s = header.message_expiry_interval_s;
    if header.topic_alias.is_none()
        && header.subscription_identifiers.is_empty()
        && expiry_interval_s.is_none()
        && message.properties.is_empty()
    {
        sink.u8(0);
        return Ok(());
    }
    let mut properties = Cow::Borrowed(&*message.properties);
    if properties.message_expiry_interval_s != expiry_interval_s {
        properties.to_mut().message_expiry_interval_s = expiry_interval_s;
    }
    let delivery = DeliveryProperties {
        topic_alias: header.topic_alias,
        subscription_identifiers: header.subscription_identifiers,
        message: properties,
    };
    write_properties(&delivery, sink)
}

/// All properties of a PUBLISH: the message's, and those of this one delivery.
struct DeliveryProperties<'a> {
    topic_alias: Option<NonZeroU16>,
    subscription_identifiers: &'a [SubscriptionIdentifier],
    message: Cow<'a, PublishProperties>,
}

impl PropertyList for DeliveryProperties<'_> {
    fn write_all(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        write_once(&self.topic_alias, PropertyId::TopicAlias, sink)?;
        for identifier in self.subscription_identifiers {
            write_once(&Some(*identifier), PropertyId::SubscriptionIdentifier, sink)?;
        }
        self.message.write_all(sink)
    }
}

fn write_header(
    packet_type: PacketType,
    flags: u8,
    body_bytes: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let length = variable_length(body_bytes)?;
    out.reserve(FIXED_HEADER_BYTES_MAX + body_bytes);
    out.u8((packet_type as u8) << 4 | flags);
    out.variable(length);
    Ok(())
}

fn write_body(packet: &Packet, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) => write_connect(connect, sink),
        Packet::Connack(connack) => write_connack(connack, version, sink),
        // `encode` has written it from its parts.
        Packet::Publish(_) | Packet::Pingreq | Packet::Pingresp => Ok(()),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            write_ack(ack, version, sink)
        }
        Packet::Subscribe(subscribe) => write_subscribe(subscribe, version, sink),
        Packet::Suback(suback) => write_suback(suback, version, sink),
        Packet::Unsubscribe(unsubscribe) => write_unsubscribe(unsubscribe, version, sink),
        Packet::Unsuback(unsuback) => write_unsuback(unsuback, version, sink),
        Packet::Disconnect(disconnect) => write_disconnect(disconnect, version, sink),
        Packet::Auth(auth) => write_auth(auth, version, sink),
    }
}

/// The shortest form: without properties, and without a reason where that is success.
fn write_reason_and_properties<P: PropertyList + Default + PartialEq>(
    reason: ReasonCode,
    properties: &P,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    if *properties != P::default() {
        sink.u8(reason as u8);
        return write_properties(properties, sink);
    }
    if reason != ReasonCode::Success {
        sink.u8(reason as u8);
    }
    Ok(())
}

fn write_ack(ack: &Ack, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
    sink.u16(ack.packet_id.get());
    match version {
        Version::V5 => {
            write_reason_and_properties::<AckProperties>(ack.reason, &ack.properties, sink)
        }
        // There it would say that all is well.
        Version::V3_1 | Version::V3_1_1 if ack.reason.is_error() => Err(EncodeError::NotInVersion),
        Version::V3_1 | Version::V3_1_1 => Ok(()),
    }
}

fn write_subscribe(
    subscribe: &Subscribe,
    version: Version,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    sink.u16(subscribe.packet_id.get());
    if version == Version::V5 {
        write_properties(&subscribe.properties, sink)?;
    }
    for (filter, options) in &subscribe.filters {
        sink.text(filter)?;
        sink.u8(options_byte(options, version));
    }
    Ok(())
}

fn options_byte(options: &SubscriptionOptions, version: Version) -> u8 {
    let qos_max = options.qos_max as u8;
    match version {
        Version::V3_1 | Version::V3_1_1 => qos_max,
        Version::V5 => {
            qos_max
                | u8::from(options.no_local) << 2
                | u8::from(options.retain_as_published) << 3
                | (options.retain_handling as u8) << 4
        }
    }
}

fn write_suback(
    suback: &Suback,
    version: Version,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    sink.u16(suback.packet_id.get());
    if version == Version::V5 {
        write_properties(&suback.properties, sink)?;
    }
    for reason in &suback.reasons {
        let failed = version < Version::V5 && reason.is_error();
        sink.u8(if failed { 0x80 } else { *reason as u8 });
    }
    Ok(())
}

fn write_unsubscribe(
    unsubscribe: &Unsubscribe,
    version: Version,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    sink.u16(unsubscribe.packet_id.get());
    if version == Version::V5 {
        write_properties(&unsubscribe.properties, sink)?;
    }
    unsubscribe
        .filters
        .iter()
        .try_for_each(|filter| sink.text(filter))
}

fn write_unsuback(
    unsuback: &Suback,
    version: Version,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    sink.u16(unsuback.packet_id.get());
    if version == Version::V5 {
        write_properties(&unsuback.properties, sink)?;
        for reason in &unsuback.reasons {
            sink.u8(*reason as u8);
        }
    }
    Ok(())
}

fn write_disconnect(
    disconnect: &Disconnect,
    version: Version,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    match version {
        Version::V5 => write_reason_and_properties::<DisconnectProperties>(
            disconnect.reason,
            &disconnect.properties,
            sink,
        ),
        // There it would say that the client leaves in peace.
        Version::V3_1 | Version::V3_1_1 if disconnect.reason != ReasonCode::Success => {
            Err(EncodeError::NotInVersion)
        }
        Version::V3_1 | Version::V3_1_1 => Ok(()),
    }
}

fn write_auth(auth: &Auth, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
    match version {
        Version::V5 => {
            write_reason_and_properties::<AuthProperties>(auth.reason, &auth.properties, sink)
        }
        Version::V3_1 | Version::V3_1_1 => Err(EncodeError::NotInVersion),
    }
}
