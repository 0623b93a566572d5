//! The offset map: all facts, and gaps, found from either side. Exact in both directions; where
//! nothing is known it says so.
//!
//! It is made of the ledger's effects (and of facts that were imported), and can be made again from
//! them at any time: the ledger itself keeps only heads. Merging is a union: in any order, any number
//! of times, with the same result; facts that contradict each other are an error and change nothing.

mod numbers;
mod spans;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;

use thiserror::Error;
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, KafkaOffset, StreamName, TopicId,
};

use crate::ledger::{Effect, Target};
use numbers::Numbers;
use spans::{Span, Spans};

/// One numbering at an edge, as one life of the cloud has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub edge: EdgeId,
    pub stream: StreamName,
    pub incarnation: Incarnation,
    pub cluster_incarnation: ClusterIncarnation,
}

/// One numbering in the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub cluster_incarnation: ClusterIncarnation,
    pub target: Target,
}

/// How far facts were handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    source: Source,
    offset: EdgeOffset,
}

/// Where an edge offset is in the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InCloud {
    Landed {
        place: Place,
        kafka_offset: KafkaOffset,
    },
    /// It is declared lost, with all of the interval.
    Lost {
        reason: GapReason,
        from: EdgeOffset,
        to: EdgeOffset,
    },
    /// Nothing is known from here on (yet).
    NotYet { known_up_to: EdgeOffset },
    /// It was known once: what it led to is no longer here.
    Expired,
}

/// Two facts that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "edge {} stream {} incarnation {} offsets {}..{} lie elsewhere than {}..{} of partition {} in what is known of cluster incarnation {}",
    .0.edge, .0.stream, .0.fact.incarnation, .0.fact.edge_offset,
    .0.fact.edge_offset.0 + .0.fact.count, .0.fact.kafka_offset,
    .0.fact.kafka_offset.0 + .0.fact.count as i64, .0.fact.partition, .0.fact.cluster_incarnation
)]
pub struct Clash(pub Box<NamedFact>);

/// Spans that lead to a gap carry its reason in place of a place.
const GAP: u32 = 0xffff_ff00;

/// No place, no source and no gap: it agrees with none.
const NOWHERE: u32 = u32::MAX;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OffsetMap {
    sources: Numbers<Source>,
    places: Numbers<Place>,
    by_source: Vec<Spans>,
    by_place: Vec<Spans>,
}

