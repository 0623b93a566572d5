//! The ledger: the one deterministic state machine that decides offsets, duplicates, epochs, topics
//! committed offsets, and what consumer groups have assigned.
//!
//! `apply(command) -> effects` is pure: it reads no clock, makes no random number, skips no command,
//! and its maps are ordered, so that a snapshot and the commands after it give the same state to the
//! byte as the whole log does. It knows of batches only where they lie (and of those that are packed only
//! the segment); it never sees their bytes.

mod acls;
pub mod command;
mod effect;
mod epochs;
mod generations;
mod partition_log;
mod placement;
pub mod producers;
mod sessions;
mod settings;
mod snapshot;
mod state;
mod storage;
mod stores;
mod streams;
#[cfg(test)]
mod tests;
mod users;

use std::collections::BTreeMap;

use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, GroupName, KafkaOffset, SessionEpoch, StreamName, TopicId,
    TopicName,
};

pub use command::{Command, DecodeError};
pub use effect::{
    ApplyError, Effect, Effects, Forked, GapLanded, Landed, Opened, PackRefusal, ProduceRefusal,
    Produced, Target,
};
pub use epochs::EPOCH_ENDS_KEPT_MAX;
pub use partition_log::{Found, PartitionLog, Segment, TailBatch};
pub use sessions::{FIGHT_WINDOW_MS, FIGHTS_MAX};
pub use settings::TopicSettings;
pub use state::{Committed, Edge, FORKS_KEPT_MAX, Fights, Fork, Partition, Stream, Topic};
pub use stores::{CLUSTER_STORE, STORES_MAX};
pub use users::{
    Token, TokenHash, TokenName, USER_TOKENS_MAX, USERS_MAX, User, UserName, UserRefusal,
};

use crate::acls::Rules;
use crate::index::LogPlace;
use command::{
    Begin, CommitOffsets, CreateTopic, DeleteTopic, Entry, ForgetOffsets, GrowTopic, Produce, Tick,
};
use epochs::EpochEnds;
use generations::Generations;
use producers::{Producers, SequenceVerdict};
use storage::{Garbage, Living};
use stores::Stores;
use users::Users;

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
    behind: Option<Behind>,
    /// Of the newest start of a broker.
    broker_epoch: u64,
    logs: BTreeMap<Target, PartitionLog>,
    garbage: Garbage,
    stores: Stores,
    /// Of the partitions to which any has sent.
    producers: BTreeMap<Target, Producers>,
    /// Of the next one that asks for one.
    next_producer_id: i64,
    /// Of the partitions that were there when a new life of the cloud began.
    epoch_ends: BTreeMap<Target, EpochEnds>,
    users: Users,
    rules: Rules,
    generations: Generations,
    /// Made of the logs.
    living: Living,
}

