//! The journal as its committer sees it: stage, commit, advance.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use redb::Database;
use thiserror::Error;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, Position, SessionEpoch, StreamId,
    StreamName, TopicName,
};
use tidegate_shared::record::{Compression, Record};

use crate::clock::JournalTime;
use crate::entry::Entry;
use crate::frame::{ENTRY_HEADER_BYTES, FRAME_HEADER_BYTES, FrameBuilder, aligned};
use crate::limits::{Limits, STREAMS_MAX};
use crate::log_file::{FileTable, OpenLogFile};
use crate::media::Medium;
use crate::pool::{Need, PoolError};
use crate::reader::{JournalReader, Shared};
use crate::rows::{Row, RowEntry, RowTable};
use crate::staged::{RowCommit, Staged};
use crate::state::{ApplyError, FileState, RowKey};
use crate::tables::{self, TableError};
use crate::writer::Writer;

/// A record that cannot be staged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendRefused {
    #[error("the record has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("stream {0} does not exist")]
    UnknownStream(StreamId),
    #[error("the journal has {STREAMS_MAX} streams already")]
    TooManyStreams,
}

/// A commit that failed: nothing that was staged for it may be acknowledged.
#[derive(Debug, Error)]
pub enum CommitError {
    /// What was staged is dropped; the journal goes on, and takes more when space is there.
    #[error("the journal is full")]
    Full,
    /// Whether the frame will be there after a crash is unknown: open the journal again.
    #[error("the journal cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("the index cannot be written: {0}")]
    Checkpoint(#[from] TableError),
    #[error("a commit contradicts the journal's state: {0}")]
    Apply(#[from] ApplyError),
    #[error("a row of {bytes} bytes, at most {bytes_max} are allowed")]
    RowTooLarge { bytes: usize, bytes_max: usize },
    #[error("the journal failed before; open it again")]
    Failed,
}

/// A commit that is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The position that follows everything durable.
    pub next_position: Position,
    pub records: u64,
}

/// Counters since the journal was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    pub commits: u64,
    pub records: u64,
    pub syncs: u64,
    /// Frames, headers and tables as written; not redb.
    pub log_bytes: u64,
    /// Zeros written into new log files.
    pub fill_bytes: u64,
    pub checkpoints: u64,
    pub log_files: usize,
    pub log_files_spare: usize,
    /// Records that were ever declared lost, over all streams.
    pub gap_records: u64,
    /// Those of them that were under way then, and landed all the same.
    pub gap_records_landed: u64,
    /// Batch bytes that the cleaner copied.
    pub cleaned_bytes: u64,
    /// 1 while the index has no space for its checkpoint.
    pub checkpoint_needs_space: bool,
}

/// A commit that finds no space makes room and tries again so often. Each time a tenth of a file is
/// freed at the least ([`CLEANED_AFTER_LOSS_PER_CENT_MAX`](crate::limits)).
const ROOM_TRIES_MAX: usize = 16;

/// In so many of them the cleaner goes before a loss. If that gives no room, chunks are of sizes that do
/// not pack, and copies of copies would only wear the flash.
const ROOM_TRIES_BY_COPYING_MAX: usize = 8;

/// The store of one edge. Owned by its one committer.
#[derive(Debug)]
pub struct Journal {
    pub(crate) medium: Arc<dyn Medium>,
    /// `None` after a checkpoint that found no space, until it can be opened again.
    pub(crate) database: Option<Arc<Database>>,
    pub(crate) limits: Limits,
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) writer: Writer,
    pub(crate) staged: Staged,
    pub(crate) compression: HashMap<StreamId, Compression>,
    pub(crate) checkpoint_running: bool,
    pub(crate) bytes_at_checkpoint: u64,
    /// The same of the last one that is durable.
    pub(crate) bytes_checkpointed: u64,
    pub(crate) checkpoint_needs_space: bool,
    /// Dead files whose deaths no checkpoint has recorded yet, since it found no space.
    pub(crate) dead_unwritten: Vec<Arc<OpenLogFile>>,
    pub(crate) condemned_unwritten: Vec<Arc<OpenLogFile>>,
    pub(crate) reserve_is_held: bool,
    pub(crate) time_at_open: JournalTime,
    pub(crate) time_at_checkpoint: JournalTime,
    pub(crate) next_stream: StreamId,
    pub(crate) staged_names: HashMap<StreamName, StreamId>,
    pub(crate) failed: bool,
    /// See [`Journal::recycle_before_checkpoint`].
    #[cfg(feature = "simulation")]
    pub(crate) recycles_before_checkpoint: bool,
    pub(crate) commits: u64,
    pub(crate) records: u64,
    pub(crate) checkpoints: u64,
    pub(crate) cleaned_bytes: u64,
}

