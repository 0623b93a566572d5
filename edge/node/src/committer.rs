//! The one committer: a thread that owns the journal. Everybody hands it operations; it commits what
//! has gathered when the linger is over or the commit is full, and then wakes all waiters.

mod worker;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::{Journal, JournalReader, JournalStats, RowCommit, RowEntry};
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, Position, SessionEpoch, StreamId,
};
use tidegate_shared::record::Record;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use worker::{Waiting, Worker, start_checkpointer};

use crate::lanes::KeyedStreams;
use crate::limits::{CHECKPOINT_INTERVAL, COMMIT_QUEUE_BYTES_MAX};
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
pub(crate) struct Gate(Arc<Mailbox>);

impl Gate {
    /// The client's, which is in its connection's mailbox.
    pub(crate) fn of(mailbox: &Arc<Mailbox>) -> Self {
        Self(Arc::clone(mailbox))
    }

    fn close(&self) {
        self.0.close_gate();
    }

    fn is_closed(&self) -> bool {
        self.0.has_closed_gate()
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
    /// It is for every client, or for one.
    pub is_addressed: bool,
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
    /// Answered when it is this one's turn: what came before it is taken, and no write is stuck.
    Answer(oneshot::Sender<()>),
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
    /// Behind the last message that is for every client or for one. What an earlier start wrote may be some.
    addressed_until: AtomicU64,
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
        let reader = journal.reader();
        let shared = Arc::new(Shared {
            addressed_until: AtomicU64::new(reader.next_position().0),
            ..Shared::default()
        });
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

    /// Nothing that is for every client or for one lies from there to what was durable before it was asked.
    pub(crate) fn addressed_until(&self) -> Position {
        Position(self.shared.addressed_until.load(Ordering::Acquire))
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

    /// Returns true once the committer has taken all that was queued before: it turns, and no write or sync
    /// is stuck. False where it has ended.
    pub(crate) async fn answers(&self) -> bool {
        let (done, answered) = oneshot::channel();
        self.send(Operation::Answer(done));
        answered.await.is_ok()
    }

    /// Commits what is queued, checkpoints, and ends.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        self.send(Operation::Stop(done));
        let _ = stopped.await;
    }
}

/// Milliseconds since the Unix epoch, as the system says.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests;
