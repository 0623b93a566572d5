//! An edge node: the real journal on a medium that fails, and the real sender, with the uplink's
//! driver around it, step by step instead of by time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::limits::SenderLimits;
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_bridge_protocol::sender::{
    Alarm, LocalStream, ReadOutcome, ReadRequest, SealedBatch, SealedGap, Sender, SenderEvent,
    StreamRead,
};
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::FaultyMedium;
use tidegate_edge_journal::{
    CommitError, Journal, Overflow, Retention, Sealed, StreamPolicy, StreamStatus, Tick, ToSend,
    merge,
};
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, SessionEpoch, StoreId,
    StreamId, StreamName, TopicName,
};
use tidegate_shared::record::{Compression, Record};

use super::truth::History;
use crate::random::Random;
use crate::{Stop, violated};

/// Small, so that files roll, fill and are used again.
pub const LIMITS: Limits = Limits {
    log_file_bytes: 64 << 10,
    commit_bytes_max: 8 << 10,
    record_bytes_max: 4 << 10,
    checkpoint_log_bytes_max: 128 << 10,
    log_files_max: 12,
    free_disk_min_bytes: 0,
    reserve_bytes: 0,
};

pub fn sender_limits() -> SenderLimits {
    SenderLimits {
        window_bytes_max: 64 << 10,
        batch_bytes_max: 16 << 10,
        ..SenderLimits::default()
    }
}

/// Nothing becomes so old while the node runs; by a clock that is set from 1970 to now, all does.
const AGE_MAX_MS: u64 = 20 * 365 * 24 * 3_600_000;

/// A stream's name, its topic, and what becomes of it when the journal is full.
pub const STREAMS: [(&str, &str, Overflow); 3] = [
    ("telemetry", "telemetry", Overflow::Reject),
    ("logs", "logs", Overflow::DropOldest),
    ("alarms", "telemetry", Overflow::Reject),
];

/// What is durable after the next commit, and then told to the sender.
#[derive(Debug)]
enum Awaited {
    Session(SessionEpoch),
    Grant(StreamId, Incarnation),
}

/// An answer of the journal on its way to the sender.
#[derive(Debug)]
enum Done {
    Read(Vec<StreamRead>),
    Proof(StreamId, EdgeOffset, Option<BoundaryHash>),
}

/// What the world has to know of what a node did.
#[derive(Debug)]
pub enum Report {
    /// The sender was told that the cloud has all below.
    Landed(
        StreamName,
        Incarnation,
        EdgeOffset,
        Vec<tidegate_bridge_protocol::fact::Fact>,
    ),
    Alarm(Alarm),
    Close(CloseCode),
}

/// One node, and the history that its journal holds.
#[derive(Debug)]
pub struct Node {
    pub edge: EdgeId,
    pub medium: FaultyMedium,
    pub journal: Option<Journal>,
    pub sender: Sender,
    pub streams: BTreeMap<StreamId, StreamName>,
    pub history: History,
    pub link: Option<u64>,
    pub next_connect_ms: u64,
    /// The cable is out until then.
    pub offline_until_ms: u64,
    pub opened_at_ms: u64,
    pub wall_shift_ms: i64,
    pub is_removed: bool,
    staged: Vec<(StreamName, u64)>,
    awaited: Vec<Awaited>,
    /// What is durable: only under these may anything be sent.
    session: SessionEpoch,
    incarnations: BTreeMap<StreamId, Incarnation>,
    /// Of each stream's topic, as the sender says.
    pub partitions: BTreeMap<StreamId, u32>,
    done: Vec<Done>,
    pub refused: u64,
    recycles_early: bool,
}

impl Node {
    pub fn new(edge: EdgeId, medium: FaultyMedium, history: History, recycles_early: bool) -> Self {
        Self {
            edge,
            medium,
            journal: None,
            sender: Sender::new(
                sender_limits(),
                StoreId(0),
                ClusterIncarnation::default(),
                SessionEpoch(0),
            ),
            streams: BTreeMap::new(),
            history,
            link: None,
            next_connect_ms: 0,
            offline_until_ms: 0,
            opened_at_ms: 0,
            wall_shift_ms: 0,
            is_removed: false,
            staged: Vec::new(),
            awaited: Vec::new(),
            session: SessionEpoch(0),
            incarnations: BTreeMap::new(),
            partitions: BTreeMap::new(),
            done: Vec::new(),
            refused: 0,
            recycles_early,
        }
    }

