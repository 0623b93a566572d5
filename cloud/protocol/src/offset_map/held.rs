//! What is asked of facts as such: whether they are known and contradict nothing, which ones there are of
//! a numbering, and whether all lead back to where they come from.

use std::ops::Bound;

use tidegate_bridge_protocol::fact::Fact;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{EdgeId, EdgeOffset, Incarnation, StreamName};

use super::spans::{Span, Spans};
use super::{Behind, InCloud, NamedFact, OffsetMap, Source, place_of, spans_of};

/// No place, no source and no gap: it agrees with none.
const NOWHERE: u32 = u32::MAX;

/// What is known of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing, or not all of it.
    Not,
    Whole,
    /// What contradicts it.
    Otherwise,
}

impl OffsetMap {
    /// Whether the whole fact is known, not packed, and true both ways.
    pub fn holds(&self, named: &NamedFact) -> bool {
        self.compare(named) == Known::Whole
    }

    pub(super) fn compare(&self, named: &NamedFact) -> Known {
        let (source, place) = (source_of(named), place_of(&named.fact));
        let (source, place) = (self.sources.find(&source), self.places.find(&place));
        let (there, back) = spans_of(
            &named.fact,
            source.unwrap_or(NOWHERE),
            place.unwrap_or(NOWHERE),
        );
        let known = |spans: &[Spans], number: Option<u32>, span: &Span| {
            let spans = number.and_then(|number| spans.get(number as usize));
            spans.map_or(Known::Not, |spans| match spans.clash(span) {
                Some(_) => Known::Otherwise,
                None if spans.has(span) => Known::Whole,
                None => Known::Not,
            })
        };
        let there = known(&self.by_source, source, &there);
        let back = known(&self.by_place, place, &back);
        match (there, back) {
            (Known::Otherwise, _) | (_, Known::Otherwise) => Known::Otherwise,
            (Known::Whole, Known::Whole) => Known::Whole,
            _ => Known::Not,
        }
    }

    /// All facts that are not packed in pieces, for those who cannot hold the map for as long as it takes: the next ones
    /// behind `after`, which is moved on. Empty at the end.
    pub fn facts_behind(&self, after: &mut Option<Behind>, facts_max: usize) -> Vec<NamedFact> {
        let mut found = Vec::new();
        let start = match &*after {
            Some(behind) => Bound::Included(behind.source.clone()),
            None => Bound::Unbounded,
        };
        for (source, number) in self.sources.range((start, Bound::Unbounded)) {
            let begun = after.as_ref().filter(|behind| behind.source == *source);
            let from = begun.map_or(0, |behind| behind.offset.0);
            for span in self.by_source[number as usize].from(from) {
                // A span that has grown since is told from where it was.
                let fact = self.fact(source, &span.cut(from, span.end()));
                found.extend(fact);
                *after = Some(Behind {
                    source: source.clone(),
                    offset: EdgeOffset(span.end()),
                });
                if found.len() == facts_max {
                    return found;
                }
            }
        }
        found
    }

    /// Facts of an interval of one numbering that are not packed, at most `facts_max`.
    pub fn facts_of(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        (from, to): (EdgeOffset, EdgeOffset),
        facts_max: usize,
    ) -> Vec<Fact> {
        let mut found = Vec::new();
        for (source, number) in self.sources_of(edge, stream, incarnation, incarnation) {
            let spans = self.by_source[number as usize].within(from.0, to.0);
            let facts = spans.filter_map(|span| Some(self.fact(source, &span)?.fact));
            // No more are made than are wanted: the ledger waits meanwhile.
            found.extend(facts.take(facts_max - found.len()));
        }
        found
    }

    /// The newest facts of an interval of a source that are not packed, newest first.
    pub(super) fn here_before(
        &self,
        source: u32,
        (from, before): (EdgeOffset, EdgeOffset),
        facts_max: usize,
    ) -> Vec<Fact> {
        let Some(name) = self.sources.get(source) else {
            return Vec::new();
        };
        let spans = self.by_source[source as usize]
            .within(from.0, before.0)
            .rev();
        let facts = spans.filter_map(|span| Some(self.fact(name, &span)?.fact));
        facts.take(facts_max).collect()
    }

    /// The newest intervals of one numbering that are declared lost, newest first.
    pub fn newest_gaps(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        gaps_max: usize,
    ) -> Vec<(EdgeOffset, EdgeOffset, GapReason)> {
        let lives = self.lives(edge, stream, incarnation).into_iter().rev();
        let spans = lives.flat_map(|number| self.by_source[number as usize].iter().rev());
        let gaps = spans.filter_map(|span| match self.lead(span, EdgeOffset(span.from)) {
            InCloud::Lost { reason, from, to } => Some((from, to, reason)),
            _ => None,
        });
        gaps.take(gaps_max).collect()
    }

    /// What is wrong with the map itself: spans that do not lead back to where they come from.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for named in self.facts() {
            let fact = named.fact;
            let place = place_of(&fact);
            for delta in [0, fact.count - 1] {
                let kafka_offset = fact.kafka_offset.plus(delta as i64);
                let back = self.at_edge(&place, kafka_offset);
                let leads_back = back.is_some_and(|(source, offset)| {
                    (&source.edge, &source.stream) == (&named.edge, &named.stream)
                        && source.incarnation == fact.incarnation
                        && offset == fact.edge_offset.plus(delta)
                });
                if !leads_back {
                    let (edge, stream) = (&named.edge, &named.stream);
                    let offset = fact.edge_offset.plus(delta);
                    wrong.push(format!(
                        "edge {edge} stream {stream} incarnation {} offset {offset} leads to partition {} offset {kafka_offset}, which does not lead back",
                        fact.incarnation, fact.partition
                    ));
                }
            }
        }
        wrong
    }
}

pub(super) fn source_of(named: &NamedFact) -> Source {
    Source {
        edge: named.edge.clone(),
        stream: named.stream.clone(),
        incarnation: named.fact.incarnation,
        cluster_incarnation: named.fact.cluster_incarnation,
    }
}
