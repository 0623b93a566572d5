//! The map against a plain one that holds every single offset.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_shared::id::PartitionId;

use super::*;

pub(super) const LIFE: ClusterIncarnation = ClusterIncarnation { counter: 1, id: 9 };

pub(super) fn edge(number: u8) -> EdgeId {
    EdgeId::new(format!("edge-{number}")).unwrap()
}

pub(super) fn stream() -> StreamName {
    StreamName::new("telemetry").unwrap()
}

pub(super) fn place(partition: i32) -> Place {
    Place {
        cluster_incarnation: LIFE,
        target: Target {
            topic_id: TopicId(1),
            partition: PartitionId(partition),
        },
    }
}

pub(super) fn fact(edge_offset: u64, count: u64, partition: i32, kafka_offset: i64) -> Fact {
    Fact {
        incarnation: Incarnation(1),
        edge_offset: EdgeOffset(edge_offset),
        count,
        cluster_incarnation: LIFE,
        topic_id: TopicId(1),
        partition: PartitionId(partition),
        kafka_offset: KafkaOffset(kafka_offset),
    }
}

/// What a map says of which nothing is packed.
impl OffsetMap {
    pub(super) fn everywhere<T>(&self, ask: impl Fn(AllFacts<'_>) -> Result<T, Unopened>) -> T {
        let (ledger, opened) = (crate::ledger::Ledger::new(), Opened::new());
        ask(AllFacts::new(&ledger, self, &opened)).expect("nothing is packed")
    }

    fn in_cloud(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        offset: EdgeOffset,
    ) -> Option<InCloud> {
        self.everywhere(|all| all.in_cloud(edge, stream, incarnation, offset))
    }

    fn first_from(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        offset: EdgeOffset,
    ) -> Option<(Place, KafkaOffset)> {
        self.everywhere(|all| all.first_from(edge, stream, incarnation, offset))
    }

    fn meant(&self, edge: &EdgeId, stream: &StreamName, offset: EdgeOffset) -> Option<Incarnation> {
        self.everywhere(|all| all.meant(edge, stream, offset))
    }

    pub(super) fn read_below(
        &self,
        place: &Place,
        offset: KafkaOffset,
    ) -> Vec<(Source, EdgeOffset)> {
        self.everywhere(|all| {
            let read = all.read_below(place, offset)?.into_iter();
            Ok(read.map(|(source, at)| (source.clone(), at)).collect())
        })
    }
}

pub(super) fn in_cloud(map: &OffsetMap, number: u8, offset: u64) -> Option<InCloud> {
    map.in_cloud(&edge(number), &stream(), Incarnation(1), EdgeOffset(offset))
}

/// Facts as a ledger makes them: several edges land in turn.
fn landings(turns: &[(u8, u64)]) -> Vec<NamedFact> {
    let (mut next_edge, mut next_kafka) = (BTreeMap::new(), BTreeMap::new());
    let turns = turns.iter().map(|(number, count)| {
        let partition = i32::from(number % 2);
        let from: &mut u64 = next_edge.entry(*number).or_default();
        let to: &mut i64 = next_kafka.entry(partition).or_default();
        let fact = fact(*from, *count, partition, *to);
        *from += count;
        *to += *count as i64;
        let (edge, stream) = (edge(*number), stream());
        NamedFact { edge, stream, fact }
    });
    turns.collect()
}

pub(super) fn landed(named: &NamedFact) -> Effect {
    Effect::Landed(crate::ledger::Landed {
        edge: named.edge.clone(),
        stream: named.stream.clone(),
        fact: named.fact,
        part: crate::ledger::command::Part {
            attachment_offset: 0,
            batch_bytes: 0,
            max_timestamp_ms: 0,
        },
        head: Default::default(),
    })
}

fn map_of<'a>(facts: impl IntoIterator<Item = &'a NamedFact>) -> OffsetMap {
    let mut map = OffsetMap::new();
    for named in facts {
        map.add(&named.edge, &named.stream, &named.fact).unwrap();
    }
    map
}

