//! Messages that found no room among the retained ones: all are counted, and the log is told once in a while.
//! Whoever publishes them may do so ten thousand times a second.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::limits::RETAINED_REFUSED_TOLD_INTERVAL;

#[derive(Debug, Default)]
pub(super) struct Refused {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u64,
    told_at: Option<Instant>,
}

impl Refused {
    /// Counts one more; gives how many there were since the start where it is time to tell.
    pub(super) fn add(&self, now: Instant) -> Option<u64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total += 1;
        let is_told = counts
            .told_at
            .is_some_and(|at| now.duration_since(at) < RETAINED_REFUSED_TOLD_INTERVAL);
        if is_told {
            return None;
        }
        counts.told_at = Some(now);
        Some(counts.total)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_are_told_once_in_a_while_and_all_are_counted() {
        let refused = Refused::default();
        let start = Instant::now();
        assert_eq!(refused.add(start), Some(1));
        let just_before = start + RETAINED_REFUSED_TOLD_INTERVAL - Duration::from_millis(1);
        for now in [start, just_before] {
            assert_eq!(refused.add(now), None);
        }
        let later = start + RETAINED_REFUSED_TOLD_INTERVAL;
        assert_eq!(refused.add(later), Some(4));
        assert_eq!(refused.add(later), None);
    }
}
