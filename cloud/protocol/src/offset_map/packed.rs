//! Of facts that are in segments the map keeps only where to look: for each numbering and segment one
//! interval. So it grows with segments and the numberings in each, never with batches (but with gaps, which are in
//! no segment, until the data around them goes). The facts themselves
//! are in the segments' indexes ([`SegmentFacts`](crate::segment::SegmentFacts)); who asks both is
//! [`AllFacts`](super::AllFacts).

use std::collections::{BTreeMap, BTreeSet};

use tidegate_shared::id::KafkaOffset;

use super::spans::Span;
use super::{Contradiction, FactsMark, OffsetMap, Place};
use crate::ledger::Target;

/// All that one segment (or several, of what was imported out of order) has of a numbering lies in `[from, to)` of it, and in `[kafka_from, kafka_to)` of a place.
/// It need not have all of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedInterval {
    pub from: u64,
    pub to: u64,
    pub place: u32,
    pub kafka_from: u64,
    pub kafka_to: u64,
}

impl PackedInterval {
    /// Of a source's span.
    fn of(span: &Span) -> Self {
        Self {
            from: span.from,
            to: span.end(),
            place: span.other,
            kafka_from: span.other_from,
            kafka_to: span.other_from + span.count,
        }
    }

    fn hold(&mut self, other: &Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.kafka_from = self.kafka_from.min(other.kafka_from);
        self.kafka_to = self.kafka_to.max(other.kafka_to);
    }
}

/// The intervals of all numberings.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    /// Of each source, in the order of `from`.
    by_source: Vec<Vec<PackedInterval>>,
    /// The sources that have some in a place.
    sources: Vec<BTreeSet<u32>>,
}

impl Packed {
    pub(super) fn of_source(&self, source: u32) -> &[PackedInterval] {
        self.by_source
            .get(source as usize)
            .map_or(&[], Vec::as_slice)
    }

    /// Those that may have an offset, newest first.
    pub(super) fn at(&self, source: u32, offset: u64) -> impl Iterator<Item = &PackedInterval> {
        let all = self.of_source(source);
        let begun = all.partition_point(|packed| packed.from <= offset);
        let newest_first = all[..begun].iter().rev();
        newest_first.filter(move |packed| offset < packed.to)
    }

    /// The sources that have some in a place, with what they have there.
    pub(super) fn of_place(&self, place: u32) -> impl Iterator<Item = (u32, &PackedInterval)> {
        let sources = self.sources.get(place as usize).into_iter().flatten();
        sources.flat_map(move |source| {
            let there = self.of_source(*source).iter();
            let there = there.filter(move |packed| packed.place == place);
            there.map(move |packed| (*source, packed))
        })
    }

    pub(super) fn is_any_in(&self, place: u32) -> bool {
        let sources = self.sources.get(place as usize);
        sources.is_some_and(|sources| !sources.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.by_source.iter().map(Vec::len).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        let intervals: usize = self.by_source.iter().map(Vec::capacity).sum();
        intervals * size_of::<PackedInterval>()
    }

    pub(super) fn insert(&mut self, source: u32, new: PackedInterval) {
        let (of_source, of_place) = (source as usize, new.place as usize);
        let sources = self.by_source.len().max(of_source + 1);
        self.by_source.resize_with(sources, Vec::new);
        let places = self.sources.len().max(of_place + 1);
        self.sources.resize_with(places, BTreeSet::new);
        let intervals = &mut self.by_source[of_source];
        // Only what was imported out of order overlaps: it is one then, so that nothing lies between.
        let mut whole = new;
        intervals.retain(|other| {
            let overlaps = other.place == new.place && other.from < new.to && new.from < other.to;
            if overlaps {
                whole.hold(other);
            }
            !overlaps
        });
        let at = intervals.partition_point(|packed| packed.from <= whole.from);
        intervals.insert(at, whole);
        self.sources[of_place].insert(source);
    }

    /// Makes one of what each source has in an interval of a place.
    fn join(&mut self, place: u32, (from, to): (u64, u64)) {
        let sources = self.sources.get(place as usize);
        let sources: Vec<u32> = sources.into_iter().flatten().copied().collect();
        for source in sources {
            let is_within = |packed: &&PackedInterval| {
                packed.place == place && from <= packed.kafka_from && packed.kafka_to <= to
            };
            let intervals = &mut self.by_source[source as usize];
            let mut within = intervals.iter().filter(is_within).copied();
            let (Some(mut whole), Some(second)) = (within.next(), within.next()) else {
                continue;
            };
            whole.hold(&second);
            within.for_each(|packed| whole.hold(&packed));
            intervals.retain(|packed| !is_within(&packed));
            intervals.shrink_to_fit();
            self.insert(source, whole);
        }
    }

    /// Takes out, and gives with their sources, those of a place that lie wholly below an offset of it.
    pub(super) fn take_below(&mut self, place: u32, end: u64) -> Vec<(u32, PackedInterval)> {
        let Some(sources) = self.sources.get_mut(place as usize) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        sources.retain(|source| {
            let mut stays = false;
            self.by_source[*source as usize].retain(|packed| {
                let is_there = packed.place == place;
                let goes = is_there && packed.kafka_to <= end;
                if goes {
                    taken.push((*source, *packed));
                }
                stays |= is_there && !goes;
                !goes
            });
            stays
        });
        taken
    }
}

impl OffsetMap {
    /// A segment has the batches of an interval of a partition. Where it has, as its mark says, exactly the facts
    /// that are known of it, they are looked up there from now on; else they stay here as well.
    pub(super) fn pack(
        &mut self,
        target: Target,
        (from, to): (KafkaOffset, KafkaOffset),
        mark: FactsMark,
    ) -> Result<(), Contradiction> {
        let placed = self.placed_in(target, from, to);
        // It took the place of segments that had them.
        if placed.is_empty() {
            self.join_packed(target, (from.0 as u64, to.0 as u64));
            return Ok(());
        }
        if self.mark_of(&placed) != mark {
            return Err(Contradiction::Segment { target, from, to });
        }
        let mut there = BTreeMap::<u32, Vec<Span>>::new();
        let mut back = BTreeMap::<u32, Vec<Span>>::new();
        for (place, span) in placed {
            there
                .entry(span.other)
                .or_default()
                .push(span.turned(place));
            back.entry(place).or_default().push(span);
        }
        for (place, spans) in back {
            self.by_place[place as usize].take_all(&spans);
        }
        for (source, mut spans) in there {
            spans.sort_unstable_by_key(|span| span.from);
            self.by_source[source as usize].take_all(&spans);
            let mut intervals = BTreeMap::<u32, PackedInterval>::new();
            for span in &spans {
                let one = PackedInterval::of(span);
                let interval = intervals.entry(span.other).or_insert(one);
                interval.hold(&one);
            }
            for interval in intervals.into_values() {
                self.packed.insert(source, interval);
            }
        }
        Ok(())
    }

    /// One segment has now what several had.
    fn join_packed(&mut self, target: Target, within: (u64, u64)) {
        for cluster_incarnation in self.all_lives() {
            let place = Place {
                cluster_incarnation,
                target,
            };
            if let Some(place) = self.places.find(&place) {
                self.packed.join(place, within);
            }
        }
    }

    fn mark_of(&self, placed: &[(u32, Span)]) -> FactsMark {
        let facts = placed.iter().filter_map(|(_, span)| {
            let source = self.sources.get(span.other)?;
            Some((source, span.other_from, span.count, span.from))
        });
        FactsMark::of(facts)
    }
}
