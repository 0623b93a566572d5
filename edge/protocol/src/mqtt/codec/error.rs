//! What can be wrong with a packet, on the way in and on the way out.

use thiserror::Error;
use tidegate_shared::topic::TopicError;

use super::{
    packet::{PacketType, Version},
    property::PropertyId,
    text::TextError,
};
use crate::mqtt::limits::FIELD_BYTES_MAX;

/// Why the peer's bytes are no acceptable packet. The reason code that answers it is in
/// [`crate::mqtt::reply_code`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {kind}", packet_name(*.packet_type))]
pub struct DecodeError {
    pub kind: DecodeErrorKind,
    /// `None` where the first byte already names no packet.
    pub packet_type: Option<PacketType>,
    /// The version spoken, as far as it was known when the error was found: it decides what the
    /// peer can be told.
    pub version: Option<Version>,
}

fn packet_name(packet_type: Option<PacketType>) -> &'static str {
    packet_type.map_or("packet", PacketType::name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeErrorKind {
    #[error("packet type {0} is reserved")]
    ReservedPacketType(u8),
    #[error("the flags {0:#06b} are reserved")]
    ReservedFlags(u8),
    #[error("the remaining length takes more than four bytes")]
    RemainingLengthTooLong,
    #[error("a variable byte integer takes more bytes than it needs, or more than four")]
    VariableInteger,
    #[error("it takes {packet_bytes} bytes, and at most {packet_bytes_max} are accepted")]
    TooLarge {
        packet_bytes: usize,
        packet_bytes_max: u32,
    },
    #[error("the first packet must be CONNECT")]
    ConnectExpected,
    #[error("it may not be sent in this direction, or not in this version")]
    UnexpectedPacket,
    #[error("it ends inside a field")]
    Truncated,
    #[error("{0} bytes follow its last field")]
    TrailingBytes(usize),
    #[error("{0}")]
    Text(#[from] TextError),
    #[error("the protocol name is neither MQTT nor MQIsdp")]
    ProtocolName,
    #[error("protocol level {level} is not supported, only 3 (3.1), 4 (3.1.1) and 5")]
    UnsupportedVersion { level: u8 },
    #[error("the connect flags {0:#010b} contradict each other or set reserved bits")]
    ConnectFlags(u8),
    #[error("the acknowledge flags {0:#010b} set reserved bits")]
    ConnackFlags(u8),
    #[error("QoS 3 does not exist")]
    Qos,
    #[error("a subscription asks for QoS 3, which does not exist")]
    SubscriptionQos,
    #[error("DUP is set on QoS 0")]
    DuplicateQos0,
    #[error("packet identifier 0 is not allowed")]
    PacketIdZero,
    #[error("it has neither a topic nor a topic alias")]
    TopicMissing,
    #[error("the topic is refused: {0}")]
    Topic(TopicError),
    #[error("topic alias 0 is not allowed")]
    TopicAliasZero,
    #[error("it has no topic filter")]
    FiltersMissing,
    #[error("it has no reason code")]
    ReasonsMissing,
    #[error("the subscription options {0:#010b} set reserved bits")]
    SubscriptionOptions(u8),
    #[error("retain handling 3 does not exist")]
    RetainHandling,
    #[error("reason code {0:#04x} is not one that it may carry")]
    ReasonCode(u8),
    #[error("property {0:#04x} does not exist")]
    UnknownProperty(u32),
    #[error("property {0} is not allowed in it")]
    PropertyNotAllowed(PropertyId),
    #[error("property {0} is there twice")]
    PropertyTwice(PropertyId),
    #[error("property {0} has a value that is not allowed")]
    PropertyValue(PropertyId),
    #[error("authentication data without an authentication method")]
    AuthenticationMethodMissing,
}

/// Why a packet of ours can't be put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    #[error("a field of {0} bytes is longer than {FIELD_BYTES_MAX}")]
    FieldTooLong(usize),
    #[error("a packet of {0} bytes is longer than MQTT allows")]
    PacketTooLong(usize),
    #[error("MQTT 3.1 and 3.1.1 have no such packet, or no such code for it")]
    NotInVersion,
}
