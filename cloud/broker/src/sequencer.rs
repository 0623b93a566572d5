//! The one thread that writes: it gathers what has come into a tick, makes it durable together with
//! its batches by one sync, applies it, and answers with the result of applying.
//!
//! After a failed write or sync it answers nothing more as done and ends; the process is then
//! stopped, and reads its log again when it is started.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidegate_bridge_protocol::landing::RefusedReason;
use tidegate_cloud_protocol::gathering::{Gathering, Wish};
use tidegate_cloud_protocol::ledger::{Command, Effect, Effects};
use tidegate_shared::gap::GapReason;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::clock::Clock;
use crate::limits::{TICK_BATCHES_BYTES_MAX, TICK_ENTRIES_MAX};
use crate::log::{Appended, Log, LogEnd};
use crate::metrics::{ForkLabels, GapLabels, Metrics, ReasonLabels};
use crate::snapshotter::Snapshotter;
use crate::state::Shared;
use crate::submission::SubmitError;

pub(crate) type Answer = oneshot::Sender<Result<Effects, SubmitError>>;

/// What waits for the sequencer.
#[derive(Debug)]
pub(crate) enum Work {
    /// For the next tick.
    Wishes {
        wishes: Vec<Wish>,
        answer: Answer,
        /// Room in the queue, given back once this is done.
        permit: OwnedSemaphorePermit,
    },
    /// A command that is a frame of its own.
    Command { command: Command, answer: Answer },
    /// A snapshot of what there is now, if anything is new since the last one.
    Snapshot,
    /// Tell where the log ends.
    End { answer: oneshot::Sender<LogEnd> },
    /// End, after all that came before.
    Stop,
}

/// The writing end of the log and of what follows from it.
#[derive(Debug)]
pub(crate) struct Sequencer {
    pub(crate) log: Log,
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshots: Snapshotter,
    pub(crate) clock: Clock,
}

impl Sequencer {
    /// Runs until it is stopped, or the log fails: then the reason is returned.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Work>) -> Result<(), String> {
        let mut held = None;
        loop {
            let Some(first) = held.take().or_else(|| queue.blocking_recv()) else {
                return Ok(());
            };
            let outcome = match first {
                Work::Stop => {
                    self.snapshot();
                    self.snapshots.finish();
                    return Ok(());
                }
                Work::Snapshot => {
                    // While one is being written, the next can wait: nobody else has to.
                    if !self.snapshots.is_busy() {
                        self.snapshot();
                    }
                    Ok(())
                }
                Work::End { answer } => {
                    let _ = answer.send(self.log.end());
                    Ok(())
                }
                Work::Command { command, answer } => {
                    let effects = self.write(command);
                    let told = effects.clone().map_err(SubmitError::LogFailed);
                    let _ = answer.send(told);
                    effects.map(drop)
                }
                Work::Wishes {
                    wishes,
                    answer,
                    permit,
                } => {
                    let mut gathering = Gathering::default();
                    gathering.add(wishes, (answer, permit));
                    held = fill(&mut gathering, &mut queue);
                    self.write_tick(gathering)
                }
            };
            if let Err(reason) = outcome {
                fail(queue, held, &reason);
                return Err(reason);
            }
            if self.snapshots.is_due() {
                self.snapshot();
            }
        }
    }

    /// Has a snapshot written beside what goes on; the state is read here, so that it is that of the
    /// log's end.
    fn snapshot(&mut self) {
        let end = self.log.end();
        let shared = &self.shared;
        self.snapshots.write(end, || shared.state().snapshot(end));
    }

    /// Makes a tick durable and applies it; then, and only then, those who wait are answered.
    fn write_tick(&mut self, gathering: Gathering<Waiting>) -> Result<(), String> {
        let pending = gathering.seal(self.clock.now_ms());
        let appended = match self.append(pending.command(), pending.batches()) {
            Ok(appended) => appended,
            Err(reason) => {
                for (answer, _) in pending.failed() {
                    let _ = answer.send(Err(SubmitError::LogFailed(reason.clone())));
                }
                return Err(reason);
            }
        };
        let apply = |command, batches: &[_]| apply(&self.shared, command, &appended, batches);
        for ((answer, _), own) in pending.durable(apply)? {
            let _ = answer.send(Ok(own));
        }
        Ok(())
    }

    /// Makes a command durable, then applies it.
    fn write(&mut self, command: Command) -> Result<Effects, String> {
        let appended = self.append(&command, &[])?;
        apply(&self.shared, command, &appended, &[])
    }

    fn append(&mut self, command: &Command, batches: &[(u32, Bytes)]) -> Result<Appended, String> {
        let mut encoded = BytesMut::new();
        command.encode(&mut encoded);
        let attachments: Vec<Bytes> = batches.iter().map(|(_, batch)| batch.clone()).collect();
        let appended = self.log.append(&encoded, &attachments);
        let appended = appended.map_err(|error| error.to_string())?;
        self.snapshots.grown(appended.frame_bytes);
        Ok(appended)
    }
}

