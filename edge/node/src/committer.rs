//! The one committer: a thread that owns the journal. Everybody hands it operations; it commits what
//! has gathered when the linger is over or the commit is full, and then wakes all waiters.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::{
    CheckpointDone, CheckpointJob, CommitError, Journal, JournalReader, JournalStats, RowCommit,
    RowEntry, Tick,
};
use tidegate_edge_protocol::mqtt::connection::PublishRefused;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, Position, SessionEpoch, StreamId,
};
use tidegate_shared::record::Record;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::lanes::KeyedStreams;
use crate::limits::{
    CHECKPOINT_INTERVAL, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUIET_BYTES_MIN, COMMIT_QUIET_OF_LINGER,
};
use crate::mqtt::{Answer, Mailbox};
use crate::record::{QUEUED_RECORD_BYTES, queue_bytes};
use crate::retained::OnItsWay;

/// A row in the commit queue, beside its key and its value.
const ROW_BYTES: usize = 128;

/// A connection that is answered when what it asked for is durable.
pub(crate) type Waiter = (Arc<Mailbox>, Answer);

/// What a client publishes whose messages wait for space, in order: once one was refused, those behind it
/// are refused too, until the connection has all of them back and tries again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    /// The oldest is tried again; nothing is under way.
    pub(crate) fn open(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A message for a stream, and what else its commit must hold.
#[derive(Debug)]
pub(crate) struct Append {
    pub stream: StreamId,
    pub record: Record,
    pub mark: u8,
    /// Refused with the record, where the journal is full.
    pub rows: Vec<RowEntry>,
    pub waiter: Option<Waiter>,
    /// There where the publisher's messages wait for space rather than be refused.
    pub gate: Option<Gate>,
    /// Among the rows is that of a retained message.
    pub retained: Option<OnItsWay>,
}

/// Room for a record in the committer's queue.
pub(crate) type Room = OwnedSemaphorePermit;

/// A stream's new landed offset, and the hash there.
pub(crate) type Landing = (StreamId, EdgeOffset, BoundaryHash);

enum Operation {
    Append(Append, OwnedSemaphorePermit),
    Rows {
        rows: Vec<RowEntry>,
        when: RowCommit,
        waiter: Option<Waiter>,
        retained: Option<OnItsWay>,
        /// Of what clients publish; the node's own rows take none.
        _room: Option<Room>,
    },
    NeededFrom(Position),
    StoreSession(ClusterIncarnation, SessionEpoch, oneshot::Sender<()>),
    StoreGrant(StreamId, Incarnation, oneshot::Sender<()>),
    Landed(Vec<Landing>),
    /// A reader found damage there. Answered with whether it is declared lost.
    Damaged(StreamId, EdgeOffset, oneshot::Sender<bool>),
    /// The topic that a lane goes to has so many partitions.
    Partitions(StreamId, u32),
    Stop(oneshot::Sender<()>),
}

// The topic's header, and reference counts of what the record points to.
const _: () = assert!(QUEUED_RECORD_BYTES >= size_of::<Operation>() + 2 * size_of::<Record>());

/// Streams that got something durable since the uplink last looked.
#[derive(Debug, Default)]
pub(crate) struct Grown {
    streams: Mutex<BTreeSet<StreamId>>,
    notify: Notify,
}

impl Grown {
    fn add(&self, streams: impl IntoIterator<Item = StreamId>) {
        self.streams
            .lock()
            .expect("nobody panics with it")
            .extend(streams);
        self.notify.notify_one();
    }

    /// Waits until there is at least one, and takes all. Safe to cancel.
    pub(crate) async fn take(&self) -> BTreeSet<StreamId> {
        loop {
            let taken = std::mem::take(&mut *self.streams.lock().expect("nobody panics with it"));
            if !taken.is_empty() {
                return taken;
            }
            self.notify.notified().await;
        }
    }
}

/// The handle that everybody has; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    operations: mpsc::Sender<Operation>,
    room: Arc<Semaphore>,
    reader: JournalReader,
    keyed: KeyedStreams,
    shared: Arc<Shared>,
    durable: watch::Receiver<Position>,
    failure: watch::Receiver<Option<String>>,
}

