//! The bodies of all packets but CONNECT and CONNACK, from bytes.

use std::num::NonZeroU16;

use tidegate_shared::topic::check_topic;

use super::{
    decode_connect::{connack, properties_of},
    error::DecodeErrorKind,
    packet::{
        Ack, Auth, Disconnect, Message, Packet, PacketId, PacketType, Publish, PublishQos, Qos,
        RetainHandling, Suback, Subscribe, SubscriptionOptions, Unsubscribe, Version,
    },
    property::{
        AuthProperties, DisconnectProperties, MessageProperties, PropertyId, PropertySet,
        SubscriptionIdentifier, Value, read_once, read_properties,
    },
    text::Text,
    wire::Reader,
};
use crate::mqtt::reply_code::ReasonCode;

/// The low half of the first byte `[MQTT-2.1.3-1]`. In MQTT 3.1 PUBREL, SUBSCRIBE and UNSUBSCRIBE
/// may also set DUP, and the other packets' flags are not read.
pub(super) fn check_flags(
    packet_type: PacketType,
    flags: u8,
    version: Option<Version>,
) -> Result<(), DecodeErrorKind> {
    use PacketType as Type;
    let old = version == Some(Version::V3_1);
    let good = match packet_type {
        Type::Publish => return check_publish_flags(flags),
        // Its version comes later, and with it what the flags may be.
        Type::Connect => true,
        Type::Pubrel | Type::Subscribe | Type::Unsubscribe if old => flags & 0x06 == 0x02,
        Type::Pubrel | Type::Subscribe | Type::Unsubscribe => flags == 0x02,
        _ => old || flags == 0,
    };
    match good {
        true => Ok(()),
        false => Err(DecodeErrorKind::ReservedFlags(flags)),
    }
}

/// `[MQTT-3.3.1-2]`, `[MQTT-3.3.1-4]`.
fn check_publish_flags(flags: u8) -> Result<(), DecodeErrorKind> {
    match Qos::from_bits(flags >> 1 & 0x03) {
        None => Err(DecodeErrorKind::Qos),
        Some(Qos::AtMostOnce) if flags & 0x08 != 0 => Err(DecodeErrorKind::DuplicateQos0),
        Some(_) => Ok(()),
    }
}

pub(super) fn body(
    packet_type: PacketType,
    flags: u8,
    version: Version,
    reader: &mut Reader,
) -> Result<Packet, DecodeErrorKind> {
    use PacketType as Type;
    match packet_type {
        Type::Connect => Err(DecodeErrorKind::UnexpectedPacket),
        Type::Connack => connack(version, reader),
        Type::Publish => publish(flags, version, reader),
        Type::Puback => ack(packet_type, version, reader).map(Packet::Puback),
        Type::Pubrec => ack(packet_type, version, reader).map(Packet::Pubrec),
        Type::Pubrel => ack(packet_type, version, reader).map(Packet::Pubrel),
        Type::Pubcomp => ack(packet_type, version, reader).map(Packet::Pubcomp),
        Type::Subscribe => subscribe(version, reader),
        Type::Suback => suback(version, reader),
        Type::Unsubscribe => unsubscribe(version, reader),
        Type::Unsuback => unsuback(version, reader),
        Type::Pingreq => Ok(Packet::Pingreq),
        Type::Pingresp => Ok(Packet::Pingresp),
        Type::Disconnect => disconnect(version, reader),
        Type::Auth => auth(reader),
    }
}

fn packet_id(reader: &mut Reader) -> Result<PacketId, DecodeErrorKind> {
    PacketId::new(reader.u16()?).ok_or(DecodeErrorKind::PacketIdZero)
}

pub(super) fn topic(reader: &mut Reader) -> Result<Text, DecodeErrorKind> {
    let topic = reader.text()?;
    check_topic(&topic).map_err(DecodeErrorKind::Topic)?;
    Ok(topic)
}

/// It is a topic to publish to `[MQTT-3.3.2-14]`.
pub(super) fn response_topic(topic: Option<&Text>) -> Result<(), DecodeErrorKind> {
    topic.map_or(Ok(()), |topic| {
        check_topic(topic).map_err(DecodeErrorKind::Topic)
    })
}