/// Who waits, with its room in the queue, which is given back once it is answered.
type Waiting = (Answer, OwnedSemaphorePermit);

/// Takes what is queued now, while there is room; returns what does not belong into a tick.
fn fill(gathering: &mut Gathering<Waiting>, queue: &mut mpsc::Receiver<Work>) -> Option<Work> {
    loop {
        let (entries, batches_bytes) = gathering.size();
        if entries >= TICK_ENTRIES_MAX || batches_bytes >= TICK_BATCHES_BYTES_MAX {
            return None;
        }
        match queue.try_recv() {
            Ok(Work::Wishes {
                wishes,
                answer,
                permit,
            }) => gathering.add(wishes, (answer, permit)),
            Ok(other) => return Some(other),
            Err(_) => return None,
        }
    }
}

fn apply(
    shared: &Shared,
    command: Command,
    appended: &Appended,
    batches: &[(u32, Bytes)],
) -> Result<Effects, String> {
    let effects = shared.apply(command, appended, batches);
    let effects = effects.map_err(|error| error.to_string())?;
    count(shared, &effects, appended);
    Ok(effects)
}

fn count(shared: &Shared, effects: &Effects, appended: &Appended) {
    let metrics = &shared.metrics;
    metrics.log_syncs.inc();
    metrics.log_written_bytes.inc_by(appended.frame_bytes);
    let mut is_to_decide = false;
    for effect in effects {
        match effect {
            Effect::Landed(landed) => {
                metrics.landed_batches.inc();
                metrics.landed_records.inc_by(landed.fact.count);
                let bytes = u64::from(landed.part.batch_bytes);
                metrics.landed_bytes.inc_by(bytes);
            }
            Effect::GapLanded(gap) => count_gap(metrics, gap.reason, gap.count),
            Effect::StreamForked(forked) => {
                let fork = &forked.fork;
                count_gap(metrics, GapReason::CloudRestored, fork.gap_records());
                let labels = ForkLabels {
                    reason: fork.reason.name(),
                };
                metrics.forked_streams.get_or_create(&labels).inc();
            }
            Effect::Begun { .. } | Effect::SessionRefused { .. } | Effect::EdgeReleased { .. } => {
                is_to_decide = true;
            }
            Effect::Duplicate { .. } => {
                metrics.duplicate_batches.inc();
            }
            Effect::Refused { reason, .. } => {
                let labels = ReasonLabels {
                    reason: reason.name(),
                };
                metrics.refused_offers.get_or_create(&labels).inc();
                // Where a session was granted, its streams can tell that the cloud is behind.
                is_to_decide |= *reason == RefusedReason::CloudBehind;
            }
            _ => {}
        }
    }
    if is_to_decide {
        shared.measure();
    }
}

fn count_gap(metrics: &Metrics, reason: GapReason, records: u64) {
    if records > 0 {
        let reason = reason.name();
        let labels = GapLabels { reason };
        let counter = metrics.hub_gap_records.get_or_create(&labels);
        counter.inc_by(records);
    }
}

/// Tells everybody who waits that nothing more is decided.
fn fail(mut queue: mpsc::Receiver<Work>, held: Option<Work>, reason: &str) {
    queue.close();
    let waiting = std::iter::from_fn(|| queue.try_recv().ok());
    for work in held.into_iter().chain(waiting) {
        if let Work::Wishes { answer, .. } | Work::Command { answer, .. } = work {
            let _ = answer.send(Err(SubmitError::LogFailed(reason.to_owned())));
        }
    }
}
