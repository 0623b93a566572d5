//! Making a batch again out of records that were in others, at the offsets that they have. Only
//! compaction and the packer do that; everybody else hands batches on as they are.

use bytes::{Bytes, BytesMut};

use super::header::ATTRIBUTES_COMPRESSION;
use super::write::{put_batch, put_record};
use super::{BatchHeader, Compression, Compressor, Record, TimestampType};

/// What stands for a timestamp that there is none of.
const NO_TIMESTAMP_MS: i64 = -1;

/// Gathers records of a batch that is to keep an older one's header.
#[derive(Debug)]
pub struct BatchRewriter {
    header: BatchHeader,
    records: BytesMut,
    count: u32,
    max_timestamp_ms: Option<i64>,
}

impl BatchRewriter {
    /// A batch with this one's base offset, leader epoch, attributes, base timestamp and producer. Length,
    /// CRC, count, last offset, compression and (but for a log's own time) the maximum timestamp are made
    /// from what is pushed.
    pub fn new(header: BatchHeader) -> Self {
        Self {
            header,
            records: BytesMut::new(),
            count: 0,
            max_timestamp_ms: None,
        }
    }

    /// Appends a record at its offset in the partition.
    pub fn push(&mut self, offset: i64, record: &Record) {
        let timestamp_delta = record
            .timestamp_ms
            .wrapping_sub(self.header.base_timestamp_ms);
        let offset_delta = offset.wrapping_sub(self.header.base_offset);
        put_record(&mut self.records, record, timestamp_delta, offset_delta);
        self.max_timestamp_ms = self.max_timestamp_ms.max(Some(record.timestamp_ms));
        self.count += 1;
    }

    /// Records pushed.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the records, not packed.
    pub fn records_bytes(&self) -> usize {
        self.records.len()
    }

    /// Makes the batch; it covers the offsets up to `last_offset`, whether they have records or not.
    /// Without records it is a header alone, as Kafka keeps one for a producer's last batch.
    ///
    /// # Panics
    /// `last_offset` is before the base offset, or 2^31 or more behind it.
    pub fn seal(
        mut self,
        last_offset: i64,
        compression: Compression,
        compressor: &mut Compressor,
    ) -> Bytes {
        let delta = last_offset.checked_sub(self.header.base_offset);
        let delta = delta.and_then(|delta| i32::try_from(delta).ok());
        let delta = delta.filter(|delta| *delta >= 0);
        self.header.last_offset_delta = delta.expect("a batch covers 1 to 2^31 offsets");
        self.header.records_count = self.count as i32;
        if self.count == 0 && self.header.delete_horizon_ms().is_none() {
            self.header.base_timestamp_ms = NO_TIMESTAMP_MS;
        }
        if let Some(max_timestamp_ms) = self.max_timestamp_ms
            && self.header.timestamp_type() == TimestampType::CreateTime
        {
            self.header.max_timestamp_ms = max_timestamp_ms;
        }
        let packed = compressor.pack(compression, &self.records);
        self.header.attributes &= !ATTRIBUTES_COMPRESSION;
        if packed.is_some() {
            self.header.attributes |= compression as i16;
        }
        put_batch(self.header, packed.as_deref().unwrap_or(&self.records))
    }
}
