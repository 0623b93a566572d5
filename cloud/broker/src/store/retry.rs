//! How often and how long a request to a store is tried again. It decides nothing about what may be tried
//! again: a failure says so of itself.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Failure;
use super::limits::{
    REQUEST_MAX, RETRY_TOTAL_MAX, RETRY_WAIT_MAX, RETRY_WAIT_MIN, TRANSFER_BYTES_PER_SECOND_MIN,
};

/// The times of trying again; the defaults are the limits of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub wait_min: Duration,
    pub wait_max: Duration,
    pub total_max: Duration,
    pub request_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            wait_min: RETRY_WAIT_MIN,
            wait_max: RETRY_WAIT_MAX,
            total_max: RETRY_TOTAL_MAX,
            request_max: REQUEST_MAX,
        }
    }
}

/// What was left when trying ended.
#[derive(Debug)]
pub(super) struct GaveUp {
    pub(super) failure: Failure,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
}

impl GaveUp {
    /// Nothing was tried again.
    pub(super) fn at_once(failure: Failure) -> Self {
        Self {
            failure,
            attempts: 1,
            elapsed: Duration::ZERO,
        }
    }
}

impl Retry {
    /// One attempt, as on a disk.
    pub(super) fn never() -> Self {
        Self {
            total_max: Duration::ZERO,
            ..Self::default()
        }
    }

    /// How long a request with so many bytes may take.
    pub(super) fn request_time(&self, bytes: u64) -> Duration {
        let transfer = bytes as f64 / TRANSFER_BYTES_PER_SECOND_MIN as f64;
        self.request_max + Duration::from_secs_f64(transfer)
    }

    /// Attempts until one succeeds, one fails for good, or the time is over. An attempt is told how many
    /// went before it, each of which may have been carried out although it failed.
    pub(super) async fn persist<T, F>(&self, mut attempt: impl FnMut(u32) -> F) -> Result<T, GaveUp>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            let failure = match attempt(attempts).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            attempts += 1;
            let elapsed = begun.elapsed();
            let wait = self.wait(attempts);
            let passing = matches!(failure, Failure::Passing { .. });
            if !passing || elapsed + wait > self.total_max {
                return Err(GaveUp {
                    failure,
                    attempts,
                    elapsed,
                });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Between half and all of a wait that doubles.
    fn wait(&self, attempts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX);
        let whole = self.wait_min.saturating_mul(doubled).min(self.wait_max);
        let random = RandomState::new().hash_one(attempts) as f64 / u64::MAX as f64;
        whole.mul_f64(0.5 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing() -> Failure {
        Failure::Passing {
            throttled: false,
            reason: "not now".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_until_the_time_is_over() {
        let retry = Retry::default();
        let begun = Instant::now();
        let gave_up = retry
            .persist(|_| async { Err::<(), _>(passing()) })
            .await
            .unwrap_err();
        assert!(gave_up.elapsed <= RETRY_TOTAL_MAX, "{gave_up:?}");
        assert!(begun.elapsed() > RETRY_TOTAL_MAX - RETRY_WAIT_MAX);
        // Seven to come to 5 s, then one in 2.5 to 5 s.
        assert!((15..=35).contains(&gave_up.attempts), "{gave_up:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_knows_how_many_went_before() {
        let retry = Retry::default();
        let done = retry.persist(|before| async move {
            if before < 3 {
                Err(passing())
            } else {
                Ok(before)
            }
        });
        assert_eq!(done.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_tried_once() {
        let refused = |_| async { Err::<(), _>(Failure::Refused("no".into())) };
        let gave_up = Retry::default().persist(refused).await.unwrap_err();
        assert_eq!((gave_up.attempts, gave_up.elapsed), (1, Duration::ZERO));
        let gave_up = Retry::never()
            .persist(|_| async { Err::<(), _>(passing()) })
            .await;
        assert_eq!(gave_up.unwrap_err().attempts, 1);
    }
}
