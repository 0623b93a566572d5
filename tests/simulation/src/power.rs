//! When the power goes: at a named point that was armed, the so-manieth time that it is reached.
//! From then on nothing reaches the medium until the harness has cut the power and opens again.

use std::sync::{Arc, Mutex, MutexGuard};

/// Where a run loses its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum CrashPoint {
    /// Between two steps of the harness, wherever they are.
    Anywhere,
    BeforeLogWrite,
    LogWriteBeforeSync,
    SyncBeforeAnswer,
    /// A roll has written the new file's header, unsynced, and not yet the full file's table.
    RollNewFileHeader,
    /// A roll has written the full file's table, unsynced.
    RollTable,
    /// The header of a file that was used before is overwritten, unsynced.
    FileReuse,
    CheckpointBeforeRedb,
    DuringRedbWrites,
    RedbWritesBeforeSync,
    RedbCommitBeforeRecycle,
    /// An opening writes the frames past the checkpoint again.
    OpenRewrite,
    OpenRedbWrites,
    CommittedBeforePuback,
    ReceivedBeforePubrec,
    ReleasedBeforePubcomp,
    AssignedBeforePublish,
    ReceivedBeforePubrel,
}

impl CrashPoint {
    pub const ALL: [Self; 18] = [
        Self::Anywhere,
        Self::BeforeLogWrite,
        Self::LogWriteBeforeSync,
        Self::SyncBeforeAnswer,
        Self::RollNewFileHeader,
        Self::RollTable,
        Self::FileReuse,
        Self::CheckpointBeforeRedb,
        Self::DuringRedbWrites,
        Self::RedbWritesBeforeSync,
        Self::RedbCommitBeforeRecycle,
        Self::OpenRewrite,
        Self::OpenRedbWrites,
        Self::CommittedBeforePuback,
        Self::ReceivedBeforePubrec,
        Self::ReleasedBeforePubcomp,
        Self::AssignedBeforePublish,
        Self::ReceivedBeforePubrel,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Anywhere => "anywhere",
            Self::BeforeLogWrite => "before-log-write",
            Self::LogWriteBeforeSync => "log-write-before-sync",
            Self::SyncBeforeAnswer => "sync-before-answer",
            Self::RollNewFileHeader => "roll-new-file-header",
            Self::RollTable => "roll-table",
            Self::FileReuse => "file-reuse",
            Self::CheckpointBeforeRedb => "checkpoint-before-redb",
            Self::DuringRedbWrites => "during-redb-writes",
            Self::RedbWritesBeforeSync => "redb-writes-before-sync",
            Self::RedbCommitBeforeRecycle => "redb-commit-before-recycle",
            Self::OpenRewrite => "open-rewrite",
            Self::OpenRedbWrites => "open-redb-writes",
            Self::CommittedBeforePuback => "committed-before-puback",
            Self::ReceivedBeforePubrec => "received-before-pubrec",
            Self::ReleasedBeforePubcomp => "released-before-pubcomp",
            Self::AssignedBeforePublish => "assigned-before-publish",
            Self::ReceivedBeforePubrel => "received-before-pubrel",
        }
    }

    /// Reached only while a journal is opened.
    pub fn is_of_opening(self) -> bool {
        matches!(self, Self::OpenRewrite | Self::OpenRedbWrites)
    }

    /// The power goes at latest the so-manieth time that an armed point is reached.
    pub fn times_max(self) -> u64 {
        match self {
            Self::OpenRewrite => 6,
            Self::OpenRedbWrites | Self::DuringRedbWrites => 20,
            Self::BeforeLogWrite | Self::LogWriteBeforeSync | Self::SyncBeforeAnswer => 20,
            Self::CommittedBeforePuback => 20,
            Self::ReceivedBeforePubrec | Self::ReleasedBeforePubcomp => 8,
            Self::AssignedBeforePublish | Self::ReceivedBeforePubrel => 8,
            Self::FileReuse | Self::RollNewFileHeader | Self::RollTable => 2,
            _ => 3,
        }
    }
}

/// How often each point was where the power went.
pub type Hits = [u64; CrashPoint::ALL.len()];

/// Shared by the harness and its medium; clones mean the same.
#[derive(Clone, Debug, Default)]
pub struct Power {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// And how many times it is still passed.
    armed: Option<(CrashPoint, u64)>,
    is_gone: bool,
    is_opening: bool,
    hits: Hits,
}

impl Power {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("a run has one thread, and no panic while it holds the power")
    }

    pub fn arm(&self, point: CrashPoint, times: u64) {
        self.lock().armed = Some((point, times));
    }

    pub fn disarm(&self) {
        self.lock().armed = None;
    }

    /// The run is at `point`: whether the power goes here.
    pub fn reach(&self, point: CrashPoint) -> bool {
        let mut state = self.lock();
        match &mut state.armed {
            Some((armed, times)) if *armed == point && *times > 1 => *times -= 1,
            Some((armed, _)) if *armed == point => {
                state.armed = None;
                state.is_gone = true;
                state.hits[point as usize] += 1;
            }
            _ => {}
        }
        state.is_gone
    }

    pub fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    /// From here on nothing reaches the medium, wherever the run stands.
    pub fn lose(&self) {
        self.lock().is_gone = true;
    }

    pub fn is_back(&self) {
        self.lock().is_gone = false;
    }

    pub fn set_opening(&self, is_opening: bool) {
        self.lock().is_opening = is_opening;
    }

    pub fn is_opening(&self) -> bool {
        self.lock().is_opening
    }

    pub fn hits(&self) -> Hits {
        self.lock().hits
    }
}
