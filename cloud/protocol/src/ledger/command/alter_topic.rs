//! Entry 11 of a tick: changes a topic's settings.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::TopicId;
use tidegate_shared::wire::{Reader, WireError};

use super::{DecodeError, Row};

/// Changes are applied in their order; what is not named stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterTopic {
    pub topic_id: TopicId,
    pub changes: Vec<TopicChange>,
}

/// One setting of a topic. Each has a number of its own, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicChange {
    /// Number 1: Kafka's `retention.ms`, counted from when a record landed; negative: for ever.
    RetentionMs(i64),
    /// Number 2: Kafka's `retention.bytes` for each partition; negative: without a bound.
    RetentionBytes(i64),
    /// Number 3: Kafka's `cleanup.policy` has `delete` (1), `compact` (2), or both (3).
    CleanupPolicy(u8),
    /// Number 4: Kafka's `delete.retention.ms`: how long a tombstone stays.
    DeleteRetentionMs(i64),
    /// Number 5: neighbouring batches smaller than this are packed as one; 0: none are.
    PackMergeBelow(i64),
    /// Number 6: the object store that segments go to, by its number; 0: the cluster's.
    Store(u32),
    /// Number 7: Kafka's `max.message.bytes`, for what Kafka clients produce.
    MaxMessageBytes(u32),
    /// Number 8: whether Kafka's `message.timestamp.type` is `LogAppendTime`.
    LogAppendTime(bool),
    /// Number 9: Kafka's `segment.bytes`; 0: the cluster's.
    SegmentBytes(u32),
}

impl TopicChange {
    /// Bits of a cleanup policy.
    pub const DELETES: u8 = 1;
    pub const COMPACTS: u8 = 2;

    const BYTES: usize = 9;

    fn put(self, out: &mut BytesMut) {
        let (number, value) = match self {
            Self::RetentionMs(value) => (1, value),
            Self::RetentionBytes(value) => (2, value),
            Self::CleanupPolicy(value) => (3, i64::from(value)),
            Self::DeleteRetentionMs(value) => (4, value),
            Self::PackMergeBelow(value) => (5, value),
            Self::Store(value) => (6, i64::from(value)),
            Self::MaxMessageBytes(value) => (7, i64::from(value)),
            Self::LogAppendTime(value) => (8, i64::from(value)),
            Self::SegmentBytes(value) => (9, i64::from(value)),
        };
        out.put_u8(number);
        out.put_i64_le(value);
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        let number = reader.u8("setting number")?;
        let value = reader.i64("setting")?;
        let invalid = |field| DecodeError::from(WireError::Invalid { field });
        let size = |field| u32::try_from(value).map_err(|_| invalid(field));
        Ok(match number {
            1 => Self::RetentionMs(value),
            2 => Self::RetentionBytes(value),
            3 => match u8::try_from(value) {
                Ok(policy @ 1..=3) => Self::CleanupPolicy(policy),
                _ => return Err(invalid("cleanup policy")),
            },
            4 => Self::DeleteRetentionMs(value),
            5 => Self::PackMergeBelow(value),
            6 => Self::Store(size("object store's number")?),
            7 => Self::MaxMessageBytes(size("longest message")?),
            8 => match value {
                0 | 1 => Self::LogAppendTime(value == 1),
                _ => return Err(invalid("timestamp type")),
            },
            9 => Self::SegmentBytes(size("segment size")?),
            number => {
                let what = "topic setting";
                return Err(DecodeError::UnknownNumber { what, number });
            }
        })
    }
}

impl Row for AlterTopic {
    const WHAT: &'static str = "entry alter topic";
    const NUMBER: u8 = 11;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_u128_le(self.topic_id.0);
        put_changes(out, &self.changes);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            topic_id: TopicId(reader.u128("topic id")?),
            changes: take_changes(reader)?,
        })
    }
}

pub(in super::super) fn put_changes(out: &mut BytesMut, changes: &[TopicChange]) {
    out.put_u32_le(u32::try_from(changes.len()).expect("a topic has few settings"));
    for change in changes {
        change.put(out);
    }
}

pub(in super::super) fn take_changes(reader: &mut Reader) -> Result<Vec<TopicChange>, DecodeError> {
    let count = reader.count("settings", TopicChange::BYTES)?;
    (0..count).map(|_| TopicChange::take(reader)).collect()
}
