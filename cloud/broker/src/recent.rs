//! The batches that landed last, in memory: consumers at the tail never touch the disk.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use tidegate_cloud_protocol::index::LogPlace;

use crate::limits::RECENT_BATCHES_BYTES_MAX;

#[derive(Debug, Default)]
pub(crate) struct Recent {
    batches: HashMap<LogPlace, Bytes>,
    order: VecDeque<LogPlace>,
    bytes: usize,
}

impl Recent {
    pub(crate) fn get(&self, place: LogPlace) -> Option<Bytes> {
        self.batches.get(&place).cloned()
    }

    pub(crate) fn insert(&mut self, place: LogPlace, batch: Bytes) {
        self.bytes += batch.len();
        self.order.push_back(place);
        self.batches.insert(place, batch);
        while self.bytes > RECENT_BATCHES_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            let gone = self.batches.remove(&oldest);
            self.bytes -= gone.map_or(0, |batch| batch.len());
        }
    }
}