#[derive(Debug, Default)]
struct Shared {
    grown: Grown,
    stats: Mutex<JournalStats>,
    refused: AtomicU64,
}

fn room_bytes(bytes: usize) -> u32 {
    bytes.min(COMMIT_QUEUE_BYTES_MAX) as u32
}

/// What rows take in the commit queue, roughly.
pub(crate) fn rows_bytes(rows: &[RowEntry]) -> usize {
    let of = |row: &RowEntry| ROW_BYTES + row.bytes();
    rows.iter().map(of).sum()
}

impl Append {
    /// What it takes in the commit queue, roughly.
    pub(crate) fn bytes(&self) -> usize {
        queue_bytes(&self.record) + rows_bytes(&self.rows)
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Operation")
    }
}

impl Committer {
    /// Starts the thread.
    /// `unrouted` is a stream that stays here: nothing of it waits to land.
    pub(crate) fn start(
        journal: Journal,
        keyed: KeyedStreams,
        linger: Duration,
        unrouted: StreamId,
    ) -> std::io::Result<Self> {
        let (operations, queue) = mpsc::channel();
        let (failed, failure) = watch::channel(None);
        let shared = Arc::new(Shared::default());
        let reader = journal.reader();
        let (durable_until, durable) = watch::channel(reader.next_position());
        let (checkpoints, checkpoints_done) = start_checkpointer()?;
        let worker = Worker {
            journal,
            has_lanes: !keyed.is_empty(),
            keyed: keyed.clone(),
            linger,
            staged_at: Instant::now(),
            unrouted,
            shared: Arc::clone(&shared),
            durable_until,
            operations: operations.clone(),
            checkpoints,
            checkpoints_done,
            waiting: Waiting::default(),
            checkpoint_at: Instant::now() + CHECKPOINT_INTERVAL,
            opened_at: Instant::now(),
            changed: false,
        };
        thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || {
                if let Err(error) = worker.run(&queue) {
                    tracing::error!(%error, "the journal failed: nothing more is acknowledged");
                    failed.send_replace(Some(error.to_string()));
                }
            })?;
        let room = Arc::new(Semaphore::new(COMMIT_QUEUE_BYTES_MAX));
        Ok(Self {
            operations,
            room,
            reader,
            keyed,
            shared,
            durable,
            failure,
        })
    }

    /// Waits while the queue is full.
    pub(crate) async fn room_for(&self, bytes: usize) -> Option<Room> {
        let room = Arc::clone(&self.room);
        room.acquire_many_owned(room_bytes(bytes)).await.ok()
    }

    /// `None` where the queue is full, or the committer has ended.
    pub(crate) fn try_room_for(&self, bytes: usize) -> Option<Room> {
        let room = Arc::clone(&self.room);
        room.try_acquire_many_owned(room_bytes(bytes)).ok()
    }

    /// Hands a record over. The waiter's mailbox is told when it is durable.
    pub(crate) fn append(&self, append: Append, room: Room) {
        self.send(Operation::Append(append, room));
    }

    /// Hands over changes of the node's own rows. Those with a waiter ask for a commit; the others
    /// ride with the next.
    pub(crate) fn store(&self, rows: Vec<RowEntry>, waiter: Option<Waiter>) {
        self.store_retained(rows, waiter, None, None);
    }

    /// The same, where a retained message's row is among them.
    pub(crate) fn store_retained(
        &self,
        rows: Vec<RowEntry>,
        waiter: Option<Waiter>,
        retained: Option<OnItsWay>,
        room: Option<Room>,
    ) {
        let when = match waiter {
            Some(_) => RowCommit::Awaited,
            None => RowCommit::Rides,
        };
        self.send(Operation::Rows {
            rows,
            when,
            waiter,
            retained,
            _room: room,
        });
    }

    /// The oldest position that a client session still reads.
    pub(crate) fn needed_from(&self, position: Position) {
        self.send(Operation::NeededFrom(position));
    }

    /// Follows the position after everything durable.
    pub(crate) fn durable(&self) -> watch::Receiver<Position> {
        self.durable.clone()
    }

    /// Stores what Welcome said; returns once it is durable, or false.
    pub(crate) async fn store_session(
        &self,
        cluster: ClusterIncarnation,
        session_epoch: SessionEpoch,
    ) -> bool {
        let (done, stored) = oneshot::channel();
        self.send(Operation::StoreSession(cluster, session_epoch, done));
        stored.await.is_ok()
    }

    /// Stores a granted incarnation; returns once it is durable, or false.
    pub(crate) async fn store_grant(&self, stream: StreamId, incarnation: Incarnation) -> bool {
        let (done, stored) = oneshot::channel();
        self.send(Operation::StoreGrant(stream, incarnation, done));
        stored.await.is_ok()
    }

    pub(crate) fn landed(&self, landings: Vec<Landing>) {
        self.send(Operation::Landed(landings));
    }

    /// Has the journal look at what cannot be read at `from`, and declare it lost if that is so.
    /// Blocks; returns whether it is declared.
    pub(crate) fn declare_damage(&self, stream: StreamId, from: EdgeOffset) -> bool {
        let (done, declared) = oneshot::channel();
        self.send(Operation::Damaged(stream, from, done));
        declared.blocking_recv().unwrap_or(false)
    }

    /// After a failure nothing is taken, and nobody is answered: the node is about to end.
    fn send(&self, operation: Operation) {
        let _ = self.operations.send(operation);
    }

    pub(crate) fn reader(&self) -> &JournalReader {
        &self.reader
    }

    pub(crate) fn keyed(&self) -> &KeyedStreams {
        &self.keyed
    }

    /// The cloud said how many partitions there are for a lane's messages.
    pub(crate) fn partitions(&self, stream: StreamId, partitions: u32) {
        self.send(Operation::Partitions(stream, partitions));
    }

    pub(crate) fn grown(&self) -> &Grown {
        &self.shared.grown
    }

    pub(crate) fn stats(&self) -> JournalStats {
        *self.shared.stats.lock().expect("nobody panics with it")
    }

    /// What the log files take, spares included.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.stats().log_files as u64 * Limits::default().log_file_bytes as u64
    }

    /// Publishes that were refused since the journal is full.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Returns when the journal has failed, with the reason.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the committer has ended".to_owned(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.failure.has_changed().is_ok() && self.failure.borrow().is_none()
    }

    /// Commits what is queued, checkpoints, and ends.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        self.send(Operation::Stop(done));
        let _ = stopped.await;
    }
}

