//! Tells the service manager's watchdog that the node is alive, for as long as it is: each time the sequencer is
//! asked first. A timer alone would speak for a node whose disk hangs, and which acknowledges nothing. One that
//! waits for its object store is alive: it serves what it has, and to start it anew would not help.

use tidegate_cloud::Cloud;
use tidegate_shared::service::{Service, ServiceError};
use tokio::time::{MissedTickBehavior, interval};

/// Never returns. Where the sequencer does not answer, nobody is told anything.
pub(crate) async fn feed(service: &Service, cloud: &Cloud) {
    if let Some(beat) = service.beat() {
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.tick().await;
        while cloud.answers().await {
            told(service.alive());
            beats.tick().await;
        }
    }
    std::future::pending().await
}

/// It could not be told: the node goes on, and the service manager does as its unit says.
pub(crate) fn told(outcome: Result<(), ServiceError>) {
    if let Err(error) = outcome {
        tracing::warn!("{error}");
    }
}
