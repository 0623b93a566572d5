//! What becomes of an MQTT message: a Kafka record; and the way back, for client sessions.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_journal::{Chunk, TOPIC_HEADER, is_plausible};
use tidegate_edge_protocol::mqtt::codec::{Message, Qos, Text};
use tidegate_shared::fleet::{EdgeSpec, OriginHeader, RouteKey};
use tidegate_shared::id::{EdgeId, Position, StreamName};
use tidegate_shared::record::{Batch, Header, Record};

const CONTENT_TYPE_HEADER: &[u8] = b"mqtt.content_type";
const RESPONSE_TOPIC_HEADER: &[u8] = b"mqtt.response_topic";
const CORRELATION_HEADER: &[u8] = b"mqtt.correlation_data";
/// There where the payload is said to be UTF-8 `[MQTT-3.3.2-4]`.
const PAYLOAD_FORMAT_HEADER: &[u8] = b"mqtt.payload_format";
const UTF8: &[u8] = b"utf-8";
/// Seconds, in decimal digits.
const EXPIRY_HEADER: &[u8] = b"mqtt.message_expiry_s";
/// There where the publisher's own session must not get it back.
const PUBLISHER_HEADER: &[u8] = b"mqtt.client_id";
/// Says that the timestamp was taken by a clock that was never set: order is by offset.
const CLOCK_HEADER: &[u8] = b"tidegate.clock";
const CLOCK_UNSYNCHRONISED: &[u8] = b"unsynchronised";
/// Where a record comes from; there where its stream's settings ask for it.
const EDGE_HEADER: &[u8] = b"tidegate.edge";
const STREAM_HEADER: &[u8] = b"tidegate.stream";

/// How a message came, kept beside its record: QoS, retain, and how many of the record's headers are
/// ours; those come first, and a client's own may have the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub qos: Qos,
    pub retain: bool,
    own_headers: u8,
}

impl Mark {
    const RETAIN: u8 = 4;

    /// Two bits of QoS, one of retain, and the number of headers above them.
    pub(crate) fn to_byte(self) -> u8 {
        let retain = if self.retain { Self::RETAIN } else { 0 };
        self.qos as u8 | retain | self.own_headers << 3
    }

    pub(crate) fn from_byte(byte: u8) -> Self {
        let qos = match byte & 3 {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        };
        Self {
            qos,
            retain: byte & Self::RETAIN != 0,
            own_headers: byte >> 3,
        }
    }
}

/// A message as a client published it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived<'a> {
    pub message: &'a Message,
    pub qos: Qos,
    pub retain: bool,
    pub client_id: &'a Bytes,
    /// Its own session must not get it back, so the publisher is named in the record.
    pub no_local: bool,
    pub at_ms: i64,
}

impl Arrived<'_> {
    /// Key by the route; the topic in a header, and then `origin`; the properties that concern its reader, user
    /// properties last, each as a header of its own name. A timestamp that cannot be true is flagged.
    pub(crate) fn record(&self, key: RouteKey, origin: &[Header]) -> (Record, Mark) {
        let topic = self.message.topic.as_bytes();
        let mut headers = self.own_headers();
        headers.extend_from_slice(origin);
        let mark = Mark {
            qos: self.qos,
            retain: self.retain,
            own_headers: headers.len() as u8,
        };
        for (name, value) in &self.message.properties.user_properties {
            let (name, value) = (name.as_bytes().clone(), value.as_bytes().clone());
            headers.push(Header::new(name, value));
        }
        let record = Record {
            timestamp_ms: self.at_ms,
            key: match key {
                RouteKey::Topic => Some(topic.clone()),
                RouteKey::ClientId => Some(self.client_id.clone()),
                RouteKey::None => None,
            },
            value: Some(self.message.payload.clone()),
            headers,
        };
        (record, mark)
    }

    fn own_headers(&self) -> Vec<Header> {
        let properties = &self.message.properties;
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.as_bytes().clone());
        let constant = |there: bool, value| there.then(|| Bytes::from_static(value));
        let expiry = properties.message_expiry_interval_s;
        let own = [
            (TOPIC_HEADER, Some(self.message.topic.as_bytes().clone())),
            (CONTENT_TYPE_HEADER, text(&properties.content_type)),
            (RESPONSE_TOPIC_HEADER, text(&properties.response_topic)),
            (CORRELATION_HEADER, properties.correlation_data.clone()),
            (
                PAYLOAD_FORMAT_HEADER,
                constant(properties.payload_is_utf8 == Some(true), UTF8),
            ),
            (EXPIRY_HEADER, expiry.map(|s| s.to_string().into())),
            (
                PUBLISHER_HEADER,
                self.no_local.then(|| self.client_id.clone()),
            ),
            (
                CLOCK_HEADER,
                constant(!is_plausible(self.at_ms), CLOCK_UNSYNCHRONISED),
            ),
        ];
        let mut headers = Vec::with_capacity(1 + properties.user_properties.len());
        for (name, value) in own {
            headers.extend(value.map(|value| Header::new(Bytes::from_static(name), value)));
        }
        headers
    }
}

