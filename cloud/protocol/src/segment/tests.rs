//! Segments against a plain list of what was pushed; damaged and hostile ones.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::id::*;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

use super::*;
use crate::ledger::Target;
use crate::offset_map::Source;

const TARGET: Target = Target {
    topic_id: TopicId(5),
    partition: PartitionId(2),
};

fn life(counter: u32) -> ClusterIncarnation {
    ClusterIncarnation { counter, id: 9 }
}

fn edge(number: u8) -> EdgeId {
    EdgeId::new(format!("edge-{number}")).unwrap()
}

fn stream() -> StreamName {
    StreamName::new("telemetry").unwrap()
}

fn source(number: u8) -> Source {
    Source {
        edge: edge(number),
        stream: stream(),
        incarnation: Incarnation(1),
        cluster_incarnation: life(1 + u32::from(number % 2)),
    }
}

fn fact(number: u8, edge_offset: u64, count: u64, kafka_offset: i64) -> NamedFact {
    NamedFact {
        edge: edge(number),
        stream: stream(),
        fact: Fact {
            incarnation: Incarnation(1),
            edge_offset: EdgeOffset(edge_offset),
            count,
            cluster_incarnation: life(1 + u32::from(number % 2)),
            topic_id: TARGET.topic_id,
            partition: TARGET.partition,
            kafka_offset: KafkaOffset(kafka_offset),
        },
    }
}

/// A batch whose records have these timestamps.
pub(super) fn batch(base_offset: i64, timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for timestamp_ms in timestamps {
        builder.push(&Record {
            timestamp_ms: *timestamp_ms,
            value: Some(Bytes::from_static(b"21.5")),
            ..Record::default()
        });
    }
    builder.seal(base_offset, Compression::Zstd, &mut Compressor::new())
}

/// One batch to be pushed: who landed it, offsets left out before it in the partition and at the edge,
/// its records' times, when it landed, and whether its minimum is told.
#[derive(Clone, Debug)]
struct Turn {
    edge: u8,
    left_out: i64,
    skipped: u64,
    timestamps: Vec<i64>,
    landed_ms: i64,
    tells: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let rarely = || prop_oneof![6 => Just(0), 1 => 1..5_i64];
    let times = prop::collection::vec(0..60_i64, 1..6);
    (
        0..4_u8,
        rarely(),
        rarely(),
        times,
        any::<i32>(),
        any::<bool>(),
    )
        .prop_map(
            |(edge, left_out, skipped, timestamps, landed_ms, tells)| Turn {
                edge,
                left_out,
                skipped: skipped as u64,
                timestamps,
                landed_ms: landed_ms.into(),
                tells,
            },
        )
}

struct Made {
    parts: Vec<Bytes>,
    summary: SegmentSummary,
    batches: Vec<Bytes>,
    facts: Vec<NamedFact>,
}

impl Made {
    fn whole(&self) -> Bytes {
        Bytes::from(self.parts.concat())
    }

    fn index(&self) -> SegmentIndex {
        SegmentIndex::decode(&self.whole(), self.summary.bytes).unwrap()
    }
}

fn made(base: i64, turns: &[Turn]) -> Made {
    let mut writer = SegmentWriter::new(TARGET, KafkaOffset(base));
    let (mut at_edge, mut offset) = ([0; 4], base);
    let (mut batches, mut facts) = (Vec::new(), Vec::new());
    for turn in turns {
        offset += turn.left_out;
        let next = &mut at_edge[usize::from(turn.edge)];
        *next += turn.skipped;
        let count = turn.timestamps.len() as u64;
        let bytes = batch(offset, &turn.timestamps);
        let fact = fact(turn.edge, *next, count, offset);
        let packed = PackedBatch {
            bytes: bytes.clone(),
            landed_ms: turn.landed_ms,
            min_timestamp_ms: turn.timestamps.iter().min().copied().filter(|_| turn.tells),
        };
        writer.push(packed, std::slice::from_ref(&fact)).unwrap();
        *next += count;
        offset += count as i64;
        batches.push(bytes);
        facts.push(fact);
    }
    let (parts, summary) = writer.finish().unwrap();
    Made {
        parts,
        summary,
        batches,
        facts,
    }
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    prop::collection::vec(turn(), 0..25)
}

