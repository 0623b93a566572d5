//! What lies where in one partition: its segments, and behind them the tail of batches that are not
//! packed yet. The ledger grows with segments; of a batch it knows no more once it is packed.

use std::collections::VecDeque;

use tidegate_shared::id::KafkaOffset;

use crate::index::{Address, IndexEntry, LogPlace, SegmentId};

/// An object with batches of one partition, in the order of their offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub id: SegmentId,
    pub base: KafkaOffset,
    /// The offset after its last record.
    pub end: KafkaOffset,
    /// The whole object.
    pub bytes: u64,
    /// Where its index begins; what lies behind that is the index.
    pub index_position: u64,
    pub batches: u32,
    /// The greatest timestamp of its records.
    pub max_timestamp_ms: i64,
    /// When its last batch landed, by the ledger's time.
    pub landed_ms: i64,
}

/// A batch that lies where it landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailBatch {
    pub base_offset: KafkaOffset,
    /// Offsets that the batch covers; at least 1.
    pub count: u64,
    /// The whole batch, header included.
    pub batch_bytes: u32,
    pub max_timestamp_ms: i64,
    /// By the ledger's time.
    pub landed_ms: i64,
    pub place: LogPlace,
}

impl TailBatch {
    /// The offset after the batch's last.
    pub fn end(&self) -> KafkaOffset {
        self.base_offset.plus(self.count as i64)
    }

    pub fn entry(&self) -> IndexEntry {
        IndexEntry {
            base_offset: self.base_offset,
            count: self.count,
            batch_bytes: self.batch_bytes,
            max_timestamp_ms: self.max_timestamp_ms,
            landed_ms: self.landed_ms,
            address: Address::Log(self.place),
        }
    }
}

/// See the module. Dense: where a segment ends the next begins, and where the last one ends, the tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionLog {
    pub(super) segments: VecDeque<Segment>,
    pub(super) tail: VecDeque<TailBatch>,
    /// Bytes of the tail's batches.
    tail_bytes: u64,
}

/// Where a search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Segment(Segment),
    Batch(TailBatch),
}

impl PartitionLog {
    /// A log without batches.
    pub const EMPTY: Self = Self {
        segments: VecDeque::new(),
        tail: VecDeque::new(),
        tail_bytes: 0,
    };

    pub(crate) fn of(segments: VecDeque<Segment>, tail: VecDeque<TailBatch>) -> Self {
        let tail_bytes = tail.iter().map(|batch| u64::from(batch.batch_bytes)).sum();
        Self {
            segments,
            tail,
            tail_bytes,
        }
    }

    pub fn segments(&self) -> impl ExactSizeIterator<Item = &Segment> + DoubleEndedIterator {
        self.segments.iter()
    }

    /// Batches that are not packed.
    pub fn tail(&self) -> &VecDeque<TailBatch> {
        &self.tail
    }

    pub fn tail_bytes(&self) -> u64 {
        self.tail_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.tail.is_empty()
    }

