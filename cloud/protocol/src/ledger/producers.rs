//! Which batches of Kafka producers a partition has taken, so that one that is sent again is not taken twice and none
//! is missed (KIP-98, KIP-360): for each producer its epoch and its five newest batches, as Kafka keeps them.

use std::collections::{BTreeMap, VecDeque};

use tidegate_shared::id::KafkaOffset;

/// A producer may have so many requests under way (`max.in.flight.requests.per.connection` of an idempotent one).
pub const PRODUCER_BATCHES_KEPT: usize = 5;

/// A producer of which nothing came for so long is forgotten (Kafka's `producer.id.expiration.ms`).
pub const PRODUCER_EXPIRES_MS: i64 = 86_400_000;

/// Producers of one partition; with more, an eighth of them is forgotten, of which nothing came for longest. Anybody can
/// say that he is one.
pub const PARTITION_PRODUCERS_MAX: usize = 8_192;

/// Those to be forgotten are looked for so often, by the ledger's time.
const LOOKED_EVERY_MS: i64 = 600_000;

/// Where a batch stands among its producer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Of the batch's first record.
    pub first: i32,
}

/// What becomes of a producer's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceVerdict {
    Next,
    /// It was taken before, and begins there.
    Duplicate(KafkaOffset),
    /// Another instance of the producer has a newer epoch.
    StaleEpoch,
    /// Something before it is missing, or it is older than what is kept.
    OutOfOrder,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    pub(super) known: BTreeMap<i64, Producer>,
    /// The ledger's time.
    pub(super) looked_ms: i64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub epoch: i16,
    /// Oldest first.
    pub(super) batches: VecDeque<Taken>,
    /// The ledger's time at the newest.
    pub last_ms: i64,
}

/// A batch that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) first: i32,
    pub(super) last: i32,
    pub(super) base_offset: KafkaOffset,
}

impl Producer {
    /// Of the newest record.
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |taken| taken.last)
    }
}

impl Producers {
    /// By the producers' ids.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }

    /// Judges a batch of `count` records.
    pub(super) fn judge(&self, sequence: Sequence, count: u64) -> SequenceVerdict {
        // Who is not known, or is forgotten, begins where it is.
        let Some(producer) = self.known.get(&sequence.producer_id) else {
            return SequenceVerdict::Next;
        };
        if sequence.producer_epoch < producer.epoch {
            return SequenceVerdict::StaleEpoch;
        }
        if sequence.producer_epoch > producer.epoch {
            return match sequence.first {
                0 => SequenceVerdict::Next,
                _ => SequenceVerdict::OutOfOrder,
            };
        }
        let last = last_of(sequence.first, count);
        let is_it = |taken: &&Taken| (taken.first, taken.last) == (sequence.first, last);
        if let Some(taken) = producer.batches.iter().find(is_it) {
            return SequenceVerdict::Duplicate(taken.base_offset);
        }
        match producer.batches.back() {
            Some(newest) if after(newest.last) != sequence.first => SequenceVerdict::OutOfOrder,
            _ => SequenceVerdict::Next,
        }
    }

    /// Notes a batch that was judged to be the next.
    pub(super) fn take(
        &mut self,
        sequence: Sequence,
        count: u64,
        base_offset: KafkaOffset,
        now_ms: i64,
    ) {
        self.forget(now_ms);
        if self.known.len() >= PARTITION_PRODUCERS_MAX {
            self.forget_oldest();
        }
        let new = || Producer {
            epoch: sequence.producer_epoch,
            batches: VecDeque::new(),
            last_ms: now_ms,
        };
        let known = self.known.entry(sequence.producer_id);
        let producer = known.or_insert_with(new);
        if producer.epoch != sequence.producer_epoch {
            *producer = new();
        }
        producer.last_ms = now_ms;
        producer.batches.push_back(Taken {
            first: sequence.first,
            last: last_of(sequence.first, count),
            base_offset,
        });
        if producer.batches.len() > PRODUCER_BATCHES_KEPT {
            producer.batches.pop_front();
        }
    }

    fn forget_oldest(&mut self) {
        let ages = self
            .known
            .iter()
            .map(|(id, producer)| (producer.last_ms, *id));
        let mut ages: Vec<(i64, i64)> = ages.collect();
        ages.sort_unstable();
        for (_, id) in ages.into_iter().take(PARTITION_PRODUCERS_MAX / 8) {
            self.known.remove(&id);
        }
    }

    fn forget(&mut self, now_ms: i64) {
        if now_ms.saturating_sub(self.looked_ms) >= LOOKED_EVERY_MS {
            self.looked_ms = now_ms;
            let is_young = |_: &i64, producer: &mut Producer| {
                now_ms.saturating_sub(producer.last_ms) < PRODUCER_EXPIRES_MS
            };
            self.known.retain(is_young);
        }
    }
}

