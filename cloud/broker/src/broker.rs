//! The handle on the ledger and its log that the listeners and the hub share.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use tidegate_bridge_protocol::landing::{Head, Offer, RefusedReason};
use tidegate_cloud_protocol::ledger::command::{Entry, Land, Part};
use tidegate_cloud_protocol::ledger::{Command, Effect, Effects, Ledger};
use tidegate_shared::id::{EdgeId, StreamName};
use tidegate_shared::record::{Batch, BatchHeader};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::limits::{BATCH_BYTES_MAX, SEQUENCER_QUEUE_BYTES_MAX, SEQUENCER_QUEUE_MAX};
use crate::log::Log;
use crate::metrics::{Metrics, ReasonLabels};
use crate::sequencer::{self, Work};
use crate::state::{Shared, State};
use crate::submission::{Submission, SubmitError};

/// A handle on the running broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    store_id: u128,
    queue: mpsc::Sender<Work>,
    /// Permits are KiB of batches in the queue.
    room: Arc<Semaphore>,
    failure: watch::Receiver<Option<String>>,
}

const ROOM_KIB: u32 = (SEQUENCER_QUEUE_BYTES_MAX >> 10) as u32;

impl Broker {
    /// Opens the log in `directory`, replays it, and starts the sequencer. Blocks.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        let mut state = State::default();
        let new_store_id = uuid::Uuid::new_v4().as_u128();
        let log = Log::open(directory, new_store_id, |appended, bytes| {
            let command = Command::decode(bytes)?;
            state.apply(command, &appended)?;
            Ok::<(), anyhow::Error>(())
        })?;
        let shared = Arc::new(Shared::new(state, log.reader()));
        let store_id = log.store_id();
        let (queue, receiver) = mpsc::channel(SEQUENCER_QUEUE_MAX);
        let (failed, failure) = watch::channel(None);
        let for_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("sequencer".to_owned())
            .spawn(move || {
                if let Err(reason) = sequencer::run(log, for_thread, receiver) {
                    tracing::error!(%reason, "the log failed: nothing more is acknowledged");
                    failed.send_replace(Some(reason));
                }
            })?;
        Ok(Self {
            shared,
            store_id,
            queue,
            room: Arc::new(Semaphore::new(ROOM_KIB as usize)),
            failure,
        })
    }

    /// Has the ledger decide about each of `submissions`, in their order; returns one effect for
    /// each once all are durable and applied. Waits while the queue is full. Submissions of one caller
    /// that awaits each call are decided in the order of its calls. A batch that is refused before
    /// the ledger sees it (`BadBatch`, `TooLarge`) is answered with the stream's head as it is after
    /// the others were applied.
    ///
    /// # Errors
    /// The log cannot be written or is closed. Nothing may then be acknowledged.
    pub async fn submit(&self, submissions: Vec<Submission>) -> Result<Effects, SubmitError> {
        let mut entries = Vec::with_capacity(submissions.len());
        // What is refused before the ledger sees it, by its place; `None` is the ledger's to answer.
        let mut refused = Vec::with_capacity(submissions.len());
        for submission in submissions {
            match prepare(submission) {
                Ok(entry) => {
                    entries.push(entry);
                    refused.push(None);
                }
                Err(early) => refused.push(Some(early)),
            }
        }
        let decided = match entries.is_empty() {
            true => Effects::new(),
            false => self.send_entries(entries).await?,
        };
        let mut decided = decided.into_iter();
        let effects = refused.into_iter().map(|early| match early {
            Some(early) => Some(self.refuse(&early)),
            None => decided.next(),
        });
        effects
            .map(|effect| effect.ok_or(SubmitError::Closed))
            .collect()
    }

    /// Applies a command that is no tick: `Begin`, `CreateTopic`.
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

    /// Looks at the ledger. Keep it short: the sequencer waits meanwhile.
    pub fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.shared.state().ledger)
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
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

    /// Ends the sequencer after what is queued now. Later submissions get `Closed`.
    pub(crate) async fn stop(&self) {
        if self.queue.send(Work::Stop).await.is_ok() {
            self.queue.closed().await;
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    async fn send_entries(
        &self,
        entries: Vec<(Entry, Option<Bytes>)>,
    ) -> Result<Effects, SubmitError> {
        let batches = entries.iter().filter_map(|(_, batch)| batch.as_ref());
        let bytes: usize = batches.map(Bytes::len).sum();
        let kib = u32::try_from((bytes >> 10) + 1).unwrap_or(ROOM_KIB);
        let room = Arc::clone(&self.room);
        let permit = room.acquire_many_owned(kib.min(ROOM_KIB)).await;
        let permit = permit.map_err(|_| SubmitError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let work = Work::Entries {
            entries,
            answer,
            permit,
        };
        self.send(work, answered).await
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

    fn refuse(&self, early: &RefusedEarly) -> Effect {
        let reason = early.reason;
        let labels = ReasonLabels {
            reason: reason.into(),
        };
        self.metrics().refused_offers.get_or_create(&labels).inc();
        let head = self.ledger(|ledger| {
            let stream = ledger.stream(&early.edge, &early.stream);
            stream.map_or(Head::default(), |stream| stream.head)
        });
        Effect::Refused { reason, head }
    }
}

struct RefusedEarly {
    edge: EdgeId,
    stream: StreamName,
    reason: RefusedReason,
}

/// Checks what the ledger takes on trust, and makes an entry of it.
fn prepare(submission: Submission) -> Result<(Entry, Option<Bytes>), RefusedEarly> {
    let (edge, stream, offer, batch) = match submission {
        Submission::OpenSession(open) => return Ok((Entry::OpenSession(open), None)),
        Submission::OpenStream(open) => return Ok((Entry::OpenStream(open), None)),
        Submission::CommitOffsets(commit) => return Ok((Entry::CommitOffsets(commit), None)),
        Submission::LandGap(land) => return Ok((Entry::LandGap(land), None)),
        Submission::Land {
            edge,
            stream,
            offer,
            batch,
        } => (edge, stream, offer, batch),
    };
    match check_batch(&batch, &offer) {
        Ok(header) => {
            let part = Part {
                attachment_offset: 0,
                batch_bytes: u32::try_from(batch.len()).expect("at most BATCH_BYTES_MAX"),
                max_timestamp_ms: header.max_timestamp_ms,
            };
            let land = Land {
                edge,
                stream,
                offer,
                part,
            };
            Ok((Entry::Land(land), Some(batch)))
        }
        Err(reason) => Err(RefusedEarly {
            edge,
            stream,
            reason,
        }),
    }
}

fn check_batch(batch: &Bytes, offer: &Offer) -> Result<BatchHeader, RefusedReason> {
    if batch.len() > BATCH_BYTES_MAX {
        return Err(RefusedReason::TooLarge);
    }
    let parsed = Batch::parse(batch.clone()).map_err(|_| RefusedReason::BadBatch)?;
    let header = parsed.header();
    let fits = header.offset_count() == offer.count
        && u64::try_from(header.records_count) == Ok(offer.count)
        && u64::try_from(header.base_offset) == Ok(offer.base_offset.0);
    match fits && header.compression().is_ok() {
        true => Ok(header.clone()),
        false => Err(RefusedReason::BadBatch),
    }
}
