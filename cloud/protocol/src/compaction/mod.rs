//! Rewriting batches: compaction by key (`cleanup.policy=compact`), and the merging of tiny neighbours. All
//! else hands batches on as they landed. What it makes has the records' offsets, timestamps, keys, values
//! and headers as they were; which batches to read, and where the new ones go, is the broker's business.
//!
//! Facts are about offsets, not records: whoever writes the new segment keeps them all, also those of
//! records that are gone (`SegmentWriter::push_facts`).
//!
//! Sources: Kafka documentation, "Log Compaction"; KIP-534 (delete horizon). Different here:
//! - A record without a key, which a compacted topic does not take, stays if it is there (a topic may have
//!   become a compacted one); Kafka drops it.
//! - A batch that the keys' map covers only in part stays as it is until a later pass.
//! - What becomes of producers is known to the ledger, so an emptied batch is needed by nobody. Where Kafka
//!   keeps one for the last sequence of a producer, the caller may ask for the same (`keep_empty`).

mod keys;
mod merge;
mod rewrite;
#[cfg(test)]
mod tests;

use tidegate_shared::record::{Batch, BatchError, Records};

pub use keys::{KeyMap, Noted};
pub use merge::{MergeLimits, Merged, Merger};
pub use rewrite::{Compacted, CompactionStats, Compactor};

/// Unpacks a batch of which all records are read, lie in order within its offsets, and are as many as its
/// header says: what is not so is not rewritten.
fn checked_records(batch: &Batch, bytes_max: usize) -> Result<Records, BatchError> {
    let records = batch.records_within(bytes_max)?;
    let header = batch.header();
    let last_offset = header
        .base_offset
        .checked_add(header.last_offset_delta.into())
        .ok_or(BatchError::Contradiction("offsets"))?;
    let mut next = header.base_offset;
    for record in records.clone() {
        let (offset, _) = record?;
        if offset < next || offset > last_offset {
            return Err(BatchError::Contradiction("offsets"));
        }
        next = offset.saturating_add(1);
    }
    Ok(records)
}
