//! The offset map as bytes: what has been derived from effects need not be derived again. It has one
//! direction; the other follows from it, since every fact stands in both. Whoever stores it keeps a
//! checksum with it.
//!
//! In this order, numbers as varints: version (one byte); the sources, and the places, in the order of their
//! numbers; for each source its spans (count, then for each where it leads, the offsets left out before it,
//! its count, and, where it leads to a place, how far from where the last one ended there), and how far
//! behind them its end is; from version 2 on for each source its intervals of packed facts (count, then for each
//! its place, how far from the end of the last one it begins and how long it is, on both sides).

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, Incarnation, PartitionId, StreamName, TopicId,
};
use tidegate_shared::wire::WireError;

use super::packed::PackedInterval;
use super::spans::{Span, Spans};
use super::{GAP, OffsetMap, Place, Source};
use crate::ledger::Target;
use crate::varint::{Input, put, put_signed, put_string};

/// Counts up when the format changes; older ones stay readable.
const VERSION: u8 = 2;

/// Where a span leads is a gap's reason below this, and a place's number from it on.
const PLACES_FROM: u64 = 16;

/// The fewest bytes that each takes: no more are made than the input has bytes for.
const SOURCE_BYTES_MIN: usize = 22;
const PLACE_BYTES_MIN: usize = 34;
const SPAN_BYTES_MIN: usize = 3;
const INTERVAL_BYTES_MIN: usize = 5;

/// Why bytes are not an offset map.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    #[error("the offset map has version {0}; this program knows up to {VERSION}")]
    Version(u8),
    #[error("the offset map: {0}")]
    Field(#[from] WireError),
    #[error("the offset map contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl OffsetMap {
    /// The whole map; maps that were made by the same effects give the same bytes.
    pub fn snapshot(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        put(&mut out, self.sources.len() as u64);
        self.sources
            .keys()
            .for_each(|source| put_source(&mut out, source));
        put(&mut out, self.places.len() as u64);
        self.places
            .keys()
            .for_each(|place| put_place(&mut out, place));
        self.by_source
            .iter()
            .for_each(|spans| put_spans(&mut out, spans));
        (0..self.sources.len() as u32)
            .for_each(|source| put_intervals(&mut out, self.packed.of_source(source)));
        out.freeze()
    }

    /// Reads what [`OffsetMap::snapshot`] wrote.
    ///
    /// # Errors
    /// See [`RestoreError`]; bytes of anybody are refused, or are a map that answers.
    pub fn restore(bytes: Bytes) -> Result<Self, RestoreError> {
        let mut input = Input::new(&bytes);
        let [version] = input.array("version")?;
        if version == 0 || version > VERSION {
            return Err(RestoreError::Version(version));
        }
        let mut map = Self::new();
        for number in 0..input.count("sources", SOURCE_BYTES_MIN)? {
            let source = take_source(&mut input)?;
            if map.sources.number(source) as usize != number {
                return Err(RestoreError::Contradiction("a source that is there twice"));
            }
        }
        for number in 0..input.count("places", PLACE_BYTES_MIN)? {
            if map.places.number(take_place(&mut input)?) as usize != number {
                return Err(RestoreError::Contradiction("a place that is there twice"));
            }
        }
        for _ in 0..map.sources.len() {
            let spans = take_spans(&mut input, map.places.len())?;
            map.by_source.push(spans);
        }
        if version >= 2 {
            for source in 0..map.sources.len() as u32 {
                map.take_intervals(&mut input, source)?;
            }
        }
        if !input.is_empty() {
            return Err(RestoreError::Contradiction("its length"));
        }
        map.by_place = map.back()?;
        Ok(map)
    }

    fn take_intervals(&mut self, input: &mut Input, source: u32) -> Result<(), RestoreError> {
        let (mut to, mut kafka_to) = (0, 0);
        for _ in 0..input.count("intervals", INTERVAL_BYTES_MIN)? {
            let place = input.u32("an interval's place")?;
            let from = step(input, to)?;
            to = length(input, from)?;
            let kafka_from = step(input, kafka_to)?;
            kafka_to = length(input, kafka_from)?;
            if place as usize >= self.places.len() || i64::try_from(kafka_to).is_err() {
                return Err(RestoreError::Contradiction("an interval's place"));
            }
            let interval = PackedInterval {
                from,
                to,
                place,
                kafka_from,
                kafka_to,
            };
            self.packed.insert(source, interval);
        }
        Ok(())
    }

    /// The direction from the cloud to the edges, by the other one.
    fn back(&self) -> Result<Vec<Spans>, RestoreError> {
        let mut found = vec![Vec::new(); self.places.len()];
        for (source, spans) in (0..).zip(&self.by_source) {
            for span in spans.iter().filter(|span| span.other < GAP) {
                found[span.other as usize].push(Span {
                    from: span.other_from,
                    count: span.count,
                    other: source,
                    other_from: span.from,
                });
            }
        }
        let ordered = |mut of: Vec<Span>| {
            of.sort_unstable_by_key(|span| span.from);
            let mut spans = Spans::default();
            for span in of {
                if span.from < spans.end() {
                    return Err(RestoreError::Contradiction("two facts"));
                }
                spans.insert(span);
            }
            Ok(spans)
        };
        found.into_iter().map(ordered).collect()
    }
}

