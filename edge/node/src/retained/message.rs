//! One retained message, and its row in the journal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidegate_edge_protocol::mqtt::codec::{Message, Publish, Qos, SubscriptionIdentifier};

use crate::mqtt::Letter;
use crate::packet;

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

    /// As it goes to who subscribes now.
    pub(crate) fn letter(
        self,
        qos_max: Qos,
        identifier: Option<SubscriptionIdentifier>,
        now: Instant,
        now_ms: u64,
    ) -> Letter {
        let left_ms = self.expires_at_ms();
        let left_ms = left_ms.map(|end_ms| end_ms.saturating_sub(now_ms));
        Letter {
            message: self.message,
            qos: self.qos,
            qos_max,
            retain: true,
            identifiers: identifier.into_iter().collect(),
            expires_at: left_ms.map(|ms| now + Duration::from_millis(ms)),
            shared: None,
            priority: 0,
        }
    }

    /// What it takes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.message.bytes() + 128
    }

    pub(super) fn encode(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64_le(self.at_ms);
        packet::encode(&self.message, self.qos, true, &mut out)?;
        Some(out.freeze())
    }

    pub(super) fn decode(mut row: Bytes) -> Option<Self> {
        if row.len() < ROW_HEADER_BYTES || row.get_u8() != VERSION {
            return None;
        }
        let at_ms = row.get_u64_le();
        let Publish { qos, message, .. } = packet::decode(&row)?;
        Some(Self {
            qos: qos.qos(),
            message: Arc::new(message.detached()),
            at_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_edge_protocol::mqtt::codec::Text;

    use super::*;

    #[test]
    fn a_row_round_trips() {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let retained = RetainedMessage {
                message: Arc::new(Message {
                    topic: Text::try_from("plant/7").unwrap(),
                    payload: Bytes::from_static(b"21.5"),
                    ..Message::default()
                }),
                qos,
                at_ms: 7,
            };
            let row = retained.encode().unwrap();
            assert_eq!(RetainedMessage::decode(row.clone()), Some(retained));
            assert_eq!(RetainedMessage::decode(row.slice(..row.len() - 1)), None);
        }
    }
}
