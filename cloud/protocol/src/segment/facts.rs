//! Which interval of a partition came from which interval of which stream: the part of the offset map that
//! lives in a segment, beside the batches that it describes, and goes with them. Exact both ways; it knows
//! nothing of other segments, nor of gaps.

use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::id::{EdgeOffset, KafkaOffset};

use crate::ledger::Target;
use crate::offset_map::numbers::Numbers;
use crate::offset_map::{FactsMark, Source};

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

    /// Where an offset of a numbering is in the partition.
    pub fn in_cloud(&self, source: &Source, offset: EdgeOffset) -> Option<KafkaOffset> {
        let fact = self.of_source(self.sources.find(source)?, offset).next()?;
        let delta = offset.0.checked_sub(fact.edge_offset)?;
        Some(KafkaOffset(fact.kafka_offset + delta as i64))
    }

    /// The first offset of a numbering at or behind `offset` that is here and lies at or behind `at_least` in
    /// the partition, with where it lies.
    pub fn first_from(
        &self,
        source: &Source,
        offset: EdgeOffset,
        at_least: KafkaOffset,
    ) -> Option<(EdgeOffset, KafkaOffset)> {
        let mut facts = self.of_source(self.sources.find(source)?, offset);
        let fact = facts.find(|fact| fact.end() > at_least.0)?;
        let before_edge = offset.0.saturating_sub(fact.edge_offset);
        let before_kafka = at_least.0.saturating_sub(fact.kafka_offset).max(0) as u64;
        let skipped = before_edge.max(before_kafka);
        let at_edge = EdgeOffset(fact.edge_offset + skipped);
        Some((at_edge, KafkaOffset(fact.kafka_offset + skipped as i64)))
    }

    /// The edge offset behind the last record of a numbering that lies in `[from, to)` of the partition.
    pub fn read_of(
        &self,
        source: &Source,
        (from, to): (KafkaOffset, KafkaOffset),
    ) -> Option<EdgeOffset> {
        let facts = self.of_source(self.sources.find(source)?, EdgeOffset(0));
        let within = facts.filter(|fact| fact.kafka_offset.max(from.0) < fact.end().min(to.0));
        let behind = within.map(|fact| fact.cut(from.0, to.0).edge_end());
        behind.max().map(EdgeOffset)
    }

    /// Facts about `[from, to)` of the partition, in its order, cut to it.
    pub fn within(&self, from: KafkaOffset, to: KafkaOffset) -> impl Iterator<Item = NamedFact> {
        let first = self.placed.partition_point(|fact| fact.end() <= from.0);
        let facts = self.placed[first..].iter();
        let facts = facts.take_while(move |fact| fact.kafka_offset.max(from.0) < to.0);
        facts.filter_map(move |fact| self.named(&fact.cut(from.0, to.0)))
    }

    /// The facts from an offset on, for who takes the segment's batches one after the other.
    pub fn in_turn(&self, from: KafkaOffset) -> FactsInTurn<'_> {
        FactsInTurn { facts: self, from }
    }

    /// Facts of an interval of one numbering, in its order, cut to it.
    pub fn of(
        &self,
        source: &Source,
        (from, to): (EdgeOffset, EdgeOffset),
    ) -> impl DoubleEndedIterator<Item = NamedFact> {
        let known = self.sources.find(source);
        let known = known.filter(|_| from < to);
        let facts = known.map_or(&[][..], |source| self.numbered(source, from));
        let within = facts.partition_point(|at| self.placed[*at as usize].edge_offset < to.0);
        let facts = facts[..within].iter().map(|at| &self.placed[*at as usize]);
        facts.filter_map(move |fact| {
            let shift = fact.edge_offset.wrapping_sub(fact.kafka_offset as u64);
            let in_cloud = |edge: u64| edge.wrapping_sub(shift) as i64;
            let (first, end) = (from.0.max(fact.edge_offset), to.0.min(fact.edge_end()));
            self.named(&fact.cut(in_cloud(first), in_cloud(end)))
        })
    }

    /// Tells these facts from all others.
    pub fn mark(&self) -> FactsMark {
        let facts = self.placed.iter().filter_map(|placed| {
            let source = self.sources.get(placed.source)?;
            let (edge_offset, kafka_offset) = (placed.edge_offset, placed.kafka_offset as u64);
            Some((source, edge_offset, placed.count, kafka_offset))
        });
        FactsMark::of(facts)
    }

    /// Bytes in memory, without the names.
    pub fn bytes(&self) -> usize {
        self.placed.capacity() * size_of::<Placed>() + self.by_source.capacity() * size_of::<u32>()
    }

    /// A source's facts that end behind an offset of it, in its order.
    fn of_source(&self, source: u32, offset: EdgeOffset) -> impl Iterator<Item = &Placed> {
        let facts = self.numbered(source, offset).iter();
        facts.map(|at| &self.placed[*at as usize])
    }

    /// The same, as places in `placed`.
    fn numbered(&self, source: u32, offset: EdgeOffset) -> &[u32] {
        let key = |at: &u32| {
            let fact = &self.placed[*at as usize];
            (fact.source, fact.edge_end())
        };
        let first = (self.by_source).partition_point(|at| key(at) <= (source, offset.0));
        let behind = self.by_source.partition_point(|at| key(at).0 <= source);
        &self.by_source[first.min(behind)..behind]
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

/// Facts that were not taken yet; see [`SegmentFacts::in_turn`].
#[derive(Debug)]
pub struct FactsInTurn<'a> {
    facts: &'a SegmentFacts,
    from: KafkaOffset,
}

impl FactsInTurn<'_> {
    /// Those up to an offset: of a batch that ends there, and of what was compacted away before it.
    pub fn up_to(&mut self, to: KafkaOffset) -> Vec<NamedFact> {
        let facts = self.facts.within(self.from, to).collect();
        self.from = to;
        facts
    }
}