    /// Bytes of batches in segments and tail, with the segments' indexes.
    pub fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        segments + self.tail_bytes
    }

    /// # Panics
    /// When the batch does not follow the last one: the ledger assigns dense offsets.
    pub(super) fn push(&mut self, batch: TailBatch) {
        let last = self.tail.back().map(TailBatch::end);
        let last = last.or_else(|| self.segments.back().map(|segment| segment.end));
        assert!(
            last.is_none_or(|end| end == batch.base_offset),
            "offsets are dense"
        );
        self.tail_bytes += u64::from(batch.batch_bytes);
        self.tail.push_back(batch);
    }

    /// The batches of the tail from the one that holds `offset` on; empty where that is past the end.
    pub fn tail_from(&self, offset: KafkaOffset) -> impl DoubleEndedIterator<Item = &TailBatch> {
        let first = self.tail.partition_point(|entry| entry.end() <= offset);
        self.tail.range(first..)
    }

    /// The segment that holds `offset`, or the first behind it.
    pub fn segment_at(&self, offset: KafkaOffset) -> Option<&Segment> {
        let first = self
            .segments
            .partition_point(|segment| segment.end <= offset);
        self.segments.get(first)
    }

    /// The segments that have offsets of `[from, to)`.
    pub fn segments_within(
        &self,
        from: KafkaOffset,
        to: KafkaOffset,
    ) -> impl DoubleEndedIterator<Item = &Segment> {
        let first = self.segments.partition_point(|segment| segment.end <= from);
        let behind = self.segments.partition_point(|segment| segment.base < to);
        self.segments.range(first..behind.max(first))
    }

    /// The first segment, or batch of the tail, that reaches beyond `from` and has a record at `timestamp_ms`
    /// or later.
    pub fn at_time(&self, from: KafkaOffset, timestamp_ms: i64) -> Option<Found> {
        let mut segments = self.segments.iter().filter(|segment| segment.end > from);
        let segment = segments.find(|segment| segment.max_timestamp_ms >= timestamp_ms);
        let mut tail = self.tail_from(from);
        segment.copied().map(Found::Segment).or_else(|| {
            let batch = tail.find(|entry| entry.max_timestamp_ms >= timestamp_ms);
            batch.copied().map(Found::Batch)
        })
    }

    /// The greatest timestamp of all records.
    pub fn max_timestamp_ms(&self) -> Option<i64> {
        let segments = self.segments.iter().map(|segment| segment.max_timestamp_ms);
        let tail = self.tail.iter().map(|entry| entry.max_timestamp_ms);
        segments.chain(tail).max()
    }

    /// Takes the tail's batches up to `end` out, for a segment that has them; `None`, and nothing
    /// changed, where they are not exactly those from `base` to `end`.
    pub(super) fn pack(&mut self, segment: Segment) -> Option<Vec<LogPlace>> {
        let count = self
            .tail
            .partition_point(|entry| entry.end() <= segment.end);
        let is_whole = count > 0
            && self.tail[0].base_offset == segment.base
            && self.tail[count - 1].end() == segment.end;
        if !is_whole {
            return None;
        }
        let places = self.take_tail(count);
        self.segments.push_back(segment);
        Some(places)
    }

    /// Puts a segment in the place of others that lie side by side; `None`, and nothing changed, where
    /// they are not those that it covers.
    pub(super) fn replace(&mut self, segment: Segment, ids: &[SegmentId]) -> Option<Vec<Segment>> {
        let first = self
            .segments
            .partition_point(|other| other.base < segment.base);
        let behind = first + ids.len();
        if ids.is_empty() || behind > self.segments.len() {
            return None;
        }
        let covered = self.segments.range(first..behind);
        let is_whole = covered.map(|other| other.id).eq(ids.iter().copied())
            && self.segments[first].base == segment.base
            && self.segments[behind - 1].end == segment.end;
        if !is_whole {
            return None;
        }
        let replaced = self.segments.drain(first..behind).collect();
        self.segments.insert(first, segment);
        Some(replaced)
    }

    /// Takes out what lies wholly below `start`.
    pub(super) fn trim(&mut self, start: KafkaOffset) -> (Vec<Segment>, Vec<LogPlace>) {
        let count = self
            .segments
            .partition_point(|segment| segment.end <= start);
        let segments = self.segments.drain(..count).collect();
        let count = self.tail.partition_point(|entry| entry.end() <= start);
        (segments, self.take_tail(count))
    }

    fn take_tail(&mut self, count: usize) -> Vec<LogPlace> {
        let taken: Vec<TailBatch> = self.tail.drain(..count).collect();
        let bytes: u64 = taken.iter().map(|batch| u64::from(batch.batch_bytes)).sum();
        self.tail_bytes -= bytes;
        taken.iter().map(|batch| batch.place).collect()
    }

    /// All places in log objects.
    pub(super) fn log_places(&self) -> impl Iterator<Item = LogPlace> {
        self.tail.iter().map(|batch| batch.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(batches: &[(u64, i64)]) -> PartitionLog {
        let mut log = PartitionLog::default();
        let mut next = KafkaOffset(0);
        for (count, max_timestamp_ms) in batches {
            let batch = TailBatch {
                base_offset: next,
                count: *count,
                batch_bytes: 100,
                max_timestamp_ms: *max_timestamp_ms,
                landed_ms: 0,
                place: LogPlace::default(),
            };
            next = batch.end();
            log.push(batch);
        }
        log
    }

    fn segment(number: u64, base: i64, end: i64) -> Segment {
        Segment {
            id: SegmentId {
                number,
                ..SegmentId::default()
            },
            base: KafkaOffset(base),
            end: KafkaOffset(end),
            ..Segment::default()
        }
    }

    #[test]
    fn an_offset_inside_a_batch_finds_the_whole_batch() {
        let log = log(&[(5, 0), (5, 0), (5, 0)]);
        let found = |offset| log.tail_from(KafkaOffset(offset)).count();
        assert_eq!(
            (found(0), found(4), found(5), found(14), found(15)),
            (3, 3, 2, 1, 0)
        );
    }

    #[test]
    fn a_segment_takes_exactly_the_batches_that_it_has() {
        let mut log = log(&[(5, 0), (5, 0), (5, 0)]);
        for (base, end) in [(0, 4), (1, 5), (5, 10), (0, 16), (0, 0)] {
            assert_eq!(log.pack(segment(1, base, end)), None, "{base}..{end}");
        }
        assert_eq!(
            log.pack(segment(1, 0, 5)).map(|places| places.len()),
            Some(1)
        );
        assert_eq!(
            log.pack(segment(2, 5, 10)).map(|places| places.len()),
            Some(1)
        );
        assert_eq!((log.tail().len(), log.tail_bytes()), (1, 100));
        assert_eq!(
            log.segment_at(KafkaOffset(7)).map(|found| found.id.number),
            Some(2)
        );
        assert_eq!(log.segment_at(KafkaOffset(10)), None);

        let ids = [segment(1, 0, 0).id, segment(2, 0, 0).id];
        assert_eq!(log.replace(segment(3, 0, 10), &ids[..1]), None);
        assert_eq!(log.replace(segment(3, 0, 9), &ids), None);
        let replaced = log.replace(segment(3, 0, 10), &ids);
        assert_eq!(replaced.map(|segments| segments.len()), Some(2));
        assert_eq!(log.replace(segment(4, 0, 10), &ids), None);

        let (segments, places) = log.trim(KafkaOffset(9));
        assert_eq!((segments.len(), places.len()), (0, 0));
        let (segments, places) = log.trim(KafkaOffset(15));
        assert_eq!((segments.len(), places.len()), (1, 1));
        assert!(log.is_empty());
    }

    proptest! {
        #[test]
        fn time_finds_the_first_batch_that_reaches_it(
            batches in proptest::collection::vec((1u64..5, 0i64..20), 0..20),
            wanted in 0i64..25,
        ) {
            let log = log(&batches);
            let expected = log.tail.iter().find(|entry| entry.max_timestamp_ms >= wanted);
            prop_assert_eq!(log.at_time(KafkaOffset(0), wanted), expected.copied().map(Found::Batch));
            let greatest = log.tail.iter().map(|entry| entry.max_timestamp_ms).max();
            prop_assert_eq!(log.max_timestamp_ms(), greatest);
        }
    }
}
