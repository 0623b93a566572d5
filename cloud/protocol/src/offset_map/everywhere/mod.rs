//! The offset map and the segments together: every question that somebody asks of an offset. Facts that are
//! packed lie in segments' indexes, which must be fetched, and nothing is fetched here: an answer that needs
//! indexes which are not opened says which, and whoever asks opens them and asks again.

mod held;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_bridge_protocol::fact::Fact;
use tidegate_shared::id::{EdgeId, EdgeOffset, Incarnation, KafkaOffset, StreamName};

use super::packed::PackedInterval;
use super::{GAP, InCloud, OffsetMap, Place, Source};
use crate::index::SegmentId;
use crate::ledger::{Ledger, Segment, Target};
use crate::segment::{SegmentFacts, SegmentIndex};

/// Segments whose indexes are at hand.
pub type Opened = BTreeMap<SegmentId, Arc<SegmentIndex>>;

/// The answer needs the indexes of these; there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unopened(pub Vec<Segment>);

/// Behind all offsets of a partition.
const END: KafkaOffset = KafkaOffset(i64::MAX);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct AllFacts<'a> {
    pub ledger: &'a Ledger,
    pub map: &'a OffsetMap,
    opened: &'a Opened,
}

impl<'a> AllFacts<'a> {
    /// `ledger` and `map` are of one moment.
    pub fn new(ledger: &'a Ledger, map: &'a OffsetMap, opened: &'a Opened) -> Self {
        Self {
            ledger,
            map,
            opened,
        }
    }

    /// Where an offset of an edge's stream is, in the newest life of the cloud that knows of it.
    /// `None` where the incarnation is not known at all.
    ///
    /// # Errors
    /// See the module; the same for all that follow.
    pub fn in_cloud(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        offset: EdgeOffset,
    ) -> Result<Option<InCloud>, Unopened> {
        let lives = self.map.lives(edge, stream, incarnation);
        for number in lives.iter().rev() {
            if let Some(found) = self.of_source(*number, offset)? {
                return Ok(Some(found));
            }
        }
        Ok(self.map.not_here(&lives, offset))
    }

    /// What is known of an offset of a source; a fact outweighs a gap.
    fn of_source(&self, number: u32, offset: EdgeOffset) -> Result<Option<InCloud>, Unopened> {
        let map = self.map;
        let span = map.by_source[number as usize].at(offset.0);
        if let Some(fact) = span.filter(|span| span.other < GAP) {
            return Ok(Some(map.lead(fact, offset)));
        }
        for packed in map.packed.at(number, offset.0) {
            let (place, segments) = self.segments_of(packed)?;
            let source = map.sources.get(number);
            let in_cloud = |facts: &&SegmentFacts| facts.in_cloud(source?, offset);
            let found = segments.iter().find_map(in_cloud);
            let found = found.filter(|offset| *offset >= self.log_start(place.target));
            if let Some(kafka_offset) = found {
                return Ok(Some(InCloud::Landed {
                    place,
                    kafka_offset,
                }));
            }
        }
        Ok(span.map(|gap| map.lead(gap, offset)))
    }

    /// The incarnation that an offset means where none is named: the newest in which it has landed; else
    /// the newest in which it is declared lost. `None` where it is neither.
    pub fn meant(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        offset: EdgeOffset,
    ) -> Result<Option<Incarnation>, Unopened> {
        let mut lost = None;
        for incarnation in self.map.incarnations(edge, stream).into_iter().rev() {
            match self.in_cloud(edge, stream, incarnation, offset)? {
                Some(InCloud::Landed { .. }) => return Ok(Some(incarnation)),
                Some(InCloud::Lost { .. }) => lost = lost.or(Some(incarnation)),
                _ => {}
            }
        }
        Ok(lost)
    }

