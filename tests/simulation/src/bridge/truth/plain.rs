//! The offset map once more, as plainly as can be: one entry for every single record, and each
//! partition as a consumer reads it from its start. The real map is held against it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_bridge_protocol::fact::Fact;
use tidegate_cloud_protocol::ledger::Target;
use tidegate_cloud_protocol::offset_map::{AllFacts, InCloud, Place, Unopened};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, KafkaOffset, StreamName, TopicId,
};

use super::Numbering;
use crate::random::Random;
use crate::{Stop, violated};

/// What became of one edge offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Landed(Place, KafkaOffset),
    Lost(GapReason),
}

/// One record of a partition.
type Record = (ClusterIncarnation, Numbering, u64);

/// See the module.
#[derive(Debug, Default)]
pub struct PlainMap {
    fates: BTreeMap<Numbering, BTreeMap<u64, Fate>>,
    partitions: BTreeMap<Target, Vec<Record>>,
    /// How far a consumer of a partition has come in each stream.
    read: BTreeMap<(Target, EdgeId, StreamName), (Incarnation, u64)>,
    gone: BTreeSet<TopicId>,
    /// Known in one life, and declared lost by a fork in a later one: two nodes had one identity, and
    /// by the same number each means a message of its own. Both answers are true.
    disputed: BTreeSet<(Numbering, u64)>,
}

impl PlainMap {
    /// A batch landed: its partition has no hole, and a consumer sees each stream in its order, each
    /// incarnation behind the one before it.
    pub fn land(&mut self, numbering: &Numbering, fact: &Fact) -> Result<(), Stop> {
        let target = Target {
            topic_id: fact.topic_id,
            partition: fact.partition,
        };
        let place = Place {
            cluster_incarnation: fact.cluster_incarnation,
            target,
        };
        let (edge, stream, incarnation) = numbering.clone();
        let records = self.partitions.entry(target).or_default();
        if records.len() as i64 != fact.kafka_offset.0 {
            let what = format!("{fact:?} follows {} records", records.len());
            return violated("a partition's offsets are dense", what);
        }
        let from = fact.edge_offset.0;
        let last = (incarnation, from + fact.count - 1);
        let read = self.read.insert((target, edge, stream), last);
        if read.is_some_and(|read| read >= (incarnation, from)) {
            let what = format!("{numbering:?} {from} follows {read:?}");
            return violated("a consumer sees a stream in its order", what);
        }
        let fates = self.fates.entry(numbering.clone()).or_default();
        for offset in from..from + fact.count {
            let kafka_offset = KafkaOffset(records.len() as i64);
            records.push((fact.cluster_incarnation, numbering.clone(), offset));
            fates.insert(offset, Fate::Landed(place, kafka_offset));
        }
        Ok(())
    }

    /// What is declared lost, where nothing else is known.
    pub fn lose(&mut self, numbering: &Numbering, (from, to): (u64, u64), reason: GapReason) {
        let fates = self.fates.entry(numbering.clone()).or_default();
        for offset in from..to {
            let fate = fates.entry(offset).or_insert(Fate::Lost(reason));
            if *fate != Fate::Lost(reason) {
                self.disputed.insert((numbering.clone(), offset));
            }
        }
    }

    pub fn forget(&mut self, topic_id: TopicId) {
        self.gone.insert(topic_id);
    }

    /// Whether a fact says of every one of its records what is so.
    pub fn holds(&self, numbering: &Numbering, fact: &Fact) -> Result<(), String> {
        let place = Place {
            cluster_incarnation: fact.cluster_incarnation,
            target: Target {
                topic_id: fact.topic_id,
                partition: fact.partition,
            },
        };
        for delta in 0..fact.count {
            let offset = fact.edge_offset.0 + delta;
            let told = Fate::Landed(place, fact.kafka_offset.plus(delta as i64));
            let fates = self.fates.get(numbering);
            let fate = fates.and_then(|fates| fates.get(&offset)).copied();
            if fate != Some(told) {
                return Err(format!(
                    "{numbering:?} {offset}: {told:?} is told, {fate:?} is so"
                ));
            }
        }
        Ok(())
    }

    /// The real map says the same of every record from both sides, and of what is not there.
    pub fn check(&self, map: AllFacts<'_>, random: &mut Random) -> Result<(), Stop> {
        for (numbering, fates) in &self.fates {
            self.check_numbering(map, numbering, fates)?;
            let from = random.below(fates.len() as u64 + 2);
            self.check_first_from(map, numbering, fates, from)?;
        }
        for (target, records) in &self.partitions {
            self.check_partition(map, *target, records)?;
            let below = random.below(records.len() as u64 + 2);
            self.check_read_below(map, *target, records, below as usize)?;
        }
        Ok(())
    }

