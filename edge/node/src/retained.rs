//! Retained messages: the last of each topic that asked for it, in memory and as rows of the journal.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidegate_edge_journal::{Journal, RowEntry, RowOperation, RowTable};
use tidegate_edge_protocol::mqtt::codec::{
    Decoder, Message, Packet, PacketId, PublishHeader, PublishQos, Qos, Text, Version,
    encode_publish,
};
use tidegate_shared::topic::TopicFilter;

use crate::limits::{RETAINED_BYTES_MAX, RETAINED_MESSAGES_MAX};

/// A row: the version, when it was made by the journal's clock (u64, ms), and the message as an
/// MQTT 5 PUBLISH.
const VERSION: u8 = 1;
const ROW_HEADER_BYTES: usize = 9;

/// One topic's retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetainedMessage {
    pub message: Arc<Message>,
    pub qos: Qos,
    /// By the journal's clock.
    pub at_ms: u64,
}

impl RetainedMessage {
    /// By the journal's clock; `None` where it never expires.
    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        let expiry_s = self.message.properties.message_expiry_interval_s?;
        Some(self.at_ms + u64::from(expiry_s) * 1_000)
    }

    fn bytes(&self) -> usize {
        self.message.topic.len() + self.message.payload.len() + 256
    }

    fn encode(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64_le(self.at_ms);
        let any_id = PacketId::new(1)?;
        let header = PublishHeader {
            duplicate: false,
            qos: match self.qos {
                Qos::AtMostOnce => PublishQos::AtMostOnce,
                Qos::AtLeastOnce => PublishQos::AtLeastOnce(any_id),
                Qos::ExactlyOnce => PublishQos::ExactlyOnce(any_id),
            },
            retain: true,
            topic_alias: None,
            subscription_identifiers: &[],
            message_expiry_interval_s: self.message.properties.message_expiry_interval_s,
        };
        encode_publish(&header, &self.message, Version::V5, &mut out).ok()?;
        Some(out.freeze())
    }

    fn decode(mut row: Bytes) -> Option<Self> {
        if row.len() < ROW_HEADER_BYTES || row.get_u8() != VERSION {
            return None;
        }
        let at_ms = row.get_u64_le();
        let packet_bytes_max = u32::try_from(row.len()).ok()?;
        let mut decoder = Decoder::client(Version::V5, packet_bytes_max);
        match decoder.decode(&mut BytesMut::from(&row[..])) {
            Ok(Some(Packet::Publish(publish))) => Some(Self {
                qos: publish.qos.qos(),
                message: Arc::new(publish.message.detached()),
                at_ms,
            }),
            _ => None,
        }
    }
}

/// All of them, by topic.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: RwLock<Messages>,
}

#[derive(Debug, Default)]
struct Messages {
    by_topic: BTreeMap<Text, RetainedMessage>,
    bytes: usize,
}

impl Messages {
    fn remove(&mut self, topic: &Text) -> Option<RetainedMessage> {
        let removed = self.by_topic.remove(topic)?;
        self.bytes -= removed.bytes();
        Some(removed)
    }

    fn insert(&mut self, retained: RetainedMessage) {
        let topic = retained.message.topic.clone();
        self.remove(&topic);
        self.bytes += retained.bytes();
        self.by_topic.insert(topic, retained);
    }
}

/// There is no room for another retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetainedFull;

impl Retained {
    /// Reads the rows of a journal that was just opened.
    pub(crate) fn load(journal: &Journal) -> anyhow::Result<Self> {
        let mut messages = Messages::default();
        for (topic, row) in journal.rows(RowTable::Retained)? {
            match row.value.and_then(RetainedMessage::decode) {
                Some(retained) => messages.insert(retained),
                None => {
                    let topic = String::from_utf8_lossy(&topic);
                    tracing::error!(%topic, "a retained message cannot be read: it is lost");
                }
            }
        }
        Ok(Self {
            messages: RwLock::new(messages),
        })
    }

