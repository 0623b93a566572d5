//! The time that goes into the ledger. A wall clock that steps far ahead (a board's, a bad NTP answer) must not
//! carry the ledger's time with it, which never goes back: nothing would age any more, and retention would
//! give up what is young. So the wall clock counts only as far as the steady one bears it out.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::limits::CLOCK_STEP_MAX;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started_ms: i64,
    started: Instant,
}

impl Clock {
    /// Believes the wall clock as it is now.
    pub(crate) fn start() -> Self {
        Self {
            started_ms: wall_ms(),
            started: Instant::now(),
        }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        self.bounded(wall_ms(), self.started.elapsed())
    }

    /// Whether the wall clock has stepped so far ahead that it is not believed.
    pub(crate) fn is_ahead(&self) -> bool {
        let wall_ms = wall_ms();
        self.bounded(wall_ms, self.started.elapsed()) < wall_ms
    }

    fn bounded(&self, wall_ms: i64, elapsed: Duration) -> i64 {
        let bound = elapsed + CLOCK_STEP_MAX;
        let bound = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        wall_ms.min(self.started_ms.saturating_add(bound))
    }
}

/// The wall clock as it is, in milliseconds since the Unix epoch: for what the ledger does not keep.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ahead_counts_only_so_far_and_a_step_back_as_it_is() {
        let clock = Clock {
            started_ms: 1_000_000,
            started: Instant::now(),
        };
        let step_ms = CLOCK_STEP_MAX.as_millis() as i64;
        let second = Duration::from_secs(1);
        assert_eq!(clock.bounded(1_001_000, second), 1_001_000);
        assert_eq!(clock.bounded(5, second), 5);
        let month_ahead = 1_000_000 + 30 * 86_400_000;
        assert_eq!(clock.bounded(month_ahead, second), 1_001_000 + step_ms);
        let month = Duration::from_secs(30 * 86_400);
        assert_eq!(clock.bounded(month_ahead, month), month_ahead);
    }
}
