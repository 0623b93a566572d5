//! Compacts topics whose `cleanup.policy` has `compact`: reads a partition's segments, notes the newest offset
//! of each key, and writes anew those in which older records of a key lie. Offsets, timestamps and facts
//! stay. What stays of a batch is decided in [`tidegate_cloud_protocol::compaction`]; whether a new segment
//! counts, by the ledger.
//!
//! The newest segment is left alone, as Kafka leaves its active one: so a partition's last offset always has a
//! batch, and a consumer at the end is never in a hole.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_cloud_protocol::compaction::{Compacted, Compactor, KeyMap, Noted};
use tidegate_cloud_protocol::ledger::{PartitionLog, Segment, Target};
use tidegate_cloud_protocol::segment::{
    PackedBatch, SegmentEntry, SegmentIndex, SegmentSummary, SegmentWriter,
};
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::record::{Batch, BatchError};

use crate::broker::Broker;
use crate::limits::{CARE_EVERY, COMPACTION_KEYS_MAX};
use crate::packer::{PackError, Packer};
use crate::reading::StorageError;
use crate::stores::are_ready;

/// Where each partition was when it was compacted last: the end of its newest segment, and when the next
/// tombstone's time may be over.
#[derive(Debug, Default)]
struct Compaction {
    done: BTreeMap<Target, Done>,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    end: KafkaOffset,
    at_ms: i64,
    /// By the clock, in milliseconds: then tombstones go.
    again_ms: i64,
}

/// A partition in which nothing is new is looked at again for its tombstones, but not more often than this.
const AGAIN_MS_MIN: i64 = 60_000;

/// A partition is compacted again when what is new is so much of what is not: so nothing is read more often than
/// about so many times for what comes (Kafka's `min.cleanable.dirty.ratio`, at an eighth).
const DIRTY_PARTS: u64 = 8;

/// A partition that is to be compacted.
#[derive(Debug)]
struct Due {
    target: Target,
    segments: Vec<Segment>,
    delete_retention_ms: i64,
}

/// Compacts what is due, one partition after the other, until it is dropped.
pub(crate) async fn compact_all(broker: Broker, packer: Arc<Packer>) {
    let mut compaction = Compaction::default();
    loop {
        tokio::time::sleep(CARE_EVERY).await;
        // It may be the wrong copy that was put back.
        if broker.ledger(|ledger| ledger.behind().is_none()) {
            compaction.one_due(&broker, &packer).await;
        }
    }
}

impl Compaction {
    /// Compacts one partition that has changed since it was last, if there is one.
    async fn one_due(&mut self, broker: &Broker, packer: &Packer) {
        let now_ms = broker.clock().now_ms();
        let Some(due) = self.due(broker, now_ms) else {
            return;
        };
        let done = Done {
            end: due.segments[due.segments.len() - 1].end,
            at_ms: now_ms,
            again_ms: now_ms.saturating_add(due.delete_retention_ms.max(AGAIN_MS_MIN)),
        };
        // What fails waits for its next turn: the partition is as it was.
        self.done.insert(due.target, done);
        match compact(broker, packer, &due, now_ms).await {
            Ok(rewritten) => {
                broker.metrics().compacted_segments.inc_by(rewritten);
            }
            // What was to be read has been joined, moved or given up meanwhile.
            Err(PackError::Read(error)) if error.is_missing() => {
                self.done.remove(&due.target);
            }
            Err(error) => {
                broker.metrics().compaction_failures.inc();
                if let Some(error) = error.of_store() {
                    broker.shared().segments.stores().note(error);
                }
                tracing::error!(
                    %error,
                    topic_id = %due.target.topic_id,
                    partition = due.target.partition.0,
                    "cannot compact: the segments stay as they are"
                );
            }
        }
    }

    fn due(&mut self, broker: &Broker, now_ms: i64) -> Option<Due> {
        let ready = broker.shared().segments.stores().ready();
        let state = broker.shared().state();
        let ledger = &state.ledger;
        let done = &mut self.done;
        done.retain(|target, _| ledger.partition(*target).is_some());
        let is_due = |(target, log): &(Target, &PartitionLog)| {
            let topic = ledger.topic(target.topic_id);
            let compacts = topic.is_some_and(|topic| topic.settings.compacts);
            let newest = log.segments().next_back();
            let done = done.get(target);
            let is_new = |newest: &Segment| {
                done.is_none_or(|done| {
                    let is_dirty = done.end != newest.end && is_dirty(log, done.end);
                    is_dirty || done.again_ms <= now_ms
                })
            };
            let is_due = compacts && log.segments().len() > 1 && newest.is_some_and(is_new);
            is_due && are_ready(&ready, ledger, *target)
        };
        // Who was last longest ago, so that a busy partition does not keep the others waiting.
        let due = ledger.logs().filter(is_due);
        let (target, log) =
            due.min_by_key(|(target, _)| done.get(target).map(|done| done.at_ms))?;
        let settings = ledger.topic(target.topic_id)?.settings;
        Some(Due {
            target,
            segments: log.segments().copied().collect(),
            delete_retention_ms: i64::try_from(settings.delete_retention_ms).unwrap_or(i64::MAX),
        })
    }
}

