//! What the sender asks of its driver, and what comes back.

use bytes::Bytes;
use thiserror::Error;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, SessionEpoch, StreamId,
};

use crate::fact::Fact;
use crate::landing::{ForkReason, RefusedReason};
use crate::reply_code::CloseCode;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderEvent {
    /// Commit this, then call [`Sender::handle_session_stored`](super::Sender::handle_session_stored).
    StoreSession {
        cluster_incarnation: ClusterIncarnation,
        session_epoch: SessionEpoch,
    },
    /// Commit this, then call [`Sender::handle_grant_stored`](super::Sender::handle_grant_stored).
    StoreGrant {
        stream: StreamId,
        incarnation: Incarnation,
    },
    /// Find the hash at a boundary, then call [`Sender::handle_proof`](super::Sender::handle_proof).
    Prove {
        stream: StreamId,
        offset: EdgeOffset,
    },
    /// Read chunks of these streams from these offsets on, in turn while there is room; nothing of a
    /// lane that its [`Lanes`](crate::lanes::Lanes) hold back at that time; merge small ones, then call [`Sender::handle_read`](super::Sender::handle_read) with an answer for each.
    Read {
        streams: Vec<ReadRequest>,
        bytes_max: usize,
    },
    /// The cloud has all below `landed`: tell the journal.
    Landed {
        stream: StreamId,
        landed: EdgeOffset,
        hash: BoundaryHash,
        facts: Vec<Fact>,
    },
    /// The topic that a stream goes to has so many partitions now.
    Partitions { stream: StreamId, partitions: u32 },
    /// An operator should know; the data is kept.
    Alarm(Alarm),
    /// Close the connection, and connect again after a while.
    Close(CloseCode),
}

/// What to read of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    pub stream: StreamId,
    pub from: EdgeOffset,
}

/// What a sender cannot mend by itself, or did in a way that must be known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Alarm {
    #[error(
        "the cloud is older than what this edge has seen (cluster {seen}, session {seen_epoch}): it may have been restored; nothing is sent"
    )]
    CloudRestored {
        seen: ClusterIncarnation,
        seen_epoch: SessionEpoch,
    },
    #[error(
        "stream {stream} forked ({reason}): incarnation {incarnation} goes on from {from}, where the hub was at {hub_next}; possible duplicates from here"
    )]
    Forked {
        stream: StreamId,
        incarnation: Incarnation,
        from: EdgeOffset,
        hub_next: EdgeOffset,
        reason: ForkReason,
    },
    #[error("stream {stream}: the hub's position {next} cannot be proved here: {why}")]
    Diverged {
        stream: StreamId,
        next: EdgeOffset,
        why: &'static str,
    },
    #[error("stream {stream} cannot be read at {from}: it is tried again later")]
    Unreadable { stream: StreamId, from: EdgeOffset },
    #[error("stream {stream} is parked: {reason}")]
    Parked {
        stream: StreamId,
        reason: RefusedReason,
    },
}

impl Alarm {
    /// As metrics name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CloudRestored { .. } => "cloud_restored",
            Self::Forked { .. } => "forked",
            Self::Diverged { .. } => "diverged",
            Self::Unreadable { .. } => "unreadable",
            Self::Parked { .. } => "parked",
        }
    }
}

/// A batch as the driver read and merged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    pub base_offset: EdgeOffset,
    pub count: u64,
    pub hash_before: BoundaryHash,
    pub hash_after: BoundaryHash,
    pub batch: Bytes,
}

/// A lost interval as the driver found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedGap {
    pub base_offset: EdgeOffset,
    pub count: u64,
    pub hash_before: BoundaryHash,
    pub hash_after: BoundaryHash,
    pub reason: GapReason,
}

/// What the journal had of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRead {
    pub stream: StreamId,
    pub from: EdgeOffset,
    pub outcome: ReadOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// In order, from `from` on; at least one.
    Batches(Vec<SealedBatch>),
    /// What is at `from` is lost.
    Gap(SealedGap),
    /// It had landed and was let go; the journal keeps what lies from here on.
    Gone { first: EdgeOffset },
    /// The room was taken by the streams before it, or it is held back: it is asked for again.
    NoRoom,
    /// The stream rests for a while.
    Failed,
}
