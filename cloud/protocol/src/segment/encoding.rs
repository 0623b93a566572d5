//! The index block as bytes. Numbers are varints, and most are steps from the one before, so that a batch
//! takes some 12 bytes and a fact some 5.
//!
//! In this order: topic id (16 bytes), partition, base offset; the sources (count, then for each edge id,
//! stream, incarnation, cluster incarnation); the batches (as many as the footer says; for each the
//! offsets left out before it, offsets, bytes, maximum timestamp, how far below it the minimum lies (plus
//! one; 0: not known), landing time, CRC-32C in 4 bytes); the facts (count, then for each its source, the
//! offsets left out before it, its count, and how far it is from where that source went on).

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::{KafkaOffset, PartitionId, TopicId};
use tidegate_shared::wire::WireError;

use super::facts::{Gathered, Placed};
use super::{Footer, HEADER_BYTES, SegmentEntry, SegmentError, SegmentFacts, SegmentIndex};
use crate::ledger::Target;
use crate::offset_map::snapshot::{put_source, take_source};
use crate::varint::{Input, put, put_signed};

/// The fewest bytes that a batch, a source and a fact can take: no more of them are made than the index
/// has bytes for.
const ENTRY_BYTES_MIN: usize = 10;
const SOURCE_BYTES_MIN: usize = 22;
const FACT_BYTES_MIN: usize = 4;

pub(super) fn encode(
    target: Target,
    base: KafkaOffset,
    entries: &[SegmentEntry],
    facts: &SegmentFacts,
) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u128_le(target.topic_id.0);
    put(&mut out, target.partition.0 as u32 as u64);
    put(&mut out, base.0 as u64);
    put(&mut out, facts.sources().len() as u64);
    for source in facts.sources().keys() {
        put_source(&mut out, source);
    }
    let mut before = Steps::new(base);
    for entry in entries {
        put_entry(&mut out, entry, &before);
        before = Steps::after(entry);
    }
    put_facts(&mut out, base, facts.placed());
    out.freeze()
}

/// Where the next batch would go on from the one before.
struct Steps {
    offset: KafkaOffset,
    position: u64,
    timestamp_ms: i64,
    landed_ms: i64,
}

impl Steps {
    fn new(base: KafkaOffset) -> Self {
        Self {
            offset: base,
            position: HEADER_BYTES as u64,
            timestamp_ms: 0,
            landed_ms: 0,
        }
    }

    fn after(entry: &SegmentEntry) -> Self {
        Self {
            offset: entry.end(),
            position: entry.position + u64::from(entry.batch_bytes),
            timestamp_ms: entry.max_timestamp_ms,
            landed_ms: entry.landed_ms,
        }
    }
}

fn put_entry(out: &mut BytesMut, entry: &SegmentEntry, before: &Steps) {
    put(out, (entry.base_offset.0 - before.offset.0) as u64);
    put(out, entry.count.into());
    put(out, entry.batch_bytes.into());
    let later = entry.max_timestamp_ms.wrapping_sub(before.timestamp_ms);
    put_signed(out, later);
    let below = |min: i64| (entry.max_timestamp_ms.wrapping_sub(min) as u64).checked_add(1);
    put(out, entry.min_timestamp_ms.and_then(below).unwrap_or(0));
    put_signed(out, entry.landed_ms.wrapping_sub(before.landed_ms));
    out.put_u32_le(entry.crc);
}

fn take_entry(input: &mut Input, before: &Steps) -> Result<SegmentEntry, SegmentError> {
    let left_out = input.number("offsets left out")?;
    let (count, batch_bytes) = (input.u32("count")?, input.u32("bytes")?);
    let later = input.signed("timestamp")?;
    let max_timestamp_ms = before.timestamp_ms.wrapping_add(later);
    let below = input.number("minimum timestamp")?;
    let min_timestamp_ms = below
        .checked_sub(1)
        .map(|below| max_timestamp_ms.checked_sub_unsigned(below));
    if min_timestamp_ms == Some(None) {
        return Err(SegmentError::Contradiction("a minimum timestamp"));
    }
    let landed_later = input.signed("landing time")?;
    let crc = u32::from_le_bytes(input.array("CRC")?);
    let base_offset = before.offset.0.checked_add_unsigned(left_out);
    let ends = base_offset.is_some_and(|base| base.checked_add(count.into()).is_some());
    let (Some(base_offset), true, 1..) = (base_offset, ends, count) else {
        return Err(SegmentError::Contradiction("a batch's offsets"));
    };
    Ok(SegmentEntry {
        base_offset: KafkaOffset(base_offset),
        position: before.position,
        max_timestamp_ms,
        min_timestamp_ms: min_timestamp_ms.flatten(),
        landed_ms: before.landed_ms.wrapping_add(landed_later),
        count,
        batch_bytes,
        crc,
    })
}

