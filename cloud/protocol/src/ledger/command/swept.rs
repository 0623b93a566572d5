//! Entry 12 of a tick: objects that nothing needs any more are deleted.

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::Reader;

use super::pack::{put_segment_ids, take_segment_ids};
use super::{DecodeError, Row};
use crate::index::SegmentId;

/// They are gone from where they lay: the ledger forgets them. One that it still needs stays known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    pub segments: Vec<SegmentId>,
    pub log_objects: Vec<u64>,
}

impl Row for Swept {
    const WHAT: &'static str = "entry swept";
    const NUMBER: u8 = 12;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_segment_ids(out, &self.segments);
        out.put_u32_le(u32::try_from(self.log_objects.len()).expect("a tick is bounded"));
        for object in &self.log_objects {
            out.put_u64_le(*object);
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let segments = take_segment_ids(reader)?;
        let count = reader.count("log objects", size_of::<u64>())?;
        let objects = (0..count).map(|_| reader.u64("log object"));
        Ok(Self {
            segments,
            log_objects: objects.collect::<Result<_, _>>()?,
        })
    }
}
