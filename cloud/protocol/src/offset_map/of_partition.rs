//! The map from a partition's side: what is known of an interval of its offsets, whoever it came from.

use std::ops::Bound;

use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::id::{ClusterIncarnation, EdgeOffset, KafkaOffset, PartitionId, TopicId};

use super::spans::Span;
use super::{OffsetMap, Place};
use crate::ledger::Target;

impl OffsetMap {
    /// All facts about a partition's offsets of `[from, to)`, in their order.
    pub fn facts_in(&self, target: Target, from: KafkaOffset, to: KafkaOffset) -> Vec<NamedFact> {
        let (from, to) = (from.0 as u64, to.0 as u64);
        let mut found = Vec::new();
        for life in self.all_lives() {
            let place = Place {
                cluster_incarnation: life,
                target,
            };
            let spans = self.places.find(&place);
            let Some(spans) = spans.and_then(|number| self.by_place.get(number as usize)) else {
                continue;
            };
            let spans = spans.from(from).take_while(|span| span.from < to);
            found.extend(spans.filter_map(|span| self.led_back(&place, &span.cut(from, to))));
        }
        found.sort_by_key(|named| named.fact.kafka_offset);
        found
    }

    /// The fact that a span on a partition's side tells.
    fn led_back(&self, place: &Place, span: &Span) -> Option<NamedFact> {
        let source = self.sources.get(span.other)?;
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
    fn all_lives(&self) -> Vec<ClusterIncarnation> {
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

/// Behind all partitions.
const LAST: Target = Target {
    topic_id: TopicId(u128::MAX),
    partition: PartitionId(i32::MAX),
};
