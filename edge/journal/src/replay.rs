//! The frames past the checkpoint: finding them, over damage where there is some, and writing them
//! again to a fresh file.
//!
//! They are written again because what a reader sees after a crash need not be on the medium: after
//! an fsync that failed, the page cache shows what the medium never got.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{Position, StreamId};

use crate::entry::{ChunkEntry, Entry, GAP_TAG, LandedEntry};
use crate::frame::{self, ENTRY_HEADER_BYTES, FRAME_HEADER_BYTES, FrameBuilder, RawEntry};
use crate::gap::{Gap, GapEntry};
use crate::journal::{Journal, lock};
use crate::limits::{FRAME_ALIGN_BYTES, LOG_FILE_HEADER_BYTES};
use crate::log_file::OpenLogFile;
use crate::open::{OpenError, OpenReport};
use crate::pool::Need;
use crate::state::{State, Tail};
use crate::topics::TopicKeys;

/// A frame past the checkpoint, as it was found.
pub(crate) struct Found {
    file: u64,
    at: usize,
    next_position: Position,
    entries: Vec<RawEntry>,
}

impl Found {
    /// Its entries that can be read, each with where it lies: file, and the body's byte.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, Entry, usize)> + '_ {
        let decoded = self.entries.iter().map(|raw| {
            let entry = Entry::decode(raw).ok()?;
            Some((self.file, entry, self.at + raw.body_at))
        });
        decoded.flatten()
    }
}

/// What was found.
#[derive(Default)]
pub(crate) struct Replay {
    pub frames: Vec<Found>,
    /// Files with damage in them, and what each has.
    pub damaged: BTreeSet<u64>,
    pub notes: Vec<String>,
}

impl Replay {
    /// Streams of which something was dropped past the checkpoint.
    pub(crate) fn streams_that_dropped(&self) -> BTreeSet<StreamId> {
        let raw = self.frames.iter().flat_map(|frame| &frame.entries);
        let gaps = raw.filter(|raw| raw.tag == GAP_TAG);
        let streams = gaps.filter_map(|raw| match Entry::decode(raw) {
            Ok(Entry::Gap(gap)) => Some(gap.stream),
            _ => None,
        });
        streams.collect()
    }

    fn note(&mut self, file: u64, at: usize, why: &str) {
        self.damaged.insert(file);
        self.notes
            .push(format!("log file {file} is damaged at byte {at}: {why}"));
    }
}

/// The frames that follow the checkpoint, file after file, up to the tail. A bad frame with a good
/// one behind it is damage: what lies between is passed over, and noted.
pub(crate) fn find_frames(tail: Tail, files: &BTreeMap<u64, OpenLogFile>) -> Replay {
    let mut replay = Replay::default();
    let (mut sequence, mut at, mut crc) = (tail.file, tail.at as usize, tail.crc);
    loop {
        if let Some(file) = files.get(&sequence) {
            crc = find_in_file(file, at, crc, &mut replay);
        }
        // A file is begun only after the frames before it are durable, so it must follow on.
        let mut later = files.range(sequence + 1..);
        let Some((next, file)) = later.find(|(_, file)| !file.header.rewritten) else {
            return replay;
        };
        if *next != sequence + 1 || file.header.previous_crc != crc {
            replay.note(sequence, at, "the file that follows does not continue it");
        }
        (sequence, at, crc) = (*next, LOG_FILE_HEADER_BYTES, file.header.previous_crc);
    }
}

/// Returns the last good frame's CRC.
fn find_in_file(file: &OpenLogFile, mut at: usize, mut crc: u32, replay: &mut Replay) -> u32 {
    let sequence = file.header.sequence;
    while at + FRAME_ALIGN_BYTES <= file.bytes {
        let (header, entries) = match file.good_frame(at) {
            Ok(Some(good)) => good,
            Ok(None) => match file.next_good_frame(at) {
                Ok(Some(next)) => {
                    replay.note(sequence, at, "a good frame follows a bad one");
                    at = next;
                    crc = 0;
                    continue;
                }
                Ok(None) => return crc,
                Err(_) => {
                    at += FRAME_ALIGN_BYTES;
                    continue;
                }
            },
            Err(error) => {
                replay.note(sequence, at, &error.to_string());
                at += FRAME_ALIGN_BYTES;
                continue;
            }
        };
        if header.previous_crc != crc && !replay.damaged.contains(&sequence) {
            replay.note(
                sequence,
                at,
                "the frame before it is not the one it follows",
            );
        }
        let next_position = header.next_position;
        replay.frames.push(Found {
            file: sequence,
            at,
            next_position,
            entries,
        });
        at += frame::aligned(header.bytes);
        crc = header.crc;
    }
    crc
}

