//! Landed and Refused: the answers to a Batch or a Gap.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, StreamId};
use tidegate_shared::wire::Reader;

use super::{Body, BodyError, put_item, take_items};
use crate::fact::Fact;
use crate::landing::RefusedReason;
use crate::limits::FRAME_FACTS_MAX;

/// Type 6, cloud to edge: all of the stream below `landed` is durable in the cloud, and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub request: u64,
    pub stream: StreamId,
    pub incarnation: Incarnation,
    pub landed: EdgeOffset,
    /// The hash at `landed`.
    pub hash: BoundaryHash,
    /// Where the offered interval lies; empty for a gap, and for a duplicate whose facts the ledger
    /// does not keep.
    pub facts: Vec<Fact>,
}

impl Body for Landed {
    const KIND: u8 = 6;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.request);
        out.put_u32_le(self.stream.0);
        out.put_u64_le(self.incarnation.0);
        out.put_u64_le(self.landed.0);
        out.put_u128_le(self.hash.0);
        let facts = &self.facts[..self.facts.len().min(FRAME_FACTS_MAX)];
        out.put_u32_le(facts.len() as u32);
        for fact in facts {
            put_item(out, |out| fact.put(out));
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        let request = reader.u64("request")?;
        let stream = StreamId(reader.u32("stream")?);
        let incarnation = Incarnation(reader.u64("incarnation")?);
        let landed = EdgeOffset(reader.u64("landed")?);
        let hash = BoundaryHash(reader.u128("hash")?);
        let facts = take_items(reader, "facts", |reader| Ok(Fact::take(reader)?))?;
        Ok(Self {
            request,
            stream,
            incarnation,
            landed,
            hash,
            facts,
        })
    }
}

/// Type 7, cloud to edge: an offer was not taken; the hub's state says where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub request: u64,
    pub stream: StreamId,
    pub incarnation: Incarnation,
    pub reason: RefusedReason,
    /// E: the next offset that the hub takes.
    pub next: EdgeOffset,
    /// The hash at E.
    pub hash: BoundaryHash,
}

impl Body for Refused {
    const KIND: u8 = 7;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.request);
        out.put_u32_le(self.stream.0);
        out.put_u64_le(self.incarnation.0);
        out.put_u8(self.reason as u8);
        out.put_u64_le(self.next.0);
        out.put_u128_le(self.hash.0);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            request: reader.u64("request")?,
            stream: StreamId(reader.u32("stream")?),
            incarnation: Incarnation(reader.u64("incarnation")?),
            reason: {
                let number = reader.u8("reason")?;
                RefusedReason::from_number(number).unwrap_or(RefusedReason::Parked)
            },
            next: EdgeOffset(reader.u64("next")?),
            hash: BoundaryHash(reader.u128("hash")?),
        })
    }
}
