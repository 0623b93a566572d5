//! Entry 2 of a tick: announces a stream, and creates its head where it is new.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{EdgeId, EdgeOffset, Incarnation, SessionEpoch, StreamName, TopicName};
use tidegate_shared::wire::{Reader, put_bytes};

use super::open_session::take_edge;
use super::{DecodeError, Row, take_name};

/// A stream that an edge wants to send, and the topic that it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    pub edge: EdgeId,
    pub session_epoch: SessionEpoch,
    pub stream: StreamName,
    /// The incarnation that the edge has stored; 0 means none.
    pub incarnation: Incarnation,
    pub topic: TopicName,
    /// The landed offset that the edge has stored.
    pub landed: EdgeOffset,
    /// The counter of the cluster incarnation in which it landed so far; 0 where none is known.
    pub landed_life: u32,
}

impl Row for OpenStream {
    const WHAT: &'static str = "entry open stream";
    const NUMBER: u8 = 2;
    /// 2: the edge's landed offset.
    const VERSION: u8 = 2;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.edge.as_str().as_bytes());
        out.put_u64_le(self.session_epoch.0);
        put_bytes(out, self.stream.as_str().as_bytes());
        out.put_u64_le(self.incarnation.0);
        put_bytes(out, self.topic.as_str().as_bytes());
        out.put_u64_le(self.landed.0);
        out.put_u32_le(self.landed_life);
    }

    fn take(reader: &mut Reader, version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            edge: take_edge(reader)?,
            session_epoch: SessionEpoch(reader.u64("session epoch")?),
            stream: take_stream(reader)?,
            incarnation: Incarnation(reader.u64("incarnation")?),
            topic: take_name(reader, "topic name", TopicName::LENGTH_MAX, |value| {
                TopicName::new(value)
            })?,
            landed: match version {
                1 => EdgeOffset(0),
                _ => EdgeOffset(reader.u64("landed")?),
            },
            landed_life: match version {
                1 => 0,
                _ => reader.u32("landed life")?,
            },
        })
    }
}

pub(super) fn take_stream(reader: &mut Reader) -> Result<StreamName, DecodeError> {
    take_name(reader, "stream name", StreamName::LENGTH_MAX, |value| {
        StreamName::new(value)
    })
}
