//! What the ledger keeps about topics, edges and groups.

use std::collections::BTreeMap;

use tidegate_bridge_protocol::landing::Head;
use tidegate_shared::id::{KafkaOffset, SessionEpoch, StreamName, TopicName};

use super::{Effect, KAFKA_OFFSET_MAX, Target};

/// A topic: its name and partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: TopicName,
    pub(super) partitions: Vec<Partition>,
}

impl Topic {
    pub(super) fn new(name: TopicName, partitions: u32) -> Self {
        let partitions = vec![Partition::default(); partitions as usize];
        Self { name, partitions }
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

    pub(super) fn raise_leader_epochs(&mut self) {
        for partition in &mut self.partitions {
            partition.leader_epoch = partition.leader_epoch.saturating_add(1);
        }
    }
}

/// A partition's numbers. What lies where is the index's business.
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
    pub streams: BTreeMap<StreamName, Stream>,
}

/// A stream: how far it has landed, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub head: Head,
    pub target: Target,
    /// Edge offsets that landed as gaps, ever.
    pub gap_records: u64,
}

impl Stream {
    pub(super) fn opened(&self) -> Effect {
        Effect::StreamOpened {
            head: self.head,
            target: self.target,
        }
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
