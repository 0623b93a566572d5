//! The Kafka v2 record batch, the unit in which messages are stored and sent everywhere.
//!
//! A batch is sealed once, at the edge. After that its bytes are opaque: the rest of the house reads
//! the 61-byte header and rewrites base offset and leader epoch in place, which lie outside the CRC.
//! Source: Kafka protocol documentation, "Record Batch" (KIP-98), compression by KIP-110.

mod compression;
mod header;
mod read;
mod rewrite;
#[cfg(test)]
mod tests;
mod varint;
mod write;

use bytes::Bytes;
use thiserror::Error;

pub use compression::{Compression, Compressor};
pub use header::{BatchHeader, HEADER_BYTES, TimestampType, rewrite_in_place};
pub use read::{Batch, Records, split_batches};
pub use rewrite::BatchRewriter;
pub use write::BatchBuilder;

/// Decompressed records of one batch. What claims more is refused before it is unpacked.
pub const BATCH_RECORDS_BYTES_MAX: usize = 128 << 20;

/// Headers of one record; no MQTT packet has room for as many properties. With more, the records of the batch cannot be
/// read: a few bytes can unpack to headers that take a hundred times as much memory.
pub const HEADERS_MAX: usize = 2 << 20;

/// One message: what an MQTT publish or a Kafka produce becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since the Unix epoch, by the clock of whoever made the record.
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// A record's header. Names may repeat, and their order is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Bytes,
    pub value: Option<Bytes>,
}

impl Header {
    pub fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            value: Some(value.into()),
        }
    }
}

/// Why bytes are not a batch that we take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    #[error("the batch ends within its {0}")]
    Short(&'static str),
    #[error("the batch has magic {0}; only format 2 is taken")]
    Magic(i8),
    #[error("the batch's CRC-32C is {stored:#010x}, its bytes give {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("the batch names compression {0}, which is none of none, gzip, snappy, lz4, zstd")]
    Compression(i16),
    #[error("the batch's records cannot be unpacked: {0}")]
    Unpack(String),
    #[error("the batch unpacks to more than {0} bytes")]
    TooLarge(usize),
    #[error("the batch's {0} contradicts its records")]
    Contradiction(&'static str),
}
