//! Batch: a sealed record batch, offered to land.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::StreamId;
use tidegate_shared::wire::{Reader, put_bytes};

use super::{Body, BodyError};
use crate::landing::Offer;
use crate::limits::FRAME_BYTES_MAX;

/// Type 5, edge to cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Numbers the offers of a connection; the answer carries it.
    pub request: u64,
    pub stream: StreamId,
    pub offer: Offer,
    /// A Kafka v2 record batch; its header's base offset is the edge offset.
    pub batch: Bytes,
}

impl Body for Batch {
    const KIND: u8 = 5;

    fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.batch.len() + 80);
        out.put_u64_le(self.request);
        out.put_u32_le(self.stream.0);
        self.offer.put(out);
        put_bytes(out, &self.batch);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            request: reader.u64("request")?,
            stream: StreamId(reader.u32("stream")?),
            offer: Offer::take(reader)?,
            batch: reader.bytes("batch", FRAME_BYTES_MAX)?,
        })
    }
}
