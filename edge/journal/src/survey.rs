//! Looking at a journal without changing it: what it holds, and whether all of it can be read. The
//! caller holds the data folder's lock.

use std::collections::BTreeMap;
use std::io;

use tidegate_shared::id::{BoundaryHash, EdgeOffset, StoreId, StreamId};
use tidegate_shared::record::Batch;

use crate::chunk::hash_after;
use crate::entry::{ChunkEntry, Entry};
use crate::frame::{self, RawEntry};
use crate::limits::{FRAME_ALIGN_BYTES, LOG_FILE_HEADER_BYTES, Limits};
use crate::log_file::OpenLogFile;
use crate::media::Medium;
use crate::open::{OpenError, read_header};
use crate::reader::{StreamStatus, status};
use crate::replay::{Replay, find_frames};
use crate::state::State;
use crate::tables;

/// One log file with something in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSurvey {
    pub sequence: u64,
    pub slot: u32,
    /// Where its frames end.
    pub used_bytes: u32,
    /// Streams with something living in it.
    pub streams: u32,
    /// Batch bytes that live.
    pub living_bytes: u64,
    pub damaged: bool,
}

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    pub store_id: StoreId,
    /// Milliseconds that it was open, over all its lives.
    pub time_ms: u64,
    pub streams: Vec<StreamStatus>,
    pub files: Vec<FileSurvey>,
    /// Log files in which nothing lives.
    pub spare_files: usize,
    pub frames_past_checkpoint: usize,
}

/// What was read, and what of it cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    pub files: usize,
    pub frames: u64,
    pub chunks: u64,
    pub records: u64,
    pub bytes: u64,
    /// Records that are declared lost already and wait to land as gaps.
    pub gap_records: u64,
    /// A line for each thing that is damaged; none where the journal is sound.
    pub damage: Vec<String>,
}

/// The index, and every log file of its store.
struct Loaded {
    state: State,
    files: BTreeMap<u64, OpenLogFile>,
    slots: usize,
    replay: Replay,
}

/// `None` where there is no index to load.
fn load(medium: &dyn Medium, limits: Limits) -> Result<Option<Loaded>, OpenError> {
    let database = medium.open_database()?;
    let Some(state) = tables::load(&database)? else {
        return Ok(None);
    };
    let slots = medium.slots()?;
    let mut files = BTreeMap::new();
    for slot in &slots {
        let file = medium.open(*slot)?;
        let header = read_header(&*file);
        if let Some(header) = header.filter(|header| header.store_id == state.meta.store_id) {
            let (slot, bytes) = (*slot, limits.log_file_bytes);
            let open = OpenLogFile {
                slot,
                header,
                file,
                bytes,
            };
            files.insert(header.sequence, open);
        }
    }
    let replay = find_frames(state.meta.tail, &files);
    Ok(Some(Loaded {
        state,
        files,
        slots: slots.len(),
        replay,
    }))
}

/// What the journal on `medium` holds; `None` where there is none.
pub fn survey(medium: &dyn Medium, limits: Limits) -> Result<Option<Survey>, OpenError> {
    let Some(mut loaded) = load(medium, limits)? else {
        return Ok(None);
    };
    let frames_past_checkpoint = loaded.replay.frames.len();
    for found in &loaded.replay.frames {
        // As far as it goes: what an opening would declare lost is not said here.
        for (file, entry, body_at) in found.entries() {
            if loaded.state.apply(&entry, file, body_at).is_err() {
                break;
            }
        }
    }
    let state = &loaded.state;
    let files = state.files.iter().map(|(sequence, file)| {
        let runs = state.streams.values().flat_map(|stream| &stream.runs);
        let runs = runs.filter(|run| run.file == *sequence);
        FileSurvey {
            sequence: *sequence,
            slot: file.slot,
            used_bytes: file.used,
            streams: file.runs,
            living_bytes: runs.map(|run| run.bytes).sum(),
            damaged: file.damaged,
        }
    });
    let files: Vec<FileSurvey> = files.collect();
    Ok(Some(Survey {
        store_id: state.meta.store_id,
        time_ms: state.meta.time.0,
        streams: state
            .streams
            .keys()
            .filter_map(|id| status(state, *id))
            .collect(),
        spare_files: loaded.slots.saturating_sub(files.len()),
        files,
        frames_past_checkpoint,
    }))
}

/// Reads every frame and every chunk.
pub fn verify(medium: &dyn Medium, limits: Limits) -> Result<Verification, OpenError> {
    let mut verification = Verification::default();
    let Some(loaded) = load(medium, limits)? else {
        let why = "there is no index, or nothing in it".to_owned();
        verification.damage.push(why);
        return Ok(verification);
    };
    let mut reading = Reading {
        verification,
        ends: BTreeMap::new(),
        found: BTreeMap::new(),
    };
    for (sequence, file) in &loaded.state.files {
        let open = loaded.files.get(sequence);
        match open.filter(|open| open.slot == file.slot) {
            Some(open) => reading.read_file(open, file.used as usize)?,
            None => reading.damaged(format!("log file {sequence} is missing")),
        }
    }
    for found in &loaded.replay.frames {
        reading.verification.frames += 1;
        for (file, entry, body_at) in found.entries() {
            match entry {
                Entry::Chunk(chunk) => reading.read_chunk(file, body_at, &chunk),
                Entry::Copied(copied) => reading.read_copy(file, body_at, &copied.chunk),
                _ => {}
            }
        }
    }
    for note in loaded.replay.notes {
        reading.damaged(note);
    }
    reading.compare(&loaded.state);
    let gaps = loaded
        .state
        .streams
        .values()
        .flat_map(|stream| &stream.gaps);
    reading.verification.gap_records = gaps.map(crate::Gap::records).sum();
    Ok(reading.verification)
}

