//! The segment's last bytes: where its index lies, and how far it goes.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::KafkaOffset;

use super::{HEADER_BYTES, SegmentError, VERSION};
use crate::varint::Input;

/// The footer's length.
pub const FOOTER_BYTES: usize = 44;

const MAGIC: &[u8; 8] = b"SegmTide";

/// The footer's fields, in the order in which they lie; behind them the version, the CRC-32C of all
/// that, and the magic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    pub index_position: u64,
    pub index_bytes: u32,
    pub index_crc: u32,
    /// The offset after the last that the segment covers.
    pub end: KafkaOffset,
    pub batches: u32,
}

impl Footer {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let from = out.len();
        out.put_u64_le(self.index_position);
        out.put_u32_le(self.index_bytes);
        out.put_u32_le(self.index_crc);
        out.put_i64_le(self.end.0);
        out.put_u32_le(self.batches);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        let crc = crc32c::crc32c(&out[from..]);
        out.put_u32_le(crc);
        out.put_slice(MAGIC);
    }

    /// Reads the footer at the end of a segment's last bytes.
    pub fn decode(tail: &[u8], segment_bytes: u64) -> Result<Self, SegmentError> {
        let (Some(at), given) = (tail.len().checked_sub(FOOTER_BYTES), tail.len() as u64) else {
            let (needed, given) = (FOOTER_BYTES as u64, tail.len() as u64);
            return Err(SegmentError::TailShort { needed, given });
        };
        if given > segment_bytes {
            return Err(SegmentError::Contradiction("its length"));
        }
        let bytes = &tail[at..];
        if !bytes.ends_with(MAGIC) {
            return Err(SegmentError::Magic("the footer"));
        }
        let mut input = Input::new(bytes);
        let footer = Self {
            index_position: u64::from_le_bytes(input.array("index position")?),
            index_bytes: u32::from_le_bytes(input.array("index length")?),
            index_crc: u32::from_le_bytes(input.array("index CRC")?),
            end: KafkaOffset(i64::from_le_bytes(input.array("end offset")?)),
            batches: u32::from_le_bytes(input.array("batches")?),
        };
        let version = u16::from_le_bytes(input.array("version")?);
        let _reserved: [u8; 2] = input.array("reserved")?;
        let stored = u32::from_le_bytes(input.array("footer's CRC")?);
        let computed = crc32c::crc32c(&bytes[..FOOTER_BYTES - 12]);
        if stored != computed {
            let part = "the footer";
            return Err(SegmentError::Crc {
                part,
                stored,
                computed,
            });
        }
        if version != VERSION {
            return Err(SegmentError::Version(version));
        }
        footer.check(segment_bytes)?;
        Ok(footer)
    }

    fn check(&self, segment_bytes: u64) -> Result<(), SegmentError> {
        let tail = u64::from(self.index_bytes) + FOOTER_BYTES as u64;
        if self.index_position < HEADER_BYTES as u64
            || self.index_position.checked_add(tail) != Some(segment_bytes)
        {
            return Err(SegmentError::Contradiction("where its index lies"));
        }
        Ok(())
    }

    /// How many of the object's last bytes hold index and footer.
    pub fn tail_bytes(&self) -> u64 {
        u64::from(self.index_bytes) + FOOTER_BYTES as u64
    }
}
