//! Makes one segment of many small neighbours, as many slow edges leave them. The batches' bytes stay as they are, and so
//! do their facts. What is joined is decided in [`tidegate_cloud_protocol::joining`]; whether the new segment
//! counts, by the ledger.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use tidegate_cloud_protocol::index::SegmentId;
use tidegate_cloud_protocol::joining::{JOINED_SEGMENTS_MIN, joined};
use tidegate_cloud_protocol::ledger::{PartitionLog, Segment, Target};
use tidegate_cloud_protocol::packing::PackRule;
use tidegate_cloud_protocol::segment::{PackedBatch, SegmentSummary, SegmentWriter};

use crate::broker::Broker;
use crate::limits::{JOIN_EVERY, JOINS_AT_ONCE_MAX, PACK_BYTES_AT_ONCE_MAX, PACK_ROUND_MAX};
use crate::packer::{PackError, Packer};
use crate::stores::are_ready;

/// See the module.
#[derive(Debug)]
pub(crate) struct Joiner {
    looked: Instant,
    /// The newest segment of each partition when there was nothing to join in it, or that failed.
    seen: BTreeMap<Target, SegmentId>,
    /// Partitions to be looked at, with their newest segments.
    due: VecDeque<(Target, SegmentId)>,
}

/// Neighbours of a partition that become one.
struct Join {
    target: Target,
    newest: SegmentId,
    segments: Vec<Segment>,
}

impl Default for Joiner {
    fn default() -> Self {
        Self {
            looked: Instant::now(),
            seen: BTreeMap::new(),
            due: VecDeque::new(),
        }
    }
}

impl Joiner {
    /// Joins what is to be, for [`PACK_ROUND_MAX`] at most: the rest waits for the next round.
    pub(crate) async fn round(&mut self, broker: &Broker, packer: &Packer) {
        if self.due.is_empty() {
            if self.looked.elapsed() < JOIN_EVERY.min(packer.max_age()) {
                return;
            }
            self.looked = Instant::now();
            self.look(broker);
        }
        let until = Instant::now() + PACK_ROUND_MAX;
        while Instant::now() < until {
            let joins = self.next(broker, packer.rule());
            if joins.is_empty() {
                return;
            }
            let all = joins.iter().map(|one| carry_out(broker, packer, one));
            for (one, result) in joins.iter().zip(join_all(all).await) {
                match result {
                    // There may be more of it.
                    Ok(true) => self.due.push_back((one.target, one.newest)),
                    Ok(false) => {}
                    Err(error) => self.failed(broker, one, &error),
                }
            }
        }
    }

    /// The partitions that have got a segment since there was nothing to join in them.
    fn look(&mut self, broker: &Broker) {
        let ready = broker.shared().segments.stores().ready();
        let state = broker.shared().state();
        let ledger = &state.ledger;
        self.seen
            .retain(|target, _| ledger.partition(*target).is_some());
        let is_due = |(target, log): (Target, &PartitionLog)| {
            let newest = log.segments().next_back()?.id;
            let is_new = self.seen.get(&target) != Some(&newest);
            let is_many = log.segments().len() > JOINED_SEGMENTS_MIN;
            let is_due = is_new && is_many && are_ready(&ready, ledger, target);
            is_due.then_some((target, newest))
        };
        self.due = ledger.logs().filter_map(is_due).collect();
    }

    /// The next ones, as many as may be in memory at once.
    fn next(&mut self, broker: &Broker, rule: PackRule) -> Vec<Join> {
        let state = broker.shared().state();
        let (mut joins, mut bytes) = (Vec::new(), 0);
        while let Some((target, newest)) = self.due.front().copied() {
            let topic = state.ledger.topic(target.topic_id);
            let rule = topic.map_or(rule, |topic| rule.of(&topic.settings));
            match joined(&state.ledger, target, rule.segment_bytes) {
                None => drop(self.seen.insert(target, newest)),
                Some(segments) => {
                    bytes += segments.iter().map(|one| one.bytes).sum::<u64>();
                    let is_full =
                        joins.len() >= JOINS_AT_ONCE_MAX || bytes > PACK_BYTES_AT_ONCE_MAX;
                    if is_full && !joins.is_empty() {
                        break;
                    }
                    joins.push(Join {
                        target,
                        newest,
                        segments,
                    });
                }
            }
            self.due.pop_front();
        }
        joins
    }

    /// It waits for the partition's next segment: all is as it was.
    fn failed(&mut self, broker: &Broker, one: &Join, error: &PackError) {
        self.seen.insert(one.target, one.newest);
        broker.metrics().join_failures.inc();
        tracing::error!(
            %error,
            topic_id = %one.target.topic_id,
            partition = one.target.partition.0,
            "cannot join small segments: they stay as they are"
        );
        if let Some(error) = error.of_store() {
            broker.shared().segments.stores().note(error);
        }
    }
}

/// Whether the ledger has taken the one segment.
async fn carry_out(broker: &Broker, packer: &Packer, one: &Join) -> Result<bool, PackError> {
    let (parts, summary) = join(broker, one.target, &one.segments).await?;
    let replaces: Vec<SegmentId> = one.segments.iter().map(|segment| segment.id).collect();
    let count = replaces.len() as u64;
    let stored = packer.store_segment(one.target, parts, &summary, replaces);
    let is_taken = stored.await?;
    if is_taken {
        broker.metrics().joined_segments.inc_by(count);
    }
    Ok(is_taken)
}

/// The parts of the one segment.
async fn join(
    broker: &Broker,
    target: Target,
    segments: &[Segment],
) -> Result<(Vec<Bytes>, SegmentSummary), PackError> {
    let (base, end) = (segments[0].base, segments[segments.len() - 1].end);
    let store = &broker.shared().segments;
    let mut writer = SegmentWriter::new(target, base);
    for segment in segments {
        let index = store.index(segment).await?;
        let run = index.run_within(segment.base, segment.end);
        let mut facts = index.facts().in_turn(segment.base);
        for (entry, bytes) in run
            .entries
            .iter()
            .zip(store.batches(segment.id, run).await?)
        {
            let packed = PackedBatch {
                bytes,
                landed_ms: entry.landed_ms,
                min_timestamp_ms: entry.min_timestamp_ms,
            };
            writer.push(packed, &facts.up_to(entry.end()))?;
        }
        writer.push_facts(&facts.up_to(segment.end))?;
    }
    Ok(writer.finish_at(end)?)
}
