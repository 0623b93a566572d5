//! A segment's index in memory: which batches answer an offset, a time, or a question of the offset map,
//! and where they lie. Whoever asks fetches them.

use bytes::Bytes;
use tidegate_shared::id::KafkaOffset;

use super::{DamagedBatch, Footer, SegmentEntry, SegmentError, SegmentFacts, encoding};
use crate::ledger::Target;

/// See the module.
#[derive(Clone, Debug)]
pub struct SegmentIndex {
    target: Target,
    base: KafkaOffset,
    end: KafkaOffset,
    entries: Vec<SegmentEntry>,
    /// For each entry the greatest timestamp up to and including it: it never falls, so that time can be
    /// searched although batches of an edge that was offline come late.
    time_so_far: Vec<i64>,
    facts: SegmentFacts,
}

/// Batches that lie back to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    pub entries: &'a [SegmentEntry],
    /// Bytes from the segment's start; 0 where there are no entries.
    pub position: u64,
    pub bytes: u64,
}

impl<'a> Run<'a> {
    fn of(entries: &'a [SegmentEntry]) -> Self {
        let position = entries.first().map_or(0, |first| first.position);
        let end = entries
            .last()
            .map_or(0, |last| last.position + u64::from(last.batch_bytes));
        Self {
            entries,
            position,
            bytes: end - position,
        }
    }

    /// Takes the run's bytes apart into batches, each checked against its CRC.
    pub fn batches(
        &self,
        bytes: &Bytes,
    ) -> impl Iterator<Item = (&'a SegmentEntry, Result<Bytes, DamagedBatch>)> {
        let start = self.position;
        self.entries.iter().map(move |entry| {
            let from = (entry.position - start) as usize;
            let to = from + entry.batch_bytes as usize;
            let batch = (to <= bytes.len()).then(|| bytes.slice(from..to));
            let batch = batch.filter(|batch| entry.holds(batch));
            (entry, batch.ok_or_else(|| DamagedBatch::of(entry)))
        })
    }
}

impl SegmentIndex {
    /// Reads index and footer from a segment's last bytes; `tail` may be more of it, or all.
    ///
    /// # Errors
    /// `TailShort` says how many are needed; anything else is damage, or not a segment.
    pub fn decode(tail: &[u8], segment_bytes: u64) -> Result<Self, SegmentError> {
        let footer = Footer::decode(tail, segment_bytes)?;
        let (needed, given) = (footer.tail_bytes(), tail.len() as u64);
        let Some(from) = given.checked_sub(needed) else {
            return Err(SegmentError::TailShort { needed, given });
        };
        // Both fit: they are parts of what is in memory.
        let tail = &tail[from as usize..];
        let index = &tail[..footer.index_bytes as usize];
        let (stored, computed) = (footer.index_crc, crc32c::crc32c(index));
        if stored != computed {
            let part = "the index";
            return Err(SegmentError::Crc {
                part,
                stored,
                computed,
            });
        }
        encoding::decode(index, &footer)
    }

    pub(super) fn new(
        target: Target,
        (base, end): (KafkaOffset, KafkaOffset),
        entries: Vec<SegmentEntry>,
        facts: SegmentFacts,
    ) -> Self {
        let mut greatest = i64::MIN;
        let so_far = entries.iter().map(|entry| {
            greatest = greatest.max(entry.max_timestamp_ms);
            greatest
        });
        Self {
            target,
            base,
            end,
            time_so_far: so_far.collect(),
            entries,
            facts,
        }
    }

    pub fn target(&self) -> Target {
        self.target
    }

    /// The first offset that the segment covers.
    pub fn base(&self) -> KafkaOffset {
        self.base
    }

    /// The offset after the last that the segment covers.
    pub fn end(&self) -> KafkaOffset {
        self.end
    }

    pub fn entries(&self) -> &[SegmentEntry] {
        &self.entries
    }

    pub fn facts(&self) -> &SegmentFacts {
        &self.facts
    }

    /// The batches from the one that holds `offset` on, or, where it was compacted away, from the next
    /// one on.
    pub fn from_offset(&self, offset: KafkaOffset) -> &[SegmentEntry] {
        let first = self.entries.partition_point(|entry| entry.end() <= offset);
        &self.entries[first..]
    }

    /// The batches from `offset` on that fit into `bytes_max`; the first one also where it does not, if
    /// `always_one` (KIP-74).
    pub fn run_from(&self, offset: KafkaOffset, bytes_max: u64, always_one: bool) -> Run<'_> {
        let offered = self.from_offset(offset);
        let Some(first) = offered.first() else {
            return Run::of(&[]);
        };
        let fits = offered.partition_point(|entry| {
            entry.position - first.position + u64::from(entry.batch_bytes) <= bytes_max
        });
        Run::of(&offered[..fits.max(usize::from(always_one))])
    }

    /// All batches of `[from, to)`, whole.
    pub fn run_within(&self, from: KafkaOffset, to: KafkaOffset) -> Run<'_> {
        let offered = self.from_offset(from);
        let count = offered.partition_point(|entry| entry.base_offset < to);
        Run::of(&offered[..count])
    }

    /// The first batch with a record at `timestamp_ms` or later.
    pub fn at_time(&self, timestamp_ms: i64) -> Option<&SegmentEntry> {
        let first = self
            .time_so_far
            .partition_point(|time| *time < timestamp_ms);
        self.entries.get(first)
    }

    /// The first batch that holds the greatest timestamp.
    pub fn at_max_time(&self) -> Option<&SegmentEntry> {
        self.at_time(*self.time_so_far.last()?)
    }

    /// Bytes in memory, without the sources' names.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<SegmentEntry>()
            + self.time_so_far.capacity() * size_of::<i64>()
            + self.facts.bytes()
    }
}
