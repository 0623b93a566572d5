//! Fork: the edge cannot prove the hub's position, and asks for a new incarnation of a stream.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::StreamId;
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
        out.put_u32_le(self.stream.0);
        self.request.put(out);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            stream: StreamId(reader.u32("stream")?),
            // A reason newer than this node: it forks all the same.
            request: ForkRequest::take(reader, Some(ForkReason::Unproved))?,
        })
    }
}
