//! The segment's first bytes: whose it is. A reader that has the index does not need them; a scrub of
//! the store, and whoever finds an object without a ledger, does.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{KafkaOffset, PartitionId, TopicId};

use super::{SegmentError, VERSION};
use crate::ledger::Target;
use crate::varint::Input;

/// The header's length.
pub const HEADER_BYTES: usize = 44;

const MAGIC: &[u8; 8] = b"TideSegm";

/// Where a segment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub target: Target,
    pub base: KafkaOffset,
}

impl SegmentHeader {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let from = out.len();
        out.put_slice(MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        out.put_u128_le(self.target.topic_id.0);
        out.put_i32_le(self.target.partition.0);
        out.put_i64_le(self.base.0);
        let crc = crc32c::crc32c(&out[from..]);
        out.put_u32_le(crc);
    }

    /// Reads the first bytes of an object.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let mut input = Input::new(bytes);
        if input.array("magic")? != *MAGIC {
            return Err(SegmentError::Magic("the header"));
        }
        let version = u16::from_le_bytes(input.array("version")?);
        if version != VERSION {
            return Err(SegmentError::Version(version));
        }
        let _reserved: [u8; 2] = input.array("reserved")?;
        let header = Self {
            target: Target {
                topic_id: TopicId(u128::from_le_bytes(input.array("topic id")?)),
                partition: PartitionId(i32::from_le_bytes(input.array("partition")?)),
            },
            base: KafkaOffset(i64::from_le_bytes(input.array("base offset")?)),
        };
        let stored = u32::from_le_bytes(input.array("header's CRC")?);
        let computed = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        let part = "the header";
        match stored == computed {
            true => Ok(header),
            false => Err(SegmentError::Crc {
                part,
                stored,
                computed,
            }),
        }
    }
}