impl Journal {
    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    pub fn reader(&self) -> JournalReader {
        JournalReader {
            shared: Arc::clone(&self.shared),
        }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The stream of that name, staged to be made if there is none. It lands in `topic`.
    pub fn open_stream(
        &mut self,
        name: &StreamName,
        topic: &TopicName,
        compression: Compression,
    ) -> Result<StreamId, AppendRefused> {
        let known = self.shared().state.names.get(name).copied();
        if let Some(stream) = known.or_else(|| self.staged_names.get(name).copied()) {
            self.compression.insert(stream, compression);
            return Ok(stream);
        }
        if self.next_stream.0 as usize >= STREAMS_MAX {
            return Err(AppendRefused::TooManyStreams);
        }
        let stream = self.next_stream;
        self.next_stream.0 += 1;
        self.compression.insert(stream, compression);
        self.staged_names.insert(name.clone(), stream);
        let (name, topic) = (name.clone(), topic.clone());
        self.staged.push_entry(Entry::Stream {
            stream,
            name,
            topic,
        });
        Ok(stream)
    }

    /// Stages a record at the end of a stream.
    pub fn append(&mut self, stream: StreamId, record: &Record) -> Result<(), AppendRefused> {
        self.append_marked(stream, record, 0)
    }

    /// The same with a mark, which is the node's own and stays in the journal.
    pub fn append_marked(
        &mut self,
        stream: StreamId,
        record: &Record,
        mark: u8,
    ) -> Result<(), AppendRefused> {
        let bytes = record_bytes(record);
        let bytes_max = self.limits.record_bytes_max;
        if bytes > bytes_max {
            return Err(AppendRefused::TooLarge { bytes, bytes_max });
        }
        if stream >= self.next_stream {
            return Err(AppendRefused::UnknownStream(stream));
        }
        self.staged.push_record(stream, record, mark);
        Ok(())
    }

    /// Stages an incarnation that the cloud granted.
    pub fn grant(&mut self, stream: StreamId, incarnation: Incarnation) {
        self.staged.push_entry(Entry::Granted {
            stream,
            incarnation,
        });
    }

    /// Stages the newest of the cloud's state that was seen.
    pub fn see_session(&mut self, cluster: ClusterIncarnation, session_epoch: SessionEpoch) {
        self.staged.push_entry(Entry::Session {
            cluster_incarnation: cluster,
            session_epoch,
        });
    }

    /// Notes that the cloud has all of `stream` below `landed`. It rides with the next commit or
    /// checkpoint; until then a crash may forget it, and the hub says it again.
    pub fn advance_landed(&mut self, stream: StreamId, landed: EdgeOffset, hash: BoundaryHash) {
        let entry = self.shared().state.note_landed(stream, landed, hash);
        if let Some(entry) = entry {
            self.staged.push_landed(entry);
        }
    }

    /// Stages an operation on a row of the node's own. Those on one row take effect in their order.
    ///
    /// # Errors
    /// The row is larger than [`Limits::row_bytes_max`]: no frame would hold it.
    pub fn stage_row(&mut self, row: RowEntry, when: RowCommit) -> Result<(), CommitError> {
        let (bytes, bytes_max) = (row.bytes(), self.limits.row_bytes_max());
        if bytes > bytes_max {
            return Err(CommitError::RowTooLarge { bytes, bytes_max });
        }
        self.staged.push_row(row, when);
        Ok(())
    }

    /// The node's own rows of a table, by key. Only what a checkpoint has written is seen: ask
    /// before anything is committed.
    pub fn rows(&self, table: RowTable) -> Result<Vec<(Bytes, Row)>, TableError> {
        let database = self.database.as_deref();
        database.map_or_else(
            || Ok(Vec::new()),
            |database| tables::load_rows(database, table),
        )
    }

    /// From here on client sessions read; see [`JournalReader::read_log`]. The journal keeps it over
    /// a restart: a session that begins says so before its first row.
    pub fn set_needed_from(&mut self, position: Position) {
        self.shared().state.meta.needed_from = position;
    }

    /// Whether anything is staged that rides with the next commit, whoever asks for it.
    pub fn has_riders(&self) -> bool {
        self.staged.has_riders()
    }

    /// Bytes staged for the next commit.
    pub fn staged_bytes(&self) -> usize {
        self.staged.bytes()
    }

    /// Whether a commit must be made now, whatever the linger.
    pub fn staged_is_full(&self) -> bool {
        self.staged.bytes() >= self.limits.commit_bytes_max
    }

    /// Whether anything is staged that somebody waits for.
    pub fn wants_commit(&self) -> bool {
        self.staged.wants_commit()
    }

    /// Makes all that is staged durable: one frame, one fdatasync. Only after `Ok` may any of it be
    /// acknowledged, and only then do readers see it.
    pub fn commit(&mut self) -> Result<Committed, CommitError> {
        if self.failed {
            return Err(CommitError::Failed);
        }
        let need = if self.staged.has_records() {
            Need::Records
        } else {
            Need::Freeing
        };
        let mut tail = self.writer.tail;
        let before = tail.next_position;
        let is_long = self.staged.bytes() > self.limits.frame_bytes_max() / 2;
        let mut entries = self
            .staged
            .seal(&lock(&self.shared).state, &self.compression, &mut tail);
        if need == Need::Records && self.must_wait_for_space() {
            self.staged.keep_all_but_records(entries);
            return Err(CommitError::Full);
        }
        if entries.is_empty() {
            return Ok(Committed {
                next_position: before,
                records: 0,
            });
        }
        if is_long {
            entries = self.write_rows_before(entries, before)?;
        }
        let mut written = self.write(&entries, need, tail.next_position);
        for attempt in 0..ROOM_TRIES_MAX {
            if need == Need::Freeing || !matches!(written, Err(PoolError::Full)) {
                break;
            }
            if !self.make_room(attempt < ROOM_TRIES_BY_COPYING_MAX)? {
                break;
            }
            written = self.write(&entries, need, tail.next_position);
        }
        match written {
            Ok(()) => self.staged_names.clear(),
            Err(PoolError::Full) => {
                self.staged.keep_all_but_records(entries);
                return Err(CommitError::Full);
            }
            Err(PoolError::Io(error)) => return Err(self.fail(error)),
        }
        self.commits += 1;
        let records = tail.next_position.0 - before.0;
        self.records += records;
        Ok(Committed {
            next_position: tail.next_position,
            records,
        })
    }

    /// Of a commit that is too long for one frame, the rows in front go first, in frames of their own;
    /// those that belong to records, and what follows them, stay with the records. Returns what is left.
    fn write_rows_before(
        &mut self,
        mut entries: Vec<Entry>,
        position: Position,
    ) -> Result<Vec<Entry>, CommitError> {
        let bytes_max = self.limits.frame_bytes_max();
        while frame_bytes(&entries) > bytes_max {
            let alone = self.staged.rows_in_front(&entries);
            let mut bytes = FRAME_HEADER_BYTES;
            let fits = entries[..alone].iter().take_while(|entry| {
                bytes += ENTRY_HEADER_BYTES + entry.encode().1.len();
                bytes <= bytes_max
            });
            let count = fits.count();
            if count == 0 {
                return Ok(entries);
            }
            let rest = entries.split_off(count);
            match self.write(&entries, Need::Freeing, position) {
                Ok(()) => {}
                Err(PoolError::Full) => {
                    entries.extend(rest);
                    self.staged.keep_all_but_records(entries);
                    return Err(CommitError::Full);
                }
                Err(PoolError::Io(error)) => return Err(self.fail(error)),
            }
            self.staged.note_written(count);
            entries = rest;
        }
        Ok(entries)
    }

    pub(crate) fn write(
        &mut self,
        entries: &[Entry],
        need: Need,
        next_position: Position,
    ) -> Result<(), PoolError> {
        let encoded: Vec<_> = entries.iter().map(Entry::encode).collect();
        let bytes = FRAME_HEADER_BYTES
            + encoded
                .iter()
                .map(|(_, body)| ENTRY_HEADER_BYTES + body.len())
                .sum::<usize>();
        if self
            .writer
            .is_full_for(&self.shared().active_table, bytes, entries.len())
        {
            self.roll(need, false)?;
            if self.writer.tail.at as usize + aligned(bytes) > self.limits.log_file_bytes {
                // Whatever was staged: what does not fit would be acknowledged and never replayed.
                let why = format!("a commit of {bytes} bytes does not fit a log file");
                return Err(PoolError::Io(io::Error::other(why)));
            }
        }
        let mut builder = FrameBuilder::new(bytes);
        let places: Vec<usize> = encoded
            .iter()
            .map(|(tag, body)| builder.push(*tag, &[body]))
            .collect();
        let frame_at = self.writer.tail.at as usize;
        let position = std::mem::replace(&mut self.writer.tail.next_position, next_position);
        if let Err(error) = self.writer.append(builder) {
            self.writer.tail.next_position = position;
            return Err(error.into());
        }
        // Whatever a sync fails with, what the medium has is not known.
        self.writer.sync().map_err(PoolError::Io)?;
        let applied = self.apply(entries, frame_at, &places);
        applied.map_err(|error| PoolError::Io(io::Error::other(error)))
    }

    /// Takes a durable frame's entries up into the state, where readers see them.
    pub(crate) fn apply(
        &mut self,
        entries: &[Entry],
        frame_at: usize,
        places: &[usize],
    ) -> Result<(), ApplyError> {
        let file = self.writer.tail.file;
        let used = self.writer.tail.at;
        let mut guard = lock(&self.shared);
        let shared = &mut *guard;
        for (entry, place) in entries.iter().zip(places) {
            let body_at = frame_at + place;
            shared.state.apply(entry, file, body_at)?;
            if let Entry::Chunk(chunk) = entry {
                let time_s = shared.state.meta.time.seconds();
                let place = chunk.place(body_at, chunk.body_bytes(), time_s);
                shared.active_table.push(chunk.stream, place);
                let summary = &mut shared.active_table.summary;
                summary.add(&chunk.topic_keys, body_at, self.limits.log_file_bytes);
                shared.active_order.push((chunk.stream, place));
            }
            if let Entry::Copied(copied) = entry {
                let place = copied.place(body_at);
                shared.active_table.push(copied.chunk.stream, place);
            }
        }
        shared.next_position = self.writer.tail.next_position;
        shared.state.take_policies(&mut shared.policies_of_new);
        if let Some(state) = shared.state.files.get_mut(&file) {
            state.used = used;
            state.next_position = self.writer.tail.next_position;
            shared.state.dirty.insert(RowKey::File(file));
        }
        Ok(())
    }

    /// Goes on in a new file.
    pub(crate) fn roll(&mut self, need: Need, rewritten: bool) -> Result<(), PoolError> {
        let table = std::mem::take(&mut self.shared().active_table);
        let full = self.writer.active.header.sequence;
        if let Err(error) = self.writer.roll(&table, need, rewritten) {
            self.shared().active_table = table;
            return Err(error);
        }
        let mut guard = lock(&self.shared);
        seal_and_go_on(&mut guard, full, table, &self.writer);
        Ok(())
    }

    pub(crate) fn fail(&mut self, error: io::Error) -> CommitError {
        self.failed = true;
        self.staged.clear();
        CommitError::Io(error)
    }

    pub fn stats(&self) -> JournalStats {
        let (gap_records, gap_records_landed) = {
            let state = &self.shared().state;
            (state.gap_records, state.gap_records_landed)
        };
        JournalStats {
            gap_records,
            gap_records_landed,
            cleaned_bytes: self.cleaned_bytes,
            checkpoint_needs_space: self.checkpoint_needs_space,
            commits: self.commits,
            records: self.records,
            syncs: self.writer.syncs,
            log_bytes: self.writer.bytes_written,
            fill_bytes: self.writer.pool.filled_bytes,
            checkpoints: self.checkpoints,
            log_files: self.writer.pool.slots(),
            log_files_spare: self.writer.pool.spares(),
        }
    }
}

/// Seals the full file in the state, and enters the writer's active one.
fn seal_and_go_on(shared: &mut Shared, full: u64, table: FileTable, writer: &Writer) {
    let streams: Vec<StreamId> = table.streams.keys().copied().collect();
    shared.state.seal(full, streams.into_iter());
    shared.cache_table(full, Arc::new(table));
    let order = std::mem::take(&mut shared.active_order);
    shared.orders.put(full, Arc::new(order));
    let active = Arc::clone(&writer.active);
    let (sequence, slot) = (active.header.sequence, active.slot);
    let state = FileState {
        slot,
        used: writer.tail.at,
        sealed: false,
        damaged: false,
        next_position: writer.tail.next_position,
        runs: 0,
    };
    shared.state.files.insert(sequence, state);
    shared.state.dirty.insert(RowKey::File(sequence));
    shared.files.insert(sequence, active);
}

pub(crate) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared
        .lock()
        .expect("no thread panics while it holds the journal's state")
}

/// A frame of these entries.
fn frame_bytes(entries: &[Entry]) -> usize {
    let bytes = entries
        .iter()
        .map(|entry| ENTRY_HEADER_BYTES + entry.encode().1.len());
    FRAME_HEADER_BYTES + bytes.sum::<usize>()
}

/// About what a record takes as bytes of a batch, unpacked.
pub fn record_bytes(record: &Record) -> usize {
    let optional = |value: &Option<bytes::Bytes>| value.as_ref().map_or(0, |value| value.len());
    let headers: usize = record
        .headers
        .iter()
        .map(|header| header.name.len() + optional(&header.value) + 10)
        .sum();
    optional(&record.key) + optional(&record.value) + headers + 32
}
