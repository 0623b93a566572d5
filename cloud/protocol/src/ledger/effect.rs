//! Effects: what applying a command has decided. Only these are answered, never a guess made
//! before.

use thiserror::Error;
use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::landing::{Head, RefusedReason};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{ClusterIncarnation, PartitionId, SessionEpoch, TopicId};

use super::command::Part;

/// What one command did: exactly one effect for `Begin` and `CreateTopic`, one for each entry of a
/// `Tick`, in its order.
pub type Effects = Vec<Effect>;

/// The decision about one command or entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Begun {
        cluster_incarnation: ClusterIncarnation,
    },
    TopicCreated {
        topic_id: TopicId,
    },
    /// The name was there already, under this id; nothing changed.
    TopicExists {
        topic_id: TopicId,
    },
    SessionOpened {
        session_epoch: SessionEpoch,
    },
    StreamOpened {
        head: Head,
        target: Target,
    },
    Landed(Landed),
    /// An interval is recorded as lost; the head has moved over it.
    GapLanded {
        head: Head,
        count: u64,
        reason: GapReason,
    },
    /// All of the offer had landed before.
    Duplicate {
        head: Head,
    },
    /// The head is the default one where the stream is not known.
    Refused {
        reason: RefusedReason,
        head: Head,
    },
    OffsetsCommitted {
        /// Partitions that do not exist (any more); all others are committed.
        unknown: Vec<(TopicId, PartitionId)>,
    },
}

/// The partition that a stream goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub topic_id: TopicId,
    pub partition: PartitionId,
}

/// A batch that has landed: its fact, the stream's new head, and what the index needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub fact: Fact,
    pub head: Head,
    pub part: Part,
}

/// A command that cannot be applied. The log is then not this ledger's, or not whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    #[error("the log does not begin with the command that begins a cluster incarnation")]
    NotBegun,
    #[error("the cluster incarnation's counter is at its end")]
    CounterOverflow,
}
