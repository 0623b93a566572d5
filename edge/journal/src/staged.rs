//! What the next commit will hold: a batch builder per stream, and the other entries.

use std::collections::{BTreeMap, HashMap};

use tidegate_shared::id::{BoundaryHash, EdgeOffset, StreamId};
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

use crate::entry::{ChunkEntry, Entry};
use crate::state::{State, Tail};

/// Builders of streams that were quiet for a commit are kept for the next, up to this many.
const IDLE_BUILDERS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// In the order in which streams were first written to in this commit.
    builders: Vec<(StreamId, BatchBuilder)>,
    by_stream: HashMap<StreamId, usize>,
    idle: Vec<BatchBuilder>,
    /// Entries that somebody waits for.
    entries: Vec<Entry>,
    /// Landed advances ride along; they ask for no commit of their own.
    landed: BTreeMap<StreamId, (EdgeOffset, BoundaryHash)>,
    bytes: usize,
    compressor: Compressor,
}

impl Staged {
    pub(crate) fn push_record(&mut self, stream: StreamId, record: &Record) {
        let index = *self.by_stream.entry(stream).or_insert_with(|| {
            self.builders
                .push((stream, self.idle.pop().unwrap_or_default()));
            self.builders.len() - 1
        });
        let builder = &mut self.builders[index].1;
        let before = if builder.is_empty() {
            0
        } else {
            builder.bytes()
        };
        builder.push(record);
        self.bytes += builder.bytes() - before;
    }

    pub(crate) fn push_entry(&mut self, entry: Entry) {
        self.bytes += 512;
        self.entries.push(entry);
    }

    pub(crate) fn push_landed(&mut self, stream: StreamId, landed: EdgeOffset, hash: BoundaryHash) {
        self.landed.insert(stream, (landed, hash));
    }

    /// Bytes that the frame will have, before compression.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn has_records(&self) -> bool {
        !self.builders.is_empty()
    }

    /// Whether anybody waits for a commit.
    pub(crate) fn wants_commit(&self) -> bool {
        self.has_records() || !self.entries.is_empty()
    }

    pub(crate) fn forget_landed(&mut self) {
        self.landed.clear();
    }

    /// Seals everything into entries that follow on `state`, and leaves this empty.
    pub(crate) fn seal(
        &mut self,
        state: &State,
        compression: &HashMap<StreamId, Compression>,
        tail: &mut Tail,
    ) -> Vec<Entry> {
        let mut sealed = std::mem::take(&mut self.entries);
        if !self.builders.is_empty() {
            let (time, wall_ms) = (state.meta.time, state.meta.wall_ms);
            sealed.push(Entry::Clock { time, wall_ms });
        }
        for (stream, (landed, hash)) in std::mem::take(&mut self.landed) {
            sealed.push(Entry::Landed {
                stream,
                landed,
                hash,
            });
        }
        for (id, mut builder) in std::mem::take(&mut self.builders) {
            // A stream that is itself new in this commit is not in the state yet.
            let (base_offset, hash_before, previous) = state
                .streams
                .get(&id)
                .map_or_else(Default::default, |stream| {
                    (stream.next, stream.hash, stream.last_chunk)
                });
            let count = builder.count();
            let wish = compression.get(&id).copied().unwrap_or_default();
            let batch = builder.seal(base_offset.0 as i64, wish, &mut self.compressor);
            if self.idle.len() < IDLE_BUILDERS_MAX {
                self.idle.push(builder);
            }
            sealed.push(Entry::Chunk(ChunkEntry {
                stream: id,
                base_offset,
                count,
                position: tail.next_position,
                hash_before,
                previous,
                batch,
            }));
            tail.next_position = tail.next_position.plus(u64::from(count));
        }
        self.by_stream.clear();
        self.bytes = 0;
        sealed
    }

    /// After a commit that found no space: the records are refused, all else waits for the next.
    pub(crate) fn keep_all_but_records(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Chunk(_) | Entry::Clock { .. } => {}
                Entry::Landed {
                    stream,
                    landed,
                    hash,
                } => self.push_landed(stream, landed, hash),
                entry => self.push_entry(entry),
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        let landed = std::mem::take(&mut self.landed);
        *self = Self {
            landed,
            ..Self::default()
        };
    }
}
