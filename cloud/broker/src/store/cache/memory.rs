//! What the cache knows without asking anybody: blocks in memory, which blocks are being fetched, and who reads
//! one after the other. All of it behind one lock that is never held while waiting.

use std::collections::HashMap;
use std::ops::Range;

use tokio::sync::watch;

use super::lru::Lru;
use super::{BLOCK_BYTES, Block, BlockId};
use crate::store::StoreError;
use crate::store::limits::{CACHE_READERS_MAX, READ_AHEAD_AFTER};

/// What comes of a fetch, once it has come.
pub(super) type Fetched = Option<Result<Block, StoreError>>;

/// A block that is there, or will be.
#[derive(Debug)]
pub(super) enum Found {
    Here(Block),
    Coming(watch::Receiver<Fetched>),
}

/// How far a reader came, and how far was fetched for it.
#[derive(Clone, Copy, Debug)]
struct Reader {
    reads: u32,
    /// The first block that was not fetched ahead.
    ahead_to: u64,
}

#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: u64,
    blocks: Lru<BlockId, Block>,
    coming: HashMap<BlockId, watch::Receiver<Fetched>>,
    /// By object and the byte that is next for it.
    readers: Lru<(u128, u64), Reader>,
}

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            blocks: Lru::default(),
            coming: HashMap::new(),
            readers: Lru::default(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks.weight()
    }

    /// Finds a block, or `None`: then whoever asks must fetch it, having called [`Self::expect`].
    pub(super) fn find(&mut self, id: BlockId) -> Option<Found> {
        if let Some(block) = self.blocks.get(&id) {
            return Some(Found::Here(block.clone()));
        }
        self.coming.get(&id).cloned().map(Found::Coming)
    }

    pub(super) fn knows(&self, id: BlockId) -> bool {
        self.blocks.contains(&id) || self.coming.contains_key(&id)
    }

    pub(super) fn expect(&mut self, id: BlockId, fetched: watch::Receiver<Fetched>) {
        self.coming.insert(id, fetched);
    }

    /// A fetch has ended: the next one to ask finds the block, or fetches anew.
    pub(super) fn settle(&mut self, id: BlockId, block: Option<&Block>) {
        self.coming.remove(&id);
        let Some(block) = block else { return };
        // Past the end there is nothing to keep.
        if block.bytes.is_empty() {
            return;
        }
        self.blocks
            .insert(id, block.clone(), block.bytes.len() as u64);
        while self.blocks.weight() > self.bytes_max {
            self.blocks.pop_oldest();
        }
    }

    /// Takes note of a read, and tells which blocks to fetch ahead for whoever reads on.
    pub(super) fn note_read(
        &mut self,
        object: u128,
        range: &Range<u64>,
        object_bytes: u64,
        ahead_blocks: u64,
    ) -> Range<u64> {
        let before = self.readers.remove(&(object, range.start));
        let mut reader = before.unwrap_or(Reader {
            reads: 0,
            ahead_to: 0,
        });
        reader.reads += 1;
        let next = range.end.div_ceil(BLOCK_BYTES);
        let end = object_bytes.div_ceil(BLOCK_BYTES).min(next + ahead_blocks);
        let from = reader.ahead_to.max(next);
        let mut ahead = 0..0;
        // Half of it at a time: few requests, and nobody waits for the next.
        if reader.reads > READ_AHEAD_AFTER && from < end && from - next <= ahead_blocks / 2 {
            ahead = from..end;
            reader.ahead_to = end;
        }
        if range.end < object_bytes {
            self.readers.insert((object, range.end), reader, 1);
            while self.readers.len() > CACHE_READERS_MAX {
                self.readers.pop_oldest();
            }
        }
        ahead
    }
}
