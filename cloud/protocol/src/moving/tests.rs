use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_bridge_protocol::landing::Offer;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, PartitionId, SessionEpoch,
    StoreId, StreamName, TopicName,
};

use super::*;
use crate::index::{LogPlace, SegmentId};
use crate::ledger::command::{
    AddStore, AlterTopic, Begin, CreateTopic, Entry, Land, OpenBroker, OpenSession, OpenStream,
    Pack, Part, Tick, TopicChange, Trim,
};
use crate::ledger::{Command, Effect, PackRefusal};

const TOPICS: u128 = 2;
const PARTITIONS: i32 = 2;
const ALL: MoveRule = MoveRule {
    bytes_max: u64::MAX,
    moves_max: usize::MAX,
};

/// A ledger with some topics; into each partition one stream lands.
struct World {
    ledger: Ledger,
    landed: BTreeMap<Target, u64>,
    segments: u64,
}

fn edge() -> EdgeId {
    EdgeId::new("press-4").unwrap()
}

fn topic(topic_id: TopicId) -> TopicName {
    TopicName::new(format!("topic-{}", topic_id.0)).unwrap()
}

fn stream(target: Target) -> StreamName {
    let (topic, lane) = (target.topic_id.0, target.partition.0);
    StreamName::new(format!("stream-{topic}#{lane}")).unwrap()
}

fn targets() -> impl Iterator<Item = Target> {
    (0..TOPICS).flat_map(|id| {
        (0..PARTITIONS).map(move |partition| Target {
            topic_id: TopicId(id),
            partition: PartitionId(partition),
        })
    })
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            ledger: Ledger::new(),
            landed: BTreeMap::new(),
            segments: 0,
        };
        world.apply(Command::Begin(Begin {
            now_ms: 1_000,
            cluster_incarnation_id: 5,
        }));
        for id in 0..TOPICS {
            world.apply(Command::CreateTopic(CreateTopic {
                name: topic(TopicId(id)),
                topic_id: TopicId(id),
                partitions: PARTITIONS as u32,
                changes: Vec::new(),
            }));
        }
        world.one(Entry::OpenBroker(OpenBroker { id: 1 }));
        world.one(Entry::OpenSession(OpenSession {
            edge: edge(),
            store_id: StoreId(1),
            seen_cluster: ClusterIncarnation::default(),
            seen_epoch: SessionEpoch(0),
        }));
        for target in targets() {
            world.one(Entry::OpenStream(OpenStream {
                edge: edge(),
                session_epoch: SessionEpoch(1),
                stream: stream(target),
                incarnation: Incarnation(0),
                topic: topic(target.topic_id),
                landed: EdgeOffset(0),
                landed_life: 0,
            }));
        }
        world
    }

    fn apply(&mut self, command: Command) -> Effect {
        let place = LogPlace::default();
        self.ledger.apply(command, place).unwrap().remove(0)
    }

    fn one(&mut self, entry: Entry) -> Effect {
        let (now_ms, entries) = (2_000, vec![entry]);
        self.apply(Command::Tick(Tick { now_ms, entries }))
    }

    fn add_store(&mut self, number: u32) -> Effect {
        let url = format!("s3://bucket-{number}");
        self.one(Entry::AddStore(AddStore { url }))
    }

    fn alter(&mut self, topic_id: TopicId, store: u32) -> Effect {
        let changes = vec![TopicChange::Store(store)];
        self.one(Entry::AlterTopic(AlterTopic { topic_id, changes }))
    }

    /// Lands one batch and packs it, into a store.
    fn pack(&mut self, target: Target, bytes: u64, store: u32) -> Effect {
        let base = self.landed.get(&target).copied().unwrap_or(0);
        let landed = self.one(Entry::Land(Land {
            edge: edge(),
            stream: stream(target),
            offer: Offer {
                session_epoch: SessionEpoch(1),
                incarnation: Incarnation(1),
                base_offset: EdgeOffset(base),
                count: 5,
                hash_before: BoundaryHash(base.into()),
                hash_after: BoundaryHash((base + 5).into()),
            },
            part: Part {
                batch_bytes: 10,
                ..Part::default()
            },
        }));
        assert!(matches!(landed, Effect::Landed(_)), "{landed:?}");
        self.landed.insert(target, base + 5);
        let base = KafkaOffset(base as i64);
        let segment = Segment {
            id: self.id(store),
            base,
            end: base.plus(5),
            bytes,
            ..Segment::default()
        };
        self.propose(target, segment, Vec::new())
    }

    fn id(&mut self, store: u32) -> SegmentId {
        self.segments += 1;
        SegmentId {
            store,
            broker_epoch: 1,
            number: self.segments,
        }
    }

    fn propose(&mut self, target: Target, segment: Segment, replaces: Vec<SegmentId>) -> Effect {
        let facts = None;
        self.one(Entry::Pack(Pack {
            target,
            segment,
            replaces,
            facts,
        }))
    }

    /// As the mover does it: a copy under a new name.
    fn carry_out(&mut self, moved: &Move) -> Effect {
        let copy = Segment {
            id: self.id(moved.to),
            ..moved.segment
        };
        self.propose(moved.target, copy, vec![moved.segment.id])
    }

    fn next(&self, from: Cursor, rule: MoveRule) -> Vec<Move> {
        moves(&self.ledger, from, rule, |_| true)
    }

    /// All segments but for their names, in their order.
    fn offsets(&self) -> Vec<(Target, KafkaOffset, KafkaOffset, u64)> {
        let all = self.ledger.logs();
        let all =
            all.flat_map(|(target, log)| log.segments().map(move |segment| (target, segment)));
        all.map(|(target, segment)| (target, segment.base, segment.end, segment.bytes))
            .collect()
    }
}

