//! Entry 5 of a tick: lands an interval of an edge's stream that is lost.

use bytes::{BufMut, BytesMut};
use tidegate_bridge_protocol::landing::Offer;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    BoundaryHash, EdgeId, EdgeOffset, Incarnation, SessionEpoch, StreamName,
};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::open_session::take_edge;
use super::open_stream::take_stream;
use super::{DecodeError, Row};

/// A gap offered. It moves the stream's head as a batch would, and leaves no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandGap {
    pub edge: EdgeId,
    pub stream: StreamName,
    pub offer: Offer,
    pub reason: GapReason,
}

impl Row for LandGap {
    const WHAT: &'static str = "entry land gap";
    const NUMBER: u8 = 5;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.edge.as_str().as_bytes());
        put_bytes(out, self.stream.as_str().as_bytes());
        out.put_u64_le(self.offer.session_epoch.0);
        out.put_u64_le(self.offer.incarnation.0);
        out.put_u64_le(self.offer.base_offset.0);
        out.put_u64_le(self.offer.count);
        out.put_u128_le(self.offer.hash_before.0);
        out.put_u128_le(self.offer.hash_after.0);
        out.put_u8(self.reason as u8);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            edge: take_edge(reader)?,
            stream: take_stream(reader)?,
            offer: Offer {
                session_epoch: SessionEpoch(reader.u64("session epoch")?),
                incarnation: Incarnation(reader.u64("incarnation")?),
                base_offset: EdgeOffset(reader.u64("base offset")?),
                count: reader.u64("count")?,
                hash_before: BoundaryHash(reader.u128("hash before")?),
                hash_after: BoundaryHash(reader.u128("hash after")?),
            },
            reason: {
                let field = "gap's reason";
                let reason = GapReason::from_number(reader.u8(field)?);
                reason.ok_or(WireError::Invalid { field })?
            },
        })
    }
}
