//! Effects: what applying a command has decided. Only these are answered, never a guess made
//! before.

use thiserror::Error;
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_bridge_protocol::landing::{Head, RefusedReason};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, KafkaOffset, PartitionId, SessionEpoch,
    StreamName, TopicId,
};

use super::command::Part;
use super::partition_log::Segment;
use super::state::Fork;
use super::users::UserRefusal;
use crate::acls::{Added, Rule};
use crate::index::SegmentId;
use crate::offset_map::FactsMark;

/// What one command did: one effect for each entry of a `Tick`, in its order; exactly one for any
/// other command.
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
    TopicDeleted {
        topic_id: TopicId,
    },
    /// Partitions from `before` on are new.
    TopicGrown {
        topic_id: TopicId,
        before: u32,
        partitions: u32,
    },
    TopicUnknown {
        topic_id: TopicId,
    },
    SessionOpened {
        session_epoch: SessionEpoch,
    },
    /// No epoch is granted: the edge is in quarantine, or the cloud is behind.
    SessionRefused {
        reason: RefusedReason,
    },
    EdgeReleased {
        /// Whether it was in quarantine.
        was_held: bool,
    },
    StreamOpened(Opened),
    StreamForked(Forked),
    Landed(Landed),
    GapLanded(GapLanded),
    /// The offset map takes them, unless they contradict it.
    FactsImported(Vec<NamedFact>),
    /// All of the offer had landed before.
    Duplicate {
        head: Head,
    },
    /// The head is the default one where the stream is not known.
    Refused {
        reason: RefusedReason,
        head: Head,
    },
    Produced(Produced),
    /// The batch was taken before, and begins there.
    ProduceDuplicate {
        base_offset: KafkaOffset,
    },
    ProduceRefused {
        reason: ProduceRefusal,
    },
    ProducerAllotted {
        producer_id: i64,
    },
    OffsetsCommitted {
        /// Partitions that do not exist (any more); all others are committed.
        unknown: Vec<(TopicId, PartitionId)>,
    },
    OffsetsForgotten {
        /// So many there were.
        count: u64,
    },
    /// Batches are read from the segment from now on.
    Packed {
        target: Target,
        segment: Segment,
        /// Which facts it holds, where that is told.
        facts: Option<FactsMark>,
    },
    /// The segment is nobody's, and can be deleted.
    PackRefused {
        target: Target,
        segment: SegmentId,
        reason: PackRefusal,
    },
    /// The partition begins at `start`.
    Trimmed {
        target: Target,
        start: KafkaOffset,
    },
    TopicAltered {
        topic_id: TopicId,
    },
    /// The changes name an object store that is not known: nothing has changed.
    StoreUnknown {
        number: u32,
    },
    /// The number of the URL, new or not.
    StoreAdded {
        number: u32,
    },
    /// There are as many stores as there can be.
    StoreRefused,
    /// What became of each rule.
    RulesAdded(Vec<Added>),
    /// The rules that went because of each filter.
    RulesRemoved(Vec<Vec<Rule>>),
    Swept,
    GenerationKept,
    UserAltered,
    UserRefused {
        reason: UserRefusal,
    },
    BrokerOpened {
        broker_epoch: u64,
    },
}

/// A Kafka client's batch that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub target: Target,
    pub base_offset: KafkaOffset,
    pub count: u64,
    pub part: Part,
}

/// Why a Kafka client's batch is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProduceRefusal {
    UnknownPartition,
    /// What it would be numbered, an earlier life of the cloud may have numbered: see [`super::Behind`].
    CloudBehind,
    /// Another instance of the producer has a newer epoch.
    StaleEpoch,
    /// Something of the producer's before it is missing.
    OutOfOrder,
    /// There are no more offsets.
    Full,
}

/// Why a segment is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackRefusal {
    /// A later start of a broker has closed the epoch in which it was written.
    ClosedEpoch,
    /// It lies in an object store that is not known.
    UnknownStore,
    /// What it should replace is no longer as it was.
    Changed,
}

/// The partition that a stream goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub topic_id: TopicId,
    pub partition: PartitionId,
}

impl Target {
    /// The partition that a fact tells of.
    pub fn of(fact: &Fact) -> Self {
        Self {
            topic_id: fact.topic_id,
            partition: fact.partition,
        }
    }
}

/// Where a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub head: Head,
    pub target: Target,
    /// Of the topic that it goes to.
    pub partitions: u32,
}

impl Opened {
    /// A stream that is not opened: only its head says something.
    pub(crate) fn refused(head: Head) -> Self {
        Self {
            head,
            target: Target::default(),
            partitions: 0,
        }
    }
}

/// A new incarnation has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forked {
    pub edge: EdgeId,
    pub stream: StreamName,
    pub fork: Fork,
    pub opened: Opened,
}

/// A batch that has landed: its fact, the stream's new head, and what the index needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub edge: EdgeId,
    pub stream: StreamName,
    pub fact: Fact,
    pub head: Head,
    pub part: Part,
}

/// An interval is recorded as lost; the head has moved over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapLanded {
    pub edge: EdgeId,
    pub stream: StreamName,
    pub incarnation: Incarnation,
    pub from: EdgeOffset,
    pub count: u64,
    pub reason: GapReason,
    pub head: Head,
}

/// A command that cannot be applied. The log is then not this ledger's, or not whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    #[error("the log does not begin with the command that begins a cluster incarnation")]
    NotBegun,
    #[error("the cluster incarnation's counter is at its end")]
    CounterOverflow,
}
