//! Opening a journal: load the index, replay the frames past the checkpoint, write those again to a
//! fresh file, checkpoint, and only then serve. What is damaged is set aside, and what was lost with
//! it becomes gaps: that keeps no journal from opening.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use redb::Database;
use thiserror::Error;
use tidegate_shared::id::{Position, StoreId, StreamId};

use crate::clock::JournalTime;
use crate::entry::Entry;
use crate::frame;
use crate::index::{open_index, set_old_store_aside};
use crate::journal::{CommitError, Journal};
use crate::limits::{FRAME_ALIGN_BYTES, LOG_FILE_HEADER_BYTES, Limits};
use crate::log_file::{LogFileHeader, OpenLogFile};
use crate::media::{LogFile, Medium, Slot};
use crate::pool::{Pool, PoolError};
use crate::reader::Shared;
use crate::replay::{Replay, find_frames};
use crate::rows::RowTable;
use crate::staged::Staged;
use crate::state::{FileState, Meta, RowKey, Run, State};
use crate::tables::TableError;
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// There was no journal: this one is new.
    pub created: bool,
    /// The index was lost: this is a new store, and what the old one held is set aside.
    pub index_lost: bool,
    /// Frames past the last checkpoint.
    pub frames_replayed: u64,
    pub records_replayed: u64,
    /// A line for each thing that was damaged.
    pub damage: Vec<String>,
    /// The new names of files that were set aside.
    pub set_aside: Vec<String>,
    /// Records that opening declared lost.
    pub gap_records: u64,
    /// Records of streams that nothing is known of, since what made them is lost.
    pub records_lost: u64,
}

/// What the medium holds.
struct Gathered {
    shared: Shared,
    pool: Pool,
    /// The frames past the checkpoint.
    replay: Replay,
    /// The files in which those lie. They are the only copy until the next checkpoint.
    held: Vec<Arc<OpenLogFile>>,
    /// Runs whose log file is gone.
    lost: Vec<(StreamId, Run)>,
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
        let mut report = OpenReport::default();
        let (database, loaded) = open_index(&medium, &mut report)?;
        if loaded.is_none() {
            set_old_store_aside(&medium, &mut report)?;
        }
        report.created = loaded.is_none() && !report.index_lost;
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
            replay,
            held,
            lost,
            next_file,
        } = gather(&medium, limits, state, &mut report)?;
        let spares = pool.keep_spares();
        if spares.is_err() || pool.spares() == 0 {
            // What is held for a full disk is for this.
            medium.release_reserve()?;
        }
        let meta = shared.state.meta;
        let file_bytes = limits.log_file_bytes;
        let writer = Writer::begin(pool, meta.store_id, file_bytes, meta.tail, next_file, true)?;
        let mut journal = Self::assemble(medium, Arc::new(database), limits, shared, writer);
        let gap_records = journal.stats().gap_records;
        let over_damage = !replay.notes.is_empty() || !lost.is_empty();
        let dropped = replay.streams_that_dropped();
        report.damage.extend(replay.notes);
        for frame in replay.frames {
            report.frames_replayed += 1;
            journal.rewrite(frame, over_damage, &mut report)?;
        }
        journal.recount(&dropped);
        journal.writer.sync()?;
        report.records_replayed = journal.writer.tail.next_position.0 - meta.tail.next_position.0;
        journal.declare_lost(lost)?;
        journal.begin_life(meta.tail.next_position)?;
        journal.checkpoint()?;
        let is_damaged = |file: &Arc<OpenLogFile>| replay.damaged.contains(&file.header.sequence);
        let (damaged, good) = held.into_iter().partition(is_damaged);
        journal.writer.pool.recycle(good);
        journal.writer.pool.condemn(damaged);
        journal.writer.pool.opened();
        let spares = journal.writer.pool.keep_spares();
        spares.map_err(|error| journal.fail(error))?;
        report.set_aside.extend(journal.take_set_aside());
        report.gap_records = journal.stats().gap_records - gap_records;
        Ok((journal, report))
    }

    fn assemble(
        medium: Arc<dyn Medium>,
        database: Arc<Database>,
        limits: Limits,
        mut shared: Shared,
        writer: Writer,
    ) -> Self {
        let last_stream = shared.state.streams.keys().next_back();
        let next_stream = last_stream.map_or(StreamId(0), |id| StreamId(id.0 + 1));
        enter_active(&mut shared, &writer);
        Self {
            medium,
            database: Some(database),
            limits,
            shared: Arc::new(Mutex::new(shared)),
            writer,
            staged: Staged::default(),
            compression: HashMap::new(),
            checkpoint_running: false,
            bytes_at_checkpoint: 0,
            bytes_checkpointed: 0,
            checkpoint_needs_space: false,
            dead_unwritten: Vec::new(),
            condemned_unwritten: Vec::new(),
            reserve_is_held: false,
            time_at_open: JournalTime::default(),
            time_at_checkpoint: JournalTime::default(),
            next_stream,
            staged_names: HashMap::new(),
            failed: false,
            #[cfg(feature = "simulation")]
            recycles_before_checkpoint: false,
            commits: 0,
            records: 0,
            checkpoints: 0,
            cleaned_bytes: 0,
        }
    }

    /// What is known of this process only begins here. `checkpointed`: where the index ended.
    fn begin_life(&mut self, checkpointed: Position) -> Result<(), TableError> {
        let table = RowTable::ClientSessions;
        let has_sessions = !self.rows(table)?.is_empty();
        let time = {
            let state = &mut self.shared().state;
            let is_session = |(of, _): &(RowTable, Bytes)| *of == table;
            if has_sessions || state.rows.keys().any(is_session) {
                // Who began after the checkpoint may need all that came after it.
                state.meta.needed_from = state.meta.needed_from.min(checkpointed);
            }
            for stream in state.streams.values_mut() {
                // What an earlier life has sent is not known: it may be all.
                stream.offered = stream.next;
                stream.gaps_offered = stream.gaps.iter().map(|gap| gap.from..gap.to).collect();
            }
            state.meta.time
        };
        self.time_at_open = time;
        Ok(())
    }
}

