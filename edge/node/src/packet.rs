//! A message as a row of the journal has it: as a PUBLISH of MQTT 5.

use bytes::BytesMut;
use tidegate_edge_protocol::mqtt::codec::{
    Decoder, Message, Packet, PacketId, Publish, PublishHeader, PublishQos, Qos, Version,
    encode_publish,
};

pub(crate) fn encode(message: &Message, qos: Qos, retain: bool, out: &mut BytesMut) -> Option<()> {
    let any_id = PacketId::new(1)?;
    let header = PublishHeader {
        duplicate: false,
        qos: match qos {
            Qos::AtMostOnce => PublishQos::AtMostOnce,
            Qos::AtLeastOnce => PublishQos::AtLeastOnce(any_id),
            Qos::ExactlyOnce => PublishQos::ExactlyOnce(any_id),
        },
        retain,
        topic_alias: None,
        is_topic_known: false,
        subscription_identifiers: &[],
        message_expiry_interval_s: message.properties.message_expiry_interval_s,
    };
    encode_publish(&header, message, Version::V5, out).ok()
}

pub(crate) fn decode(packet: &[u8]) -> Option<Publish> {
    let packet_bytes_max = u32::try_from(packet.len()).ok()?;
    let mut decoder = Decoder::client(Version::V5, packet_bytes_max);
    match decoder.decode(&mut BytesMut::from(packet)) {
        Ok(Some(Packet::Publish(publish))) => Some(publish),
        _ => None,
    }
}
