//! What a frame can say. Tags are never reused; an entry of an unknown tag stops the replay, since
//! leaving it out could lose what was acknowledged.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, NameError, Position, SessionEpoch,
    StreamId, StreamName, TopicName,
};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use crate::clock::JournalTime;
use crate::frame::RawEntry;
use crate::gap::{Gap, GapEntry};
use crate::log_file::ChunkPlace;
use crate::rows::{self, RowEntry};
use crate::topics::TopicKeys;

/// One thing that a commit makes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// 1: what this commit adds to one stream.
    Chunk(ChunkEntry),
    /// 2: a stream begins.
    Stream {
        stream: StreamId,
        name: StreamName,
        topic: TopicName,
    },
    /// 3: the cloud granted an incarnation to a stream.
    Granted {
        stream: StreamId,
        incarnation: Incarnation,
    },
    /// 4: the cloud has all of a stream below an offset.
    Landed(LandedEntry),
    /// 5: the newest of the cloud's state that this edge has seen.
    Session {
        cluster_incarnation: ClusterIncarnation,
        session_epoch: SessionEpoch,
    },
    /// 6: an interval of a stream is lost.
    Gap(GapEntry),
    /// 7: the clocks when the frame was made; the newest that could be believed of the wall's.
    Clock { time: JournalTime, wall_ms: i64 },
    /// 8: a chunk that lives on here, copied out of a log file that is mostly dead.
    Copied(CopiedEntry),
    /// 16, 17, 18: a row of the node's own is put, deleted, changed.
    Row(RowEntry),
}

/// The cloud has all of a stream below `landed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LandedEntry {
    pub stream: StreamId,
    pub landed: EdgeOffset,
    /// The hash at `landed`.
    pub hash: BoundaryHash,
    /// As [`StreamState`](crate::state::StreamState) has it by then; 0 is not written.
    pub gap_records_landed: u64,
}

impl LandedEntry {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(self.stream.0);
        out.put_u64_le(self.landed.0);
        out.put_u128_le(self.hash.0);
        if self.gap_records_landed > 0 {
            out.put_u64_le(self.gap_records_landed);
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            stream: StreamId(reader.u32("stream")?),
            landed: EdgeOffset(reader.u64("landed")?),
            hash: BoundaryHash(reader.u128("hash")?),
            gap_records_landed: match reader.is_empty() {
                true => 0,
                false => reader.u64("gap records that landed")?,
            },
        })
    }
}

/// A copy keeps all that its chunk had: offsets, position, hash and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopiedEntry {
    /// When the chunk was made, in seconds of the journal's clock.
    pub time_s: u32,
    pub chunk: ChunkEntry,
}

impl CopiedEntry {
    /// The chunk lies in the entry's body behind the time.
    pub(crate) fn place(&self, body_at: usize) -> ChunkPlace {
        let bytes = self.chunk.body_bytes();
        self.chunk.place(body_at + TIME_BYTES, bytes, self.time_s)
    }
}

/// A copy says when its chunk was made.
pub(crate) const TIME_BYTES: usize = 4;
pub(crate) const GAP_TAG: u8 = 6;

/// A chunk: a record batch, with its place in the edge's order and in the stream's hash chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    pub stream: StreamId,
    pub base_offset: EdgeOffset,
    pub count: u32,
    pub position: Position,
    pub hash_before: BoundaryHash,
    /// Where the stream's chunk before this one lies: file sequence and byte; 0 and 0 for none.
    pub previous: (u64, u32),
    /// Which topics may be in it; see [`crate::topics`].
    pub topics: u64,
    /// The node's own byte for each record, or one for all of them.
    pub marks: Bytes,
    pub batch: Bytes,
    /// For the file's summary; not in the frame, since the batch tells.
    pub topic_keys: TopicKeys,
}

/// A chunk entry's fields before the marks and the batch.
pub(crate) const CHUNK_FIELDS_BYTES: usize = 68;

impl ChunkEntry {
    pub(crate) fn place(&self, body_at: usize, body_bytes: usize, time_s: u32) -> ChunkPlace {
        ChunkPlace {
            base_offset: self.base_offset,
            count: self.count,
            at: body_at as u32,
            bytes: body_bytes as u32,
            position: self.position,
            topics: self.topics,
            time_s,
            fields_crc: crc32c::crc32c(&self.fields()[..CHUNK_FIELDS_BYTES]),
        }
    }

    /// What stands before the batch.
    pub(crate) fn fields(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(CHUNK_FIELDS_BYTES + self.marks.len());
        out.put_u32_le(self.stream.0);
        out.put_u64_le(self.base_offset.0);
        out.put_u32_le(self.count);
        out.put_u64_le(self.position.0);
        out.put_u128_le(self.hash_before.0);
        out.put_u64_le(self.previous.0);
        out.put_u32_le(self.previous.1);
        out.put_u64_le(self.topics);
        out.put_u32_le(crc32c::crc32c(&self.marks));
        put_bytes(&mut out, &self.marks);
        out
    }