    /// The row of a message with RETAIN, if there is room for it; an empty payload takes the topic's
    /// message away `[MQTT-3.3.1-6]`.
    pub(crate) fn row(&self, retained: &RetainedMessage) -> Result<RowEntry, RetainedFull> {
        let topic = &retained.message.topic;
        let row = |operation| RowEntry {
            table: RowTable::Retained,
            key: topic.as_bytes().clone(),
            operation,
        };
        if retained.message.payload.is_empty() {
            return Ok(row(RowOperation::Delete));
        }
        let messages = self.messages.read().expect("nobody panics with it");
        let is_new = !messages.by_topic.contains_key(topic);
        if is_new && messages.by_topic.len() >= RETAINED_MESSAGES_MAX
            || messages.bytes + retained.bytes() > RETAINED_BYTES_MAX
        {
            return Err(RetainedFull);
        }
        let value = retained.encode().ok_or(RetainedFull)?;
        Ok(row(RowOperation::Put(value)))
    }

    /// Shows a message to those who subscribe from now on: its row is durable, or was never promised.
    pub(crate) fn take_up(&self, retained: RetainedMessage) {
        let mut messages = self.messages.write().expect("nobody panics with it");
        if retained.message.payload.is_empty() {
            messages.remove(&retained.message.topic);
        } else {
            messages.insert(retained);
        }
    }

    /// Those that a filter matches and that have not expired, by topic.
    pub(crate) fn matching(&self, filter: &TopicFilter, now_ms: u64) -> Vec<RetainedMessage> {
        let messages = self.messages.read().expect("nobody panics with it");
        // Topics lie in order: those that share the filter's plain beginning lie together.
        let plain = filter.as_str().split(['+', '#']).next().unwrap_or_default();
        // `a/#` matches `a` too.
        let plain = plain.strip_suffix('/').unwrap_or(plain);
        let Ok(first) = Text::try_from(plain) else {
            return Vec::new();
        };
        let range = (Bound::Included(first), Bound::Unbounded);
        let candidates = messages.by_topic.range(range);
        candidates
            .take_while(|(topic, _)| topic.as_str().starts_with(plain))
            .filter(|(topic, _)| filter.matches(topic.as_str()))
            .map(|(_, retained)| retained.clone())
            .filter(|retained| retained.expires_at_ms().is_none_or(|at_ms| now_ms < at_ms))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        let messages = self.messages.read().expect("nobody panics with it");
        messages.by_topic.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &'static str) -> Arc<Message> {
        let mut message = Message {
            topic: Text::try_from(topic).unwrap(),
            payload: Bytes::from_static(payload.as_bytes()),
            ..Message::default()
        };
        message.properties.content_type = Some(Text::try_from("text/plain").unwrap());
        Arc::new(message)
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        let filter = TopicFilter::new(filter).unwrap();
        let found = retained.matching(&filter, 0).into_iter();
        found
            .map(|retained| retained.message.topic.as_str().to_owned())
            .collect()
    }

    fn retained(topic: &str, payload: &'static str) -> RetainedMessage {
        RetainedMessage {
            message: message(topic, payload),
            qos: Qos::AtLeastOnce,
            at_ms: 5,
        }
    }

    #[test]
    fn the_last_of_each_topic_is_kept() {
        let kept = Retained::default();
        for topic in ["a", "a/b", "a/b/c", "a-b", "b", "$x/a"] {
            kept.take_up(retained(topic, "1"));
        }
        assert_eq!(topics(&kept, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(topics(&kept, "+"), ["a", "a-b", "b"]);
        assert_eq!(topics(&kept, "a/+"), ["a/b"]);
        assert_eq!(topics(&kept, "a/b"), ["a/b"]);
        let cleared = retained("a/b", "");
        let row = kept.row(&cleared).unwrap();
        assert_eq!(row.operation, RowOperation::Delete);
        // Until it is durable, it stands; and asked again, it is stored again.
        assert_eq!(topics(&kept, "a/b"), ["a/b"]);
        kept.take_up(cleared.clone());
        assert_eq!(topics(&kept, "a/b"), Vec::<String>::new());
        assert_eq!(kept.row(&cleared).unwrap().operation, RowOperation::Delete);
    }

    #[test]
    fn a_row_round_trips() {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let retained = RetainedMessage {
                message: message("plant/7", "21.5"),
                qos,
                at_ms: 7,
            };
            let row = retained.encode().unwrap();
            assert_eq!(RetainedMessage::decode(row.clone()), Some(retained));
            assert_eq!(RetainedMessage::decode(row.slice(..row.len() - 1)), None);
        }
    }
}
