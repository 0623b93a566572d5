//! What can be asked of the ledger through [`Broker::submit`](crate::Broker::submit), and why the
//! asking itself can fail. What the ledger refuses is an effect, not an error.

use bytes::Bytes;
use thiserror::Error;
use tidegate_bridge_protocol::landing::Offer;
use tidegate_cloud_protocol::ledger::command::{CommitOffsets, LandGap, OpenSession, OpenStream};
use tidegate_shared::id::{EdgeId, StreamName};

/// One wish; it becomes one entry of a tick and is answered by one effect.
#[derive(Clone, Debug)]
pub enum Submission {
    OpenSession(OpenSession),
    OpenStream(OpenStream),
    /// A sealed record batch, byte for byte as the edge sent it. Its CRC, base offset and count are
    /// checked against the offer; what does not fit is answered with `Refused { BadBatch }`.
    Land {
        edge: EdgeId,
        stream: StreamName,
        offer: Offer,
        batch: Bytes,
    },
    CommitOffsets(CommitOffsets),
    LandGap(LandGap),
}

/// Nothing was decided. Whether something became durable is not known: ask again after a new start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmitError {
    #[error("the log is closed: the cloud is stopping")]
    Closed,
    #[error("the log cannot be written ({0}): nothing is acknowledged until a restart")]
    LogFailed(String),
}