    /// What of the body lives with the chunk: marks and batch.
    pub(crate) fn living_bytes(&self) -> u64 {
        (self.marks.len() + self.batch.len()) as u64
    }

    /// What the body takes.
    pub(crate) fn body_bytes(&self) -> usize {
        CHUNK_FIELDS_BYTES + self.marks.len() + self.batch.len()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let mut chunk = Self::take_fields(&mut reader)?;
        let field = "marks";
        let marks_crc = reader.u32(field)?;
        chunk.marks = reader.bytes(field, usize::MAX)?;
        if crc32c::crc32c(&chunk.marks) != marks_crc {
            return Err(WireError::Invalid { field });
        }
        chunk.batch = reader.rest().clone();
        Ok(chunk)
    }

    /// Without marks and batch, from the body's first bytes.
    pub(crate) fn decode_fields(body: Bytes) -> Result<Self, WireError> {
        Self::take_fields(&mut Reader::new(body))
    }

    fn take_fields(reader: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            stream: StreamId(reader.u32("stream")?),
            base_offset: EdgeOffset(reader.u64("base offset")?),
            count: reader.u32("count")?,
            position: Position(reader.u64("position")?),
            hash_before: BoundaryHash(reader.u128("hash before")?),
            previous: (reader.u64("previous file")?, reader.u32("previous place")?),
            topics: reader.u64("topics")?,
            marks: Bytes::new(),
            batch: Bytes::new(),
            topic_keys: TopicKeys::default(),
        })
    }
}

/// An entry that this build cannot read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    #[error("an entry has tag {0}, which this build does not know")]
    UnknownTag(u8),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Entry {
    /// Tag and body.
    pub(crate) fn encode(&self) -> (u8, BytesMut) {
        let mut out = BytesMut::new();
        let tag = match self {
            Self::Row(row) => return row.encode(),
            Self::Chunk(chunk) => {
                out = chunk.fields();
                out.put_slice(&chunk.batch);
                1
            }
            Self::Stream {
                stream,
                name,
                topic,
            } => {
                out.put_u32_le(stream.0);
                put_bytes(&mut out, name.as_str().as_bytes());
                put_bytes(&mut out, topic.as_str().as_bytes());
                2
            }
            Self::Granted {
                stream,
                incarnation,
            } => {
                out.put_u32_le(stream.0);
                out.put_u64_le(incarnation.0);
                3
            }
            Self::Landed(landed) => {
                landed.put(&mut out);
                4
            }
            Self::Session {
                cluster_incarnation,
                session_epoch,
            } => {
                out.put_u32_le(cluster_incarnation.counter);
                out.put_u128_le(cluster_incarnation.id);
                out.put_u64_le(session_epoch.0);
                5
            }
            Self::Gap(entry) => {
                put_gap(&mut out, entry);
                GAP_TAG
            }
            Self::Clock { time, wall_ms } => {
                out.put_u64_le(time.0);
                out.put_i64_le(*wall_ms);
                7
            }
            Self::Copied(copied) => {
                out.reserve(TIME_BYTES + CHUNK_FIELDS_BYTES + copied.chunk.batch.len());
                out.put_u32_le(copied.time_s);
                out.put_slice(&copied.chunk.fields());
                out.put_slice(&copied.chunk.batch);
                8
            }
        };
        (tag, out)
    }

    pub(crate) fn decode(raw: &RawEntry) -> Result<Self, EntryError> {
        let mut reader = Reader::new(raw.body.clone());
        Ok(match raw.tag {
            1 => Self::Chunk(ChunkEntry::decode(raw.body.clone())?),
            2 => Self::Stream {
                stream: StreamId(reader.u32("stream")?),
                name: StreamName::new(reader.string("name", StreamName::LENGTH_MAX)?)?,
                topic: TopicName::new(reader.string("topic", TopicName::LENGTH_MAX)?)?,
            },
            3 => Self::Granted {
                stream: StreamId(reader.u32("stream")?),
                incarnation: Incarnation(reader.u64("incarnation")?),
            },
            4 => Self::Landed(LandedEntry::take(&mut reader)?),
            5 => Self::Session {
                cluster_incarnation: ClusterIncarnation {
                    counter: reader.u32("cluster incarnation")?,
                    id: reader.u128("cluster id")?,
                },
                session_epoch: SessionEpoch(reader.u64("session epoch")?),
            },
            GAP_TAG => Self::Gap(take_gap(&mut reader)?),
            7 => Self::Clock {
                time: JournalTime(reader.u64("journal time")?),
                wall_ms: reader.i64("wall time")?,
            },
            8 => Self::Copied(CopiedEntry {
                time_s: reader.u32("time")?,
                chunk: ChunkEntry::decode(reader.rest().clone())?,
            }),
            tag @ (rows::ROW_PUT_TAG | rows::ROW_DELETE_TAG | rows::ROW_CHANGE_TAG) => {
                Self::Row(RowEntry::decode(tag, raw.body.clone())?)
            }
            tag => return Err(EntryError::UnknownTag(tag)),
        })
    }
}