    /// Whose record lies (or, where it was compacted away, lay) at an offset of a partition; `None` where no fact
    /// says.
    pub fn at_edge(
        &self,
        place: &Place,
        offset: KafkaOffset,
    ) -> Result<Option<(&'a Source, EdgeOffset)>, Unopened> {
        let map = self.map;
        let here = map.at_edge(place, offset);
        let number = map.places.find(place);
        let is_packed = number.is_some_and(|number| map.packed.is_any_in(number));
        if here.is_some() || !is_packed || offset < self.log_start(place.target) {
            return Ok(here);
        }
        let segments = self.open(place.target, offset, offset.plus(1))?;
        let found = segments.first().and_then(|facts| facts.at_edge(offset));
        let of_life = |(source, _): &(&Source, EdgeOffset)| {
            source.cluster_incarnation == place.cluster_incarnation
        };
        Ok(found.filter(of_life))
    }

    /// For each numbering that has landed in a partition below an offset: the edge offset behind the
    /// last record that lies there. It is what a consumer that stands at `offset` has of each.
    pub fn read_below(
        &self,
        place: &Place,
        offset: KafkaOffset,
    ) -> Result<Vec<(&'a Source, EdgeOffset)>, Unopened> {
        let map = self.map;
        let (Some(number), Ok(end)) = (map.places.find(place), u64::try_from(offset.0)) else {
            return Ok(Vec::new());
        };
        let mut read: BTreeMap<u32, u64> = BTreeMap::new();
        let mut has_read = |source, behind: u64| {
            let newest = read.entry(source).or_default();
            *newest = (*newest).max(behind);
        };
        for span in map.by_place[number as usize]
            .iter()
            .take_while(|span| span.from < end)
        {
            has_read(
                span.other,
                span.other_from + span.count.min(end - span.from),
            );
        }
        for (source, packed) in map.packed.of_place(number) {
            if packed.kafka_to <= end {
                has_read(source, packed.to);
            } else if packed.kafka_from < end
                && let Some(name) = map.sources.get(source)
            {
                let (_, segments) = self.segments_of(packed)?;
                let within = (self.log_start(place.target), offset);
                let behind = segments
                    .iter()
                    .filter_map(|facts| facts.read_of(name, within));
                behind.for_each(|behind| has_read(source, behind.0));
            }
        }
        let named = |(source, behind)| Some((map.sources.get(source)?, EdgeOffset(behind)));
        Ok(read.into_iter().filter_map(named).collect())
    }

    /// The first offset of a partition at which a record of a numbering lies that is at `offset` or
    /// behind it: there a consumer has everything before, and nothing more of that numbering.
    pub fn first_from(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        incarnation: Incarnation,
        offset: EdgeOffset,
    ) -> Result<Option<(Place, KafkaOffset)>, Unopened> {
        // A numbering can go on over several lives: the first record counts, of the newest life that
        // has it.
        let mut first: Option<(EdgeOffset, Place, KafkaOffset)> = None;
        for number in self.map.lives(edge, stream, incarnation).into_iter().rev() {
            let found = self.first_of_source(number, offset)?;
            let is_earlier = |found: &(EdgeOffset, Place, KafkaOffset)| {
                first.is_none_or(|(at_edge, ..)| found.0 < at_edge)
            };
            first = found.filter(is_earlier).or(first);
        }
        Ok(first.map(|(_, place, kafka_offset)| (place, kafka_offset)))
    }

    fn first_of_source(
        &self,
        number: u32,
        offset: EdgeOffset,
    ) -> Result<Option<(EdgeOffset, Place, KafkaOffset)>, Unopened> {
        let map = self.map;
        let mut spans = map.by_source[number as usize].from(offset.0);
        let mut first = spans.find(|span| span.other < GAP).and_then(|span| {
            let skipped = offset.0.saturating_sub(span.from);
            let kafka_offset = KafkaOffset((span.other_from + skipped) as i64);
            let place = map.places.get(span.other)?;
            Some((EdgeOffset(span.from + skipped), *place, kafka_offset))
        });
        let Some(source) = map.sources.get(number) else {
            return Ok(first);
        };
        let packed = map.packed.of_source(number).iter();
        for packed in packed.filter(|packed| packed.to > offset.0) {
            // They are in order: what comes behind the first that is known is later still.
            if first.is_some_and(|(at_edge, ..)| at_edge.0 <= packed.from) {
                break;
            }
            let (place, segments) = self.segments_of(packed)?;
            let log_start = self.log_start(place.target);
            for facts in segments {
                let found = facts.first_from(source, offset, log_start);
                let found = found.map(|(at_edge, at)| (at_edge, place, at));
                first = earlier(first, found);
            }
        }
        Ok(first)
    }

