//! Chunks as readers get them, and the hash that chains them.

use bytes::Bytes;
use tidegate_shared::id::{BoundaryHash, EdgeOffset, Position, StreamId};
use xxhash_rust::xxh3::Xxh3;

/// What one commit added to one stream: a sealed record batch, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub stream: StreamId,
    pub base_offset: EdgeOffset,
    pub count: u32,
    /// The position of its first message.
    pub position: Position,
    /// What the node gave with each record, or one byte for all of them; see [`Chunk::mark`].
    pub marks: Bytes,
    /// When it was made, in seconds of the journal's clock.
    pub time_s: u32,
    pub hash_before: BoundaryHash,
    pub hash_after: BoundaryHash,
    /// Base offset in the batch's header is the edge offset.
    pub batch: Bytes,
}

impl Chunk {
    /// The offset after the chunk.
    pub fn end(&self) -> EdgeOffset {
        self.base_offset.plus(u64::from(self.count))
    }

    /// The mark that record `index` was appended with.
    pub fn mark(&self, index: usize) -> u8 {
        let at = if self.marks.len() == 1 { 0 } else { index };
        self.marks.get(at).copied().unwrap_or_default()
    }

    /// The position after the chunk.
    pub fn next_position(&self) -> Position {
        self.position.plus(u64::from(self.count))
    }
}

/// The hash at a chunk's end: XXH3-128 over the hash at its start and the batch's bytes, which hold
/// base offset and count.
pub fn hash_after(before: BoundaryHash, batch: &[u8]) -> BoundaryHash {
    let mut hasher = Xxh3::new();
    hasher.update(&before.0.to_le_bytes());
    hasher.update(batch);
    BoundaryHash(hasher.digest128())
}
