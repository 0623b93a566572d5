//! Who fails to prove who they are, by address, so that the next attempts from there come one after the other, and later
//! and later. Who has failed a few times only is not held up. Time is passed in; the table is bounded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// So many failures hold nobody up, by default.
pub const FREE_FAILURES: u32 = 5;

/// The pause between two attempts after those, which doubles with each failure up to the second.
pub const PAUSE_MIN: Duration = Duration::from_millis(100);
pub const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Half of an address's failures are forgotten so often, while no more come.
pub const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Who would have to wait for longer is turned away.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

/// Addresses that are kept in mind; past it, the one that failed longest ago is forgotten.
pub const ADDRESSES_MAX: usize = 10_000;

/// When somebody has their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody from there is held up.
    Now,
    /// One after the other: a turn of their own, which may be at once.
    After(Duration),
    /// Too many wait.
    Never,
}

/// See the module.
#[derive(Debug)]
pub struct Attempts {
    /// So many failures hold nobody up.
    free: u32,
    failures: HashMap<IpAddr, Failures>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new(FREE_FAILURES)
    }
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// The next attempt has its turn then.
    next: Instant,
}

impl Failures {
    fn count(&self, now: Instant) -> u32 {
        let spans = now.saturating_duration_since(self.last).as_secs() / FORGET_INTERVAL.as_secs();
        let spans = u32::try_from(spans).unwrap_or(u32::MAX);
        self.count.checked_shr(spans).unwrap_or(0)
    }
}

impl Attempts {
    /// `free`: so many failures hold nobody up.
    pub fn new(free: u32) -> Self {
        Self {
            free,
            failures: HashMap::new(),
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        match failures.saturating_sub(self.free) {
            0 => Duration::ZERO,
            beyond => PAUSE_MIN
                .saturating_mul(1 << (beyond - 1).min(16))
                .min(PAUSE_MAX),
        }
    }

    /// Somebody has come, and may be about to try.
    pub fn turn(&mut self, now: Instant, address: IpAddr) -> Turn {
        let address = origin(address);
        let count = self.failures.get(&address).map_or(0, |own| own.count(now));
        let pause = self.pause(count);
        let failures = self.failures.get_mut(&address);
        let Some(failures) = failures.filter(|_| !pause.is_zero()) else {
            return Turn::Now;
        };
        let at = failures.next.max(now);
        let wait = at - now;
        if wait > WAIT_MAX {
            return Turn::Never;
        }
        failures.next = at + pause;
        Turn::After(wait)
    }

    pub fn failed(&mut self, now: Instant, address: IpAddr) {
        let address = origin(address);
        let before = self.failures.get(&address).copied();
        if before.is_none() && self.failures.len() >= ADDRESSES_MAX {
            self.forget_one();
        }
        let count = before.map_or(0, |own| own.count(now)).saturating_add(1);
        let next = now + self.pause(count);
        let failures = Failures {
            count,
            last: now,
            next: before.map_or(next, |own| own.next.max(next)),
        };
        self.failures.insert(address, failures);
    }

    /// Addresses that are kept in mind.
    pub fn len(&self) -> usize {
        self.failures.len()
    }

    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }

    fn forget_one(&mut self) {
        let oldest = self
            .failures
            .iter()
            .min_by_key(|(_, failures)| failures.last);
        if let Some(address) = oldest.map(|(address, _)| *address) {
            self.failures.remove(&address);
        }
    }
}

/// One network of IPv6 is one address: its owner has 2^64 of them.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_few_failures_hold_nobody_up_and_more_hold_up_that_address_only() {
        let (now, mut attempts) = (Instant::now(), Attempts::default());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..FREE_FAILURES {
            assert_eq!(attempts.turn(now, bad), Turn::Now);
            attempts.failed(now, bad);
        }
        assert_eq!(attempts.turn(now, bad), Turn::Now);
        attempts.failed(now, bad);
        assert_eq!(attempts.turn(now, bad), Turn::After(PAUSE_MIN));
        assert_eq!(attempts.turn(now, bad), Turn::After(2 * PAUSE_MIN));
        assert_eq!(attempts.turn(now, good), Turn::Now);
        // A thousand at once: some wait, the others are turned away.
        let turns: Vec<_> = (0..1_000).map(|_| attempts.turn(now, bad)).collect();
        assert_eq!(*turns.last().unwrap(), Turn::Never);
        let waiting = turns.iter().filter(|turn| **turn != Turn::Never).count();
        assert!(waiting <= 100, "{waiting}");
        let later = now + WAIT_MAX + PAUSE_MIN;
        assert_eq!(attempts.turn(later, bad), Turn::After(Duration::ZERO));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_are_forgotten() {
        let (mut now, mut attempts) = (Instant::now(), Attempts::default());
        let bad = address("192.0.2.1");
        let mut waits = Vec::new();
        for _ in 0..12 {
            if let Turn::After(wait) = attempts.turn(now, bad) {
                waits.push(wait);
                now += wait;
            }
            attempts.failed(now, bad);
        }
        assert!(
            waits.is_sorted() && waits.last() == Some(&PAUSE_MAX),
            "{waits:?}"
        );
        now += 2 * FORGET_INTERVAL;
        assert_eq!(attempts.turn(now, bad), Turn::Now);
        assert_eq!(attempts.turn(now, bad), Turn::Now);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_the_table_is_bounded() {
        let (now, mut attempts) = (Instant::now(), Attempts::default());
        for last in 0..=FREE_FAILURES {
            attempts.failed(now, address(&format!("2001:db8::{last}")));
            attempts.failed(now, address(&format!("::ffff:192.0.2.{last}")));
        }
        assert!(matches!(
            attempts.turn(now, address("2001:db8::ffff")),
            Turn::After(_)
        ));
        assert_eq!(attempts.turn(now, address("2001:db8:0:1::1")), Turn::Now);
        assert_eq!(attempts.turn(now, address("192.0.2.1")), Turn::Now);
        for at in 0..2 * ADDRESSES_MAX as u32 {
            attempts.failed(now + Duration::from_millis(1), IpAddr::V4(at.into()));
        }
        assert_eq!(attempts.len(), ADDRESSES_MAX);
        assert_eq!(
            attempts.turn(now, address("2001:db8::1")),
            Turn::Now,
            "the oldest is forgotten"
        );
    }
}