proptest! {
    #[test]
    fn both_ways_are_exact_and_monotone(turns in prop::collection::vec((0..4u8, 1..6u64), 1..40)) {
        let facts = landings(&turns);
        let map = map_of(&facts);
        let mut ends: BTreeMap<EdgeId, u64> = BTreeMap::new();
        for named in &facts {
            for delta in 0..named.fact.count {
                let at_edge = named.fact.edge_offset.plus(delta);
                let kafka_offset = named.fact.kafka_offset.plus(delta as i64);
                let place = place(named.fact.partition.0);
                let found = map.in_cloud(&named.edge, &named.stream, Incarnation(1), at_edge);
                prop_assert_eq!(found, Some(InCloud::Landed { place, kafka_offset }));
                let (source, back) = map.at_edge(&place, kafka_offset).unwrap();
                prop_assert_eq!((&source.edge, back), (&named.edge, at_edge));
            }
            ends.insert(named.edge.clone(), named.fact.edge_offset.0 + named.fact.count);
        }
        for (edge, end) in ends {
            let known_up_to = EdgeOffset(end);
            let found = map.in_cloud(&edge, &stream(), Incarnation(1), known_up_to);
            prop_assert_eq!(found, Some(InCloud::NotYet { known_up_to }));
        }
        prop_assert_eq!(map.check(), Vec::<String>::new());
    }

    /// Merging is commutative, associative and idempotent: any order, any repetition, one result.
    #[test]
    fn merging_is_a_union(
        turns in prop::collection::vec((0..4u8, 1..6u64), 1..40),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
    ) {
        let facts = landings(&turns);
        let whole = map_of(&facts);
        let picked: Vec<_> = order.iter().map(|index| &facts[index.index(facts.len())]).collect();
        let mut other = map_of(picked);
        for named in facts.iter().rev() {
            other.add(&named.edge, &named.stream, &named.fact).unwrap();
        }
        let all = |map: &OffsetMap| map.facts().collect::<Vec<_>>();
        prop_assert_eq!(all(&other), all(&whole));
        for named in all(&whole) {
            prop_assert!(!other.add(&named.edge, &named.stream, &named.fact).unwrap());
        }
        prop_assert_eq!(other.size().0, whole.size().0);
    }

    /// Whatever was imported before: what lands lies where it landed, and both sides agree.
    #[test]
    fn landings_outweigh_any_import(
        imported in prop::collection::vec((0..3u8, 0..30u64, 1..9u64, 0..2i32, 0..30i64), 0..30),
        turns in prop::collection::vec((0..3u8, 1..6u64), 1..20),
    ) {
        let mut map = OffsetMap::new();
        for (number, at, count, partition, to) in imported {
            let _ = map.add(&edge(number), &stream(), &fact(at, count, partition, to));
        }
        let facts = landings(&turns);
        for named in &facts {
            map.apply(&landed(named), LIFE).unwrap();
        }
        for named in &facts {
            prop_assert!(map.holds(named));
        }
        prop_assert_eq!(map.check(), Vec::<String>::new());
    }

    #[test]
    fn facts_in_pieces_are_all_facts(
        turns in prop::collection::vec((0..4u8, 1..6u64), 1..40),
        facts_max in 1..7_usize,
    ) {
        let map = map_of(&landings(&turns));
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let piece = map.facts_behind(&mut after, facts_max);
            if piece.is_empty() {
                break;
            }
            prop_assert!(piece.len() <= facts_max);
            found.extend(piece);
        }
        prop_assert_eq!(found, map.facts().collect::<Vec<_>>());
    }

    /// A fact that contradicts another is refused, and changes nothing.
    #[test]
    fn a_clash_is_an_error(
        turns in prop::collection::vec((0..3u8, 1..6u64), 1..20),
        at in any::<prop::sample::Index>(),
        shift in 1..5i64,
        of_cloud in any::<bool>(),
    ) {
        let facts = landings(&turns);
        let mut map = map_of(&facts);
        let mut wrong = facts[at.index(facts.len())].clone();
        match of_cloud {
            true => wrong.fact.kafka_offset.0 += shift,
            false => wrong.fact.edge_offset.0 += shift as u64,
        }
        let before: Vec<_> = map.facts().collect();
        prop_assert!(map.add(&wrong.edge, &wrong.stream, &wrong.fact).is_err());
        prop_assert_eq!(map.facts().collect::<Vec<_>>(), before);
    }

    #[test]
    fn a_consumers_place_is_told_by_edge_offsets_and_back(
        turns in prop::collection::vec((0..4u8, 1..6u64), 1..40),
        at in any::<prop::sample::Index>(),
    ) {
        let facts = landings(&turns);
        let map = map_of(&facts);
        let end: i64 = facts.iter().filter(|named| named.fact.partition.0 == 0)
            .map(|named| named.fact.count as i64).sum();
        let stands = KafkaOffset(at.index(end as usize + 1) as i64);
        for (source, behind) in map.read_below(&place(0), stands) {
            // All before it lies below, and it does not.
            let before = map.in_cloud(&source.edge, &source.stream, source.incarnation, EdgeOffset(behind.0 - 1));
            let below = |offset: KafkaOffset| offset < stands;
            let is_read = matches!(before, Some(InCloud::Landed { kafka_offset, .. }) if below(kafka_offset));
            prop_assert!(is_read, "{:?}", before);
            let next = map.first_from(&source.edge, &source.stream, source.incarnation, behind);
            prop_assert!(next.is_none_or(|(_, offset)| offset >= stands));
        }
    }
}

