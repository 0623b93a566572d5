use proptest::prelude::*;
use tidegate_bridge_protocol::landing::Offer;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, PartitionId, SessionEpoch,
    StoreId, StreamName, TopicId, TopicName,
};

use super::*;
use crate::index::{LogPlace, SegmentId};
use crate::ledger::command::{
    AlterTopic, Begin, CreateTopic, Entry, Land, OpenBroker, OpenSession, OpenStream, Pack, Part,
    Swept, Tick, TopicChange, Trim,
};
use crate::ledger::{Command, Effect, Segment};

const TARGET: Target = Target {
    topic_id: TopicId(7),
    partition: PartitionId(0),
};

const RULE: PackRule = PackRule {
    segment_bytes: 1_000,
    max_age_ms: 60_000,
};

/// A ledger with one partition, one stream that lands into it, and a broker.
struct World {
    ledger: Ledger,
    now_ms: i64,
    landed: u64,
    frames: u64,
    segments: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            ledger: Ledger::new(),
            now_ms: 1_000,
            landed: 0,
            frames: 0,
            segments: 0,
        };
        let topic = TopicName::new("telemetry").unwrap();
        world.apply(Command::Begin(Begin {
            now_ms: 1_000,
            cluster_incarnation_id: 5,
        }));
        world.apply(Command::CreateTopic(CreateTopic {
            name: topic.clone(),
            topic_id: TARGET.topic_id,
            partitions: 1,
            changes: Vec::new(),
        }));
        world.one(Entry::OpenBroker(OpenBroker { id: 1 }));
        world.one(Entry::OpenSession(OpenSession {
            edge: EdgeId::new("press-4").unwrap(),
            store_id: StoreId(1),
            seen_cluster: ClusterIncarnation::default(),
            seen_epoch: SessionEpoch(0),
        }));
        world.one(Entry::OpenStream(OpenStream {
            edge: EdgeId::new("press-4").unwrap(),
            session_epoch: SessionEpoch(1),
            stream: StreamName::new("telemetry").unwrap(),
            incarnation: Incarnation(0),
            topic,
            landed: EdgeOffset(0),
            landed_life: 0,
        }));
        world
    }

    /// Every third frame begins a file of the log.
    fn place(&self) -> LogPlace {
        LogPlace {
            object: self.frames / 3,
            position: self.frames % 3 * 10_000,
        }
    }

    fn apply(&mut self, command: Command) -> Vec<Effect> {
        self.frames += 1;
        self.ledger.apply(command, self.place()).unwrap()
    }

    fn one(&mut self, entry: Entry) -> Effect {
        let (now_ms, entries) = (self.now_ms, vec![entry]);
        self.apply(Command::Tick(Tick { now_ms, entries }))
            .remove(0)
    }

    fn land(&mut self, count: u64, batch_bytes: u32) {
        let base = self.landed;
        let effect = self.one(Entry::Land(Land {
            edge: EdgeId::new("press-4").unwrap(),
            stream: StreamName::new("telemetry").unwrap(),
            offer: Offer {
                session_epoch: SessionEpoch(1),
                incarnation: Incarnation(1),
                base_offset: EdgeOffset(base),
                count,
                hash_before: BoundaryHash(base.into()),
                hash_after: BoundaryHash((base + count).into()),
            },
            part: Part {
                batch_bytes,
                max_timestamp_ms: self.now_ms,
                ..Part::default()
            },
        }));
        assert!(matches!(effect, Effect::Landed(_)), "{effect:?}");
        self.landed += count;
    }

    fn id(&mut self) -> SegmentId {
        self.segments += 1;
        SegmentId {
            store: 0,
            broker_epoch: 1,
            number: self.segments,
        }
    }

    fn segment(
        &mut self,
        base: KafkaOffset,
        end: KafkaOffset,
        bytes: u64,
        landed_ms: i64,
    ) -> Segment {
        Segment {
            id: self.id(),
            base,
            end,
            bytes,
            index_position: bytes,
            batches: 1,
            max_timestamp_ms: landed_ms,
            landed_ms,
        }
    }

    fn pack(&mut self, plan: &PackPlan) -> Effect {
        let landed_ms = plan.batches.last().unwrap().landed_ms;
        let segment = self.segment(plan.base(), plan.end(), plan.bytes, landed_ms);
        self.one(Entry::Pack(Pack {
            target: plan.target,
            segment,
            replaces: Vec::new(),
            facts: None,
        }))
    }

    fn plans(&self) -> Vec<PackPlan> {
        plan(&self.ledger, RULE, self.now_ms, &BTreeSet::new(), 10)
    }

    fn pack_all(&mut self) {
        for plan in self.plans() {
            let effect = self.pack(&plan);
            assert!(matches!(effect, Effect::Packed { .. }), "{effect:?}");
        }
    }

    fn alter(&mut self, changes: Vec<TopicChange>) {
        let topic_id = TARGET.topic_id;
        self.one(Entry::AlterTopic(AlterTopic { topic_id, changes }));
    }
}