fn enter_active(shared: &mut Shared, writer: &Writer) {
    let active = Arc::clone(&writer.active);
    let state = FileState {
        slot: active.slot,
        used: writer.tail.at,
        sealed: false,
        damaged: false,
        next_position: writer.tail.next_position,
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
    report: &mut OpenReport,
) -> Result<Gathered, OpenError> {
    let (mut files, mut pool, unknown) = open_files(medium, limits, &state, report)?;
    let next_file = files.keys().next_back().map_or(1, |last| last + 1);
    // A file whose header cannot be read may have any of the next sequences: were one given again,
    // its frames would pass for those of the file that gets its place. Nor is there a trace of the file that
    // was begun last, if the medium kept its first frame and not its header: its sequence is left out.
    let begun = u64::from(!report.created);
    let next_file = next_file.max(state.meta.next_file) + unknown + begun;
    let tail = state.meta.tail;
    let replay = find_frames(tail, &files);
    if let Some(file) = state.files.get_mut(&tail.file) {
        // What follows the checkpoint is written again elsewhere: for the index this file ends here.
        file.used = tail.at;
        file.damaged |= replay.damaged.contains(&tail.file);
    }
    let mut shared = Shared::default();
    shared.state = state;
    let mut missing = Vec::new();
    for (sequence, file) in &shared.state.files {
        match files.remove(sequence).filter(|open| open.slot == file.slot) {
            Some(open) => drop(shared.files.insert(*sequence, Arc::new(open))),
            None => missing.push(*sequence),
        }
    }
    for sequence in &missing {
        let why = "it is missing, or not what the index knows";
        report
            .damage
            .push(format!("log file {sequence} is lost: {why}"));
    }
    let lost = take_lost_runs(&mut shared.state, &missing);
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
        replay,
        held,
        lost,
        next_file,
    })
}

