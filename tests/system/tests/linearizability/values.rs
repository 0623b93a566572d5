//! Values on their way to the broker and back, and the numbers of those who produce them once.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidegate_system_tests::kafka_client::{Sequence, seal};

/// An idempotent producer's numbers.
pub struct Producer {
    id: i64,
    next: BTreeMap<i32, i32>,
}

impl Producer {
    pub fn new(id: i64) -> Self {
        Self {
            id,
            next: BTreeMap::new(),
        }
    }

    /// Of the next batch; the same again until it is counted.
    pub fn sequence(&self, partition: i32) -> Sequence {
        Sequence {
            producer_id: self.id,
            number: self.next.get(&partition).copied().unwrap_or(0),
        }
    }

    /// The batch was taken.
    pub fn count(&mut self, partition: i32) {
        *self.next.entry(partition).or_default() += 1;
    }
}

/// A batch of one value.
pub fn batch(value: u64, sequence: Option<Sequence>) -> Bytes {
    const TIMESTAMP_MS: i64 = 1_790_000_000_000;
    seal(value.to_string().as_bytes(), TIMESTAMP_MS, sequence)
}

/// A value as it was sent; one that is no number is none that was.
pub fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}
