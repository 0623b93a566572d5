//! The one thread that writes: it gathers what has come into a tick, has it made durable together with
//! its batches by the ordered log, applies it, and answers with the result of applying. Ticks can be on their way to
//! the log at once; they are applied in their order.
//!
//! After a failed write or sync it answers nothing more as done and ends; the process is then
//! stopped, and reads its log again when it is started.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidegate_bridge_protocol::landing::RefusedReason;
use tidegate_cloud_protocol::gathering::{Gathering, Pending, Wish};
use tidegate_cloud_protocol::ledger::{Command, Effect, Effects};
use tidegate_shared::gap::GapReason;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::limits::{LOG_DRAIN_MAX, TICK_BATCHES_BYTES_MAX, TICK_ENTRIES_MAX};
use crate::log::{Appended, LogEnd, OrderedLog};
use crate::metrics::{ForkLabels, GapLabels, Metrics, ReasonLabels};
use crate::snapshotter::Snapshotter;
use crate::state::Shared;
use crate::submission::SubmitError;

pub(crate) type Answer = oneshot::Sender<Result<Effects, SubmitError>>;

/// Asks whether the sequencer is stuck; answered when it has its turn.
pub(crate) type AreYouThere = oneshot::Sender<()>;

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

/// Who waits, with its room in the queue, which is given back once it is answered.
type Waiting = (Answer, OwnedSemaphorePermit);

/// The writing end of the log and of what follows from it.
#[derive(Debug)]
pub(crate) struct Sequencer<L> {
    log: L,
    shared: Arc<Shared>,
    snapshots: Snapshotter,
    clock: Clock,
    asked: mpsc::Receiver<AreYouThere>,
    /// The tick in the making.
    gathering: Gathering<Waiting>,
    /// When the tick goes into the log, if nothing else makes it go; `None` while it is empty.
    due: Option<Instant>,
    /// The last frame was appended then.
    appended: Option<Instant>,
    /// What waits to be durable, oldest first.
    in_flight: VecDeque<Frame>,
    /// Where the log was when the newest frame was appended that has been applied.
    applied: LogEnd,
}

/// A frame that was appended and is not durable yet.
#[derive(Debug)]
struct Frame {
    appended: Appended,
    /// The log's end behind it.
    end: LogEnd,
    since: Instant,
    proposed: Proposed,
}

#[derive(Debug)]
enum Proposed {
    Tick(Pending<Waiting>),
    Command { command: Command, answer: Answer },
}

/// What the sequencer does after it has taken something from its queue.
enum Next {
    GoOn,
    Stop,
}

impl<L: OrderedLog> Sequencer<L> {
    pub(crate) fn new(
        log: L,
        shared: Arc<Shared>,
        snapshots: Snapshotter,
        clock: Clock,
        asked: mpsc::Receiver<AreYouThere>,
    ) -> Self {
        Self {
            applied: log.end(),
            log,
            shared,
            snapshots,
            clock,
            asked,
            gathering: Gathering::default(),
            due: None,
            appended: None,
            in_flight: VecDeque::new(),
        }
    }

