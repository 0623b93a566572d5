//! The cleaner: copies what lives out of a log file that is mostly dead, so that the file can be used
//! again. A copy keeps offsets, position, hash and time: no cursor and no reader notices. It works only
//! when space is wanted, and leaves alone what sessions need by position.

use tidegate_shared::id::StreamId;

use crate::entry::{ChunkEntry, CopiedEntry, Entry};
use crate::journal::Journal;
use crate::limits::CLEANED_ALIVE_PER_CENT_MAX;
use crate::pool::{Need, PoolError};
use crate::reader::read_chunk;
use crate::state::{ApplyError, RowKey, Run, State};
use crate::topics::TopicKeys;

impl Journal {
    /// Empties the log file in which the least lives, if that is little. Whether there was one.
    pub(crate) fn clean(&mut self) -> Result<bool, PoolError> {
        let Some((file, runs)) = self.mostly_dead() else {
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
                let copied_bytes = copied.chunk.body_bytes() + 64;
                if bytes + copied_bytes > self.limits.commit_bytes_max {
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

    /// What may live in a file that is mostly dead.
    pub(crate) fn alive_bytes_max(&self) -> u64 {
        self.limits.log_file_bytes as u64 * CLEANED_ALIVE_PER_CENT_MAX / 100
    }

    /// The full file with the least in it, and its runs.
    fn mostly_dead(&self) -> Option<(u64, Vec<(StreamId, Run)>)> {
        let shared = self.shared();
        let state = &shared.state;
        let alive_max = self.alive_bytes_max();
        let may_go = |sequence: &u64| {
            state.files.get(sequence).is_some_and(|file| {
                let needed = file.next_position.0 > state.meta.needed_from.0;
                file.sealed && !file.damaged && file.runs > 0 && !needed
            })
        };
        let mut alive = std::collections::BTreeMap::<u64, u64>::new();
        for run in state.streams.values().flat_map(|stream| &stream.runs) {
            *alive.entry(run.file).or_default() += run.copied_bytes();
        }
        let candidates = alive
            .into_iter()
            .filter(|(file, bytes)| *bytes <= alive_max && may_go(file));
        let (file, _) = candidates.min_by_key(|(_, bytes)| *bytes)?;
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
