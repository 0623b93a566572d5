//! What a service manager (systemd) is told of a node, by the protocol of `sd_notify(3)`: that it is ready, reads
//! its files again, is alive, stops. Without `NOTIFY_SOCKET` in the environment nobody is told anything. Whether a
//! node is alive is for the node to find out.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use thiserror::Error;

/// The node says so often that it is alive within the time after which it would be taken for dead: one that comes
/// late, or is lost, harms nobody.
const BEATS_PER_WATCHDOG: u32 = 3;

/// The service manager's socket does not take what it was to be told.
#[derive(Debug, Error)]
#[error("the service manager (NOTIFY_SOCKET) cannot be told {what}: {error}")]
pub struct ServiceError {
    what: &'static str,
    error: io::Error,
}

/// The service that this process is.
#[derive(Debug)]
pub struct Service {
    watchdog: Option<Duration>,
}

impl Service {
    /// As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say.
    pub fn from_environment() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// How often it must be said that this is [alive](Self::alive); `None` where nobody waits for it.
    pub fn beat(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / BEATS_PER_WATCHDOG)
    }

    /// It is open and answers; or it has read its files again.
    ///
    /// # Errors
    /// The socket does not take it; so with all of these.
    pub fn ready(&self) -> Result<(), ServiceError> {
        tell("that it is ready", &[NotifyState::Ready])
    }

    /// It reads its files again; [`Self::ready`] follows.
    pub fn reloading(&self) -> Result<(), ServiceError> {
        let what = "that it reloads";
        let now =
            NotifyState::monotonic_usec_now().map_err(|error| ServiceError { what, error })?;
        tell(what, &[NotifyState::Reloading, now])
    }

    pub fn stopping(&self) -> Result<(), ServiceError> {
        tell("that it stops", &[NotifyState::Stopping])
    }

    pub fn alive(&self) -> Result<(), ServiceError> {
        tell("that it is alive", &[NotifyState::Watchdog])
    }
}

fn tell(what: &'static str, states: &[NotifyState<'_>]) -> Result<(), ServiceError> {
    sd_notify::notify(states).map_err(|error| ServiceError { what, error })
}
