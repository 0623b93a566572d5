//! Moves what has landed into segments in the object store: reads the tails that are due from the log,
//! writes each as one object, and proposes it to the ledger. Only what the ledger has taken is read from
//! there; a segment that it refuses is deleted. It decides nothing: what is due is
//! [`tidegate_cloud_protocol::packing`]'s, and whether it counts is the ledger's.

use std::collections::{BTreeSet, VecDeque};
use std::iter::Peekable;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tidegate_bridge_protocol::fact::NamedFact;
use tidegate_cloud_protocol::compaction::{MergeLimits, Merged, Merger};
use tidegate_cloud_protocol::index::SegmentId;
use tidegate_cloud_protocol::ledger::command::{Entry, Pack};
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Effect, Ledger, Segment, TailBatch, Target};
use tidegate_cloud_protocol::moving::Move;
use tidegate_cloud_protocol::offset_map::FactsMark;
use tidegate_cloud_protocol::packing::{PackPlan, PackRule, due, plan_of};
use tidegate_cloud_protocol::segment::{PackedBatch, SegmentSummary, SegmentWriter, WriteError};
use tidegate_shared::record::{Batch, Compression, rewrite_in_place};

use crate::broker::Broker;
use crate::limits::{
    MERGED_RECORDS_BYTES_MAX, PACK_BYTES_AT_ONCE_MAX, PACK_ROUND_MAX, PACKS_AT_ONCE_MAX,
};
use crate::reading::{Place, StorageError};
use crate::state::{Shared, State};
use crate::store::StoreError;
use crate::submission::SubmitError;

/// Why a tail was not packed; it is as it was, and is tried again.
#[derive(Debug, Error)]
pub(crate) enum PackError {
    #[error(transparent)]
    Read(#[from] StorageError),
    #[error(
        "the oldest batch that is not packed is damaged, and what landed behind it stays in the log: put that back from a copy, or give the batch up by `tidegate topic trim TOPIC --partition {partition} --before {end}`"
    )]
    DamagedBatch { partition: i32, end: i64 },
    #[error("the segment cannot be made: {0}")]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl PackError {
    /// What the object store said, if it was that.
    pub(crate) fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) | Self::Read(StorageError::Store(error)) => Some(error),
            _ => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Packer {
    broker: Broker,
    broker_epoch: u64,
    next_number: AtomicU64,
    /// Segments that may be in the store although nobody was told so, or that could not be deleted.
    doubtful: Mutex<Vec<SegmentId>>,
}

impl Packer {
    /// `first_number` is random in its upper half: a cloud that is restored from a copy may be given an
    /// epoch once more, and must not meet objects of the life that was lost.
    pub(crate) fn new(broker: Broker, broker_epoch: u64, first_number: u64) -> Self {
        Self {
            broker,
            broker_epoch,
            next_number: AtomicU64::new(first_number),
            doubtful: Mutex::default(),
        }
    }

    pub(crate) fn rule(&self) -> PackRule {
        self.broker.pack_rule()
    }

