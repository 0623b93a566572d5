//! The journal in the hands of its committer: what is staged, who waits for it, and the checkpoint
//! that is under way. It follows the rules of the node's committer, step by step instead of by time.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::{
    CheckpointDone, CheckpointJob, CommitError, Journal, JournalReader, OpenReport, RowCommit,
    RowEntry, Tick,
};
use tidegate_edge_protocol::mqtt::codec::PacketId;
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, DeliveryToken, PublishRefused, PublishToken, ReleaseToken, SubscribeToken,
};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tidegate_shared::id::{EdgeOffset, Position, StoreId, StreamId, StreamName, TopicName};
use tidegate_shared::record::{Compression, Record};

use super::LinkId;
use crate::medium::SimulatedMedium;
use crate::power::{CrashPoint, Power};
use crate::rule::Rule;
use crate::{Stop, violated};

/// Small, so that rolls, checkpoints and recycling come often.
pub const LIMITS: Limits = Limits {
    log_file_bytes: 64 << 10,
    commit_bytes_max: 8 << 10,
    record_bytes_max: 4 << 10,
    checkpoint_log_bytes_max: 128 << 10,
    log_files_max: 1_024,
    free_disk_min_bytes: 0,
    reserve_bytes: 0,
};

const STORE: StoreId = StoreId(42);

/// First levels that have a stream each. What has another goes to the last stream, if anybody reads
/// it, and nothing of that waits to land.
pub const ROUTES: [(&str, Compression); 3] = [
    ("plant", Compression::Zstd),
    ("ship", Compression::None),
    ("well", Compression::Lz4),
];
const UNROUTED: &str = "unrouted";

/// Publishes are refused where the journal is full.
pub type Outcome = Result<(), PublishRefused>;

/// What a connection says once a commit is durable.
#[derive(Clone, Debug)]
pub enum Answer {
    Puback(PublishToken, Outcome),
    /// With the identifier, which is free again if the message is refused.
    Pubrec(PublishToken, PacketId, Outcome),
    Released(ReleaseToken),
    Assigned(DeliveryToken),
    Received(DeliveryToken),
    Subscribed(SubscribeToken, Vec<ReasonCode>),
    Unsubscribed(SubscribeToken, Vec<ReasonCode>),
    Accepted(Box<Accepted>),
}

impl Answer {
    fn refused(self) -> Self {
        let refused = Err(PublishRefused::QuotaExceeded);
        match self {
            Self::Puback(token, _) => Self::Puback(token, refused),
            Self::Pubrec(token, packet_id, _) => Self::Pubrec(token, packet_id, refused),
            other => other,
        }
    }
}

pub type Waiter = (LinkId, Answer);

#[derive(Debug)]
enum Checkpoint {
    Begun(CheckpointJob),
    Written(CheckpointDone),
}

#[derive(Debug)]
pub struct Store {
    journal: Journal,
    power: Power,
    ignores_needed_from: bool,
    publishes: Vec<Waiter>,
    rows: Vec<Waiter>,
    checkpoint: Option<Checkpoint>,
    routes: Vec<StreamId>,
    unrouted: StreamId,
    /// What was said to be durable, and what to have landed: this and nothing else may be missing.
    ends: BTreeMap<StreamId, EdgeOffset>,
    landed: BTreeMap<StreamId, EdgeOffset>,
    /// Publishes, since the journal was full.
    refused: u64,
}

