//! What is asked of facts as such, wherever they are: which ones are known, one segment's after the other, and
//! whether those in a segment are looked up there.

use std::sync::Arc;

use tidegate_bridge_protocol::fact::NamedFact;
use tidegate_shared::id::{EdgeOffset, KafkaOffset};

use super::super::held::{Known, source_of};
use super::super::spans::Span;
use super::super::{OffsetMap, Source, place_of};
use super::{AllFacts, END, Unopened};
use crate::ledger::Target;
use crate::segment::SegmentIndex;

impl AllFacts<'_> {
    /// What is known of a fact, from either side. No more is looked at than up to what contradicts it.
    pub fn compare(&self, named: &NamedFact) -> Result<Known, Unopened> {
        let mut known = self.known_here(named);
        if known.compare(named) == Known::Otherwise {
            return Ok(Known::Otherwise);
        }
        let (map, source, place) = (self.map, source_of(named), place_of(&named.fact));
        let log_start = self.log_start(place.target);
        let (from, to) = at_edge(named);
        let numbered = map.sources.find(&source);
        let packed = numbered.map_or(&[][..], |number| map.packed.of_source(number));
        for packed in packed
            .iter()
            .filter(|packed| packed.from < to.0 && from.0 < packed.to)
        {
            let (_, segments) = self.segments_of(packed)?;
            let facts = segments
                .iter()
                .flat_map(|facts| facts.of(&source, (from, to)));
            if !known.takes_all(facts, log_start, named) {
                return Ok(Known::Otherwise);
            }
        }
        let numbered = map.places.find(&place);
        if !numbered.is_some_and(|number| map.packed.is_any_in(number)) {
            return Ok(known.compare(named));
        }
        let (from, to) = in_cloud(named);
        for segment in self.ledger.log(place.target).segments_within(from, to) {
            let opened = self.open(place.target, segment.base, segment.end)?;
            let facts = opened.iter().flat_map(|facts| facts.within(from, to));
            let life = place.cluster_incarnation;
            let facts = facts.filter(|known| known.fact.cluster_incarnation == life);
            if !known.takes_all(facts, log_start, named) {
                return Ok(Known::Otherwise);
            }
        }
        Ok(known.compare(named))
    }

    /// What is known of a fact's offsets, on both sides, that is not packed.
    fn known_here(&self, named: &NamedFact) -> OffsetMap {
        let (map, mut known) = (self.map, OffsetMap::new());
        let source = source_of(named);
        if let Some(number) = map.sources.find(&source) {
            let (from, to) = at_edge(named);
            for span in map.by_source[number as usize].within(from.0, to.0) {
                match map.fact(&source, &span) {
                    Some(fact) => known.take(&fact),
                    None => known.take_gap(&source, span),
                }
            }
        }
        if let Some(number) = map.places.find(&place_of(&named.fact)) {
            let (from, to) = in_cloud(named);
            let spans = map.by_place[number as usize].within(from.0 as u64, to.0 as u64);
            let facts = spans.filter_map(|span| map.led_back(number, &span));
            facts.for_each(|fact| known.take(&fact));
        }
        known
    }

    /// The first segment that reaches beyond `from` of `target`, or that lies in a partition behind it: a walk through
    /// all that there are. `None` at the end.
    pub fn segment_from(
        &self,
        target: Target,
        from: KafkaOffset,
    ) -> Result<Option<(Target, Arc<SegmentIndex>)>, Unopened> {
        let Some((of, segment)) = self.ledger.segment_from(target, from) else {
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

/// A fact's interval of its numbering.
fn at_edge(named: &NamedFact) -> (EdgeOffset, EdgeOffset) {
    let fact = &named.fact;
    (fact.edge_offset, fact.edge_offset.plus(fact.count))
}

/// Its interval of the partition.
fn in_cloud(named: &NamedFact) -> (KafkaOffset, KafkaOffset) {
    let fact = &named.fact;
    (fact.kafka_offset, fact.kafka_offset.plus(fact.count as i64))
}

/// A map that gathers what is known in several places, which contradict each other nowhere.
impl OffsetMap {
    fn take(&mut self, named: &NamedFact) {
        let _ = self.add(&named.edge, &named.stream, &named.fact);
    }

    fn take_gap(&mut self, source: &Source, span: Span) {
        let (edge, stream) = (&source.edge, &source.stream);
        let number = self.source(edge, stream, source.incarnation, source.cluster_incarnation);
        self.by_source[number as usize].insert(span);
    }

    /// Takes facts that are not given up, up to one that contradicts `named`; whether there was none.
    fn takes_all(
        &mut self,
        facts: impl Iterator<Item = NamedFact>,
        log_start: KafkaOffset,
        named: &NamedFact,
    ) -> bool {
        for mut known in facts {
            let Some(fact) = known.fact.within(log_start, END) else {
                continue;
            };
            known.fact = fact;
            self.take(&known);
            if self.compare(named) == Known::Otherwise {
                return false;
            }
        }
        true
    }
}
