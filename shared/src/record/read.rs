//! Reading batches: whole ones off a run of bytes, and the records inside one.

use bytes::{Buf, Bytes, BytesMut};

use super::header::{CRC_AT, CRC_COVERS_FROM};
use super::{
    BATCH_RECORDS_BYTES_MAX, BatchError, BatchHeader, Compression, HEADER_BYTES, HEADERS_MAX,
    Header, Record, compression, varint,
};

/// One whole batch whose CRC was right when it was made.
#[derive(Clone, Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes exactly one batch: its length must be that of `bytes`, and its CRC must hold.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        if header.batch_bytes != bytes.len() {
            return Err(if header.batch_bytes > bytes.len() {
                BatchError::Short("records")
            } else {
                BatchError::Contradiction("length")
            });
        }
        let computed = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
        if computed != header.crc {
            return Err(BatchError::Crc {
                stored: header.crc,
                computed,
            });
        }
        Ok(Self { header, bytes })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same records, which came into the log at `now_ms` (`LogAppendTime`).
    #[must_use]
    pub fn appended_at(&self, now_ms: i64) -> Self {
        let mut header = self.header.clone();
        header.set_append_time_ms(now_ms);
        let mut bytes = BytesMut::with_capacity(self.bytes.len());
        header.write(&mut bytes);
        bytes.extend_from_slice(&self.bytes[HEADER_BYTES..]);
        header.crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
        bytes[CRC_AT].copy_from_slice(&header.crc.to_be_bytes());
        let bytes = bytes.freeze();
        Self { header, bytes }
    }

    /// Unpacks the records and steps through them.
    pub fn records(&self) -> Result<Records, BatchError> {
        self.records_within(BATCH_RECORDS_BYTES_MAX)
    }

    /// The same, for whoever has room for `bytes_max` of unpacked records.
    pub fn records_within(&self, bytes_max: usize) -> Result<Records, BatchError> {
        let packed = self.bytes.slice(HEADER_BYTES..);
        let compression = self.header.compression()?;
        // Records take at least 7 bytes each, so a count that no unpacking could reach is refused.
        let rest = compression::unpack(compression, &packed, bytes_max)?;
        if (self.header.records_count as usize).saturating_mul(7) > rest.len() {
            return Err(BatchError::Contradiction("record count"));
        }
        Ok(Records {
            rest,
            left: self.header.records_count,
            base_offset: self.header.base_offset,
            base_timestamp_ms: self.header.base_timestamp_ms,
        })
    }

    pub fn compression(&self) -> Result<Compression, BatchError> {
        self.header.compression()
    }
}

/// Steps through a batch's records: offset and record. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    rest: Bytes,
    left: i32,
    base_offset: i64,
    base_timestamp_ms: i64,
}

impl Records {
    /// Bytes of the records that are left, unpacked.
    pub fn bytes(&self) -> usize {
        self.rest.len()
    }

    fn next_record(&mut self) -> Result<(i64, Record), BatchError> {
        let length = varint::get(&mut self.rest).ok_or(BatchError::Short("record"))?;
        let length = usize::try_from(length).map_err(|_| BatchError::Contradiction("length"))?;
        if length > self.rest.len() {
            return Err(BatchError::Short("record"));
        }
        let mut body = self.rest.split_to(length);
        if !body.has_remaining() {
            return Err(BatchError::Short("record"));
        }
        body.advance(1);
        let timestamp_delta = integer(&mut body)?;
        let offset_delta = integer(&mut body)?;
        let key = optional(&mut body)?;
        let value = optional(&mut body)?;
        let headers_count = integer(&mut body)?;
        // A header takes at least 2 bytes, and far more of memory.
        let most = HEADERS_MAX.min(body.len() / 2);
        let headers_count = usize::try_from(headers_count).unwrap_or(usize::MAX);
        if headers_count > most {
            return Err(BatchError::Contradiction("header count"));
        }
        let mut headers = Vec::with_capacity(headers_count);
        for _ in 0..headers_count {
            let name = optional(&mut body)?.ok_or(BatchError::Contradiction("header"))?;
            headers.push(Header {
                name,
                value: optional(&mut body)?,
            });
        }
        let timestamp_ms = self.base_timestamp_ms.wrapping_add(timestamp_delta);
        let offset = self.base_offset.wrapping_add(offset_delta);
        Ok((
            offset,
            Record {
                timestamp_ms,
                key,
                value,
                headers,
            },
        ))
    }
}

impl Iterator for Records {
    type Item = Result<(i64, Record), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let record = self.next_record();
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

fn integer(body: &mut Bytes) -> Result<i64, BatchError> {
    varint::get(body).ok_or(BatchError::Short("record"))
}

fn optional(body: &mut Bytes) -> Result<Option<Bytes>, BatchError> {
    let length = integer(body)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| BatchError::Contradiction("length"))?;
    if length > body.len() {
        return Err(BatchError::Short("record"));
    }
    Ok(Some(body.split_to(length)))
}

/// Takes a run of batches apart. A last batch that is not whole ends the run without an error, as a
/// Kafka fetch response allows.
pub fn split_batches(mut run: Bytes) -> impl Iterator<Item = Result<Batch, BatchError>> {
    std::iter::from_fn(move || {
        if run.len() < HEADER_BYTES {
            return None;
        }
        let header = match BatchHeader::parse(&run) {
            Ok(header) => header,
            Err(error) => {
                run.clear();
                return Some(Err(error));
            }
        };
        if header.batch_bytes > run.len() {
            return None;
        }
        Some(Batch::parse(run.split_to(header.batch_bytes)))
    })
}
