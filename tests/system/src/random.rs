//! Seeded randomness: the seed is printed, and `TIDEGATE_TEST_SEED` gives it again.

use std::time::{Duration, SystemTime};

/// SplitMix64: small, and the same on every platform.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `TIDEGATE_TEST_SEED`, else from the clock; prints which.
    pub fn from_environment() -> Self {
        let given = std::env::var("TIDEGATE_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.expect("the clock is past 1970").as_micros() as u64 % 1_000_000
        });
        println!("seed {seed} (TIDEGATE_TEST_SEED={seed} runs it again)");
        Self(seed)
    }

    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// `count` moments within `span`, in order.
    pub fn moments(&mut self, count: usize, span: Duration) -> Vec<Duration> {
        let span_ms = span.as_millis() as u64;
        let mut moments: Vec<_> = (0..count)
            .map(|_| Duration::from_millis(self.below(span_ms)))
            .collect();
        moments.sort();
        moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (mut one, mut other) = (Random::seeded(7), Random::seeded(7));
        assert_eq!(
            one.moments(9, Duration::from_secs(30)),
            other.moments(9, Duration::from_secs(30))
        );
        assert_ne!(Random::seeded(8).number(), Random::seeded(7).number());
    }
}
