//! A map that lets go of what is packed, with the segments beside it, against one that keeps all: by a real
//! ledger and real segments they must say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_bridge_protocol::landing::{ForkReason, ForkRequest, Head, Offer};
use tidegate_shared::id::*;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

use super::tests::edge;
use super::*;
use crate::index::{LogPlace, SegmentId};
use crate::ledger::command::*;
use crate::ledger::{Command, Ledger, Segment};
use crate::segment::{PackedBatch, SegmentIndex, SegmentWriter};

const TOPIC: TopicId = TopicId(3);
const PARTITIONS: u32 = 2;
const EDGES: u8 = 3;
/// The life of the cloud of which facts are imported.
const IMPORTED: ClusterIncarnation = ClusterIncarnation { counter: 1, id: 99 };

/// No offset of an edge or a partition is as large.
const OFFSETS: u64 = 260;

#[derive(Clone, Debug)]
enum Step {
    Land {
        edge: u8,
        count: u64,
    },
    Lose {
        edge: u8,
        count: u64,
    },
    Fork {
        edge: u8,
    },
    Import {
        edge: u8,
        at: u64,
        count: u64,
        partition: i32,
        to: i64,
    },
    Pack {
        partition: i32,
        batches: usize,
        told: bool,
    },
    Join {
        partition: i32,
        first: usize,
        count: usize,
    },
    Trim {
        partition: i32,
        by: i64,
    },
    Begin,
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let partition = || 0..PARTITIONS as i32;
    prop_oneof![
        20 => (0..EDGES, 1..6_u64).prop_map(|(edge, count)| Step::Land { edge, count }),
        4 => (0..EDGES, 1..4_u64).prop_map(|(edge, count)| Step::Lose { edge, count }),
        1 => (0..EDGES).prop_map(|edge| Step::Fork { edge }),
        2 => (0..EDGES, 0..60_u64, 1..9_u64, partition(), 0..60_i64)
            .prop_map(|(edge, at, count, partition, to)| Step::Import { edge, at, count, partition, to }),
        8 => (partition(), 1..8_usize, prop::bool::weighted(0.9))
            .prop_map(|(partition, batches, told)| Step::Pack { partition, batches, told }),
        2 => (partition(), 0..3_usize, 1..4_usize)
            .prop_map(|(partition, first, count)| Step::Join { partition, first, count }),
        2 => (partition(), 0..12_i64).prop_map(|(partition, by)| Step::Trim { partition, by }),
        1 => Just(Step::Begin),
        2 => Just(Step::Snapshot),
    ]
}

fn stream() -> StreamName {
    super::tests::stream()
}

fn target(partition: i32) -> Target {
    Target {
        topic_id: TOPIC,
        partition: PartitionId(partition),
    }
}