proptest! {
    #[test]
    fn what_is_packed_is_found_by_offset(base in 0..1_i64 << 40, turns in turns(), bytes_max in 0..900_u64) {
        let made = made(base, &turns);
        let (whole, index) = (made.whole(), made.index());
        prop_assert_eq!(whole.len() as u64, made.summary.bytes);
        let header = SegmentHeader::decode(&whole);
        prop_assert_eq!(header, Ok(SegmentHeader { target: TARGET, base: KafkaOffset(base) }));
        prop_assert_eq!((index.target(), index.base(), index.end()), (TARGET, KafkaOffset(base), made.summary.end));
        prop_assert_eq!(index.entries().len(), turns.len());
        for (number, (entry, turn)) in index.entries().iter().zip(&turns).enumerate() {
            let stored = &made.batches[number];
            let at = entry.position as usize;
            prop_assert_eq!(&whole[at..at + entry.batch_bytes as usize], &stored[..]);
            prop_assert!(entry.holds(stored));
            prop_assert_eq!(entry.landed_ms, turn.landed_ms);
            prop_assert_eq!(Some(entry.max_timestamp_ms), turn.timestamps.iter().max().copied());
            let min = turn.timestamps.iter().min().copied();
            prop_assert_eq!(entry.min_timestamp_ms, min.filter(|_| turn.tells || turn.timestamps.len() == 1));
        }
        for offset in (base..=made.summary.end.0).map(KafkaOffset) {
            let expected: Vec<_> = index.entries().iter().filter(|entry| entry.end() > offset).copied().collect();
            prop_assert_eq!(index.from_offset(offset), &expected[..]);
            let run = index.run_from(offset, bytes_max, true);
            let mut room = bytes_max;
            let fits = expected.iter().take_while(|entry| {
                let left = room.checked_sub(entry.batch_bytes.into());
                room = left.unwrap_or(0);
                left.is_some()
            });
            let fits = fits.count();
            prop_assert_eq!(run.entries, &expected[..fits.max(1).min(expected.len())]);
            prop_assert_eq!(index.run_from(offset, bytes_max, false).entries.len(), fits);
            let bytes = whole.slice(run.position as usize..(run.position + run.bytes) as usize);
            let batches: Result<Vec<_>, _> = run.batches(&bytes).map(|(_, batch)| batch).collect();
            prop_assert_eq!(batches.unwrap().concat(), bytes);
        }
    }

    #[test]
    fn time_finds_the_first_batch_that_reaches_it(turns in turns(), wanted in 0..70_i64) {
        let made = made(7, &turns);
        let index = made.index();
        let found = index.entries().iter().find(|entry| entry.max_timestamp_ms >= wanted);
        prop_assert_eq!(index.at_time(wanted), found);
        let greatest = turns.iter().flat_map(|turn| &turn.timestamps).max().copied();
        prop_assert_eq!(index.at_max_time().map(|entry| entry.max_timestamp_ms), greatest);
        prop_assert_eq!(made.summary.max_timestamp_ms, greatest);
        let landed = turns.iter().map(|turn| turn.landed_ms);
        prop_assert_eq!(made.summary.landed_ms_max, landed.clone().max());
        prop_assert_eq!(made.summary.landed_ms_min, landed.min());
        let least = turns.iter().flat_map(|turn| &turn.timestamps).min().copied();
        let is_known = turns.iter().all(|turn| turn.tells || turn.timestamps.len() == 1);
        prop_assert_eq!(made.summary.min_timestamp_ms, least.filter(|_| is_known));
    }

    #[test]
    fn facts_are_exact_both_ways(base in 0..1_i64 << 40, turns in turns()) {
        let made = made(base, &turns);
        let index = made.index();
        let facts = index.facts();
        let mut known = std::collections::BTreeMap::new();
        for NamedFact { edge, fact, .. } in &made.facts {
            for delta in 0..fact.count {
                known.insert(fact.kafka_offset.plus(delta as i64), (edge.clone(), fact.edge_offset.plus(delta)));
            }
        }
        for offset in (base - 1..=made.summary.end.0).map(KafkaOffset) {
            let found = facts.at_edge(offset).map(|(source, at)| (source.edge.clone(), at));
            prop_assert_eq!(found.as_ref(), known.get(&offset));
        }
        for number in 0..4 {
            let of: Vec<_> = known.iter().filter(|(_, (of, _))| *of == edge(number)).collect();
            let end = of.last().map_or(0, |(_, (_, at))| at.0 + 1);
            for offset in (0..=end).map(EdgeOffset) {
                let expected = of.iter().find(|(_, (_, at))| *at == offset);
                let expected = expected.map(|(kafka, _)| **kafka);
                prop_assert_eq!(facts.in_cloud(&source(number), offset), expected);
                for at_least in [0, base + offset.0 as i64].map(KafkaOffset) {
                    let first = of.iter().find(|(kafka, (_, at))| *at >= offset && **kafka >= at_least);
                    let first = first.map(|(kafka, (_, at))| (*at, **kafka));
                    prop_assert_eq!(facts.first_from(&source(number), offset, at_least), first);
                }
            }
        }
    }

    /// Facts handed out, whole or by parts, make the same segment's facts again.
    #[test]
    fn facts_come_out_as_they_went_in(turns in turns(), cut in any::<prop::sample::Index>()) {
        let made = made(3, &turns);
        let (index, end) = (made.index(), made.summary.end);
        let cut = KafkaOffset(3 + cut.index((end.0 - 3) as usize + 1) as i64);
        let facts = index.facts();
        prop_assert_eq!(facts.within(cut, cut).count(), 0);
        let parts: Vec<_> = facts.within(index.base(), cut).chain(facts.within(cut, end)).collect();
        let mut writer = SegmentWriter::new(TARGET, KafkaOffset(3));
        writer.push_facts(&parts).unwrap();
        prop_assert_eq!(&writer.finish_at(end).unwrap().1.facts, &made.summary.facts);
        prop_assert_eq!(facts.mark(), made.summary.facts);
        for number in 0..4 {
            let source = source(number);
            let all = (EdgeOffset(0), EdgeOffset(u64::MAX));
            let of: Vec<_> = facts.of(&source, all).collect();
            let expected: Vec<_> = facts.within(index.base(), end).filter(|named| named.edge == source.edge).collect();
            prop_assert_eq!(&of, &expected);
            let Some(first) = of.first() else { continue };
            let one = first.fact.edge_offset.plus(1);
            prop_assert_eq!(facts.of(&source, (one, one)).count(), 0);
            let some: u64 = facts.of(&source, (one, all.1))
                .inspect(|named| assert!(named.fact.edge_offset >= one))
                .map(|named| named.fact.count).sum();
            prop_assert_eq!(some + 1, expected.iter().map(|named| named.fact.count).sum::<u64>());
            let behind = facts.read_of(&source, (KafkaOffset(0), cut));
            let below = expected.iter().filter(|named| named.fact.kafka_offset < cut).map(|named| {
                let read = named.fact.count.min((cut.0 - named.fact.kafka_offset.0) as u64);
                named.fact.edge_offset.plus(read)
            });
            prop_assert_eq!(behind, below.max());
        }
    }

    #[test]
    fn bytes_of_a_stranger_never_panic(
        turns in prop::collection::vec(turn(), 0..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let made = made(7, &turns);
        let mut index = made.parts[made.parts.len() - 2].to_vec();
        for (at, byte) in changes {
            let at = at.index(index.len());
            index[at] = byte;
        }
        let tail = sealed(&index, &made.summary);
        if let Ok(index) = SegmentIndex::decode(&tail, made.summary.bytes) {
            for entry in index.entries() {
                prop_assert_eq!(index.from_offset(entry.base_offset).first(), Some(entry));
            }
            prop_assert!(index.facts().within(index.base(), index.end()).count() >= index.facts().len());
        }
    }
}

/// An index with a footer whose checksums are right.
fn sealed(index: &[u8], summary: &SegmentSummary) -> Bytes {
    let mut tail = BytesMut::from(index);
    let footer = Footer {
        index_position: summary.index_position,
        index_bytes: index.len() as u32,
        index_crc: crc32c::crc32c(index),
        end: summary.end,
        batches: summary.batches,
    };
    footer.encode(&mut tail);
    tail.freeze()
}

fn some() -> Made {
    let turn = |edge, timestamps: &[i64]| Turn {
        edge,
        left_out: 0,
        skipped: 0,
        timestamps: timestamps.to_vec(),
        landed_ms: 1_000,
        tells: false,
    };
    made(
        40,
        &[
            turn(0, &[5]),
            turn(0, &[7, 6]),
            turn(1, &[9, 9, 2]),
            turn(0, &[8]),
        ],
    )
}

#[test]
fn every_flipped_bit_is_found() {
    let made = some();
    let whole = made.whole();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1 << bit;
            let damaged = Bytes::from(damaged);
            let is_header = at < HEADER_BYTES;
            assert_eq!(
                SegmentHeader::decode(&damaged).is_err(),
                is_header,
                "byte {at} bit {bit}"
            );
            let index = SegmentIndex::decode(&damaged, made.summary.bytes);
            let is_tail = at as u64 >= made.summary.index_position;
            assert_eq!(index.is_err(), is_tail, "byte {at} bit {bit}");
            let Ok(index) = index else { continue };
            let run = index.run_from(KafkaOffset(0), u64::MAX, true);
            let bytes = damaged.slice(run.position as usize..(run.position + run.bytes) as usize);
            let wrong = run.batches(&bytes).filter(|(_, batch)| batch.is_err());
            let wrong: Vec<_> = wrong.map(|(entry, _)| entry.position as usize).collect();
            assert_eq!(wrong.len(), usize::from(!is_header), "byte {at} bit {bit}");
            assert!(wrong.iter().all(|position| *position <= at));
        }
    }
}

