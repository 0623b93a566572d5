//! Memory, then disk, before the object stores: pieces of objects that were read lately or will be soon. Those
//! who miss the same block at once make one request; whoever began it may go away. Objects never change, so
//! nothing here is ever wrong, only gone.

mod counts;
mod disk;
mod fetch;
mod lru;
mod memory;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, watch};
use xxhash_rust::xxh3::xxh3_128;

pub use self::counts::{CacheCounts, CacheMetrics};

use self::counts::Counter;
use self::disk::Disk;
use self::fetch::{Fetch, Flight};
use self::memory::{Fetched, Found, Memory};
use super::limits::{
    CACHE_BLOCK_BYTES as BLOCK_BYTES, CACHE_DISK_BYTES_MAX, CACHE_GET_BLOCKS_MAX,
    CACHE_MEMORY_BYTES_MAX, CACHE_SAVES_MAX, READ_AHEAD_BYTES, READ_AHEADS_MAX,
};
use super::{Store, StoreError};

/// What a cache may hold; the defaults are the limits of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    pub memory_bytes_max: u64,
    pub disk_bytes_max: u64,
    pub read_ahead_bytes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: CACHE_MEMORY_BYTES_MAX,
            disk_bytes_max: CACHE_DISK_BYTES_MAX,
            read_ahead_bytes: READ_AHEAD_BYTES,
        }
    }
}

/// One cache for all stores; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    /// Of the objects that are read by this handle; see [`Cache::of_life`].
    life: u128,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    disk: Option<Disk>,
    limits: CacheLimits,
    aheads: Arc<Semaphore>,
    saves: Arc<Semaphore>,
    metrics: CacheMetrics,
}

/// A block's place: a hash of its object's name, and its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct BlockId {
    object: u128,
    number: u64,
}

/// A piece of an object, of [`BLOCK_BYTES`] or up to the object's end.
#[derive(Clone, Debug)]
struct Block {
    bytes: Bytes,
    object_bytes: u64,
}

/// An object, as the cache names it.
#[derive(Clone, Debug)]
struct Object {
    store: Store,
    key: Arc<str>,
    /// The store, the key and the life: of no other object.
    name: Arc<str>,
    hash: u128,
}

impl Object {
    fn new(store: &Store, key: &str, life: u128) -> Self {
        let name = match life {
            0 => format!("{}\n{key}", store.identity()),
            _ => format!("{}\n{key}\n{life:032x}", store.identity()),
        };
        Self {
            store: store.clone(),
            key: key.into(),
            hash: xxh3_128(name.as_bytes()),
            name: name.into(),
        }
    }

    fn block(&self, number: u64) -> BlockId {
        let object = self.hash;
        BlockId { object, number }
    }
}

impl Cache {
    /// Opens a cache whose disk tier is a folder, or that has none. Looks through the folder, so it is not to
    /// be called where nobody may wait. A folder that cannot be used is as an empty one.
    pub fn open(folder: Option<PathBuf>, limits: CacheLimits, metrics: &CacheMetrics) -> Self {
        let disk = folder.map(|folder| Disk::open(folder, limits.disk_bytes_max));
        Self {
            shared: Arc::new(Shared {
                memory: Mutex::new(Memory::new(limits.memory_bytes_max)),
                disk,
                limits,
                aheads: Arc::new(Semaphore::new(READ_AHEADS_MAX)),
                saves: Arc::new(Semaphore::new(CACHE_SAVES_MAX)),
                metrics: metrics.clone(),
            }),
            life: 0,
        }
    }

