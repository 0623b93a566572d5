//! The journal's clock: counts only the time that has passed while the journal was open, so that no
//! step of the wall clock makes anything old. It is persisted, and goes on where it stood.

/// Wall clocks that show less than this (2020-01-01) were never set: boards boot in 1970.
pub const PLAUSIBLE_WALL_MS_MIN: i64 = 1_577_836_800_000;

/// The caller's clocks, passed in: the journal reads none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Since the journal was opened, by a clock that never steps.
    pub monotonic_ms_since_open: u64,
    /// Milliseconds since the Unix epoch, as the system says; may be anything.
    pub wall_ms: i64,
}

/// Milliseconds that the journal was open, over all its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalTime(pub u64);

impl JournalTime {
    /// Whole seconds: what runs and tables keep.
    pub(crate) fn seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }

    /// How long ago `seconds` was, in milliseconds; never more than it was.
    pub(crate) fn ms_since_seconds(self, seconds: u32) -> u64 {
        self.0.saturating_sub((u64::from(seconds) + 1) * 1000)
    }
}

/// Whether a wall clock can be believed.
pub fn is_plausible(wall_ms: i64) -> bool {
    wall_ms >= PLAUSIBLE_WALL_MS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_taken_for_more_than_it_is() {
        let now = JournalTime(61_999);
        assert_eq!(now.seconds(), 61);
        assert_eq!(now.ms_since_seconds(1), 59_999);
        assert_eq!(now.ms_since_seconds(61), 0);
        assert!(!is_plausible(0) && is_plausible(1_700_000_000_000));
    }
}
