//! The cloud's housekeeping, in one task: packs what is due, joins small segments, compacts (by the side), moves segments to their
//! topics' object stores, gives up what retention says, and deletes what nothing needs any more, once that is safe. Each
//! is tried again in the next round where it fails.
//!
//! An object goes only when what took its place has been in a durable snapshot for `restore_window`: so a
//! start from the older of the two snapshots that are kept, or from a copy of the data folder that is no
//! older than that, finds all it names.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tidegate_cloud_protocol::index::SegmentId;
use tidegate_cloud_protocol::ledger::Target;
use tidegate_cloud_protocol::ledger::command::{Entry, Swept, Trim};
use tidegate_cloud_protocol::packing::retained_from;
use tidegate_shared::id::KafkaOffset;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::compactor::compact_all;
use crate::joiner::Joiner;
use crate::limits::{CARE_EVERY, DELETIONS_AT_ONCE_MAX, SNAPSHOT_EVERY, SWEPT_AT_ONCE_MAX};
use crate::mover::Mover;
use crate::packer::Packer;
use crate::snapshotter::Kept;
use crate::store::limits::LIST_PAGE_MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Care {
    broker: Broker,
    packer: Arc<Packer>,
    joiner: Joiner,
    mover: Mover,
    restore_window: Duration,
    kept: watch::Receiver<Kept>,
    /// Snapshots that are kept, and since when; only those that are not older than the window, and one
    /// before them.
    safe: VecDeque<(Instant, Kept)>,
    snapshot_asked: Instant,
    /// The object stores in which that was done.
    orphans_looked_for: BTreeSet<u32>,
    clock_is_ahead: bool,
}

impl Care {
    pub(crate) fn new(
        broker: Broker,
        packer: Packer,
        restore_window: Duration,
        kept: watch::Receiver<Kept>,
    ) -> Self {
        Self {
            broker,
            packer: Arc::new(packer),
            joiner: Joiner::default(),
            mover: Mover::default(),
            restore_window,
            kept,
            safe: VecDeque::new(),
            snapshot_asked: Instant::now(),
            orphans_looked_for: BTreeSet::new(),
            clock_is_ahead: false,
        }
    }

    /// Runs until it is dropped. A large partition takes long to compact: nothing else waits for that.
    pub(crate) async fn run(mut self) {
        let compacting = compact_all(self.broker.clone(), Arc::clone(&self.packer));
        let all_else = async {
            loop {
                tokio::time::sleep(CARE_EVERY).await;
                self.round().await;
            }
        };
        tokio::join!(compacting, all_else);
    }

    async fn round(&mut self) {
        let stores = self.broker.shared().segments.stores();
        stores.mend(|| self.broker.unwell_stores()).await;
        // It may be the wrong copy that was put back, and another one need what this one does not know.
        if self.broker.ledger(|ledger| ledger.behind().is_some()) {
            return;
        }
        self.packer.delete_doubtful().await;
        self.packer.pack_due().await;
        self.joiner.round(&self.broker, &self.packer).await;
        self.mover.round(&self.broker, &self.packer).await;
        self.retain().await;
        if self.snapshot_asked.elapsed() >= self.snapshot_every() {
            self.snapshot_asked = Instant::now();
            self.snapshot().await;
        }
        self.note_kept();
        // A backup copies what the ledger named when it began.
        let is_held = self.broker.shared().holds.count() > 0;
        if let Some(kept) = self.safely_kept()
            && !is_held
        {
            self.sweep(kept).await;
            self.look_for_orphans().await;
        }
    }

    /// Two are needed before anything is deleted: both come well within the window.
    fn snapshot_every(&self) -> Duration {
        SNAPSHOT_EVERY.min(self.restore_window / 8)
    }

    /// Where something waits to be deleted, time goes on for it although nothing else happens.
    async fn snapshot(&self) {
        let waits = {
            let ledger = &self.broker.shared().state().ledger;
            let newest = self.broker.shared().log.newest().unwrap_or(0);
            let mut objects = ledger.free_log_objects(i64::MAX);
            ledger.free_segments(i64::MAX).next().is_some() || objects.any(|one| one < newest)
        };
        if waits && let Err(error) = self.broker.pass_time().await {
            tracing::error!(%error, "the ledger's time does not go on");
        }
        self.broker.snapshot().await;
    }