fn put_facts(out: &mut BytesMut, base: KafkaOffset, placed: &[Placed]) {
    put(out, placed.len() as u64);
    let mut goes_on = Vec::new();
    let mut offset = base.0;
    for fact in placed {
        let expected = expected(&mut goes_on, fact.source);
        put(out, fact.source.into());
        put(out, (fact.kafka_offset - offset) as u64);
        put(out, fact.count);
        put_signed(out, fact.edge_offset.wrapping_sub(*expected) as i64);
        *expected = fact.edge_end();
        offset = fact.end();
    }
}

/// Where each source goes on after its newest fact.
fn expected(goes_on: &mut Vec<u64>, source: u32) -> &mut u64 {
    let source = source as usize;
    goes_on.resize(goes_on.len().max(source + 1), 0);
    &mut goes_on[source]
}

fn take_facts(
    input: &mut Input,
    mut gathered: Gathered,
    (base, end): (KafkaOffset, KafkaOffset),
) -> Result<Gathered, SegmentError> {
    let count = input.count("facts", FACT_BYTES_MIN)?;
    gathered.placed.reserve_exact(count);
    let mut goes_on = Vec::new();
    let mut offset = base.0;
    for _ in 0..count {
        let source = input.u32("fact's source")?;
        if gathered.sources.get(source).is_none() {
            return Err(SegmentError::Contradiction("a fact's source"));
        }
        let left_out = input.number("offsets left out")?;
        let count = input.number("fact's count")?;
        let further = input.signed("fact's edge offset")?;
        let expected = expected(&mut goes_on, source);
        let edge_offset = expected.wrapping_add(further as u64);
        let kafka_offset = offset.checked_add_unsigned(left_out);
        let in_cloud =
            kafka_offset.and_then(|from| Some((from, from.checked_add_unsigned(count)?)));
        let (Some((kafka_offset, fact_end)), Some(edge_end), 1..) =
            (in_cloud, edge_offset.checked_add(count), count)
        else {
            return Err(SegmentError::Contradiction("a fact's offsets"));
        };
        if fact_end > end.0 {
            return Err(SegmentError::Contradiction("a fact's offsets"));
        }
        (*expected, offset) = (edge_end, fact_end);
        gathered.push(Placed {
            kafka_offset,
            edge_offset,
            count,
            source,
        });
    }
    Ok(gathered)
}

/// Reads an index block whose CRC was right.
pub(super) fn decode(index: &[u8], footer: &Footer) -> Result<SegmentIndex, SegmentError> {
    let mut input = Input::new(index);
    let target = Target {
        topic_id: TopicId(u128::from_le_bytes(input.array("topic id")?)),
        partition: PartitionId(input.u32("partition")? as i32),
    };
    let base = i64::try_from(input.number("base offset")?);
    let base = base.map_err(|_| SegmentError::Contradiction("its base offset"))?;
    let (base, end) = (KafkaOffset(base), footer.end);
    let mut gathered = Gathered::default();
    for number in 0..input.count("sources", SOURCE_BYTES_MIN)? {
        let source = take_source(&mut input)?;
        if gathered.sources.number(source) as usize != number {
            return Err(SegmentError::Contradiction("a source that is there twice"));
        }
    }
    let entries = take_entries(&mut input, base, footer)?;
    let gathered = take_facts(&mut input, gathered, (base, end))?;
    if !input.is_empty() {
        return Err(SegmentError::Contradiction("its index's length"));
    }
    let facts = gathered.finish(target);
    let facts = facts.map_err(|_| SegmentError::Contradiction("two facts"))?;
    Ok(SegmentIndex::new(target, (base, end), entries, facts))
}

fn take_entries(
    input: &mut Input,
    base: KafkaOffset,
    footer: &Footer,
) -> Result<Vec<SegmentEntry>, SegmentError> {
    let count = footer.batches as usize;
    if !input.has(count, ENTRY_BYTES_MIN) {
        return Err(WireError::Short { field: "batches" }.into());
    }
    let mut entries = Vec::with_capacity(count);
    let mut before = Steps::new(base);
    for _ in 0..count {
        let entry = take_entry(input, &before)?;
        // It cannot overflow: 2^32 batches of 2^32 bytes do not.
        before = Steps::after(&entry);
        entries.push(entry);
    }
    if before.position != footer.index_position || before.offset > footer.end {
        return Err(SegmentError::Contradiction("where its batches end"));
    }
    Ok(entries)
}
