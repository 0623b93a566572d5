//! Command 2: creates a topic.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{TopicId, TopicName};
use tidegate_shared::wire::{Reader, put_bytes};

use super::{DecodeError, Row, TopicChange, put_changes, take_changes, take_name, take_partitions};

/// A topic with so many partitions. Where the name exists already, nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    pub name: TopicName,
    /// Random, from outside: the ledger makes no random numbers.
    pub topic_id: TopicId,
    /// At least 1.
    pub partitions: u32,
    /// What is not the default; none before version 2.
    pub changes: Vec<TopicChange>,
}

impl Row for CreateTopic {
    const WHAT: &'static str = "command create topic";
    const NUMBER: u8 = 2;
    const VERSION: u8 = 2;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.name.as_str().as_bytes());
        out.put_u128_le(self.topic_id.0);
        out.put_u32_le(self.partitions);
        put_changes(out, &self.changes);
    }

    fn take(reader: &mut Reader, version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            name: take_name(reader, "topic name", TopicName::LENGTH_MAX, |value| {
                TopicName::new(value)
            })?,
            topic_id: TopicId(reader.u128("topic id")?),
            partitions: take_partitions(reader)?,
            changes: match version {
                1 => Vec::new(),
                _ => take_changes(reader)?,
            },
        })
    }
}
