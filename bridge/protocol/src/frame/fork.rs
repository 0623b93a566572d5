//! Fork: the edge cannot prove the hub's position, and asks for a new incarnation of a stream.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, SessionEpoch, StreamId};
use tidegate_shared::wire::Reader;

use super::{Body, BodyError};
use crate::landing::{ForkReason, ForkRequest};

/// Type 11, edge to cloud. Granted answers it, with the new incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    pub stream: StreamId,
    pub request: ForkRequest,
}

impl Body for Fork {
    const KIND: u8 = 11;

    fn encode(&self, out: &mut BytesMut) {
        let request = &self.request;
        out.put_u32_le(self.stream.0);
        out.put_u64_le(request.session_epoch.0);
        out.put_u64_le(request.ends.0);
        out.put_u64_le(request.edge_incarnation.0);
        out.put_u64_le(request.from.0);
        out.put_u128_le(request.hash.0);
        out.put_u8(request.reason as u8);
        out.put_u8(u8::from(request.is_proved));
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            stream: StreamId(reader.u32("stream")?),
            request: ForkRequest {
                session_epoch: SessionEpoch(reader.u64("session epoch")?),
                ends: Incarnation(reader.u64("incarnation")?),
                edge_incarnation: Incarnation(reader.u64("edge's incarnation")?),
                from: EdgeOffset(reader.u64("from")?),
                hash: BoundaryHash(reader.u128("hash")?),
                // A reason newer than this node: it forks all the same.
                reason: ForkReason::from_number(reader.u8("reason")?)
                    .unwrap_or(ForkReason::Unproved),
                is_proved: reader.u8("proved")? != 0,
            },
        })
    }
}
