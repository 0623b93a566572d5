//! Why the asking itself can fail. What the ledger refuses is an effect, not an error.

use thiserror::Error;

/// Nothing was decided. Whether something became durable is not known: ask again after a new start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmitError {
    #[error("the log is closed: the cloud is stopping")]
    Closed,
    #[error("the log cannot be written ({0}): nothing is acknowledged until a restart")]
    LogFailed(String),
}
