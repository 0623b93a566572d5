//! Command 4: deletes a topic.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::TopicId;
use tidegate_shared::wire::Reader;

use super::{DecodeError, Row};

/// The topic goes, with what groups have committed in it. Streams that go to it are parked until a
/// topic of that name is there again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopic {
    pub topic_id: TopicId,
}

impl Row for DeleteTopic {
    const WHAT: &'static str = "command delete topic";
    const NUMBER: u8 = 4;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_u128_le(self.topic_id.0);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            topic_id: TopicId(reader.u128("topic id")?),
        })
    }
}
