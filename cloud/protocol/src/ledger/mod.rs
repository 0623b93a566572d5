//! The ledger: the one deterministic state machine that decides offsets, duplicates, epochs, topics
//! and committed offsets.
//!
//! `apply(command) -> effects` is pure: it reads no clock, makes no random number, skips no command,
//! and its maps are ordered, so that a snapshot and the commands after it give the same state to the
//! byte as the whole log does. It knows of batches only where they lie; it never sees their bytes.

pub mod command;
mod effect;
mod placement;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::landing::{Head, RefusedReason, Verdict, judge};
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, GroupName, Incarnation, KafkaOffset, SessionEpoch, TopicId,
    TopicName,
};

pub use command::{Command, DecodeError};
pub use effect::{ApplyError, Effect, Effects, Landed, Target};
pub use state::{Committed, Edge, Partition, Stream, Topic};

use command::{
    Begin, CommitOffsets, CreateTopic, Entry, Land, LandGap, OpenSession, OpenStream, Tick,
};

/// All that the cloud has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    now_ms: i64,
    /// `None` until the first `Begin`.
    cluster_incarnation: Option<ClusterIncarnation>,
    topics: BTreeMap<TopicId, Topic>,
    topic_ids: BTreeMap<TopicName, TopicId>,
    edges: BTreeMap<EdgeId, Edge>,
    groups: BTreeMap<GroupName, BTreeMap<Target, Committed>>,
}

