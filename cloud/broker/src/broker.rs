//! The handle on the ledger and its log that the listeners and the hub share.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tidegate_cloud_protocol::acls::Policy;
use tidegate_cloud_protocol::gathering::Wish;
use tidegate_cloud_protocol::ledger::command::Tick;
use tidegate_cloud_protocol::ledger::{Command, Effect, Effects, Ledger};
use tidegate_cloud_protocol::offset_map::OffsetMap;
use tidegate_cloud_protocol::packing::PackRule;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::limits::{
    LOG_STOP_MAX, SEQUENCER_QUEUE_BYTES_MAX, SEQUENCER_QUEUE_MAX, SUBMISSION_ENTRIES_MAX,
};
use crate::log::{LogEnd, LogReader, ObjectLogPlace, OrderedLog};
use crate::metrics::Metrics;
use crate::opening::{self, Opened};
use crate::presence::Presence;
use crate::segments::Segments;
use crate::sequencer::{AreYouThere, Sequencer, Work};
use crate::snapshots::Snapshots;
use crate::snapshotter::{Kept, Snapshotter};
use crate::state::{Shared, State};
use crate::store::Cache;
use crate::stores::{Stores, Unwell};
use crate::submission::SubmitError;

/// Where a broker's log and its snapshots are.
#[derive(Clone, Debug)]
pub(crate) enum Wal {
    /// In files of this machine.
    Local { log: PathBuf, snapshots: PathBuf },
    /// In the object store.
    Object { linger: Duration },
}

/// A handle on the running broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    store_id: u128,
    queue: mpsc::Sender<Work>,
    /// Beside the queue, which is not read while the log waits for its object store.
    questions: mpsc::Sender<AreYouThere>,
    /// Permits are KiB of batches in the queue.
    room: Arc<Semaphore>,
    failure: watch::Receiver<Option<String>>,
    clock: Clock,
    pack_rule: PackRule,
}

/// Wishes that have their place in the order, and are not decided yet.
#[derive(Debug, Default)]
pub(crate) struct Submitted(Vec<(Broker, Answered)>);

type Answered = oneshot::Receiver<Result<Effects, SubmitError>>;

impl Submitted {
    /// One effect for each wish, once all are durable and applied.
    ///
    /// # Errors
    /// As [`Broker::submit`].
    pub(crate) async fn effects(self) -> Result<Effects, SubmitError> {
        let mut effects = Effects::new();
        for (broker, answered) in self.0 {
            let own = answered.await;
            effects.extend(own.unwrap_or_else(|_| Err(broker.closed()))?);
        }
        Ok(effects)
    }
}

const ROOM_KIB: u32 = (SEQUENCER_QUEUE_BYTES_MAX >> 10) as u32;

impl Broker {
    /// Reads the newest snapshot and replays the log behind it, and starts the sequencer. Blocks; to be called within
    /// a runtime. What it returns beside the broker tells which snapshots are kept.
    pub(crate) fn open(
        wal: &Wal,
        (stores, cache): (Stores, Cache),
        metrics: Metrics,
        policy: Policy,
        pack_rule: PackRule,
    ) -> anyhow::Result<(Self, watch::Receiver<Kept>)> {
        match wal {
            Wal::Local { log, snapshots } => {
                let snapshots = Snapshots::Folder(snapshots.clone());
                let opened = opening::in_files::<State>(log, snapshots)?;
                let (store_id, reader) = (opened.log.store_id(), opened.log.reader());
                let ids = (store_id, LogReader::Local(reader));
                Self::start(opened, ids, (stores, cache), metrics, policy, pack_rule)
            }
            Wal::Object { linger } => {
                let place = ObjectLogPlace {
                    store: stores.cluster().clone(),
                    cache: cache.clone(),
                    linger: *linger,
                };
                let opened = Handle::current().block_on(opening::in_store::<State>(&place))?;
                let (store_id, reader) = (opened.log.store_id(), opened.log.reader());
                let ids = (store_id, LogReader::Object(reader));
                Self::start(opened, ids, (stores, cache), metrics, policy, pack_rule)
            }
        }
    }