/// The headers that each record of a stream is to have beside its message's.
pub(crate) fn origin_headers(
    spec: &EdgeSpec,
    stream: &StreamName,
    edge: Option<&EdgeId>,
) -> Arc<[Header]> {
    let asked = spec.streams.get(stream).map(|settings| &settings.headers);
    let headers = asked.into_iter().flatten().filter_map(|header| {
        let (name, value) = match header {
            OriginHeader::Edge => (EDGE_HEADER, edge?.as_str()),
            OriginHeader::Stream => (STREAM_HEADER, stream.as_str()),
        };
        let value = Bytes::copy_from_slice(value.as_bytes());
        Some(Header::new(Bytes::from_static(name), value))
    });
    headers.collect()
}

/// The message that a record was made of, and its publisher where that is named. `None` where a
/// header is not what we write.
fn to_message(record: Record, mark: Mark) -> Option<(Message, Option<Bytes>)> {
    let mut message = Message {
        payload: record.value.unwrap_or_default(),
        ..Message::default()
    };
    let mut publisher = None;
    let properties = &mut message.properties;
    for (index, header) in record.headers.into_iter().enumerate() {
        let value = header.value.unwrap_or_default();
        if index >= usize::from(mark.own_headers) {
            let user = (Text::new(header.name).ok()?, Text::new(value).ok()?);
            properties.user_properties.push(user);
            continue;
        }
        match &header.name[..] {
            TOPIC_HEADER => message.topic = Text::new(value).ok()?,
            CONTENT_TYPE_HEADER => properties.content_type = Some(Text::new(value).ok()?),
            RESPONSE_TOPIC_HEADER => properties.response_topic = Some(Text::new(value).ok()?),
            CORRELATION_HEADER => properties.correlation_data = Some(value),
            PAYLOAD_FORMAT_HEADER => properties.payload_is_utf8 = Some(true),
            EXPIRY_HEADER => {
                let digits = std::str::from_utf8(&value).ok()?;
                properties.message_expiry_interval_s = Some(digits.parse().ok()?);
            }
            PUBLISHER_HEADER => publisher = Some(value),
            _ => {}
        }
    }
    (!message.topic.is_empty()).then_some((message, publisher))
}

/// The MQTT topic that a record was published on; the first header of its name is ours.
pub(crate) fn topic_of(record: &Record) -> Option<String> {
    let mut headers = record.headers.iter();
    let header = headers.find(|header| header.name == TOPIC_HEADER)?;
    Some(String::from_utf8_lossy(header.value.as_deref()?).into_owned())
}

/// A message as the journal has it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub position: Position,
    pub message: Message,
    /// Where it is named.
    pub publisher: Option<Bytes>,
    pub mark: Mark,
}

/// A chunk's messages from a position on; what we did not write is left out.
pub(crate) fn messages(chunk: &Chunk, from: Position) -> impl Iterator<Item = Kept> {
    let records = Batch::parse(chunk.batch.clone()).and_then(|batch| batch.records());
    let records = records.into_iter().flatten().flatten().enumerate();
    let places =
        records.map(|(index, record)| (index, chunk.position.plus(index as u64), record.1));
    let wanted = places.filter(move |(_, position, _)| *position >= from);
    wanted.filter_map(|(index, position, record)| {
        let mark = Mark::from_byte(chunk.mark(index));
        let (message, publisher) = to_message(record, mark)?;
        Some(Kept {
            position,
            message,
            publisher,
            mark,
        })
    })
}

/// What a record in the commit queue takes beside its own bytes: the operation around it, reference
/// counts, and the list of its headers. Counted too low, a flood of one-byte messages takes several times
/// the queue's bound, and those who are behind it wait for as many.
pub(crate) const QUEUED_RECORD_BYTES: usize = 512;