    async fn retain(&mut self) {
        let clock = self.broker.clock();
        let was_ahead = std::mem::replace(&mut self.clock_is_ahead, clock.is_ahead());
        if self.clock_is_ahead {
            if !was_ahead {
                tracing::warn!(
                    "the clock has stepped far ahead: nothing is given up until it is right, or this is started anew"
                );
            }
            return;
        }
        let trims: Vec<(Target, KafkaOffset)> = {
            let state = self.broker.shared().state();
            let now_ms = clock.now_ms();
            let logs = state.ledger.logs();
            let trims = logs.filter_map(|(target, _)| {
                let start = retained_from(&state.ledger, target, now_ms)?;
                Some((target, start))
            });
            trims.collect()
        };
        let wishes = trims.into_iter().map(|(target, start)| {
            tracing::info!(
                topic_id = %target.topic_id,
                partition = target.partition.0,
                start = start.0,
                "retention: what lies below is given up"
            );
            (Entry::Trim(Trim { target, start }), None)
        });
        let wishes: Vec<_> = wishes.collect();
        if !wishes.is_empty()
            && let Err(error) = self.broker.submit(wishes).await
        {
            tracing::error!(%error, "retention: nothing was given up");
        }
    }

    fn note_kept(&mut self) {
        if self.kept.has_changed().unwrap_or(false) {
            let kept = *self.kept.borrow_and_update();
            self.safe.push_back((Instant::now(), kept));
        }
    }

    /// The newest snapshot that has been kept for the whole window.
    fn safely_kept(&mut self) -> Option<Kept> {
        let window = self.restore_window;
        let is_safe = |(since, _): &(Instant, Kept)| since.elapsed() >= window;
        while self.safe.get(1).is_some_and(is_safe) {
            self.safe.pop_front();
        }
        let oldest = self.safe.front()?;
        is_safe(oldest).then_some(oldest.1)
    }

    /// Deletes what nothing has needed since before a snapshot that has been kept long enough.
    async fn sweep(&self, kept: Kept) {
        let shared = self.broker.shared();
        let (free_segments, log_objects, mut noted) = {
            let ledger = &shared.state().ledger;
            // What was freed in the very millisecond of the snapshot may have been freed after it.
            let before_ms = kept.ledger_ms.saturating_sub(1);
            let ready = shared.segments.stores().ready();
            let of_store = |number: u32| {
                let segments = ledger.free_segments(before_ms);
                let segments = segments.filter(move |id| id.store == number);
                segments.take(SWEPT_AT_ONCE_MAX)
            };
            let segments: Vec<SegmentId> = ready.into_iter().flat_map(of_store).collect();
            let is_free = |object: &u64| {
                let freed_ms = ledger.log_object_freed_ms(*object);
                !ledger.is_log_object_needed(*object)
                    && freed_ms.is_none_or(|freed_ms| freed_ms <= before_ms)
            };
            let objects = shared.log.objects_before(kept.replayed_from);
            let objects = objects.into_iter().filter(is_free);
            let objects: Vec<u64> = objects.take(SWEPT_AT_ONCE_MAX).collect();
            // Those that were removed before a kill could be noted.
            let newest = shared.log.newest().unwrap_or(0);
            let noted = ledger.free_log_objects(before_ms);
            let noted = noted.filter(|one| *one < newest && !shared.log.has(*one));
            (segments, objects, noted.collect::<Vec<u64>>())
        };
        let (removed, failed) = shared.log.remove(log_objects).await;
        if let Some(error) = failed {
            tracing::warn!(%error, "cannot remove an object of the log; it is tried again");
        }
        self.broker
            .metrics()
            .swept_log_files
            .inc_by(removed.len() as u64);
        // The others the ledger does not know: nothing had landed in them.
        noted.extend(self.broker.ledger(|ledger| {
            let is_noted = |object: &u64| ledger.log_object_freed_ms(*object).is_some();
            removed.into_iter().filter(is_noted).collect::<Vec<u64>>()
        }));
        let swept = Swept {
            segments: self.delete(free_segments).await,
            log_objects: noted,
        };
        self.tell(swept).await;
    }

