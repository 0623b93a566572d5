//! How fast a client may send. Past it nothing is refused or lost: the client is not read from until it
//! has room again, and its own network stack slows it down.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

use crate::mqtt::limits::ConnectionLimits;

/// So much of its rate a client may send at once, if it was silent before.
const BURST: Duration = Duration::from_secs(1);

/// What a client has used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateLimit {
    Messages,
    Bytes,
}

#[derive(Debug)]
pub(super) struct Rates {
    messages: Option<Rate>,
    bytes: Option<Rate>,
}

/// A bucket of tokens as a point in time (GCRA): all that came is paid for by then.
#[derive(Debug)]
struct Rate {
    per_second: NonZeroU64,
    paid_until: Instant,
}

impl Rates {
    /// `None` where nothing is bounded.
    pub(super) fn new(now: Instant, limits: &ConnectionLimits) -> Option<Self> {
        let rate = |per_second: Option<NonZeroU64>| {
            per_second.map(|per_second| Rate {
                per_second,
                paid_until: now,
            })
        };
        let rates = Self {
            messages: rate(limits.messages_per_second_max.map(NonZeroU64::from)),
            bytes: rate(limits.bytes_per_second_max),
        };
        (rates.messages.is_some() || rates.bytes.is_some()).then_some(rates)
    }

    pub(super) fn spend_message(&mut self, now: Instant) {
        if let Some(rate) = &mut self.messages {
            rate.spend(now, 1);
        }
    }

    pub(super) fn spend_bytes(&mut self, now: Instant, bytes: usize) {
        if let Some(rate) = &mut self.bytes {
            rate.spend(now, bytes as u64);
        }
    }

    /// What it has to wait for, and until when.
    pub(super) fn exceeded(&self, now: Instant) -> Option<(RateLimit, Instant)> {
        let messages = self.messages.as_ref();
        let messages = messages.map(|rate| (RateLimit::Messages, rate.room_at()));
        let bytes = self.bytes.as_ref();
        let bytes = bytes.map(|rate| (RateLimit::Bytes, rate.room_at()));
        let latest = [messages, bytes].into_iter().flatten();
        latest
            .filter(|(_, room_at)| *room_at > now)
            .max_by_key(|(_, room_at)| *room_at)
    }
}

impl Rate {
    fn spend(&mut self, now: Instant, amount: u64) {
        self.paid_until = self.paid_until.max(now) + self.time_of(amount);
    }

    /// When there is room for one more.
    fn room_at(&self) -> Instant {
        let ahead = BURST.saturating_sub(self.time_of(1));
        self.paid_until
            .checked_sub(ahead)
            .unwrap_or(self.paid_until)
    }

    fn time_of(&self, amount: u64) -> Duration {
        let nanoseconds = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates(messages: u32, bytes: u64, now: Instant) -> Rates {
        bounded(messages, bytes, now).unwrap()
    }

    fn bounded(messages: u32, bytes: u64, now: Instant) -> Option<Rates> {
        let limits = ConnectionLimits {
            messages_per_second_max: messages.try_into().ok(),
            bytes_per_second_max: bytes.try_into().ok(),
            ..ConnectionLimits::default()
        };
        Rates::new(now, &limits)
    }

    #[test]
    fn a_second_of_it_at_once_and_then_one_by_one() {
        let mut now = Instant::now();
        let mut rates = rates(4, 0, now);
        for _ in 0..4 {
            assert_eq!(rates.exceeded(now), None);
            rates.spend_message(now);
        }
        let quarter = Duration::from_millis(250);
        assert_eq!(
            rates.exceeded(now),
            Some((RateLimit::Messages, now + quarter))
        );
        now += quarter;
        assert_eq!(rates.exceeded(now), None);
        rates.spend_message(now);
        assert_eq!(
            rates.exceeded(now),
            Some((RateLimit::Messages, now + quarter))
        );
    }

    #[test]
    fn without_a_limit_there_is_none_and_the_longer_wait_counts() {
        let now = Instant::now();
        assert!(bounded(0, 0, now).is_none());
        let mut both = rates(1, 10, now);
        both.spend_message(now);
        both.spend_bytes(now, 100);
        let (limit, room_at) = both.exceeded(now).unwrap();
        assert_eq!(limit, RateLimit::Bytes);
        assert_eq!(room_at, now + Duration::from_millis(9_100));
    }

    proptest! {
        /// Over any stretch no more comes than the rate allows, and a burst.
        #[test]
        fn a_client_that_sends_whenever_it_may_keeps_the_rate(
            per_second in 1_u32..2_000,
            pauses_ms in proptest::collection::vec(0_u64..400, 1..100),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut rates = rates(per_second, 0, start);
            let mut sent = 0_u64;
            for pause_ms in pauses_ms {
                now += Duration::from_millis(pause_ms);
                while rates.exceeded(now).is_none() {
                    rates.spend_message(now);
                    sent += 1;
                }
                let passed_ms = (now - start).as_millis() as u64;
                let most = u64::from(per_second) + u64::from(per_second) * passed_ms / 1_000;
                prop_assert!(sent <= most + 1, "{sent} of {most}");
                prop_assert!(sent >= u64::from(per_second));
            }
        }
    }
}