#[test]
fn one_get_of_the_last_bytes_is_enough_and_fewer_say_how_many() {
    let made = some();
    let whole = made.whole();
    let tail = whole.slice(whole.len() - made.summary.tail_bytes() as usize..);
    let bytes = made.summary.bytes;
    assert_eq!(
        SegmentIndex::decode(&tail, bytes).unwrap().entries(),
        made.index().entries()
    );
    let needed = made.summary.tail_bytes();
    for cut in 1..tail.len() {
        let given = (tail.len() - cut) as u64;
        let needed = if given < FOOTER_BYTES as u64 {
            FOOTER_BYTES as u64
        } else {
            needed
        };
        let short = SegmentIndex::decode(&tail[cut..], bytes).unwrap_err();
        assert_eq!(short, SegmentError::TailShort { needed, given });
    }
    for wrong in [bytes - 1, bytes + 1, 0, u64::MAX] {
        assert!(SegmentIndex::decode(&tail, wrong).is_err());
    }
}

#[test]
fn facts_that_follow_on_become_one() {
    let made = some();
    let edges: Vec<_> = made
        .index()
        .facts()
        .within(KafkaOffset(0), KafkaOffset(99))
        .map(|named| {
            (
                named.edge.as_str().to_owned(),
                named.fact.edge_offset.0,
                named.fact.count,
            )
        })
        .collect();
    let expected = [("edge-0", 0, 3), ("edge-1", 0, 3), ("edge-0", 3, 1)];
    assert_eq!(
        edges,
        expected.map(|(edge, at, count)| (edge.to_owned(), at, count))
    );
    assert_eq!((made.summary.facts.count, made.summary.records), (3, 7));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut writer = SegmentWriter::new(TARGET, KafkaOffset(10));
    let packed = |base| PackedBatch {
        bytes: batch(base, &[1, 2]),
        landed_ms: 0,
        min_timestamp_ms: None,
    };
    assert!(matches!(
        writer.push(packed(9), &[]),
        Err(WriteError::Order { .. })
    ));
    assert!(matches!(
        writer.push(packed(-1), &[]),
        Err(WriteError::Offsets(_))
    ));
    assert!(matches!(
        writer.push(packed(i64::MAX - 1), &[]),
        Err(WriteError::Offsets(_))
    ));
    let short = PackedBatch {
        bytes: packed(10).bytes.slice(..70),
        ..packed(10)
    };
    assert!(matches!(
        writer.push(short, &[]),
        Err(WriteError::Length { .. })
    ));
    let mut elsewhere = fact(0, 0, 2, 10);
    elsewhere.fact.partition = PartitionId(3);
    for wrong in [
        fact(0, 0, 3, 10),
        fact(0, 0, 1, 9),
        fact(0, 0, 0, 10),
        fact(0, u64::MAX, 2, 10),
        elsewhere,
    ] {
        assert!(matches!(
            writer.push(packed(10), &[wrong]),
            Err(WriteError::Fact(_))
        ));
    }
    assert!(writer.is_empty() && writer.end() == KafkaOffset(10));
    writer.push(packed(10), &[fact(0, 0, 2, 10)]).unwrap();
    assert!(matches!(
        writer.push(packed(11), &[]),
        Err(WriteError::Order { .. })
    ));
    // The same offsets of an edge at another place.
    writer.push(packed(12), &[fact(0, 1, 2, 12)]).unwrap();
    let clash = writer.finish().unwrap_err();
    assert!(
        matches!(
            clash,
            WriteError::Clash {
                at: EdgeOffset(1),
                ..
            }
        ),
        "{clash}"
    );
}

