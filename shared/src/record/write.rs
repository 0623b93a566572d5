//! Building and sealing a batch.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::CRC_COVERS_FROM;
use super::{BatchHeader, Compression, Compressor, HEADER_BYTES, Record, varint};

/// Gathers records; [`BatchBuilder::seal`] makes the batch of them.
///
/// Records are encoded as they come, so that a batch of a thousand small messages costs one buffer
/// and not a thousand.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    records: BytesMut,
    count: u32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record at the next offset.
    pub fn push(&mut self, record: &Record) {
        if self.count == 0 {
            self.base_timestamp_ms = record.timestamp_ms;
            self.max_timestamp_ms = record.timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        let timestamp_delta = record.timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let offset_delta = i64::from(self.count);
        put_record(&mut self.records, record, timestamp_delta, offset_delta);
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records pushed since the last seal.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the batch if it were sealed without compression.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Makes the batch, with its first record at `base_offset`, and leaves the builder empty.
    /// Compression is a wish: what does not pay is left out.
    ///
    /// # Panics
    /// When there is no record: an empty batch has no meaning at an edge.
    pub fn seal(
        &mut self,
        base_offset: i64,
        compression: Compression,
        compressor: &mut Compressor,
    ) -> Bytes {
        assert!(self.count > 0, "a batch holds at least one record");
        let packed = compressor.pack(compression, &self.records);
        let attributes = if packed.is_some() {
            compression as i16
        } else {
            0
        };
        let records = packed.as_deref().unwrap_or(&self.records);
        let header = BatchHeader {
            base_offset,
            batch_bytes: 0,
            leader_epoch: 0,
            crc: 0,
            attributes,
            last_offset_delta: self.count as i32 - 1,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: self.count as i32,
        };
        let batch = put_batch(header, records);
        self.records.clear();
        self.count = 0;
        batch
    }
}

/// Header and packed records as one batch, with the length and the CRC that they have.
pub(super) fn put_batch(mut header: BatchHeader, records: &[u8]) -> Bytes {
    header.batch_bytes = HEADER_BYTES + records.len();
    let mut batch = BytesMut::with_capacity(header.batch_bytes);
    header.write(&mut batch);
    batch.put_slice(records);
    header.crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    batch[17..21].copy_from_slice(&header.crc.to_be_bytes());
    batch.freeze()
}

pub(super) fn put_record(
    out: &mut BytesMut,
    record: &Record,
    timestamp_delta: i64,
    offset_delta: i64,
) {
    let body_bytes = body_bytes(record, timestamp_delta, offset_delta);
    out.reserve(body_bytes + 5);
    varint::put(out, body_bytes as i64);
    out.put_i8(0); // attributes: none are defined
    varint::put(out, timestamp_delta);
    varint::put(out, offset_delta);
    put_optional(out, record.key.as_deref());
    put_optional(out, record.value.as_deref());
    varint::put(out, record.headers.len() as i64);
    for header in &record.headers {
        put_optional(out, Some(&header.name));
        put_optional(out, header.value.as_deref());
    }
}

fn body_bytes(record: &Record, timestamp_delta: i64, offset_delta: i64) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| optional_bytes(Some(&header.name)) + optional_bytes(header.value.as_deref()))
        .sum();
    1 + varint::size(timestamp_delta)
        + varint::size(offset_delta)
        + optional_bytes(record.key.as_deref())
        + optional_bytes(record.value.as_deref())
        + varint::size(record.headers.len() as i64)
        + headers
}

fn optional_bytes(value: Option<&[u8]>) -> usize {
    match value {
        Some(value) => varint::size(value.len() as i64) + value.len(),
        None => 1,
    }
}

fn put_optional(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            varint::put(out, value.len() as i64);
            out.put_slice(value);
        }
        None => varint::put(out, -1),
    }
}