    /// For objects whose keys may be given again by a store that was put back to an older state: what was read of them
    /// by a handle of another life is not taken for theirs.
    pub fn of_life(&self, life: u128) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            life,
        }
    }

    /// The bytes of a range of an object, all of them, as [`Store::read`] gives them.
    ///
    /// # Errors
    /// As [`Store::read`]; an error is told to all who wait for it, and forgotten.
    pub async fn read(
        &self,
        store: &Store,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let object = Object::new(store, key, self.life);
        let last = (range.end - 1) / BLOCK_BYTES;
        let mut pieces = Vec::new();
        let mut object_bytes = 0;
        let mut number = range.start / BLOCK_BYTES;
        while number <= last {
            let until = (number + CACHE_GET_BLOCKS_MAX).min(last + 1);
            for (number, found) in self.find(&object, number..until) {
                let block = match found {
                    Found::Here(block) => block,
                    Found::Coming(fetched) => wait(&object, &range, fetched).await?,
                };
                object_bytes = block.object_bytes;
                pieces.push(cut(&object, &range, number, &block)?);
            }
            number = until;
        }
        self.read_ahead(&object, &range, object_bytes);
        Ok(match <[Bytes; 1]>::try_from(pieces) {
            Ok([piece]) => piece,
            Err(pieces) => join(&pieces),
        })
    }

    /// Blocks by where they were found since the cache was opened, and what it holds.
    pub fn counts(&self) -> CacheCounts {
        let mut counts = self.shared.metrics.counts();
        counts.memory_bytes = self.shared.memory().bytes();
        counts.disk_bytes = self.shared.disk.as_ref().map_or(0, Disk::bytes);
        counts
    }

    /// Finds blocks, and begins to fetch those that nobody fetches yet.
    fn find(&self, object: &Object, numbers: Range<u64>) -> Vec<(u64, Found)> {
        let mut found = Vec::new();
        let mut flights = Vec::new();
        let mut memory = self.shared.memory();
        for number in numbers {
            let known = memory.find(object.block(number));
            let counter = match &known {
                Some(Found::Here(_)) => Counter::Memory,
                Some(Found::Coming(_)) => Counter::Joined,
                None => Counter::Missed,
            };
            self.shared.metrics.count(counter);
            let known = known.unwrap_or_else(|| {
                let (flight, fetched) = self.expect(&mut memory, object, number);
                flights.push(flight);
                Found::Coming(fetched)
            });
            found.push((number, known));
        }
        drop(memory);
        Fetch::begin(&self.shared, object, flights, None);
        found
    }

    /// Fetches what whoever reads on will ask for. Where too much of that is under way, nothing.
    fn read_ahead(&self, object: &Object, range: &Range<u64>, object_bytes: u64) {
        let blocks = self.shared.limits.read_ahead_bytes / BLOCK_BYTES;
        let mut memory = self.shared.memory();
        let ahead = memory.note_read(object.hash, range, object_bytes, blocks);
        if ahead.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.shared.aheads).try_acquire_owned() else {
            return;
        };
        let mut flights = Vec::new();
        for number in ahead {
            if !memory.knows(object.block(number)) {
                self.shared.metrics.count(Counter::Ahead);
                flights.push(self.expect(&mut memory, object, number).0);
            }
        }
        drop(memory);
        Fetch::begin(&self.shared, object, flights, Some(permit));
    }

    fn expect(
        &self,
        memory: &mut Memory,
        object: &Object,
        number: u64,
    ) -> (Flight, watch::Receiver<Fetched>) {
        let (sender, fetched) = watch::channel(None);
        memory.expect(object.block(number), fetched.clone());
        let flight = Flight::new(&self.shared, object.block(number), sender);
        (flight, fetched)
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wait(
    object: &Object,
    range: &Range<u64>,
    mut fetched: watch::Receiver<Fetched>,
) -> Result<Block, StoreError> {
    let result = match fetched.wait_for(Option::is_some).await {
        Ok(result) => result.clone(),
        Err(_) => None,
    };
    match result {
        Some(Err(StoreError::OutOfRange { size, .. })) => {
            Err(object.store.out_of_range(&object.key, range, size))
        }
        Some(result) => result,
        None => Err(object.store.interrupted(&object.key)),
    }
}

/// What of a block belongs to a range.
fn cut(
    object: &Object,
    range: &Range<u64>,
    number: u64,
    block: &Block,
) -> Result<Bytes, StoreError> {
    if range.end > block.object_bytes {
        let size = block.object_bytes;
        return Err(object.store.out_of_range(&object.key, range, size));
    }
    let begin = number * BLOCK_BYTES;
    let from = range.start.max(begin) - begin;
    let to = (range.end - begin).min(BLOCK_BYTES);
    Ok(block.bytes.slice(from as usize..to as usize))
}

fn join(pieces: &[Bytes]) -> Bytes {
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        joined.extend_from_slice(piece);
    }
    joined.freeze()
}

/// How long a block is in an object of that length.
fn block_length(number: u64, object_bytes: u64) -> u64 {
    let begin = number.saturating_mul(BLOCK_BYTES);
    object_bytes.saturating_sub(begin).min(BLOCK_BYTES)
}