    /// Segments come so often.
    pub(crate) fn max_age(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.rule().max_age_ms).unwrap_or(0))
    }

    /// Deletes what an earlier round may have left in the store; what still cannot be deleted waits on.
    pub(crate) async fn delete_doubtful(&self) {
        let doubtful = std::mem::take(&mut *self.doubtful());
        for id in doubtful {
            // Where a proposal's answer was lost, it may have been taken.
            let is_known = self.broker.ledger(|ledger| ledger.knows_segment(id));
            let ready = self.broker.shared().segments.stores().ready();
            if !is_known && (!ready.contains(&id.store) || self.delete(id).await.is_err()) {
                self.doubtful().push(id);
            }
        }
    }

    async fn delete(&self, id: SegmentId) -> Result<(), PackError> {
        let segments = &self.broker.shared().segments;
        let store = segments.stores().get(id.store);
        let store = store.map_err(StorageError::NotOpen)?;
        let deleted = store.delete(&segments.key(id)).await;
        Ok(deleted.inspect_err(|error| segments.stores().note(error))?)
    }

    fn doubtful(&self) -> MutexGuard<'_, Vec<SegmentId>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packs what is due now, for [`PACK_ROUND_MAX`] at most: the rest waits for the next round. What fails is
    /// told, and left; what goes to a store that is away waits until that answers again.
    pub(crate) async fn pack_due(&self) {
        let until = Instant::now() + PACK_ROUND_MAX;
        // What failed is not tried again in this round.
        let mut busy = BTreeSet::new();
        while Instant::now() < until {
            let mut due = self.due(&busy);
            if due.is_empty() {
                return;
            }
            while !due.is_empty() && Instant::now() < until {
                let plans = self.plans(&mut due);
                self.pack_all(&plans, &mut busy).await;
            }
        }
    }

    /// Side by side.
    async fn pack_all(&self, plans: &[PackPlan], busy: &mut BTreeSet<Target>) {
        let packs = plans.iter().map(|plan| self.pack(plan));
        let results = futures_util::future::join_all(packs).await;
        for (plan, result) in plans.iter().zip(results) {
            match result {
                Ok(true) => {}
                Ok(false) => drop(busy.insert(plan.target)),
                Err(error) => {
                    self.failed(plan, &error);
                    busy.insert(plan.target);
                    if let Some(error) = error.of_store() {
                        self.broker.shared().segments.stores().note(error);
                    }
                }
            }
        }
    }

    /// Looked for once for many: with tens of thousands of partitions the look is what costs, and landing waits
    /// for it.
    fn due(&self, busy: &BTreeSet<Target>) -> VecDeque<Target> {
        let ready = self.broker.shared().segments.stores().ready();
        let state = self.broker.shared().state();
        let due = due(&state.ledger, self.rule(), self.now_ms(&state), busy);
        let due = due.into_iter();
        due.filter(|target| ready.contains(&store_of(&state.ledger, *target)))
            .collect()
    }

    /// The next ones, as many as may be in memory at once.
    fn plans(&self, due: &mut VecDeque<Target>) -> Vec<PackPlan> {
        let ready = self.broker.shared().segments.stores().ready();
        let state = self.broker.shared().state();
        let now_ms = self.now_ms(&state);
        let (mut plans, mut bytes) = (Vec::new(), 0);
        while let Some(target) = due.front().filter(|_| plans.len() < PACKS_AT_ONCE_MAX) {
            // It may have been given up meanwhile, or its store have gone away.
            let is_ready = ready.contains(&store_of(&state.ledger, *target));
            let plan = plan_of(&state.ledger, *target, self.rule(), now_ms);
            if let Some(plan) = plan.filter(|_| is_ready) {
                bytes += plan.bytes;
                if !plans.is_empty() && bytes > PACK_BYTES_AT_ONCE_MAX {
                    break;
                }
                plans.push(plan);
            }
            due.pop_front();
        }
        plans
    }

    fn now_ms(&self, state: &State) -> i64 {
        self.broker.clock().now_ms().max(state.ledger.now_ms())
    }

    fn failed(&self, plan: &PackPlan, error: &PackError) {
        self.broker.metrics().pack_failures.inc();
        tracing::error!(
            %error,
            topic_id = %plan.target.topic_id,
            partition = plan.target.partition.0,
            offset = plan.base().0,
            "cannot pack: the batches stay in the log, and it is tried again"
        );
    }

    /// Whether the ledger has taken the segment.
    async fn pack(&self, plan: &PackPlan) -> Result<bool, PackError> {
        let shared = Arc::clone(self.broker.shared());
        let (facts, merge_below) = {
            let state = shared.state();
            let map = &state.offset_map;
            let facts = map.facts_in(plan.target, plan.base(), plan.end());
            let topic = state.ledger.topic(plan.target.topic_id);
            let below = topic.map_or(0, |topic| topic.settings.pack_merge_below_bytes);
            (facts, usize::try_from(below).unwrap_or(usize::MAX))
        };
        let copied = plan.clone();
        let make = move || build_what_can_be(&shared, copied, &facts, merge_below);
        let built = tokio::task::spawn_blocking(make).await;
        let (parts, summary) = built.map_err(|_| StorageError::Gone)??;
        self.store_segment(plan.target, parts, &summary, Vec::new())
            .await
    }

    /// Writes a segment, and proposes it in the place of the tail's batches or of other segments. Whether the
    /// ledger has taken it.
    pub(crate) async fn store_segment(
        &self,
        target: Target,
        parts: Vec<Bytes>,
        summary: &SegmentSummary,
        replaces: Vec<SegmentId>,
    ) -> Result<bool, PackError> {
        let store = self.broker.ledger(|ledger| store_of(ledger, target));
        let id = self.put(store, parts).await?;
        let pack = Pack {
            target,
            segment: segment_of(id, summary),
            replaces,
            facts: Some(summary.facts),
        };
        let bytes = pack.segment.bytes;
        let is_taken = self.propose(pack).await?;
        if is_taken {
            let metrics = self.broker.metrics();
            metrics.packed_segments.inc();
            metrics.packed_bytes.inc_by(bytes);
        }
        Ok(is_taken)
    }

    /// Writes the bytes of a segment that is to be moved where it is to go, and proposes the copy in its place.
    pub(crate) async fn store_copy(
        &self,
        one: &Move,
        bytes: Bytes,
        facts: FactsMark,
    ) -> Result<(), PackError> {
        let id = self.put(one.to, vec![bytes]).await?;
        let pack = Pack {
            target: one.target,
            segment: Segment { id, ..one.segment },
            replaces: vec![one.segment.id],
            facts: Some(facts),
        };
        if self.propose(pack).await? {
            let metrics = self.broker.metrics();
            metrics.moved_segments.inc();
            metrics.moved_bytes.inc_by(one.segment.bytes);
        }
        Ok(())
    }

    /// Writes an object under a name that no other ever has.
    async fn put(&self, store: u32, parts: Vec<Bytes>) -> Result<SegmentId, PackError> {
        let id = SegmentId {
            store,
            broker_epoch: self.broker_epoch,
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
        };
        let segments = &self.broker.shared().segments;
        let store = segments.stores().get(id.store);
        let store = store.map_err(StorageError::NotOpen)?;
        match store.put(&segments.key(id), parts).await {
            Ok(()) => Ok(id),
            Err(error) => {
                self.doubtful().push(id);
                Err(error.into())
            }
        }
    }

    async fn propose(&self, pack: Pack) -> Result<bool, PackError> {
        let id = pack.segment.id;
        let effects = self.broker.submit(vec![(Entry::Pack(pack), None)]).await?;
        if let [Effect::Packed { .. }] = effects[..] {
            return Ok(true);
        }
        tracing::warn!(
            segment = self.broker.shared().segments.key(id),
            ?effects,
            "the ledger does not take the segment: it is deleted"
        );
        if let Err(error) = self.delete(id).await {
            tracing::warn!(%error, "cannot delete it; it is tried again");
            self.doubtful().push(id);
        }
        Ok(false)
    }
}