/// Whether what is new behind an offset is worth reading all before it once more.
fn is_dirty(log: &PartitionLog, from: KafkaOffset) -> bool {
    let (mut clean, mut dirty) = (0, 0);
    for segment in log.segments() {
        match segment.end <= from {
            true => clean += segment.bytes,
            false => dirty += segment.bytes,
        }
    }
    dirty.saturating_mul(DIRTY_PARTS) >= clean
}

/// How many segments were written anew.
async fn compact(
    broker: &Broker,
    packer: &Packer,
    due: &Due,
    now_ms: i64,
) -> Result<u64, PackError> {
    let mut keys = KeyMap::new(COMPACTION_KEYS_MAX, random_seed());
    'all: for segment in &due.segments {
        for (_, batch) in read(broker, segment).await?.1 {
            // A batch that cannot be unpacked has no keys that could be outdone.
            if let Ok(Noted::Full) = keys.note(&batch) {
                break 'all;
            }
        }
    }
    let mut rewritten = 0;
    let older = &due.segments[..due.segments.len() - 1];
    for segment in older
        .iter()
        .filter(|segment| segment.base < keys.covers_to())
    {
        let (index, batches) = read(broker, segment).await?;
        let mut compactor = Compactor::new(&keys, now_ms, due.delete_retention_ms);
        let compacted = rewrite(due.target, segment, &index, batches, &mut compactor)?;
        let Some((parts, summary)) = compacted else {
            continue;
        };
        let replaces = vec![segment.id];
        rewritten += u64::from(
            packer
                .store_segment(due.target, parts, &summary, replaces)
                .await?,
        );
    }
    Ok(rewritten)
}

/// So that nobody can choose keys that meet.
fn random_seed() -> u64 {
    uuid::Uuid::new_v4().as_u128() as u64
}

type Batches = Vec<(SegmentEntry, Batch)>;

/// A segment's index, and its batches, each checked.
async fn read(
    broker: &Broker,
    segment: &Segment,
) -> Result<(Arc<SegmentIndex>, Batches), PackError> {
    let segments = &broker.shared().segments;
    let index = segments.index(segment).await?;
    let run = index.run_within(segment.base, segment.end);
    let batches = segments.batches(segment.id, run).await?;
    let entries = run.entries.iter().copied();
    let parsed = entries.zip(batches).map(|(entry, bytes)| {
        let batch = Batch::parse(bytes);
        let damaged = |error: BatchError| StorageError::DamagedSegment {
            key: segments.key(segment.id),
            reason: error.to_string(),
        };
        Ok((entry, batch.map_err(damaged)?))
    });
    let parsed = parsed.collect::<Result<Batches, StorageError>>()?;
    Ok((index, parsed))
}

/// The parts of the new segment; `None` where it would be as the old one.
fn rewrite(
    target: Target,
    segment: &Segment,
    index: &SegmentIndex,
    batches: Batches,
    compactor: &mut Compactor<'_>,
) -> Result<Option<(Vec<Bytes>, SegmentSummary)>, PackError> {
    let mut writer = SegmentWriter::new(target, segment.base);
    let mut changed = false;
    let mut facts = index.facts().in_turn(segment.base);
    for (entry, batch) in batches {
        // One that cannot be unpacked stays.
        let compacted = compactor
            .compact(&batch, false)
            .unwrap_or(Compacted::Unchanged);
        let (bytes, min_timestamp_ms) = match compacted {
            Compacted::Gone => {
                changed = true;
                continue;
            }
            Compacted::Unchanged => (batch.bytes().clone(), entry.min_timestamp_ms),
            Compacted::Rewritten {
                bytes,
                min_timestamp_ms,
            } => {
                changed = true;
                (bytes, min_timestamp_ms)
            }
        };
        let packed = PackedBatch {
            bytes,
            landed_ms: entry.landed_ms,
            min_timestamp_ms,
        };
        writer.push(packed, &facts.up_to(entry.end()))?;
    }
    if !changed {
        return Ok(None);
    }
    writer.push_facts(&facts.up_to(segment.end))?;
    Ok(Some(writer.finish_at(segment.end)?))
}
