//! The one thread that writes: it gathers what has come into a tick, makes it durable together with
//! its batches by one sync, applies it, and answers with the result of applying.
//!
//! After a failed write or sync it answers nothing more as done and ends; the process is then
//! stopped, and reads its log again when it is started.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tidegate_cloud_protocol::ledger::command::{Entry, Tick};
use tidegate_cloud_protocol::ledger::{Command, Effect, Effects};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::limits::{TICK_BATCHES_BYTES_MAX, TICK_ENTRIES_MAX};
use crate::log::{Appended, Log};
use crate::metrics::{GapLabels, ReasonLabels};
use crate::state::Shared;
use crate::submission::SubmitError;

pub(crate) type Answer = oneshot::Sender<Result<Effects, SubmitError>>;

/// What waits for the sequencer.
#[derive(Debug)]
pub(crate) enum Work {
    /// Entries of the next tick, each with its batch where it has one.
    Entries {
        entries: Vec<(Entry, Option<Bytes>)>,
        answer: Answer,
        /// Room in the queue, given back once this is done.
        permit: OwnedSemaphorePermit,
    },
    /// A command that is a frame of its own.
    Command { command: Command, answer: Answer },
    /// End, after all that came before.
    Stop,
}

/// Runs until it is stopped, or the log fails: then the reason is returned.
pub(crate) fn run(
    mut log: Log,
    shared: Arc<Shared>,
    mut queue: mpsc::Receiver<Work>,
) -> Result<(), String> {
    let mut held = None;
    loop {
        let Some(first) = held.take().or_else(|| queue.blocking_recv()) else {
            return Ok(());
        };
        let outcome = match first {
            Work::Stop => return Ok(()),
            Work::Command { command, answer } => {
                let effects = write(&mut log, &shared, command, &[]);
                let told = effects.clone().map_err(SubmitError::LogFailed);
                let _ = answer.send(told);
                effects.map(drop)
            }
            Work::Entries {
                entries,
                answer,
                permit,
            } => {
                let mut gathered = Gathered::default();
                gathered.add(entries, answer, permit);
                held = gathered.fill(&mut queue);
                gathered.write(&mut log, &shared)
            }
        };
        if let Err(reason) = outcome {
            fail(queue, held, &reason);
            return Err(reason);
        }
    }
}

/// One tick in the making.
#[derive(Default)]
struct Gathered {
    entries: Vec<Entry>,
    /// Offset among the attachments, and bytes.
    batches: Vec<(u32, Bytes)>,
    batches_bytes: usize,
    answers: Vec<(usize, Answer)>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Gathered {
    fn add(
        &mut self,
        entries: Vec<(Entry, Option<Bytes>)>,
        answer: Answer,
        permit: OwnedSemaphorePermit,
    ) {
        self.answers.push((entries.len(), answer));
        self.permits.push(permit);
        for (mut entry, batch) in entries {
            if let (Entry::Land(land), Some(batch)) = (&mut entry, batch) {
                let offset = u32::try_from(self.batches_bytes).expect("asserted in limits.rs");
                land.part.attachment_offset = offset;
                self.batches_bytes += batch.len();
                self.batches.push((offset, batch));
            }
            self.entries.push(entry);
        }
    }

    /// Takes what is queued now, while there is room; returns what does not belong into a tick.
    fn fill(&mut self, queue: &mut mpsc::Receiver<Work>) -> Option<Work> {
        while self.batches_bytes < TICK_BATCHES_BYTES_MAX && self.entries.len() < TICK_ENTRIES_MAX {
            match queue.try_recv() {
                Ok(Work::Entries {
                    entries,
                    answer,
                    permit,
                }) => self.add(entries, answer, permit),
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
        None
    }

    fn write(self, log: &mut Log, shared: &Shared) -> Result<(), String> {
        let tick = Tick {
            now_ms: now_ms(),
            entries: self.entries,
        };
        match write(log, shared, Command::Tick(tick), &self.batches) {
            Ok(effects) => {
                let mut effects = effects.into_iter();
                for (count, answer) in self.answers {
                    let own: Effects = effects.by_ref().take(count).collect();
                    let _ = answer.send(Ok(own));
                }
                Ok(())
            }
            Err(reason) => {
                for (_, answer) in self.answers {
                    let _ = answer.send(Err(SubmitError::LogFailed(reason.clone())));
                }
                Err(reason)
            }
        }
    }
}

/// Makes a command durable, then applies it.
fn write(
    log: &mut Log,
    shared: &Shared,
    command: Command,
    batches: &[(u32, Bytes)],
) -> Result<Effects, String> {
    let mut encoded = BytesMut::new();
    command.encode(&mut encoded);
    let attachments: Vec<Bytes> = batches.iter().map(|(_, batch)| batch.clone()).collect();
    let appended = log
        .append(&encoded, &attachments)
        .map_err(|error| error.to_string())?;
    let effects = shared
        .apply(command, &appended, batches)
        .map_err(|error| error.to_string())?;
    count(shared, &effects, &appended);
    Ok(effects)
}

fn count(shared: &Shared, effects: &Effects, appended: &Appended) {
    let metrics = &shared.metrics;
    metrics.log_syncs.inc();
    metrics.log_written_bytes.inc_by(appended.frame_bytes);
    for effect in effects {
        match effect {
            Effect::Landed(landed) => {
                metrics.landed_batches.inc();
                metrics.landed_records.inc_by(landed.fact.count);
                let bytes = u64::from(landed.part.batch_bytes);
                metrics.landed_bytes.inc_by(bytes);
            }
            Effect::GapLanded { count, reason, .. } => {
                let labels = GapLabels {
                    reason: reason.name(),
                };
                metrics
                    .hub_gap_records
                    .get_or_create(&labels)
                    .inc_by(*count);
            }
            Effect::Duplicate { .. } => {
                metrics.duplicate_batches.inc();
            }
            Effect::Refused { reason, .. } => {
                let reason = (*reason).into();
                let labels = ReasonLabels { reason };
                metrics.refused_offers.get_or_create(&labels).inc();
            }
            _ => {}
        }
    }
}

/// Tells everybody who waits that nothing more is decided.
fn fail(mut queue: mpsc::Receiver<Work>, held: Option<Work>, reason: &str) {
    queue.close();
    let waiting = std::iter::from_fn(|| queue.try_recv().ok());
    for work in held.into_iter().chain(waiting) {
        if let Work::Entries { answer, .. } | Work::Command { answer, .. } = work {
            let _ = answer.send(Err(SubmitError::LogFailed(reason.to_owned())));
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
