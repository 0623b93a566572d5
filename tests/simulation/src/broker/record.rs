//! A message as a record of the journal, and back: topic and payload, and the QoS as its mark.

use bytes::Bytes;
use tidegate_edge_journal::TOPIC_HEADER;
use tidegate_edge_protocol::mqtt::codec::{Message, Qos, Text};
use tidegate_shared::record::{Header, Record};

pub(super) fn to_record(message: &Message) -> Record {
    Record {
        value: Some(message.payload.clone()),
        headers: vec![Header::new(
            Bytes::from_static(TOPIC_HEADER),
            message.topic.as_bytes().clone(),
        )],
        ..Record::default()
    }
}

/// `None` where it is nothing that the broker wrote.
pub fn to_message(record: Record) -> Option<Message> {
    let topic = record.headers.into_iter().next()?.value?;
    Some(Message {
        topic: Text::new(topic).ok()?,
        payload: record.value?,
        ..Message::default()
    })
}

pub(super) fn qos_of(mark: u8) -> Qos {
    Qos::from_bits(mark).unwrap_or_default()
}