/// Takes out what lay in files that are gone.
fn take_lost_runs(state: &mut State, missing: &[u64]) -> Vec<(StreamId, Run)> {
    let mut lost = Vec::new();
    if missing.is_empty() {
        return lost;
    }
    for (id, stream) in &mut state.streams {
        let gone = |run: &&Run| missing.contains(&run.file);
        lost.extend(stream.runs.iter().filter(gone).map(|run| (*id, *run)));
        stream.runs.retain(|run| !missing.contains(&run.file));
    }
    let rows = lost.iter().map(|(id, run)| run.row(*id));
    state.dirty.extend(rows);
    for sequence in missing {
        state.files.remove(sequence);
        state.dirty.insert(RowKey::File(*sequence));
    }
    lost
}

pub(crate) fn read_header(file: &dyn LogFile) -> Option<LogFileHeader> {
    let mut block = BytesMut::zeroed(LOG_FILE_HEADER_BYTES);
    file.read_at(0, &mut block).ok()?;
    LogFileHeader::decode(block.freeze())
}

/// Opens every log file of this store, by sequence; the others go to the pool. Also returns how many
/// sequences files may have that are not known.
fn open_files(
    medium: &Arc<dyn Medium>,
    limits: Limits,
    state: &State,
    report: &mut OpenReport,
) -> Result<(BTreeMap<u64, OpenLogFile>, Pool, u64), OpenError> {
    let slots = medium.slots()?;
    let mut pool = Pool::new(Arc::clone(medium), limits, &slots);
    let mut files = BTreeMap::new();
    let (bytes, count) = (limits.log_file_bytes, slots.len() as u64);
    let mut unknown = 0;
    for slot in slots {
        let file = medium.open(slot)?;
        let header = read_header(&*file).filter(|header| header.store_id == state.meta.store_id);
        let header = header.or_else(|| {
            let header = header_by_first_frame(&file, slot, bytes, state)?;
            let sequence = header.sequence;
            let why = "its header cannot be read; its first frame says what it is";
            report.damage.push(format!("log file {sequence}: {why}"));
            Some(header)
        });
        match header {
            Some(header) => {
                let open = OpenLogFile {
                    slot,
                    header,
                    file,
                    bytes,
                };
                files.insert(header.sequence, open);
            }
            // A file that was left half made is made whole before it counts.
            None if file.read_at(bytes as u64 - 1, &mut [0]).is_err() => {
                pool.give_back(slot, medium.create(slot, bytes)?);
            }
            None => {
                let mut magic = [0];
                let blank = file.read_at(0, &mut magic).is_ok() && magic == [0];
                unknown = if blank { unknown } else { count };
                pool.give_back(slot, file);
            }
        }
    }
    Ok((files, pool, unknown))
}

/// A file that the index needs is known without its header. Not so one that follows the checkpoint:
/// it could as well hold copies that an opening made and did not finish.
fn header_by_first_frame(
    file: &Arc<dyn LogFile>,
    slot: Slot,
    bytes: usize,
    state: &State,
) -> Option<LogFileHeader> {
    let mut block = BytesMut::zeroed(FRAME_ALIGN_BYTES);
    file.read_at(LOG_FILE_HEADER_BYTES as u64, &mut block)
        .ok()?;
    let first = frame::parse_header(Bytes::copy_from_slice(&block)).ok()?;
    let mut header = LogFileHeader {
        store_id: state.meta.store_id,
        sequence: first.file_sequence,
        first_position: first.next_position,
        previous_crc: first.previous_crc,
        rewritten: false,
    };
    let known = state.files.get(&header.sequence);
    let wanted = known.is_some_and(|known| known.slot == slot);
    let open = OpenLogFile {
        slot,
        header,
        file: Arc::clone(file),
        bytes,
    };
    let (_, entries) = open.good_frame(LOG_FILE_HEADER_BYTES).ok()??;
    for raw in entries {
        if let Ok(Entry::Chunk(chunk)) = Entry::decode(&raw) {
            header.first_position = header.first_position.min(chunk.position);
        }
    }
    wanted.then_some(header)
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
