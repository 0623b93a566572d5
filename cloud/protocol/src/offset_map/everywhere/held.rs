//! What is asked of facts as such, wherever they are: which ones are known, one segment's after the other, and
//! whether those in a segment are looked up there.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_bridge_protocol::fact::NamedFact;
use tidegate_shared::id::KafkaOffset;

use super::super::held::source_of;
use super::super::{OffsetMap, place_of};
use super::{AllFacts, Unopened};
use crate::ledger::Target;
use crate::segment::SegmentIndex;

impl AllFacts<'_> {
    /// A map of all that is known of the offsets, on either side, of which these facts tell.
    pub fn known_of(&self, facts: &[NamedFact]) -> Result<OffsetMap, Unopened> {
        let mut known = OffsetMap::new();
        let mut unopened = BTreeMap::new();
        for named in facts {
            let parts = [self.known_there(named), self.known_back(named)];
            for part in parts {
                match part {
                    // What is known contradicts itself nowhere.
                    Ok(facts) => facts.iter().for_each(|named| {
                        let _ = known.add(&named.edge, &named.stream, &named.fact);
                    }),
                    Err(Unopened(segments)) => {
                        let segments = segments.into_iter();
                        unopened.extend(segments.map(|segment| (segment.id, segment)));
                    }
                }
            }
        }
        match unopened.is_empty() {
            true => Ok(known),
            false => Err(Unopened(unopened.into_values().collect())),
        }
    }

    /// What is known of a fact's interval at the edge.
    fn known_there(&self, named: &NamedFact) -> Result<Vec<NamedFact>, Unopened> {
        let (map, source) = (self.map, source_of(named));
        let Some(number) = map.sources.find(&source) else {
            return Ok(Vec::new());
        };
        let (from, to) = (
            named.fact.edge_offset,
            named.fact.edge_offset.plus(named.fact.count),
        );
        let spans = map.by_source[number as usize].within(from.0, to.0);
        let here = spans.filter_map(|span| map.fact(&source, &span));
        let mut found: Vec<_> = here.collect();
        let packed = map.packed.of_source(number).iter();
        for packed in packed.filter(|packed| packed.from < to.0 && from.0 < packed.to) {
            let (_, segments) = self.segments_of(packed)?;
            let there = segments
                .iter()
                .flat_map(|facts| facts.of(&source, (from, to)));
            found.extend(there);
        }
        Ok(found)
    }

    /// What is known of a fact's interval in the cloud.
    fn known_back(&self, named: &NamedFact) -> Result<Vec<NamedFact>, Unopened> {
        let (map, place) = (self.map, place_of(&named.fact));
        let Some(number) = map.places.find(&place) else {
            return Ok(Vec::new());
        };
        let from = named.fact.kafka_offset;
        let to = from.plus(named.fact.count as i64);
        let (first, end) = (from.0 as u64, to.0 as u64);
        let spans = map.by_place[number as usize].within(first, end);
        let here = spans.filter_map(|span| map.led_back(number, &span));
        let mut found: Vec<_> = here.collect();
        if map.packed.is_any_in(number) {
            let segments = self.open(place.target, from, to)?;
            let there = segments.iter().flat_map(|facts| facts.within(from, to));
            let life = place.cluster_incarnation;
            found.extend(there.filter(|named| named.fact.cluster_incarnation == life));
        }
        Ok(found)
    }

    /// The first segment that reaches beyond `from` of `target`, or that lies in a partition behind it: a walk through
    /// all that there are. `None` at the end.
    pub fn segment_from(
        &self,
        target: Target,
        from: KafkaOffset,
    ) -> Result<Option<(Target, Arc<SegmentIndex>)>, Unopened> {
        let mut logs = self.ledger.logs_from(target);
        let next = logs.find_map(|(of, log)| {
            let from = if of == target { from } else { KafkaOffset(0) };
            Some((of, *log.segment_at(from)?))
        });
        let Some((of, segment)) = next else {
            return Ok(None);
        };
        match self.opened.get(&segment.id) {
            Some(index) => Ok(Some((of, Arc::clone(index)))),
            None => Err(Unopened(vec![segment])),
        }
    }

    /// A segment's facts from an offset on that are not known without it, at most `facts_max`; and the offset up
    /// to which they are told.
    pub fn facts_in_segment(
        &self,
        target: Target,
        index: &SegmentIndex,
        from: KafkaOffset,
        facts_max: usize,
    ) -> (Vec<NamedFact>, KafkaOffset) {
        let from = from.max(self.log_start(target));
        let facts = index.facts().within(from, index.end());
        let facts = facts.filter(|named| !self.map.holds(named));
        let facts: Vec<_> = facts.take(facts_max).collect();
        let newest = facts.last().filter(|_| facts.len() == facts_max);
        let told_to = newest.map(|newest| {
            let fact = &newest.fact;
            fact.kafka_offset.plus(fact.count as i64)
        });
        (facts, told_to.unwrap_or(index.end()))
    }

    /// What is wrong with a segment's facts: they are neither known here nor looked up in this segment.
    pub fn check_segment(&self, target: Target, index: &SegmentIndex) -> Vec<String> {
        let log_start = self.log_start(target).max(index.base());
        let facts = index.facts().within(log_start, index.end());
        let wrong = facts.filter(|named| !self.is_looked_up(target, named));
        let wrong = wrong.map(|named| {
            let (edge, stream, fact) = (&named.edge, &named.stream, &named.fact);
            format!(
                "edge {edge} stream {stream} incarnation {} offset {} lies in a segment at partition {} offset {}, where nobody looks for it",
                fact.incarnation, fact.edge_offset, fact.partition, fact.kafka_offset
            )
        });
        wrong.collect()
    }

    /// Its ends, each by itself: what is one fact there may be known in parts.
    fn is_looked_up(&self, target: Target, named: &NamedFact) -> bool {
        let (map, fact, source) = (self.map, &named.fact, source_of(named));
        let place = place_of(fact);
        let numbers = map.places.find(&place).zip(map.sources.find(&source));
        let is_there = |further: u64| {
            let at_edge = fact.edge_offset.plus(further);
            let in_cloud = fact.kafka_offset.plus(further as i64);
            let in_place = |place: u32, source: u32| {
                let mut packed = map.packed.at(source, at_edge.0);
                packed.any(|packed| {
                    let kafka = packed.kafka_from..packed.kafka_to;
                    packed.place == place && kafka.contains(&(in_cloud.0 as u64))
                })
            };
            numbers.is_some_and(|(place, source)| in_place(place, source))
                || map.at_edge(&place, in_cloud) == Some((&source, at_edge))
        };
        place.target == target && [0, fact.count - 1].into_iter().all(is_there)
    }
}
