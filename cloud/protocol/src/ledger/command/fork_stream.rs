//! Entry 6 of a tick: begins a new incarnation of a stream.

use bytes::{BufMut, BytesMut};
use tidegate_bridge_protocol::landing::{ForkReason, ForkRequest};
use tidegate_shared::id::{
    BoundaryHash, EdgeId, EdgeOffset, Incarnation, SessionEpoch, StreamName,
};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::open_session::take_edge;
use super::open_stream::take_stream;
use super::{DecodeError, Row};

/// An edge cannot prove the head of a stream: it goes on in a new incarnation from what is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkStream {
    pub edge: EdgeId,
    pub stream: StreamName,
    pub request: ForkRequest,
}

impl Row for ForkStream {
    const WHAT: &'static str = "entry fork stream";
    const NUMBER: u8 = 6;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        let request = &self.request;
        put_bytes(out, self.edge.as_str().as_bytes());
        put_bytes(out, self.stream.as_str().as_bytes());
        out.put_u64_le(request.session_epoch.0);
        out.put_u64_le(request.ends.0);
        out.put_u64_le(request.edge_incarnation.0);
        out.put_u64_le(request.from.0);
        out.put_u128_le(request.hash.0);
        out.put_u8(request.reason as u8);
        out.put_u8(u8::from(request.is_proved));
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            edge: take_edge(reader)?,
            stream: take_stream(reader)?,
            request: ForkRequest {
                session_epoch: SessionEpoch(reader.u64("session epoch")?),
                ends: Incarnation(reader.u64("incarnation")?),
                edge_incarnation: Incarnation(reader.u64("edge's incarnation")?),
                from: EdgeOffset(reader.u64("from")?),
                hash: BoundaryHash(reader.u128("hash")?),
                reason: take_fork_reason(reader)?,
                is_proved: reader.u8("proved")? != 0,
            },
        })
    }
}

pub(in super::super) fn take_fork_reason(reader: &mut Reader) -> Result<ForkReason, DecodeError> {
    let field = "reason";
    let reason = ForkReason::from_number(reader.u8(field)?);
    Ok(reason.ok_or(WireError::Invalid { field })?)
}