    /// Opens the journal, and checks that all that was acknowledged is there.
    pub fn open(&mut self, now_ms: u64, new_store: StoreId) -> Result<(), Stop> {
        self.journal = None;
        let opened = Journal::open(Arc::new(self.medium.clone()), LIMITS, new_store);
        let (mut journal, _) = match opened {
            Ok(opened) => opened,
            Err(error) => return violated("the journal opens", error.to_string()),
        };
        if self.recycles_early {
            journal.recycle_before_checkpoint();
        }
        self.streams.clear();
        for (name, topic, overflow) in STREAMS {
            let name = StreamName::new(name).expect("a name");
            let topic = TopicName::new(topic).expect("a name");
            let stream = journal.open_stream(&name, &topic, Compression::None);
            let stream = stream.expect("a few streams");
            let retention = Retention {
                age_ms: Some(AGE_MAX_MS),
                ..Retention::default()
            };
            journal.set_policy(
                stream,
                StreamPolicy {
                    retention,
                    overflow,
                },
            );
            self.streams.insert(stream, name);
        }
        self.opened_at_ms = now_ms;
        if let Err(error) = journal.commit()
            && !matches!(error, CommitError::Full)
        {
            return violated("the journal opens", error.to_string());
        }
        let reader = journal.reader();
        let (cluster, epoch) = reader.session();
        self.sender = Sender::new(sender_limits(), reader.store_id(), cluster, epoch);
        self.session = epoch;
        self.incarnations.clear();
        self.awaited.clear();
        self.done.clear();
        let staged = std::mem::take(&mut self.staged);
        for (stream, name) in &self.streams {
            if let Some(status) = reader.stream(*stream) {
                self.history.reopened(name, status.next, &staged)?;
                self.incarnations.insert(*stream, status.incarnation);
                self.sender.handle_stream(local(status));
            }
        }
        self.journal = Some(journal);
        Ok(())
    }

    pub fn publish(&mut self, stream: usize, payload: u64, bytes: usize) {
        let (name, _, _) = STREAMS[stream];
        let name = StreamName::new(name).expect("a name");
        let id = self.streams.iter().find(|(_, known)| **known == name);
        let (Some(journal), Some((id, _))) = (&mut self.journal, id) else {
            return;
        };
        let mut value = payload.to_le_bytes().to_vec();
        value.resize(8 + bytes, 0x55);
        let record = Record {
            value: Some(value.into()),
            ..Record::default()
        };
        journal.append(*id, &record).expect("a small record");
        self.staged.push((name, payload));
    }

    pub fn wants_commit(&self) -> bool {
        !self.staged.is_empty() || !self.awaited.is_empty()
    }

    /// Commits what has gathered; only then is anything acknowledged, or used. Whether the journal
    /// goes on.
    pub fn commit(&mut self, now: Instant) -> Result<bool, Stop> {
        let Some(journal) = &mut self.journal else {
            return Ok(true);
        };
        match journal.commit() {
            Ok(_) => {}
            Err(CommitError::Full) => {
                self.refused += self.staged.len() as u64;
                self.staged.clear();
                return Ok(true);
            }
            Err(_) => return Ok(false),
        }
        for (stream, payload) in self.staged.drain(..) {
            self.history.acknowledged(&stream, payload);
        }
        for awaited in std::mem::take(&mut self.awaited) {
            match awaited {
                Awaited::Session(epoch) => {
                    self.session = epoch;
                    self.sender.handle_session_stored(epoch);
                }
                Awaited::Grant(stream, incarnation) => {
                    self.incarnations.insert(stream, incarnation);
                    self.sender.handle_grant_stored(stream, incarnation);
                }
            }
        }
        let _ = now;
        self.tell_streams();
        Ok(true)
    }

    /// Tells the sender what the journal has.
    pub fn tell_streams(&mut self) {
        let Some(journal) = &self.journal else {
            return;
        };
        let reader = journal.reader();
        for stream in self.streams.keys() {
            if let Some(status) = reader.stream(*stream) {
                self.sender.handle_stream(local(status));
            }
        }
    }

    /// The journal's housekeeping. Whether it goes on.
    pub fn keep_house(&mut self, now_ms: u64, checkpoint: bool) -> bool {
        let monotonic_ms = now_ms.saturating_sub(self.opened_at_ms);
        let wall_ms = 1_700_000_000_000 + now_ms as i64 + self.wall_shift_ms;
        let Some(journal) = &mut self.journal else {
            return true;
        };
        journal.tick(Tick {
            monotonic_ms_since_open: monotonic_ms,
            wall_ms,
        });
        let kept = journal.retain();
        let checkpointed = match checkpoint {
            true => journal.checkpoint(),
            false => Ok(()),
        };
        let goes_on =
            |result: Result<(), CommitError>| matches!(result, Ok(()) | Err(CommitError::Full));
        goes_on(kept) && goes_on(checkpointed)
    }

    /// Does what the sender asks for.
    pub fn act(&mut self, reports: &mut Vec<Report>) {
        while let Some(event) = self.sender.poll_event() {
            let Some(journal) = &mut self.journal else {
                continue;
            };
            match event {
                SenderEvent::StoreSession {
                    cluster_incarnation,
                    session_epoch,
                } => {
                    journal.see_session(cluster_incarnation, session_epoch);
                    self.awaited.push(Awaited::Session(session_epoch));
                }
                SenderEvent::StoreGrant {
                    stream,
                    incarnation,
                } => {
                    journal.grant(stream, incarnation);
                    self.awaited.push(Awaited::Grant(stream, incarnation));
                }
                SenderEvent::Prove { stream, offset } => {
                    let hash = journal.reader().hash_at(stream, offset).ok().flatten();
                    self.done.push(Done::Proof(stream, offset, hash));
                }
                SenderEvent::Read { streams, bytes_max } => {
                    let reads = read(journal, streams, bytes_max);
                    self.done.push(Done::Read(reads));
                }
                SenderEvent::Landed {
                    stream,
                    landed,
                    hash,
                    facts,
                } => {
                    journal.advance_landed(stream, landed, hash);
                    let incarnation = journal
                        .reader()
                        .stream(stream)
                        .map_or(Incarnation(0), |status| status.incarnation);
                    let name = self.streams[&stream].clone();
                    reports.push(Report::Landed(name, incarnation, landed, facts));
                }
                SenderEvent::Partitions { stream, partitions } => {
                    self.partitions.insert(stream, partitions);
                }
                SenderEvent::Alarm(alarm) => reports.push(Report::Alarm(alarm)),
                SenderEvent::Close(code) => {
                    // As in the edge's own driver: the rest is for the next connection.
                    reports.push(Report::Close(code));
                    return;
                }
            }
        }
    }

