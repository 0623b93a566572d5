//! The cloud broker: Kafka listener, log, hub, HTTP; a library and the daemon tidegate-cloud.

mod submission;

use tidegate_cloud_protocol::ledger::Effect;

pub use submission::{Submission, SubmitError};

/// A handle on the running broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {}

impl Broker {
    /// Has the ledger decide about each of `submissions`, in their order; returns one effect for
    /// each once all are durable and applied. Waits while the queue is full.
    ///
    /// # Errors
    /// The log cannot be written or is closed. Nothing may then be acknowledged.
    pub async fn submit(&self, submissions: Vec<Submission>) -> Result<Vec<Effect>, SubmitError> {
        let _ = submissions;
        Err(SubmitError::Closed)
    }
}