fn first() -> Target {
    targets().next().unwrap()
}

#[test]
fn a_store_has_one_number_for_ever_and_a_topic_only_one_that_is_known() {
    let mut world = World::new();
    assert_eq!(
        world.alter(TopicId(0), 1),
        Effect::StoreUnknown { number: 1 }
    );
    assert_eq!(world.ledger.topic(TopicId(0)).unwrap().settings.store, 0);
    let refused = world.pack(first(), 100, 1);
    let reason = PackRefusal::UnknownStore;
    assert!(matches!(refused, Effect::PackRefused { reason: found, .. } if found == reason));

    assert_eq!(world.add_store(7), Effect::StoreAdded { number: 1 });
    assert_eq!(world.add_store(8), Effect::StoreAdded { number: 2 });
    assert_eq!(world.add_store(7), Effect::StoreAdded { number: 1 });
    assert_eq!(world.ledger.store_url(1), Some("s3://bucket-7"));
    assert_eq!(world.ledger.store_url(0), None);
    assert!(matches!(
        world.alter(TopicId(0), 2),
        Effect::TopicAltered { .. }
    ));
    let name = TopicName::new("other").unwrap();
    let create = |name, store| {
        Command::CreateTopic(CreateTopic {
            name,
            topic_id: TopicId(77),
            partitions: 1,
            changes: vec![TopicChange::Store(store)],
        })
    };
    let refused = world.apply(create(name.clone(), 3));
    assert_eq!(refused, Effect::StoreUnknown { number: 3 });
    assert_eq!(world.ledger.topic_id("other"), None);
    world.apply(create(name, 2));
    assert_eq!(world.ledger.topic(TopicId(77)).unwrap().settings.store, 2);
    let restored = Ledger::restore(world.ledger.snapshot()).unwrap();
    assert_eq!(restored, world.ledger);
}

#[test]
fn there_are_so_many_stores_and_no_more() {
    let mut world = World::new();
    for number in 1..=crate::ledger::STORES_MAX {
        assert_eq!(world.add_store(number), Effect::StoreAdded { number });
    }
    assert_eq!(world.add_store(0), Effect::StoreRefused);
    let number = 5;
    assert_eq!(world.add_store(number), Effect::StoreAdded { number });
}

#[test]
fn what_is_moved_at_once_is_bounded_and_the_search_goes_on_where_it_was() {
    let mut world = World::new();
    world.add_store(1);
    for target in targets() {
        for bytes in [400, 400, 3_000, 100] {
            world.pack(target, bytes, 0);
        }
    }
    assert_eq!(world.next(Cursor::default(), ALL), []);
    world.alter(TopicId(1), 1);
    let rule = MoveRule {
        bytes_max: 1_000,
        moves_max: 2,
    };
    let mut sizes = Vec::new();
    let mut cursor = Cursor::default();
    loop {
        let moves = world.next(cursor, rule);
        let Some(last) = moves.last() else { break };
        cursor = last.end();
        assert!(moves.iter().all(|one| one.target.topic_id == TopicId(1)));
        sizes.push(
            moves
                .iter()
                .map(|one| one.segment.bytes)
                .collect::<Vec<_>>(),
        );
    }
    let of_partition = [vec![400, 400], vec![3_000], vec![100]];
    let mut expected = of_partition.to_vec();
    // The last of one partition and the first of the next go together.
    expected.pop();
    expected.push(vec![100, 400]);
    expected.extend([vec![400], vec![3_000], vec![100]]);
    assert_eq!(sizes, expected);
    let skips = moves(&world.ledger, Cursor::default(), ALL, |one| {
        one.segment.bytes < 400
    });
    assert_eq!(skips.len(), 2);
}

