//! The cleaner: copies what lives out of a log file that is partly dead, so that the file can be used
//! again. A copy keeps offsets, position, hash and time: no cursor and no reader notices. It works only
//! when space is wanted, leaves alone what sessions need by position, and takes the file that yields the
//! most for what is copied. By the sizes of its chunks copies must free a part of a file, or it does nothing.

use tidegate_shared::id::StreamId;

use crate::entry::{ChunkEntry, CopiedEntry, Entry, TIME_BYTES};
use crate::frame::{ENTRY_HEADER_BYTES, FRAME_HEADER_BYTES};
use crate::journal::Journal;
use crate::limits::{FRAME_ALIGN_BYTES, LOG_FILE_HEADER_BYTES, Limits};
use crate::log_file::FileTable;
use crate::pool::{Need, PoolError};
use crate::reader::read_chunk;
use crate::state::{ApplyError, RowKey, Run, State};
use crate::topics::TopicKeys;

/// What copies of some runs come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copies {
    bytes: u64,
    chunks: u64,
}

impl Copies {
    pub(crate) fn add(&mut self, run: &Run) {
        self.bytes += run.entry_bytes() + u64::from(run.chunks) * TIME_BYTES as u64;
        self.chunks += u64::from(run.chunks);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    /// What they take of a log file: frames are whole blocks, and hold as many copies as a commit may.
    /// Chunks of one size are assumed.
    fn frame_bytes(&self, limits: &Limits) -> u64 {
        let chunk = self.bytes.div_ceil(self.chunks.max(1)).max(1);
        let in_a_frame = (limits.cleaned_frame_bytes_max() as u64 / chunk).max(1);
        let blocks = |bytes: u64| bytes.next_multiple_of(FRAME_ALIGN_BYTES as u64);
        let frame = blocks(chunk * in_a_frame + FRAME_HEADER_BYTES as u64);
        let rest = self.chunks % in_a_frame;
        let last = blocks(chunk * rest + FRAME_HEADER_BYTES as u64);
        self.chunks / in_a_frame * frame + if rest == 0 { 0 } else { last }
    }

    /// Whether copying them frees enough of a file for what it writes.
    pub(crate) fn pay(&self, limits: &Limits, alive_per_cent_max: u64) -> bool {
        let table = FileTable::frame_bytes_max(limits.log_file_bytes, self.chunks as usize);
        let file = limits.log_file_bytes - LOG_FILE_HEADER_BYTES;
        // At a file's end a frame finds no room: half of one is lost to that.
        let room = file.saturating_sub(table + limits.cleaned_frame_bytes_max() / 2) as u64;
        self.frame_bytes(limits) * 100 <= room * alive_per_cent_max
    }
}

impl Journal {
    /// Empties the log file whose copies take the least, if that is at most `alive_per_cent_max` of it.
    /// Whether there was one.
    pub(crate) fn clean(&mut self, alive_per_cent_max: u64) -> Result<bool, PoolError> {
        let Some((file, runs)) = self.partly_dead(alive_per_cent_max) else {
            return Ok(false);
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (stream, run) in runs {
            let Some(copies) = self.copies_of(stream, &run) else {
                // It is found when it is read; here it is only left alone from now on.
                self.give_up_on(file);
                continue;
            };
            for copied in copies {
                let copied_bytes = ENTRY_HEADER_BYTES + TIME_BYTES + copied.chunk.body_bytes();
                if bytes + copied_bytes > self.limits.cleaned_frame_bytes_max() {
                    self.write_copies(&std::mem::take(&mut entries))?;
                    bytes = 0;
                }
                bytes += copied_bytes;
                self.cleaned_bytes += copied.chunk.living_bytes();
                entries.push(Entry::Copied(copied));
            }
        }
        self.write_copies(&entries)?;
        Ok(true)
    }

    fn write_copies(&mut self, entries: &[Entry]) -> Result<(), PoolError> {
        match entries.is_empty() {
            true => Ok(()),
            false => self.write(entries, Need::Freeing, self.writer.tail.next_position),
        }
    }

    /// The full file whose copies take the least, and its runs.
    fn partly_dead(&self, alive_per_cent_max: u64) -> Option<(u64, Vec<(StreamId, Run)>)> {
        let shared = self.shared();
        let state = &shared.state;
        let may_go = |sequence: &u64| {
            state.files.get(sequence).is_some_and(|file| {
                let needed = file.next_position.0 > state.meta.needed_from.0;
                file.sealed && !file.damaged && file.runs > 0 && !needed
            })
        };
        let mut alive = std::collections::BTreeMap::<u64, Copies>::new();
        for run in state.streams.values().flat_map(|stream| &stream.runs) {
            alive.entry(run.file).or_default().add(run);
        }
        let costs = alive
            .iter()
            .filter(|(file, copies)| copies.pay(&self.limits, alive_per_cent_max) && may_go(file));
        // Of two that cost the same, the older: its data has shown that it stays.
        let (file, _) = costs.min_by_key(|(_, copies)| copies.frame_bytes(&self.limits))?;
        let file = *file;
        let runs = state.streams.iter().flat_map(|(id, stream)| {
            let runs = stream.runs.iter().filter(|run| run.file == file);
            runs.map(|run| (*id, *run))
        });
        Some((file, runs.collect()))
    }

    /// Copies of a run's chunks; `None` where one cannot be read.
    fn copies_of(&self, stream: StreamId, run: &Run) -> Option<Vec<CopiedEntry>> {
        let reader = self.reader();
        let (file, places) = reader.run_of(stream, run.first).ok().flatten()?;
        let mut copies = Vec::with_capacity(places.len());
        for place in places {
            let chunk = read_chunk(&file, stream, &place).ok()?;
            copies.push(CopiedEntry {
                time_s: place.time_s,
                chunk: ChunkEntry {
                    stream,
                    base_offset: chunk.base_offset,
                    count: chunk.count,
                    position: chunk.position,
                    hash_before: chunk.hash_before,
                    previous: (0, 0),
                    topics: place.topics,
                    marks: chunk.marks,
                    batch: chunk.batch,
                    topic_keys: TopicKeys::default(),
                },
            });
        }
        Some(copies)
    }

    fn give_up_on(&mut self, file: u64) {
        let mut shared = self.shared();
        if let Some(state) = shared.state.files.get_mut(&file) {
            state.damaged = true;
            shared.state.dirty.insert(RowKey::File(file));
        }
    }
}

impl State {
    /// Takes up a copy, if its chunk still lives where it was copied from.
    pub(crate) fn apply_copied(
        &mut self,
        copied: &CopiedEntry,
        file: u64,
        body_at: usize,
    ) -> Result<(), ApplyError> {
        let id = copied.chunk.stream;
        let stream = self.streams.get_mut(&id);
        let stream = stream.ok_or(ApplyError::UnknownStream(id))?;
        let base = copied.chunk.base_offset;
        let end = base.plus(u64::from(copied.chunk.count));
        let at = stream.runs.partition_point(|run| run.next <= base);
        // A run gives its chunks away from its front on. When frames are written again while opening,
        // a chunk can lie in the copy's own file: then it stays, and so does what follows it.
        let lives = |run: &&mut Run| run.first == base && end <= run.next && run.file != file;
        let Some(run) = stream.runs.get_mut(at).filter(lives) else {
            return Ok(());
        };
        let bytes = copied.chunk.living_bytes();
        self.dirty.insert(run.row(id));
        run.first = end;
        run.chunks = run.chunks.saturating_sub(1);
        run.bytes = run.bytes.saturating_sub(bytes);
        run.first_time_s = copied.time_s;
        if end == stream.next {
            stream.last_chunk = (file, body_at as u32);
            self.dirty.insert(RowKey::Stream(id));
        }
        if run.first == run.next {
            let emptied = run.file;
            stream.runs.remove(at);
            if let Some(emptied) = self.files.get_mut(&emptied) {
                emptied.runs -= 1;
            }
        }
        let before = at.checked_sub(1).and_then(|at| stream.runs.get_mut(at));
        let continues = |run: &&mut Run| run.copied && run.file == file && run.next == base;
        let copy = match before.filter(continues) {
            Some(run) => {
                self.dirty.insert(run.row(id));
                run.next = end;
                run.chunks += 1;
                run.bytes += bytes;
                run.last_time_s = copied.time_s;
                *run
            }
            None => {
                let run = Run {
                    file,
                    copied: true,
                    first: base,
                    next: end,
                    chunks: 1,
                    bytes,
                    first_time_s: copied.time_s,
                    last_time_s: copied.time_s,
                };
                stream.runs.insert(at, run);
                if let Some(file) = self.files.get_mut(&file) {
                    file.runs += 1;
                }
                run
            }
        };
        self.dirty.insert(copy.row(id));
        Ok(())
    }
}
