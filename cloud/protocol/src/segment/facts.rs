//! Which interval of a partition came from which interval of which stream: the part of the offset map that
//! lives in a segment, beside the batches that it describes, and goes with them. Exact both ways; it knows
//! nothing of other segments, nor of gaps.

use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, KafkaOffset, StreamName,
};

use super::SegmentInterval;
use crate::ledger::Target;
use crate::offset_map::Source;
use crate::offset_map::numbers::Numbers;

/// `count` offsets of the partition, from `kafka_offset` on, are those of a source from `edge_offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub kafka_offset: i64,
    pub edge_offset: u64,
    pub count: u64,
    pub source: u32,
}

impl Placed {
    pub(super) fn end(&self) -> i64 {
        self.kafka_offset + self.count as i64
    }

    pub(super) fn edge_end(&self) -> u64 {
        self.edge_offset + self.count
    }

    /// Whether `next` goes on where this ends, on both sides.
    fn leads_to(&self, next: &Self) -> bool {
        self.source == next.source
            && self.end() == next.kafka_offset
            && self.edge_end() == next.edge_offset
    }

    /// The part within `[from, to)` of the partition, which it overlaps.
    fn cut(&self, from: i64, to: i64) -> Self {
        let first = self.kafka_offset.max(from);
        Self {
            kafka_offset: first,
            edge_offset: self.edge_offset + (first - self.kafka_offset) as u64,
            count: (self.end().min(to) - first) as u64,
            source: self.source,
        }
    }
}

/// Facts as they come, in the partition's order; those that follow on become one.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    pub sources: Numbers<Source>,
    pub placed: Vec<Placed>,
}

impl Gathered {
    pub(super) fn push(&mut self, new: Placed) {
        match self.placed.last_mut() {
            Some(last) if last.leads_to(&new) => last.count += new.count,
            _ => self.placed.push(new),
        }
    }

