//! Backups that are under way: while there is one, nothing is deleted that the state holds on to which it copies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::BACKUPS_AT_ONCE_MAX;

/// How many there are. A clone counts the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<AtomicUsize>);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Hold(Holds);

impl Holds {
    /// `None` where there are too many.
    pub(crate) fn take(&self) -> Option<Hold> {
        let more = |count: usize| (count < BACKUPS_AT_ONCE_MAX).then_some(count + 1);
        let taken = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Hold(self.clone()))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_at_once_and_each_ends_with_its_guard() {
        let holds = Holds::default();
        let mut held: Vec<_> = std::iter::from_fn(|| holds.take()).collect();
        assert_eq!(held.len(), BACKUPS_AT_ONCE_MAX);
        assert_eq!(holds.count(), BACKUPS_AT_ONCE_MAX);
        held.pop();
        assert!(holds.take().is_some());
        drop(held);
        assert_eq!(holds.count(), 0);
    }
}
