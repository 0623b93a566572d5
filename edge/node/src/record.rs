//! What becomes of an MQTT message: a Kafka record.

use bytes::Bytes;
use tidegate_edge_journal::is_plausible;
use tidegate_edge_protocol::mqtt::codec::Message;
use tidegate_shared::fleet::RouteKey;
use tidegate_shared::record::{Header, Record};

/// The header that names the MQTT topic.
const TOPIC_HEADER: &[u8] = b"mqtt.topic";
const CONTENT_TYPE_HEADER: &[u8] = b"mqtt.content_type";
const RESPONSE_TOPIC_HEADER: &[u8] = b"mqtt.response_topic";
const CORRELATION_HEADER: &[u8] = b"mqtt.correlation_data";
/// Says that the timestamp was taken by a clock that was never set: order is by offset.
const CLOCK_HEADER: &[u8] = b"tidegate.clock";
const CLOCK_UNSYNCHRONISED: &[u8] = b"unsynchronised";

/// The record of a message that arrived at `timestamp_ms`. Key by the route; the topic in a header;
/// the properties that concern its reader, user properties last, each as a header of its own name.
/// A timestamp that cannot be true is flagged.
pub(crate) fn from_message(
    message: &Message,
    key: RouteKey,
    client_id: &Bytes,
    timestamp_ms: i64,
) -> Record {
    let properties = &message.properties;
    let mut headers = Vec::with_capacity(1 + properties.user_properties.len());
    let topic = message.topic.as_bytes();
    headers.push(Header::new(Bytes::from_static(TOPIC_HEADER), topic.clone()));
    let mut optional = |name: &'static [u8], value: Option<&Bytes>| {
        if let Some(value) = value {
            headers.push(Header::new(Bytes::from_static(name), value.clone()));
        }
    };
    optional(
        CONTENT_TYPE_HEADER,
        properties.content_type.as_ref().map(|text| text.as_bytes()),
    );
    optional(
        RESPONSE_TOPIC_HEADER,
        properties
            .response_topic
            .as_ref()
            .map(|text| text.as_bytes()),
    );
    optional(CORRELATION_HEADER, properties.correlation_data.as_ref());
    if !is_plausible(timestamp_ms) {
        let value = Bytes::from_static(CLOCK_UNSYNCHRONISED);
        headers.push(Header::new(Bytes::from_static(CLOCK_HEADER), value));
    }
    for (name, value) in &properties.user_properties {
        headers.push(Header::new(
            name.as_bytes().clone(),
            value.as_bytes().clone(),
        ));
    }
    Record {
        timestamp_ms,
        key: match key {
            RouteKey::Topic => Some(topic.clone()),
            RouteKey::ClientId => Some(client_id.clone()),
            RouteKey::None => None,
        },
        value: Some(message.payload.clone()),
        headers,
    }
}

/// Bytes that a record takes in the commit queue, roughly.
pub(crate) fn queue_bytes(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len) + 64)
        .sum();
    let optional = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    optional(&record.key) + optional(&record.value) + headers + 128
}

#[cfg(test)]
mod tests {
    use tidegate_edge_protocol::mqtt::codec::{PublishProperties, Text};

    use super::*;

    #[test]
    fn a_message_becomes_a_record() {
        let text = |value: &'static str| Text::new(value.as_bytes()).unwrap();
        let message = Message {
            topic: text("plant/7/temperature"),
            payload: Bytes::from_static(b"21.5"),
            properties: PublishProperties {
                content_type: Some(text("text/plain")),
                user_properties: vec![(text("unit"), text("C")), (text("unit"), text("again"))],
                ..PublishProperties::default()
            },
        };
        let client_id = Bytes::from_static(b"sensor");
        const NOW_MS: i64 = 1_700_000_000_000;
        let record = from_message(&message, RouteKey::Topic, &client_id, NOW_MS);
        assert_eq!(record.key.as_deref(), Some(&b"plant/7/temperature"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"21.5"[..]));
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|header| (&header.name[..], header.value.as_deref().unwrap()))
            .collect();
        let expected: [(&[u8], &[u8]); 4] = [
            (b"mqtt.topic", b"plant/7/temperature"),
            (b"mqtt.content_type", b"text/plain"),
            (b"unit", b"C"),
            (b"unit", b"again"),
        ];
        assert_eq!(headers, expected);
        let by_client = from_message(&message, RouteKey::ClientId, &client_id, NOW_MS);
        assert_eq!(by_client.key, Some(client_id.clone()));
        // A board that booted in 1970.
        let flagged = from_message(&message, RouteKey::Topic, &client_id, 5);
        let expected = Header::new(
            Bytes::from_static(b"tidegate.clock"),
            Bytes::from_static(b"unsynchronised"),
        );
        assert!(flagged.headers.contains(&expected));
    }
}
