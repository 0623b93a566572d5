//! Which small segments of a partition are to become one: decided from what there is, without I/O. The broker's joiner
//! writes the one, and proposes it in their place; the ledger judges it then.
//!
//! Many slow edges make a small segment of each partition for each `pack.max_age`: each of them is an object that is paid
//! for, a request to whoever reads it, and a part of the ledger. Neighbours are joined where there are many and none is
//! most of it, so that a byte is copied only a few times until its segment is full.

use std::ops::Range;

use crate::ledger::{Ledger, Segment, Target, Topic};
use crate::packing::SEGMENT_BATCHES_MAX;

/// Fewer are not joined.
pub const JOINED_SEGMENTS_MIN: usize = 8;

/// More are not joined at once: all of their indexes are in memory then.
pub const JOINED_SEGMENTS_MAX: usize = 64;

/// What is joined has so many times the bytes of the largest among them.
const GROWTH_MIN: u64 = 4;

/// What is joined is given up together: it is so much of what may stay, of its time or its bytes.
const RETAINED_PARTS: u64 = 8;

/// What a joined segment may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinBounds {
    pub bytes_max: u64,
    /// Between the landing of its first segment's last batch and of its own.
    pub span_ms_max: u64,
}

impl JoinBounds {
    /// Of a topic, where segments are packed up to `segment_bytes`.
    pub fn of(topic: &Topic, segment_bytes: u64) -> Self {
        let settings = &topic.settings;
        let part = |max: Option<u64>| {
            let max = max.filter(|_| settings.deletes);
            max.map_or(u64::MAX, |max| max / RETAINED_PARTS)
        };
        Self {
            bytes_max: segment_bytes.min(part(settings.retention_bytes)),
            span_ms_max: part(settings.retention_ms),
        }
    }
}

/// The oldest neighbours of a partition that are to become one. The newest segment is left alone, as compaction leaves it.
pub fn joined(ledger: &Ledger, target: Target, segment_bytes: u64) -> Option<Vec<Segment>> {
    let topic = ledger.topic(target.topic_id)?;
    let mut segments: Vec<Segment> = ledger.log(target).segments().copied().collect();
    segments.pop();
    let run = run(&segments, JoinBounds::of(topic, segment_bytes))?;
    Some(segments[run].to_vec())
}

/// Of these segments the first neighbours that are to become one.
pub fn run(segments: &[Segment], bounds: JoinBounds) -> Option<Range<usize>> {
    (0..segments.len()).find_map(|first| {
        let length = longest(&segments[first..], bounds);
        (length >= JOINED_SEGMENTS_MIN).then(|| first..first + length)
    })
}

