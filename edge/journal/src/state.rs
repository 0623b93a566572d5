//! What the journal knows, in memory: streams, the runs of chunks that they have in each log file,
//! and the log files. Entries are applied to it after their frame is durable, and in the same way
//! when the log is replayed; what changed is written to redb at the next checkpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thiserror::Error;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, Position, SessionEpoch, StoreId,
    StreamId, StreamName, TopicName,
};

use crate::chunk;
use crate::entry::{ChunkEntry, Entry};
use crate::media::Slot;
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
    /// Where its newest chunk lies: file sequence and byte.
    pub last_chunk: (u64, u32),
    /// Its chunks, oldest file first. Kept in a table of its own.
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
            last_chunk: (0, 0),
            runs: VecDeque::new(),
        }
    }

    /// The oldest offset that is still there; `next` where nothing is.
    pub(crate) fn first(&self) -> EdgeOffset {
        self.runs.front().map_or(self.next, |run| run.first)
    }
}

/// What one stream has in one log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub file: u64,
    pub first: EdgeOffset,
    pub next: EdgeOffset,
    pub chunks: u32,
    pub bytes: u64,
}

/// One log file that holds something living.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    pub slot: Slot,
    /// Where its frames end.
    pub used: u32,
    pub sealed: bool,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub store_id: StoreId,
    pub tail: Tail,
    /// Sequences below this were given to log files.
    pub next_file: u64,
    pub cluster_incarnation: ClusterIncarnation,
    pub session_epoch: SessionEpoch,
}

/// A row that the next checkpoint writes (or deletes, where it is no more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowKey {
    Stream(StreamId),
    Run(StreamId, u64),
    File(u64),
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
            Entry::Landed {
                stream,
                landed,
                hash,
            } => self.apply_landed(*stream, *landed, *hash)?,
            Entry::Session {
                cluster_incarnation,
                session_epoch,
            } => {
                self.meta.cluster_incarnation = *cluster_incarnation;
                self.meta.session_epoch = *session_epoch;
            }
            Entry::Row(row) => rows::apply(&mut self.rows, row),
        }
        Ok(())
    }

    fn stream_mut(&mut self, stream: StreamId) -> Result<&mut StreamState, ApplyError> {
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
        let bytes = chunk.batch.len() as u64;
        match stream.runs.back_mut().filter(|run| run.file == file) {
            Some(run) => {
                run.next = stream.next;
                run.chunks += 1;
                run.bytes += bytes;
            }
            None => {
                let (first, next) = (chunk.base_offset, stream.next);
                stream.runs.push_back(Run {
                    file,
                    first,
                    next,
                    chunks: 1,
                    bytes,
                });
                if let Some(file) = self.files.get_mut(&file) {
                    file.runs += 1;
                }
            }
        }
        self.dirty.insert(RowKey::Run(id, file));
        Ok(())
    }

    /// Moves a stream's landed offset on; never back.
    pub(crate) fn apply_landed(
        &mut self,
        stream: StreamId,
        landed: EdgeOffset,
        hash: BoundaryHash,
    ) -> Result<(), ApplyError> {
        let state = self.stream_mut(stream)?;
        if landed > state.landed {
            state.landed = landed;
            state.landed_hash = hash;
            self.bury(stream);
        }
        Ok(())
    }

    /// Lets go of a stream's landed runs in files that are full.
    fn bury(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        while let Some(run) = stream.runs.front().copied() {
            let file = self.files.get_mut(&run.file).filter(|file| file.sealed);
            let Some(file) = file.filter(|_| run.next <= stream.landed) else {
                break;
            };
            file.runs -= 1;
            stream.runs.pop_front();
            self.dirty.insert(RowKey::Run(id, run.file));
        }
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

    /// Takes out the full files in which nothing lives. They may be used again once a checkpoint
    /// that records this is durable, and not before.
    pub(crate) fn take_dead_files(&mut self) -> Vec<u64> {
        let dead = self
            .files
            .iter()
            .filter(|(_, file)| file.sealed && file.runs == 0);
        let dead: Vec<u64> = dead.map(|(sequence, _)| *sequence).collect();
        for sequence in &dead {
            self.files.remove(sequence);
            self.dirty.insert(RowKey::File(*sequence));
        }
        dead
    }
}
