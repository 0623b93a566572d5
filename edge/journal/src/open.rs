//! Opening a journal: load the index, replay the frames past the checkpoint, write those again to a
//! fresh file, checkpoint, and only then serve.
//!
//! The frames are written again because what a reader sees after a crash need not be on the medium:
//! after an fsync that failed, the page cache shows what the medium never got.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use redb::Database;
use thiserror::Error;
use tidegate_shared::id::{StoreId, StreamId};

use crate::entry::{Entry, EntryError};
use crate::frame::{self, FrameBuilder, FrameKind, RawEntry};
use crate::journal::{CommitError, Journal, lock};
use crate::limits::{LOG_FILE_HEADER_BYTES, Limits};
use crate::log_file::{LogFileHeader, OpenLogFile};
use crate::media::Medium;
use crate::pool::{Need, Pool, PoolError};
use crate::reader::Shared;
use crate::staged::Staged;
use crate::state::{ApplyError, FileState, Meta, RowKey, State, Tail};
use crate::tables::{self, TableError};
use crate::topics::TopicKeys;
use crate::writer::Writer;

/// Why a journal cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the journal's files cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the index cannot be opened: {0}")]
    Database(#[from] redb::DatabaseError),
    #[error("the index cannot be read: {0}")]
    Table(#[from] TableError),
    #[error("log file {file} is damaged at byte {at}: {why}")]
    Damaged { file: u64, at: u32, why: String },
    #[error("log file {0}, which the index names, is missing or is another store's")]
    Missing(u64),
    #[error("no log file is free, and none can be made: free some disk space")]
    Full,
    #[error("the journal cannot be written: {0}")]
    Commit(#[from] CommitError),
}

impl From<PoolError> for OpenError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Full => Self::Full,
            PoolError::Io(error) => Self::Io(error),
        }
    }
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// There was no journal: this one is new.
    pub created: bool,
    /// Frames past the last checkpoint.
    pub frames_replayed: u64,
    pub records_replayed: u64,
}

/// A frame past the checkpoint, as it was found.
struct Found {
    next_position: tidegate_shared::id::Position,
    entries: Vec<RawEntry>,
}

/// What the medium holds.
struct Gathered {
    shared: Shared,
    pool: Pool,
    /// The frames past the checkpoint.
    found: Vec<Found>,
    /// The files in which those lie. They are the only copy until the next checkpoint.
    held: Vec<Arc<OpenLogFile>>,
    next_file: u64,
}

impl Journal {
    /// Opens the journal on `medium`, or makes one with `new_store_id` if there is none.
    pub fn open(
        medium: Arc<dyn Medium>,
        limits: Limits,
        new_store_id: StoreId,
    ) -> Result<(Self, OpenReport), OpenError> {
        limits.check();
        let database = Arc::new(medium.open_database()?);
        let loaded = tables::load(&database)?;
        let created = loaded.is_none();
        let state = loaded.unwrap_or_else(|| State {
            meta: Meta {
                store_id: new_store_id,
                ..Meta::default()
            },
            ..State::default()
        });
        let Gathered {
            shared,
            mut pool,
            found,
            held,
            next_file,
        } = gather(&medium, limits, state)?;
        pool.keep_spares()?;
        let mut report = OpenReport {
            created,
            ..OpenReport::default()
        };
        let meta = shared.state.meta;
        let file_bytes = limits.log_file_bytes;
        let writer = Writer::begin(pool, meta.store_id, file_bytes, meta.tail, next_file, true)?;
        let mut journal = Self::assemble(database, limits, shared, writer);
        for frame in found {
            report.frames_replayed += 1;
            journal.rewrite(frame)?;
        }
        journal.writer.sync()?;
        report.records_replayed = journal.writer.tail.next_position.0 - meta.tail.next_position.0;
        journal.checkpoint()?;
        journal.writer.pool.recycle(held);
        Ok((journal, report))
    }

    fn assemble(
        database: Arc<Database>,
        limits: Limits,
        mut shared: Shared,
        writer: Writer,
    ) -> Self {
        let last_stream = shared.state.streams.keys().next_back();
        let next_stream = last_stream.map_or(StreamId(0), |id| StreamId(id.0 + 1));
        enter_active(&mut shared, &writer);
        Self {
            database,
            limits,
            shared: Arc::new(Mutex::new(shared)),
            writer,
            staged: Staged::default(),
            compression: HashMap::new(),
            checkpoint_running: false,
            bytes_at_checkpoint: 0,
            next_stream,
            staged_names: HashMap::new(),
            failed: false,
            commits: 0,
            records: 0,
            checkpoints: 0,
        }
    }

    /// Appends a frame that was found past the checkpoint to the fresh file, and takes it up.
    fn rewrite(&mut self, found: Found) -> Result<(), OpenError> {
        let bytes: usize = found.entries.iter().map(|entry| entry.body.len() + 5).sum();
        let bytes = bytes + frame::FRAME_HEADER_BYTES;
        let chunks = found.entries.len();
        if self
            .writer
            .is_full_for(&lock(&self.shared).active_table, bytes, chunks)
        {
            self.writer.sync()?;
            self.roll(Need::Freeing, true)?;
        }
        let mut builder = FrameBuilder::new(bytes);
        let places: Vec<usize> = found
            .entries
            .iter()
            .map(|entry| builder.push(entry.tag, &[&entry.body]))
            .collect();
        let frame_at = self.writer.tail.at as usize;
        self.writer.tail.next_position = found.next_position;
        self.writer.append(builder)?;
        let file = self.writer.tail.file;
        let damaged = |why: String| OpenError::Damaged {
            file,
            at: frame_at as u32,
            why,
        };
        let entries: Result<Vec<Entry>, EntryError> =
            found.entries.iter().map(Entry::decode).collect();
        let mut entries = entries.map_err(|error| damaged(error.to_string()))?;
        for entry in &mut entries {
            match entry {
                Entry::Stream { stream, .. } => {
                    self.next_stream = self.next_stream.max(StreamId(stream.0 + 1));
                }
                Entry::Chunk(chunk) => chunk.topic_keys = TopicKeys::of_batch(&chunk.batch),
                _ => {}
            }
        }
        self.apply(&entries, frame_at, &places)
            .map_err(|error: ApplyError| damaged(error.to_string()))
    }
}

