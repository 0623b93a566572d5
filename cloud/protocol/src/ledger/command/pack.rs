//! Entry 9 of a tick: puts a segment in the place of what it has the batches of.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::wire::{Reader, WireError};

use super::{DecodeError, Row, put_target, take_target};
use crate::index::SegmentId;
use crate::ledger::{Segment, Target};
use crate::offset_map::FactsMark;

/// A segment is durable in its object store, and is to be read instead of the batches of the tail that it
/// covers, or of the segments that it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    pub target: Target,
    pub segment: Segment,
    /// Segments side by side; none where it takes from the tail.
    pub replaces: Vec<SegmentId>,
    /// Which facts it holds: the offset map can let go of these. `None` before version 2.
    pub facts: Option<FactsMark>,
}

impl Row for Pack {
    const WHAT: &'static str = "entry pack";
    const NUMBER: u8 = 9;
    const VERSION: u8 = 2;

    fn put(&self, out: &mut BytesMut) {
        put_target(out, &self.target);
        put_segment(out, &self.segment);
        put_segment_ids(out, &self.replaces);
        out.put_u8(u8::from(self.facts.is_some()));
        if let Some(facts) = self.facts {
            out.put_u32_le(facts.count);
            out.put_u32_le(facts.crc);
        }
    }

    fn take(reader: &mut Reader, version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            target: take_target(reader)?,
            segment: take_segment(reader)?,
            replaces: take_segment_ids(reader)?,
            facts: take_facts(reader, version)?,
        })
    }
}

fn take_facts(reader: &mut Reader, version: u8) -> Result<Option<FactsMark>, DecodeError> {
    let field = "whether facts are told of";
    let are_told = match version {
        1 => 0,
        _ => reader.u8(field)?,
    };
    match are_told {
        0 => Ok(None),
        1 => Ok(Some(FactsMark {
            count: reader.u32("facts")?,
            crc: reader.u32("facts' checksum")?,
        })),
        _ => Err(WireError::Invalid { field }.into()),
    }
}

const SEGMENT_ID_BYTES: usize = 20;

pub(in super::super) fn put_segment_id(out: &mut BytesMut, id: &SegmentId) {
    out.put_u32_le(id.store);
    out.put_u64_le(id.broker_epoch);
    out.put_u64_le(id.number);
}

pub(in super::super) fn take_segment_id(reader: &mut Reader) -> Result<SegmentId, DecodeError> {
    Ok(SegmentId {
        store: reader.u32("object store")?,
        broker_epoch: reader.u64("broker epoch")?,
        number: reader.u64("segment number")?,
    })
}

pub(super) fn put_segment_ids(out: &mut BytesMut, ids: &[SegmentId]) {
    out.put_u32_le(u32::try_from(ids.len()).expect("a tick is bounded"));
    for id in ids {
        put_segment_id(out, id);
    }
}

pub(super) fn take_segment_ids(reader: &mut Reader) -> Result<Vec<SegmentId>, DecodeError> {
    let count = reader.count("segments", SEGMENT_ID_BYTES)?;
    (0..count).map(|_| take_segment_id(reader)).collect()
}

pub(in super::super) fn put_segment(out: &mut BytesMut, segment: &Segment) {
    put_segment_id(out, &segment.id);
    out.put_i64_le(segment.base.0);
    out.put_i64_le(segment.end.0);
    out.put_u64_le(segment.bytes);
    out.put_u64_le(segment.index_position);
    out.put_u32_le(segment.batches);
    out.put_i64_le(segment.max_timestamp_ms);
    out.put_i64_le(segment.landed_ms);
}

pub(in super::super) fn take_segment(reader: &mut Reader) -> Result<Segment, DecodeError> {
    Ok(Segment {
        id: take_segment_id(reader)?,
        base: KafkaOffset(reader.i64("segment's base")?),
        end: KafkaOffset(reader.i64("segment's end")?),
        bytes: reader.u64("segment's bytes")?,
        index_position: reader.u64("index position")?,
        batches: reader.u32("batches")?,
        max_timestamp_ms: reader.i64("max timestamp")?,
        landed_ms: reader.i64("landed at")?,
    })
}