#[test]
fn gaps_and_what_is_not_known_are_said() {
    let mut map = OffsetMap::new();
    map.add(&edge(0), &stream(), &fact(0, 10, 0, 0)).unwrap();
    let source = map.source(&edge(0), &stream(), Incarnation(1), LIFE);
    map.lose(source, EdgeOffset(10), 5, GapReason::Overflow);
    map.add(&edge(0), &stream(), &fact(15, 5, 0, 10)).unwrap();
    let lost = InCloud::Lost {
        reason: GapReason::Overflow,
        from: EdgeOffset(10),
        to: EdgeOffset(15),
    };
    assert_eq!(in_cloud(&map, 0, 12), Some(lost));
    let landed = in_cloud(&map, 0, 16);
    assert!(matches!(
        landed,
        Some(InCloud::Landed {
            kafka_offset: KafkaOffset(11),
            ..
        })
    ));
    assert_eq!(in_cloud(&map, 1, 0), None);
    let first = map.first_from(&edge(0), &stream(), Incarnation(1), EdgeOffset(11));
    assert_eq!(first, Some((place(0), KafkaOffset(10))));
    map.forget_topic(TopicId(1));
    assert_eq!(in_cloud(&map, 0, 3), Some(InCloud::Expired));
    assert_eq!(in_cloud(&map, 0, 12), Some(lost));
    assert_eq!(map.at_edge(&place(0), KafkaOffset(3)), None);
    // What is gone was known once, to the end.
    assert_eq!(in_cloud(&map, 0, 19), Some(InCloud::Expired));
    let known_up_to = EdgeOffset(20);
    assert_eq!(in_cloud(&map, 0, 20), Some(InCloud::NotYet { known_up_to }));
}

#[test]
fn lives_of_the_cloud_do_not_clash_and_the_newest_answers() {
    let mut map = map_of(&landings(&[(0, 10)]));
    let later = ClusterIncarnation { counter: 2, id: 3 };
    let again = Fact {
        cluster_incarnation: later,
        ..fact(4, 3, 0, 50)
    };
    map.add(&edge(0), &stream(), &again).unwrap();
    let offset = |map: &OffsetMap, at| match in_cloud(map, 0, at) {
        Some(InCloud::Landed { kafka_offset, .. }) => kafka_offset.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (offset(&map, 3), offset(&map, 4), offset(&map, 8)),
        (3, 50, 8)
    );
    assert_eq!(map.check(), Vec::<String>::new());
}

#[test]
fn a_numbering_that_goes_on_in_a_new_life_is_found_in_both() {
    let mut map = OffsetMap::new();
    let older = fact(0, 10, 0, 0);
    let cluster_incarnation = ClusterIncarnation { counter: 2, id: 8 };
    let newer = Fact {
        cluster_incarnation,
        ..fact(10, 10, 0, 10)
    };
    for fact in [&older, &newer] {
        map.add(&edge(0), &stream(), fact).unwrap();
    }
    let from = |offset| {
        let found = map.first_from(&edge(0), &stream(), Incarnation(1), EdgeOffset(offset));
        found.map(|(place, at)| (place.cluster_incarnation.counter, at.0))
    };
    assert_eq!(from(4), Some((1, 4)));
    assert_eq!(from(10), Some((2, 10)));
    assert_eq!(from(20), None);
    // What both lives have is where the newer one says.
    let again = Fact {
        edge_offset: EdgeOffset(4),
        kafka_offset: KafkaOffset(30),
        count: 2,
        ..newer
    };
    map.add(&edge(0), &stream(), &again).unwrap();
    let found = map.first_from(&edge(0), &stream(), Incarnation(1), EdgeOffset(5));
    assert_eq!(found.map(|(_, at)| at), Some(KafkaOffset(31)));
}

#[test]
fn what_is_lost_fills_the_holes_between_facts() {
    let mut map = OffsetMap::new();
    map.add(&edge(0), &stream(), &fact(4, 2, 0, 0)).unwrap();
    let gap = Effect::GapLanded(crate::ledger::GapLanded {
        edge: edge(0),
        stream: stream(),
        incarnation: Incarnation(1),
        from: EdgeOffset(1),
        count: 8,
        reason: GapReason::CloudRestored,
        head: Default::default(),
    });
    map.apply(&gap, LIFE).unwrap();
    map.apply(&gap, LIFE).unwrap();
    let lost = |offset| match in_cloud(&map, 0, offset) {
        Some(InCloud::Lost { from, to, .. }) => Some((from.0, to.0)),
        _ => None,
    };
    let all: Vec<_> = (0..10).map(lost).collect();
    let (before, behind) = (Some((1, 4)), Some((6, 9)));
    let expected = [
        None, before, before, before, None, None, behind, behind, behind, None,
    ];
    assert_eq!(all, expected);
}

