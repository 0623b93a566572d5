//! Gap: an interval that is lost, offered to land as such.

use bytes::{BufMut, BytesMut};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::StreamId;
use tidegate_shared::wire::Reader;

use super::{Body, BodyError};
use crate::landing::Offer;

/// Type 10, edge to cloud, in its stream's turn among the batches. Landed or Refused answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// As of a Batch.
    pub request: u64,
    pub stream: StreamId,
    pub offer: Offer,
    pub reason: GapReason,
}

impl Body for Gap {
    const KIND: u8 = 10;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.request);
        out.put_u32_le(self.stream.0);
        self.offer.put(out);
        out.put_u8(self.reason as u8);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            request: reader.u64("request")?,
            stream: StreamId(reader.u32("stream")?),
            offer: Offer::take(reader)?,
            // A reason newer than this node: it is lost all the same.
            reason: GapReason::from_number(reader.u8("reason")?).unwrap_or(GapReason::Damaged),
        })
    }
}