#[test]
fn a_copy_of_what_has_gone_meanwhile_is_not_taken() {
    let mut world = World::new();
    world.add_store(1);
    world.pack(first(), 400, 0);
    world.alter(first().topic_id, 1);
    let planned = world.next(Cursor::default(), ALL);
    let [planned] = planned[..] else { panic!() };
    world.one(Entry::Trim(Trim {
        target: first(),
        start: KafkaOffset(5),
    }));
    let reason = PackRefusal::Changed;
    let effect = world.carry_out(&planned);
    assert!(matches!(effect, Effect::PackRefused { reason: found, .. } if found == reason));
}

#[derive(Clone, Debug)]
enum Step {
    Pack(usize, u64),
    Alter(u128, u32),
    Trim(usize, i64),
    Move(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let partitions = TOPICS as usize * PARTITIONS as usize;
    prop_oneof![
        4 => (0..partitions, 1u64..1_000).prop_map(|(target, bytes)| Step::Pack(target, bytes)),
        2 => (0..TOPICS, 0u32..4).prop_map(|(topic, store)| Step::Alter(topic, store)),
        1 => (0..partitions, 0i64..60).prop_map(|(target, start)| Step::Trim(target, start)),
        2 => (0u64..2_000, 1usize..4).prop_map(|(bytes, count)| Step::Move(bytes, count)),
    ]
}

proptest! {
    /// Whatever happens between: once nothing is to be moved, all lies where its topic says; what has gone waits to
    /// be deleted where it lay; and nothing but names has changed by moving.
    #[test]
    fn all_goes_where_its_topic_says(steps in vec(step(), 0..60)) {
        let mut world = World::new();
        for number in 1..4 {
            world.add_store(number);
        }
        for step in steps {
            match step {
                Step::Pack(target, bytes) => {
                    let target = targets().nth(target).unwrap();
                    let store = world.ledger.topic(target.topic_id).unwrap().settings.store;
                    world.pack(target, bytes, store);
                }
                Step::Alter(topic, store) => drop(world.alter(TopicId(topic), store)),
                Step::Trim(target, start) => {
                    let (target, start) = (targets().nth(target).unwrap(), KafkaOffset(start));
                    world.one(Entry::Trim(Trim { target, start }));
                }
                Step::Move(bytes_max, moves_max) => {
                    let rule = MoveRule { bytes_max, moves_max };
                    let moves = world.next(Cursor::default(), rule);
                    prop_assert!(moves.len() <= moves_max);
                    let bytes: u64 = moves.iter().map(|one| one.segment.bytes).sum();
                    prop_assert!(moves.len() <= 1 || bytes <= bytes_max);
                    for one in &moves {
                        let taken = matches!(world.carry_out(one), Effect::Packed { .. });
                        prop_assert!(taken);
                    }
                }
            }
        }
        let before = world.offsets();
        for one in world.next(Cursor::default(), ALL) {
            world.carry_out(&one);
            prop_assert!(world.ledger.free_segments(i64::MAX).any(|id| id == one.segment.id));
        }
        prop_assert_eq!(world.next(Cursor::default(), ALL), []);
        prop_assert_eq!(world.offsets(), before.clone());
        for id in 0..TOPICS {
            let stored = stored(&world.ledger, TopicId(id));
            let says = world.ledger.topic(TopicId(id)).unwrap().settings.store;
            prop_assert_eq!(stored.keys().copied().collect::<Vec<_>>(), [says]);
            let of_topic = before.iter().filter(|(target, ..)| target.topic_id.0 == id);
            let expected = of_topic.fold(Stored::default(), |sum, (_, _, _, bytes)| Stored {
                segments: sum.segments + 1,
                bytes: sum.bytes + bytes,
            });
            prop_assert_eq!(stored[&says], expected);
        }
        let restored = Ledger::restore(world.ledger.snapshot()).unwrap();
        prop_assert_eq!(restored, world.ledger);
    }
}
