//! MQTT 5 properties: one struct per packet that carries them, so that which property may stand
//! where is a question of types (table 2-4 of the specification). Each may be there once; user
//! properties, and subscription identifiers in a PUBLISH to a client, more often.

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    ops::{Deref, DerefMut},
};

use bytes::Bytes;

use super::{
    decode::topic,
    error::{DecodeErrorKind, EncodeError},
    packet::Qos,
    text::Text,
    wire::{Measure, Reader, Sink, variable_length},
};
use crate::mqtt::limits::VARIABLE_INTEGER_MAX;

macro_rules! property_ids {
    ($($name:ident = $id:literal),* $(,)?) => {
        /// A property's identifier on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum PropertyId { $($name = $id,)* }

        impl PropertyId {
            fn from_wire(id: u32) -> Result<Self, DecodeErrorKind> {
                match id {
                    $($id => Ok(Self::$name),)*
                    _ => Err(DecodeErrorKind::UnknownProperty(id)),
                }
            }
        }
    };
}

property_ids! {
    PayloadFormatIndicator = 0x01, MessageExpiryInterval = 0x02, ContentType = 0x03,
    ResponseTopic = 0x08, CorrelationData = 0x09, SubscriptionIdentifier = 0x0b,
    SessionExpiryInterval = 0x11, AssignedClientIdentifier = 0x12, ServerKeepAlive = 0x13,
    AuthenticationMethod = 0x15, AuthenticationData = 0x16, RequestProblemInformation = 0x17,
    WillDelayInterval = 0x18, RequestResponseInformation = 0x19, ResponseInformation = 0x1a,
    ServerReference = 0x1c, ReasonString = 0x1f, ReceiveMaximum = 0x21,
    TopicAliasMaximum = 0x22, TopicAlias = 0x23, MaximumQos = 0x24, RetainAvailable = 0x25,
    UserProperty = 0x26, MaximumPacketSize = 0x27, WildcardSubscriptionAvailable = 0x28,
    SubscriptionIdentifierAvailable = 0x29, SharedSubscriptionAvailable = 0x2a,
}

impl fmt::Display for PropertyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?} ({:#04x})", *self as u8)
    }
}

/// A name and a value that MQTT hands on and does not read.
pub type UserProperty = (Text, Text);

/// 1 to 268,435,455 `[MQTT-3.8.2-1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionIdentifier(NonZeroU32);

impl SubscriptionIdentifier {
    pub fn new(value: u32) -> Option<Self> {
        NonZeroU32::new(value)
            .filter(|value| value.get() <= VARIABLE_INTEGER_MAX)
            .map(Self)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }
}

macro_rules! property_set {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty = $id:ident,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: Option<$type>,)*
            pub user_properties: Vec<UserProperty>,
        }

        impl $name {
            const NONE: Self = Self {
                $($field: None,)*
                user_properties: Vec::new(),
            };
        }

        impl Default for $name {
            fn default() -> Self {
                Self::NONE
            }
        }

        impl PropertySet for $name {
            fn read_one(
                &mut self,
                id: PropertyId,
                reader: &mut Reader,
            ) -> Result<(), DecodeErrorKind> {
                match id {
                    $(PropertyId::$id => read_once(&mut self.$field, id, reader),)*
                    PropertyId::UserProperty => {
                        self.user_properties.push((reader.text()?, reader.text()?));
                        Ok(())
                    }
                    _ => Err(DecodeErrorKind::PropertyNotAllowed(id)),
                }
            }
        }

        impl PropertyList for $name {
            fn write_all(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
                $(write_once(&self.$field, PropertyId::$id, sink)?;)*
                for (name, value) in &self.user_properties {
                    sink.u8(PropertyId::UserProperty as u8);
                    sink.text(name)?;
                    sink.text(value)?;
                }
                Ok(())
            }
        }
    };
}

property_set! {
    /// Of CONNECT (3.1.2.11).
    ConnectProperties {
        session_expiry_interval_s: u32 = SessionExpiryInterval,
        receive_maximum: NonZeroU16 = ReceiveMaximum,
        packet_bytes_max: NonZeroU32 = MaximumPacketSize,
        topic_alias_max: u16 = TopicAliasMaximum,
        request_response_information: bool = RequestResponseInformation,
        request_problem_information: bool = RequestProblemInformation,
        authentication_method: Text = AuthenticationMethod,
        authentication_data: Bytes = AuthenticationData,
    }
}