    /// The newest facts of a source before an offset of it, newest first and at most `facts_max`: as many as can be
    /// told by one segment, or without one. There are no more where there are none.
    pub fn facts_before(
        &self,
        source: &Source,
        mut before: EdgeOffset,
        facts_max: usize,
    ) -> Result<Vec<Fact>, Unopened> {
        let map = self.map;
        let Some(number) = map.sources.find(source) else {
            return Ok(Vec::new());
        };
        let packed = map.packed.of_source(number).iter().rev();
        let packed = packed
            .filter(move |packed| packed.from < before.0)
            .map(Some);
        for packed in packed.chain([None]) {
            let from = packed.map_or(0, |packed| packed.from);
            let here = map.here_before(number, (EdgeOffset(from), before), facts_max);
            if !here.is_empty() {
                return Ok(here);
            }
            let there = match packed {
                Some(packed) => self.packed_before(source, packed, before, facts_max)?,
                None => Vec::new(),
            };
            if !there.is_empty() {
                return Ok(there);
            }
            before = before.min(EdgeOffset(from));
        }
        Ok(Vec::new())
    }

    fn packed_before(
        &self,
        source: &Source,
        packed: &PackedInterval,
        before: EdgeOffset,
        facts_max: usize,
    ) -> Result<Vec<Fact>, Unopened> {
        let (place, segments) = self.segments_of(packed)?;
        let log_start = self.log_start(place.target);
        let interval = (EdgeOffset(packed.from), before.min(EdgeOffset(packed.to)));
        let newest_first = segments.iter().rev();
        let facts = newest_first.flat_map(|facts| facts.of(source, interval).rev());
        let facts = facts.filter_map(|named| named.fact.within(log_start, END));
        Ok(facts.take(facts_max).collect())
    }

    fn log_start(&self, target: Target) -> KafkaOffset {
        let partition = self.ledger.partition(target);
        partition.map_or(KafkaOffset(0), |partition| partition.log_start)
    }

    /// The place of packed facts, and the facts of the segments that may have them.
    fn segments_of(
        &self,
        packed: &PackedInterval,
    ) -> Result<(Place, Vec<&'a SegmentFacts>), Unopened> {
        let place = self.map.places.get(packed.place);
        let place = *place.expect("a place's number is kept as long as it is used");
        let (from, to) = (packed.kafka_from as i64, packed.kafka_to as i64);
        let segments = self.open(place.target, KafkaOffset(from), KafkaOffset(to))?;
        Ok((place, segments))
    }

    /// The facts of the segments that have offsets of `[from, to)`, in their order.
    fn open(
        &self,
        target: Target,
        from: KafkaOffset,
        to: KafkaOffset,
    ) -> Result<Vec<&'a SegmentFacts>, Unopened> {
        let (mut opened, mut unopened) = (Vec::new(), Vec::new());
        for segment in self.ledger.log(target).segments_within(from, to) {
            match self.opened.get(&segment.id) {
                Some(index) => opened.push(index.facts()),
                None => unopened.push(*segment),
            }
        }
        match unopened.is_empty() {
            true => Ok(opened),
            false => Err(Unopened(unopened)),
        }
    }
}

/// Of two firsts the one at the lower edge offset.
fn earlier<P, K>(
    one: Option<(EdgeOffset, P, K)>,
    other: Option<(EdgeOffset, P, K)>,
) -> Option<(EdgeOffset, P, K)> {
    one.into_iter().chain(other).min_by_key(|(at, ..)| *at)
}
