//! Entry 3 of a tick: lands a batch of an edge's stream.

use bytes::{BufMut, BytesMut};
use tidegate_bridge_protocol::landing::Offer;
use tidegate_shared::id::{EdgeId, StreamName};
use tidegate_shared::wire::{Reader, put_bytes};

use super::open_session::take_edge;
use super::open_stream::take_stream;
use super::{DecodeError, Row};

/// A batch offered. Its bytes are durable before this command is: they lie among the attachments
/// of the log frame that holds the command. Whoever proposes has checked the batch's CRC, and that
/// its base offset and count are the offer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Land {
    pub edge: EdgeId,
    pub stream: StreamName,
    pub offer: Offer,
    pub part: Part,
}

/// Where a batch lies among its command's attachments, and what its header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Bytes from the start of the attachments.
    pub attachment_offset: u32,
    /// The whole batch, header included.
    pub batch_bytes: u32,
    pub max_timestamp_ms: i64,
}

impl Part {
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(self.attachment_offset);
        out.put_u32_le(self.batch_bytes);
        out.put_i64_le(self.max_timestamp_ms);
    }

    pub(super) fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            attachment_offset: reader.u32("attachment offset")?,
            batch_bytes: reader.u32("batch bytes")?,
            max_timestamp_ms: reader.i64("max timestamp")?,
        })
    }
}

impl Row for Land {
    const WHAT: &'static str = "entry land";
    const NUMBER: u8 = 3;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.edge.as_str().as_bytes());
        put_bytes(out, self.stream.as_str().as_bytes());
        self.offer.put(out);
        self.part.put(out);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            edge: take_edge(reader)?,
            stream: take_stream(reader)?,
            offer: Offer::take(reader)?,
            part: Part::take(reader)?,
        })
    }
}