/// The number of the store that a partition's topic says.
fn store_of(ledger: &Ledger, target: Target) -> u32 {
    let topic = ledger.topic(target.topic_id);
    topic.map_or(CLUSTER_STORE, |topic| topic.settings.store)
}

fn segment_of(id: SegmentId, summary: &SegmentSummary) -> Segment {
    Segment {
        id,
        base: summary.base,
        end: summary.end,
        bytes: summary.bytes,
        index_position: summary.index_position,
        batches: summary.batches,
        max_timestamp_ms: summary.max_timestamp_ms.unwrap_or(i64::MIN),
        landed_ms: summary.landed_ms_max.unwrap_or(i64::MIN),
    }
}

/// A segment of as much of a plan as there can be one of: facts that contradict the batches (of what was
/// imported, that can be) never hold them up, and a damaged batch holds up only what lies behind it.
fn build_what_can_be(
    shared: &Shared,
    mut plan: PackPlan,
    facts: &[NamedFact],
    merge_below: usize,
) -> Result<(Vec<Bytes>, SegmentSummary), PackError> {
    match build(shared, &plan, facts, merge_below) {
        Err(PackError::Write(error @ (WriteError::Fact(_) | WriteError::Clash { .. }))) => {
            tracing::error!(%error, "a segment is made without its facts");
            build(shared, &plan, &[], merge_below)
        }
        Err(PackError::Read(StorageError::Damaged(Place::Log(place)))) => {
            let before = plan.batches.iter().position(|batch| batch.place == place);
            match before {
                Some(count) if count > 0 => {
                    plan.batches.truncate(count);
                    build(shared, &plan, facts, merge_below)
                }
                _ => Err(PackError::DamagedBatch {
                    partition: plan.target.partition.0,
                    end: plan.batches[0].end().0,
                }),
            }
        }
        built => built,
    }
}