fn enter_active(shared: &mut Shared, writer: &Writer) {
    let active = Arc::clone(&writer.active);
    let state = FileState {
        slot: active.slot,
        used: writer.tail.at,
        sealed: false,
        runs: 0,
    };
    shared.state.files.insert(active.header.sequence, state);
    shared.next_position = writer.tail.next_position;
    shared
        .state
        .dirty
        .insert(RowKey::File(active.header.sequence));
    shared.files.insert(active.header.sequence, active);
}

/// Opens every log file, finds the frames past the checkpoint, and sorts the files into what lives,
/// what holds those frames, and what is spare.
fn gather(
    medium: &Arc<dyn Medium>,
    limits: Limits,
    mut state: State,
) -> Result<Gathered, OpenError> {
    let (mut files, mut pool) = open_files(medium, limits, state.meta.store_id)?;
    let next_file = files.keys().next_back().map_or(1, |last| last + 1);
    let next_file = next_file.max(state.meta.next_file);
    let tail = state.meta.tail;
    let found = find_frames(state.meta.store_id, tail, &files)?;
    if let Some(file) = state.files.get_mut(&tail.file) {
        // What follows the checkpoint is written again elsewhere: for the index this file ends here.
        file.used = tail.at;
    }
    let mut shared = Shared::default();
    shared.state = state;
    for (sequence, file) in &shared.state.files {
        let open = files.remove(sequence).filter(|open| open.slot == file.slot);
        let open = open.ok_or(OpenError::Missing(*sequence))?;
        shared.files.insert(*sequence, Arc::new(open));
    }
    seal_old(&mut shared.state);
    let mut held = Vec::new();
    for (sequence, file) in files {
        if sequence > tail.file && !file.header.rewritten {
            held.push(Arc::new(file));
        } else {
            pool.give_back(file.slot, file.file);
        }
    }
    Ok(Gathered {
        shared,
        pool,
        found,
        held,
        next_file,
    })
}

/// Opens every log file of this store, by sequence; the others go to the pool.
fn open_files(
    medium: &Arc<dyn Medium>,
    limits: Limits,
    store_id: StoreId,
) -> Result<(BTreeMap<u64, OpenLogFile>, Pool), OpenError> {
    let slots = medium.slots()?;
    let mut pool = Pool::new(Arc::clone(medium), limits, &slots);
    let mut files = BTreeMap::new();
    let bytes = limits.log_file_bytes;
    for slot in slots {
        let file = medium.open(slot)?;
        let mut block = BytesMut::zeroed(LOG_FILE_HEADER_BYTES);
        let read = file.read_at(0, &mut block);
        let header = read
            .ok()
            .and_then(|()| LogFileHeader::decode(block.freeze()));
        match header.filter(|header| header.store_id == store_id) {
            Some(header) => {
                files.insert(
                    header.sequence,
                    OpenLogFile {
                        slot,
                        header,
                        file,
                        bytes,
                    },
                );
            }
            // A file that was left half made is made whole before it counts.
            None if file.read_at(bytes as u64 - 1, &mut [0]).is_err() => {
                pool.give_back(slot, medium.create(slot, bytes)?);
            }
            None => pool.give_back(slot, file),
        }
    }
    Ok((files, pool))
}

/// Every file that was there before is full now: writing goes on in a fresh one.
fn seal_old(state: &mut State) {
    let open = state.files.iter().filter(|(_, file)| !file.sealed);
    let open: Vec<u64> = open.map(|(sequence, _)| *sequence).collect();
    let streams: Vec<StreamId> = state.streams.keys().copied().collect();
    for file in open {
        state.seal(file, streams.iter().copied());
    }
}

/// The frames that follow the checkpoint, file after file, up to the tail.
fn find_frames(
    store_id: StoreId,
    mut tail: Tail,
    files: &BTreeMap<u64, OpenLogFile>,
) -> Result<Vec<Found>, OpenError> {
    let mut found = Vec::new();
    while let Some(file) = files.get(&tail.file) {
        while let Ok((header, bytes)) = file.read_frame(tail.at as usize)? {
            if header.kind != FrameKind::Commit || header.previous_crc != tail.crc {
                break;
            }
            let Ok(entries) = frame::parse(store_id, &bytes) else {
                break;
            };
            found.push(Found {
                next_position: header.next_position,
                entries,
            });
            tail.at += frame::aligned(header.bytes) as u32;
            tail.crc = header.crc;
        }
        // A file is begun only after the frames before it are durable, so it must follow on.
        let next = files
            .get(&(tail.file + 1))
            .filter(|next| !next.header.rewritten);
        let follows = next.is_some_and(|next| next.header.previous_crc == tail.crc);
        if follows {
            tail.file += 1;
            tail.at = LOG_FILE_HEADER_BYTES as u32;
            continue;
        }
        if next.is_some() || file.has_frame_after(tail.at as usize)? {
            let why = "a good frame follows a bad one".to_owned();
            return Err(OpenError::Damaged {
                file: tail.file,
                at: tail.at,
                why,
            });
        }
        break;
    }
    Ok(found)
}
