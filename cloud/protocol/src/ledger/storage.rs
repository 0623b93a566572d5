//! Where batches lie, decided by the ledger: landing adds to a partition's tail, packing moves the tail
//! into segments, retention takes away from the front. What nothing needs any more is kept as garbage
//! until whoever deletes it has said so.

use std::collections::BTreeMap;

use tidegate_shared::id::{KafkaOffset, TopicId};

use super::command::{AlterTopic, OpenBroker, Pack, Part, Swept, Trim};
use super::{Effect, Ledger, PackRefusal, PartitionLog, Segment, TailBatch, Target};
use crate::index::{LogPlace, SegmentId};

/// Objects that nothing reads any more, and since when by the ledger's time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Garbage {
    pub(super) segments: BTreeMap<SegmentId, i64>,
    pub(super) log_objects: BTreeMap<u64, i64>,
}

/// How many batches of tails lie in each log object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Living(BTreeMap<u64, u64>);

impl Living {
    pub(super) fn of<'a>(logs: impl Iterator<Item = &'a PartitionLog>) -> Self {
        let mut living = Self::default();
        for place in logs.flat_map(PartitionLog::log_places) {
            living.add(place);
        }
        living
    }

    fn add(&mut self, place: LogPlace) {
        *self.0.entry(place.object).or_default() += 1;
    }

    /// Whether that was the last one in its object.
    fn take(&mut self, place: LogPlace) -> bool {
        let Some(count) = self.0.get_mut(&place.object) else {
            return false;
        };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.0.remove(&place.object);
        }
        is_last
    }
}

impl Ledger {
    /// A partition's segments and tail.
    pub fn log(&self, target: Target) -> &PartitionLog {
        static EMPTY: PartitionLog = PartitionLog::EMPTY;
        self.logs.get(&target).unwrap_or(&EMPTY)
    }

    /// The partitions that have batches.
    pub fn logs(&self) -> impl Iterator<Item = (Target, &PartitionLog)> {
        self.logs.iter().map(|(target, log)| (*target, log))
    }

    /// The same, from a partition on.
    pub fn logs_from(&self, from: Target) -> impl Iterator<Item = (Target, &PartitionLog)> {
        self.logs.range(from..).map(|(target, log)| (*target, log))
    }

    /// The first segment that reaches beyond `from` of `target`, or that lies in a partition behind it.
    pub fn segment_from(&self, target: Target, from: KafkaOffset) -> Option<(Target, Segment)> {
        self.logs.range(target..).find_map(|(of, log)| {
            let from = if *of == target { from } else { KafkaOffset(0) };
            Some((*of, *log.segment_at(from)?))
        })
    }

    /// The epoch under which segments are written now.
    pub fn broker_epoch(&self) -> u64 {
        self.broker_epoch
    }

    /// Whether a batch that is not packed yet lies in a log object.
    pub fn is_log_object_needed(&self, object: u64) -> bool {
        self.living.0.contains_key(&object)
    }

    /// The log objects in which such batches lie, in order.
    pub fn needed_log_objects(&self) -> impl Iterator<Item = u64> {
        self.living.0.keys().copied()
    }

    /// Since when nothing needs a log object in which batches had landed, by the ledger's time; `None`
    /// where that is not so, or is forgotten.
    pub fn log_object_freed_ms(&self, object: u64) -> Option<i64> {
        self.garbage.log_objects.get(&object).copied()
    }

    /// Log objects that nothing needs since `before_ms` or earlier.
    pub fn free_log_objects(&self, before_ms: i64) -> impl Iterator<Item = u64> {
        let free = self.garbage.log_objects.iter();
        let free = free.filter(move |(_, freed_ms)| **freed_ms <= before_ms);
        free.map(|(object, _)| *object)
    }

    /// Segments that nothing needs since `before_ms` or earlier.
    pub fn free_segments(&self, before_ms: i64) -> impl Iterator<Item = SegmentId> {
        let free = self.garbage.segments.iter();
        let free = free.filter(move |(_, freed_ms)| **freed_ms <= before_ms);
        free.map(|(id, _)| *id)
    }

    /// Whether a segment is read, or waits to be deleted.
    pub fn knows_segment(&self, id: SegmentId) -> bool {
        let mut segments = self.logs.values().flat_map(PartitionLog::segments);
        self.garbage.segments.contains_key(&id) || segments.any(|segment| segment.id == id)
    }

