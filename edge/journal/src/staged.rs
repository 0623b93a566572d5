//! What the next commit will hold: a batch builder per stream, and the other entries.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tidegate_shared::id::StreamId;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

use crate::entry::{ChunkEntry, Entry, LandedEntry};
use crate::rows::RowEntry;
use crate::state::{State, Tail};
use crate::topics::TopicKeys;

/// Builders of streams that were quiet for a commit are kept for the next, up to this many.
const IDLE_BUILDERS_MAX: usize = 64;

/// What one commit adds to one stream.
#[derive(Debug)]
struct Building {
    stream: StreamId,
    builder: BatchBuilder,
    topics: TopicKeys,
    marks: Vec<u8>,
}

/// One byte where all are the same.
fn packed(mut marks: Vec<u8>) -> Bytes {
    if marks.windows(2).all(|pair| pair[0] == pair[1]) {
        marks.truncate(1);
    }
    marks.into()
}

/// When an operation on a row is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowCommit {
    /// With the next commit, whoever asks for it.
    Rides,
    /// It asks for a commit.
    Awaited,
    /// It asks for one, and is refused with the commit's records where those find no space.
    WithRecords,
}

#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// In the order in which streams were first written to in this commit.
    builders: Vec<Building>,
    by_stream: HashMap<StreamId, usize>,
    idle: Vec<BatchBuilder>,
    entries: Vec<Entry>,
    /// Somebody waits for one of them.
    awaited: bool,
    /// Places of those that mean nothing without this commit's records, here and as last sealed.
    beside_records: Vec<usize>,
    sealed_beside_records: Vec<usize>,
    /// Landed advances ride along; they ask for no commit of their own.
    landed: BTreeMap<StreamId, LandedEntry>,
    bytes: usize,
    compressor: Compressor,
}

impl Staged {
    pub(crate) fn push_record(&mut self, stream: StreamId, record: &Record, mark: u8) {
        let index = *self.by_stream.entry(stream).or_insert_with(|| {
            self.builders.push(Building {
                stream,
                builder: self.idle.pop().unwrap_or_default(),
                topics: TopicKeys::default(),
                marks: Vec::new(),
            });
            self.builders.len() - 1
        });
        let building = &mut self.builders[index];
        let builder = &mut building.builder;
        let before = if builder.is_empty() {
            0
        } else {
            builder.bytes()
        };
        builder.push(record);
        self.bytes += builder.bytes() + 1 - before;
        building.topics.add(record);
        building.marks.push(mark);
    }

    /// Adds an entry that somebody waits for.
    pub(crate) fn push_entry(&mut self, entry: Entry) {
        if matches!(entry, Entry::Session { .. }) {
            // What landed before it did so in the life of the cloud that was before it.
            self.put_landed();
        }
        self.bytes += 512;
        self.awaited = true;
        self.entries.push(entry);
    }

    pub(crate) fn push_row(&mut self, row: RowEntry, when: RowCommit) {
        self.bytes += row.bytes();
        match when {
            RowCommit::Rides => {}
            RowCommit::Awaited => self.awaited = true,
            RowCommit::WithRecords => {
                self.awaited = true;
                self.beside_records.push(self.entries.len());
            }
        }
        self.entries.push(Entry::Row(row));
    }

    fn put_landed(&mut self) {
        let landed = std::mem::take(&mut self.landed);
        self.entries.extend(landed.into_values().map(Entry::Landed));
    }

    pub(crate) fn push_landed(&mut self, landed: LandedEntry) {
        self.landed.insert(landed.stream, landed);
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
        self.has_records() || self.awaited
    }

    /// Whether anything waits for a commit that others ask for.
    pub(crate) fn has_riders(&self) -> bool {
        !self.entries.is_empty()
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
        self.sealed_beside_records = std::mem::take(&mut self.beside_records);
        self.awaited = false;
        if !self.builders.is_empty() {
            let (time, wall_ms) = (state.meta.time, state.meta.wall_ms);
            sealed.push(Entry::Clock { time, wall_ms });
        }
        let landed = std::mem::take(&mut self.landed);
        sealed.extend(landed.into_values().map(Entry::Landed));
        for building in std::mem::take(&mut self.builders) {
            let (id, mut builder) = (building.stream, building.builder);
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
                topics: building.topics.bits(),
                marks: packed(building.marks),
                batch,
                topic_keys: building.topics,
            }));
            tail.next_position = tail.next_position.plus(u64::from(count));
        }
        self.by_stream.clear();
        self.bytes = 0;
        sealed
    }

    /// Of what was sealed last: how many entries come before the records and what belongs to them.
    pub(crate) fn rows_in_front(&self, entries: &[Entry]) -> usize {
        let beside_records = self.sealed_beside_records.first().copied();
        let is_row = |entry: &Entry| matches!(entry, Entry::Row(_));
        let rows = entries.iter().take_while(|entry| is_row(entry)).count();
        beside_records.map_or(rows, |first| first.min(rows))
    }

    /// So many of the entries that were sealed last are written.
    pub(crate) fn note_written(&mut self, count: usize) {
        for at in &mut self.sealed_beside_records {
            *at -= count;
        }
    }

    /// After a commit that found no space: the records are refused, all else waits for the next.
    pub(crate) fn keep_all_but_records(&mut self, entries: Vec<Entry>) {
        let beside_records = std::mem::take(&mut self.sealed_beside_records);
        for (index, entry) in entries.into_iter().enumerate() {
            match entry {
                Entry::Chunk(_) | Entry::Clock { .. } => {}
                Entry::Row(_) if beside_records.binary_search(&index).is_ok() => {}
                Entry::Row(row) => self.push_row(row, RowCommit::Awaited),
                Entry::Landed(landed) => self.push_landed(landed),
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