/// All properties of a PUBLISH: the message's, and those of this one delivery.
#[derive(Debug, Default)]
struct DeliveryProperties {
    topic_alias: Option<NonZeroU16>,
    subscription_identifiers: Vec<SubscriptionIdentifier>,
    message: MessageProperties,
}

impl PropertySet for DeliveryProperties {
    fn read_one(&mut self, id: PropertyId, reader: &mut Reader) -> Result<(), DecodeErrorKind> {
        match id {
            PropertyId::TopicAlias => read_once(&mut self.topic_alias, id, reader),
            PropertyId::SubscriptionIdentifier => {
                let identifier = SubscriptionIdentifier::read(id, reader)?;
                self.subscription_identifiers.push(identifier);
                Ok(())
            }
            _ => self.message.read_one(id, reader),
        }
    }
}

fn publish(flags: u8, version: Version, reader: &mut Reader) -> Result<Packet, DecodeErrorKind> {
    let name = reader.text()?;
    let qos = match Qos::from_bits(flags >> 1 & 0x03) {
        Some(Qos::AtMostOnce) => PublishQos::AtMostOnce,
        Some(Qos::AtLeastOnce) => PublishQos::AtLeastOnce(packet_id(reader)?),
        Some(Qos::ExactlyOnce) => PublishQos::ExactlyOnce(packet_id(reader)?),
        None => return Err(DecodeErrorKind::Qos),
    };
    let properties: DeliveryProperties = properties_of(version, reader)?;
    if !name.is_empty() {
        check_topic(&name).map_err(DecodeErrorKind::Topic)?;
    } else if properties.topic_alias.is_none() {
        return Err(DecodeErrorKind::TopicMissing);
    }
    response_topic(properties.message.response_topic.as_ref())?;
    Ok(Packet::Publish(Publish {
        duplicate: flags & 0x08 != 0,
        qos,
        retain: flags & 0x01 != 0,
        topic_alias: properties.topic_alias,
        subscription_identifiers: properties.subscription_identifiers,
        message: Message {
            topic: name,
            payload: reader.rest(),
            properties: properties.message,
        },
    }))
}

fn reason(packet_type: PacketType, code: u8) -> Result<ReasonCode, DecodeErrorKind> {
    ReasonCode::from_code(code)
        .filter(|reason| reason.is_allowed_in(packet_type))
        .ok_or(DecodeErrorKind::ReasonCode(code))
}

/// A reason code and properties that may both be left out at the packet's end (3.4.2.1, 3.14.2.1).
fn reason_and_properties<P: PropertySet>(
    packet_type: PacketType,
    reader: &mut Reader,
) -> Result<(ReasonCode, P), DecodeErrorKind> {
    if reader.is_empty() {
        return Ok((ReasonCode::Success, P::default()));
    }
    let reason = reason(packet_type, reader.u8()?)?;
    if reader.is_empty() {
        return Ok((reason, P::default()));
    }
    Ok((reason, read_properties(reader)?))
}

fn ack(
    packet_type: PacketType,
    version: Version,
    reader: &mut Reader,
) -> Result<Ack, DecodeErrorKind> {
    let packet_id = packet_id(reader)?;
    if version < Version::V5 {
        return Ok(Ack::new(packet_id, ReasonCode::Success));
    }
    let (reason, properties) = reason_and_properties(packet_type, reader)?;
    Ok(Ack {
        packet_id,
        reason,
        properties,
    })
}

fn subscribe(version: Version, reader: &mut Reader) -> Result<Packet, DecodeErrorKind> {
    let packet_id = packet_id(reader)?;
    let properties = properties_of(version, reader)?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        let filter = reader.text()?;
        filters.push((filter, subscription_options(version, reader.u8()?)?));
    }
    if filters.is_empty() {
        return Err(DecodeErrorKind::FiltersMissing);
    }
    Ok(Packet::Subscribe(Subscribe {
        packet_id,
        filters,
        properties,
    }))
}

