//! Brings blocks from disk or from the store, in a task of its own: whoever waits for them may go away. Each
//! flight ends in one way or another, and its block can then be asked for anew.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::counts::Counter;
use super::disk::{Disk, Loaded};
use super::memory::Fetched;
use super::{BLOCK_BYTES, Block, BlockId, Object, Shared};
use crate::store::StoreError;

/// A block on its way. Dropped, it leaves those who wait without it.
#[derive(Debug)]
pub(super) struct Flight {
    shared: Arc<Shared>,
    id: BlockId,
    sender: watch::Sender<Fetched>,
    landed: bool,
}

impl Flight {
    pub(super) fn new(shared: &Arc<Shared>, id: BlockId, sender: watch::Sender<Fetched>) -> Self {
        Self {
            shared: Arc::clone(shared),
            id,
            sender,
            landed: false,
        }
    }

    fn land(mut self, result: Result<Block, StoreError>) {
        self.landed = true;
        self.shared.memory().settle(self.id, result.as_ref().ok());
        self.sender.send_replace(Some(result));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.shared.memory().settle(self.id, None);
        }
    }
}

/// Blocks of one object that are fetched together.
pub(super) struct Fetch {
    shared: Arc<Shared>,
    object: Object,
}

impl Fetch {
    /// Begins to fetch, each run of neighbours on its own.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        object: &Object,
        flights: Vec<Flight>,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        if flights.is_empty() {
            return;
        }
        let fetch = Self {
            shared: Arc::clone(shared),
            object: object.clone(),
        };
        tokio::spawn(async move {
            let missing = fetch.from_disk(flights).await;
            for run in runs(missing) {
                fetch.from_store(run).await;
            }
            drop(permit);
        });
    }

    /// Lands what is on disk, and gives back the rest.
    async fn from_disk(&self, flights: Vec<Flight>) -> Vec<Flight> {
        if self.shared.disk.is_none() {
            return flights;
        }
        let (shared, name) = (Arc::clone(&self.shared), Arc::clone(&self.object.name));
        let looked = tokio::task::spawn_blocking(move || {
            let look = |flight: Flight| match load(&shared, flight.id, &name) {
                Some(block) => {
                    flight.land(Ok(block));
                    None
                }
                None => Some(flight),
            };
            flights.into_iter().filter_map(look).collect()
        });
        // The runtime ends: nobody waits any more.
        looked.await.unwrap_or_default()
    }

    /// One request for neighbours.
    async fn from_store(&self, run: Vec<Flight>) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return;
        };
        let begin = first.id.number * BLOCK_BYTES;
        let range = begin..(last.id.number + 1) * BLOCK_BYTES;
        let read = self.object.store.read_piece(&self.object.key, range).await;
        for flight in run {
            let result = read.as_ref().map_err(Clone::clone).map(|piece| {
                let from = (flight.id.number * BLOCK_BYTES - begin) as usize;
                let length = piece.bytes.len();
                let to = from.saturating_add(BLOCK_BYTES as usize).min(length);
                // A copy: a slice would keep all that came with it in memory.
                let bytes = Bytes::copy_from_slice(&piece.bytes[from.min(length)..to]);
                Block {
                    bytes,
                    object_bytes: piece.object_bytes,
                }
            });
            if let Ok(block) = &result {
                self.shared.metrics.count(Counter::Fetched);
                self.save(flight.id, block);
            }
            flight.land(result);
        }
    }

    /// Keeps a block on disk, later.
    fn save(&self, id: BlockId, block: &Block) {
        if self.shared.disk.is_none() || block.bytes.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.shared.saves).try_acquire_owned() else {
            self.shared.metrics.count(Counter::NotSaved);
            return;
        };
        let (shared, name) = (Arc::clone(&self.shared), Arc::clone(&self.object.name));
        let block = block.clone();
        tokio::task::spawn_blocking(move || {
            let saved = shared
                .disk
                .as_ref()
                .map(|disk| disk.save(id, &name, &block));
            if let Some(Err(error)) = saved {
                shared.metrics.count(Counter::NotSaved);
                tracing::debug!(%error, "a block was not kept in the cache's folder");
            }
            drop(permit);
        });
    }
}

fn load(shared: &Shared, id: BlockId, name: &str) -> Option<Block> {
    let disk: &Disk = shared.disk.as_ref()?;
    match disk.load(id, name) {
        Loaded::Block(block) => {
            shared.metrics.count(Counter::Disk);
            Some(block)
        }
        Loaded::Missing => None,
        Loaded::Damaged => {
            shared.metrics.count(Counter::Damaged);
            tracing::warn!(object = %name, "a block in the cache's folder was damaged: it is fetched again");
            None
        }
    }
}

/// Neighbours together, in their order.
fn runs(flights: Vec<Flight>) -> Vec<Vec<Flight>> {
    let mut runs: Vec<Vec<Flight>> = Vec::new();
    for flight in flights {
        match runs.last_mut() {
            Some(run)
                if run
                    .last()
                    .is_some_and(|last| last.id.number + 1 == flight.id.number) =>
            {
                run.push(flight);
            }
            _ => runs.push(vec![flight]),
        }
    }
    runs
}
