//! Tells the service manager's watchdog that the node is alive, for as long as it is: each time the committer is
//! asked first. A timer alone would speak for a node whose disk hangs, and which acknowledges nothing.

use tidegate_edge::Edge;
use tidegate_shared::service::{Service, ServiceError};
use tokio::time::{MissedTickBehavior, interval};

/// Never returns. Where the committer does not answer, nobody is told anything.
pub(crate) async fn feed(service: &Service, edge: &Edge) {
    if let Some(beat) = service.beat() {
        let mut beats = interval(beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.tick().await;
        while edge.answers().await {
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
