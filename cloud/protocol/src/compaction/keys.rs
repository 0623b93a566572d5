//! Which offset is the latest of each key, as far as a pass over a partition has come: what compaction
//! decides by. It holds a hash of each key (128 bits, seeded, so that nobody can make two keys meet) and no
//! more keys than it may; where it is full, the pass ends.

use std::collections::BTreeMap;

use tidegate_shared::id::KafkaOffset;
use tidegate_shared::record::{BATCH_RECORDS_BYTES_MAX, Batch, BatchError};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::checked_records;

/// What has become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    Yes,
    /// There may be no room for its keys; the map covers what was before it.
    Full,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct KeyMap {
    latest: BTreeMap<u128, i64>,
    keys_max: usize,
    seed: u64,
    covers_to: KafkaOffset,
}

impl KeyMap {
    /// `seed` is a random number.
    pub fn new(keys_max: usize, seed: u64) -> Self {
        Self {
            latest: BTreeMap::new(),
            keys_max,
            seed,
            covers_to: KafkaOffset(0),
        }
    }

    /// Notes all keys of a batch, or none. Batches come in the partition's order. A first batch is noted
    /// also where it has too many keys, so that each pass gets on.
    ///
    /// Records of a transaction that was aborted, or is still open, do not count: the pass leaves out the
    /// former, and ends before the latter.
    ///
    /// # Errors
    /// The batch cannot be read; nothing is noted. Passed over, it keeps older records of its keys alive.
    pub fn note(&mut self, batch: &Batch) -> Result<Noted, BatchError> {
        let header = batch.header();
        let end = header.base_offset.checked_add(header.offset_count() as i64);
        let covers_to = end.ok_or(BatchError::Contradiction("offsets"))?;
        // Control records have keys of their own kind.
        if !header.is_control() {
            let count = header.records_count as usize;
            if !self.latest.is_empty() && self.latest.len() + count > self.keys_max {
                return Ok(Noted::Full);
            }
            for record in checked_records(batch, BATCH_RECORDS_BYTES_MAX)? {
                let (offset, record) = record?;
                if let Some(key) = record.key {
                    let latest = self.latest.entry(hash(&key, self.seed)).or_insert(offset);
                    *latest = offset.max(*latest);
                }
            }
        }
        self.covers_to = self.covers_to.max(KafkaOffset(covers_to));
        Ok(Noted::Yes)
    }

    /// The offset behind the last batch that was noted: the map says nothing of what lies from there on.
    pub fn covers_to(&self) -> KafkaOffset {
        self.covers_to
    }

    /// Keys that are held.
    pub fn len(&self) -> usize {
        self.latest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }

    /// Whether a record with the same key is known behind `offset`.
    pub(super) fn is_outdone(&self, key: &[u8], offset: i64) -> bool {
        let latest = self.latest.get(&hash(key, self.seed));
        latest.is_some_and(|latest| *latest > offset)
    }
}

fn hash(key: &[u8], seed: u64) -> u128 {
    xxh3_128_with_seed(key, seed)
}