pub(crate) fn put_source(out: &mut BytesMut, source: &Source) {
    put_string(out, source.edge.as_str());
    put_string(out, source.stream.as_str());
    put(out, source.incarnation.0);
    put_life(out, source.cluster_incarnation);
}

pub(crate) fn take_source(input: &mut Input) -> Result<Source, WireError> {
    let field = "edge id";
    let edge = EdgeId::new(input.string(field, EdgeId::LENGTH_MAX)?);
    let edge = edge.map_err(|_| WireError::Invalid { field })?;
    let field = "stream name";
    let stream = StreamName::new(input.string(field, StreamName::LENGTH_MAX)?);
    Ok(Source {
        edge,
        stream: stream.map_err(|_| WireError::Invalid { field })?,
        incarnation: Incarnation(input.number("incarnation")?),
        cluster_incarnation: take_life(input)?,
    })
}

fn put_life(out: &mut BytesMut, life: ClusterIncarnation) {
    put(out, life.counter.into());
    out.put_u128_le(life.id);
}

fn take_life(input: &mut Input) -> Result<ClusterIncarnation, WireError> {
    Ok(ClusterIncarnation {
        counter: input.u32("cluster incarnation")?,
        id: u128::from_le_bytes(input.array("cluster incarnation id")?),
    })
}

fn put_place(out: &mut BytesMut, place: &Place) {
    put_life(out, place.cluster_incarnation);
    out.put_u128_le(place.target.topic_id.0);
    put(out, u64::from(place.target.partition.0 as u32));
}

fn take_place(input: &mut Input) -> Result<Place, WireError> {
    Ok(Place {
        cluster_incarnation: take_life(input)?,
        target: Target {
            topic_id: TopicId(u128::from_le_bytes(input.array("topic id")?)),
            partition: PartitionId(input.u32("partition")? as i32),
        },
    })
}

fn put_spans(out: &mut BytesMut, spans: &Spans) {
    put(out, spans.len() as u64);
    let (mut end, mut there) = (0, 0);
    for span in spans.iter() {
        let is_gap = span.other >= GAP;
        let leads = match is_gap {
            true => u64::from(span.other - GAP),
            false => PLACES_FROM + u64::from(span.other),
        };
        put(out, leads);
        put(out, span.from - end);
        put(out, span.count);
        end = span.end();
        if !is_gap {
            put_signed(out, span.other_from.wrapping_sub(there) as i64);
            there = span.other_from + span.count;
        }
    }
    put(out, spans.end() - end);
}

fn put_intervals(out: &mut BytesMut, intervals: &[PackedInterval]) {
    put(out, intervals.len() as u64);
    let (mut to, mut kafka_to) = (0, 0);
    for interval in intervals {
        put(out, interval.place.into());
        put_signed(out, interval.from.wrapping_sub(to) as i64);
        put(out, interval.to - interval.from);
        put_signed(out, interval.kafka_from.wrapping_sub(kafka_to) as i64);
        put(out, interval.kafka_to - interval.kafka_from);
        (to, kafka_to) = (interval.to, interval.kafka_to);
    }
}

/// Where an interval begins, seen from the end of the last one.
fn step(input: &mut Input, end: u64) -> Result<u64, RestoreError> {
    let further = input.signed("where an interval begins")?;
    let begins = end.checked_add_signed(further);
    begins.ok_or(RestoreError::Contradiction("an interval's offsets"))
}

/// Where it ends.
fn length(input: &mut Input, from: u64) -> Result<u64, RestoreError> {
    let length = input.number("an interval's length")?;
    let end = from.checked_add(length).filter(|_| length > 0);
    end.ok_or(RestoreError::Contradiction("an interval's offsets"))
}

fn take_spans(input: &mut Input, places: usize) -> Result<Spans, RestoreError> {
    let wrong = RestoreError::Contradiction;
    let mut spans = Spans::default();
    let (mut end, mut there) = (0_u64, 0_u64);
    for _ in 0..input.count("spans", SPAN_BYTES_MIN)? {
        let leads = input.number("where a span leads")?;
        let left_out = input.number("offsets left out")?;
        let count = input.number("span's count")?;
        let from = end.checked_add(left_out).filter(|_| count > 0);
        let from = from.ok_or(wrong("a span's offsets"))?;
        end = from.checked_add(count).ok_or(wrong("a span's offsets"))?;
        let (other, other_from) = match leads.checked_sub(PLACES_FROM) {
            Some(place) if place < places as u64 => {
                let further = input.signed("where a span ended")?;
                let other_from = there.wrapping_add(further as u64);
                there = other_from
                    .checked_add(count)
                    .ok_or(wrong("a fact's offsets"))?;
                // Kafka's offsets have 63 bits.
                i64::try_from(there).map_err(|_| wrong("a fact's offsets"))?;
                (place as u32, other_from)
            }
            Some(_) => return Err(wrong("a span's place")),
            None => match GapReason::from_number(leads as u8) {
                Some(reason) => (GAP | u32::from(reason as u8), from),
                None => return Err(wrong("a gap's reason")),
            },
        };
        spans.insert(Span {
            from,
            count,
            other,
            other_from,
        });
    }
    let further = input.number("end")?;
    let end = end.checked_add(further).ok_or(wrong("an end"))?;
    spans.was_known_to(end);
    Ok(spans)
}
