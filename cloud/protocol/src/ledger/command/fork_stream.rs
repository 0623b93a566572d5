//! Entry 6 of a tick: begins a new incarnation of a stream.

use bytes::BytesMut;
use tidegate_bridge_protocol::landing::ForkRequest;
use tidegate_shared::id::{EdgeId, StreamName};
use tidegate_shared::wire::{Reader, put_bytes};

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
        put_bytes(out, self.edge.as_str().as_bytes());
        put_bytes(out, self.stream.as_str().as_bytes());
        self.request.put(out);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            edge: take_edge(reader)?,
            stream: take_stream(reader)?,
            request: ForkRequest::take(reader, None)?,
        })
    }
}
