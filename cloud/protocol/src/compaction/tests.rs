//! Rewritten batches are read again, and their records compared with what a plain list says of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::option;
use proptest::prelude::*;
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::id::*;
use tidegate_shared::record::{
    Batch, BatchBuilder, BatchHeader, BatchRewriter, Compression, Compressor, Header, Record,
};

use super::*;

type Placed = (i64, Record);

/// A batch to be: its records, the offsets left out before it, and what its header says of a producer.
#[derive(Clone, Debug)]
struct Plan {
    records: Vec<Record>,
    left_out: i64,
    compression: Compression,
    producer_id: i64,
}

fn record(keys: impl Strategy<Value = Option<u8>>) -> impl Strategy<Value = Record> {
    let header = (0..3_u8, option::of(0..9_u8)).prop_map(|(name, value)| Header {
        name: vec![name; 3].into(),
        value: value.map(|value| vec![value; 5].into()),
    });
    let value = option::weighted(0.8, (any::<u8>(), 0..300_usize));
    let headers = prop::collection::vec(header, 0..3);
    (-50..50_i64, keys, value, headers).prop_map(|(timestamp_ms, key, value, headers)| Record {
        timestamp_ms,
        key: key.map(|key| vec![key; 4].into()),
        value: value.map(|(byte, length)| vec![byte; length].into()),
        headers,
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        4 => Just(Compression::None),
        1 => Just(Compression::Gzip),
        1 => Just(Compression::Snappy),
        1 => Just(Compression::Lz4),
        2 => Just(Compression::Zstd),
    ]
}

fn plan(keys: impl Strategy<Value = Option<u8>> + Clone + 'static) -> impl Strategy<Value = Plan> {
    let left_out = prop_oneof![4 => Just(0), 1 => 1..4_i64];
    let producers = prop_oneof![5 => Just(-1), 1 => 0..2_i64];
    let records = prop::collection::vec(record(keys), 1..7);
    (records, left_out, compression(), producers).prop_map(
        |(records, left_out, compression, producer_id)| Plan {
            records,
            left_out,
            compression,
            producer_id,
        },
    )
}

fn made(plans: &[Plan]) -> Vec<Batch> {
    let mut offset = 3;
    let plans = plans.iter().map(|plan| {
        let mut builder = BatchBuilder::new();
        plan.records.iter().for_each(|record| builder.push(record));
        offset += plan.left_out;
        let sealed = builder.seal(offset, Compression::None, &mut Compressor::new());
        let mut header = BatchHeader::parse(&sealed).unwrap();
        (header.producer_id, header.base_sequence) = (plan.producer_id, offset as i32);
        let mut rewriter = BatchRewriter::new(header);
        for record in &plan.records {
            rewriter.push(offset, record);
            offset += 1;
        }
        let sealed = rewriter.seal(offset - 1, plan.compression, &mut Compressor::new());
        Batch::parse(sealed).unwrap()
    });
    plans.collect()
}

fn read<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<Placed> {
    let all = batches.into_iter().flat_map(|batch| {
        let records = checked_records(batch, 1 << 20).unwrap();
        records.map(Result::unwrap).collect::<Vec<_>>()
    });
    all.collect()
}

/// What a consumer that reads from the start knows in the end; tombstones as nothing.
fn state(records: &[Placed]) -> BTreeMap<Bytes, Bytes> {
    let mut state = BTreeMap::new();
    for (_, record) in records {
        let Some(key) = record.key.clone() else {
            continue;
        };
        match record.value.clone() {
            Some(value) => state.insert(key, value),
            None => state.remove(&key),
        };
    }
    state
}

fn noted(batches: &[Batch], keys_max: usize) -> KeyMap {
    let mut keys = KeyMap::new(keys_max, 77);
    for batch in batches {
        if keys.note(batch) == Ok(Noted::Full) {
            break;
        }
    }
    keys
}

const RETENTION_MS: i64 = 100;

/// One pass; batches that are left, and what it has done.
fn pass(
    batches: &[Batch],
    keys: &KeyMap,
    now_ms: i64,
    keep_empty: bool,
) -> (Vec<Batch>, CompactionStats) {
    let mut compactor = Compactor::new(keys, now_ms, RETENTION_MS);
    let mut left = Vec::new();
    for batch in batches {
        match compactor.compact(batch, keep_empty).unwrap() {
            Compacted::Unchanged => left.push(batch.clone()),
            Compacted::Rewritten {
                bytes,
                min_timestamp_ms,
            } => {
                let rewritten = Batch::parse(bytes).unwrap();
                let times = read([&rewritten])
                    .into_iter()
                    .map(|(_, record)| record.timestamp_ms);
                let times: Vec<_> = times.collect();
                assert_eq!(min_timestamp_ms, times.iter().min().copied());
                let (header, was) = (rewritten.header(), batch.header());
                assert_eq!(
                    header.max_timestamp_ms,
                    times.iter().max().copied().unwrap_or(was.max_timestamp_ms)
                );
                let kept = |header: &BatchHeader| {
                    let producer = (
                        header.producer_id,
                        header.producer_epoch,
                        header.base_sequence,
                    );
                    (
                        header.base_offset,
                        header.last_offset_delta,
                        header.leader_epoch,
                        producer,
                    )
                };
                assert_eq!(kept(header), kept(was));
                left.push(rewritten);
            }
            Compacted::Gone => {}
        }
    }
    (left, *compactor.stats())
}

fn keys() -> impl Strategy<Value = Option<u8>> + Clone {
    prop_oneof![12 => (0..6_u8).prop_map(Some), 1 => Just(None)]
}

proptest! {
    #[test]
    fn a_pass_keeps_the_latest_of_each_key_and_nothing_is_changed(
        plans in prop::collection::vec(plan(keys()), 1..12),
        keys_max in 1..50_usize,
        keep_empty in any::<bool>(),
    ) {
        let batches = made(&plans);
        let all = read(&batches);
        let keys = noted(&batches, keys_max);
        let covers_to = keys.covers_to().0;
        let known: Vec<_> = all.iter().filter(|(offset, _)| *offset < covers_to).collect();
        let is_latest = |at: i64, record: &Record| {
            !known.iter().any(|(offset, other)| *offset > at && record.key.is_some() && other.key == record.key)
        };
        let expected: Vec<_> = all.iter().filter(|(at, record)| *at >= covers_to || is_latest(*at, record)).cloned().collect();
        let (first, stats) = pass(&batches, &keys, 1_000, keep_empty);
        prop_assert_eq!(&read(&first), &expected);
        prop_assert_eq!(state(&expected), state(&all));
        prop_assert_eq!(stats.records_outdone as usize, all.len() - expected.len());
        prop_assert_eq!(stats.bytes_left, first.iter().map(|batch| batch.bytes().len() as u64).sum::<u64>());
        if keep_empty {
            prop_assert_eq!(first.len(), batches.len());
        }
        // A tombstone stays until its horizon, and goes then.
        let (again, _) = pass(&first, &keys, 1_000 + RETENTION_MS - 1, true);
        prop_assert_eq!(&read(&again), &expected);
        let (later, stats) = pass(&again, &keys, 1_000 + RETENTION_MS, keep_empty);
        let is_over = |(at, record): &&Placed| *at < covers_to && record.key.is_some() && record.value.is_none();
        let left: Vec<_> = expected.iter().filter(|placed| !is_over(placed)).cloned().collect();
        prop_assert_eq!(&read(&later), &left);
        prop_assert_eq!(stats.tombstones_gone as usize, expected.len() - left.len());
        prop_assert_eq!(state(&left), state(&all));
    }

    /// Passes that each get on a little come to the same as one over all.
    #[test]
    fn small_passes_come_to_the_same_end(plans in prop::collection::vec(plan(keys()), 1..12), keys_max in 1..9_usize) {
        let batches = made(&plans);
        let (whole, _) = pass(&batches, &noted(&batches, 999), 0, true);
        let mut left = batches.clone();
        let mut from = 0;
        while from < left.len() {
            let keys = noted(&left[from..], keys_max);
            prop_assert!(keys.covers_to().0 > left[from].header().base_offset);
            left = pass(&left, &keys, 0, true).0;
            from = left.partition_point(|batch| batch.header().base_offset < keys.covers_to().0);
        }
        prop_assert_eq!(read(&left), read(&whole));
    }

    #[test]
    fn merging_changes_no_record_and_no_fact(
        plans in prop::collection::vec(plan(Just(Some(1))), 1..20),
        below_bytes in 0..700_usize,
        records_bytes_max in 0..3_000_usize,
    ) {
        let batches = made(&plans);
        let facts: Vec<_> = batches.iter().enumerate().map(|(number, batch)| fact(number, batch)).collect();
        let mut merger = Merger::new(MergeLimits { below_bytes, records_bytes_max }, Compression::Zstd);
        let mut out = Vec::new();
        for ((landed_ms, batch), fact) in (0..).zip(&batches).zip(&facts) {
            merger.push(batch, landed_ms, vec![fact.clone()], &mut out);
        }
        merger.flush(&mut out);
        let parsed: Vec<_> = out.iter().map(|merged| Batch::parse(merged.batch.bytes.clone()).unwrap()).collect();
        prop_assert_eq!(read(&parsed), read(&batches));
        prop_assert_eq!(out.iter().flat_map(|merged| merged.facts.clone()).collect::<Vec<_>>(), facts);
        let mut were = batches.iter();
        let mut landed_ms = -1;
        for (merged, batch) in out.iter().zip(&parsed) {
            let of: Vec<_> = were.by_ref().take(merged.of).collect();
            let (header, first, last) = (batch.header(), of[0].header(), of[of.len() - 1].header());
            prop_assert_eq!(header.base_offset, first.base_offset);
            prop_assert_eq!(header.base_offset + i64::from(header.last_offset_delta), last.base_offset + i64::from(last.last_offset_delta));
            landed_ms += merged.of as i64;
            prop_assert_eq!(merged.batch.landed_ms, landed_ms);
            let times = || of.iter().flat_map(|batch| read([*batch])).map(|(_, record)| record.timestamp_ms);
            prop_assert_eq!(header.max_timestamp_ms, times().max().unwrap());
            prop_assert!(merged.batch.min_timestamp_ms.is_none_or(|min| Some(min) == times().min()));
            if merged.of == 1 {
                prop_assert_eq!(batch.bytes(), of[0].bytes());
                continue;
            }
            prop_assert!(of.iter().all(|one| one.bytes().len() < below_bytes && one.header().producer_id == -1));
            prop_assert!(of.iter().all(|one| one.header().attributes == first.attributes));
            prop_assert!(batch.bytes().len() < of.iter().map(|one| one.bytes().len()).sum());
            prop_assert!(read(of).len() as i32 == header.records_count);
        }
        prop_assert!(were.next().is_none());
    }

    /// What came apart in order goes into a segment as it is.
    #[test]
    fn what_is_left_goes_into_a_segment(plans in prop::collection::vec(plan(keys()), 1..12)) {
        use crate::segment::{SegmentIndex, SegmentWriter};
        let batches = made(&plans);
        let keys = noted(&batches, 999);
        let mut compactor = Compactor::new(&keys, 0, RETENTION_MS);
        let limits = MergeLimits { below_bytes: 400, records_bytes_max: 4_000 };
        let mut merger = Merger::new(limits, Compression::Zstd);
        let target = crate::ledger::Target { topic_id: TopicId(1), partition: PartitionId(0) };
        let mut writer = SegmentWriter::new(target, KafkaOffset(0));
        let (mut facts, mut waiting, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for (number, batch) in batches.iter().enumerate() {
            facts.push(fact(number, batch));
            waiting.push(fact(number, batch));
            let batch = match compactor.compact(batch, false).unwrap() {
                Compacted::Unchanged => batch.clone(),
                Compacted::Rewritten { bytes, .. } => Batch::parse(bytes).unwrap(),
                Compacted::Gone => continue,
            };
            merger.push(&batch, 0, std::mem::take(&mut waiting), &mut out);
        }
        merger.flush(&mut out);
        for merged in &out {
            writer.push(merged.batch.clone(), &merged.facts).unwrap();
        }
        writer.push_facts(&waiting).unwrap();
        let (parts, summary) = writer.finish().unwrap();
        let index = SegmentIndex::decode(&parts.concat(), summary.bytes).unwrap();
        for NamedFact { fact, .. } in &facts {
            let found = index.facts().at_edge(fact.kafka_offset);
            prop_assert_eq!(found.map(|(_, offset)| offset), Some(fact.edge_offset));
        }
    }

    #[test]
    fn batches_of_a_stranger_never_panic(
        plan in plan(keys()),
        base_offset in prop_oneof![Just(i64::MAX), Just(-1), Just(i64::MIN), any::<i64>()],
        last_offset_delta in 0..=i32::MAX,
    ) {
        let batch = &made(&[plan])[0];
        let mut bytes = batch.bytes().to_vec();
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = Batch::parse(bytes.into()).unwrap();
        let mut keys = KeyMap::new(99, 1);
        let _ = keys.note(&batch);
        let _ = Compactor::new(&keys, 0, 1).compact(&batch, false);
        let limits = MergeLimits { below_bytes: 9_999, records_bytes_max: 9_999 };
        let mut out = Vec::new();
        let mut merger = Merger::new(limits, Compression::Zstd);
        merger.push(&batch, 0, Vec::new(), &mut out);
        merger.push(&batch, 0, Vec::new(), &mut out);
        merger.flush(&mut out);
        prop_assert_eq!(out.iter().map(|merged| merged.of).sum::<usize>(), 2);
    }
}

fn fact(number: usize, batch: &Batch) -> NamedFact {
    let header = batch.header();
    NamedFact {
        edge: EdgeId::new(format!("edge-{}", number % 3)).unwrap(),
        stream: StreamName::new("telemetry").unwrap(),
        fact: Fact {
            incarnation: Incarnation(1),
            edge_offset: EdgeOffset(header.base_offset as u64),
            count: header.offset_count(),
            cluster_incarnation: ClusterIncarnation::default(),
            topic_id: TopicId(1),
            partition: PartitionId(0),
            kafka_offset: KafkaOffset(header.base_offset),
        },
    }
}

#[test]
fn an_emptied_batch_is_gone_unless_it_is_to_be_kept() {
    let record = |value: &'static str| Record {
        key: Some("pump-1".into()),
        value: Some(value.into()),
        timestamp_ms: 7,
        ..Record::default()
    };
    let plan = |value| Plan {
        records: vec![record(value)],
        left_out: 0,
        compression: Compression::None,
        producer_id: 4,
    };
    let batches = made(&[plan("on"), plan("off")]);
    let keys = noted(&batches, 9);
    assert_eq!(pass(&batches, &keys, 0, false).0.len(), 1);
    let (kept, _) = pass(&batches, &keys, 0, true);
    let header = kept[0].header();
    assert_eq!(
        (
            header.records_count,
            header.producer_id,
            header.max_timestamp_ms
        ),
        (0, 4, 7)
    );
    assert_eq!(kept[0].bytes().len(), tidegate_shared::record::HEADER_BYTES);
    // What was kept for a while can go later.
    let (again, _) = pass(&kept, &keys, 0, true);
    assert_eq!(again[0].bytes(), kept[0].bytes());
    assert_eq!(pass(&kept, &keys, 0, false).0.len(), 1);
}

/// Whoever hands in batches out of order gets them back as they are.
#[test]
fn batches_out_of_order_are_not_merged() {
    let plan = Plan {
        records: vec![Record::default(); 2],
        left_out: 0,
        compression: Compression::None,
        producer_id: -1,
    };
    let batches = made(&[plan.clone(), plan]);
    let limits = MergeLimits {
        below_bytes: 9_999,
        records_bytes_max: 9_999,
    };
    let of = |order: [usize; 2]| {
        let mut merger = Merger::new(limits, Compression::None);
        let mut out = Vec::new();
        for at in order {
            merger.push(&batches[at], 0, Vec::new(), &mut out);
        }
        merger.flush(&mut out);
        out.len()
    };
    assert_eq!((of([0, 1]), of([1, 0]), of([0, 0])), (1, 2, 2));
}

#[test]
fn what_the_broker_wrote_itself_stays() {
    let mut batches = made(&[Plan {
        records: vec![Record {
            key: Some("a key".into()),
            ..Record::default()
        }],
        left_out: 0,
        compression: Compression::None,
        producer_id: 1,
    }]);
    let mut bytes = batches[0].bytes().to_vec();
    bytes[22] |= 0x30;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    batches[0] = Batch::parse(bytes.into()).unwrap();
    assert!(batches[0].header().is_control() && batches[0].header().is_transactional());
    let keys = noted(&batches, 9);
    assert!(keys.is_empty() && keys.covers_to() == KafkaOffset(4));
    let (left, _) = pass(&batches, &keys, i64::MAX, false);
    assert_eq!(left[0].bytes(), batches[0].bytes());
}

/// What merging saves: a thousand slow edges, each of which sends one measurement at a time.
#[test]
fn a_thousand_slow_edges_take_a_fraction() {
    let batches: Vec<_> = (0..1_000)
        .map(|number| {
            let mut builder = BatchBuilder::new();
            let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            builder.push(&Record {
                timestamp_ms: 1_700_000_000_000 + number,
                key: Some(format!("site-{:03}/pump", number % 1_000).into()),
                value: Some(format!(
                    r#"{{"site":{number},"temperature":{}.{},"pressure":{},"state":"running","alarm":false,"serial":"{mixed:016x}"}}"#,
                    mixed % 90, mixed / 90 % 10, mixed / 900 % 5_000,
                ).into()),
                ..Record::default()
            });
            let sealed = builder.seal(number, Compression::Zstd, &mut Compressor::new());
            Batch::parse(sealed).unwrap()
        })
        .collect();
    let limits = MergeLimits {
        below_bytes: 4 << 10,
        records_bytes_max: 64 << 10,
    };
    let mut merger = Merger::new(limits, Compression::Zstd);
    let mut out = Vec::new();
    for batch in &batches {
        merger.push(batch, 0, Vec::new(), &mut out);
    }
    merger.flush(&mut out);
    let were: usize = batches.iter().map(|batch| batch.bytes().len()).sum();
    let are: usize = out.iter().map(|merged| merged.batch.bytes.len()).sum();
    println!(
        "{} batches of {were} bytes became {} of {are}",
        batches.len(),
        out.len()
    );
    assert!(
        out.len() <= 4 && are * 4 < were,
        "{} batches, {are} bytes of {were}",
        out.len()
    );
}
