//! A map that was written and read again, and one whose data expires, against maps that were not and plain
//! ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{LIFE, edge, fact, in_cloud, landed, place, stream};
use super::*;

/// What may come, as a ledger says it or as somebody does who has heard otherwise.
#[derive(Clone, Debug)]
enum Step {
    Land {
        edge: u8,
        count: u64,
    },
    Lose {
        edge: u8,
        count: u64,
        reason: u8,
    },
    Import {
        edge: u8,
        at: u64,
        count: u64,
        partition: i32,
        to: i64,
    },
    Expire {
        partition: i32,
        by: i64,
    },
    Delete,
    Begin,
    /// The map is written, and read again.
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let edges = || 0..3_u8;
    prop_oneof![
        12 => (edges(), 1..6_u64).prop_map(|(edge, count)| Step::Land { edge, count }),
        4 => (edges(), 1..6_u64, 1..=5_u8).prop_map(|(edge, count, reason)| Step::Lose { edge, count, reason }),
        3 => (edges(), 0..60_u64, 1..9_u64, 0..2_i32, 0..60_i64)
            .prop_map(|(edge, at, count, partition, to)| Step::Import { edge, at, count, partition, to }),
        3 => (0..2_i32, 0..20_i64).prop_map(|(partition, by)| Step::Expire { partition, by }),
        1 => Just(Step::Delete),
        1 => Just(Step::Begin),
        3 => Just(Step::Snapshot),
    ]
}

/// Where a ledger and its partitions stand.
struct Heads {
    life: ClusterIncarnation,
    edges: BTreeMap<u8, u64>,
    partitions: [i64; 2],
    log_starts: [i64; 2],
}

impl Heads {
    fn new() -> Self {
        Self {
            life: LIFE,
            edges: BTreeMap::new(),
            partitions: [0; 2],
            log_starts: [0; 2],
        }
    }

    fn take(&mut self, map: &mut OffsetMap, step: &Step) {
        match *step {
            Step::Land {
                edge: number,
                count,
            } => {
                let partition = i32::from(number % 2);
                let at = self.edges.entry(number).or_default();
                let to = &mut self.partitions[partition as usize];
                let mut fact = fact(*at, count, partition, *to);
                fact.cluster_incarnation = self.life;
                (*at, *to) = (*at + count, *to + count as i64);
                let (edge, stream) = (edge(number), stream());
                let effect = landed(&NamedFact { edge, stream, fact });
                map.apply(&effect, self.life).unwrap();
            }
            Step::Lose {
                edge: number,
                count,
                reason,
            } => {
                let at = self.edges.entry(number).or_default();
                let lost = crate::ledger::GapLanded {
                    edge: edge(number),
                    stream: stream(),
                    incarnation: Incarnation(1),
                    from: EdgeOffset(*at),
                    count,
                    reason: GapReason::from_number(reason).unwrap(),
                    head: Default::default(),
                };
                *at += count;
                map.apply(&Effect::GapLanded(lost), self.life).unwrap();
            }
            Step::Import {
                edge: number,
                at,
                count,
                partition,
                to,
            } => {
                let _ = map.add(&edge(number), &stream(), &fact(at, count, partition, to));
            }
            Step::Expire { partition, by } => {
                let log_start = &mut self.log_starts[partition as usize];
                *log_start = (*log_start + by).min(self.partitions[partition as usize]);
                map.expire_below(place(partition).target, KafkaOffset(*log_start));
            }
            Step::Delete => {
                let topic_id = TopicId(1);
                map.apply(&Effect::TopicDeleted { topic_id }, self.life)
                    .unwrap();
            }
            Step::Begin => self.life.counter += 1,
            Step::Snapshot => {}
        }
    }
}

fn answers(map: &OffsetMap) -> Vec<String> {
    let mut found = Vec::new();
    for number in 0..3 {
        found.extend((0..90).map(|offset| format!("{:?}", in_cloud(map, number, offset))));
        let gaps = map.newest_gaps(&edge(number), &stream(), Incarnation(1), 99);
        found.push(format!("{gaps:?}"));
    }
    for partition in 0..2 {
        for life in map.lives_of(place(partition).target) {
            let place = Place {
                cluster_incarnation: life,
                ..place(partition)
            };
            found.extend(
                (0..90).map(|offset| format!("{:?}", map.at_edge(&place, KafkaOffset(offset)))),
            );
            found.push(format!("{:?}", map.read_below(&place, KafkaOffset(30))));
        }
    }
    found
}

fn back(map: &OffsetMap) -> Vec<Vec<Span>> {
    map.by_place
        .iter()
        .map(|spans| spans.iter().copied().collect())
        .collect()
}