    /// A batch whose part is among the attachments at `place`.
    pub(super) fn add_part(
        &mut self,
        target: Target,
        base_offset: KafkaOffset,
        count: u64,
        part: Part,
        place: LogPlace,
    ) {
        let position = place.position + u64::from(part.attachment_offset);
        self.add_batch(
            target,
            TailBatch {
                base_offset,
                count,
                batch_bytes: part.batch_bytes,
                max_timestamp_ms: part.max_timestamp_ms,
                landed_ms: self.now_ms,
                place: LogPlace { position, ..place },
            },
        );
    }

    fn add_batch(&mut self, target: Target, batch: TailBatch) {
        self.living.add(batch.place);
        self.garbage.log_objects.remove(&batch.place.object);
        self.logs.entry(target).or_default().push(batch);
    }

    pub(super) fn pack(&mut self, pack: Pack) -> Effect {
        let (target, segment) = (pack.target, pack.segment);
        let refused = |reason| Effect::PackRefused {
            target,
            segment: segment.id,
            reason,
        };
        if segment.id.broker_epoch != self.broker_epoch {
            return refused(PackRefusal::ClosedEpoch);
        }
        if !self.stores.knows(segment.id.store) {
            return refused(PackRefusal::UnknownStore);
        }
        let Some(log) = self.logs.get_mut(&target) else {
            return refused(PackRefusal::Changed);
        };
        let replaced = match pack.replaces.is_empty() {
            true => match log.pack(segment) {
                Some(places) => {
                    self.free_places(places);
                    Vec::new()
                }
                None => return refused(PackRefusal::Changed),
            },
            false => match log.replace(segment, &pack.replaces) {
                Some(replaced) => replaced,
                None => return refused(PackRefusal::Changed),
            },
        };
        self.free_segments_of(&replaced);
        let facts = pack.facts;
        Effect::Packed {
            target,
            segment,
            facts,
        }
    }

    pub(super) fn trim(&mut self, trim: &Trim) -> Effect {
        let target = trim.target;
        let topic = self.topics.get_mut(&target.topic_id);
        let Some(partition) = topic.and_then(|topic| topic.partition_mut(target)) else {
            return Effect::TopicUnknown {
                topic_id: target.topic_id,
            };
        };
        let start = trim.start.min(partition.next).max(partition.log_start);
        partition.log_start = start;
        if let Some(log) = self.logs.get_mut(&target) {
            let (segments, places) = log.trim(start);
            self.free_segments_of(&segments);
            self.free_places(places);
        }
        Effect::Trimmed { target, start }
    }

    pub(super) fn alter_topic(&mut self, alter: AlterTopic) -> Effect {
        let topic_id = alter.topic_id;
        let Some(topic) = self.topics.get_mut(&topic_id) else {
            return Effect::TopicUnknown { topic_id };
        };
        if let Some(number) = self.stores.unknown_in(&alter.changes) {
            return Effect::StoreUnknown { number };
        }
        for change in alter.changes {
            topic.settings.change(change);
        }
        Effect::TopicAltered { topic_id }
    }

    pub(super) fn swept(&mut self, swept: Swept) -> Effect {
        for id in swept.segments {
            self.garbage.segments.remove(&id);
        }
        for object in swept.log_objects {
            self.garbage.log_objects.remove(&object);
        }
        Effect::Swept
    }

    pub(super) fn open_broker(&mut self, _open: OpenBroker) -> Effect {
        self.broker_epoch += 1;
        Effect::BrokerOpened {
            broker_epoch: self.broker_epoch,
        }
    }

    /// All that a topic had is free.
    pub(super) fn free_topic(&mut self, topic_id: TopicId) {
        let of_topic = self
            .logs
            .keys()
            .filter(|target| target.topic_id == topic_id);
        let targets: Vec<Target> = of_topic.copied().collect();
        for target in targets {
            let Some(log) = self.logs.remove(&target) else {
                continue;
            };
            let segments: Vec<Segment> = log.segments().copied().collect();
            self.free_segments_of(&segments);
            self.free_places(log.log_places().collect());
        }
    }

    fn free_places(&mut self, places: Vec<LogPlace>) {
        for place in places {
            if self.living.take(place) {
                self.garbage.log_objects.insert(place.object, self.now_ms);
            }
        }
    }

    fn free_segments_of(&mut self, segments: &[Segment]) {
        let freed = segments.iter().map(|segment| (segment.id, self.now_ms));
        self.garbage.segments.extend(freed);
    }
}
