//! The committer's thread: it stages what comes, commits, tells all who wait, and keeps house.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_edge_journal::{CheckpointDone, CheckpointJob, CommitError, Journal, RowCommit, Tick};
use tidegate_edge_protocol::mqtt::connection::PublishRefused;
use tidegate_shared::id::{EdgeOffset, Position, StreamId};
use tokio::sync::{oneshot, watch};

use super::{Append, Gate, Operation, Shared, Waiter, now_ms};
use crate::lanes::KeyedStreams;
use crate::limits::{CHECKPOINT_INTERVAL, COMMIT_QUIET_BYTES_MIN, COMMIT_QUIET_OF_LINGER};
use crate::retained::OnItsWay;

/// Those who are told when the commit under way is durable.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Publishes, which are refused where the journal is full; and those that nobody waits for among
    /// them.
    publishes: Vec<Waiter>,
    records: usize,
    /// Of those among them that then wait for space.
    gates: Vec<Gate>,
    rows: Vec<Waiter>,
    /// Retained messages: those that are refused with the publishes, and those that go with the rows.
    retained: Vec<OnItsWay>,
    rows_retained: Vec<OnItsWay>,
    states: Vec<oneshot::Sender<()>>,
    streams: BTreeSet<StreamId>,
    /// One of the records is for every client, or for one.
    has_addressed: bool,
    since: Option<Instant>,
}

/// The thread's own.
pub(super) struct Worker {
    pub(super) journal: Journal,
    pub(super) keyed: KeyedStreams,
    pub(super) has_lanes: bool,
    pub(super) linger: Duration,
    /// When something was staged last.
    pub(super) staged_at: Instant,
    pub(super) unrouted: StreamId,
    pub(super) shared: Arc<Shared>,
    pub(super) durable_until: watch::Sender<Position>,
    pub(super) operations: mpsc::Sender<Operation>,
    pub(super) checkpoints: mpsc::Sender<CheckpointJob>,
    pub(super) checkpoints_done: mpsc::Receiver<CheckpointDone>,
    pub(super) waiting: Waiting,
    pub(super) checkpoint_at: Instant,
    pub(super) opened_at: Instant,
    /// Something was committed since the last checkpoint.
    pub(super) changed: bool,
}