fn put_gap(out: &mut BytesMut, entry: &GapEntry) {
    let gap = &entry.gap;
    out.put_u32_le(entry.stream.0);
    out.put_u64_le(gap.from.0);
    out.put_u64_le(gap.to.0);
    out.put_u8(gap.reason as u8);
    out.put_u128_le(gap.hash_before.0);
    out.put_u128_le(gap.hash_after.0);
    out.put_u32_le(entry.died.0);
    out.put_u64_le(entry.died.1);
    out.put_u32_le(entry.boundaries.len() as u32);
    for (offset, hash) in &entry.boundaries {
        out.put_u64_le(offset.0);
        out.put_u128_le(hash.0);
    }
}

fn take_gap(reader: &mut Reader) -> Result<GapEntry, WireError> {
    let stream = StreamId(reader.u32("stream")?);
    let (from, to) = (reader.u64("gap's start")?, reader.u64("gap's end")?);
    let reason = GapReason::from_number(reader.u8("gap's reason")?);
    let field = "gap";
    let gap = Gap {
        from: EdgeOffset(from),
        to: EdgeOffset(to),
        reason: reason
            .filter(|_| from < to)
            .ok_or(WireError::Invalid { field })?,
        hash_before: BoundaryHash(reader.u128("hash before")?),
        hash_after: BoundaryHash(reader.u128("hash after")?),
    };
    let died = (reader.u32("chunks")?, reader.u64("bytes")?);
    let count = reader.count("boundaries", 24)?;
    let mut boundaries = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = EdgeOffset(reader.u64("boundary")?);
        boundaries.push((offset, BoundaryHash(reader.u128("boundary's hash")?)));
    }
    Ok(GapEntry {
        stream,
        gap,
        died,
        boundaries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_round_trips() {
        let stream = StreamId(3);
        let entries = [
            Entry::Chunk(ChunkEntry {
                stream,
                base_offset: EdgeOffset(10),
                count: 2,
                position: Position(100),
                hash_before: BoundaryHash(u128::MAX),
                previous: (4, 5),
                topics: 6,
                marks: Bytes::from_static(&[1, 2]),
                batch: Bytes::from_static(b"batch"),
                topic_keys: TopicKeys::default(),
            }),
            Entry::Stream {
                stream,
                name: StreamName::new("telemetry#1").unwrap(),
                topic: TopicName::new("telemetry").unwrap(),
            },
            Entry::Granted {
                stream,
                incarnation: Incarnation(2),
            },
            Entry::Landed(LandedEntry {
                stream,
                landed: EdgeOffset(11),
                hash: BoundaryHash(9),
                gap_records_landed: 7,
            }),
            Entry::Session {
                cluster_incarnation: ClusterIncarnation { counter: 1, id: 2 },
                session_epoch: SessionEpoch(3),
            },
            Entry::Gap(GapEntry {
                stream,
                gap: Gap {
                    from: EdgeOffset(10),
                    to: EdgeOffset(14),
                    reason: GapReason::Overflow,
                    hash_before: BoundaryHash(1),
                    hash_after: BoundaryHash(2),
                },
                died: (3, 4),
                boundaries: vec![(EdgeOffset(12), BoundaryHash(5))],
            }),
            Entry::Clock {
                time: JournalTime(1),
                wall_ms: -2,
            },
            Entry::Copied(CopiedEntry {
                time_s: 6,
                chunk: ChunkEntry {
                    stream,
                    base_offset: EdgeOffset(1),
                    count: 1,
                    position: Position(2),
                    hash_before: BoundaryHash(3),
                    previous: (0, 0),
                    topics: 6,
                    marks: Bytes::new(),
                    topic_keys: TopicKeys::default(),
                    batch: Bytes::from_static(b"batch"),
                },
            }),
        ];
        for (index, entry) in entries.into_iter().enumerate() {
            let (tag, body) = entry.encode();
            assert_eq!(usize::from(tag), index + 1, "tags are never renumbered");
            let raw = RawEntry {
                tag,
                body: body.freeze(),
                body_at: 0,
            };
            assert_eq!(Entry::decode(&raw), Ok(entry));
        }
        // As builds wrote it that did not count those.
        let landed = Entry::Landed(LandedEntry {
            stream,
            landed: EdgeOffset(11),
            hash: BoundaryHash(9),
            gap_records_landed: 0,
        });
        let body = landed.encode().1.freeze();
        assert_eq!(body.len(), 28);
        let body_at = 0;
        let raw = RawEntry {
            tag: 4,
            body,
            body_at,
        };
        assert_eq!(Entry::decode(&raw), Ok(landed));
        let unknown = RawEntry {
            tag: 99,
            body: Bytes::new(),
            body_at: 0,
        };
        assert_eq!(Entry::decode(&unknown), Err(EntryError::UnknownTag(99)));
    }
}