    fn check_numbering(
        &self,
        map: AllFacts<'_>,
        numbering: &Numbering,
        fates: &BTreeMap<u64, Fate>,
    ) -> Result<(), Stop> {
        let (edge, stream, incarnation) = numbering;
        let Some((last, _)) = fates.last_key_value() else {
            return Ok(());
        };
        for offset in 0..last + 3 {
            let found = here(map.in_cloud(edge, stream, *incarnation, EdgeOffset(offset)))?;
            let fate = fates.get(&offset).copied();
            let is_true = match (fate, found) {
                (Some(_), Some(InCloud::Lost { .. }))
                    if self.disputed.contains(&(numbering.clone(), offset)) =>
                {
                    true
                }
                (Some(Fate::Landed(place, at)), Some(found)) => {
                    let is_gone = self.gone.contains(&place.target.topic_id);
                    let kafka_offset = at;
                    let landed = InCloud::Landed {
                        place,
                        kafka_offset,
                    };
                    found == if is_gone { InCloud::Expired } else { landed }
                }
                (Some(Fate::Lost(lost)), Some(InCloud::Lost { reason, from, to })) => {
                    let all_lost = |at| {
                        fates.get(&at) == Some(&Fate::Lost(lost))
                            || self.disputed.contains(&(numbering.clone(), at))
                    };
                    reason == lost
                        && (from.0..to.0).contains(&offset)
                        && (from.0..to.0).all(all_lost)
                }
                (None, Some(InCloud::NotYet { known_up_to })) => {
                    known_up_to.0 == last + 1 && offset > *last
                }
                // Before the fork with which the incarnation began.
                (None, Some(InCloud::Expired)) => offset < *last,
                _ => false,
            };
            if !is_true {
                let what = format!("{numbering:?} {offset}: {fate:?}, the map says {found:?}");
                return violated("the map says of an edge's offset what is so", what);
            }
        }
        Ok(())
    }

    fn check_partition(
        &self,
        map: AllFacts<'_>,
        target: Target,
        records: &[Record],
    ) -> Result<(), Stop> {
        let is_gone = self.gone.contains(&target.topic_id);
        for (at, (cluster_incarnation, numbering, offset)) in records.iter().enumerate() {
            let place = Place {
                cluster_incarnation: *cluster_incarnation,
                target,
            };
            let found = here(map.at_edge(&place, KafkaOffset(at as i64)))?;
            let is_true = match found {
                None => is_gone,
                Some((source, found)) => {
                    let (edge, stream, incarnation) = numbering;
                    (&source.edge, &source.stream) == (edge, stream)
                        && source.incarnation == *incarnation
                        && found.0 == *offset
                        && !is_gone
                }
            };
            if !is_true {
                let what =
                    format!("{target:?} {at}: {numbering:?} {offset}, the map says {found:?}");
                return violated("the map says of a partition's offset what is so", what);
            }
        }
        Ok(())
    }

    /// What a consumer at an offset has of each stream, by the newest life in that partition.
    fn check_read_below(
        &self,
        map: AllFacts<'_>,
        target: Target,
        records: &[Record],
        below: usize,
    ) -> Result<(), Stop> {
        let Some((life, ..)) = records
            .last()
            .filter(|_| !self.gone.contains(&target.topic_id))
        else {
            return Ok(());
        };
        let mut read: BTreeMap<&Numbering, u64> = BTreeMap::new();
        for (of, numbering, offset) in records.iter().take(below) {
            if of == life {
                read.insert(numbering, offset + 1);
            }
        }
        let place = Place {
            cluster_incarnation: *life,
            target,
        };
        let read_below = here(map.read_below(&place, KafkaOffset(below as i64)))?;
        let mut found: Vec<_> = read_below
            .into_iter()
            .map(|(source, behind)| {
                let (edge, stream) = (source.edge.clone(), source.stream.clone());
                ((edge, stream, source.incarnation), behind.0)
            })
            .collect();
        found.sort();
        let expected: Vec<_> = read.into_iter().map(|(of, at)| (of.clone(), at)).collect();
        match found == expected {
            true => Ok(()),
            false => {
                let what = format!("{target:?} {below}: {expected:?}, the map says {found:?}");
                violated("the map says what a consumer has read", what)
            }
        }
    }

    /// The first record at or behind an edge offset.
    fn check_first_from(
        &self,
        map: AllFacts<'_>,
        numbering: &Numbering,
        fates: &BTreeMap<u64, Fate>,
        from: u64,
    ) -> Result<(), Stop> {
        let landed = fates.range(from..).filter_map(|(_, fate)| match fate {
            Fate::Landed(place, at) if !self.gone.contains(&place.target.topic_id) => {
                Some((*place, *at))
            }
            _ => None,
        });
        let (edge, stream, incarnation) = numbering;
        let found = here(map.first_from(edge, stream, *incarnation, EdgeOffset(from)))?;
        let expected = landed.into_iter().next();
        if found != expected {
            let what = format!("{numbering:?} {from}: {expected:?}, the map says {found:?}");
            return violated("the map says where a stream goes on", what);
        }
        Ok(())
    }
}

/// Nothing is packed here.
fn here<T>(answer: Result<T, Unopened>) -> Result<T, Stop> {
    answer.or_else(|unopened| violated("nothing is packed", format!("{unopened:?}")))
}