struct World {
    ledger: Ledger,
    /// Lets go of what is packed.
    map: OffsetMap,
    /// Is never told of it.
    plain: OffsetMap,
    opened: Opened,
    heads: BTreeMap<u8, Head>,
    segments: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            ledger: Ledger::new(),
            map: OffsetMap::new(),
            plain: OffsetMap::new(),
            opened: Opened::new(),
            heads: BTreeMap::new(),
            segments: 0,
        };
        world.begin();
        world.apply(Command::CreateTopic(CreateTopic {
            name: TopicName::new("telemetry").unwrap(),
            topic_id: TOPIC,
            partitions: PARTITIONS,
            changes: Vec::new(),
        }));
        world.one(Entry::OpenBroker(OpenBroker { id: 1 }));
        world.open();
        world
    }

    fn life(&self) -> ClusterIncarnation {
        self.ledger.cluster_incarnation().unwrap()
    }

    fn begin(&mut self) {
        let life = self.ledger.cluster_incarnation().unwrap_or_default();
        self.apply(Command::Begin(Begin {
            now_ms: 1,
            cluster_incarnation_id: u128::from(life.counter) + 7,
        }));
    }

    /// Every edge opens its session and its stream.
    fn open(&mut self) {
        for number in 0..EDGES {
            self.one(Entry::OpenSession(OpenSession {
                edge: edge(number),
                store_id: StoreId(u128::from(number) + 1),
                seen_cluster: self.life(),
                seen_epoch: self.session_epoch(number),
            }));
            let opened = self.one(Entry::OpenStream(OpenStream {
                edge: edge(number),
                session_epoch: self.session_epoch(number),
                stream: stream(),
                incarnation: self
                    .heads
                    .get(&number)
                    .map_or(Incarnation(0), |head| head.incarnation),
                topic: TopicName::new("telemetry").unwrap(),
                landed: EdgeOffset(0),
                landed_life: 0,
            }));
            let Effect::StreamOpened(opened) = opened else {
                panic!("{opened:?}")
            };
            self.heads.insert(number, opened.head);
        }
    }

    fn session_epoch(&self, number: u8) -> SessionEpoch {
        let known = self.ledger.edge(&edge(number));
        known.map_or(SessionEpoch(0), |known| known.session_epoch)
    }

    fn apply(&mut self, command: Command) -> Vec<Effect> {
        let effects = self.ledger.apply(command, LogPlace::default()).unwrap();
        let life = self.life();
        for effect in &effects {
            let _ = self.map.apply(effect, life);
            if !matches!(effect, Effect::Packed { .. }) {
                let _ = self.plain.apply(effect, life);
            }
        }
        effects.into_iter().collect()
    }

    fn one(&mut self, entry: Entry) -> Effect {
        let now_ms = self.ledger.now_ms();
        let entries = vec![entry];
        let mut effects = self.apply(Command::Tick(Tick { now_ms, entries }));
        assert_eq!(effects.len(), 1, "{effects:?}");
        effects.pop().unwrap()
    }

    fn offer(&self, number: u8, count: u64) -> Offer {
        let head = self.heads[&number];
        Offer {
            session_epoch: self.session_epoch(number),
            incarnation: head.incarnation,
            base_offset: head.next,
            count,
            hash_before: head.hash,
            hash_after: BoundaryHash(head.hash.0 + 1),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Land {
                edge: number,
                count,
            } => {
                let landed = self.one(Entry::Land(Land {
                    edge: edge(number),
                    stream: stream(),
                    offer: self.offer(number, count),
                    part: Part {
                        batch_bytes: 100,
                        ..Part::default()
                    },
                }));
                let Effect::Landed(landed) = landed else {
                    panic!("{landed:?}")
                };
                self.heads.insert(number, landed.head);
            }
            Step::Lose {
                edge: number,
                count,
            } => {
                let lost = self.one(Entry::LandGap(LandGap {
                    edge: edge(number),
                    stream: stream(),
                    offer: self.offer(number, count),
                    reason: GapReason::Overflow,
                }));
                let Effect::GapLanded(lost) = lost else {
                    panic!("{lost:?}")
                };
                self.heads.insert(number, lost.head);
            }
            Step::Fork { edge: number } => self.fork(number),
            Step::Import {
                edge: number,
                at,
                count,
                partition,
                to,
            } => {
                // Of a life that this ledger never had; what has expired is nobody's.
                let log_start = self.ledger.partition(target(partition)).unwrap().log_start;
                let to = to + log_start.0;
                let fact = Fact {
                    cluster_incarnation: IMPORTED,
                    topic_id: TOPIC,
                    ..super::tests::fact(at, count, partition, to)
                };
                let named = NamedFact {
                    edge: edge(number),
                    stream: stream(),
                    fact,
                };
                if self.all().compare(&named).unwrap() != Known::Otherwise {
                    self.one(Entry::ImportFacts(ImportFacts { facts: vec![named] }));
                }
            }
            Step::Pack {
                partition,
                batches,
                told,
            } => self.pack(partition, batches, told),
            Step::Join {
                partition,
                first,
                count,
            } => self.join(partition, first, count),
            Step::Trim { partition, by } => {
                let start = self
                    .ledger
                    .partition(target(partition))
                    .unwrap()
                    .log_start
                    .plus(by);
                self.one(Entry::Trim(Trim {
                    target: target(partition),
                    start,
                }));
            }
            Step::Begin => {
                self.begin();
                self.open();
            }
            Step::Snapshot => self.map = OffsetMap::restore(self.map.snapshot()).unwrap(),
        }
    }

    fn fork(&mut self, number: u8) {
        let head = self.heads[&number];
        let forked = self.one(Entry::ForkStream(ForkStream {
            edge: edge(number),
            stream: stream(),
            request: ForkRequest {
                session_epoch: self.session_epoch(number),
                ends: head.incarnation,
                edge_incarnation: head.incarnation,
                from: EdgeOffset(head.next.0 / 2),
                hash: BoundaryHash(0),
                reason: ForkReason::ALL[0],
                is_proved: true,
            },
        }));
        let Effect::StreamForked(forked) = forked else {
            panic!("{forked:?}")
        };
        self.heads.insert(number, forked.opened.head);
    }

    fn pack(&mut self, partition: i32, batches: usize, told: bool) {
        let tail = self.ledger.log(target(partition)).tail();
        let ends: Vec<_> = tail.iter().take(batches).map(|batch| batch.end()).collect();
        let Some(base) = tail.front().map(|batch| batch.base_offset) else {
            return;
        };
        let (mut from, end) = (base, ends[ends.len() - 1]);
        let mut writer = SegmentWriter::new(target(partition), base);
        for end in ends {
            let facts = self.map.facts_in(target(partition), from, end);
            writer.push(batch(from, end), &facts).unwrap();
            from = end;
        }
        self.propose(partition, writer, (base, end), Vec::new(), told);
    }

    /// Puts one segment in the place of some side by side, with all their facts.
    fn join(&mut self, partition: i32, first: usize, count: usize) {
        let segments = self.ledger.log(target(partition)).segments();
        let joined: Vec<Segment> = segments.skip(first).take(count).copied().collect();
        let (Some(oldest), Some(newest)) = (joined.first(), joined.last()) else {
            return;
        };
        let mut writer = SegmentWriter::new(target(partition), oldest.base);
        for segment in &joined {
            let index = &self.opened[&segment.id];
            let facts: Vec<_> = index.facts().within(segment.base, segment.end).collect();
            writer.push_facts(&facts).unwrap();
        }
        let ids = joined.iter().map(|segment| segment.id).collect();
        self.propose(partition, writer, (oldest.base, newest.end), ids, true);
    }

    fn propose(
        &mut self,
        partition: i32,
        writer: SegmentWriter,
        (base, end): (KafkaOffset, KafkaOffset),
        replaces: Vec<SegmentId>,
        told: bool,
    ) {
        let (parts, summary) = writer.finish_at(end).unwrap();
        self.segments += 1;
        let segment = Segment {
            id: SegmentId {
                store: 0,
                broker_epoch: self.ledger.broker_epoch(),
                number: self.segments,
            },
            base,
            end,
            bytes: summary.bytes,
            ..Segment::default()
        };
        let whole: Vec<u8> = parts.iter().flatten().copied().collect();
        let index = SegmentIndex::decode(&whole, summary.bytes).unwrap();
        self.opened.insert(segment.id, Arc::new(index));
        let packed = self.one(Entry::Pack(Pack {
            target: target(partition),
            segment,
            replaces,
            facts: told.then_some(summary.facts),
        }));
        assert!(matches!(packed, Effect::Packed { .. }), "{packed:?}");
    }

    fn all(&self) -> AllFacts<'_> {
        AllFacts::new(&self.ledger, &self.map, &self.opened)
    }

    fn plain(&self) -> AllFacts<'_> {
        AllFacts::new(&self.ledger, &self.plain, &self.opened)
    }

    fn incarnations(&self) -> Vec<(EdgeId, Incarnation)> {
        let edges = (0..EDGES).map(edge);
        let of = edges.flat_map(|edge| {
            let known = self.plain.incarnations(&edge, &stream());
            known.into_iter().map(move |one| (edge.clone(), one))
        });
        of.collect()
    }

    fn check_edges(&self) -> Result<(), TestCaseError> {
        let (all, plain) = (self.all(), self.plain());
        for (edge, incarnation) in self.incarnations() {
            for offset in (0..OFFSETS).map(EdgeOffset) {
                let found = all.in_cloud(&edge, &stream(), incarnation, offset).unwrap();
                let expected = plain
                    .in_cloud(&edge, &stream(), incarnation, offset)
                    .unwrap();
                // A gap before what is packed is told of until all of the segment has expired, also where an older
                // life has it otherwise.
                let is_elsewhere = match expected {
                    Some(InCloud::Landed { place, .. }) => place.cluster_incarnation == IMPORTED,
                    expected => expected == Some(InCloud::Expired),
                };
                let is_older = is_elsewhere && matches!(found, Some(InCloud::Lost { .. }));
                if !is_older {
                    prop_assert_eq!(found, expected, "{} {} {}", edge, incarnation, offset);
                }
                let first = all
                    .first_from(&edge, &stream(), incarnation, offset)
                    .unwrap();
                let expected = plain
                    .first_from(&edge, &stream(), incarnation, offset)
                    .unwrap();
                prop_assert_eq!(first, expected, "{} {} {}", edge, incarnation, offset);
            }
            prop_assert_eq!(
                every(all, &edge, incarnation),
                every(plain, &edge, incarnation)
            );
        }
        Ok(())
    }

    fn check_partitions(&self) -> Result<(), TestCaseError> {
        let (all, plain) = (self.all(), self.plain());
        for target in (0..PARTITIONS as i32).map(target) {
            prop_assert_eq!(self.map.lives_of(target), self.plain.lives_of(target));
            for cluster_incarnation in self.plain.lives_of(target) {
                let place = Place {
                    cluster_incarnation,
                    target,
                };
                for offset in (0..OFFSETS as i64).map(KafkaOffset) {
                    let found = all.at_edge(&place, offset).unwrap();
                    prop_assert_eq!(
                        found,
                        plain.at_edge(&place, offset).unwrap(),
                        "{:?} {}",
                        place,
                        offset
                    );
                    let mut found = all.read_below(&place, offset).unwrap();
                    let mut expected = plain.read_below(&place, offset).unwrap();
                    found.sort();
                    expected.sort();
                    prop_assert_eq!(found, expected, "{:?} {}", place, offset);
                }
            }
        }
        Ok(())
    }

    /// Every fact is known, in one place or the other, and those in segments are looked up there.
    fn check_facts(&self) -> Result<(), TestCaseError> {
        for named in self.plain.facts() {
            prop_assert_eq!(self.all().compare(&named), Ok(Known::Whole), "{:?}", named);
        }
        let mut at = (target(0), KafkaOffset(0));
        while let Some((target, index)) = self.all().segment_from(at.0, at.1).unwrap() {
            prop_assert_eq!(
                self.all().check_segment(target, &index),
                Vec::<String>::new()
            );
            at = (target, index.end());
        }
        prop_assert_eq!(self.map.check(), Vec::<String>::new());
        Ok(())
    }
}

