//! The segment: an object with one partition's batches, packed, and the index that finds them by
//! offset, by time, and by whose they are. It makes and reads bytes; it does not fetch, store or cache
//! them: the broker's packer and reader do.
//!
//! An object is, one after the other:
//!
//! | part | bytes |
//! |---|---|
//! | header | [`HEADER_BYTES`]: magic, version, topic id, partition, base offset, its CRC-32C |
//! | batches | back to back, as they landed, with their Kafka base offsets |
//! | index | see [`encoding`]; its CRC-32C is in the footer |
//! | footer | [`FOOTER_BYTES`]: index position, length and CRC-32C, end offset, batches, version, its CRC-32C, magic |
//!
//! So one ranged GET of the last [`SegmentSummary::tail_bytes`] bytes gives the index, and one more gives
//! any run of batches. Fixed numbers are little-endian.
//!
//! **Offsets.** A segment covers `[base, end)` without a hole between it and its neighbours. Inside,
//! compaction may have left holes: an offset in one means the next batch behind it.
//!
//! **Timestamps.** A batch's header has the maximum. The minimum is not in it (the base timestamp is the
//! first record's, and records need not be in order), and the cloud does not unpack what it packs; so it
//! is known only where it must equal the maximum (one record, or the log's own time) or where whoever
//! pushes a batch has unpacked it anyway, and else is said to be unknown.

mod encoding;
mod facts;
mod footer;
mod header;
mod index;
#[cfg(test)]
mod tests;
mod writer;

use thiserror::Error;
use tidegate_bridge_protocol::fact::NamedFact;
use tidegate_shared::id::{EdgeOffset, KafkaOffset};
use tidegate_shared::record::BatchError;
use tidegate_shared::wire::WireError;

pub use facts::{FactsInTurn, SegmentFacts};
pub use footer::{FOOTER_BYTES, Footer};
pub use header::{HEADER_BYTES, SegmentHeader};
pub use index::{Run, SegmentIndex};
pub use writer::{PackedBatch, SegmentWriter};

use crate::ledger::Target;
use crate::offset_map::{FactsMark, Source};

/// The format's version; counts up when it changes, and older ones stay readable.
pub const VERSION: u16 = 1;

/// One batch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    pub base_offset: KafkaOffset,
    /// Bytes from the segment's start.
    pub position: u64,
    pub max_timestamp_ms: i64,
    /// `None` where only the records could tell.
    pub min_timestamp_ms: Option<i64>,
    /// When it landed, by the ledger's time.
    pub landed_ms: i64,
    /// Offsets that the batch covers; at least 1.
    pub count: u32,
    /// The whole batch, header included.
    pub batch_bytes: u32,
    /// CRC-32C of the whole batch as it is stored, with what the batch's own CRC leaves out.
    pub crc: u32,
}

impl SegmentEntry {
    /// The offset after the batch's last.
    pub fn end(&self) -> KafkaOffset {
        self.base_offset.plus(i64::from(self.count))
    }

    /// Whether these are the bytes that were packed.
    pub fn holds(&self, batch: &[u8]) -> bool {
        batch.len() == self.batch_bytes as usize && crc32c::crc32c(batch) == self.crc
    }
}

/// What the ledger keeps of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    pub target: Target,
    pub base: KafkaOffset,
    /// The offset after the last that it covers.
    pub end: KafkaOffset,
    /// The whole object.
    pub bytes: u64,
    pub index_position: u64,
    pub index_bytes: u32,
    pub index_crc: u32,
    pub batches: u32,
    /// By the batches' headers.
    pub records: u64,
    /// `None` where it has no batch.
    pub max_timestamp_ms: Option<i64>,
    /// `None` where it is not known of every batch.
    pub min_timestamp_ms: Option<i64>,
    pub landed_ms_min: Option<i64>,
    pub landed_ms_max: Option<i64>,
    pub facts: FactsMark,
}

impl SegmentSummary {
    /// How many of the object's last bytes hold index and footer.
    pub fn tail_bytes(&self) -> u64 {
        u64::from(self.index_bytes) + FOOTER_BYTES as u64
    }
}

/// Why something cannot go into a segment; the writer is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    #[error("a batch for the segment is not one: {0}")]
    Batch(#[from] BatchError),
    #[error("the batch says {said} bytes, {given} are here")]
    Length { said: usize, given: usize },
    #[error("the batch at offset {found} comes after what ends at {end}")]
    Order {
        found: KafkaOffset,
        end: KafkaOffset,
    },
    #[error("offsets from {0} on do not fit into 63 bits")]
    Offsets(KafkaOffset),
    #[error("a fact of edge {} stream {} at Kafka offset {} is not of these offsets of this partition, or out of order",
        .0.edge, .0.stream, .0.fact.kafka_offset)]
    Fact(Box<NamedFact>),
    #[error("edge {} stream {} incarnation {} offset {at} would lie at two offsets of the partition", .whose.edge, .whose.stream, .whose.incarnation)]
    Clash { whose: Box<Source>, at: EdgeOffset },
    #[error("the segment's index would take {0} bytes; close the segment earlier")]
    IndexTooLarge(usize),
}

/// Why bytes are not a segment, or not all that is needed of one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// Not damage: the last `needed` bytes are to be fetched.
    #[error("the index needs the segment's last {needed} bytes, {given} are here")]
    TailShort { needed: u64, given: u64 },
    #[error("{0} does not begin or end as a segment's")]
    Magic(&'static str),
    #[error("the segment has version {0}; this program knows up to {VERSION}")]
    Version(u16),
    #[error("{part}: its CRC-32C is {stored:#010x}, its bytes give {computed:#010x}")]
    Crc {
        part: &'static str,
        stored: u32,
        computed: u32,
    },
    #[error("the index: {0}")]
    Field(#[from] WireError),
    #[error("the segment contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// A batch whose bytes are not those that were packed, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("offsets {from}..{to}: {bytes} bytes at {position} are not those that were packed")]
pub struct DamagedBatch {
    pub from: KafkaOffset,
    pub to: KafkaOffset,
    pub position: u64,
    pub bytes: u32,
}

impl DamagedBatch {
    fn of(entry: &SegmentEntry) -> Self {
        Self {
            from: entry.base_offset,
            to: entry.end(),
            position: entry.position,
            bytes: entry.batch_bytes,
        }
    }
}