property_set! {
    /// Of the will in a CONNECT (3.1.3.2).
    WillProperties {
        will_delay_interval_s: u32 = WillDelayInterval,
        payload_is_utf8: bool = PayloadFormatIndicator,
        message_expiry_interval_s: u32 = MessageExpiryInterval,
        content_type: Text = ContentType,
        response_topic: Text = ResponseTopic,
        correlation_data: Bytes = CorrelationData,
    }
}

property_set! {
    /// Of CONNACK (3.2.2.3).
    ConnackProperties {
        session_expiry_interval_s: u32 = SessionExpiryInterval,
        receive_maximum: NonZeroU16 = ReceiveMaximum,
        qos_max: Qos = MaximumQos,
        retain_available: bool = RetainAvailable,
        packet_bytes_max: NonZeroU32 = MaximumPacketSize,
        assigned_client_id: Text = AssignedClientIdentifier,
        topic_alias_max: u16 = TopicAliasMaximum,
        reason_string: Text = ReasonString,
        wildcard_subscription_available: bool = WildcardSubscriptionAvailable,
        subscription_identifier_available: bool = SubscriptionIdentifierAvailable,
        shared_subscription_available: bool = SharedSubscriptionAvailable,
        server_keep_alive_s: u16 = ServerKeepAlive,
        response_information: Text = ResponseInformation,
        server_reference: Text = ServerReference,
        authentication_method: Text = AuthenticationMethod,
        authentication_data: Bytes = AuthenticationData,
    }
}

property_set! {
    /// Of a PUBLISH (3.3.2.3), as far as they belong to the message. The topic alias and the
    /// subscription identifiers belong to one delivery: see [`super::Publish`].
    PublishProperties {
        payload_is_utf8: bool = PayloadFormatIndicator,
        message_expiry_interval_s: u32 = MessageExpiryInterval,
        content_type: Text = ContentType,
        response_topic: Text = ResponseTopic,
        correlation_data: Bytes = CorrelationData,
    }
}

property_set! {
    /// Of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    AckProperties { reason_string: Text = ReasonString, }
}

property_set! {
    /// Of SUBSCRIBE (3.8.2.1).
    SubscribeProperties {
        subscription_identifier: SubscriptionIdentifier = SubscriptionIdentifier,
    }
}

property_set! {
    /// Of UNSUBSCRIBE (3.10.2.1).
    UnsubscribeProperties {}
}

property_set! {
    /// Of DISCONNECT (3.14.2.2).
    DisconnectProperties {
        session_expiry_interval_s: u32 = SessionExpiryInterval,
        reason_string: Text = ReasonString,
        server_reference: Text = ServerReference,
    }
}

property_set! {
    /// Of AUTH (3.15.2.2).
    AuthProperties {
        authentication_method: Text = AuthenticationMethod,
        authentication_data: Bytes = AuthenticationData,
        reason_string: Text = ReasonString,
    }
}

/// [`PublishProperties`] of a message. Most have none, and then they take no room.
#[derive(Clone, Default)]
pub struct MessageProperties(Option<Box<PublishProperties>>);

static NO_PROPERTIES: PublishProperties = PublishProperties::NONE;

/// A property without its value, and a user property's two.
const PROPERTY_BYTES: usize = 64;

impl MessageProperties {
    /// What they take in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &Option<Text>| text.as_ref().map_or(0, Text::len);
        let users = self.user_properties.iter();
        let users: usize = users
            .map(|(name, value)| 2 * PROPERTY_BYTES + name.len() + value.len())
            .sum();
        let data = self.correlation_data.as_ref().map_or(0, Bytes::len);
        4 * PROPERTY_BYTES + text(&self.content_type) + text(&self.response_topic) + data + users
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl From<PublishProperties> for MessageProperties {
    fn from(properties: PublishProperties) -> Self {
        Self((properties != NO_PROPERTIES).then(|| Box::new(properties)))
    }
}

impl Deref for MessageProperties {
    type Target = PublishProperties;