impl Ledger {
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest time that a command has carried, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    pub fn cluster_incarnation(&self) -> Option<ClusterIncarnation> {
        self.cluster_incarnation
    }

    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &Topic)> {
        self.topics.iter().map(|(id, topic)| (*id, topic))
    }

    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        let name = TopicName::new(name).ok()?;
        self.topic_ids.get(&name).copied()
    }

    pub fn partition(&self, target: Target) -> Option<&Partition> {
        self.topics.get(&target.topic_id)?.partition(target)
    }

    pub fn edges(&self) -> impl Iterator<Item = (&EdgeId, &Edge)> {
        self.edges.iter()
    }

    pub fn edge(&self, edge: &EdgeId) -> Option<&Edge> {
        self.edges.get(edge)
    }

    /// How far a stream has landed; `None` where it was never announced.
    pub fn stream(
        &self,
        edge: &EdgeId,
        stream: &tidegate_shared::id::StreamName,
    ) -> Option<&Stream> {
        self.edges.get(edge)?.streams.get(stream)
    }

    /// A group's committed offsets; empty where it has none.
    pub fn committed(&self, group: &GroupName) -> impl Iterator<Item = (Target, &Committed)> {
        let offsets = self.groups.get(group).into_iter().flatten();
        offsets.map(|(target, committed)| (*target, committed))
    }

    pub fn committed_at(&self, group: &GroupName, target: Target) -> Option<&Committed> {
        self.groups.get(group)?.get(&target)
    }

    /// Applies the next command of the log.
    ///
    /// # Errors
    /// The log is not one that this ledger can follow; the ledger has not changed.
    pub fn apply(&mut self, command: Command) -> Result<Effects, ApplyError> {
        match command {
            Command::Begin(begin) => Ok(vec![self.begin(begin)?]),
            Command::CreateTopic(create) => {
                self.begun()?;
                Ok(vec![self.create_topic(create)])
            }
            Command::Tick(tick) => self.tick(tick),
        }
    }

    fn begun(&self) -> Result<ClusterIncarnation, ApplyError> {
        self.cluster_incarnation.ok_or(ApplyError::NotBegun)
    }

    fn begin(&mut self, begin: Begin) -> Result<Effect, ApplyError> {
        let before = self.cluster_incarnation.map_or(0, |life| life.counter);
        let counter = before.checked_add(1).ok_or(ApplyError::CounterOverflow)?;
        let id = begin.cluster_incarnation_id;
        let cluster_incarnation = ClusterIncarnation { counter, id };
        self.now_ms = self.now_ms.max(begin.now_ms);
        self.cluster_incarnation = Some(cluster_incarnation);
        for topic in self.topics.values_mut() {
            topic.raise_leader_epochs();
        }
        Ok(Effect::Begun {
            cluster_incarnation,
        })
    }

    fn create_topic(&mut self, create: CreateTopic) -> Effect {
        if let Some(topic_id) = self.topic_ids.get(&create.name) {
            return Effect::TopicExists {
                topic_id: *topic_id,
            };
        }
        let topic_id = create.topic_id;
        if self.topics.contains_key(&topic_id) {
            // Two random ids never meet; a proposer that repeats one gets the topic that is there.
            return Effect::TopicExists { topic_id };
        }
        let topic = Topic::new(create.name.clone(), create.partitions.max(1));
        self.topics.insert(topic_id, topic);
        self.topic_ids.insert(create.name, topic_id);
        Effect::TopicCreated { topic_id }
    }

    fn tick(&mut self, tick: Tick) -> Result<Effects, ApplyError> {
        let cluster_incarnation = self.begun()?;
        self.now_ms = self.now_ms.max(tick.now_ms);
        let entries = tick.entries.into_iter();
        Ok(entries
            .map(|entry| match entry {
                Entry::OpenSession(open) => self.open_session(open),
                Entry::OpenStream(open) => self.open_stream(open),
                Entry::Land(land) => self.land(land, cluster_incarnation),
                Entry::CommitOffsets(commit) => self.commit_offsets(commit),
                Entry::LandGap(land) => self.land_gap(land),
            })
            .collect())
    }

    fn open_session(&mut self, open: OpenSession) -> Effect {
        let edge = self.edges.entry(open.edge).or_default();
        edge.session_epoch = SessionEpoch(edge.session_epoch.0 + 1);
        Effect::SessionOpened {
            session_epoch: edge.session_epoch,
        }
    }

    /// A stream that is known keeps its head and its partition, whatever topic is named now: it
    /// moves only by a command of its own. A new one begins after the incarnation that the edge
    /// says it has, so that numbers of a life that this ledger never saw are not taken for its own.
    fn open_stream(&mut self, open: OpenStream) -> Effect {
        let refused = |reason, head| Effect::Refused { reason, head };
        let Some(edge) = self
            .edges
            .get_mut(&open.edge)
            .filter(|edge| edge.session_epoch == open.session_epoch)
        else {
            return refused(RefusedReason::StaleSessionEpoch, Head::default());
        };
        if let Some(stream) = edge.streams.get(&open.stream) {
            return match self.topics.contains_key(&stream.target.topic_id) {
                true => stream.opened(),
                false => refused(RefusedReason::Parked, stream.head),
            };
        }
        let Some(topic_id) = self.topic_ids.get(&open.topic) else {
            return refused(RefusedReason::Parked, Head::default());
        };
        let Some(incarnation) = open.incarnation.0.checked_add(1).map(Incarnation) else {
            return refused(RefusedReason::WrongIncarnation, Head::default());
        };
        let partitions = self.topics[topic_id].partitions().len();
        let stream = Stream {
            head: Head {
                incarnation,
                ..Head::default()
            },
            target: Target {
                topic_id: *topic_id,
                partition: placement::partition_of(&open.edge, partitions),
            },
            gap_records: 0,
        };
        let opened = stream.opened();
        edge.streams.insert(open.stream, stream);
        opened
    }

    fn land(&mut self, land: Land, cluster_incarnation: ClusterIncarnation) -> Effect {
        let refused = |reason, head| Effect::Refused { reason, head };
        let Some(edge) = self.edges.get_mut(&land.edge) else {
            return refused(RefusedReason::StaleSessionEpoch, Head::default());
        };
        let Some(stream) = edge.streams.get_mut(&land.stream) else {
            return refused(RefusedReason::UnknownStream, Head::default());
        };
        let head = match judge(&stream.head, edge.session_epoch, &land.offer) {
            Verdict::Accept(head) => head,
            Verdict::Duplicate => return Effect::Duplicate { head: stream.head },
            Verdict::Refused(reason) => return refused(reason, stream.head),
        };
        let target = stream.target;
        let topic = self.topics.get_mut(&target.topic_id);
        let Some(partition) = topic.and_then(|topic| topic.partition_mut(target)) else {
            return refused(RefusedReason::Parked, stream.head);
        };
        let Some(kafka_offset) = partition.take_offsets(land.offer.count) else {
            return refused(RefusedReason::BadBatch, stream.head);
        };
        stream.head = head;
        let fact = Fact {
            incarnation: land.offer.incarnation,
            edge_offset: land.offer.base_offset,
            count: land.offer.count,
            cluster_incarnation,
            topic_id: target.topic_id,
            partition: target.partition,
            kafka_offset,
        };
        Effect::Landed(Landed {
            fact,
            head,
            part: land.part,
        })
    }

    /// The same rule as for a batch. It needs no topic: nothing is stored.
    fn land_gap(&mut self, land: LandGap) -> Effect {
        let refused = |reason, head| Effect::Refused { reason, head };
        let Some(edge) = self.edges.get_mut(&land.edge) else {
            return refused(RefusedReason::StaleSessionEpoch, Head::default());
        };
        let Some(stream) = edge.streams.get_mut(&land.stream) else {
            return refused(RefusedReason::UnknownStream, Head::default());
        };
        match judge(&stream.head, edge.session_epoch, &land.offer) {
            Verdict::Accept(head) => {
                let (count, reason) = (land.offer.count, land.reason);
                stream.head = head;
                stream.gap_records = stream.gap_records.saturating_add(count);
                Effect::GapLanded {
                    head,
                    count,
                    reason,
                }
            }
            Verdict::Duplicate => Effect::Duplicate { head: stream.head },
            Verdict::Refused(reason) => refused(reason, stream.head),
        }
    }

    fn commit_offsets(&mut self, commit: CommitOffsets) -> Effect {
        let mut unknown = Vec::new();
        for offset in commit.offsets {
            let (topic_id, partition) = (offset.topic_id, offset.partition);
            let target = Target {
                topic_id,
                partition,
            };
            if self.partition(target).is_none() {
                unknown.push((topic_id, partition));
                continue;
            }
            let committed = Committed {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata,
                commit_time_ms: self.now_ms,
            };
            let group = self.groups.entry(commit.group.clone()).or_default();
            group.insert(target, committed);
        }
        Effect::OffsetsCommitted { unknown }
    }
}

/// Offsets end here: what would go beyond is refused.
const KAFKA_OFFSET_MAX: KafkaOffset = KafkaOffset(i64::MAX - 1);
