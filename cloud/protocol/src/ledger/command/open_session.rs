//! Entry 1 of a tick: grants an edge its next session epoch.

use bytes::BytesMut;
use tidegate_shared::id::EdgeId;
use tidegate_shared::wire::{Reader, put_bytes};

use super::{DecodeError, Row, take_name};

/// An edge has connected. The epoch granted fences every older connection of the same edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    pub edge: EdgeId,
}

impl Row for OpenSession {
    const WHAT: &'static str = "entry open session";
    const NUMBER: u8 = 1;
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

pub(super) fn take_edge(reader: &mut Reader) -> Result<EdgeId, DecodeError> {
    take_name(reader, "edge id", EdgeId::LENGTH_MAX, |value| {
        EdgeId::new(value)
    })
}