/// Those who are told when the commit under way is durable.
#[derive(Debug, Default)]
struct Waiting {
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
    since: Option<Instant>,
}

/// The thread's own.
struct Worker {
    journal: Journal,
    keyed: KeyedStreams,
    has_lanes: bool,
    linger: Duration,
    /// When something was staged last.
    staged_at: Instant,
    unrouted: StreamId,
    shared: Arc<Shared>,
    durable_until: watch::Sender<Position>,
    operations: mpsc::Sender<Operation>,
    checkpoints: mpsc::Sender<CheckpointJob>,
    checkpoints_done: mpsc::Receiver<CheckpointDone>,
    waiting: Waiting,
    checkpoint_at: Instant,
    opened_at: Instant,
    /// Something was committed since the last checkpoint.
    changed: bool,
}

impl Worker {
    fn run(mut self, queue: &mpsc::Receiver<Operation>) -> Result<(), CommitError> {
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
                for row in rows {
                    self.journal.stage_row(row, when)?;
                    if self.journal.staged_is_full() {
                        self.commit_now()?;
                    }
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
            Operation::Stop(_) => return Ok(()),
        }
        if self.journal.wants_commit() {
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

/// Milliseconds since the Unix epoch, as the system says.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

type Checkpointer = (mpsc::Sender<CheckpointJob>, mpsc::Receiver<CheckpointDone>);

/// The thread that writes checkpoints while commits go on. It ends with the worker.
fn start_checkpointer() -> std::io::Result<Checkpointer> {
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

#[cfg(test)]
mod tests;