#[test]
fn a_tail_is_packed_at_its_size_or_its_age() {
    let mut world = World::new();
    world.land(3, 600);
    assert_eq!(world.plans(), []);
    world.land(3, 500);
    let plans = world.plans();
    // The second would not fit.
    assert_eq!(
        (plans.len(), plans[0].bytes, plans[0].end()),
        (1, 600, KafkaOffset(3))
    );
    let busy = BTreeSet::from([TARGET]);
    assert_eq!(plan(&world.ledger, RULE, world.now_ms, &busy, 10), []);
    world.pack_all();
    assert_eq!(world.plans(), []);
    world.now_ms += 59_999;
    assert_eq!(world.plans(), []);
    world.now_ms += 1;
    world.pack_all();
    let log = world.ledger.log(TARGET);
    assert_eq!((log.segments().len(), log.tail().len()), (2, 0));
}

#[test]
fn a_topic_may_have_its_own_size_of_segments() {
    let mut world = World::new();
    world.land(3, 600);
    world.land(3, 500);
    world.alter(vec![TopicChange::SegmentBytes(2_000)]);
    assert_eq!(world.plans(), [], "its own size is larger");
    world.alter(vec![TopicChange::SegmentBytes(500)]);
    assert_eq!(world.plans()[0].end(), KafkaOffset(3));
    world.alter(vec![TopicChange::SegmentBytes(0)]);
    assert_eq!(world.plans().len(), 1, "the cluster's again");
    world.alter(vec![TopicChange::SegmentBytes(u32::MAX)]);
    let topic = world.ledger.topic(TARGET.topic_id).unwrap();
    assert_eq!(RULE.of(&topic.settings).segment_bytes, SEGMENT_BYTES_MAX);
}

#[test]
fn what_was_packed_or_given_up_since_it_was_due_is_not_planned() {
    let mut world = World::new();
    let planned = |world: &World| plan_of(&world.ledger, TARGET, RULE, world.now_ms);
    assert_eq!(planned(&world), None);
    world.land(3, 1_000);
    world.land(3, 1_000);
    let due = |world: &World| due(&world.ledger, RULE, world.now_ms, &BTreeSet::new());
    assert_eq!(due(&world), [TARGET]);
    world.pack_all();
    // There is more than one segment takes.
    let next = planned(&world).unwrap();
    assert_eq!((next.base(), next.end()), (KafkaOffset(3), KafkaOffset(6)));
    let (target, start) = (TARGET, KafkaOffset(6));
    world.one(Entry::Trim(Trim { target, start }));
    assert_eq!(planned(&world), None);
    assert_eq!(due(&world), []);
}

#[test]
fn a_segment_of_a_closed_epoch_or_of_what_has_changed_is_nobodys() {
    let mut world = World::new();
    world.land(3, 1_000);
    let plan = world.plans().remove(0);
    world.one(Entry::OpenBroker(OpenBroker { id: 2 }));
    assert!(matches!(world.pack(&plan), Effect::PackRefused { .. }));
    let mut world = World::new();
    world.land(3, 1_000);
    let plan = world.plans().remove(0);
    world.pack_all();
    assert!(matches!(world.pack(&plan), Effect::PackRefused { .. }));
    assert_eq!(world.ledger.log(TARGET).segments().len(), 1);
}

