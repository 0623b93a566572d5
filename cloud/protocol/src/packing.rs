//! What is to be packed, and what is to be given up: decided from the ledger as it is now, without I/O.
//! The broker's packer carries it out and proposes what came of it; the ledger judges it then.

use std::collections::BTreeSet;

use tidegate_shared::id::KafkaOffset;

use crate::ledger::{Ledger, PartitionLog, TailBatch, Target, TopicSettings};

/// When a tail is packed.
#[derive(Clone, Copy, Debug)]
pub struct PackRule {
    /// At so many bytes of batches; a segment takes no more than that, but for its first batch.
    pub segment_bytes: u64,
    /// When the oldest batch has lain so long.
    pub max_age_ms: i64,
}

impl PackRule {
    /// The rule for a topic, which may have its own size of segments.
    #[must_use]
    pub fn of(self, settings: &TopicSettings) -> Self {
        let own = settings.segment_bytes.map(u64::from);
        Self {
            segment_bytes: own.map_or(self.segment_bytes, |own| own.min(SEGMENT_BYTES_MAX)),
            ..self
        }
    }

    fn of_target(self, ledger: &Ledger, target: Target) -> Self {
        let topic = ledger.topic(target.topic_id);
        topic.map_or(self, |topic| self.of(&topic.settings))
    }
}

/// No segment is meant to be larger, whatever a topic says: it is in memory while it is made.
pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;

/// Batches of one segment: its index stays small beside it. A tail that has so many is packed.
pub const SEGMENT_BATCHES_MAX: usize = 65_536;

/// Batches of one partition that become one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackPlan {
    pub target: Target,
    /// In their order, at least one.
    pub batches: Vec<TailBatch>,
    pub bytes: u64,
}

impl PackPlan {
    pub fn base(&self) -> KafkaOffset {
        self.batches[0].base_offset
    }

    /// The offset after the last.
    pub fn end(&self) -> KafkaOffset {
        self.batches[self.batches.len() - 1].end()
    }
}

/// What is to be packed now, at most `plans_max`: those that wait longest first. Partitions in `busy` are
/// being packed already.
pub fn plan(
    ledger: &Ledger,
    rule: PackRule,
    now_ms: i64,
    busy: &BTreeSet<Target>,
    plans_max: usize,
) -> Vec<PackPlan> {
    let due = due(ledger, rule, now_ms, busy).into_iter();
    let plans = due.filter_map(|target| plan_of(ledger, target, rule, now_ms));
    plans.take(plans_max).collect()
}

/// The partitions that have something to be packed now, but for those in `busy`; those that wait longest
/// first. Looks at all that there are: who packs many asks once, and then for the plan of each.
pub fn due(ledger: &Ledger, rule: PackRule, now_ms: i64, busy: &BTreeSet<Target>) -> Vec<Target> {
    let mut due: Vec<(i64, Target)> = ledger
        .logs()
        .filter(|(target, log)| !log.tail().is_empty() && !busy.contains(target))
        .filter(|(target, log)| is_due(log, rule.of_target(ledger, *target), now_ms))
        .filter_map(|(target, log)| Some((log.tail().front()?.landed_ms, target)))
        .collect();
    due.sort_unstable();
    due.into_iter().map(|(_, target)| target).collect()
}

/// The next segment of a partition, if it is due.
pub fn plan_of(ledger: &Ledger, target: Target, rule: PackRule, now_ms: i64) -> Option<PackPlan> {
    let log = ledger.log(target);
    let rule = rule.of_target(ledger, target);
    let is_planned = !log.tail().is_empty() && is_due(log, rule, now_ms);
    is_planned.then(|| one(target, log, rule))
}

fn is_due(log: &PartitionLog, rule: PackRule, now_ms: i64) -> bool {
    let is_old = |batch: &TailBatch| now_ms.saturating_sub(batch.landed_ms) >= rule.max_age_ms;
    log.tail_bytes() >= rule.segment_bytes
        || log.tail().len() >= SEGMENT_BATCHES_MAX
        || log.tail().front().is_some_and(is_old)
}

fn one(target: Target, log: &PartitionLog, rule: PackRule) -> PackPlan {
    let (mut batches, mut bytes) = (Vec::new(), 0);
    for batch in log.tail() {
        let more = bytes + u64::from(batch.batch_bytes);
        let is_full = more > rule.segment_bytes || batches.len() >= SEGMENT_BATCHES_MAX;
        if !batches.is_empty() && is_full {
            break;
        }
        bytes = more;
        batches.push(*batch);
    }
    PackPlan {
        target,
        batches,
        bytes,
    }
}

/// Where a partition is to begin, if that is later than it does: whole segments whose time is over, or
/// that are more than the partition may have, are given up, oldest first. What is not packed yet stays,
/// as Kafka's newest segment does.
pub fn retained_from(ledger: &Ledger, target: Target, now_ms: i64) -> Option<KafkaOffset> {
    let settings = ledger.topic(target.topic_id)?.settings;
    let partition = ledger.partition(target)?;
    let log = ledger.log(target);
    if !settings.deletes {
        return None;
    }
    let mut bytes = log.bytes();
    let mut start = None;
    for segment in log.segments() {
        let age_ms = u64::try_from(now_ms.saturating_sub(segment.landed_ms)).unwrap_or(0);
        let is_old = settings.retention_ms.is_some_and(|max| age_ms > max);
        // One that stays is as large as what is allowed, or the partition is.
        let left = bytes.saturating_sub(segment.bytes);
        let is_too_much = settings.retention_bytes.is_some_and(|max| left >= max);
        if !is_old && !is_too_much {
            break;
        }
        bytes = left;
        start = Some(segment.end);
    }
    start.filter(|start| *start > partition.log_start)
}

#[cfg(test)]
mod tests;