    /// Hands one answer of the journal to the sender, not always the oldest.
    pub fn finish_one(&mut self, now: Instant, random: &mut Random) {
        if self.done.is_empty() {
            return;
        }
        let at = random.below(self.done.len() as u64) as usize;
        match self.done.remove(at) {
            Done::Read(reads) => self.sender.handle_read(now, reads),
            Done::Proof(stream, offset, hash) => self.sender.handle_proof(stream, offset, hash),
        }
    }

    /// Proofs that are under way are of no use any more.
    pub fn forget_answers(&mut self) {
        self.done.retain(|done| matches!(done, Done::Read(_)));
    }

    /// Takes a frame that the sender has for a link.
    pub fn poll_transmit(&mut self) -> Result<Option<Frame>, Stop> {
        let frame = self.sender.poll_transmit();
        let (stream, offer) = match &frame {
            Some(Frame::Batch(batch)) => (batch.stream, batch.offer),
            Some(Frame::Gap(gap)) => (gap.stream, gap.offer),
            _ => return Ok(frame),
        };
        let incarnation = self.incarnations.get(&stream).copied();
        if (offer.session_epoch, Some(offer.incarnation)) != (self.session, incarnation) {
            let what = format!("stream {stream}: {offer:?}, committed is {incarnation:?}");
            return violated("what is granted is committed before it is used", what);
        }
        Ok(frame)
    }

    /// Every stream as the journal has it.
    pub fn statuses(&self) -> Vec<StreamStatus> {
        let reader = self.journal.as_ref().map(Journal::reader);
        let statuses = reader.map(|reader| reader.streams());
        statuses.unwrap_or_default()
    }

    pub fn has_landed_all(&self) -> bool {
        let landed = |status: &StreamStatus| status.landed == status.next;
        self.sender.is_at_rest() && self.statuses().iter().all(landed)
    }
}

fn read(journal: &mut Journal, streams: Vec<ReadRequest>, bytes_max: usize) -> Vec<StreamRead> {
    let mut room = bytes_max;
    let mut reads = Vec::new();
    for request in streams {
        let outcome = match room {
            0 => ReadOutcome::NoRoom,
            _ => read_stream(journal, request, room),
        };
        if let ReadOutcome::Batches(batches) = &outcome {
            let bytes: usize = batches.iter().map(|batch| batch.batch.len()).sum();
            room = room.saturating_sub(bytes);
        }
        reads.push(StreamRead {
            stream: request.stream,
            from: request.from,
            outcome,
        });
    }
    reads
}

fn read_stream(journal: &mut Journal, request: ReadRequest, bytes_max: usize) -> ReadOutcome {
    let (stream, from) = (request.stream, request.from);
    match journal.reader().read_to_send(stream, from, bytes_max) {
        Ok(ToSend::Gap(gap)) => ReadOutcome::Gap(SealedGap {
            base_offset: gap.from,
            count: gap.records(),
            hash_before: gap.hash_before,
            hash_after: gap.hash_after,
            reason: gap.reason,
        }),
        Ok(ToSend::Gone { first }) => ReadOutcome::Gone { first },
        Ok(ToSend::Later) => ReadOutcome::NoRoom,
        Ok(ToSend::Chunks(chunks)) => match merge(chunks, Compression::None) {
            Ok(batches) if !batches.is_empty() => {
                ReadOutcome::Batches(batches.into_iter().map(seal).collect())
            }
            _ => ReadOutcome::Failed,
        },
        Err(_) => match journal.declare_damage(stream, from) {
            Ok(Some(_)) => ReadOutcome::NoRoom,
            _ => ReadOutcome::Failed,
        },
    }
}

fn seal(sealed: Sealed) -> SealedBatch {
    SealedBatch {
        base_offset: sealed.base_offset,
        count: sealed.count,
        hash_before: sealed.hash_before,
        hash_after: sealed.hash_after,
        batch: sealed.batch,
    }
}

fn local(status: StreamStatus) -> LocalStream {
    LocalStream {
        stream: status.stream,
        name: status.name,
        topic: status.topic,
        incarnation: status.incarnation,
        first: status.first,
        next: status.next,
        landed: status.landed,
        landed_hash: status.landed_hash,
        landed_life: status.landed_life,
    }
}