    fn start<L: OrderedLog + Send + 'static>(
        opened: Opened<L, State>,
        (store_id, reader): (u128, LogReader),
        (stores, cache): (Stores, Cache),
        metrics: Metrics,
        policy: Policy,
        pack_rule: PackRule,
    ) -> anyhow::Result<(Self, watch::Receiver<Kept>)> {
        let Opened {
            log,
            state,
            after,
            snapshots,
        } = opened;
        let clock = Clock::start();
        check_log(&state, &reader)?;
        let (snapshots, kept) = Snapshotter::start(snapshots, after)?;
        let segments = Segments::new(stores, cache, store_id);
        let shared = Arc::new(Shared::new(state, reader, segments, (metrics, policy)));
        let (queue, receiver) = mpsc::channel(SEQUENCER_QUEUE_MAX);
        let (failed, failure) = watch::channel(None);
        let (questions, asked) = mpsc::channel(1);
        let sequencer = Sequencer::new(log, Arc::clone(&shared), snapshots, clock, asked);
        let runtime = Handle::current();
        thread::Builder::new()
            .name("sequencer".to_owned())
            .spawn(move || {
                if let Err(reason) = runtime.block_on(sequencer.run(receiver)) {
                    tracing::error!(%reason, "the log failed: nothing more is acknowledged");
                    failed.send_replace(Some(reason));
                }
            })?;
        let broker = Self {
            shared,
            store_id,
            queue,
            questions,
            room: Arc::new(Semaphore::new(ROOM_KIB as usize)),
            failure,
            clock,
            pack_rule,
        };
        Ok((broker, kept))
    }

    /// Has the ledger decide about each of `wishes`, in their order; returns one effect for each once
    /// all are durable and applied. Waits while the queue is full. Wishes of one caller that awaits
    /// each call are decided in the order of its calls. More than [`SUBMISSION_ENTRIES_MAX`] of them are
    /// decided one part after the other, so that a tick stays bounded. A batch's CRC, and that it is of its offer's
    /// interval, are for the caller to check.
    ///
    /// # Errors
    /// The log cannot be written or is closed. Nothing may then be acknowledged.
    pub async fn submit(&self, wishes: Vec<Wish>) -> Result<Effects, SubmitError> {
        let mut wishes = wishes.into_iter();
        let mut effects = Effects::new();
        while !wishes.as_slice().is_empty() {
            let part = wishes.by_ref().take(SUBMISSION_ENTRIES_MAX).collect();
            effects.extend(self.begin_part(part).await?.effects().await?);
        }
        Ok(effects)
    }

    /// As [`Broker::submit`], but returns once the wishes have their place in the order of all that is decided.
    ///
    /// # Errors
    /// As that.
    pub(crate) async fn begin(&self, wishes: Vec<Wish>) -> Result<Submitted, SubmitError> {
        let mut wishes = wishes.into_iter();
        let mut begun = Submitted::default();
        while !wishes.as_slice().is_empty() {
            let part = wishes.by_ref().take(SUBMISSION_ENTRIES_MAX).collect();
            begun.0.extend(self.begin_part(part).await?.0);
        }
        Ok(begun)
    }

    async fn begin_part(&self, wishes: Vec<Wish>) -> Result<Submitted, SubmitError> {
        let batches = wishes.iter().filter_map(|(_, batch)| batch.as_ref());
        let bytes: usize = batches.map(Bytes::len).sum();
        let kib = u32::try_from((bytes >> 10) + 1).unwrap_or(ROOM_KIB);
        let room = Arc::clone(&self.room);
        let permit = room.acquire_many_owned(kib.min(ROOM_KIB)).await;
        let permit = permit.map_err(|_| SubmitError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let work = Work::Wishes {
            wishes,
            answer,
            permit,
        };
        self.queue.send(work).await.map_err(|_| self.closed())?;
        Ok(Submitted(vec![(self.clone(), answered)]))
    }

    /// Applies a command that is no tick.
    ///
    /// # Errors
    /// As [`Broker::submit`].
    pub async fn command(&self, command: Command) -> Result<Effect, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let effects = self
            .send(Work::Command { command, answer }, answered)
            .await?;
        effects.into_iter().next().ok_or(SubmitError::Closed)
    }

    /// A tick with nothing in it but the time.
    ///
    /// # Errors
    /// As [`Broker::submit`].
    pub(crate) async fn pass_time(&self) -> Result<(), SubmitError> {
        let command = Command::Tick(Tick {
            now_ms: self.clock.now_ms(),
            entries: Vec::new(),
        });
        let (answer, answered) = oneshot::channel();
        let work = Work::Command { command, answer };
        self.send(work, answered).await.map(drop)
    }

    /// Looks at the ledger. Keep it short: the sequencer waits meanwhile.
    pub fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.shared.state().ledger)
    }

    /// Looks at the ledger and the offset map, which are of one moment. Keep it short.
    pub fn look<T>(&self, look: impl FnOnce(&Ledger, &OffsetMap) -> T) -> T {
        let state = self.shared.state();
        look(&state.ledger, &state.offset_map)
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Which edges are connected.
    pub fn presence(&self) -> &Presence {
        &self.shared.presence
    }

    /// The store's id, for as long as its log lives; Kafka clients see it as the cluster id.
    pub fn store_id(&self) -> u128 {
        self.store_id
    }

    /// Returns once nothing is decided any more, with the reason: the log has failed, or has ended.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the sequencer has ended".to_owned(),
        }
    }

    /// Whether submissions are still decided.
    pub fn is_ready(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Returns true once the sequencer has had its turn: it is not stuck in a write or sync. False where it has ended.
    pub(crate) async fn answers(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.questions.send(answer).await.is_ok() && answered.await.is_ok()
    }

    /// Has a snapshot made, if anything is new since the last one.
    pub(crate) async fn snapshot(&self) {
        // Where the sequencer has ended there is nothing to make one of.
        let _ = self.queue.send(Work::Snapshot).await;
    }

    /// Where the log ends now: all before that is durable and applied.
    ///
    /// # Errors
    /// The log is closed.
    pub(crate) async fn log_end(&self) -> Result<LogEnd, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.queue.send(Work::End { answer }).await;
        asked.map_err(|_| self.closed())?;
        answered.await.map_err(|_| self.closed())
    }

    /// Ends the sequencer after what is queued now. Later submissions get `Closed`.
    pub(crate) async fn stop(&self) {
        let stopped = async {
            if self.queue.send(Work::Stop).await.is_ok() {
                self.queue.closed().await;
            }
        };
        // Where the log waits for its object store, it does not come to that.
        if tokio::time::timeout(LOG_STOP_MAX, stopped).await.is_err() {
            tracing::warn!(
                "what was on its way to the log is left: nobody was told that it is durable"
            );
        }
    }

    /// The object stores of topics that cannot be used now.
    pub(crate) fn unwell_stores(&self) -> Unwell {
        let segments = &self.shared.segments;
        let ready = segments.stores().ready();
        self.ledger(|ledger| Unwell::of(ledger, &ready, |id| segments.key(id)))
    }

    /// The time that goes into the ledger.
    /// When a tail is packed, where its topic says nothing else.
    pub(crate) fn pack_rule(&self) -> PackRule {
        self.pack_rule
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    async fn send(
        &self,
        work: Work,
        answered: oneshot::Receiver<Result<Effects, SubmitError>>,
    ) -> Result<Effects, SubmitError> {
        self.queue.send(work).await.map_err(|_| self.closed())?;
        answered.await.unwrap_or_else(|_| Err(self.closed()))
    }

    fn closed(&self) -> SubmitError {
        match &*self.failure.borrow() {
            Some(reason) => SubmitError::LogFailed(reason.clone()),
            None => SubmitError::Closed,
        }
    }
}

/// A log object that is gone must not be noticed only by who reads from it.
fn check_log(state: &State, log: &LogReader) -> anyhow::Result<()> {
    let mut needed = state.ledger.needed_log_objects();
    match needed.find(|object| !log.has(*object)) {
        None => Ok(()),
        Some(object) => anyhow::bail!(
            "object {object:020} of the log is missing, and batches that are not packed lie in it: put it back from a copy"
        ),
    }
}
