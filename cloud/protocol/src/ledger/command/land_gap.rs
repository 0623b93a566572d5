//! Entry 5 of a tick: lands an interval of an edge's stream that is lost.

use bytes::{BufMut, BytesMut};
use tidegate_bridge_protocol::landing::Offer;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{EdgeId, StreamName};
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
        self.offer.put(out);
        out.put_u8(self.reason as u8);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            edge: take_edge(reader)?,
            stream: take_stream(reader)?,
            offer: Offer::take(reader)?,
            reason: {
                let field = "gap's reason";
                let reason = GapReason::from_number(reader.u8(field)?);
                reason.ok_or(WireError::Invalid { field })?
            },
        })
    }
}