proptest! {
    #[test]
    fn a_map_read_again_is_the_same_and_stays_so(steps in prop::collection::vec(step(), 1..60)) {
        let (mut heads, mut map) = (Heads::new(), OffsetMap::new());
        let (mut other_heads, mut other) = (Heads::new(), OffsetMap::new());
        for step in &steps {
            heads.take(&mut map, step);
            other_heads.take(&mut other, step);
            if let Step::Snapshot = step {
                other = OffsetMap::restore(other.snapshot()).unwrap();
                prop_assert_eq!(back(&other), back(&map));
                prop_assert_eq!(answers(&other), answers(&map));
            }
        }
        prop_assert_eq!(other.snapshot(), map.snapshot());
        prop_assert_eq!(answers(&other), answers(&map));
        prop_assert_eq!(map.check(), Vec::<String>::new());
    }

    /// What is below the log's start has expired, all else is as it was, and no gap outlives what it lies
    /// between.
    #[test]
    fn what_expires_is_gone_and_nothing_else(steps in prop::collection::vec(step(), 1..60)) {
        let is_ours = |step: &&Step| !matches!(step, Step::Import { .. } | Step::Delete | Step::Begin);
        let steps: Vec<_> = steps.iter().filter(is_ours).collect();
        let (mut heads, mut map) = (Heads::new(), OffsetMap::new());
        let (mut other_heads, mut all) = (Heads::new(), OffsetMap::new());
        for step in steps {
            heads.take(&mut map, step);
            if let Step::Expire { .. } = step { continue }
            other_heads.take(&mut all, step);
        }
        for number in 0..3 {
            let log_start = heads.log_starts[usize::from(number % 2)];
            let whole: Vec<_> = (0..300).map(|offset| in_cloud(&all, number, offset)).collect();
            let is_gone = |found: &Option<InCloud>| matches!(found,
                Some(InCloud::Landed { kafka_offset, .. }) if kafka_offset.0 < log_start);
            let is_kept = |found: &Option<InCloud>| matches!(found, Some(InCloud::Landed { .. })) && !is_gone(found);
            for (at, expected) in whole.iter().enumerate() {
                let found = in_cloud(&map, number, at as u64);
                let is_lost = matches!(expected, Some(InCloud::Lost { .. }));
                let behind_it = whole[at..].iter().any(is_gone);
                let before_it = whole[..at].iter().any(is_kept);
                if is_gone(expected) || (is_lost && behind_it && !before_it) {
                    prop_assert_eq!(found, Some(InCloud::Expired), "edge {} offset {}", number, at);
                } else {
                    prop_assert_eq!(&found, expected, "edge {} offset {}", number, at);
                }
            }
        }
        for partition in 0..2 {
            for offset in 0..heads.partitions[partition as usize] {
                let place = place(partition);
                let expected = all.at_edge(&place, KafkaOffset(offset));
                let expected = expected.filter(|_| offset >= heads.log_starts[partition as usize]);
                prop_assert_eq!(map.at_edge(&place, KafkaOffset(offset)), expected);
            }
        }
        // No more than there is, whatever has been.
        let (spans, _) = map.size();
        let facts = map.facts().count();
        let gaps: usize = (0..3).map(|number| map.newest_gaps(&edge(number), &stream(), Incarnation(1), 999).len()).sum();
        prop_assert_eq!(spans, 2 * facts + gaps);
    }

    #[test]
    fn bytes_of_a_stranger_never_panic(
        steps in prop::collection::vec(step(), 1..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let (mut heads, mut map) = (Heads::new(), OffsetMap::new());
        steps.iter().for_each(|step| heads.take(&mut map, step));
        let mut bytes = map.snapshot().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(map) = OffsetMap::restore(Bytes::from(bytes)) {
            prop_assert_eq!(map.check(), Vec::<String>::new());
            let again = OffsetMap::restore(map.snapshot()).unwrap();
            prop_assert_eq!(answers(&again), answers(&map));
        }
    }
}

#[test]
fn a_partition_below_whose_start_nothing_is_left_still_knows_what_was() {
    let mut map = OffsetMap::new();
    let mut heads = Heads::new();
    for step in [
        Step::Land { edge: 0, count: 5 },
        Step::Lose {
            edge: 0,
            count: 5,
            reason: 1,
        },
        Step::Land { edge: 0, count: 5 },
        Step::Lose {
            edge: 0,
            count: 5,
            reason: 2,
        },
    ] {
        heads.take(&mut map, &step);
    }
    let lost = |map: &OffsetMap, at| matches!(in_cloud(map, 0, at), Some(InCloud::Lost { .. }));
    assert_eq!(map.expire_below(place(0).target, KafkaOffset(5)), 1);
    // The gap lies before what is still there; whoever reads that wants to know of it.
    assert_eq!(in_cloud(&map, 0, 4), Some(InCloud::Expired));
    assert!(lost(&map, 5) && lost(&map, 15));
    assert_eq!(map.expire_below(place(0).target, KafkaOffset(9)), 1);
    assert_eq!(in_cloud(&map, 0, 5), Some(InCloud::Expired));
    assert!(matches!(
        in_cloud(&map, 0, 14),
        Some(InCloud::Landed { .. })
    ));
    map.expire_below(place(0).target, KafkaOffset(10));
    let map = OffsetMap::restore(map.snapshot()).unwrap();
    let known_up_to = EdgeOffset(20);
    assert!(lost(&map, 15));
    assert_eq!(in_cloud(&map, 0, 14), Some(InCloud::Expired));
    assert_eq!(in_cloud(&map, 0, 20), Some(InCloud::NotYet { known_up_to }));
    assert_eq!(map.facts().count(), 0);
}

#[test]
fn another_partition_and_an_older_life_are_told_apart() {
    let mut map = OffsetMap::new();
    let mut heads = Heads::new();
    for step in [
        Step::Land { edge: 0, count: 5 },
        Step::Land { edge: 1, count: 5 },
        Step::Begin,
        Step::Land { edge: 0, count: 5 },
    ] {
        heads.take(&mut map, &step);
    }
    assert_eq!(map.expire_below(place(0).target, KafkaOffset(7)), 2);
    let landed = |at| matches!(in_cloud(&map, 0, at), Some(InCloud::Landed { .. }));
    let all: Vec<_> = (0..10).map(landed).collect();
    assert_eq!(all, [[false; 5], [false, false, true, true, true]].concat());
    assert!(matches!(in_cloud(&map, 1, 0), Some(InCloud::Landed { .. })));
}
