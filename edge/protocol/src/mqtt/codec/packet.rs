//! The fifteen packets as values, the same for all versions: what an older version can't carry is
//! empty when it was decoded and dropped when it is encoded.

use std::num::NonZeroU16;

use bytes::Bytes;

use super::{
    property::{
        AckProperties, AuthProperties, ConnackProperties, ConnectProperties, DisconnectProperties,
        MessageProperties, PublishProperties, SubscribeProperties, SubscriptionIdentifier,
        UnsubscribeProperties, WillProperties,
    },
    text::Text,
};
use crate::mqtt::reply_code::ReasonCode;

/// The protocol level that CONNECT names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    V3_1 = 3,
    V3_1_1 = 4,
    V5 = 5,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl Qos {
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// Never zero `[MQTT-2.2.1-3]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    pub fn new(value: u16) -> Option<Self> {
        NonZeroU16::new(value).map(Self)
    }

    pub fn get(self) -> u16 {
        self.0.get()
    }
}

macro_rules! packet_types {
    ($($name:ident = $number:literal $text:literal),* $(,)?) => {
        /// The high half of a packet's first byte.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum PacketType { $($name = $number,)* }

        impl PacketType {
            /// `None` for the reserved 0.
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

packet_types! {
    Connect = 1 "CONNECT", Connack = 2 "CONNACK", Publish = 3 "PUBLISH", Puback = 4 "PUBACK",
    Pubrec = 5 "PUBREC", Pubrel = 6 "PUBREL", Pubcomp = 7 "PUBCOMP", Subscribe = 8 "SUBSCRIBE",
    Suback = 9 "SUBACK", Unsubscribe = 10 "UNSUBSCRIBE", Unsuback = 11 "UNSUBACK",
    Pingreq = 12 "PINGREQ", Pingresp = 13 "PINGRESP", Disconnect = 14 "DISCONNECT",
    Auth = 15 "AUTH",
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Box<Connect>),
    Connack(Box<Connack>),
    Publish(Publish),
    Puback(Ack),
    Pubrec(Ack),
    Pubrel(Ack),
    Pubcomp(Ack),
    Subscribe(Subscribe),
    Suback(Suback),
    Unsubscribe(Unsubscribe),
    Unsuback(Suback),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect),
    Auth(Box<Auth>),
}

impl Packet {
    pub fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    /// Clean session before MQTT 5.
    pub clean_start: bool,
    /// 0 turns it off.
    pub keep_alive_s: u16,
    pub client_id: Text,
    pub will: Option<Will>,
    pub username: Option<Text>,
    pub password: Option<Bytes>,
    pub properties: ConnectProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub qos: Qos,
    pub retain: bool,
    pub topic: Text,
    pub payload: Bytes,
    pub properties: WillProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub properties: ConnackProperties,
}

/// A message without its topic, payload and properties.
const MESSAGE_BYTES: usize = 128;

/// What all subscribers of one PUBLISH share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Empty only in a PUBLISH that names its topic by an alias.
    pub topic: Text,
    pub payload: Bytes,
    pub properties: MessageProperties,
}

impl Message {
    /// What it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        let properties = match self.properties.is_empty() {
            true => 0,
            false => self.properties.bytes(),
        };
        MESSAGE_BYTES + self.topic.len() + self.payload.len() + properties
    }

    /// In memory of its own, for what is kept longer than the buffer that it was read into.
    pub fn detached(&self) -> Self {
        let text = |text: &Option<Text>| text.as_ref().map(Text::detached);
        let properties = &self.properties;
        let users = properties.user_properties.iter();
        Self {
            topic: self.topic.detached(),
            payload: Bytes::copy_from_slice(&self.payload),
            properties: MessageProperties::from(PublishProperties {
                payload_is_utf8: properties.payload_is_utf8,
                message_expiry_interval_s: properties.message_expiry_interval_s,
                content_type: text(&properties.content_type),
                response_topic: text(&properties.response_topic),
                correlation_data: properties
                    .correlation_data
                    .as_deref()
                    .map(Bytes::copy_from_slice),
                user_properties: users
                    .map(|(name, value)| (name.detached(), value.detached()))
                    .collect(),
            }),
        }
    }
}

/// The QoS of one PUBLISH, with the packet identifier that only QoS 1 and 2 have
/// `[MQTT-2.2.1-2]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishQos {
    AtMostOnce,
    AtLeastOnce(PacketId),
    ExactlyOnce(PacketId),
}

impl PublishQos {
    pub fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce(_) => Qos::AtLeastOnce,
            Self::ExactlyOnce(_) => Qos::ExactlyOnce,
        }
    }

    pub fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce(packet_id) | Self::ExactlyOnce(packet_id) => Some(packet_id),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Always false for QoS 0 `[MQTT-3.3.1-2]`.
    pub duplicate: bool,
    pub qos: PublishQos,
    pub retain: bool,
    pub topic_alias: Option<NonZeroU16>,
    /// Only from server to client `[MQTT-3.3.4-6]`.
    pub subscription_identifiers: Vec<SubscriptionIdentifier>,
    pub message: Message,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP. The reason is always success before MQTT 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub packet_id: PacketId,
    pub reason: ReasonCode,
    pub properties: AckProperties,
}

impl Ack {
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: AckProperties::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub packet_id: PacketId,
    /// At least one `[MQTT-3.8.3-2]`.
    pub filters: Vec<(Text, SubscriptionOptions)>,
    pub properties: SubscribeProperties,
}

/// When retained messages are sent for a subscription (3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    #[default]
    AtSubscribe = 0,
    AtNewSubscribe = 1,
    Never = 2,
}

/// Before MQTT 5 only the QoS is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    pub qos_max: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// SUBACK or UNSUBACK: one reason per filter. An UNSUBACK before MQTT 5 has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suback {
    pub packet_id: PacketId,
    pub reasons: Vec<ReasonCode>,
    pub properties: AckProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    pub packet_id: PacketId,
    /// At least one `[MQTT-3.10.3-2]`.
    pub filters: Vec<Text>,
    pub properties: UnsubscribeProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub reason: ReasonCode,
    pub properties: DisconnectProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub reason: ReasonCode,
    pub properties: AuthProperties,
}
