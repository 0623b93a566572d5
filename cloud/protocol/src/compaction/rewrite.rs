//! Compaction of one batch after the other: takes out records that a later one of the same key has outdone,
//! and tombstones whose time is over.
//!
//! A tombstone stays at least `delete.retention.ms` from the pass on that first found it to be the latest
//! of its key, so that a consumer which has read an older value still comes to it: that pass writes the
//! delete horizon into the batch.

use bytes::Bytes;
use tidegate_shared::record::{
    BATCH_RECORDS_BYTES_MAX, Batch, BatchError, BatchHeader, BatchRewriter, Compressor, Record,
    Records, TimestampType,
};

use super::{KeyMap, checked_records};

/// What has become of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// It stays as it is, to the byte.
    Unchanged,
    Rewritten {
        bytes: Bytes,
        /// `None` where no record is left, and the header is kept.
        min_timestamp_ms: Option<i64>,
    },
    /// Nothing is left of it.
    Gone,
}

/// What a pass has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionStats {
    pub batches: u64,
    pub batches_rewritten: u64,
    pub batches_gone: u64,
    pub records: u64,
    /// Outdone by a later record of the same key.
    pub records_outdone: u64,
    pub tombstones_gone: u64,
    /// Without a key: they stay.
    pub records_without_key: u64,
    pub bytes: u64,
    pub bytes_left: u64,
}

/// One pass over a partition, at one time.
#[derive(Debug)]
pub struct Compactor<'a> {
    keys: &'a KeyMap,
    now_ms: i64,
    delete_retention_ms: i64,
    compressor: Compressor,
    stats: CompactionStats,
}

/// What a batch's records say before it is rewritten.
#[derive(Default)]
struct Found {
    stays: u64,
    goes: u64,
    has_tombstone: bool,
    first_timestamp_ms: Option<i64>,
    min_timestamp_ms: Option<i64>,
}

/// A record's fate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    StaysAsTombstone,
    Outdone,
    Over,
}

impl<'a> Compactor<'a> {
    /// A pass at `now_ms` that knows `keys`. `delete_retention_ms` is the topic's `delete.retention.ms`.
    pub fn new(keys: &'a KeyMap, now_ms: i64, delete_retention_ms: i64) -> Self {
        Self {
            keys,
            now_ms,
            delete_retention_ms,
            compressor: Compressor::new(),
            stats: CompactionStats::default(),
        }
    }

    /// Rewrites one batch. `keep_empty` keeps the header of one that would be gone.
    ///
    /// # Errors
    /// The batch cannot be read: it is to stay as it is.
    pub fn compact(&mut self, batch: &Batch, keep_empty: bool) -> Result<Compacted, BatchError> {
        let header = batch.header();
        let end = header
            .base_offset
            .saturating_add(header.offset_count() as i64);
        let compacted = match header.is_control() || end > self.keys.covers_to().0 {
            true => Compacted::Unchanged,
            false => self.rewrite(batch, keep_empty)?,
        };
        let stats = &mut self.stats;
        stats.batches += 1;
        stats.bytes += batch.bytes().len() as u64;
        stats.bytes_left += match &compacted {
            Compacted::Unchanged => batch.bytes().len() as u64,
            Compacted::Rewritten { bytes, .. } => bytes.len() as u64,
            Compacted::Gone => 0,
        };
        stats.batches_rewritten += u64::from(matches!(compacted, Compacted::Rewritten { .. }));
        stats.batches_gone += u64::from(compacted == Compacted::Gone);
        Ok(compacted)
    }

    pub fn stats(&self) -> &CompactionStats {
        &self.stats
    }

    fn rewrite(&mut self, batch: &Batch, keep_empty: bool) -> Result<Compacted, BatchError> {
        let header = batch.header();
        let records = checked_records(batch, BATCH_RECORDS_BYTES_MAX)?;
        let found = self.look_through(header, records.clone())?;
        let begins_horizon = found.has_tombstone && header.delete_horizon_ms().is_none();
        if found.stays == 0 && !keep_empty {
            return Ok(Compacted::Gone);
        }
        if found.goes == 0 && !begins_horizon {
            return Ok(Compacted::Unchanged);
        }
        let mut kept = header.clone();
        if begins_horizon {
            kept.set_delete_horizon_ms(self.now_ms.saturating_add(self.delete_retention_ms));
        } else if let Some(first_ms) = found.first_timestamp_ms
            && header.delete_horizon_ms().is_none()
        {
            kept.base_timestamp_ms = first_ms;
        }
        let mut rewriter = BatchRewriter::new(kept);
        for record in records {
            let (offset, record) = record?;
            if matches!(
                self.fate(header, offset, &record),
                Fate::Stays | Fate::StaysAsTombstone
            ) {
                rewriter.push(offset, &record);
            }
        }
        let last_offset = header.base_offset + i64::from(header.last_offset_delta);
        let bytes = rewriter.seal(last_offset, batch.compression()?, &mut self.compressor);
        let is_own_time = header.timestamp_type() == TimestampType::LogAppendTime;
        let min_timestamp_ms = match is_own_time {
            true => found.min_timestamp_ms.map(|_| header.max_timestamp_ms),
            false => found.min_timestamp_ms,
        };
        Ok(Compacted::Rewritten {
            bytes,
            min_timestamp_ms,
        })
    }

    fn look_through(
        &mut self,
        header: &BatchHeader,
        records: Records,
    ) -> Result<Found, BatchError> {
        let mut found = Found::default();
        for record in records {
            let (offset, record) = record?;
            let fate = self.fate(header, offset, &record);
            self.stats.records += 1;
            self.stats.records_without_key += u64::from(record.key.is_none());
            self.stats.records_outdone += u64::from(fate == Fate::Outdone);
            self.stats.tombstones_gone += u64::from(fate == Fate::Over);
            if matches!(fate, Fate::Outdone | Fate::Over) {
                found.goes += 1;
                continue;
            }
            let time = record.timestamp_ms;
            found.stays += 1;
            found.has_tombstone |= fate == Fate::StaysAsTombstone;
            found.first_timestamp_ms = found.first_timestamp_ms.or(Some(time));
            let least = found.min_timestamp_ms.map_or(time, |least| least.min(time));
            found.min_timestamp_ms = Some(least);
        }
        Ok(found)
    }

    fn fate(&self, header: &BatchHeader, offset: i64, record: &Record) -> Fate {
        let Some(key) = &record.key else {
            return Fate::Stays;
        };
        if self.keys.is_outdone(key, offset) {
            return Fate::Outdone;
        }
        let horizon_ms = header.delete_horizon_ms();
        match &record.value {
            Some(_) => Fate::Stays,
            None if horizon_ms.is_some_and(|horizon_ms| horizon_ms <= self.now_ms) => Fate::Over,
            None => Fate::StaysAsTombstone,
        }
    }
}
