//! Where the cache found what was asked for.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter as PrometheusCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Memory,
    /// Another was fetching it already.
    Joined,
    /// Neither: what follows is Disk or Fetched.
    Missed,
    Disk,
    Fetched,
    Ahead,
    Damaged,
    NotSaved,
}

const COUNTERS: [(Counter, &str); 8] = [
    (Counter::Memory, "memory"),
    (Counter::Joined, "joined"),
    (Counter::Missed, "missed"),
    (Counter::Disk, "disk"),
    (Counter::Fetched, "fetched"),
    (Counter::Ahead, "ahead"),
    (Counter::Damaged, "damaged"),
    (Counter::NotSaved, "not_saved"),
];

/// Blocks, by what became of them, and what the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Asked for, and found in memory.
    pub memory: u64,
    /// Asked for while they were being fetched.
    pub joined: u64,
    /// Asked for, and not in memory.
    pub missed: u64,
    /// Brought from disk.
    pub disk: u64,
    /// Brought from a store.
    pub fetched: u64,
    /// Fetched before anybody asked.
    pub ahead: u64,
    /// Found on disk, and thrown away: damaged or another's.
    pub damaged: u64,
    /// Not kept on disk: it was full, failed or too slow.
    pub not_saved: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// The counters of a node's cache; a clone counts in the same ones.
#[derive(Clone, Debug, Default)]
pub struct CacheMetrics {
    counters: Arc<[AtomicU64; COUNTERS.len()]>,
    blocks: Family<ResultLabels, PrometheusCounter>,
}

impl CacheMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let blocks = "Blocks asked of the cache before the object stores, by what became of them";
        registry.register("object_store_cache_blocks", blocks, self.blocks.clone());
    }

    pub(super) fn count(&self, counter: Counter) {
        let (_, result) = COUNTERS[counter as usize];
        self.counters[counter as usize].fetch_add(1, Ordering::Relaxed);
        self.blocks.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn counts(&self) -> CacheCounts {
        let counters: [u64; COUNTERS.len()] =
            array::from_fn(|at| self.counters[at].load(Ordering::Relaxed));
        let [
            memory,
            joined,
            missed,
            disk,
            fetched,
            ahead,
            damaged,
            not_saved,
        ] = counters;
        CacheCounts {
            memory,
            joined,
            missed,
            disk,
            fetched,
            ahead,
            damaged,
            not_saved,
            ..CacheCounts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_stands_in_its_place() {
        for (at, (counter, _)) in COUNTERS.into_iter().enumerate() {
            assert_eq!(counter as usize, at);
        }
    }
}