    /// Runs until it is stopped, or the log fails: then the reason is returned.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Work>) -> Result<(), String> {
        let ended = self.decide(&mut queue).await;
        match ended {
            Ok(()) => {
                self.snapshot();
                self.snapshots.finish();
                Ok(())
            }
            Err(reason) => {
                self.fail(queue, &reason);
                Err(reason)
            }
        }
    }

    async fn decide(&mut self, queue: &mut mpsc::Receiver<Work>) -> Result<(), String> {
        loop {
            let has_room = self.log.has_room();
            tokio::select! {
                biased;
                Some(answer) = self.asked.recv() => {
                    let _ = answer.send(());
                }
                durable = self.log.durable(), if !self.in_flight.is_empty() => {
                    durable.map_err(|error| error.to_string())?;
                    self.apply_oldest()?;
                }
                work = queue.recv(), if has_room => {
                    match work.map(|work| self.take(work, queue)) {
                        Some(Ok(Next::GoOn)) => {}
                        Some(Ok(Next::Stop)) | None => return self.drain().await,
                        Some(Err(reason)) => return Err(reason),
                    }
                }
                () = until(self.due), if has_room && self.due.is_some() => self.append_tick()?,
            }
        }
    }

    fn take(&mut self, work: Work, queue: &mut mpsc::Receiver<Work>) -> Result<Next, String> {
        match work {
            Work::Stop => return Ok(Next::Stop),
            Work::Snapshot => {
                // While one is being written, the next can wait: nobody else has to.
                if !self.snapshots.is_busy() {
                    self.snapshot();
                }
            }
            Work::End { answer } => {
                let _ = answer.send(self.applied);
            }
            Work::Command { command, answer } => self.append_command(command, answer)?,
            Work::Wishes {
                wishes,
                answer,
                permit,
            } => {
                self.gathering.add(wishes, (answer, permit));
                let held = self.fill(queue);
                self.append_if_due()?;
                if let Some(held) = held {
                    return self.take(held, queue);
                }
            }
        }
        Ok(Next::GoOn)
    }

    /// Takes what is queued now, while there is room; returns what does not belong into a tick.
    fn fill(&mut self, queue: &mut mpsc::Receiver<Work>) -> Option<Work> {
        while !self.is_full() {
            match queue.try_recv() {
                Ok(Work::Wishes {
                    wishes,
                    answer,
                    permit,
                }) => self.gathering.add(wishes, (answer, permit)),
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
        None
    }

    fn is_full(&self) -> bool {
        let (entries, batches_bytes) = self.gathering.size();
        entries >= TICK_ENTRIES_MAX || batches_bytes >= TICK_BATCHES_BYTES_MAX
    }

    /// A tick waits for more to come only since the last frame: who comes after a pause waits for nobody.
    fn append_if_due(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let linger = self.log.linger();
        let due = self.appended.map_or(now, |appended| appended + linger);
        if due <= now || self.is_full() {
            return self.append_tick();
        }
        self.due = Some(due);
        Ok(())
    }

    fn append_tick(&mut self) -> Result<(), String> {
        self.due = None;
        if self.gathering.is_empty() {
            return Ok(());
        }
        let gathering = std::mem::take(&mut self.gathering);
        let pending = gathering.seal(self.clock.now_ms());
        self.append(Proposed::Tick(pending))
    }

    /// A command is a frame of its own, behind what came before it.
    fn append_command(&mut self, command: Command, answer: Answer) -> Result<(), String> {
        self.append_tick()?;
        self.append(Proposed::Command { command, answer })
    }

    fn append(&mut self, proposed: Proposed) -> Result<(), String> {
        let (command, batches) = match &proposed {
            Proposed::Tick(pending) => (pending.command(), pending.batches()),
            Proposed::Command { command, .. } => (command, &[][..]),
        };
        let mut encoded = BytesMut::new();
        command.encode(&mut encoded);
        let attachments: Vec<Bytes> = batches.iter().map(|(_, batch)| batch.clone()).collect();
        let appended = match self.log.append(&encoded, &attachments) {
            Ok(appended) => appended,
            Err(error) => {
                let reason = error.to_string();
                refuse(proposed, &reason);
                return Err(reason);
            }
        };
        let since = Instant::now();
        self.appended = Some(since);
        self.in_flight.push_back(Frame {
            appended,
            end: self.log.end(),
            since,
            proposed,
        });
        self.tell_in_flight();
        Ok(())
    }

    /// The oldest frame is durable: applies it; then, and only then, those who wait are answered.
    fn apply_oldest(&mut self) -> Result<(), String> {
        let Some(frame) = self.in_flight.pop_front() else {
            return Ok(());
        };
        self.tell_in_flight();
        let (shared, appended) = (&self.shared, &frame.appended);
        self.snapshots.grown(appended.frame_bytes);
        match frame.proposed {
            Proposed::Tick(pending) => {
                let apply = |command, batches: &[_]| apply(shared, command, appended, batches);
                for ((answer, _), own) in pending.durable(apply)? {
                    let _ = answer.send(Ok(own));
                }
            }
            Proposed::Command { command, answer } => {
                let effects = apply(shared, command, appended, &[]);
                let _ = answer.send(effects.clone().map_err(SubmitError::LogFailed));
                effects?;
            }
        }
        self.applied = frame.end;
        if self.snapshots.is_due() {
            self.snapshot();
        }
        Ok(())
    }

    fn tell_in_flight(&self) {
        let oldest = self.in_flight.front().map(|frame| frame.since);
        self.shared.log_waits.set(oldest);
        let frames = i64::try_from(self.in_flight.len()).unwrap_or(i64::MAX);
        self.shared.metrics.log_in_flight.set(frames);
    }

    /// Ends what was begun; what is not durable in time is answered by nobody.
    async fn drain(&mut self) -> Result<(), String> {
        let drained = async {
            while self.due.is_some() || !self.in_flight.is_empty() {
                if self.log.has_room() {
                    self.append_tick()?;
                }
                let durable = self.log.durable().await;
                durable.map_err(|error| error.to_string())?;
                self.apply_oldest()?;
            }
            Ok(())
        };
        let drained = tokio::time::timeout(LOG_DRAIN_MAX, drained);
        drained.await.unwrap_or_else(|_| {
            Err(format!(
                "what was on its way to the log was not durable within {LOG_DRAIN_MAX:?}"
            ))
        })
    }

    /// Has a snapshot written beside what goes on; the state is read here, so that it is that of what is applied.
    fn snapshot(&mut self) {
        let (end, shared) = (self.applied, &self.shared);
        self.snapshots.write(end, || shared.state().snapshot(end));
    }

    /// Tells everybody who waits that nothing more is decided.
    fn fail(self, mut queue: mpsc::Receiver<Work>, reason: &str) {
        queue.close();
        for frame in self.in_flight {
            refuse(frame.proposed, reason);
        }
        if !self.gathering.is_empty() {
            refuse(Proposed::Tick(self.gathering.seal(0)), reason);
        }
        while let Ok(work) = queue.try_recv() {
            if let Work::Wishes { answer, .. } | Work::Command { answer, .. } = work {
                let _ = answer.send(Err(SubmitError::LogFailed(reason.to_owned())));
            }
        }
    }
}

fn refuse(proposed: Proposed, reason: &str) {
    let failed = || Err(SubmitError::LogFailed(reason.to_owned()));
    match proposed {
        Proposed::Tick(pending) => {
            for (answer, _) in pending.failed() {
                let _ = answer.send(failed());
            }
        }
        Proposed::Command { answer, .. } => drop(answer.send(failed())),
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
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
            Effect::Produced(produced) => {
                metrics.produced_batches.inc();
                metrics.produced_records.inc_by(produced.count);
                let bytes = u64::from(produced.part.batch_bytes);
                metrics.produced_bytes.inc_by(bytes);
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
            Effect::Duplicate { .. } | Effect::ProduceDuplicate { .. } => {
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