#[test]
fn what_was_compacted_away_leaves_its_offsets_and_facts() {
    let mut writer = SegmentWriter::new(TARGET, KafkaOffset(0));
    writer.push_facts(&[fact(0, 0, 10, 0)]).unwrap();
    let packed = PackedBatch {
        bytes: batch(10, &[1]),
        landed_ms: 0,
        min_timestamp_ms: None,
    };
    writer.push(packed, &[fact(0, 10, 1, 10)]).unwrap();
    let (parts, summary) = writer.finish_at(KafkaOffset(50)).unwrap();
    let index = SegmentIndex::decode(&parts.concat(), summary.bytes).unwrap();
    assert_eq!(
        (index.base(), index.end()),
        (KafkaOffset(0), KafkaOffset(50))
    );
    assert_eq!(index.run_from(KafkaOffset(3), 9_999, true).entries.len(), 1);
    assert!(
        index
            .run_from(KafkaOffset(11), 9_999, true)
            .entries
            .is_empty()
    );
    assert_eq!(index.facts().len(), 1);
    assert_eq!(
        index.facts().at_edge(KafkaOffset(4)).unwrap().1,
        EdgeOffset(4)
    );
}

/// What an index claims is never reserved beyond what its bytes can hold.
#[test]
fn hostile_counts_are_refused() {
    let made = some();
    let mut index = BytesMut::new();
    index.put_u128_le(5);
    index.put_slice(&[2, 40]);
    index.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let tail = sealed(
        &index,
        &SegmentSummary {
            batches: u32::MAX,
            ..made.summary.clone()
        },
    );
    let bytes = made.summary.index_position + tail.len() as u64;
    let refused = SegmentIndex::decode(&tail, bytes);
    assert!(
        matches!(refused, Err(SegmentError::Field(_))),
        "{refused:?}"
    );
}

