//! Announce and Granted: which streams an edge has, and where each is to go on.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, StreamId, StreamName, TopicName};
use tidegate_shared::wire::{Reader, put_bytes};

use super::{Body, BodyError, put_item, take_items};
use crate::landing::RefusedReason;

/// Type 3, edge to cloud: streams, numbered for this connection. Sent after Welcome, and again when
/// a stream is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    pub streams: Vec<AnnouncedStream>,
}

/// One stream as its edge has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedStream {
    /// The edge's number for it, used in the frames that follow.
    pub stream: StreamId,
    pub name: StreamName,
    /// The Kafka topic that it is to land in.
    pub topic: TopicName,
    /// 0: none was granted yet.
    pub incarnation: Incarnation,
    pub first: EdgeOffset,
    pub next: EdgeOffset,
    /// The landed offset that the edge has stored.
    pub landed: EdgeOffset,
    /// The counter of the cluster incarnation in which it landed so far.
    pub landed_life: u32,
}

impl Body for Announce {
    const KIND: u8 = 3;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.streams.len() as u32);
        for stream in &self.streams {
            put_item(out, |out| {
                out.put_u32_le(stream.stream.0);
                put_bytes(out, stream.name.as_str().as_bytes());
                put_bytes(out, stream.topic.as_str().as_bytes());
                out.put_u64_le(stream.incarnation.0);
                out.put_u64_le(stream.first.0);
                out.put_u64_le(stream.next.0);
                out.put_u64_le(stream.landed.0);
                out.put_u32_le(stream.landed_life);
            });
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        let streams = take_items(reader, "streams", |reader| {
            Ok(AnnouncedStream {
                stream: StreamId(reader.u32("stream")?),
                name: StreamName::new(reader.string("name", StreamName::LENGTH_MAX)?)?,
                topic: TopicName::new(reader.string("topic", TopicName::LENGTH_MAX)?)?,
                incarnation: Incarnation(reader.u64("incarnation")?),
                first: EdgeOffset(reader.u64("first")?),
                next: EdgeOffset(reader.u64("next")?),
                landed: EdgeOffset(reader.u64("landed")?),
                landed_life: reader.u32("landed life")?,
            })
        })?;
        Ok(Self { streams })
    }
}

/// Type 4, cloud to edge: the answer to Announce and to Fork, for each stream in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub streams: Vec<GrantedStream>,
}

/// Where a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantedStream {
    pub stream: StreamId,
    pub incarnation: Incarnation,
    /// E: the next offset that the hub takes.
    pub next: EdgeOffset,
    /// The hash at E, which the edge must be able to prove.
    pub hash: BoundaryHash,
    /// The stream cannot land now, and the edge keeps its data.
    pub refused: Option<RefusedReason>,
    /// Partitions of the stream's topic; 0 where it has none.
    pub partitions: u32,
}

impl Body for Granted {
    const KIND: u8 = 4;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.streams.len() as u32);
        for stream in &self.streams {
            put_item(out, |out| {
                out.put_u32_le(stream.stream.0);
                out.put_u64_le(stream.incarnation.0);
                out.put_u64_le(stream.next.0);
                out.put_u128_le(stream.hash.0);
                out.put_u8(stream.refused.map_or(0, |reason| reason as u8));
                out.put_u32_le(stream.partitions);
            });
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        let streams = take_items(reader, "streams", |reader| {
            Ok(GrantedStream {
                stream: StreamId(reader.u32("stream")?),
                incarnation: Incarnation(reader.u64("incarnation")?),
                next: EdgeOffset(reader.u64("next")?),
                hash: BoundaryHash(reader.u128("hash")?),
                refused: match reader.u8("refused")? {
                    0 => None,
                    // A reason newer than this node: the stream is parked all the same.
                    number => {
                        Some(RefusedReason::from_number(number).unwrap_or(RefusedReason::Parked))
                    }
                },
                partitions: reader.u32("partitions")?,
            })
        })?;
        Ok(Self { streams })
    }
}
