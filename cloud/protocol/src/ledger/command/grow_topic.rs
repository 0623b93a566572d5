//! Command 5: gives a topic more partitions.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::TopicId;
use tidegate_shared::wire::Reader;

use super::{DecodeError, Row, take_partitions};

/// A topic has so many partitions from now on. It never shrinks: with fewer, nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrowTopic {
    pub topic_id: TopicId,
    pub partitions: u32,
}

impl Row for GrowTopic {
    const WHAT: &'static str = "command grow topic";
    const NUMBER: u8 = 5;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_u128_le(self.topic_id.0);
        out.put_u32_le(self.partitions);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            topic_id: TopicId(reader.u128("topic id")?),
            partitions: take_partitions(reader)?,
        })
    }
}
