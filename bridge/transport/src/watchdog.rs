//! Tells the service manager's watchdog that a node is alive, for as long as it is: each time the node is asked first. A
//! timer alone would speak for a node whose disk hangs, and which acknowledges nothing.

use tidegate_shared::service::{Service, ServiceError};
use tokio::time::{MissedTickBehavior, interval};

/// Never returns. Where the node does not answer, or says no, nobody is told anything.
pub async fn feed(service: &Service, answers: impl AsyncFn() -> bool) {
    if let Some(beat) = service.beat() {
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.tick().await;
        while answers().await {
            told(service.alive());
            beats.tick().await;
        }
    }
    std::future::pending().await
}

/// It could not be told: the node goes on, and the service manager does as its unit says.
pub fn told(outcome: Result<(), ServiceError>) {
    if let Err(error) = outcome {
        tracing::warn!("{error}");
    }
}