impl Journal {
    /// Appends a frame that was found past the checkpoint to the fresh file, and takes it up.
    /// `over_damage`: what is missing before it is lost, and becomes gaps.
    pub(crate) fn rewrite(
        &mut self,
        found: Found,
        over_damage: bool,
        report: &mut OpenReport,
    ) -> Result<(), OpenError> {
        let (file, at) = (found.file, found.at as u32);
        let damaged = |why: String| OpenError::Damaged { file, at, why };
        let mut entries = Vec::with_capacity(found.entries.len());
        for raw in found.entries {
            let entry = Entry::decode(&raw).map_err(|error| damaged(error.to_string()))?;
            entries.push((raw.tag, raw.body, entry));
        }
        if over_damage {
            entries = bridge_holes(&lock(&self.shared).state, entries, report);
        }
        let bytes = entries
            .iter()
            .map(|(_, body, _)| body.len() + ENTRY_HEADER_BYTES);
        let bytes = bytes.sum::<usize>() + FRAME_HEADER_BYTES;
        let is_full = {
            let table = &lock(&self.shared).active_table;
            self.writer.is_full_for(table, bytes, entries.len())
        };
        if is_full {
            self.writer.sync()?;
            self.roll(Need::Freeing, true)?;
        }
        let mut builder = FrameBuilder::new(bytes);
        let mut places = Vec::with_capacity(entries.len());
        for (tag, body, _) in &entries {
            places.push(builder.push(*tag, &[body]));
        }
        let frame_at = self.writer.tail.at as usize;
        self.writer.tail.next_position = found.next_position;
        self.writer.append(builder)?;
        let mut entries: Vec<Entry> = entries.into_iter().map(|(.., entry)| entry).collect();
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
            .map_err(|error| damaged(error.to_string()))
    }
}

type Whole = (u8, Bytes, Entry);

/// Puts a gap before each chunk that does not continue its stream, and leaves out what belongs to
/// streams that nothing is known of.
fn bridge_holes(state: &State, entries: Vec<Whole>, report: &mut OpenReport) -> Vec<Whole> {
    let mut bridged = Vec::with_capacity(entries.len());
    let mut new = BTreeSet::new();
    for (tag, body, entry) in entries {
        let known = |id: &StreamId| state.streams.contains_key(id) || new.contains(id);
        match &entry {
            Entry::Stream { stream, .. } => drop(new.insert(*stream)),
            Entry::Chunk(chunk) if !known(&chunk.stream) => {
                report.records_lost += u64::from(chunk.count);
                continue;
            }
            Entry::Chunk(chunk) => bridged.extend(hole_before(state, chunk).map(|gap| {
                let entry = Entry::Gap(gap);
                let (tag, body) = entry.encode();
                (tag, body.freeze(), entry)
            })),
            Entry::Granted { stream, .. } | Entry::Landed(LandedEntry { stream, .. })
                if !known(stream) =>
            {
                continue;
            }
            Entry::Gap(gap) if !known(&gap.stream) => continue,
            Entry::Copied(copied) if !known(&copied.chunk.stream) => continue,
            _ => {}
        }
        bridged.push((tag, body, entry));
    }
    bridged
}

fn hole_before(state: &State, chunk: &ChunkEntry) -> Option<GapEntry> {
    let (next, hash) = match state.streams.get(&chunk.stream) {
        Some(stream) => (stream.next, stream.hash),
        None => Default::default(),
    };
    (chunk.base_offset > next).then(|| GapEntry {
        stream: chunk.stream,
        gap: Gap {
            from: next,
            to: chunk.base_offset,
            reason: GapReason::Damaged,
            hash_before: hash,
            hash_after: chunk.hash_before,
        },
        died: (0, 0),
        boundaries: Vec::new(),
    })
}