struct Reading {
    verification: Verification,
    /// Where each stream's newest chunk ends, and the hash there.
    ends: BTreeMap<StreamId, (EdgeOffset, BoundaryHash)>,
    /// Intervals that were found whole, by stream and file.
    found: BTreeMap<(StreamId, u64), Vec<(EdgeOffset, EdgeOffset)>>,
}

impl Reading {
    fn damaged(&mut self, why: String) {
        self.verification.damage.push(why);
    }

    fn read_file(&mut self, file: &OpenLogFile, end: usize) -> io::Result<()> {
        let sequence = file.header.sequence;
        self.verification.files += 1;
        let (mut at, mut is_bad) = (LOG_FILE_HEADER_BYTES, false);
        while at < end {
            let frame = match file.good_frame(at) {
                Ok(frame) => frame,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(error),
                Err(_) => None,
            };
            let Some((header, entries)) = frame else {
                if !std::mem::replace(&mut is_bad, true) {
                    self.damaged(format!(
                        "log file {sequence} is damaged at byte {at}: no good frame is there"
                    ));
                }
                at += FRAME_ALIGN_BYTES;
                continue;
            };
            is_bad = false;
            self.verification.frames += 1;
            self.verification.bytes += header.bytes as u64;
            self.read_entries(sequence, at, &entries);
            at += frame::aligned(header.bytes);
        }
        Ok(())
    }

    fn read_entries(&mut self, file: u64, at: usize, entries: &[RawEntry]) {
        for raw in entries {
            match Entry::decode(raw) {
                Ok(Entry::Chunk(chunk)) => self.read_chunk(file, at + raw.body_at, &chunk),
                Ok(Entry::Copied(copied)) => self.read_copy(file, at + raw.body_at, &copied.chunk),
                Ok(_) => {}
                Err(error) => {
                    self.damaged(format!("log file {file} is damaged at byte {at}: {error}"));
                }
            }
        }
    }

    fn read_chunk(&mut self, file: u64, at: usize, chunk: &ChunkEntry) {
        self.verification.chunks += 1;
        match count_records(chunk) {
            Ok(records) => self.verification.records += records,
            Err(why) => {
                let place = format!("log file {file} is damaged at byte {at}");
                return self.damaged(format!("{place}: {why}"));
            }
        }
        let (from, to) = (
            chunk.base_offset,
            chunk.base_offset.plus(u64::from(chunk.count)),
        );
        let before = self.ends.get(&chunk.stream);
        if before.is_some_and(|(end, hash)| *end == from && *hash != chunk.hash_before) {
            let stream = chunk.stream;
            self.damaged(format!(
                "stream {stream} is damaged at offset {from}: the hash does not continue its chain"
            ));
        }
        let hash = hash_after(chunk.hash_before, &chunk.batch);
        self.ends.insert(chunk.stream, (to, hash));
        self.note(chunk.stream, file, from, to);
    }

    /// A copy: it stands outside the order in which chunks were made.
    fn read_copy(&mut self, file: u64, at: usize, chunk: &ChunkEntry) {
        match count_records(chunk) {
            Ok(_) => {
                let from = chunk.base_offset;
                self.note(chunk.stream, file, from, from.plus(u64::from(chunk.count)));
            }
            Err(why) => self.damaged(format!("log file {file} is damaged at byte {at}: {why}")),
        }
    }

    fn note(&mut self, stream: StreamId, file: u64, from: EdgeOffset, to: EdgeOffset) {
        let found = self.found.entry((stream, file)).or_default();
        match found.last_mut().filter(|(_, end)| *end == from) {
            Some((_, end)) => *end = to,
            None => found.push((from, to)),
        }
    }

    /// What the index says must have been found, but for what is declared lost.
    fn compare(&mut self, state: &State) {
        for (id, stream) in &state.streams {
            for run in stream.runs.iter().filter(|run| !run.is_empty()) {
                let found = self.found.get(&(*id, run.file));
                let mut at = run.first;
                while at < run.next {
                    let piece = found.and_then(|found| {
                        let mut found = found.iter();
                        found.find(|(from, to)| *from <= at && at < *to)
                    });
                    match (piece, stream.gap_at(at)) {
                        (_, Some(gap)) => at = gap.to,
                        (Some((_, to)), None) => at = *to,
                        (None, None) => {
                            let (name, file) = (&stream.name, run.file);
                            self.verification.damage.push(format!(
                                "stream {name}: offset {at} is not in log file {file}"
                            ));
                            break;
                        }
                    }
                }
            }
        }
    }
}

fn count_records(chunk: &ChunkEntry) -> Result<u64, String> {
    let batch = Batch::parse(chunk.batch.clone()).map_err(|error| error.to_string())?;
    let records = batch.records().map_err(|error| error.to_string())?;
    let mut count = 0;
    for record in records {
        record.map_err(|error| error.to_string())?;
        count += 1;
    }
    match count == u64::from(chunk.count) {
        true => Ok(count),
        false => Err(format!("{count} records are there, not {}", chunk.count)),
    }
}