/// `[MQTT-3.8.3-5]`; in the older versions all but the QoS is reserved `[MQTT-3-8.3-4]`, and
/// MQTT 3.1 says that it is not read.
fn subscription_options(
    version: Version,
    byte: u8,
) -> Result<SubscriptionOptions, DecodeErrorKind> {
    let reserved = match version {
        Version::V3_1 => 0,
        Version::V3_1_1 => 0xfc,
        Version::V5 => 0xc0,
    };
    if byte & reserved != 0 {
        return Err(DecodeErrorKind::SubscriptionOptions(byte));
    }
    let qos_max = Qos::from_bits(byte & 0x03).ok_or(DecodeErrorKind::SubscriptionQos)?;
    if version < Version::V5 {
        return Ok(SubscriptionOptions {
            qos_max,
            ..SubscriptionOptions::default()
        });
    }
    Ok(SubscriptionOptions {
        qos_max,
        no_local: byte & 0x04 != 0,
        retain_as_published: byte & 0x08 != 0,
        retain_handling: match byte >> 4 & 0x03 {
            0 => RetainHandling::AtSubscribe,
            1 => RetainHandling::AtNewSubscribe,
            2 => RetainHandling::Never,
            _ => return Err(DecodeErrorKind::RetainHandling),
        },
    })
}

fn reasons(
    packet_type: PacketType,
    reader: &mut Reader,
) -> Result<Vec<ReasonCode>, DecodeErrorKind> {
    let reasons = reader
        .rest()
        .iter()
        .map(|code| reason(packet_type, *code))
        .collect::<Result<Vec<_>, _>>()?;
    match reasons.is_empty() {
        true => Err(DecodeErrorKind::ReasonsMissing),
        false => Ok(reasons),
    }
}

fn suback(version: Version, reader: &mut Reader) -> Result<Packet, DecodeErrorKind> {
    let packet_id = packet_id(reader)?;
    let properties = properties_of(version, reader)?;
    let reasons = reasons(PacketType::Suback, reader)?;
    let foreign = |reason: &&ReasonCode| **reason > ReasonCode::UnspecifiedError;
    if let (true, Some(reason)) = (version < Version::V5, reasons.iter().find(foreign)) {
        return Err(DecodeErrorKind::ReasonCode(*reason as u8));
    }
    Ok(Packet::Suback(Suback {
        packet_id,
        reasons,
        properties,
    }))
}

fn unsubscribe(version: Version, reader: &mut Reader) -> Result<Packet, DecodeErrorKind> {
    let packet_id = packet_id(reader)?;
    let properties = properties_of(version, reader)?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(reader.text()?);
    }
    if filters.is_empty() {
        return Err(DecodeErrorKind::FiltersMissing);
    }
    Ok(Packet::Unsubscribe(Unsubscribe {
        packet_id,
        filters,
        properties,
    }))
}

fn unsuback(version: Version, reader: &mut Reader) -> Result<Packet, DecodeErrorKind> {
    let packet_id = packet_id(reader)?;
    let properties = properties_of(version, reader)?;
    let reasons = match version {
        Version::V5 => reasons(PacketType::Unsuback, reader)?,
        Version::V3_1 | Version::V3_1_1 => Vec::new(),
    };
    Ok(Packet::Unsuback(Suback {
        packet_id,
        reasons,
        properties,
    }))
}

fn disconnect(version: Version, reader: &mut Reader) -> Result<Packet, DecodeErrorKind> {
    let (reason, properties) = match version {
        Version::V5 => reason_and_properties(PacketType::Disconnect, reader)?,
        Version::V3_1 | Version::V3_1_1 => (ReasonCode::Success, DisconnectProperties::default()),
    };
    Ok(Packet::Disconnect(Disconnect { reason, properties }))
}

fn auth(reader: &mut Reader) -> Result<Packet, DecodeErrorKind> {
    let (reason, properties): (_, AuthProperties) =
        reason_and_properties(PacketType::Auth, reader)?;
    Ok(Packet::Auth(Box::new(Auth { reason, properties })))
}
