//! Memory for what is read and clients have not taken yet, of all connections together. A response
//! never takes more than half of what is free: so whoever does not read its responses leaves room for others, and nobody
//! waits for it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::KAFKA_FETCH_MEMORY_BYTES_MAX;

const UNIT_BYTES: usize = 1 << 10;

/// All of it; permits are KiB.
#[derive(Clone, Debug)]
pub(crate) struct FetchMemory(Arc<Semaphore>);

impl Default for FetchMemory {
    fn default() -> Self {
        let units = KAFKA_FETCH_MEMORY_BYTES_MAX / UNIT_BYTES;
        Self(Arc::new(Semaphore::new(units)))
    }
}

/// One response's share, for as long as it lives.
#[derive(Debug, Default)]
pub(super) struct Share(Option<OwnedSemaphorePermit>);

impl Share {
    /// Takes as much of `wanted` as it can have: no more than half of what is free. (KIP-74: the first batch of a response is
    /// taken even where there is nothing.)
    pub(super) fn reserve(&mut self, memory: &FetchMemory, wanted: usize) -> usize {
        let units = (memory.0.available_permits() / 2).min(wanted.div_ceil(UNIT_BYTES));
        let permits = u32::try_from(units).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&memory.0).try_acquire_many_owned(permits) else {
            return 0;
        };
        match &mut self.0 {
            Some(permit) => permit.merge(more),
            None => self.0 = Some(more),
        }
        (units * UNIT_BYTES).min(wanted)
    }

    /// Gives back what was reserved and is not used.
    pub(super) fn give_back(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let units = (bytes / UNIT_BYTES).min(permit.num_permits());
            drop(permit.split(units));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_much_leaves_half_of_the_rest() {
        let memory = FetchMemory::default();
        let free = || memory.0.available_permits() * UNIT_BYTES;
        let mut held: Vec<(Share, usize)> = Vec::new();
        for _ in 0..12 {
            let (before, mut share) = (free(), Share::default());
            let wanted = 16 << 20;
            let got = share.reserve(&memory, wanted);
            assert_eq!(got, (before / 2).min(wanted) / UNIT_BYTES * UNIT_BYTES);
            assert!(got > 0);
            held.push((share, got));
        }
        let taken: usize = held.iter().map(|(_, taken)| taken).sum();
        assert_eq!(free() + taken, KAFKA_FETCH_MEMORY_BYTES_MAX);
        held.clear();
        assert_eq!(free(), KAFKA_FETCH_MEMORY_BYTES_MAX);
    }

    #[test]
    fn no_more_is_taken_than_was_wanted_and_what_is_not_used_is_free_at_once() {
        let memory = FetchMemory::default();
        let mut share = Share::default();
        assert_eq!(share.reserve(&memory, 5_000), 5_000);
        assert_eq!(share.reserve(&memory, 100 << 10), 100 << 10);
        share.give_back(100 << 10);
        let free = memory.0.available_permits() * UNIT_BYTES;
        assert_eq!(free, KAFKA_FETCH_MEMORY_BYTES_MAX - 5 * UNIT_BYTES);
    }
}
