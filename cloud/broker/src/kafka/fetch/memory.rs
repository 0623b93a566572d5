//! Memory for what an object store has given and clients have not taken yet, of all connections together. A response
//! never takes more than half of what is free: so whoever does not read its responses leaves room for others, and nobody
//! waits for it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{KAFKA_FETCH_BYTES_MAX, KAFKA_FETCH_MEMORY_BYTES_MAX};

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
pub(super) struct Share {
    permit: Option<OwnedSemaphorePermit>,
    taken: usize,
}

impl Share {
    /// Bytes that may still be taken. (KIP-74: the first batch of a response is taken even where there are none.)
    pub(super) fn left(&mut self, memory: &FetchMemory) -> usize {
        if self.permit.is_none() {
            let wanted = (memory.0.available_permits() / 2).min(KAFKA_FETCH_BYTES_MAX / UNIT_BYTES);
            let permits = u32::try_from(wanted).unwrap_or(u32::MAX);
            self.permit = Arc::clone(&memory.0).try_acquire_many_owned(permits).ok();
        }
        let permits = self
            .permit
            .as_ref()
            .map_or(0, |permit| permit.num_permits());
        (permits * UNIT_BYTES).saturating_sub(self.taken)
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    /// No more is taken.
    pub(super) fn is_final(&mut self) {
        if let Some(permit) = &mut self.permit {
            let needed = self.taken.div_ceil(UNIT_BYTES);
            let surplus = permit.num_permits().saturating_sub(needed);
            drop(permit.split(surplus));
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
            let left = share.left(&memory);
            assert!(left <= before / 2 && left <= KAFKA_FETCH_BYTES_MAX);
            assert!(before < UNIT_BYTES * 4 || left > 0, "{before}");
            share.take(left);
            assert_eq!(share.left(&memory), 0);
            share.is_final();
            held.push((share, left));
        }
        let taken: usize = held.iter().map(|(_, taken)| taken).sum();
        assert_eq!(free() + taken, KAFKA_FETCH_MEMORY_BYTES_MAX);
        held.clear();
        assert_eq!(free(), KAFKA_FETCH_MEMORY_BYTES_MAX);
    }

    #[test]
    fn what_is_not_taken_is_free_before_the_response_is_sent() {
        let memory = FetchMemory::default();
        let mut share = Share::default();
        assert!(share.left(&memory) > 5_000);
        share.take(5_000);
        share.is_final();
        let free = memory.0.available_permits() * UNIT_BYTES;
        assert_eq!(free, KAFKA_FETCH_MEMORY_BYTES_MAX - 5 * UNIT_BYTES);
    }
}