/// What an index costs: a batch some 12 bytes, its fact some 6, a numbering its names once.
#[test]
fn an_index_is_small() {
    const EDGES: u64 = 3_000;
    const BATCHES: u64 = 30_000;
    let mut writer = SegmentWriter::new(TARGET, KafkaOffset(1 << 40));
    for number in 0..BATCHES {
        let offset = (1 << 40) + 10 * number as i64;
        let time = 1_700_000_000_000 + number as i64 % 977;
        let mut named = fact(0, 10 * (number / EDGES), 10, offset);
        named.edge = EdgeId::new(format!("edge-{:04}", number % EDGES)).unwrap();
        let packed = PackedBatch {
            bytes: batch(offset, &[time; 10]),
            landed_ms: 1_700_000_100_000 + number as i64 / 50,
            min_timestamp_ms: None,
        };
        writer.push(packed, &[named]).unwrap();
    }
    let (parts, summary) = writer.finish().unwrap();
    assert_eq!(
        (u64::from(summary.facts.count), summary.records),
        (BATCHES, 10 * BATCHES)
    );
    let source_bytes = 1 + "edge-0000".len() + 1 + "telemetry".len() + 1 + 1 + 16;
    let each =
        (f64::from(summary.index_bytes) - (EDGES as usize * source_bytes) as f64) / BATCHES as f64;
    println!("{each:.1} bytes of index for each batch with its fact");
    assert!(each < 19.0, "{each} bytes for each batch and its fact");
    let index = SegmentIndex::decode(&parts.concat(), summary.bytes).unwrap();
    assert_eq!(index.entries().len() as u64, BATCHES);
    println!("{} bytes in memory for {BATCHES} of them", index.bytes());
    assert!(
        index.bytes() as u64 <= BATCHES * 112,
        "{} bytes in memory",
        index.bytes()
    );
}
