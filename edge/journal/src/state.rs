//! What the journal knows, in memory: streams, the runs of chunks that they have in each log file,
//! and the log files. Entries are applied to it after their frame is durable, and in the same way
//! when the log is replayed; what changed is written to redb at the next checkpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use thiserror::Error;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, Position, SessionEpoch, StoreId,
    StreamId, StreamName, TopicName,
};

use crate::chunk;
use crate::clock::JournalTime;
use crate::entry::{CHUNK_FIELDS_BYTES, ChunkEntry, Entry};
use crate::frame::ENTRY_HEADER_BYTES;
use crate::gap::Gap;
use crate::media::Slot;
use crate::retention::{LandedMarks, StreamPolicy};
use crate::rows::{self, PendingRows};

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamState {
    pub name: StreamName,
    /// The Kafka topic that it lands in.
    pub topic: TopicName,
    /// Granted by the cloud; 0 before.
    pub incarnation: Incarnation,
    pub next: EdgeOffset,
    /// The hash at `next`.
    pub hash: BoundaryHash,
    /// The cloud has all below this.
    pub landed: EdgeOffset,
    /// The hash at `landed`.
    pub landed_hash: BoundaryHash,
    /// The counter of the cluster incarnation in which it landed so far; 0 where none is known.
    pub landed_life: u32,
    /// Where its newest chunk lies: file sequence and byte.
    pub last_chunk: (u64, u32),
    pub policy: StreamPolicy,
    pub landed_marks: LandedMarks,
    /// Records that were ever declared lost.
    pub gap_records: u64,
    /// Those of them that were under way when they were dropped, and landed all the same: they are not lost.
    pub gap_records_landed: u64,
    /// What is lost and not landed, in order. Kept in a table of its own.
    pub gaps: Vec<Gap>,
    /// Hashes past the landed offset, of boundaries that may have been sent and whose data is gone.
    /// Kept in a table of its own.
    pub boundaries: BTreeMap<EdgeOffset, BoundaryHash>,
    /// All below it may have been sent. Not kept: at every opening it is `next`.
    pub offered: EdgeOffset,
    /// Gaps past the landed offset that may have been sent as such. Not kept: at every opening it is all gaps.
    pub gaps_offered: Vec<Range<EdgeOffset>>,
    /// Its chunks, the oldest first. Kept in tables of their own.
    pub runs: VecDeque<Run>,
}

impl StreamState {
    pub(crate) fn new(name: StreamName, topic: TopicName) -> Self {
        Self {
            name,
            topic,
            incarnation: Incarnation(0),
            next: EdgeOffset(0),
            hash: BoundaryHash::START,
            landed: EdgeOffset(0),
            landed_hash: BoundaryHash::START,
            landed_life: 0,
            last_chunk: (0, 0),
            policy: StreamPolicy::default(),
            landed_marks: LandedMarks::new(),
            gap_records: 0,
            gap_records_landed: 0,
            gaps: Vec::new(),
            gaps_offered: Vec::new(),
            boundaries: BTreeMap::new(),
            offered: EdgeOffset(0),
            runs: VecDeque::new(),
        }
    }

    /// The oldest offset that is still there; `next` where nothing is.
    pub(crate) fn first(&self) -> EdgeOffset {
        let mut living = self.runs.iter().filter(|run| !run.is_empty());
        living.next().map_or(self.next, |run| run.first)
    }
}

/// What of one stream lives in one log file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub file: u64,
    /// Copied there by the cleaner: the file can have another run of the stream, of its own.
    pub copied: bool,
    pub first: EdgeOffset,
    pub next: EdgeOffset,
    pub chunks: u32,
    pub bytes: u64,
    /// When its first and last chunk were made, in seconds of the journal's clock.
    pub first_time_s: u32,
    pub last_time_s: u32,
}

impl Run {
    /// Nothing in it lives; it goes when its file is full.
    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// What its chunks' entries take of their frames; a copy has a time more.
    pub(crate) fn entry_bytes(&self) -> u64 {
        let fields = ENTRY_HEADER_BYTES + CHUNK_FIELDS_BYTES;
        self.bytes + u64::from(self.chunks) * fields as u64
    }

    pub(crate) fn empty(&mut self) {
        (self.first, self.chunks, self.bytes) = (self.next, 0, 0);
    }

    pub(crate) fn row(&self, stream: StreamId) -> RowKey {
        match self.copied {
            true => RowKey::Copy(stream, self.next),
            false => RowKey::Run(stream, self.file),
        }
    }
}

/// One log file that holds something living.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    pub slot: Slot,
    /// Where its frames end.
    pub used: u32,
    pub sealed: bool,
    /// A part of it cannot be read: it is set aside, and not used again, once nothing lives in it.
    pub damaged: bool,
    /// The position that follows its last message.
    pub next_position: Position,
    /// Streams with a run in it; derived from the runs.
    pub runs: u32,
}

/// Where the next frame goes, and what it continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    pub file: u64,
    pub at: u32,
    pub crc: u32,
    pub next_position: Position,
}

/// What stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub store_id: StoreId,
    pub tail: Tail,
    /// Sequences below this were given to log files.
    pub next_file: u64,
    pub cluster_incarnation: ClusterIncarnation,
    pub session_epoch: SessionEpoch,
    pub time: JournalTime,
    /// The newest wall clock that could be believed; 0 where none was ever seen.
    pub wall_ms: i64,
    /// Files that reach this position are kept for client sessions, whatever retention says.
    pub needed_from: Position,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            store_id: StoreId::default(),
            tail: Tail::default(),
            next_file: 0,
            cluster_incarnation: ClusterIncarnation::default(),
            session_epoch: SessionEpoch::default(),
            time: JournalTime::default(),
            wall_ms: 0,
            needed_from: Position(u64::MAX),
        }
    }
}

