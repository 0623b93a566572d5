//! The batch's 61-byte header: the only part of a batch that the cloud reads.

use std::ops::Range;

use bytes::{Buf, BufMut};

use super::{BatchError, Compression};

/// The header's length.
pub const HEADER_BYTES: usize = 61;

/// The bytes before the field `batch length` starts to count.
pub(super) const LENGTH_OVERHEAD: usize = 12;

/// Where the CRC-32C lies.
pub(super) const CRC_AT: Range<usize> = 17..21;

/// Where the CRC-32C's coverage starts (at the attributes).
pub(super) const CRC_COVERS_FROM: usize = 21;

const MAGIC: i8 = 2;
/// The attributes that name the compression.
pub(super) const ATTRIBUTES_COMPRESSION: i16 = 0x07;
const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
const ATTRIBUTE_CONTROL: i16 = 1 << 5;
const ATTRIBUTE_DELETE_HORIZON: i16 = 1 << 6;

/// Whose clock a batch's timestamps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The header's fields, in the order in which they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes of the whole batch, header included (not the raw field).
    pub batch_bytes: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads a header off the front of `input`. Checks the format and that the numbers do not
    /// contradict each other; it does not look at the records or the CRC.
    pub fn parse(mut input: &[u8]) -> Result<Self, BatchError> {
        if input.len() < HEADER_BYTES {
            return Err(BatchError::Short("header"));
        }
        let base_offset = input.get_i64();
        let batch_length = input.get_i32();
        let leader_epoch = input.get_i32();
        let magic = input.get_i8();
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let header = Self {
            base_offset,
            batch_bytes: usize::try_from(batch_length)
                .unwrap_or_default()
                .saturating_add(LENGTH_OVERHEAD),
            leader_epoch,
            crc: input.get_u32(),
            attributes: input.get_i16(),
            last_offset_delta: input.get_i32(),
            base_timestamp_ms: input.get_i64(),
            max_timestamp_ms: input.get_i64(),
            producer_id: input.get_i64(),
            producer_epoch: input.get_i16(),
            base_sequence: input.get_i32(),
            records_count: input.get_i32(),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchError> {
        if self.batch_bytes < HEADER_BYTES {
            return Err(BatchError::Contradiction("length"));
        }
        if self.last_offset_delta < 0 {
            return Err(BatchError::Contradiction("last offset delta"));
        }
        if self.records_count < 0 {
            return Err(BatchError::Contradiction("record count"));
        }
        Ok(())
    }

    /// Offsets that the batch covers; a compacted batch has fewer records than this.
    pub fn offset_count(&self) -> u64 {
        self.last_offset_delta as u64 + 1
    }

    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_attribute(self.attributes)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & ATTRIBUTE_LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// When a record of this batch is from; `record_ms` is what stands in the record.
    pub fn time_of_ms(&self, record_ms: i64) -> i64 {
        match self.timestamp_type() {
            TimestampType::CreateTime => record_ms,
            TimestampType::LogAppendTime => self.max_timestamp_ms,
        }
    }

    /// Says that all records came into the log then.
    pub(super) fn set_append_time_ms(&mut self, now_ms: i64) {
        self.attributes |= ATTRIBUTE_LOG_APPEND_TIME;
        self.max_timestamp_ms = now_ms;
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Whether its records are marks of the broker's, not messages.
    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// From when on compaction may take out the tombstones in it; it then stands in place of the base
    /// timestamp (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        let has = self.attributes & ATTRIBUTE_DELETE_HORIZON != 0;
        has.then_some(self.base_timestamp_ms)
    }

    /// Says from when on its tombstones may go. Records' timestamps are told from it.
    pub fn set_delete_horizon_ms(&mut self, horizon_ms: i64) {
        self.attributes |= ATTRIBUTE_DELETE_HORIZON;
        self.base_timestamp_ms = horizon_ms;
    }

    pub(super) fn write(&self, out: &mut impl BufMut) {
        out.put_i64(self.base_offset);
        out.put_i32((self.batch_bytes - LENGTH_OVERHEAD) as i32);
        out.put_i32(self.leader_epoch);
        out.put_i8(MAGIC);
        out.put_u32(self.crc);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp_ms);
        out.put_i64(self.max_timestamp_ms);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.records_count);
    }
}

/// Sets base offset and leader epoch of the batch at the front of `batch`, the two fields that are
/// not covered by its CRC.
///
/// # Panics
/// When `batch` is shorter than a header: callers hold a batch that was parsed.
pub fn rewrite_in_place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}