/// An edge has seen a newer state of the cloud than this one: the cloud was restored from a copy.
/// Nothing lands until a new cluster incarnation begins, since what landed after the copy was made
/// would be numbered a second time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    pub edge: EdgeId,
    pub seen: ClusterIncarnation,
    pub seen_epoch: SessionEpoch,
    /// The stream that had landed further than the ledger says, where that told.
    pub stream: Option<StreamName>,
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
    pub fn stream(&self, edge: &EdgeId, stream: &StreamName) -> Option<&Stream> {
        self.edges.get(edge)?.streams.get(stream)
    }

    /// Why nothing lands, if nothing does.
    pub fn behind(&self) -> Option<&Behind> {
        self.behind.as_ref()
    }

    /// Every group with committed offsets.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.keys()
    }

    /// A group's committed offsets; empty where it has none.
    pub fn committed(&self, group: &GroupName) -> impl Iterator<Item = (Target, &Committed)> {
        let offsets = self.groups.get(group).into_iter().flatten();
        offsets.map(|(target, committed)| (*target, committed))
    }

    pub fn committed_at(&self, group: &GroupName, target: Target) -> Option<&Committed> {
        self.groups.get(group)?.get(&target)
    }

    /// Applies the next command of the log, whose batches lie at `place`.
    ///
    /// # Errors
    /// The log is not one that this ledger can follow; the ledger has not changed.
    pub fn apply(&mut self, command: Command, place: LogPlace) -> Result<Effects, ApplyError> {
        match command {
            Command::Begin(begin) => Ok(vec![self.begin(begin)?]),
            Command::CreateTopic(create) => {
                self.begun()?;
                Ok(vec![self.create_topic(create)])
            }
            Command::Tick(tick) => self.tick(tick, place),
            Command::DeleteTopic(delete) => {
                self.begun()?;
                Ok(vec![self.delete_topic(&delete)])
            }
            Command::GrowTopic(grow) => {
                self.begun()?;
                Ok(vec![self.grow_topic(&grow)])
            }
        }
    }

    fn begun(&self) -> Result<ClusterIncarnation, ApplyError> {
        self.cluster_incarnation.ok_or(ApplyError::NotBegun)
    }

    fn begin(&mut self, begin: Begin) -> Result<Effect, ApplyError> {
        let before = self.cluster_incarnation.map_or(0, |life| life.counter);
        // Newer than anything that an edge is known to have seen.
        let seen = self.behind.as_ref().map_or(0, |behind| behind.seen.counter);
        let counter = before.max(seen).checked_add(1);
        let counter = counter.ok_or(ApplyError::CounterOverflow)?;
        let id = begin.cluster_incarnation_id;
        let cluster_incarnation = ClusterIncarnation { counter, id };
        self.now_ms = self.now_ms.max(begin.now_ms);
        self.cluster_incarnation = Some(cluster_incarnation);
        self.behind = None;
        self.raise_leader_epochs();
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
        if let Some(number) = self.stores.unknown_in(&create.changes) {
            return Effect::StoreUnknown { number };
        }
        let mut topic = Topic::new(create.name.clone(), create.partitions.max(1));
        for change in create.changes {
            topic.settings.change(change);
        }
        self.topics.insert(topic_id, topic);
        self.topic_ids.insert(create.name, topic_id);
        Effect::TopicCreated { topic_id }
    }

    fn delete_topic(&mut self, delete: &DeleteTopic) -> Effect {
        let topic_id = delete.topic_id;
        let Some(topic) = self.topics.remove(&topic_id) else {
            return Effect::TopicUnknown { topic_id };
        };
        self.topic_ids.remove(&topic.name);
        self.free_topic(topic_id);
        self.producers
            .retain(|target, _| target.topic_id != topic_id);
        self.epoch_ends
            .retain(|target, _| target.topic_id != topic_id);
        for offsets in self.groups.values_mut() {
            offsets.retain(|target, _| target.topic_id != topic_id);
        }
        self.groups.retain(|_, offsets| !offsets.is_empty());
        Effect::TopicDeleted { topic_id }
    }

    fn grow_topic(&mut self, grow: &GrowTopic) -> Effect {
        let topic_id = grow.topic_id;
        let Some(topic) = self.topics.get_mut(&topic_id) else {
            return Effect::TopicUnknown { topic_id };
        };
        let before = topic.partitions.len() as u32;
        topic.grow(grow.partitions);
        Effect::TopicGrown {
            topic_id,
            before,
            partitions: topic.partitions.len() as u32,
        }
    }

    fn tick(&mut self, tick: Tick, place: LogPlace) -> Result<Effects, ApplyError> {
        let cluster_incarnation = self.begun()?;
        // An empty one is there to let time go on, also where the clock that proposes it stands.
        let at_least = self
            .now_ms
            .saturating_add(i64::from(tick.entries.is_empty()));
        self.now_ms = tick.now_ms.max(at_least);
        let entries = tick.entries.into_iter();
        Ok(entries
            .map(|entry| match entry {
                Entry::OpenSession(open) => self.open_session(open, cluster_incarnation),
                Entry::OpenStream(open) => self.open_stream(open, cluster_incarnation),
                Entry::ForkStream(fork) => self.fork_stream(fork, cluster_incarnation),
                Entry::Land(land) => self.land(land, cluster_incarnation, place),
                Entry::LandGap(land) => self.land_gap(land, cluster_incarnation),
                Entry::CommitOffsets(commit) => self.commit_offsets(commit),
                Entry::ReleaseEdge(release) => self.release_edge(&release),
                Entry::ImportFacts(import) => Effect::FactsImported(import.facts),
                Entry::Pack(pack) => self.pack(pack),
                Entry::Trim(trim) => self.trim(&trim),
                Entry::AlterTopic(alter) => self.alter_topic(alter),
                Entry::Swept(swept) => self.swept(swept),
                Entry::OpenBroker(open) => self.open_broker(open),
                Entry::Produce(produce) => self.produce(produce, place),
                Entry::AllotProducer(_) => self.allot_producer(),
                Entry::ForgetOffsets(forget) => self.forget_offsets(&forget),
                Entry::AddStore(add) => self.add_store(add),
                Entry::AlterUser(alter) => self.alter_user(alter),
                Entry::KeepGeneration(keep) => self.keep_generation(keep),
                Entry::AddRules(add) => self.add_rules(add),
                Entry::RemoveRules(remove) => self.remove_rules(&remove),
            })
            .collect())
    }

    /// A partition's idempotent producers.
    pub fn producers(&self, target: Target) -> Option<&Producers> {
        self.producers.get(&target)
    }

    fn produce(&mut self, produce: Produce, place: LogPlace) -> Effect {
        let refused = |reason| Effect::ProduceRefused { reason };
        let (target, count, part) = (produce.target, produce.count, produce.part);
        if self.behind.is_some() {
            return refused(ProduceRefusal::CloudBehind);
        }
        let topic = self.topics.get_mut(&target.topic_id);
        let Some(partition) = topic.and_then(|topic| topic.partition_mut(target)) else {
            return refused(ProduceRefusal::UnknownPartition);
        };
        if let Some(sequence) = produce.sequence {
            let known = self.producers.entry(target).or_default();
            match known.judge(sequence, count) {
                SequenceVerdict::Next => {}
                SequenceVerdict::Duplicate(base_offset) => {
                    return Effect::ProduceDuplicate { base_offset };
                }
                SequenceVerdict::StaleEpoch => return refused(ProduceRefusal::StaleEpoch),
                SequenceVerdict::OutOfOrder => return refused(ProduceRefusal::OutOfOrder),
            }
        }
        let Some(base_offset) = partition.take_offsets(count) else {
            return refused(ProduceRefusal::Full);
        };
        if let Some(sequence) = produce.sequence {
            let known = self.producers.entry(target).or_default();
            known.take(sequence, count, base_offset, self.now_ms);
        }
        self.add_part(target, base_offset, count, part, place);
        Effect::Produced(Produced {
            target,
            base_offset,
            count,
            part,
        })
    }

    fn allot_producer(&mut self) -> Effect {
        let producer_id = self.next_producer_id;
        self.next_producer_id += 1;
        Effect::ProducerAllotted { producer_id }
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

    fn forget_offsets(&mut self, forget: &ForgetOffsets) -> Effect {
        let Some(offsets) = self.groups.get_mut(&forget.group) else {
            return Effect::OffsetsForgotten { count: 0 };
        };
        let before = offsets.len();
        match &forget.targets {
            None => offsets.clear(),
            Some(targets) => targets.iter().for_each(|target| {
                offsets.remove(target);
            }),
        }
        let count = (before - offsets.len()) as u64;
        if offsets.is_empty() {
            self.groups.remove(&forget.group);
        }
        Effect::OffsetsForgotten { count }
    }
}

/// Offsets end here: what would go beyond is refused.
const KAFKA_OFFSET_MAX: KafkaOffset = KafkaOffset(i64::MAX - 1);