    /// Makes them searchable by source.
    ///
    /// # Errors
    /// An offset of a source would be at two places: the source and the offset.
    pub(super) fn finish(self, target: Target) -> Result<SegmentFacts, (Source, EdgeOffset)> {
        let Self { sources, placed } = self;
        let mut by_source: Vec<u32> = (0..placed.len() as u32).collect();
        let key = |at: &u32| {
            let fact = &placed[*at as usize];
            (fact.source, fact.edge_offset)
        };
        by_source.sort_unstable_by_key(key);
        for pair in by_source.windows(2) {
            let [one, next] = [placed[pair[0] as usize], placed[pair[1] as usize]];
            if one.source == next.source && next.edge_offset < one.edge_end() {
                let source = sources.get(one.source).cloned();
                let source = source.expect("a fact's source has a number");
                return Err((source, EdgeOffset(next.edge_offset)));
            }
        }
        Ok(SegmentFacts {
            target,
            sources,
            placed,
            by_source,
        })
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct SegmentFacts {
    target: Target,
    sources: Numbers<Source>,
    /// In the partition's order, without overlaps.
    placed: Vec<Placed>,
    /// Of `placed`, in the order of source and edge offset, without overlaps.
    by_source: Vec<u32>,
}

impl SegmentFacts {
    /// Facts, after those that follow on from one another have become one.
    pub fn len(&self) -> usize {
        self.placed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// Whose record lies (or, where it was compacted away, lay) at an offset; `None` where no fact says.
    pub fn at_edge(&self, offset: KafkaOffset) -> Option<(&Source, EdgeOffset)> {
        let at = self.placed.partition_point(|fact| fact.end() <= offset.0);
        let fact = self.placed.get(at)?;
        let delta = u64::try_from(offset.0.checked_sub(fact.kafka_offset)?).ok()?;
        let source = self.sources.get(fact.source)?;
        Some((source, EdgeOffset(fact.edge_offset + delta)))
    }

    /// Where an offset of an edge's stream is in the partition, by the newest life of the cloud that has
    /// it here.
    pub fn in_cloud(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        offset: EdgeOffset,
    ) -> Option<(ClusterIncarnation, KafkaOffset)> {
        let lives = self.lives(edge, stream, incarnation);
        lives.into_iter().rev().find_map(|(life, source)| {
            let fact = self.of_source(source, offset).next()?;
            let delta = offset.0.checked_sub(fact.edge_offset)?;
            Some((life, KafkaOffset(fact.kafka_offset + delta as i64)))
        })
    }

    /// The first offset of a numbering at or behind `offset` that is here, with where it lies: by the
    /// newest life that has it.
    pub fn first_from(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        offset: EdgeOffset,
    ) -> Option<(ClusterIncarnation, EdgeOffset, KafkaOffset)> {
        let lives = self.lives(edge, stream, incarnation).into_iter().rev();
        let firsts = lives.filter_map(|(life, source)| {
            let fact = self.of_source(source, offset).next()?;
            let skipped = offset.0.saturating_sub(fact.edge_offset);
            let at_edge = EdgeOffset(fact.edge_offset + skipped);
            Some((
                life,
                at_edge,
                KafkaOffset(fact.kafka_offset + skipped as i64),
            ))
        });
        firsts.min_by_key(|(_, at_edge, _)| *at_edge)
    }

    /// For each numbering that has records here below an offset of the partition: the edge offset behind
    /// the last of them.
    pub fn read_below(&self, offset: KafkaOffset) -> Vec<(&Source, EdgeOffset)> {
        let mut read = std::collections::BTreeMap::<u32, u64>::new();
        let below = self
            .placed
            .iter()
            .take_while(|fact| fact.kafka_offset < offset.0);
        for fact in below {
            let part = fact.cut(fact.kafka_offset, offset.0);
            let behind = read.entry(part.source).or_default();
            *behind = (*behind).max(part.edge_end());
        }
        let named = |(source, behind)| Some((self.sources.get(source)?, EdgeOffset(behind)));
        read.into_iter().filter_map(named).collect()
    }

    /// Facts about `[from, to)` of the partition, in its order, cut to it.
    pub fn within(&self, from: KafkaOffset, to: KafkaOffset) -> impl Iterator<Item = NamedFact> {
        let first = self.placed.partition_point(|fact| fact.end() <= from.0);
        let facts = self.placed[first..].iter();
        let facts = facts.take_while(move |fact| fact.kafka_offset < to.0);
        facts.filter_map(move |fact| self.named(&fact.cut(from.0, to.0)))
    }

    /// Facts of an interval of one numbering, in its order and life by life, cut to it.
    pub fn of(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        (from, to): (EdgeOffset, EdgeOffset),
    ) -> impl Iterator<Item = NamedFact> {
        let lives = self.lives(edge, stream, incarnation).into_iter();
        let facts = lives.flat_map(move |(_, source)| {
            let facts = self.of_source(source, from);
            facts.take_while(move |fact| fact.edge_offset < to.0)
        });
        facts.filter_map(move |fact| {
            let shift = fact.edge_offset.wrapping_sub(fact.kafka_offset as u64);
            let in_cloud = |edge: u64| edge.wrapping_sub(shift) as i64;
            let (first, end) = (from.0.max(fact.edge_offset), to.0.min(fact.edge_end()));
            self.named(&fact.cut(in_cloud(first), in_cloud(end)))
        })
    }

    /// What is here of each numbering.
    pub fn intervals(&self) -> Vec<SegmentInterval> {
        let mut found: Vec<SegmentInterval> = Vec::new();
        let mut newest = None;
        for at in &self.by_source {
            let fact = &self.placed[*at as usize];
            let to = EdgeOffset(fact.edge_end());
            if newest == Some(fact.source) {
                found.last_mut().expect("it has a newest").to = to;
            } else if let Some(source) = self.sources.get(fact.source) {
                newest = Some(fact.source);
                found.push(SegmentInterval {
                    source: source.clone(),
                    from: EdgeOffset(fact.edge_offset),
                    to,
                });
            }
        }
        found.sort_by(|one, other| one.source.cmp(&other.source));
        found
    }

    /// Bytes in memory, without the names.
    pub fn bytes(&self) -> usize {
        self.placed.capacity() * size_of::<Placed>() + self.by_source.capacity() * size_of::<u32>()
    }

    /// A source's facts that end behind an offset of it, in its order.
    fn of_source(&self, source: u32, offset: EdgeOffset) -> impl Iterator<Item = &Placed> {
        let fact = |at: &u32| &self.placed[*at as usize];
        let first = self.by_source.partition_point(|at| {
            let fact = fact(at);
            (fact.source, fact.edge_end()) <= (source, offset.0)
        });
        let facts = self.by_source[first..].iter().map(fact);
        facts.take_while(move |fact| fact.source == source)
    }

    fn lives(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
    ) -> Vec<(ClusterIncarnation, u32)> {
        let bound = |counter, id| Source {
            edge: edge.clone(),
            stream: stream.clone(),
            incarnation,
            cluster_incarnation: ClusterIncarnation { counter, id },
        };
        let lives = self.sources.range(bound(0, 0)..=bound(u32::MAX, u128::MAX));
        lives
            .map(|(source, number)| (source.cluster_incarnation, number))
            .collect()
    }

    fn named(&self, placed: &Placed) -> Option<NamedFact> {
        let source = self.sources.get(placed.source)?;
        Some(NamedFact {
            edge: source.edge.clone(),
            stream: source.stream.clone(),
            fact: Fact {
                incarnation: source.incarnation,
                edge_offset: EdgeOffset(placed.edge_offset),
                count: placed.count,
                cluster_incarnation: source.cluster_incarnation,
                topic_id: self.target.topic_id,
                partition: self.target.partition,
                kafka_offset: KafkaOffset(placed.kafka_offset),
            },
        })
    }

    pub(super) fn sources(&self) -> &Numbers<Source> {
        &self.sources
    }

    pub(super) fn placed(&self) -> &[Placed] {
        &self.placed
    }
}
