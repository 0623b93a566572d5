//! How long a source waits before it connects again: twice as long each time, up to a bound, and some of it by chance, so
//! that a site's nodes do not come all at once.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// A connection that lived so long ends the series.
    stable: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, stable: Duration) -> Self {
        Self {
            min,
            max,
            stable,
            next: min,
        }
    }

    /// The pause after an attempt that failed, or after a connection that began at `connected_at`. `chance` is
    /// anything.
    pub(super) fn pause(
        &mut self,
        now: Instant,
        connected_at: Option<Instant>,
        chance: u32,
    ) -> Duration {
        if connected_at.is_some_and(|at| now.duration_since(at) >= self.stable) {
            self.next = self.min;
        }
        let pause = self.next;
        self.next = (self.next * 2).min(self.max);
        // Half of it for certain.
        let part = pause / 2;
        part + part.mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_its_bound_and_starts_anew_after_a_connection_that_lived() {
        let ms = Duration::from_millis;
        let now = Instant::now();
        let mut backoff = Backoff::new(ms(100), ms(1000), ms(5000));
        let mut pause = |connected: Option<Duration>, chance| {
            backoff.pause(
                now + ms(60_000),
                connected.map(|ago| now + ms(60_000) - ago),
                chance,
            )
        };
        let all: Vec<_> = (0..6).map(|_| pause(None, u32::MAX).as_millis()).collect();
        assert_eq!(all, [100, 200, 400, 800, 1000, 1000]);
        // Who is thrown out at once is not to hammer.
        assert_eq!(pause(Some(ms(4999)), u32::MAX), ms(1000));
        assert_eq!(pause(Some(ms(5000)), 0), ms(50));
        assert_eq!(pause(None, u32::MAX), ms(200));
    }
}