/// Each record of a numbering, as it is told from the newest on by small parts; what was imported a second time may
/// be told a second time.
fn every(
    all: AllFacts<'_>,
    edge: &EdgeId,
    incarnation: Incarnation,
) -> BTreeSet<(ClusterIncarnation, EdgeOffset, KafkaOffset)> {
    let mut found = BTreeSet::new();
    let sources = all.map.sources_of_stream(edge, &stream());
    for source in sources
        .iter()
        .filter(|source| source.incarnation == incarnation)
    {
        let mut before = EdgeOffset(u64::MAX);
        loop {
            let facts = all.facts_before(source, before, 2).unwrap();
            let Some(oldest) = facts.last() else { break };
            assert!(oldest.edge_offset < before);
            before = oldest.edge_offset;
            for fact in &facts {
                let offsets = (0..fact.count).rev();
                found.extend(offsets.map(|at| {
                    let (at_edge, in_cloud) =
                        (fact.edge_offset.plus(at), fact.kafka_offset.plus(at as i64));
                    (source.cluster_incarnation, at_edge, in_cloud)
                }));
            }
        }
    }
    found
}

fn batch(from: KafkaOffset, end: KafkaOffset) -> PackedBatch {
    let mut builder = BatchBuilder::new();
    for _ in from.0..end.0 {
        builder.push(&Record::default());
    }
    let bytes = builder.seal(from.0, Compression::None, &mut Compressor::new());

    PackedBatch {
        bytes,
        landed_ms: 0,
        min_timestamp_ms: None,
    }
}