/// Without its incarnation an offset means the newest that has it, not the newest that there is.
#[test]
fn an_offset_from_before_a_fork_means_the_older_incarnation() {
    let mut map = OffsetMap::new();
    let meant = |map: &OffsetMap, offset| {
        let meant = map.meant(&edge(0), &stream(), EdgeOffset(offset));
        meant.map(|incarnation| incarnation.0)
    };
    assert_eq!(meant(&map, 0), None);
    map.add(&edge(0), &stream(), &fact(0, 80, 0, 0)).unwrap();
    let newer = Fact {
        incarnation: Incarnation(2),
        ..fact(60, 10, 0, 80)
    };
    map.add(&edge(0), &stream(), &newer).unwrap();
    let newest = map.source(&edge(0), &stream(), Incarnation(2), LIFE);
    map.lose(newest, EdgeOffset(70), 30, GapReason::Age);
    let all = [10, 60, 75, 90, 100].map(|offset| meant(&map, offset));
    assert_eq!(all, [Some(1), Some(2), Some(1), Some(2), None]);
    map.forget_topic(TopicId(1));
    assert_eq!(
        [10, 65, 75].map(|offset| meant(&map, offset)),
        [None, None, Some(2)]
    );
}

/// What was imported about offsets that were not given yet does not keep out what lands there.
#[test]
fn what_lands_outweighs_what_was_imported() {
    let mut map = map_of(&landings(&[(0, 10)]));
    // Another edge's at the partition's next offsets, and this edge's next ones elsewhere.
    map.add(&edge(1), &stream(), &fact(0, 9, 0, 8 + 4)).unwrap();
    map.add(&edge(0), &stream(), &fact(12, 20, 7, 0)).unwrap();
    let named = NamedFact {
        edge: edge(0),
        stream: stream(),
        fact: fact(10, 5, 0, 10),
    };
    map.apply(&landed(&named), LIFE).unwrap();
    for offset in 0..15 {
        let found = in_cloud(&map, 0, offset);
        let kafka_offset = KafkaOffset(offset as i64);
        let place = place(0);
        assert_eq!(
            found,
            Some(InCloud::Landed {
                place,
                kafka_offset
            })
        );
        let (source, at) = map.at_edge(&place, kafka_offset).unwrap();
        assert_eq!((&source.edge, at.0), (&edge(0), offset));
    }
    assert_eq!(map.check(), Vec::<String>::new());
    // What does not contradict it has stayed.
    let stayed = |found| matches!(found, Some(InCloud::Landed { .. }));
    assert!(stayed(in_cloud(&map, 0, 15)) && stayed(in_cloud(&map, 1, 3)));
    assert!(!stayed(in_cloud(&map, 1, 2)));
}

#[test]
fn no_more_facts_are_made_than_are_asked_for() {
    let mut map = OffsetMap::new();
    // None follows on from the one before it in the cloud.
    for number in 0..10_000 {
        let apart = fact(number, 1, 0, 2 * number as i64);
        map.add(&edge(1), &stream(), &apart).unwrap();
    }
    let all = (EdgeOffset(0), EdgeOffset(10_000));
    let found = map.facts_of(&edge(1), &stream(), Incarnation(1), all, 10);
    assert_eq!(found.len(), 10);
    assert!(found.capacity() < 100, "{}", found.capacity());
}

/// A segment that took the place of others has facts that the map let go of before; one that has other facts than are
/// still known is told.
#[test]
fn what_is_packed_already_is_packed_again_without_a_word() {
    let mut map = OffsetMap::new();
    let target = place(0).target;
    map.add(&edge(1), &stream(), &fact(0, 5, 0, 0)).unwrap();
    let facts = map.facts_in(target, KafkaOffset(0), KafkaOffset(5));
    let mut writer = crate::segment::SegmentWriter::new(target, KafkaOffset(0));
    writer.push_facts(&facts).unwrap();
    let (_, summary) = writer.finish_at(KafkaOffset(5)).unwrap();
    let segment = crate::ledger::Segment {
        end: KafkaOffset(5),
        ..Default::default()
    };
    let packed = |facts| Effect::Packed {
        target,
        segment,
        facts: Some(facts),
    };
    let told = map.apply(&packed(FactsMark::default()), LIFE);
    assert!(matches!(told, Err(Contradiction::Segment { .. })));
    assert_eq!(map.facts().count(), 1);
    map.apply(&packed(summary.facts), LIFE).unwrap();
    assert_eq!(map.facts().count(), 0);
    let snapshot = map.snapshot();
    map.apply(&packed(summary.facts), LIFE).unwrap();
    assert_eq!(map.snapshot(), snapshot);
}
