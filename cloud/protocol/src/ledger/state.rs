//! What the ledger keeps about topics, edges and groups.

use std::collections::{BTreeMap, VecDeque};

use tidegate_bridge_protocol::landing::{ForkReason, Head};
use tidegate_shared::id::{
    EdgeOffset, Incarnation, KafkaOffset, PartitionId, SessionEpoch, StoreId, StreamName, TopicId,
    TopicName,
};

use super::{KAFKA_OFFSET_MAX, Target, TopicSettings};

/// A topic: its name, settings and partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: TopicName,
    pub settings: TopicSettings,
    pub(super) partitions: Vec<Partition>,
}

impl Topic {
    pub(super) fn new(name: TopicName, partitions: u32) -> Self {
        let partitions = vec![Partition::default(); partitions as usize];
        Self {
            name,
            settings: TopicSettings::default(),
            partitions,
        }
    }

    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    pub(super) fn partition(&self, target: Target) -> Option<&Partition> {
        self.partitions
            .get(usize::try_from(target.partition.0).ok()?)
    }

    pub(super) fn partition_mut(&mut self, target: Target) -> Option<&mut Partition> {
        self.partitions
            .get_mut(usize::try_from(target.partition.0).ok()?)
    }

    pub(super) fn grow(&mut self, partitions: u32) {
        if partitions as usize > self.partitions.len() {
            let leader_epoch = self
                .partitions
                .first()
                .map_or(0, |first| first.leader_epoch);
            let new = Partition {
                leader_epoch,
                ..Partition::default()
            };
            self.partitions.resize(partitions as usize, new);
        }
    }

    /// `topic_id`: its own.
    pub(super) fn partitions_mut(
        &mut self,
        topic_id: TopicId,
    ) -> impl Iterator<Item = (Target, &mut Partition)> {
        let partitions = (0..).zip(&mut self.partitions);
        partitions.map(move |(number, partition)| {
            let partition_id = PartitionId(number);
            let target = Target {
                topic_id,
                partition: partition_id,
            };
            (target, partition)
        })
    }
}

/// A partition's numbers. What lies where is in its [`PartitionLog`](super::PartitionLog).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// The first offset that can be read.
    pub log_start: KafkaOffset,
    /// The offset that the next record gets; Kafka's high watermark.
    pub next: KafkaOffset,
    pub leader_epoch: i32,
}

impl Partition {
    /// Assigns the next `count` offsets and returns the first; `None` where there are not so many.
    pub(super) fn take_offsets(&mut self, count: u64) -> Option<KafkaOffset> {
        let base = self.next;
        let end = base.0.checked_add(i64::try_from(count).ok()?)?;
        if end > KAFKA_OFFSET_MAX.0 {
            return None;
        }
        self.next = KafkaOffset(end);
        Some(base)
    }
}

/// An edge: the newest session epoch granted to it, and its streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    pub session_epoch: SessionEpoch,
    /// The counter of the cluster incarnation in which that epoch was granted.
    pub session_life: u32,
    /// Something came under that epoch: the edge has it stored.
    pub session_is_used: bool,
    /// Of the journal that opened the session.
    pub store_id: StoreId,
    pub fights: Fights,
    pub streams: BTreeMap<StreamName, Stream>,
}

/// Sessions that were opened by a node which has not stored what a later one of the same identity
/// has: one is a restored copy, several in turn are two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fights {
    pub count: u32,
    /// The ledger's time at the last one.
    pub last_ms: i64,
    /// No session is granted until an operator has decided.
    pub is_quarantined: bool,
}

/// A stream: how far it has landed, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub head: Head,
    pub target: Target,
    /// Edge offsets that landed as gaps, ever.
    pub gap_records: u64,
    /// The counter of the cluster incarnation in which the head last moved.
    pub life: u32,
    /// The head as an earlier life of the cloud left it: of that incarnation, nothing behind it that
    /// had landed in that life is here.
    pub older: (Incarnation, EdgeOffset),
    /// The newest forks, oldest first; at most [`FORKS_KEPT_MAX`].
    pub forks: VecDeque<Fork>,
}

/// Forks kept of one stream; the offset map says of older ones which incarnations there were.
pub const FORKS_KEPT_MAX: usize = 16;

/// Where a stream's numbering began a new life. Possible duplicates are declared from `from` on, up
/// to where the incarnation before it had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The one that began.
    pub incarnation: Incarnation,
    pub from: EdgeOffset,
    /// The one that ended, and its E.
    pub ended: Incarnation,
    pub ended_at: EdgeOffset,
    /// What had landed, the cloud has lost, and the edge no longer has: an interval of an incarnation
    /// of the edge's, up to `from`. It is declared lost with the fork.
    pub lost: Option<(Incarnation, EdgeOffset)>,
    pub reason: ForkReason,
    /// The ledger's time.
    pub at_ms: i64,
}

impl Fork {
    pub fn gap(&self) -> Option<(Incarnation, EdgeOffset, EdgeOffset)> {
        let (incarnation, lost_from) = self.lost?;
        (lost_from < self.from).then_some((incarnation, lost_from, self.from))
    }

    pub fn gap_records(&self) -> u64 {
        self.gap().map_or(0, |(_, from, to)| to.0 - from.0)
    }
}

/// A group's committed offset in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset that the group will read.
    pub offset: KafkaOffset,
    /// -1 where the client said none.
    pub leader_epoch: i32,
    pub metadata: String,
    /// The ledger's time at the commit.
    pub commit_time_ms: i64,
}
