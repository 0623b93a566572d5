//! Waiting for an event, with a deadline.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What most things that should happen "soon" get on a slow, busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until `look` finds something; panics with `what` when `within` has passed.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
