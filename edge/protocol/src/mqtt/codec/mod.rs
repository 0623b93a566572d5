//! Packets to bytes and back, for MQTT 3.1, 3.1.1 and 5 and for both ends. Decoding is zero copy:
//! topics, payloads and properties are slices of what was read. It checks all that one packet can
//! show by itself; rules that need a connection's state are in [`crate::mqtt::connection`].

mod decode;
mod decode_connect;
mod decoder;
mod encode;
mod encode_connect;
mod error;
mod packet;
mod property;
#[cfg(test)]
pub(crate) mod strategy;
#[cfg(test)]
mod tests;
mod text;
mod wire;

pub use decoder::Decoder;
pub use encode::{PublishHeader, encode, encode_publish, publish_bytes};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use packet::{
    Ack, Auth, Connack, Connect, Disconnect, Message, Packet, PacketId, PacketType, Publish,
    PublishQos, Qos, RetainHandling, Suback, Subscribe, SubscriptionOptions, Unsubscribe, Version,
    Will,
};
pub use property::{
    AckProperties, AuthProperties, ConnackProperties, ConnectProperties, DisconnectProperties,
    MessageProperties, PropertyId, PublishProperties, SubscribeProperties, SubscriptionIdentifier,
    UnsubscribeProperties, UserProperty, WillProperties,
};
pub use text::{Text, TextError};
