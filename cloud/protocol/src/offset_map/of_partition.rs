//! The map from a partition's side: what is known of an interval of its offsets, whoever it came from.

use std::ops::Bound;

use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::id::{ClusterIncarnation, EdgeOffset, KafkaOffset, PartitionId, TopicId};

use super::spans::Span;
use super::{OffsetMap, Place};
use crate::ledger::Target;

impl OffsetMap {
    /// All facts about a partition's offsets of `[from, to)` that are here, in their order, one at most for each
    /// offset: where lives of the cloud say different things of one (what was imported of a life that was lost,
    /// say), the newest is right.
    pub fn facts_in(&self, target: Target, from: KafkaOffset, to: KafkaOffset) -> Vec<NamedFact> {
        let placed = self.placed_in(target, from, to).into_iter();
        let named = placed.filter_map(|(place, span)| self.led_back(place, &span));
        named.collect()
    }

    /// The same as spans, each with its place.
    pub(super) fn placed_in(
        &self,
        target: Target,
        from: KafkaOffset,
        to: KafkaOffset,
    ) -> Vec<(u32, Span)> {
        let (from, to) = (from.0 as u64, to.0 as u64);
        let mut found = Vec::<(u32, Span)>::new();
        for cluster_incarnation in self.all_lives().into_iter().rev() {
            let place = Place {
                cluster_incarnation,
                target,
            };
            let Some(place) = self.places.find(&place) else {
                continue;
            };
            let spans = self.by_place[place as usize].within(from, to);
            let older: Vec<_> = spans
                .filter(|span| is_free(&found, span))
                .map(|span| (place, span))
                .collect();
            match found.is_empty() {
                true => found = older,
                false => {
                    found.extend(older);
                    found.sort_unstable_by_key(|(_, span)| span.from);
                }
            }
        }
        found
    }

    /// The fact that a span on a partition's side tells.
    pub(super) fn led_back(&self, place: u32, span: &Span) -> Option<NamedFact> {
        let (place, source) = (self.places.get(place)?, self.sources.get(span.other)?);
        Some(NamedFact {
            edge: source.edge.clone(),
            stream: source.stream.clone(),
            fact: Fact {
                incarnation: source.incarnation,
                edge_offset: EdgeOffset(span.other_from),
                count: span.count,
                cluster_incarnation: place.cluster_incarnation,
                topic_id: place.target.topic_id,
                partition: place.target.partition,
                kafka_offset: KafkaOffset(span.from as i64),
            },
        })
    }

    /// All lives of the cloud of which something is known, oldest first; there are few.
    pub(super) fn all_lives(&self) -> Vec<ClusterIncarnation> {
        let mut lives = Vec::new();
        let mut after = Bound::Unbounded;
        while let Some((place, _)) = self.places.range((after, Bound::Unbounded)).next() {
            let life = place.cluster_incarnation;
            lives.push(life);
            after = Bound::Excluded(Place {
                cluster_incarnation: life,
                target: LAST,
            });
        }
        lives
    }
}

/// Whether none of these, which are in order, overlaps a span.
fn is_free(found: &[(u32, Span)], span: &Span) -> bool {
    let before = found.partition_point(|(_, other)| other.from < span.end());
    let newest = found[..before].last();
    newest.is_none_or(|(_, other)| other.end() <= span.from)
}

/// Behind all partitions.
const LAST: Target = Target {
    topic_id: TopicId(u128::MAX),
    partition: PartitionId(i32::MAX),
};

#[cfg(test)]
mod tests {
    use tidegate_shared::id::{EdgeId, Incarnation, StreamName};

    use super::*;

    #[test]
    fn of_two_lives_that_say_different_things_the_newest_is_right() {
        let target = Target {
            topic_id: TopicId(3),
            partition: PartitionId(0),
        };
        let mut map = OffsetMap::new();
        for (life, edge, kafka_offset, count) in [
            (1, "lost", 0, 30),
            (2, "own", 5, 10),
            (2, "own", 15, 5),
            (1, "older", 40, 5),
        ] {
            let fact = Fact {
                incarnation: Incarnation(1),
                edge_offset: EdgeOffset(kafka_offset as u64 + 100),
                count,
                cluster_incarnation: ClusterIncarnation {
                    counter: life,
                    id: u128::from(life),
                },
                topic_id: target.topic_id,
                partition: target.partition,
                kafka_offset: KafkaOffset(kafka_offset),
            };
            let (edge, stream) = (EdgeId::new(edge).unwrap(), StreamName::new("s").unwrap());
            map.add(&edge, &stream, &fact).unwrap();
        }
        let found = map.facts_in(target, KafkaOffset(7), KafkaOffset(100));
        let found: Vec<_> = found
            .iter()
            .map(|named| {
                (
                    named.edge.as_str(),
                    named.fact.kafka_offset.0,
                    named.fact.count,
                )
            })
            .collect();
        assert_eq!(found, [("own", 7, 13), ("older", 40, 5)]);
    }
}