/// A row that the next checkpoint writes (or deletes, where it is no more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowKey {
    Stream(StreamId),
    Run(StreamId, u64),
    File(u64),
    Gap(StreamId, EdgeOffset),
    Boundary(StreamId, EdgeOffset),
    /// A run that the cleaner copied, by where it ends.
    Copy(StreamId, EdgeOffset),
}

/// An entry that does not follow from what was there before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    #[error("a chunk names stream {0}, which does not exist")]
    UnknownStream(StreamId),
    #[error("stream {stream} continues at {found}, expected {expected}")]
    Offset {
        stream: StreamId,
        found: EdgeOffset,
        expected: EdgeOffset,
    },
    #[error("stream {0}: the chunk's hash does not continue the chain")]
    Hash(StreamId),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub meta: Meta,
    pub streams: BTreeMap<StreamId, StreamState>,
    pub names: BTreeMap<StreamName, StreamId>,
    pub files: BTreeMap<u64, FileState>,
    pub dirty: BTreeSet<RowKey>,
    /// The node's own rows, as far as they changed since the last checkpoint.
    pub rows: PendingRows,
    /// Over all streams.
    pub gap_records: u64,
    pub gap_records_landed: u64,
}

impl State {
    /// Applies a durable entry that lies in log file `file`, its body at `body_at`.
    pub(crate) fn apply(
        &mut self,
        entry: &Entry,
        file: u64,
        body_at: usize,
    ) -> Result<(), ApplyError> {
        match entry {
            Entry::Chunk(chunk) => return self.apply_chunk(chunk, file, body_at),
            Entry::Stream {
                stream,
                name,
                topic,
            } => {
                let state = self.streams.entry(*stream);
                let state = state.or_insert_with(|| StreamState::new(name.clone(), topic.clone()));
                state.topic = topic.clone();
                self.names.insert(name.clone(), *stream);
                self.dirty.insert(RowKey::Stream(*stream));
            }
            Entry::Granted {
                stream,
                incarnation,
            } => {
                self.stream_mut(*stream)?.incarnation = *incarnation;
            }
            Entry::Landed(landed) => self.apply_landed(landed)?,
            Entry::Session {
                cluster_incarnation,
                session_epoch,
            } => {
                self.meta.cluster_incarnation = *cluster_incarnation;
                self.meta.session_epoch = *session_epoch;
            }
            Entry::Gap(gap) => self.apply_gap(gap)?,
            Entry::Copied(copied) => self.apply_copied(copied, file, body_at)?,
            Entry::Clock { time, wall_ms } => {
                self.meta.time = self.meta.time.max(*time);
                self.meta.wall_ms = *wall_ms;
            }
            Entry::Row(row) => rows::apply(&mut self.rows, row),
        }
        Ok(())
    }

    pub(crate) fn stream_mut(&mut self, stream: StreamId) -> Result<&mut StreamState, ApplyError> {
        self.dirty.insert(RowKey::Stream(stream));
        self.streams
            .get_mut(&stream)
            .ok_or(ApplyError::UnknownStream(stream))
    }

    fn apply_chunk(
        &mut self,
        chunk: &ChunkEntry,
        file: u64,
        body_at: usize,
    ) -> Result<(), ApplyError> {
        let id = chunk.stream;
        let time_s = self.meta.time.seconds();
        let stream = self.stream_mut(id)?;
        if chunk.base_offset != stream.next {
            let (found, expected) = (chunk.base_offset, stream.next);
            return Err(ApplyError::Offset {
                stream: id,
                found,
                expected,
            });
        }
        if chunk.hash_before != stream.hash {
            return Err(ApplyError::Hash(id));
        }
        stream.next = chunk.base_offset.plus(u64::from(chunk.count));
        stream.hash = chunk::hash_after(chunk.hash_before, &chunk.batch);
        stream.last_chunk = (file, body_at as u32);
        let bytes = chunk.living_bytes();
        let own = |run: &&mut Run| run.file == file && !run.copied;
        match stream.runs.back_mut().filter(own) {
            Some(run) => {
                if run.chunks == 0 {
                    run.first_time_s = time_s;
                }
                run.last_time_s = time_s;
                run.next = stream.next;
                run.chunks += 1;
                run.bytes += bytes;
            }
            None => {
                let (first, next) = (chunk.base_offset, stream.next);
                stream.runs.push_back(Run {
                    file,
                    copied: false,
                    first,
                    next,
                    chunks: 1,
                    bytes,
                    first_time_s: time_s,
                    last_time_s: time_s,
                });
                if let Some(file) = self.files.get_mut(&file) {
                    file.runs += 1;
                }
            }
        }
        self.dirty.insert(RowKey::Run(id, file));
        Ok(())
    }

    /// A file is full: what had landed in it already can go.
    pub(crate) fn seal(&mut self, file: u64, streams: impl Iterator<Item = StreamId>) {
        if let Some(state) = self.files.get_mut(&file) {
            state.sealed = true;
            self.dirty.insert(RowKey::File(file));
        }
        for stream in streams {
            self.bury(stream);
        }
    }
}
