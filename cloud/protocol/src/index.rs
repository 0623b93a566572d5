//! Where a batch lies: in a log object as it landed, or in a segment since it was packed. Places, not
//! bytes.

use tidegate_shared::id::KafkaOffset;

/// The object in which a command's batches were made durable, and where in it they begin. On one
/// machine the object is a file of the log, by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPlace {
    pub object: u64,
    /// Bytes from the object's start.
    pub position: u64,
}

/// A segment's name. Numbers are never given twice: each start of a broker has an epoch of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The object store in which it lies: 0 is the cluster's.
    pub store: u32,
    pub broker_epoch: u64,
    pub number: u64,
}

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    Log(LogPlace),
    Segment {
        segment: SegmentId,
        /// Bytes from the segment's start.
        position: u64,
    },
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