impl Worker {
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Operation>) -> Result<(), CommitError> {
        loop {
            let now = Instant::now();
            let commit_at = self.commit_at();
            let wake_at = commit_at
                .unwrap_or(self.checkpoint_at)
                .min(self.checkpoint_at);
            match queue.recv_timeout(wake_at.saturating_duration_since(now)) {
                Ok(Operation::Stop(done)) => {
                    self.commit_now()?;
                    self.final_checkpoint()?;
                    let _ = done.send(());
                    return Ok(());
                }
                Ok(operation) => self.take(operation, queue)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.finish_checkpoint(false)?;
            let now = Instant::now();
            if self.commit_at().is_some_and(|at| now >= at) {
                self.commit()?;
            }
            if now >= self.checkpoint_at || self.journal.checkpoint_is_due() {
                if !self.waiting.states.is_empty() || !self.waiting.rows.is_empty() {
                    self.waiting.since.get_or_insert(now);
                }
                self.retain()?;
                self.grow_lanes()?;
                self.checkpoint(now)?;
            }
        }
    }

    /// When what has gathered is committed, if somebody waits for it: when the linger is over; or before,
    /// where much has gathered and nothing more comes: those who publish wait for their PUBACKs then, and
    /// one more sync costs the flash little beside what it writes.
    fn commit_at(&self) -> Option<Instant> {
        let at = self.waiting.since? + self.linger;
        if self.journal.staged_bytes() < COMMIT_QUIET_BYTES_MIN {
            return Some(at);
        }
        Some(at.min(self.staged_at + self.linger / COMMIT_QUIET_OF_LINGER))
    }

    /// Takes an operation, and with it all that is queued behind it, up to a full commit: then
    /// checkpoints have their turn, however much is still queued.
    fn take(
        &mut self,
        first: Operation,
        queue: &mpsc::Receiver<Operation>,
    ) -> Result<(), CommitError> {
        let mut next = Some(first);
        while let Some(operation) = next {
            self.stage(operation)?;
            if self.journal.staged_is_full() {
                return self.commit();
            }
            next = queue.try_recv().ok();
            if let Some(Operation::Stop(done)) = next {
                // Seen again by `run`: the queue is empty behind it, or is not worth waiting for.
                let _ = self.operations.send(Operation::Stop(done));
                break;
            }
        }
        self.staged_at = Instant::now();
        Ok(())
    }

    fn stage(&mut self, operation: Operation) -> Result<(), CommitError> {
        match operation {
            Operation::Append(append, _room) => self.stage_append(append)?,
            Operation::Rows {
                rows,
                when,
                waiter,
                retained,
                _room,
            } => {
                // One commit has all of them: a message, and the identifier that it came with.
                for row in rows {
                    self.journal.stage_row(row, when)?;
                }
                self.waiting.rows.extend(waiter);
                self.waiting.rows_retained.extend(retained);
            }
            Operation::NeededFrom(position) => {
                self.journal.set_needed_from(position);
                self.changed = true;
                return Ok(());
            }
            Operation::StoreSession(cluster, session_epoch, done) => {
                self.journal.see_session(cluster, session_epoch);
                self.waiting.states.push(done);
            }
            Operation::StoreGrant(stream, incarnation, done) => {
                self.journal.grant(stream, incarnation);
                self.waiting.states.push(done);
            }
            Operation::Landed(landings) => {
                for (stream, landed, hash) in landings {
                    self.journal.advance_landed(stream, landed, hash);
                    self.lane_landed(stream, landed)?;
                }
                self.note_stats();
                self.changed = true;
                return Ok(());
            }
            Operation::Damaged(stream, from, done) => {
                let declared = self.declare_damage(stream, from)?;
                let _ = done.send(declared);
                return Ok(());
            }
            Operation::Partitions(stream, partitions) => {
                self.keyed.want(stream, partitions);
                return self.grow_lanes();
            }
            Operation::Answer(done) => {
                let _ = done.send(());
                return Ok(());
            }
            Operation::Stop(_) => return Ok(()),
        }
        // Who stores nothing, and waits, is told in its turn: nobody else may come.
        if self.journal.wants_commit() || !self.waiting.rows.is_empty() {
            self.waiting.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// A lane has landed so far: was it the last that the others waited for, they go on, and the
    /// topic's growth meanwhile is made up for.
    fn lane_landed(&mut self, stream: StreamId, landed: EdgeOffset) -> Result<(), CommitError> {
        if !self.has_lanes {
            return Ok(());
        }
        let drained = self.keyed.note_landed(stream, landed);
        if drained.is_empty() {
            return Ok(());
        }
        if let Some(row) = self.keyed.row_of(stream) {
            self.journal.stage_row(row, RowCommit::Rides)?;
        }
        self.shared.grown.add(drained);
        self.grow_lanes()
    }

    /// Makes more lanes where topics have grown: what was staged is committed to the old ones, and only
    /// when the new ones are durable does anything go to them. What finds no space is tried again.
    fn grow_lanes(&mut self) -> Result<(), CommitError> {
        for first in self.keyed.wanting() {
            self.commit_now()?;
            let growth = match self.keyed.grow(&mut self.journal, first) {
                Ok(Some(growth)) => growth,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(stream = %first, %error, "no lanes can be made");
                    continue;
                }
            };
            match self.journal.commit() {
                Ok(_) => {
                    let lanes = self.keyed.take(growth, &self.journal.reader());
                    tracing::info!(stream = %first, lanes = lanes.len(), "the topic has grown");
                    self.shared.grown.add(lanes);
                    self.tell_stored();
                }
                Err(CommitError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What was staged without records is durable.
    fn tell_stored(&mut self) {
        let retained = std::mem::take(&mut self.waiting.rows_retained);
        retained.into_iter().for_each(OnItsWay::durable);
        tell(std::mem::take(&mut self.waiting.rows), Ok(()));
        for done in std::mem::take(&mut self.waiting.states) {
            let _ = done.send(());
        }
    }

    fn stage_append(&mut self, append: Append) -> Result<(), CommitError> {
        let Append {
            stream,
            record,
            mark,
            rows,
            waiter,
            gate,
            retained,
            is_addressed,
        } = append;
        if gate.as_ref().is_some_and(Gate::is_closed) {
            let refused = Err(PublishRefused::QuotaExceeded);
            tell(waiter.into_iter().collect(), refused);
            return Ok(());
        }
        let stream = match self.has_lanes {
            true => self.keyed.target(stream, record.key.as_deref()),
            false => stream,
        };
        if let Err(error) = self.journal.append_marked(stream, &record, mark) {
            tracing::warn!(%error, "a publish was refused");
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            tell(waiter.into_iter().collect(), Err(PublishRefused::TooLarge));
            return Ok(());
        }
        for row in rows {
            self.journal.stage_row(row, RowCommit::WithRecords)?;
        }
        self.waiting.streams.insert(stream);
        self.waiting.has_addressed |= is_addressed;
        self.waiting.records += 1;
        self.waiting.publishes.extend(waiter);
        self.waiting.gates.extend(gate);
        self.waiting.retained.extend(retained);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        // Riders, too, are no more than a commit holds.
        if self.journal.wants_commit() || self.journal.staged_is_full() {
            return self.commit_now();
        }
        self.tell_stored();
        self.waiting = Waiting::default();
        Ok(())
    }

    /// Commits what is staged, whether or not anybody waits for it.
    fn commit_now(&mut self) -> Result<(), CommitError> {
        let waiting = std::mem::take(&mut self.waiting);
        if self.journal.checkpoint_is_overdue() {
            // Going on without it would let the log outgrow it.
            self.finish_checkpoint(true)?;
        }
        self.tick();
        let outcome = match self.journal.commit() {
            Ok(_) => {
                waiting.retained.into_iter().for_each(OnItsWay::durable);
                if waiting.has_addressed {
                    // Before it is seen as durable.
                    let until = self.journal.reader().next_position();
                    self.shared
                        .addressed_until
                        .store(until.0, Ordering::Release);
                }
                self.note_growth(waiting.streams);
                Ok(())
            }
            Err(CommitError::Full) => {
                // Before anybody is told: what is behind them in the queue must not overtake them.
                waiting.gates.iter().for_each(Gate::close);
                self.note_refused((waiting.records - waiting.gates.len()) as u64);
                Err(PublishRefused::QuotaExceeded)
            }
            Err(error) => return Err(error),
        };
        self.changed = true;
        tell(waiting.publishes, outcome);
        // What frees space must not fail with the records that it came with.
        let stored = match outcome.or_else(|_| self.journal.commit().map(|_| ())) {
            Ok(()) => true,
            Err(CommitError::Full) => false,
            Err(error) => return Err(error),
        };
        // They are staged still, where there is no room, and go with the first commit that finds some.
        self.waiting.rows = waiting.rows;
        self.waiting.rows_retained = waiting.rows_retained;
        self.waiting.states = waiting.states;
        if stored {
            self.tell_stored();
        }
        self.note_stats();
        Ok(())
    }
}

/// Tells each connection once what became of what it asked for.
fn tell(mut waiters: Vec<Waiter>, outcome: Result<(), PublishRefused>) {
    // Stable: a connection's answers stay in their order.
    waiters.sort_by_key(|(mailbox, _)| Arc::as_ptr(mailbox) as usize);
    let mut waiters = waiters.into_iter().peekable();
    while let Some((mailbox, answer)) = waiters.next() {
        let mut answers = vec![(answer, outcome)];
        while let Some((_, answer)) = waiters.next_if(|(next, _)| Arc::ptr_eq(next, &mailbox)) {
            answers.push((answer, outcome));
        }
        mailbox.answered(answers);
    }
}

impl Worker {
    /// Tells the journal the time.
    fn tick(&mut self) {
        let monotonic_ms_since_open = self.opened_at.elapsed().as_millis() as u64;
        self.journal.tick(Tick {
            monotonic_ms_since_open,
            wall_ms: now_ms(),
        });
    }

    fn declare_damage(&mut self, stream: StreamId, from: EdgeOffset) -> Result<bool, CommitError> {
        match self.journal.declare_damage(stream, from) {
            Ok(None) => Ok(false),
            Ok(Some(gap)) => {
                let (from, to) = (gap.from, gap.to);
                tracing::error!(%stream, %from, %to, "messages were lost with what was damaged");
                self.changed = true;
                self.note_stats();
                Ok(true)
            }
            // It is found again.
            Err(CommitError::Full) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells whoever reads the journal that these streams have more.
    fn note_growth(&mut self, streams: BTreeSet<StreamId>) {
        let reader = self.journal.reader();
        if streams.contains(&self.unrouted)
            && let Some(status) = reader.stream(self.unrouted)
        {
            let (next, hash) = (status.next, status.hash);
            self.journal.advance_landed(self.unrouted, next, hash);
        }
        self.shared.grown.add(streams);
        self.durable_until.send_replace(reader.next_position());
    }

    fn note_refused(&self, publishes: u64) {
        self.shared.refused.fetch_add(publishes, Ordering::Relaxed);
        if publishes > 0 {
            tracing::warn!(publishes, "the journal is full: publishes are refused");
        }
    }

    fn note_stats(&self) {
        *self.shared.stats.lock().expect("nobody panics with it") = self.journal.stats();
    }

    /// Lets go of what the streams' retention does not keep.
    fn retain(&mut self) -> Result<(), CommitError> {
        self.tick();
        let before = self.journal.stats().gap_records;
        self.journal.retain()?;
        let records = self.journal.stats().gap_records - before;
        self.note_stats();
        self.changed |= records > 0 || self.journal.clock_is_due();
        if records > 0 {
            tracing::warn!(records, "messages that had not landed were dropped");
        }
        Ok(())
    }

    /// Hands what changed to the checkpointer.
    fn checkpoint(&mut self, now: Instant) -> Result<(), CommitError> {
        self.checkpoint_at = now + CHECKPOINT_INTERVAL;
        // What rides has waited for long enough.
        if self.journal.has_riders() {
            self.commit_now()?;
        }
        if !self.changed {
            return Ok(());
        }
        if let Some(job) = self.journal.begin_checkpoint() {
            self.changed = false;
            let _ = self.checkpoints.send(job);
        }
        Ok(())
    }

    /// Takes the result of the checkpoint that is under way, if it is there, or waits for it.
    fn finish_checkpoint(&mut self, wait: bool) -> Result<(), CommitError> {
        let done = if wait {
            self.checkpoints_done.recv().ok()
        } else {
            self.checkpoints_done.try_recv().ok()
        };
        let Some(done) = done else {
            return Ok(());
        };
        let before = self.journal.stats().checkpoint_needs_space;
        self.journal.finish_checkpoint(done)?;
        for name in self.journal.take_set_aside() {
            tracing::warn!(
                name,
                "a damaged log file, in which nothing lives, is set aside"
            );
        }
        if self.journal.stats().checkpoint_needs_space {
            self.changed = true;
            if !before {
                tracing::warn!("the disk is full: the index cannot be written; it is tried again");
            }
        }
        Ok(())
    }

    /// Leaves nothing to replay.
    fn final_checkpoint(&mut self) -> Result<(), CommitError> {
        if self.journal.checkpoint_is_running() {
            self.finish_checkpoint(true)?;
        }
        match self.journal.checkpoint() {
            // What it would have written is replayed at the next start.
            Err(CommitError::Full) => Ok(()),
            done => done,
        }
    }
}

pub(super) type Checkpointer = (mpsc::Sender<CheckpointJob>, mpsc::Receiver<CheckpointDone>);

/// The thread that writes checkpoints while commits go on. It ends with the worker.
pub(super) fn start_checkpointer() -> std::io::Result<Checkpointer> {
    let (jobs, queue) = mpsc::channel::<CheckpointJob>();
    let (done, results) = mpsc::channel();
    thread::Builder::new()
        .name("checkpointer".to_owned())
        .spawn(move || {
            while let Ok(job) = queue.recv() {
                if done.send(job.run()).is_err() {
                    break;
                }
            }
        })?;
    Ok((jobs, results))
}