/// Of a batch's last record: numbers go on at 0 behind the greatest.
fn last_of(first: i32, count: u64) -> i32 {
    let last = i64::from(first) + (count.max(1) - 1) as i64;
    (last % (i64::from(i32::MAX) + 1)) as i32
}

fn after(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(producer_epoch: i16, first: i32) -> Sequence {
        Sequence {
            producer_id: 7,
            producer_epoch,
            first,
        }
    }

    fn taken(batches: &[(i32, u64)]) -> Producers {
        let mut producers = Producers::default();
        for (number, (first, count)) in batches.iter().enumerate() {
            let sequence = sequence(0, *first);
            assert_eq!(producers.judge(sequence, *count), SequenceVerdict::Next);
            producers.take(sequence, *count, KafkaOffset(number as i64 * 100), 5);
        }
        producers
    }

    #[test]
    fn the_next_is_taken_the_same_is_told_and_a_gap_refused() {
        let producers = taken(&[(0, 10), (10, 1), (11, 3)]);
        let judge = |first, count| producers.judge(sequence(0, first), count);
        assert_eq!(judge(14, 2), SequenceVerdict::Next);
        assert_eq!(judge(15, 2), SequenceVerdict::OutOfOrder);
        assert_eq!(judge(0, 10), SequenceVerdict::Duplicate(KafkaOffset(0)));
        assert_eq!(judge(11, 3), SequenceVerdict::Duplicate(KafkaOffset(200)));
        assert_eq!(judge(11, 4), SequenceVerdict::OutOfOrder, "another batch");
    }

    #[test]
    fn five_are_kept() {
        let batches: Vec<(i32, u64)> = (0..7).map(|number| (number, 1)).collect();
        let producers = taken(&batches);
        let judge = |first| producers.judge(sequence(0, first), 1);
        assert_eq!(judge(1), SequenceVerdict::OutOfOrder);
        for first in 2..7 {
            let base_offset = KafkaOffset(i64::from(first) * 100);
            assert_eq!(judge(first), SequenceVerdict::Duplicate(base_offset));
        }
    }

    #[test]
    fn an_epoch_fences_those_before_it_and_begins_at_nothing() {
        let mut producers = taken(&[(0, 10)]);
        assert_eq!(
            producers.judge(sequence(1, 10), 1),
            SequenceVerdict::OutOfOrder
        );
        assert_eq!(producers.judge(sequence(1, 0), 1), SequenceVerdict::Next);
        producers.take(sequence(1, 0), 1, KafkaOffset(9), 5);
        assert_eq!(
            producers.judge(sequence(0, 10), 1),
            SequenceVerdict::StaleEpoch
        );
        assert_eq!(producers.judge(sequence(1, 1), 1), SequenceVerdict::Next);
    }

    #[test]
    fn numbers_go_on_at_nothing_behind_the_greatest() {
        let producers = taken(&[(i32::MAX - 1, 4)]);
        assert_eq!(producers.known[&7].last_sequence(), 1);
        assert_eq!(producers.judge(sequence(0, 2), 1), SequenceVerdict::Next);
        let again = producers.judge(sequence(0, i32::MAX - 1), 4);
        assert_eq!(again, SequenceVerdict::Duplicate(KafkaOffset(0)));
        let whole = taken(&[(5, (i32::MAX - 4) as u64)]);
        assert_eq!(whole.judge(sequence(0, 0), 1), SequenceVerdict::Next);
    }

    #[test]
    fn there_are_so_many_and_the_oldest_go() {
        let mut producers = Producers::default();
        for id in 0..3 * PARTITION_PRODUCERS_MAX as i64 {
            let sequence = Sequence {
                producer_id: id,
                ..sequence(0, 0)
            };
            producers.take(sequence, 1, KafkaOffset(id), 5 + id);
            assert!(producers.known.len() <= PARTITION_PRODUCERS_MAX);
            assert!(producers.known.contains_key(&id));
        }
        let oldest = producers.known.keys().next().copied();
        assert!(oldest > Some(2 * PARTITION_PRODUCERS_MAX as i64 - 1));
    }

    #[test]
    fn who_sent_nothing_for_a_day_is_forgotten_and_begins_where_it_is() {
        let mut producers = taken(&[(0, 10)]);
        let other = Sequence {
            producer_id: 8,
            ..sequence(0, 0)
        };
        producers.take(other, 1, KafkaOffset(50), PRODUCER_EXPIRES_MS + 4);
        assert_eq!(
            producers.judge(sequence(0, 90), 1),
            SequenceVerdict::OutOfOrder
        );
        producers.take(
            Sequence { first: 1, ..other },
            1,
            KafkaOffset(51),
            PRODUCER_EXPIRES_MS + LOOKED_EVERY_MS + 5,
        );
        assert_eq!(producers.judge(sequence(0, 90), 1), SequenceVerdict::Next);
    }
}