impl OffsetMap {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up what the ledger has decided, in the cluster incarnation in which it did.
    ///
    /// # Errors
    /// The ledger has contradicted itself; nothing has changed.
    pub fn apply(&mut self, effect: &Effect, life: ClusterIncarnation) -> Result<(), Clash> {
        match effect {
            Effect::Landed(landed) => self
                .add(&landed.edge, &landed.stream, &landed.fact)
                .map(drop),
            Effect::FactsImported(facts) => {
                for named in facts {
                    self.add(&named.edge, &named.stream, &named.fact)?;
                }
                Ok(())
            }
            Effect::GapLanded(gap) => {
                let source = self.source(&gap.edge, &gap.stream, gap.incarnation, life);
                self.lose(source, gap.from, gap.count, gap.reason);
                Ok(())
            }
            Effect::StreamForked(forked) => {
                if let Some((incarnation, from, to)) = forked.fork.gap() {
                    let source = self.source(&forked.edge, &forked.stream, incarnation, life);
                    self.lose(source, from, to.0 - from.0, GapReason::CloudRestored);
                }
                Ok(())
            }
            Effect::TopicDeleted { topic_id } => {
                self.forget_topic(*topic_id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adds a fact; says whether anything of it is new.
    ///
    /// # Errors
    /// It contradicts what is known; nothing has changed.
    pub fn add(&mut self, edge: &EdgeId, stream: &StreamName, fact: &Fact) -> Result<bool, Clash> {
        let source = self.source(edge, stream, fact.incarnation, fact.cluster_incarnation);
        let place = self.place(place_of(fact));
        let (there, back) = spans_of(fact, source, place);
        let (by_source, by_place) = (source as usize, place as usize);
        let clash = self.by_source[by_source].clash(&there).is_some()
            || self.by_place[by_place].clash(&back).is_some();
        if clash {
            let (edge, stream) = (edge.clone(), stream.clone());
            let fact = *fact;
            return Err(Clash(Box::new(NamedFact { edge, stream, fact })));
        }
        self.by_place[by_place].insert(back);
        Ok(self.by_source[by_source].insert(there))
    }

    /// How many of these facts would be new.
    ///
    /// # Errors
    /// One contradicts what is known, or another one of them.
    pub fn would_add(&self, facts: &[NamedFact]) -> Result<usize, Clash> {
        let mut beside = Self::new();
        let mut new = 0;
        for named in facts {
            let known = self.compare(named);
            if known == Known::Otherwise {
                return Err(Clash(Box::new(named.clone())));
            }
            let is_other = beside.add(&named.edge, &named.stream, &named.fact)?;
            new += usize::from(is_other && known == Known::Not);
        }
        Ok(new)
    }

    /// Whether the whole fact is known, and true both ways.
    pub fn holds(&self, named: &NamedFact) -> bool {
        self.compare(named) == Known::Whole
    }

    fn compare(&self, named: &NamedFact) -> Known {
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

    /// The lives of the cloud in which something has landed in a partition, oldest first.
    pub fn lives_of(&self, target: Target) -> Vec<ClusterIncarnation> {
        let places = self.places.iter();
        let of_target = places.filter(|(place, _)| place.target == target);
        of_target
            .map(|(place, _)| place.cluster_incarnation)
            .collect()
    }

    /// Declares lost what is not known otherwise: facts outweigh what an edge can no longer prove.
    fn lose(&mut self, source: u32, from: EdgeOffset, count: u64, reason: GapReason) {
        let (mut at, end) = (from.0, from.0.saturating_add(count));
        let spans = &mut self.by_source[source as usize];
        let overlapping = spans.from(at).take_while(|span| span.from < end);
        let known: Vec<_> = overlapping.map(|span| (span.from, span.end())).collect();
        for (known_from, known_end) in known.into_iter().chain([(end, end)]) {
            if at < known_from {
                spans.insert(Span {
                    from: at,
                    count: known_from - at,
                    other: GAP | u32::from(reason as u8),
                    other_from: at,
                });
            }
            at = at.max(known_end);
        }
    }

    fn forget_topic(&mut self, topic_id: TopicId) {
        let gone = |number: u32| {
            let place = self.places.get(number);
            place.is_some_and(|place| place.target.topic_id == topic_id)
        };
        for spans in &mut self.by_source {
            spans.retain(|number| number >= GAP || !gone(number));
        }
        for (number, spans) in (0..).zip(&mut self.by_place) {
            if gone(number) {
                *spans = Spans::default();
            }
        }
    }

    /// Where an offset of an edge's stream is, in the newest life of the cloud that knows of it.
    /// `None` where the incarnation is not known at all.
    pub fn in_cloud(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        offset: EdgeOffset,
    ) -> Option<InCloud> {
        let lives = self.lives(edge, stream, incarnation);
        let mut known_up_to = None;
        for source in lives.into_iter().rev() {
            let spans = &self.by_source[source as usize];
            if let Some(span) = spans.at(offset.0) {
                return Some(self.lead(span, offset));
            }
            known_up_to = known_up_to.max(Some(spans.end()));
        }
        let known_up_to = EdgeOffset(known_up_to?);
        Some(match offset < known_up_to {
            true => InCloud::Expired,
            false => InCloud::NotYet { known_up_to },
        })
    }

    fn lead(&self, span: &Span, offset: EdgeOffset) -> InCloud {
        if span.other >= GAP {
            let number = (span.other & 0xff) as u8;
            return InCloud::Lost {
                reason: GapReason::from_number(number).unwrap_or(GapReason::Damaged),
                from: EdgeOffset(span.from),
                to: EdgeOffset(span.end()),
            };
        }
        match self.places.get(span.other) {
            Some(place) => InCloud::Landed {
                place: *place,
                kafka_offset: KafkaOffset((span.other_from + (offset.0 - span.from)) as i64),
            },
            None => InCloud::Expired,
        }
    }

    /// Whose record lies at an offset of a partition; `None` where no fact says.
    pub fn at_edge(&self, place: &Place, offset: KafkaOffset) -> Option<(&Source, EdgeOffset)> {
        let number = u64::try_from(offset.0).ok()?;
        let place = self.places.find(place)?;
        let span = self.by_place[place as usize].at(number)?;
        let at_edge = EdgeOffset(span.other_from + (number - span.from));
        Some((self.sources.get(span.other)?, at_edge))
    }

    /// For each numbering that has landed in a partition below an offset: the edge offset behind the
    /// last record that lies there. It is what a consumer that stands at `offset` has of each.
    pub fn read_below(&self, place: &Place, offset: KafkaOffset) -> Vec<(&Source, EdgeOffset)> {
        let (Some(place), Ok(end)) = (self.places.find(place), u64::try_from(offset.0)) else {
            return Vec::new();
        };
        let mut read: BTreeMap<u32, u64> = BTreeMap::new();
        for span in self.by_place[place as usize].iter() {
            if span.from >= end {
                break;
            }
            let count = span.count.min(end - span.from);
            let behind = read.entry(span.other).or_default();
            *behind = (*behind).max(span.other_from + count);
        }
        let named = |(source, behind)| Some((self.sources.get(source)?, EdgeOffset(behind)));
        read.into_iter().filter_map(named).collect()
    }

    /// The first offset of a partition at which a record of a numbering lies that is at `offset` or
    /// behind it: there a consumer has everything before, and nothing more of that numbering.
    pub fn first_from(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        offset: EdgeOffset,
    ) -> Option<(Place, KafkaOffset)> {
        // A numbering can go on over several lives: the first record counts, of the newest life that
        // has it.
        let lives = self.lives(edge, stream, incarnation).into_iter().rev();
        let firsts = lives.filter_map(|source| {
            let mut spans = self.by_source[source as usize].from(offset.0);
            spans.find(|span| span.other < GAP)
        });
        let span = firsts.min_by_key(|span| span.from.max(offset.0))?;
        let skipped = offset.0.saturating_sub(span.from);
        let place = self.places.get(span.other)?;
        Some((*place, KafkaOffset((span.other_from + skipped) as i64)))
    }

    /// The incarnations of a stream that are known, oldest first.
    pub fn incarnations(&self, edge: &EdgeId, stream: &StreamName) -> Vec<Incarnation> {
        let all = self.sources_of(edge, stream, Incarnation(0), Incarnation(u64::MAX));
        let mut found: Vec<_> = all.map(|(source, _)| source.incarnation).collect();
        found.dedup();
        found
    }

    fn lives(&self, edge: &EdgeId, stream: &StreamName, incarnation: Incarnation) -> Vec<u32> {
        let of = self.sources_of(edge, stream, incarnation, incarnation);
        of.map(|(_, number)| number).collect()
    }

    fn sources_of(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        first: Incarnation,
        last: Incarnation,
    ) -> impl Iterator<Item = (&Source, u32)> {
        let bound = |incarnation, counter, id| Source {
            edge: edge.clone(),
            stream: stream.clone(),
            incarnation,
            cluster_incarnation: ClusterIncarnation { counter, id },
        };
        self.sources.range((
            Bound::Included(bound(first, 0, 0)),
            Bound::Included(bound(last, u32::MAX, u128::MAX)),
        ))
    }

    /// All facts, by source and edge offset.
    pub fn facts(&self) -> impl Iterator<Item = NamedFact> {
        let sources = self.sources.iter();
        sources.flat_map(|(source, number)| {
            let spans = self.by_source[number as usize].iter();
            spans.filter_map(|span| self.fact(source, span))
        })
    }

    /// All facts in pieces, for those who cannot hold the map for as long as it takes: the next ones
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
                let fact = self.fact(source, &cut(span, from, span.end()));
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

    /// Facts of an interval of one numbering, at most `facts_max`.
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
            let spans = self.by_source[number as usize].from(from.0);
            for span in spans.take_while(|span| span.from < to.0) {
                let named = self.fact(source, &cut(span, from.0, to.0));
                found.extend(named.map(|named| named.fact));
            }
        }
        found.truncate(facts_max);
        found
    }

    /// The newest facts of one numbering, newest first, at most `facts_max`.
    pub fn newest_facts(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        facts_max: usize,
    ) -> Vec<Fact> {
        let mut found = Vec::new();
        for number in self.lives(edge, stream, incarnation).into_iter().rev() {
            let Some(source) = self.sources.get(number) else {
                continue;
            };
            let spans = self.by_source[number as usize].iter().rev();
            let facts = spans.filter_map(|span| Some(self.fact(source, span)?.fact));
            found.extend(facts.take(facts_max - found.len()));
        }
        found
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

    fn fact(&self, source: &Source, span: &Span) -> Option<NamedFact> {
        let place = self.places.get(span.other)?;
        Some(NamedFact {
            edge: source.edge.clone(),
            stream: source.stream.clone(),
            fact: Fact {
                incarnation: source.incarnation,
                edge_offset: EdgeOffset(span.from),
                count: span.count,
                cluster_incarnation: place.cluster_incarnation,
                topic_id: place.target.topic_id,
                partition: place.target.partition,
                kafka_offset: KafkaOffset(span.other_from as i64),
            },
        })
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

    /// Spans in both directions, and the bytes that they take.
    pub fn size(&self) -> (usize, usize) {
        let all = || self.by_source.iter().chain(&self.by_place);
        let spans = all().map(Spans::len).sum();
        (spans, all().map(Spans::bytes).sum())
    }

    fn source(
        &mut self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        cluster_incarnation: ClusterIncarnation,
    ) -> u32 {
        let source = Source {
            edge: edge.clone(),
            stream: stream.clone(),
            incarnation,
            cluster_incarnation,
        };
        let number = self.sources.number(source);
        let needed = self.by_source.len().max(number as usize + 1);
        self.by_source.resize_with(needed, Spans::default);
        number
    }

    fn place(&mut self, place: Place) -> u32 {
        let number = self.places.number(place);
        assert!(number < GAP, "fewer than 4 billion partitions");
        let needed = self.by_place.len().max(number as usize + 1);
        self.by_place.resize_with(needed, Spans::default);
        number
    }
}

/// What is known of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing, or not all of it.
    Not,
    Whole,
    /// What contradicts it.
    Otherwise,
}

fn source_of(named: &NamedFact) -> Source {
    Source {
        edge: named.edge.clone(),
        stream: named.stream.clone(),
        incarnation: named.fact.incarnation,
        cluster_incarnation: named.fact.cluster_incarnation,
    }
}

fn place_of(fact: &Fact) -> Place {
    Place {
        cluster_incarnation: fact.cluster_incarnation,
        target: Target {
            topic_id: fact.topic_id,
            partition: fact.partition,
        },
    }
}

/// A fact in both directions.
fn spans_of(fact: &Fact, source: u32, place: u32) -> (Span, Span) {
    let (at_edge, in_cloud) = (fact.edge_offset.0, fact.kafka_offset.0 as u64);
    let span = |from, other, other_from| Span {
        from,
        count: fact.count,
        other,
        other_from,
    };
    (
        span(at_edge, place, in_cloud),
        span(in_cloud, source, at_edge),
    )
}

/// The part of a span that lies in an interval which it overlaps.
fn cut(span: &Span, from: u64, to: u64) -> Span {
    let first = span.from.max(from);
    Span {
        from: first,
        count: span.end().min(to) - first,
        other: span.other,
        other_from: span.other_from + (first - span.from),
    }
}
