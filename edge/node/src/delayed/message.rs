//! One delayed message, and its row in the journal.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_edge_protocol::mqtt::codec::{Message, Publish, PublishProperties, Qos};
use tidegate_shared::wire::{Reader, put_bytes};

use crate::packet;

/// A row: the version, when it came by the journal's clock (u64, ms), who published it, and the message as an MQTT 5
/// PUBLISH. When it is due is in its key.
const VERSION: u8 = 1;

/// A client id.
const PUBLISHER_BYTES_MAX: usize = 65_535;

/// With the topic that it has in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DelayedMessage {
    pub message: Arc<Message>,
    pub qos: Qos,
    pub retain: bool,
    pub publisher: Bytes,
    /// When it came, by the journal's clock.
    pub at_ms: u64,
}

impl DelayedMessage {
    /// What it takes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.message.bytes() + self.publisher.len() + 192
    }

    /// As it is published at its time; `None`: it has expired meanwhile.
    pub(crate) fn at(&self, now_ms: u64) -> Option<Arc<Message>> {
        let Some(expiry_s) = self.message.properties.message_expiry_interval_s else {
            return Some(Arc::clone(&self.message));
        };
        let waited_s = now_ms.saturating_sub(self.at_ms) / 1_000;
        let left_s = u64::from(expiry_s).checked_sub(waited_s)?;
        let left_s = u32::try_from(left_s).ok().filter(|left_s| *left_s > 0)?;
        let mut properties = PublishProperties::clone(&self.message.properties);
        properties.message_expiry_interval_s = Some(left_s);
        Some(Arc::new(Message {
            topic: self.message.topic.clone(),
            payload: self.message.payload.clone(),
            properties: properties.into(),
        }))
    }

    pub(super) fn encode(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64_le(self.at_ms);
        put_bytes(&mut out, &self.publisher);
        packet::encode(&self.message, self.qos, self.retain, &mut out)?;
        Some(out.freeze())
    }

    pub(super) fn decode(row: Bytes) -> Option<Self> {
        let mut reader = Reader::new(row);
        if reader.u8("version").ok()? != VERSION {
            return None;
        }
        let at_ms = reader.u64("came").ok()?;
        let publisher = reader.bytes("publisher", PUBLISHER_BYTES_MAX).ok()?;
        let Publish {
            qos,
            retain,
            message,
            ..
        } = packet::decode(reader.rest())?;
        Some(Self {
            qos: qos.qos(),
            retain,
            message: Arc::new(message.detached()),
            publisher: Bytes::copy_from_slice(&publisher),
            at_ms,
        })
    }
}

#[cfg(test)]
pub(super) fn delayed(topic: &str, expiry_s: Option<u32>) -> DelayedMessage {
    use tidegate_edge_protocol::mqtt::codec::Text;
    let properties = PublishProperties {
        message_expiry_interval_s: expiry_s,
        ..PublishProperties::default()
    };
    DelayedMessage {
        message: Arc::new(Message {
            topic: Text::try_from(topic).unwrap(),
            payload: Bytes::from_static(b"21.5"),
            properties: properties.into(),
        }),
        qos: Qos::AtLeastOnce,
        retain: true,
        publisher: Bytes::from_static(b"dev"),
        at_ms: 1_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_round_trips() {
        for expiry_s in [None, Some(7)] {
            let one = delayed("plant/7", expiry_s);
            let row = one.encode().unwrap();
            assert_eq!(DelayedMessage::decode(row.clone()), Some(one));
            assert_eq!(DelayedMessage::decode(row.slice(..row.len() - 1)), None);
        }
    }

    #[test]
    fn it_expires_while_it_waits() {
        let left = |now_ms| {
            let message = delayed("x", Some(5)).at(now_ms)?;
            message.properties.message_expiry_interval_s
        };
        assert_eq!(
            [left(1_000), left(3_999), left(5_999)],
            [Some(5), Some(3), Some(1)]
        );
        assert_eq!(left(6_000), None);
        assert!(delayed("x", None).at(u64::MAX).is_some());
    }
}
