//! An edge node: the real journal on a medium that fails, and the real sender, with the uplink's
//! driver around it, step by step instead of by time.

mod acting;
mod lanes;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_bridge_protocol::keyed::Keyed;
use tidegate_bridge_protocol::limits::SenderLimits;
use tidegate_bridge_protocol::sender::{LocalStream, Sender};
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::FaultyMedium;
use tidegate_edge_journal::{
    CommitError, Journal, Overflow, Retention, StreamPolicy, StreamStatus, Tick,
};
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, Incarnation, SessionEpoch, StoreId, StreamId, StreamName, TopicName,
};
use tidegate_shared::record::{Compression, Record};

use super::truth::History;
use crate::{Stop, violated};
use acting::Done;
pub use acting::Report;
pub use lanes::{Growth, KEYED, LANES_FIRST, key_of};

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

/// Of streams that are not keyed: name, topic, and what becomes of it when the journal is full.
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

/// One node, and the history that its journal holds.
#[derive(Debug)]
pub struct Node {
    pub edge: EdgeId,
    pub medium: FaultyMedium,
    pub journal: Option<Journal>,
    pub sender: Sender,
    pub streams: BTreeMap<StreamId, StreamName>,
    /// The lanes of its keyed stream; there while the journal is open.
    pub keyed: Option<Keyed>,
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
    /// The journal has what the sender was not told of.
    is_untold: bool,
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
            keyed: None,
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
            is_untold: false,
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
        // Before anything is committed: rows are read as the opening's checkpoint left them.
        let stored = lanes::load(&journal)?;
        for (name, topic, overflow) in STREAMS {
            open_stream(&mut journal, &stream_name(name), topic, overflow);
        }
        let mut keyed = self.open_keyed(&mut journal, stored.as_ref());
        settled(journal.commit())?;
        lanes::start(&mut keyed, &mut journal, stored.as_ref());
        settled(journal.commit())?;
        self.opened_at_ms = now_ms;
        self.keyed = Some(keyed);
        self.journal = Some(journal);
        self.begin_sending()
    }

    /// The sender of a node that starts, and what its journal says.
    fn begin_sending(&mut self) -> Result<(), Stop> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let reader = journal.reader();
        let (cluster, epoch) = reader.session();
        self.sender = Sender::new(sender_limits(), reader.store_id(), cluster, epoch);
        self.session = epoch;
        self.streams.clear();
        self.incarnations.clear();
        self.awaited.clear();
        self.done.clear();
        let staged = std::mem::take(&mut self.staged);
        for status in reader.streams() {
            let (stream, name) = (status.stream, status.name.clone());
            self.history.reopened(&name, status.next, &staged)?;
            self.incarnations.insert(stream, status.incarnation);
            self.streams.insert(stream, name);
        }
        self.tell_streams();
        Ok(())
    }

    pub fn publish(&mut self, stream: usize, payload: u64, bytes: usize) {
        let (name, _, _) = STREAMS[stream];
        let name = stream_name(name);
        let id = self.streams.iter().find(|(_, known)| **known == name);
        if let Some(id) = id.map(|(id, _)| *id) {
            self.append(id, name, None, payload, bytes);
        }
    }

    fn append(
        &mut self,
        id: StreamId,
        name: StreamName,
        key: Option<[u8; 1]>,
        payload: u64,
        bytes: usize,
    ) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let mut value = payload.to_le_bytes().to_vec();
        value.resize(8 + bytes, 0x55);
        let record = Record {
            key: key.map(|key| key.to_vec().into()),
            value: Some(value.into()),
            ..Record::default()
        };
        journal.append(id, &record).expect("a small record");
        self.staged.push((name, payload));
    }

    pub fn wants_commit(&self) -> bool {
        !self.staged.is_empty() || !self.awaited.is_empty()
    }

    /// Commits what has gathered; only then is anything acknowledged, or used. Whether the journal
    /// goes on.
    pub fn commit(&mut self) -> bool {
        let Some(journal) = &mut self.journal else {
            return true;
        };
        match journal.commit() {
            Ok(_) => self.tell_durable(),
            Err(CommitError::Full) => {
                self.refused += self.staged.len() as u64;
                self.staged.clear();
            }
            Err(_) => return false,
        }
        true
    }

    /// What was staged is durable.
    fn tell_durable(&mut self) {
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
        self.is_untold = true;
    }

    pub fn is_untold(&self) -> bool {
        self.is_untold
    }

    /// Tells the sender what the journal has; holds come before what they hold.
    pub fn tell_streams(&mut self) {
        let Some(journal) = &self.journal else {
            return;
        };
        self.is_untold = false;
        let reader = journal.reader();
        for stream in self.streams.keys() {
            if let Some(status) = reader.stream(*stream) {
                let hold = self.hold(*stream);
                self.sender.handle_hold(*stream, hold);
                self.sender.handle_stream(local(status));
                self.sender.handle_hold(*stream, hold);
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

    /// Every stream as the journal has it.
    pub fn statuses(&self) -> Vec<StreamStatus> {
        let reader = self.journal.as_ref().map(Journal::reader);
        let statuses = reader.map(|reader| reader.streams());
        statuses.unwrap_or_default()
    }

    /// Everything has landed, and no more lanes are wanted.
    pub fn has_landed_all(&self) -> bool {
        let landed = |status: &StreamStatus| status.landed == status.next;
        let is_done = self.sender.is_at_rest() && !self.is_untold && !self.wants_lanes();
        is_done && self.statuses().iter().all(landed)
    }
}

fn stream_name(name: &str) -> StreamName {
    StreamName::new(name).expect("a name")
}

/// Opens a stream; it is durable with the next commit.
fn open_stream(
    journal: &mut Journal,
    name: &StreamName,
    topic: &str,
    overflow: Overflow,
) -> StreamId {
    let topic = TopicName::new(topic).expect("a name");
    let stream = journal.open_stream(name, &topic, Compression::None);
    let stream = stream.expect("a few streams");
    let retention = Retention {
        age_ms: Some(AGE_MAX_MS),
        ..Retention::default()
    };
    let policy = StreamPolicy {
        retention,
        overflow,
    };
    journal.set_policy(stream, policy);
    stream
}

/// What finds no space while the journal opens is staged still.
fn settled<T>(committed: Result<T, CommitError>) -> Result<(), Stop> {
    match committed {
        Ok(_) | Err(CommitError::Full) => Ok(()),
        Err(error) => violated("the journal opens", error.to_string()),
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
        priority: 0,
    }
}
