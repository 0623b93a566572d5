//! CONNECT and CONNACK, from bytes.

use super::{
    error::DecodeErrorKind,
    packet::{Connack, Connect, Packet, Qos, Version, Will},
    property::{ConnackProperties, ConnectProperties, WillProperties, read_properties},
    wire::Reader,
};
use crate::mqtt::{
    codec::decode::{response_topic, topic},
    reply_code::ReasonCode,
};

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// The protocol name and level with which CONNECT begins.
pub(super) fn version(reader: &mut Reader) -> Result<Version, DecodeErrorKind> {
    let name = reader.binary()?;
    let level = reader.u8()?;
    match (&name[..], level) {
        (b"MQIsdp", 3) => Ok(Version::V3_1),
        (b"MQTT", 4) => Ok(Version::V3_1_1),
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQIsdp" | b"MQTT", level) => Err(DecodeErrorKind::UnsupportedVersion { level }),
        _ => Err(DecodeErrorKind::ProtocolName),
    }
}

pub(super) fn connect(
    version: Version,
    header_flags: u8,
    reader: &mut Reader,
) -> Result<Packet, DecodeErrorKind> {
    if version > Version::V3_1 && header_flags != 0 {
        return Err(DecodeErrorKind::ReservedFlags(header_flags));
    }
    let flags = reader.u8()?;
    check_connect_flags(version, flags)?;
    let keep_alive_s = reader.u16()?;
    let properties: ConnectProperties = properties_of(version, reader)?;
    if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
        return Err(DecodeErrorKind::AuthenticationMethodMissing);
    }
    let client_id = reader.text()?;
    let will = match flags & WILL {
        0 => None,
        _ => Some(will(version, flags, reader)?),
    };
    // In MQTT 3.1 the remaining length goes before these two flags.
    let has = |flag: u8, reader: &Reader| {
        flags & flag != 0 && !(version == Version::V3_1 && reader.is_empty())
    };
    let username = has(USERNAME, reader).then(|| reader.text()).transpose()?;
    let password = has(PASSWORD, reader).then(|| reader.binary()).transpose()?;
    Ok(Packet::Connect(Box::new(Connect {
        version,
        clean_start: flags & CLEAN_START != 0,
        keep_alive_s,
        client_id,
        will,
        username,
        password,
        properties,
    })))
}

/// `[MQTT-3.1.2-3]` and what binds the will's flags `[MQTT-3.1.2-11]`, `[MQTT-3.1.2-12]`,
/// `[MQTT-3.1.2-13]`. MQTT 3.1 does not say that a server checks them.
fn check_connect_flags(version: Version, flags: u8) -> Result<(), DecodeErrorKind> {
    let will_parts = flags & (WILL_RETAIN | 0x18);
    let bad_will = (flags & WILL == 0 && will_parts != 0) || will_qos(flags).is_none();
    // [MQTT-3.1.2-22] of 3.1.1; MQTT 5 lifted it.
    let lone_password = version < Version::V5 && flags & (USERNAME | PASSWORD) == PASSWORD;
    let bad = flags & 0x01 != 0 || bad_will || lone_password;
    match version {
        Version::V3_1 if flags & WILL == 0 || will_qos(flags).is_some() => Ok(()),
        _ if bad => Err(DecodeErrorKind::ConnectFlags(flags)),
        _ => Ok(()),
    }
}

fn will_qos(flags: u8) -> Option<Qos> {
    Qos::from_bits(flags >> 3 & 0x03)
}

fn will(version: Version, flags: u8, reader: &mut Reader) -> Result<Will, DecodeErrorKind> {
    let properties: WillProperties = properties_of(version, reader)?;
    response_topic(properties.response_topic.as_ref())?;
    Ok(Will {
        qos: will_qos(flags).ok_or(DecodeErrorKind::ConnectFlags(flags))?,
        retain: flags & WILL_RETAIN != 0,
        topic: topic(reader)?,
        payload: reader.binary()?,
        properties,
    })
}

/// Only MQTT 5 has properties.
pub(super) fn properties_of<P: super::property::PropertySet>(
    version: Version,
    reader: &mut Reader,
) -> Result<P, DecodeErrorKind> {
    match version {
        Version::V5 => read_properties(reader),
        Version::V3_1 | Version::V3_1_1 => Ok(P::default()),
    }
}

pub(super) fn connack(version: Version, reader: &mut Reader) -> Result<Packet, DecodeErrorKind> {
    let flags = reader.u8()?;
    if version > Version::V3_1 && flags > 1 {
        return Err(DecodeErrorKind::ConnackFlags(flags));
    }
    let code = reader.u8()?;
    let reason = match version {
        Version::V5 => ReasonCode::from_code(code)
            .filter(|reason| reason.is_allowed_in(super::PacketType::Connack)),
        Version::V3_1 | Version::V3_1_1 => ReasonCode::from_connack_return_code(code),
    }
    .ok_or(DecodeErrorKind::ReasonCode(code))?;
    let session_present = version > Version::V3_1 && flags == 1;
    // [MQTT-3.2.2-6]
    if session_present && reason.is_error() {
        return Err(DecodeErrorKind::ConnackFlags(flags));
    }
    let properties: ConnackProperties = properties_of(version, reader)?;
    Ok(Packet::Connack(Box::new(Connack {
        session_present,
        reason,
        properties,
    })))
}