/// Bytes that a record takes in the commit queue, roughly.
pub(crate) fn queue_bytes(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len) + 64)
        .sum();
    let optional = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    optional(&record.key) + optional(&record.value) + headers + QUEUED_RECORD_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_edge_protocol::mqtt::codec::PublishProperties;
    use tidegate_shared::fleet::StreamSpec;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn text(value: &str) -> Text {
        Text::new(value.as_bytes().to_vec()).unwrap()
    }

    fn arrived<'a>(message: &'a Message, client_id: &'a Bytes) -> Arrived<'a> {
        Arrived {
            message,
            qos: Qos::AtLeastOnce,
            retain: false,
            client_id,
            no_local: false,
            at_ms: NOW_MS,
        }
    }

    fn headers(record: &Record) -> Vec<(&[u8], &[u8])> {
        let headers = record.headers.iter();
        headers
            .map(|header| (&header.name[..], header.value.as_deref().unwrap()))
            .collect()
    }

    #[test]
    fn a_message_becomes_a_record() {
        let message = Message {
            topic: text("plant/7/temperature"),
            payload: Bytes::from_static(b"21.5"),
            properties: PublishProperties {
                content_type: Some(text("text/plain")),
                user_properties: vec![(text("unit"), text("C")), (text("unit"), text("again"))],
                ..PublishProperties::default()
            }
            .into(),
        };
        let client_id = Bytes::from_static(b"sensor");
        let arrived = arrived(&message, &client_id);
        let (record, _) = arrived.record(RouteKey::Topic, &[]);
        assert_eq!(record.key.as_deref(), Some(&b"plant/7/temperature"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"21.5"[..]));
        let expected: [(&[u8], &[u8]); 4] = [
            (b"mqtt.topic", b"plant/7/temperature"),
            (b"mqtt.content_type", b"text/plain"),
            (b"unit", b"C"),
            (b"unit", b"again"),
        ];
        assert_eq!(headers(&record), expected);
        let (by_client, _) = arrived.record(RouteKey::ClientId, &[]);
        assert_eq!(by_client.key.as_deref(), Some(&b"sensor"[..]));
        let unset = Arrived {
            at_ms: 5,
            ..arrived
        };
        let (flagged, _) = unset.record(RouteKey::None, &[]);
        assert!(headers(&flagged).contains(&(b"tidegate.clock", b"unsynchronised")));
    }

    #[test]
    fn a_stream_that_asks_for_it_says_where_records_come_from() {
        let yaml = "streams: {s: {headers: [stream, edge]}}";
        let spec: EdgeSpec = tidegate_shared::fleet::parse_yaml(yaml).unwrap();
        let stream = StreamName::new("s").unwrap();
        let told = |edge: Option<&EdgeId>, stream| {
            let headers = origin_headers(&spec, stream, edge);
            let names = headers.iter().map(|header| header.name.clone());
            names.collect::<Vec<_>>()
        };
        let edge = EdgeId::new("plant-7").unwrap();
        assert_eq!(told(Some(&edge), &stream), [EDGE_HEADER, STREAM_HEADER]);
        assert_eq!(told(None, &stream), [STREAM_HEADER]);
        assert!(told(Some(&edge), &StreamName::new("other").unwrap()).is_empty());
        let wrong = "streams: {s: {headers: [offset]}}";
        let error = tidegate_shared::fleet::parse_yaml::<EdgeSpec>(wrong).unwrap_err();
        assert!(error.to_string().contains("stream"), "{error}");
    }

    fn any_text() -> impl Strategy<Value = Text> {
        prop_oneof![
            Just("mqtt.topic".to_owned()),
            "[a-z]{1,4}".prop_map(String::from)
        ]
        .prop_map(|value| text(&value))
    }

    proptest! {
        #[test]
        fn the_way_back_gives_the_same_message(
            topic in any_text(),
            content_type in proptest::option::of(any_text()),
            correlation in proptest::option::of(Just(Bytes::from_static(b"id"))),
            expiry in proptest::option::of(any::<u32>()),
            utf8 in any::<bool>(),
            user in proptest::collection::vec((any_text(), any_text()), 0..3),
            qos in 0..3_u8,
            retain in any::<bool>(),
            no_local in any::<bool>(),
            at_ms in prop_oneof![Just(5), Just(NOW_MS)],
            with_origin in any::<bool>(),
        ) {
            let (edge, stream) = (EdgeId::new("e").unwrap(), StreamName::new("s").unwrap());
            let mut settings = StreamSpec::default();
            if with_origin {
                settings.headers = [OriginHeader::Edge, OriginHeader::Stream].into();
            }
            let message = Message {
                topic,
                payload: Bytes::from_static(b"payload"),
                properties: PublishProperties {
                    content_type,
                    correlation_data: correlation,
                    message_expiry_interval_s: expiry,
                    payload_is_utf8: utf8.then_some(true),
                    user_properties: user,
                    ..PublishProperties::default()
                }
                .into(),
            };
            let client_id = Bytes::from_static(b"sensor");
            let qos = Mark::from_byte(qos).qos;
            let arrived = Arrived { qos, retain, no_local, at_ms, ..arrived(&message, &client_id) };
            let spec = EdgeSpec {
                streams: [(stream.clone(), settings)].into(),
                ..EdgeSpec::default()
            };
            let origin = origin_headers(&spec, &stream, Some(&edge));
            prop_assert_eq!(origin.len(), if with_origin { 2 } else { 0 });
            let (record, mark) = arrived.record(RouteKey::Topic, &origin);
            let mark = Mark::from_byte(mark.to_byte());
            prop_assert_eq!((mark.qos, mark.retain), (qos, retain));
            let (back, publisher) = to_message(record, mark).unwrap();
            prop_assert_eq!(back, message.clone());
            prop_assert_eq!(publisher, no_local.then_some(client_id.clone()));
        }
    }
}