    fn deref(&self) -> &PublishProperties {
        self.0.as_deref().unwrap_or(&NO_PROPERTIES)
    }
}

impl DerefMut for MessageProperties {
    fn deref_mut(&mut self) -> &mut PublishProperties {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for MessageProperties {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for MessageProperties {}

impl fmt::Debug for MessageProperties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

/// All properties of one packet, to be read.
pub(super) trait PropertySet: Default {
    fn read_one(&mut self, id: PropertyId, reader: &mut Reader) -> Result<(), DecodeErrorKind>;
}

/// All properties of one packet, to be written.
pub(super) trait PropertyList {
    fn write_all(&self, sink: &mut impl Sink) -> Result<(), EncodeError>;
}

/// The property length and what it counts (2.2.2).
pub(super) fn read_properties<P: PropertySet>(reader: &mut Reader) -> Result<P, DecodeErrorKind> {
    let length = reader.variable()? as usize;
    let mut block = Reader::new(reader.take(length)?);
    let mut properties = P::default();
    while !block.is_empty() {
        let id = PropertyId::from_wire(block.variable()?)?;
        properties.read_one(id, &mut block)?;
    }
    Ok(properties)
}

pub(super) fn write_properties(
    properties: &impl PropertyList,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    let mut measure = Measure::default();
    properties.write_all(&mut measure)?;
    sink.variable(variable_length(measure.0)?);
    properties.write_all(sink)
}

pub(super) fn read_once<V: Value>(
    slot: &mut Option<V>,
    id: PropertyId,
    reader: &mut Reader,
) -> Result<(), DecodeErrorKind> {
    if slot.is_some() {
        return Err(DecodeErrorKind::PropertyTwice(id));
    }
    *slot = Some(V::read(id, reader)?);
    Ok(())
}

pub(super) fn write_once<V: Value>(
    slot: &Option<V>,
    id: PropertyId,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    if let Some(value) = slot {
        sink.u8(id as u8);
        value.write(sink)?;
    }
    Ok(())
}

/// The type of a property's value, with the values that it excludes.
pub(super) trait Value: Sized {
    fn read(id: PropertyId, reader: &mut Reader) -> Result<Self, DecodeErrorKind>;
    fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError>;
}

macro_rules! value {
    ($type:ty, |$id:ident, $reader:ident| $read:expr, |$value:ident, $sink:ident| $write:expr) => {
        impl Value for $type {
            fn read($id: PropertyId, $reader: &mut Reader) -> Result<Self, DecodeErrorKind> {
                $read
            }

            fn write(&self, $sink: &mut impl Sink) -> Result<(), EncodeError> {
                let $value = self;
                $write
            }
        }
    };
}

value!(u16, |_id, reader| reader.u16(), |value, sink| {
    sink.u16(*value);
    Ok(())
});
value!(u32, |_id, reader| reader.u32(), |value, sink| {
    sink.u32(*value);
    Ok(())
});
value!(
    Text,
    |id, reader| match id {
        // [MQTT-3.3.2-14]
        PropertyId::ResponseTopic => topic(reader),
        _ => reader.text(),
    },
    |value, sink| sink.text(value)
);
value!(Bytes, |_id, reader| reader.binary(), |value, sink| sink
    .binary(value));
value!(
    bool,
    |id, reader| match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeErrorKind::PropertyValue(id)),
    },
    |value, sink| {
        sink.u8(u8::from(*value));
        Ok(())
    }
);
value!(
    Qos,
    |id, reader| match reader.u8()? {
        0 => Ok(Qos::AtMostOnce),
        1 => Ok(Qos::AtLeastOnce),
        _ => Err(DecodeErrorKind::PropertyValue(id)),
    },
    |value, sink| {
        sink.u8(*value as u8);
        Ok(())
    }
);
value!(
    NonZeroU16,
    |id, reader| match (NonZeroU16::new(reader.u16()?), id) {
        (Some(value), _) => Ok(value),
        (None, PropertyId::TopicAlias) => Err(DecodeErrorKind::TopicAliasZero),
        (None, _) => Err(DecodeErrorKind::PropertyValue(id)),
    },
    |value, sink| {
        sink.u16(value.get());
        Ok(())
    }
);
value!(
    NonZeroU32,
    |id, reader| NonZeroU32::new(reader.u32()?).ok_or(DecodeErrorKind::PropertyValue(id)),
    |value, sink| {
        sink.u32(value.get());
        Ok(())
    }
);
value!(
    SubscriptionIdentifier,
    |id, reader| SubscriptionIdentifier::new(reader.variable()?)
        .ok_or(DecodeErrorKind::PropertyValue(id)),
    |value, sink| {
        sink.variable(value.get());
        Ok(())
    }
);