/// How many from the first on can be joined and are worth it.
fn longest(segments: &[Segment], bounds: JoinBounds) -> usize {
    let (mut bytes, mut batches, mut largest, mut length) = (0_u64, 0_usize, 0, 0);
    for (index, segment) in segments.iter().enumerate().take(JOINED_SEGMENTS_MAX) {
        let first = &segments[0];
        let span_ms = segment.landed_ms.saturating_sub(first.landed_ms);
        bytes = bytes.saturating_add(segment.bytes);
        batches += segment.batches as usize;
        let fits = bytes <= bounds.bytes_max
            && batches <= SEGMENT_BATCHES_MAX
            && u64::try_from(span_ms).unwrap_or(0) <= bounds.span_ms_max
            // What lies in another store than the rest is on its way.
            && segment.id.store == first.id.store;
        if !fits {
            break;
        }
        largest = segment.bytes.max(largest);
        if bytes >= largest.saturating_mul(GROWTH_MIN) {
            length = index + 1;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_shared::id::KafkaOffset;

    use super::*;
    use crate::index::SegmentId;

    const KIB: u64 = 1 << 10;
    const BOUNDS: JoinBounds = JoinBounds {
        bytes_max: 64 << 20,
        span_ms_max: u64::MAX,
    };

    fn segments(bytes: impl IntoIterator<Item = u64>) -> Vec<Segment> {
        let of = |(number, bytes): (usize, u64)| Segment {
            id: SegmentId {
                number: number as u64,
                ..SegmentId::default()
            },
            base: KafkaOffset(number as i64),
            end: KafkaOffset(number as i64 + 1),
            bytes,
            batches: 1,
            landed_ms: number as i64 * 60_000,
            ..Segment::default()
        };
        bytes.into_iter().enumerate().map(of).collect()
    }

    #[test]
    fn many_small_ones_are_joined_and_few_are_not() {
        let few = segments([KIB; JOINED_SEGMENTS_MIN - 1]);
        assert_eq!(run(&few, BOUNDS), None);
        let many = segments([KIB; 20]);
        assert_eq!(run(&many, BOUNDS), Some(0..20));
        let behind_full = segments([[64 << 20; 3].as_slice(), &[KIB; 9]].concat());
        assert_eq!(run(&behind_full, BOUNDS), Some(3..12));
        let most_of_it = segments([[9 * KIB].as_slice(), &[KIB; 7]].concat());
        assert_eq!(run(&most_of_it, BOUNDS), None, "one is most of it");
        let hundreds = segments([KIB; 500]);
        assert_eq!(run(&hundreds, BOUNDS), Some(0..JOINED_SEGMENTS_MAX));
    }

    #[test]
    fn what_is_given_up_together_is_a_part_of_what_stays() {
        let many = segments([KIB; 40]);
        let ten_minutes = JoinBounds {
            span_ms_max: 600_000,
            ..BOUNDS
        };
        assert_eq!(run(&many, ten_minutes), Some(0..11));
        let twelve_kib = JoinBounds {
            bytes_max: 12 * KIB,
            ..BOUNDS
        };
        assert_eq!(run(&many, twelve_kib), Some(0..12));
        let four_kib = JoinBounds {
            bytes_max: 4 * KIB,
            ..BOUNDS
        };
        assert_eq!(run(&many, four_kib), None);
    }

    #[test]
    fn those_of_two_stores_stay_apart() {
        let mut many = segments([KIB; 20]);
        many[9].id.store = 1;
        assert_eq!(run(&many, BOUNDS), Some(0..9));
        many[4].id.store = 1;
        assert_eq!(run(&many, BOUNDS), Some(10..20));
    }

    #[test]
    fn what_is_packed_each_minute_is_copied_a_few_times_until_it_is_full() {
        let (mut living, mut next, mut copied, mut packed) = (Vec::new(), 0, 0, 0);
        for minute in 0..20_000_u64 {
            let mut one = segments([20 * KIB + minute % 7]).remove(0);
            (one.base, one.end) = (KafkaOffset(next), KafkaOffset(next + 1));
            next += 1;
            packed += one.bytes;
            living.push(one);
            while let Some(joined) = run(&living[..living.len() - 1], BOUNDS) {
                let all = &living[joined.clone()];
                let bytes = all.iter().map(|segment| segment.bytes).sum();
                copied += bytes;
                let whole = Segment {
                    base: all[0].base,
                    end: all[all.len() - 1].end,
                    bytes,
                    ..all[0]
                };
                living.splice(joined, [whole]);
            }
        }
        assert!(living.len() < 60, "{} segments", living.len());
        assert!(copied < 5 * packed, "{copied} of {packed}");
    }

    proptest! {
        #[test]
        fn what_is_joined_keeps_the_bounds(sizes in prop::collection::vec(1..200_u64, 0..200), max in 1..2_000_u64) {
            let all = segments(sizes);
            let bounds = JoinBounds { bytes_max: max, ..BOUNDS };
            if let Some(run) = run(&all, bounds) {
                let joined = &all[run];
                let bytes: u64 = joined.iter().map(|segment| segment.bytes).sum();
                let largest = joined.iter().map(|segment| segment.bytes).max().unwrap();
                prop_assert!((JOINED_SEGMENTS_MIN..=JOINED_SEGMENTS_MAX).contains(&joined.len()));
                prop_assert!(bytes <= max && bytes >= GROWTH_MIN * largest);
            }
        }
    }
}
