//! The offset map: facts, and gaps, found from either side. Exact in both directions; where nothing is known it
//! says so. Facts whose batches are in segments are in the segments' indexes: of these the map says where, and
//! [`AllFacts`] asks both.
//!
//! It is made of the ledger's effects (and of facts that were imported), and can be made again from
//! them at any time: the ledger itself keeps only heads. Merging is a union: in any order, any number
//! of times, with the same result; facts that contradict each other are an error and change nothing.

mod everywhere;
#[cfg(test)]
mod everywhere_tests;
mod expiry;
mod held;
mod mark;
pub(crate) mod numbers;
mod of_partition;
mod packed;
pub(crate) mod snapshot;
#[cfg(test)]
mod snapshot_tests;
mod spans;
#[cfg(test)]
mod tests;

use std::ops::Bound;

use thiserror::Error;
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, KafkaOffset, StreamName, TopicId,
};

use crate::ledger::{Effect, Target};
pub use everywhere::{AllFacts, Opened, Unopened};
pub use held::Known;
pub use mark::FactsMark;
use numbers::Numbers;
use packed::Packed;
pub use snapshot::RestoreError;
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

/// Why not all of an effect was taken up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Contradiction {
    #[error(transparent)]
    Clash(#[from] Clash),
    #[error(
        "the segment of offsets {from}..{to} of partition {} of topic {} does not hold the facts that are known of them: they stay in memory as well",
        .target.partition, .target.topic_id
    )]
    Segment {
        target: Target,
        from: KafkaOffset,
        to: KafkaOffset,
    },
}

/// Spans that lead to a gap carry its reason in place of a place.
const GAP: u32 = 0xffff_ff00;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OffsetMap {
    sources: Numbers<Source>,
    places: Numbers<Place>,
    by_source: Vec<Spans>,
    by_place: Vec<Spans>,
    packed: Packed,
}

impl OffsetMap {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up what the ledger has decided, in the cluster incarnation in which it did.
    ///
    /// # Errors
    /// What contradicts what is known is left out.
    pub fn apply(
        &mut self,
        effect: &Effect,
        life: ClusterIncarnation,
    ) -> Result<(), Contradiction> {
        match effect {
            // The ledger gives each offset once: what says otherwise was imported, and yields.
            Effect::Landed(landed) => {
                let (edge, stream) = (&landed.edge, &landed.stream);
                if self.add(edge, stream, &landed.fact).is_err() {
                    self.forget_otherwise(edge, stream, &landed.fact);
                    self.add(edge, stream, &landed.fact)?;
                }
                Ok(())
            }
            Effect::FactsImported(facts) => {
                let added = facts
                    .iter()
                    .map(|named| self.add(&named.edge, &named.stream, &named.fact));
                let clashes: Vec<Clash> = added.filter_map(Result::err).collect();
                clashes
                    .into_iter()
                    .next()
                    .map_or(Ok(()), |clash| Err(clash.into()))
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
            Effect::Trimmed { target, start } => {
                self.expire_below(*target, *start);
                Ok(())
            }
            Effect::Packed {
                target,
                segment,
                facts: Some(mark),
            } => self.pack(*target, (segment.base, segment.end), *mark),
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
        let overlapping = spans.within(at, end);
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

    /// Takes out, on both sides, what contradicts a fact.
    fn forget_otherwise(&mut self, edge: &EdgeId, stream: &StreamName, fact: &Fact) {
        let source = self.source(edge, stream, fact.incarnation, fact.cluster_incarnation);
        let place = self.place(place_of(fact));
        let (there, back) = spans_of(fact, source, place);
        for gone in self.by_source[source as usize].take_otherwise(&there) {
            if let Some(spans) = self.by_place.get_mut(gone.other as usize) {
                spans.take(gone.other_from, gone.count);
            }
        }
        for gone in self.by_place[place as usize].take_otherwise(&back) {
            if let Some(spans) = self.by_source.get_mut(gone.other as usize) {
                spans.take(gone.other_from, gone.count);
            }
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
                self.packed.take_below(number, u64::MAX);
            }
        }
    }

    /// What is said of an offset that none of these sources has; `None` where there are none.
    fn not_here(&self, lives: &[u32], offset: EdgeOffset) -> Option<InCloud> {
        let ends = lives
            .iter()
            .map(|source| self.by_source[*source as usize].end());
        let known_up_to = EdgeOffset(ends.max()?);
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

    /// Whose record lies at an offset of a partition, where the fact that says so is not packed.
    fn at_edge(&self, place: &Place, offset: KafkaOffset) -> Option<(&Source, EdgeOffset)> {
        let number = u64::try_from(offset.0).ok()?;
        let place = self.places.find(place)?;
        let span = self.by_place[place as usize].at(number)?;
        let at_edge = EdgeOffset(span.other_from + (number - span.from));
        Some((self.sources.get(span.other)?, at_edge))
    }

    /// The incarnations of a stream that are known, oldest first.
    pub fn incarnations(&self, edge: &EdgeId, stream: &StreamName) -> Vec<Incarnation> {
        let all = self.sources_of(edge, stream, Incarnation(0), Incarnation(u64::MAX));
        let mut found: Vec<_> = all.map(|(source, _)| source.incarnation).collect();
        found.dedup();
        found
    }

    /// The offset behind the last of a numbering that was ever known; `None` where none was.
    pub fn end_of(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
    ) -> Option<EdgeOffset> {
        let lives = self.lives(edge, stream, incarnation).into_iter();
        let ends = lives.map(|source| self.by_source[source as usize].end());
        ends.max().map(EdgeOffset)
    }

    /// A stream's numberings, the newest first.
    pub fn sources_of_stream(&self, edge: &EdgeId, stream: &StreamName) -> Vec<Source> {
        let all = self.sources_of(edge, stream, Incarnation(0), Incarnation(u64::MAX));
        let mut found: Vec<_> = all.map(|(source, _)| source.clone()).collect();
        found.reverse();
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

    /// All facts that are not packed, by source and edge offset.
    pub fn facts(&self) -> impl Iterator<Item = NamedFact> {
        let sources = self.sources.iter();
        sources.flat_map(|(source, number)| {
            let spans = self.by_source[number as usize].iter();
            spans.filter_map(|span| self.fact(source, span))
        })
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

    /// Spans in both directions and intervals of packed facts, and the bytes that they take.
    pub fn size(&self) -> (usize, usize) {
        let all = || self.by_source.iter().chain(&self.by_place);
        let spans: usize = all().map(Spans::len).sum();
        let bytes: usize = all().map(Spans::bytes).sum();
        (spans + self.packed.len(), bytes + self.packed.bytes())
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

fn place_of(fact: &Fact) -> Place {
    Place {
        cluster_incarnation: fact.cluster_incarnation,
        target: Target::of(fact),
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
