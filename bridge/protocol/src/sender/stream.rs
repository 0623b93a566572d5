//! One stream as the sender sees it: what is here, what the hub has, what is under way.

use std::collections::VecDeque;

use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, StreamId, StreamName, TopicName};

use crate::frame::AnnouncedStream;

/// A stream as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalStream {
    pub stream: StreamId,
    pub name: StreamName,
    pub topic: TopicName,
    pub incarnation: Incarnation,
    pub first: EdgeOffset,
    /// Everything below it is durable.
    pub next: EdgeOffset,
    pub landed: EdgeOffset,
    pub landed_hash: BoundaryHash,
}

/// Where a stream stands on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamPhase {
    /// Not announced yet.
    New,
    Announced,
    /// The granted incarnation is being committed; then it goes on at (E, hash).
    Granting(EdgeOffset, BoundaryHash),
    /// The journal is asked for the hash at E.
    Proving(EdgeOffset, BoundaryHash),
    Open,
    /// Rests for a while; its data is kept.
    Parked,
    /// The hub's position cannot be proved. It stays so until the connection is made again.
    Diverged,
}

/// An offer that has no answer yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub request: u64,
    pub end: EdgeOffset,
    pub hash_after: BoundaryHash,
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct SendStream {
    pub local: LocalStream,
    pub phase: StreamPhase,
    /// Sent up to here on this connection, and the hash there.
    pub sent: EdgeOffset,
    pub sent_hash: BoundaryHash,
    pub in_flight: VecDeque<InFlight>,
    pub reading: bool,
    /// Waits in the round-robin queue.
    pub queued: bool,
}

impl SendStream {
    pub(super) fn new(local: LocalStream) -> Self {
        Self {
            sent: local.landed,
            sent_hash: local.landed_hash,
            local,
            phase: StreamPhase::New,
            in_flight: VecDeque::new(),
            reading: false,
            queued: false,
        }
    }

    pub(super) fn has_more(&self) -> bool {
        self.phase == StreamPhase::Open && !self.reading && self.sent < self.local.next
    }

    /// Requests grow, so the queue is sorted by them.
    pub(super) fn is_under_way(&self, request: u64) -> bool {
        self.in_flight
            .binary_search_by_key(&request, |offer| offer.request)
            .is_ok()
    }

    /// Forgets what was under way; returns its bytes.
    pub(super) fn clear_in_flight(&mut self) -> usize {
        self.in_flight.drain(..).map(|offer| offer.bytes).sum()
    }

    pub(super) fn announcement(&self) -> AnnouncedStream {
        let local = &self.local;
        AnnouncedStream {
            stream: local.stream,
            name: local.name.clone(),
            topic: local.topic.clone(),
            incarnation: local.incarnation,
            first: local.first,
            next: local.next,
            landed: local.landed,
        }
    }
}
