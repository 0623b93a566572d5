//! Finds packets in a stream of bytes. It refuses what can be refused from the fixed header, so
//! that no peer makes us wait for, or keep, more than one packet of the allowed size; before its
//! CONNECT, of the size of a CONNECT.

use bytes::{Buf, BytesMut};

use super::{
    decode::{self, check_flags},
    decode_connect,
    error::{DecodeError, DecodeErrorKind},
    packet::{Packet, PacketType, Version},
    wire::{Reader, read_variable},
};
use crate::mqtt::limits::CONNECT_BYTES_MAX;

/// Which end reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

/// One direction of one connection. After an error the stream can't be read on: close it.
#[derive(Clone, Debug)]
pub struct Decoder {
    role: Role,
    version: Option<Version>,
    packet_bytes_max: u32,
}

#[derive(Clone, Copy, Debug)]
struct FixedHeader {
    packet_type: PacketType,
    flags: u8,
    /// Of the fixed header itself.
    header_bytes: usize,
    /// Of what follows it.
    body_bytes: usize,
}

impl Decoder {
    /// Reads what clients send. The first packet must be CONNECT `[MQTT-3.1.0-1]`; it sets the
    /// version of all that follows.
    pub fn server(packet_bytes_max: u32) -> Self {
        Self {
            role: Role::Server,
            version: None,
            packet_bytes_max,
        }
    }

    /// Reads what a server sends to a client that asked for `version`.
    pub fn client(version: Version, packet_bytes_max: u32) -> Self {
        Self {
            role: Role::Client,
            version: Some(version),
            packet_bytes_max,
        }
    }

    /// What the CONNECT asked for, as soon as it was read that far.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes the next packet off `input`; `None` where its end is not there yet.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        let packet_type = PacketType::from_number(first >> 4);
        self.decode_as(packet_type, first, input)
            .map_err(|kind| DecodeError {
                kind,
                packet_type,
                version: self.version,
            })
    }

    fn decode_as(
        &mut self,
        packet_type: Option<PacketType>,
        first: u8,
        input: &mut BytesMut,
    ) -> Result<Option<Packet>, DecodeErrorKind> {
        let packet_type = packet_type.ok_or(DecodeErrorKind::ReservedPacketType(first >> 4))?;
        self.check_expected(packet_type)?;
        check_flags(packet_type, first & 0x0f, self.version)?;
        let Some((body_bytes, length_bytes)) = read_remaining_length(&input[1..])? else {
            return Ok(None);
        };
        let header = FixedHeader {
            packet_type,
            flags: first & 0x0f,
            header_bytes: 1 + length_bytes,
            body_bytes,
        };
        self.check_size(&header)?;
        if input.len() < header.header_bytes + body_bytes {
            return Ok(None);
        }
        input.advance(header.header_bytes);
        self.decode_body(&header, Reader::new(input.split_to(body_bytes).freeze()))
            .map(Some)
    }

    fn check_expected(&self, packet_type: PacketType) -> Result<(), DecodeErrorKind> {
        use PacketType as Type;
        let Some(version) = self.version else {
            return match packet_type {
                Type::Connect => Ok(()),
                _ => Err(DecodeErrorKind::ConnectExpected),
            };
        };
        let allowed = match (packet_type, self.role) {
            (Type::Connect | Type::Subscribe | Type::Unsubscribe | Type::Pingreq, role) => {
                role == Role::Server
            }
            (Type::Connack | Type::Suback | Type::Unsuback | Type::Pingresp, role) => {
                role == Role::Client
            }
            (Type::Disconnect, Role::Client) | (Type::Auth, _) => version == Version::V5,
            _ => true,
        };
        match allowed {
            true => Ok(()),
            false => Err(DecodeErrorKind::UnexpectedPacket),
        }
    }

    fn check_size(&self, header: &FixedHeader) -> Result<(), DecodeErrorKind> {
        let packet_bytes = header.header_bytes + header.body_bytes;
        let packet_bytes_max = match self.version {
            Some(_) => self.packet_bytes_max,
            None => self.packet_bytes_max.min(CONNECT_BYTES_MAX),
        };
        if packet_bytes > packet_bytes_max as usize {
            return Err(DecodeErrorKind::TooLarge {
                packet_bytes,
                packet_bytes_max,
            });
        }
        Ok(())
    }

    fn decode_body(
        &mut self,
        header: &FixedHeader,
        mut reader: Reader,
    ) -> Result<Packet, DecodeErrorKind> {
        let packet = match (header.packet_type, self.version) {
            (PacketType::Connect, _) => {
                let version = decode_connect::version(&mut reader)?;
                // Set before the rest is read: an error in the rest is answered in this version.
                // A second CONNECT changes nothing; the connection refuses it [MQTT-3.1.0-2].
                self.version.get_or_insert(version);
                decode_connect::connect(version, header.flags, &mut reader)?
            }
            (packet_type, Some(version)) => {
                decode::body(packet_type, header.flags, version, &mut reader)?
            }
            (_, None) => return Err(DecodeErrorKind::ConnectExpected),
        };
        reader.finish()?;
        Ok(packet)
    }
}

fn read_remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, DecodeErrorKind> {
    match read_variable(bytes) {
        Ok(found) => Ok(found.map(|(value, count)| (value as usize, count))),
        Err(_) if bytes.len() >= 4 && bytes[..4].iter().all(|byte| byte & 0x80 != 0) => {
            Err(DecodeErrorKind::RemainingLengthTooLong)
        }
        Err(kind) => Err(kind),
    }
}
