use proptest::prelude::*;
use tidegate_shared::id::{PartitionId, TopicId};

use super::*;
use crate::index::{LogPlace, SegmentId};

fn target(partition: i32) -> Target {
    Target {
        topic_id: TopicId(1),
        partition: PartitionId(partition),
    }
}

/// A partition of ten-record batches of these sizes, the first `packed` of them in one segment.
fn partition(sizes: &[u32], packed: usize) -> (Partition, PartitionLog) {
    let batch = |(number, batch_bytes): (usize, &u32)| TailBatch {
        base_offset: KafkaOffset(number as i64 * 10),
        count: 10,
        batch_bytes: *batch_bytes,
        max_timestamp_ms: 0,
        landed_ms: 0,
        place: LogPlace::default(),
    };
    let batches: Vec<TailBatch> = sizes.iter().enumerate().map(batch).collect();
    let segment = (packed > 0).then(|| Segment {
        id: SegmentId::default(),
        base: KafkaOffset(0),
        end: KafkaOffset(packed as i64 * 10),
        index_position: sizes[..packed].iter().map(|bytes| u64::from(*bytes)).sum(),
        ..Segment::default()
    });
    let log = PartitionLog::of(
        segment.into_iter().collect(),
        batches[packed..].to_vec().into(),
    );
    let next = KafkaOffset(sizes.len() as i64 * 10);
    let numbers = Partition {
        next,
        ..Partition::default()
    };
    (numbers, log)
}

fn wish(partition: i32, offset: i64, bytes_max: usize) -> Wish {
    Wish {
        target: target(partition),
        offset: KafkaOffset(offset),
        bytes_max,
    }
}

fn tail(planned: &Option<Planned>) -> &[IndexEntry] {
    match &planned.as_ref().unwrap().source {
        Source::Tail(batches) => batches,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_batch_comes_even_if_it_is_too_large() {
    let stored = partition(&[500, 500], 0);
    let one = plan(&[wish(0, 13, 10)], 10, |_| Some((&stored.0, &stored.1)));
    let batches = tail(&one.partitions[0]);
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].base_offset, KafkaOffset(10));
    let two = plan(&[wish(0, 0, 10), wish(1, 0, 10)], 10_000, |_| {
        Some((&stored.0, &stored.1))
    });
    assert!(tail(&two.partitions[1]).is_empty());
}

#[test]
fn offsets_outside_are_told_and_the_end_is_inside() {
    let stored = partition(&[100], 0);
    let at = |offset| {
        let plan = plan(&[wish(0, offset, 999)], 999, |_| {
            Some((&stored.0, &stored.1))
        });
        plan.has_error()
    };
    assert!(at(-1) && at(11) && !at(10) && !at(0));
    assert!(plan(&[wish(0, 0, 9)], 9, |_| None).has_error());
}

#[test]
fn what_is_packed_is_read_from_its_segment_and_the_rest_from_the_tail() {
    let stored = partition(&[100, 100, 100, 100], 2);
    let at = |offset| {
        let plan = plan(&[wish(0, offset, 999)], 999, |_| {
            Some((&stored.0, &stored.1))
        });
        (plan.partitions[0].clone().unwrap().source, plan.bytes)
    };
    let (source, bytes) = at(15);
    let offset_found = match source {
        Source::Segment { offset, room, .. } => (offset, room),
        Source::Tail(_) => panic!("it is packed"),
    };
    assert_eq!((offset_found, bytes), ((KafkaOffset(15), 999), 50));
    let (source, bytes) = at(20);
    assert!(matches!(source, Source::Tail(batches) if batches.len() == 2));
    assert_eq!(bytes, 200);
}

proptest! {
    #[test]
    fn limits_hold_but_for_the_first_batch(
        sizes in proptest::collection::vec(1u32..100, 1..20),
        offset in 0i64..200,
        each in 0usize..300,
        total in 0usize..500,
    ) {
        let stored = partition(&sizes, 0);
        let wishes = [wish(0, offset, each), wish(1, 0, each)];
        let plan = plan(&wishes, total, |_| Some((&stored.0, &stored.1)));
        let planned = plan.partitions.iter().filter(|p| !p.as_ref().unwrap().out_of_range);
        let batches: Vec<_> = planned.flat_map(tail).collect();
        let bytes: usize = batches.iter().map(|entry| entry.batch_bytes as usize).sum();
        prop_assert_eq!(bytes, plan.bytes);
        prop_assert!(bytes <= total || batches.len() == 1);
        prop_assert!(!batches.is_empty());
    }
}