impl Store {
    pub fn open(
        medium: &SimulatedMedium,
        power: &Power,
        broken: Option<Rule>,
        log_files_max: usize,
    ) -> Result<(Self, OpenReport), Stop> {
        power.set_opening(true);
        let limits = Limits {
            log_files_max,
            ..LIMITS
        };
        let opened = Journal::open(Arc::new(medium.clone()), limits, STORE);
        power.set_opening(false);
        let (mut journal, report) = match opened {
            Ok(opened) => opened,
            Err(_) if power.is_gone() => return Err(Stop::PowerGone),
            Err(error) => return violated("the journal opens", error.to_string()),
        };
        if broken == Some(Rule::RecycleBeforeCheckpoint) {
            journal.recycle_before_checkpoint();
        }
        let routes = ROUTES
            .iter()
            .map(|(name, compression)| open_stream(&mut journal, name, *compression));
        let routes = routes.collect();
        let unrouted = open_stream(&mut journal, UNROUTED, Compression::None);
        let store = Self {
            journal,
            power: power.clone(),
            ignores_needed_from: broken == Some(Rule::NeededFrom),
            publishes: Vec::new(),
            rows: Vec::new(),
            checkpoint: None,
            routes,
            unrouted,
            ends: BTreeMap::new(),
            landed: BTreeMap::new(),
            refused: 0,
        };
        Ok((store, report))
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub fn reader(&self) -> JournalReader {
        self.journal.reader()
    }

    pub fn ends(&self) -> &BTreeMap<StreamId, EdgeOffset> {
        &self.ends
    }

    pub fn landed(&self) -> &BTreeMap<StreamId, EdgeOffset> {
        &self.landed
    }

    pub fn refused(&self) -> u64 {
        self.refused
    }

    pub fn route(&self, topic: &str) -> Option<StreamId> {
        let first = topic.split('/').next();
        let at = ROUTES.iter().position(|(name, _)| Some(*name) == first)?;
        self.routes.get(at).copied()
    }

    pub fn unrouted(&self) -> StreamId {
        self.unrouted
    }

    /// Rows that are refused with the record, were the journal full.
    pub fn append(
        &mut self,
        stream: StreamId,
        record: &Record,
        mark: u8,
        rows: Vec<RowEntry>,
        waiter: Option<Waiter>,
    ) -> Result<(), Stop> {
        if let Err(error) = self.journal.append_marked(stream, record, mark) {
            return violated("a small record is taken", error.to_string());
        }
        for row in rows {
            self.journal
                .stage_row(row, RowCommit::WithRecords)
                .expect("a small row");
        }
        self.publishes.extend(waiter);
        Ok(())
    }

    /// Rows that somebody waits for ask for a commit; the others ride with the next.
    pub fn store(&mut self, rows: Vec<RowEntry>, waiter: Option<Waiter>) {
        let when = match waiter {
            Some(_) => RowCommit::Awaited,
            None => RowCommit::Rides,
        };
        for row in rows {
            self.journal.stage_row(row, when).expect("a small row");
        }
        self.rows.extend(waiter);
    }

    pub fn set_needed_from(&mut self, position: Position) {
        if !self.ignores_needed_from {
            self.journal.set_needed_from(position);
        }
    }

    pub fn tick(&mut self, monotonic_ms_since_open: u64) {
        self.journal.tick(Tick {
            monotonic_ms_since_open,
            wall_ms: 1_800_000_000_000,
        });
    }

    pub fn must_commit(&self) -> bool {
        self.journal.staged_is_full()
    }

    /// Commits if anybody waits for it, and gives those who are to be told.
    pub fn commit(&mut self) -> Result<Vec<Waiter>, Stop> {
        match self.journal.wants_commit() {
            true => self.commit_now(),
            false => Ok(Vec::new()),
        }
    }

    fn commit_now(&mut self) -> Result<Vec<Waiter>, Stop> {
        while self.journal.checkpoint_is_overdue() && self.checkpoint.is_some() {
            self.go_on_with_checkpoint()?;
        }
        let is_taken = self.try_commit()?;
        let mut waiters = std::mem::take(&mut self.publishes);
        if !is_taken {
            self.refused += waiters.len() as u64;
            let refused = waiters.into_iter();
            waiters = refused.map(|(id, answer)| (id, answer.refused())).collect();
        }
        // What frees space must not fail with the records that it came with.
        if is_taken || self.try_commit()? {
            waiters.append(&mut self.rows);
        }
        if !waiters.is_empty() && self.power.reach(CrashPoint::SyncBeforeAnswer) {
            return Err(Stop::PowerGone);
        }
        self.note_durable();
        Ok(waiters)
    }

    /// False where there is no space.
    fn try_commit(&mut self) -> Result<bool, Stop> {
        match self.journal.commit() {
            Ok(_) => Ok(true),
            Err(CommitError::Full) if !self.power.is_gone() => Ok(false),
            Err(error) => self.failed(error.to_string()),
        }
    }

    fn note_durable(&mut self) {
        for status in self.reader().streams() {
            self.ends.insert(status.stream, status.next);
            if status.stream == self.unrouted && status.next > status.landed {
                self.land(status.stream, status.next, status.hash);
            }
        }
    }

    /// The cloud has taken a chunk or two.
    pub fn land_some(&mut self, at: usize, bytes_max: usize) -> Result<(), Stop> {
        let Some(stream) = self.routes.get(at).copied() else {
            return Ok(());
        };
        let reader = self.reader();
        let Some(status) = reader.stream(stream) else {
            return Ok(());
        };
        match reader.read(stream, status.landed, bytes_max) {
            Ok(chunks) => {
                if let Some(chunk) = chunks.last() {
                    self.land(stream, chunk.end(), chunk.hash_after);
                }
                Ok(())
            }
            Err(error) => violated("what has not landed can be read", error.to_string()),
        }
    }

    fn land(&mut self, stream: StreamId, to: EdgeOffset, hash: tidegate_shared::id::BoundaryHash) {
        self.journal.advance_landed(stream, to, hash);
        self.landed.insert(stream, to);
    }

    /// Begins a checkpoint, or takes the one that is under way a step further.
    pub fn checkpoint(&mut self) -> Result<Vec<Waiter>, Stop> {
        if self.checkpoint.is_some() {
            self.go_on_with_checkpoint()?;
            return Ok(Vec::new());
        }
        if let Err(error) = self.journal.retain() {
            return self.failed(error.to_string());
        }
        let waiters = match self.journal.has_riders() {
            true => self.commit_now()?,
            false => Vec::new(),
        };
        if self.checkpoint.is_none() {
            self.checkpoint = self.journal.begin_checkpoint().map(Checkpoint::Begun);
        }
        Ok(waiters)
    }

    fn go_on_with_checkpoint(&mut self) -> Result<(), Stop> {
        match self.checkpoint.take() {
            None => Ok(()),
            Some(Checkpoint::Begun(job)) => {
                if self.power.reach(CrashPoint::CheckpointBeforeRedb) {
                    return Err(Stop::PowerGone);
                }
                let done = job.run();
                if self.power.is_gone() {
                    return Err(Stop::PowerGone);
                }
                self.checkpoint = Some(Checkpoint::Written(done));
                Ok(())
            }
            Some(Checkpoint::Written(done)) => {
                if self.power.reach(CrashPoint::RedbCommitBeforeRecycle) {
                    return Err(Stop::PowerGone);
                }
                match self.journal.finish_checkpoint(done) {
                    Ok(()) => Ok(()),
                    Err(error) => self.failed(error.to_string()),
                }
            }
        }
    }

    fn failed<T>(&self, error: String) -> Result<T, Stop> {
        match self.power.is_gone() {
            true => Err(Stop::PowerGone),
            false => violated("the journal works while the medium does", error),
        }
    }
}

fn open_stream(journal: &mut Journal, name: &str, compression: Compression) -> StreamId {
    let name = StreamName::new(name).expect("it is a valid name");
    let topic = TopicName::new("telemetry").expect("it is a valid name");
    let stream = journal.open_stream(&name, &topic, compression);
    stream.expect("there are few streams")
}