proptest! {
    #[test]
    fn what_is_packed_is_known_as_before(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        world.check_edges()?;
        world.check_partitions()?;
        world.check_facts()?;
    }
}

/// What is packed is not kept: the map grows with segments and those who are in them.
#[test]
fn a_map_does_not_grow_with_batches_that_are_packed() {
    let mut world = World::new();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        for _ in 0..100 {
            (0..EDGES).for_each(|edge| world.take(&Step::Land { edge, count: 1 }));
        }
        for partition in 0..PARTITIONS as i32 {
            let (batches, told) = (usize::MAX, true);
            world.take(&Step::Pack {
                partition,
                batches,
                told,
            });
        }
        sizes.push(world.map.size().0);
    }
    let each = usize::from(EDGES);
    assert_eq!(sizes, [each, 2 * each, 3 * each]);
    assert_eq!(world.map.facts().count(), 0);
    assert_eq!(
        world
            .plain
            .facts()
            .map(|named| named.fact.count)
            .sum::<u64>(),
        900
    );
    let nothing = Opened::new();
    let closed = AllFacts::new(&world.ledger, &world.map, &nothing);
    let (edge, offset) = (edge(0), EdgeOffset(150));
    let found = closed.in_cloud(&edge, &stream(), Incarnation(1), offset);
    let Err(Unopened(segments)) = found else {
        panic!("{found:?}")
    };
    assert_eq!(segments.len(), 1, "one segment has it");
}

/// A segment that was made of other facts than the map has takes none from it.
#[test]
fn what_a_segment_does_not_have_stays() {
    let mut world = World::new();
    world.take(&Step::Land { edge: 0, count: 5 });
    let (partition, log) = world
        .ledger
        .logs()
        .map(|(of, log)| (of.partition.0, log))
        .next()
        .unwrap();
    let (base, end) = (log.tail()[0].base_offset, log.tail()[0].end());
    let mut writer = SegmentWriter::new(target(partition), base);
    writer.push(batch(base, end), &[]).unwrap();
    world.propose(partition, writer, (base, end), Vec::new(), true);
    assert_eq!(world.map.facts().count(), 1);
    world.check_edges().unwrap();
    world.check_partitions().unwrap();
}
