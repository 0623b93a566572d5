//! Makes one segment of many small neighbours, as many slow edges leave them. The batches' bytes stay as they are, and so
//! do their facts. What is joined is decided in [`tidegate_cloud_protocol::joining`]; whether the new segment
//! counts, by the ledger.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use tidegate_bridge_protocol::fact::NamedFact;
use tidegate_cloud_protocol::index::SegmentId;
use tidegate_cloud_protocol::joining::{JOINED_SEGMENTS_MIN, joined};
use tidegate_cloud_protocol::ledger::{PartitionLog, Segment, Target};
use tidegate_cloud_protocol::segment::{PackedBatch, SegmentSummary, SegmentWriter};

use crate::broker::Broker;
use crate::limits::{JOIN_EVERY, PACK_ROUND_MAX};
use crate::packer::{PackError, Packer};

/// See the module.
#[derive(Debug)]
pub(crate) struct Joiner {
    looked: Instant,
    /// The newest segment of each partition when it was looked at last.
    seen: BTreeMap<Target, SegmentId>,
}

impl Default for Joiner {
    fn default() -> Self {
        Self {
            looked: Instant::now(),
            seen: BTreeMap::new(),
        }
    }
}

impl Joiner {
    /// Joins what is to be, for [`PACK_ROUND_MAX`] at most: the rest waits for the next round.
    pub(crate) async fn round(&mut self, broker: &Broker, packer: &Packer) {
        if self.looked.elapsed() < JOIN_EVERY.min(packer.max_age()) {
            return;
        }
        let until = Instant::now() + PACK_ROUND_MAX;
        for (target, newest) in self.due(broker) {
            if !are_ready(broker, target) {
                continue;
            }
            if Instant::now() >= until {
                return;
            }
            self.seen.insert(target, newest);
            if let Err(error) = join_all(broker, packer, target, until).await {
                // What fails waits for the partition's next segment: all is as it was.
                broker.metrics().pack_failures.inc();
                tracing::error!(
                    %error,
                    topic_id = %target.topic_id,
                    partition = target.partition.0,
                    "cannot join small segments: they stay as they are"
                );
                if let Some(error) = error.of_store() {
                    broker.shared().segments.stores().note(error);
                }
            }
        }
        self.looked = Instant::now();
    }

    /// The partitions that have got a segment since they were looked at.
    fn due(&mut self, broker: &Broker) -> Vec<(Target, SegmentId)> {
        let state = broker.shared().state();
        let ledger = &state.ledger;
        self.seen
            .retain(|target, _| ledger.partition(*target).is_some());
        let is_due = |(target, log): (Target, &PartitionLog)| {
            let newest = log.segments().next_back()?.id;
            let is_new = self.seen.get(&target) != Some(&newest);
            let is_many = log.segments().len() > JOINED_SEGMENTS_MIN;
            (is_new && is_many).then_some((target, newest))
        };
        ledger.logs().filter_map(is_due).collect()
    }
}

/// Whether none of the object stores in which a partition's segments are, or go to, is away.
fn are_ready(broker: &Broker, target: Target) -> bool {
    let ready = broker.shared().segments.stores().ready();
    broker.ledger(|ledger| {
        let topic = ledger.topic(target.topic_id);
        let own = topic.map(|topic| topic.settings.store);
        let segments = ledger.log(target).segments();
        let mut stores = segments.map(|segment| segment.id.store).chain(own);
        stores.all(|store| ready.contains(&store))
    })
}

async fn join_all(
    broker: &Broker,
    packer: &Packer,
    target: Target,
    until: Instant,
) -> Result<(), PackError> {
    let segment_bytes = packer.segment_bytes();
    while let Some(segments) = broker.ledger(|ledger| joined(ledger, target, segment_bytes)) {
        let (parts, summary) = join(broker, target, &segments).await?;
        let replaces = segments.iter().map(|segment| segment.id).collect();
        let store = packer.store_segment(target, parts, &summary, replaces);
        if !store.await? || Instant::now() >= until {
            return Ok(());
        }
        let metrics = broker.metrics();
        metrics.joined_segments.inc_by(segments.len() as u64);
    }
    Ok(())
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
        let mut facts_from = segment.base;
        for (entry, bytes) in run
            .entries
            .iter()
            .zip(store.batches(segment.id, run).await?)
        {
            // Its own, and those about what was compacted away before it.
            let facts: Vec<NamedFact> = index.facts().within(facts_from, entry.end()).collect();
            facts_from = entry.end();
            let packed = PackedBatch {
                bytes,
                landed_ms: entry.landed_ms,
                min_timestamp_ms: entry.min_timestamp_ms,
            };
            writer.push(packed, &facts)?;
        }
        let rest: Vec<NamedFact> = index.facts().within(facts_from, segment.end).collect();
        writer.push_facts(&rest)?;
    }
    Ok(writer.finish_at(end)?)
}