/// Reads a plan's batches from the log and makes a segment of them; neighbours smaller than `merge_below` become
/// one. Blocks.
fn build(
    shared: &Shared,
    plan: &PackPlan,
    facts: &[NamedFact],
    merge_below: usize,
) -> Result<(Vec<Bytes>, SegmentSummary), PackError> {
    let mut writer = SegmentWriter::new(plan.target, plan.base());
    let limits = MergeLimits {
        below_bytes: merge_below,
        records_bytes_max: MERGED_RECORDS_BYTES_MAX,
    };
    let mut merger = Merger::new(limits, Compression::Zstd);
    let mut merged = Vec::new();
    let mut facts = facts.iter().peekable();
    for batch in &plan.batches {
        let bytes = read(shared, batch)?;
        let of_batch = facts_of(batch, &mut facts);
        if merge_below == 0 {
            let packed = PackedBatch {
                bytes,
                landed_ms: batch.landed_ms,
                min_timestamp_ms: None,
            };
            writer.push(packed, &of_batch)?;
            continue;
        }
        let parsed = Batch::parse(bytes).map_err(|_| StorageError::Damaged(batch.place.into()))?;
        merger.push(&parsed, batch.landed_ms, of_batch, &mut merged);
        push_merged(&mut writer, &mut merged)?;
    }
    merger.flush(&mut merged);
    push_merged(&mut writer, &mut merged)?;
    Ok(writer.finish()?)
}

fn push_merged(writer: &mut SegmentWriter, merged: &mut Vec<Merged>) -> Result<(), WriteError> {
    for one in merged.drain(..) {
        writer.push(one.batch, &one.facts)?;
    }
    Ok(())
}

/// The facts of a batch's offsets; one that goes on in the next batch is cut where this one ends.
fn facts_of<'a>(
    batch: &TailBatch,
    facts: &mut Peekable<impl Iterator<Item = &'a NamedFact>>,
) -> Vec<NamedFact> {
    let mut of_batch = Vec::new();
    while let Some(named) = facts.peek() {
        let fact = &named.fact;
        if fact.kafka_offset >= batch.end() {
            break;
        }
        let cut = fact.within(batch.base_offset, batch.end());
        of_batch.extend(cut.map(|fact| NamedFact {
            fact,
            ..(*named).clone()
        }));
        if fact.kafka_offset.plus(fact.count as i64) > batch.end() {
            break;
        }
        facts.next();
    }
    of_batch
}

/// A batch as it is to be packed: as it landed, with the offset that the ledger has given it.
fn read(shared: &Shared, batch: &TailBatch) -> Result<Bytes, StorageError> {
    let mut bytes = BytesMut::zeroed(batch.batch_bytes as usize);
    shared.read_log(batch.place, &mut bytes)?;
    rewrite_in_place(&mut bytes, batch.base_offset.0, 0);
    Ok(bytes.freeze())
}
