//! Entry 4 of a tick: commits a consumer group's offsets.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{GroupName, KafkaOffset, PartitionId, TopicId};
use tidegate_shared::wire::{Reader, put_bytes};

use super::{DecodeError, Row, take_name};

/// Offsets of one group. Whoever proposes has checked member and generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffsets {
    pub group: GroupName,
    pub offsets: Vec<OffsetCommit>,
}

/// One partition's committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    pub topic_id: TopicId,
    pub partition: PartitionId,
    /// The next offset that the group will read.
    pub offset: KafkaOffset,
    /// -1 where the client said none.
    pub leader_epoch: i32,
    pub metadata: String,
}

impl OffsetCommit {
    /// The longest metadata, in bytes; Kafka's `offset.metadata.max.bytes`.
    pub const METADATA_BYTES_MAX: usize = 4096;
    const BYTES_MIN: usize = 16 + 4 + 8 + 4 + 4;

    fn put(&self, out: &mut BytesMut) {
        out.put_u128_le(self.topic_id.0);
        out.put_i32_le(self.partition.0);
        out.put_i64_le(self.offset.0);
        out.put_i32_le(self.leader_epoch);
        put_bytes(out, self.metadata.as_bytes());
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            topic_id: TopicId(reader.u128("topic id")?),
            partition: PartitionId(reader.i32("partition")?),
            offset: KafkaOffset(reader.i64("offset")?),
            leader_epoch: reader.i32("leader epoch")?,
            metadata: reader.string("metadata", Self::METADATA_BYTES_MAX)?,
        })
    }
}

impl Row for CommitOffsets {
    const WHAT: &'static str = "entry commit offsets";
    const NUMBER: u8 = 4;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.group.as_str().as_bytes());
        out.put_u32_le(u32::try_from(self.offsets.len()).expect("a commit is bounded"));
        for offset in &self.offsets {
            offset.put(out);
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let group = take_name(reader, "group id", GroupName::LENGTH_MAX, |value| {
            GroupName::new(value)
        })?;
        let count = reader.count("offsets", OffsetCommit::BYTES_MIN)?;
        let mut offsets = Vec::with_capacity(count);
        for _ in 0..count {
            offsets.push(OffsetCommit::take(reader)?);
        }
        Ok(Self { group, offsets })
    }
}
