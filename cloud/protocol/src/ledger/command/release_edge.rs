//! Entry 7 of a tick: lets an edge out of quarantine.

use bytes::BytesMut;
use tidegate_shared::id::EdgeId;
use tidegate_shared::wire::{Reader, put_bytes};

use super::open_session::take_edge;
use super::{DecodeError, Row};

/// An operator has seen to it that only one node has the identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseEdge {
    pub edge: EdgeId,
}

impl Row for ReleaseEdge {
    const WHAT: &'static str = "entry release edge";
    const NUMBER: u8 = 7;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.edge.as_str().as_bytes());
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            edge: take_edge(reader)?,
        })
    }
}
