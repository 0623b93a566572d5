//! CONNECT and CONNACK, to bytes.

use super::{
    error::EncodeError,
    packet::{Connack, Connect, Version, Will},
    property::write_properties,
    wire::Sink,
};

pub(super) fn write_connect(connect: &Connect, sink: &mut impl Sink) -> Result<(), EncodeError> {
    let version = connect.version;
    sink.binary(match version {
        Version::V3_1 => b"MQIsdp",
        Version::V3_1_1 | Version::V5 => b"MQTT",
    })?;
    sink.u8(version as u8);
    sink.u8(connect_flags(connect)?);
    sink.u16(connect.keep_alive_s);
    if version == Version::V5 {
        write_properties(&connect.properties, sink)?;
    }
    sink.text(&connect.client_id)?;
    if let Some(will) = &connect.will {
        write_will(will, version, sink)?;
    }
    if let Some(username) = &connect.username {
        sink.text(username)?;
    }
    match &connect.password {
        Some(password) => sink.binary(password),
        None => Ok(()),
    }
}

fn write_will(will: &Will, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
    if version == Version::V5 {
        write_properties(&will.properties, sink)?;
    }
    sink.text(&will.topic)?;
    sink.binary(&will.payload)
}

fn connect_flags(connect: &Connect) -> Result<u8, EncodeError> {
    let lone_password = connect.password.is_some() && connect.username.is_none();
    if connect.version < Version::V5 && lone_password {
        return Err(EncodeError::NotInVersion);
    }
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6;
    flags |= u8::from(connect.username.is_some()) << 7;
    Ok(flags)
}

pub(super) fn write_connack(
    connack: &Connack,
    version: Version,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    // MQTT 3.1 has no session present.
    sink.u8(u8::from(connack.session_present && version > Version::V3_1));
    if version == Version::V5 {
        sink.u8(connack.reason as u8);
        return write_properties(&connack.properties, sink);
    }
    let code = connack.reason.connack_return_code();
    sink.u8(code.ok_or(EncodeError::NotInVersion)?);
    Ok(())
}
