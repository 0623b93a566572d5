//! A partition's index: which batch lies where, found by offset and by time.
//!
//! It is rebuilt from the ledger's effects when the log is replayed, so it is never wrong where the
//! log is right. It holds places, not bytes.

use tidegate_shared::id::KafkaOffset;

/// Where a batch lies in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The log file's sequence number.
    pub file: u64,
    /// Bytes from the file's start.
    pub position: u64,
}

/// One batch of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub base_offset: KafkaOffset,
    /// Offsets that the batch covers; at least 1.
    pub count: u64,
    /// The whole batch, header included.
    pub batch_bytes: u32,
    pub max_timestamp_ms: i64,
    /// When it landed, by the ledger's time.
    pub landed_ms: i64,
    pub address: Address,
}

impl IndexEntry {
    /// The offset after the batch's last.
    pub fn end(&self) -> KafkaOffset {
        self.base_offset.plus(self.count as i64)
    }
}

/// All batches of a partition, in the order of their offsets.
#[derive(Clone, Debug, Default)]
pub struct PartitionIndex {
    entries: Vec<IndexEntry>,
    /// For each entry the greatest timestamp up to and including it: it never falls, so that time
    /// can be searched although batches of an edge that was offline come late.
    time_so_far: Vec<i64>,
}

impl PartitionIndex {
    /// An index without batches.
    pub const EMPTY: Self = Self {
        entries: Vec::new(),
        time_so_far: Vec::new(),
    };

    /// # Panics
    /// When the entry does not follow the last one: the ledger assigns dense offsets.
    pub fn push(&mut self, entry: IndexEntry) {
        if let Some(last) = self.entries.last() {
            assert_eq!(last.end(), entry.base_offset, "offsets are dense");
        }
        let before = self.time_so_far.last().copied().unwrap_or(i64::MIN);
        self.time_so_far.push(before.max(entry.max_timestamp_ms));
        self.entries.push(entry);
    }

    /// The batches from the one that holds `offset` on; empty at or past the end.
    pub fn from_offset(&self, offset: KafkaOffset) -> &[IndexEntry] {
        let first = self.entries.partition_point(|entry| entry.end() <= offset);
        &self.entries[first..]
    }

    /// The first batch with a record at `timestamp_ms` or later.
    pub fn at_time(&self, timestamp_ms: i64) -> Option<&IndexEntry> {
        let first = self
            .time_so_far
            .partition_point(|time| *time < timestamp_ms);
        self.entries.get(first)
    }

    /// The first batch that holds the greatest timestamp.
    pub fn at_max_time(&self) -> Option<&IndexEntry> {
        self.at_time(*self.time_so_far.last()?)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(batches: &[(u64, i64)]) -> PartitionIndex {
        let mut index = PartitionIndex::default();
        let mut next = KafkaOffset(0);
        for (count, max_timestamp_ms) in batches {
            let entry = IndexEntry {
                base_offset: next,
                count: *count,
                batch_bytes: 100,
                max_timestamp_ms: *max_timestamp_ms,
                landed_ms: 0,
                address: Address::default(),
            };
            next = entry.end();
            index.push(entry);
        }
        index
    }

    #[test]
    fn an_offset_inside_a_batch_finds_the_whole_batch() {
        let index = index(&[(5, 0), (5, 0), (5, 0)]);
        let found = |offset| index.from_offset(KafkaOffset(offset)).len();
        assert_eq!(
            (found(0), found(4), found(5), found(14), found(15)),
            (3, 3, 2, 1, 0)
        );
    }

    proptest! {
        #[test]
        fn time_finds_the_first_batch_that_reaches_it(
            batches in proptest::collection::vec((1u64..5, 0i64..20), 0..20),
            wanted in 0i64..25,
        ) {
            let index = index(&batches);
            let expected = index.entries.iter().find(|entry| entry.max_timestamp_ms >= wanted);
            prop_assert_eq!(index.at_time(wanted), expected);
            let greatest = index.entries.iter().map(|entry| entry.max_timestamp_ms).max();
            prop_assert_eq!(index.at_max_time().map(|entry| entry.max_timestamp_ms), greatest);
        }
    }
}