#[test]
fn retention_counts_from_landing_and_by_size_and_keeps_what_is_not_packed() {
    let mut world = World::new();
    for _ in 0..4 {
        world.land(10, 1_000);
        world.pack_all();
        world.now_ms += 1_000;
    }
    world.land(10, 100);
    let at = |world: &World, now_ms| retained_from(&world.ledger, TARGET, now_ms);
    world.alter(vec![TopicChange::RetentionMs(2_500)]);
    // They landed at 1,000, 2,000, 3,000 and 4,000.
    assert_eq!(at(&world, 3_500), None);
    assert_eq!(at(&world, 3_501), Some(KafkaOffset(10)));
    assert_eq!(at(&world, 1_000_000), Some(KafkaOffset(40)));
    world.alter(vec![
        TopicChange::RetentionMs(-1),
        TopicChange::RetentionBytes(2_100),
    ]);
    // 4,100 bytes: without the first two there are 2,100 left.
    assert_eq!(at(&world, 1_000_000), Some(KafkaOffset(20)));
    world.one(Entry::Trim(Trim {
        target: TARGET,
        start: KafkaOffset(20),
    }));
    assert_eq!(at(&world, 1_000_000), None);
    world.alter(vec![
        TopicChange::RetentionBytes(0),
        TopicChange::CleanupPolicy(2),
    ]);
    assert_eq!(at(&world, 1_000_000), None);
}

#[derive(Clone, Debug)]
enum Step {
    Land(u64, u32),
    Wait(i64),
    Pack,
    Join(usize, usize),
    Trim(i64),
    Sweep,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u64..5, 1u32..700).prop_map(|(count, bytes)| Step::Land(count, bytes)),
        2 => (0i64..70_000).prop_map(Step::Wait),
        4 => Just(Step::Pack),
        2 => (0usize..6, 2usize..4).prop_map(|(first, count)| Step::Join(first, count)),
        1 => (0i64..60).prop_map(Step::Trim),
        1 => Just(Step::Sweep),
        2 => Just(Step::Restart),
    ]
}

impl World {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Land(count, bytes) => self.land(count, bytes),
            Step::Wait(ms) => self.now_ms += ms,
            Step::Pack => self.pack_all(),
            Step::Join(first, count) => self.join(first, count),
            Step::Trim(start) => {
                let (target, start) = (TARGET, KafkaOffset(start));
                self.one(Entry::Trim(Trim { target, start }));
            }
            Step::Sweep => {
                let segments = self.ledger.free_segments(i64::MAX).collect();
                let log_objects = self.ledger.free_log_objects(i64::MAX).collect();
                self.one(Entry::Swept(Swept {
                    segments,
                    log_objects,
                }));
            }
            Step::Restart => {
                let restored = Ledger::restore(self.ledger.snapshot()).unwrap();
                assert_eq!(restored, self.ledger);
                self.ledger = restored;
            }
        }
    }

    /// Puts one segment in the place of some side by side.
    fn join(&mut self, first: usize, count: usize) {
        let segments = self.ledger.log(TARGET).segments().skip(first).take(count);
        let joined: Vec<Segment> = segments.copied().collect();
        let (Some(oldest), Some(newest)) = (joined.first(), joined.last()) else {
            return;
        };
        let bytes = joined.iter().map(|segment| segment.bytes).sum();
        let segment = self.segment(oldest.base, newest.end, bytes, newest.landed_ms);
        let effect = self.one(Entry::Pack(Pack {
            target: TARGET,
            segment,
            replaces: joined.iter().map(|segment| segment.id).collect(),
            facts: None,
        }));
        assert!(matches!(effect, Effect::Packed { .. }), "{effect:?}");
    }

    /// All offsets from the start to the end are somewhere, once; nothing that is needed is garbage.
    fn check(&self) {
        let partition = self.ledger.partition(TARGET).unwrap();
        assert_eq!(partition.next.0, self.landed as i64);
        let log = self.ledger.log(TARGET);
        let segments = log.segments().map(|segment| (segment.base, segment.end));
        let tail = log
            .tail()
            .iter()
            .map(|batch| (batch.base_offset, batch.end()));
        let mut at = None;
        for (base, end) in segments.chain(tail) {
            assert!(at.is_none_or(|at| at == base) && base < end);
            assert!(end > partition.log_start, "what is given up is gone");
            assert!(
                at.is_some() || base <= partition.log_start,
                "nothing else is"
            );
            at = Some(end);
        }
        assert_eq!(at.unwrap_or(partition.next), partition.next);
        for id in self.ledger.free_segments(i64::MAX) {
            assert!(log.segments().all(|segment| segment.id != id));
        }
        for object in self.ledger.free_log_objects(i64::MAX) {
            assert!(log.tail().iter().all(|batch| batch.place.object != object));
        }
        for batch in log.tail() {
            assert!(self.ledger.is_log_object_needed(batch.place.object));
        }
    }
}

proptest! {
    #[test]
    fn every_offset_is_in_one_place_and_garbage_is_not_needed(
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}