    /// Deletes segments, some at once; returns those that are gone. What is in a store that is away waits for it.
    async fn delete(&self, ids: Vec<SegmentId>) -> Vec<SegmentId> {
        let segments = &self.broker.shared().segments;
        let ready = segments.stores().ready();
        let ids = ids.into_iter().filter(|id| ready.contains(&id.store));
        let deletions = ids.filter_map(|id| {
            let store = segments.stores().get(id.store).ok()?;
            Some(async move { (id, store.delete(&segments.key(id)).await) })
        });
        let mut deletions = stream::iter(deletions).buffer_unordered(DELETIONS_AT_ONCE_MAX);
        let mut deleted = Vec::new();
        while let Some((id, done)) = deletions.next().await {
            let Err(error) = done else {
                deleted.push(id);
                continue;
            };
            tracing::warn!(%error, "cannot delete a segment; it is tried again");
            segments.stores().note(&error);
            if error.may_pass() {
                break;
            }
        }
        deleted
    }

    async fn tell(&self, swept: Swept) {
        if swept.segments.is_empty() && swept.log_objects.is_empty() {
            return;
        }
        let metrics = self.broker.metrics();
        metrics.swept_segments.inc_by(swept.segments.len() as u64);
        if let Err(error) = self.broker.submit(vec![(Entry::Swept(swept), None)]).await {
            tracing::error!(%error, "what was deleted cannot be noted");
        }
    }

    /// Once in each object store that is well.
    async fn look_for_orphans(&mut self) {
        let stores = self.broker.shared().segments.stores();
        for number in stores.ready() {
            if !self.orphans_looked_for.contains(&number) && self.delete_orphans(number).await {
                self.orphans_looked_for.insert(number);
            }
        }
    }

    /// Deletes segments that were written under an earlier epoch and that the ledger does not know:
    /// their broker ended before it could propose them. Whether all of the store was looked at.
    async fn delete_orphans(&self, number: u32) -> bool {
        let segments = &self.broker.shared().segments;
        let folder = segments.folder();
        let Ok(store) = segments.stores().get(number) else {
            return false;
        };
        let mut after: Option<String> = None;
        loop {
            let listed = store.list(folder, after.as_deref(), LIST_PAGE_MAX);
            let page = match listed.await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "cannot look for segments that nobody knows");
                    segments.stores().note(&error);
                    return false;
                }
            };
            after = page.objects.last().map(|object| object.key.clone());
            let keys = page.objects.into_iter().map(|object| object.key);
            for key in self.orphans(number, keys) {
                tracing::info!(segment = key, "nobody knows this segment: it is deleted");
                if let Err(error) = store.delete(&key).await {
                    tracing::warn!(%error, "cannot delete a segment that nobody knows");
                    return false;
                }
                self.broker.metrics().swept_orphans.inc();
            }
            if !page.more || after.is_none() {
                return true;
            }
        }
    }

    /// Of these keys those of segments that nothing knows and no later proposal can name.
    fn orphans(&self, number: u32, keys: impl Iterator<Item = String>) -> Vec<String> {
        let shared = self.broker.shared();
        let state = shared.state();
        let ledger = &state.ledger;
        let living = ledger.logs().flat_map(|(_, log)| log.segments());
        let living = living.map(|segment| segment.id);
        // Whatever their stores: two of these may be one.
        let known = living.chain(ledger.free_segments(i64::MAX));
        let known: BTreeSet<(u64, u64)> = known.map(|id| (id.broker_epoch, id.number)).collect();
        let is_orphan = |key: &String| {
            let id = shared.segments.id_of(number, key);
            id.is_some_and(|id| {
                let is_known = known.contains(&(id.broker_epoch, id.number));
                id.broker_epoch < ledger.broker_epoch() && !is_known
            })
        };
        keys.filter(is_orphan).collect()
    }
}
