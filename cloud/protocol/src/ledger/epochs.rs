//! Where leader epochs have ended. An epoch ends with a life of the cloud: whoever has read further in it than it goes
//! here has read what is lost, and learns it from this (KIP-101, KIP-320).

use std::collections::VecDeque;

use tidegate_shared::id::KafkaOffset;

use super::{Ledger, Target};

/// Epochs of one partition that are over and kept; each is a restore.
pub const EPOCH_ENDS_KEPT_MAX: usize = 16;

/// One that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EpochEnd {
    pub(super) epoch: i32,
    /// Behind its last record.
    pub(super) end: KafkaOffset,
}

/// The newest of one partition, oldest first; at most [`EPOCH_ENDS_KEPT_MAX`].
pub(super) type EpochEnds = VecDeque<EpochEnd>;

impl Ledger {
    /// All partitions go into their next epoch.
    pub(super) fn raise_leader_epochs(&mut self) {
        for (topic_id, topic) in &mut self.topics {
            for (target, partition) in topic.partitions_mut(*topic_id) {
                let ends = self.epoch_ends.entry(target).or_default();
                if ends.len() == EPOCH_ENDS_KEPT_MAX {
                    ends.pop_front();
                }
                ends.push_back(EpochEnd {
                    epoch: partition.leader_epoch,
                    end: partition.next,
                });
                partition.leader_epoch = partition.leader_epoch.saturating_add(1);
            }
        }
    }

    /// The offset behind the last record of an epoch; of the one that is going on, behind the last that there is. `None`
    /// where there is no such partition, or the epoch has not begun. Of an epoch whose end is not kept any more (or
    /// never was: older builds did not) the end is not before the true one.
    pub fn epoch_end(&self, target: Target, epoch: i32) -> Option<KafkaOffset> {
        let partition = self.partition(target)?;
        if !(0..=partition.leader_epoch).contains(&epoch) {
            return None;
        }
        let ends = self.epoch_ends.get(&target).into_iter().flatten();
        let ended = ends.into_iter().find(|ended| ended.epoch >= epoch);
        Some(ended.map_or(partition.next, |ended| ended.end))
    }
}
