//! One stream as the sender sees it: what is here, what the hub has, what is under way.

use std::collections::VecDeque;

use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, StreamId, StreamName, TopicName};

use super::events::ReadRequest;
use crate::frame::{AnnouncedStream, GrantedStream};
use crate::landing::ForkReason;

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
    /// The counter of the cluster incarnation in which it landed so far.
    pub landed_life: u32,
    /// It is read, and so sent, before what has less.
    pub priority: u8,
}

/// Where a stream stands on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamPhase {
    /// Not announced yet.
    New,
    Announced,
    /// The journal is asked for the hash at the hub's position.
    Proving(Position),
    /// The journal is asked for the hash at the oldest that it keeps: there the fork begins.
    ProvingFork(PlannedFork, EdgeOffset),
    /// The hub is asked for a new incarnation.
    Forking(PlannedFork, EdgeOffset),
    /// The granted incarnation is being committed; then it goes on there.
    Granting(Position),
    Open,
    /// Rests for a while; its data is kept.
    Parked,
    /// The hub's position cannot be proved. It stays so until the connection is made again.
    Diverged,
}

/// Where the hub stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub incarnation: Incarnation,
    /// E.
    pub next: EdgeOffset,
    pub hash: BoundaryHash,
}

impl Position {
    pub(super) fn of(granted: &GrantedStream) -> Self {
        Self {
            incarnation: granted.incarnation,
            next: granted.next,
            hash: granted.hash,
        }
    }
}

/// A fork that is under way: of which position of the hub, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedFork {
    pub hub: Position,
    pub reason: ForkReason,
    pub is_proved: bool,
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
    /// The hub's head on this connection, without what landed since.
    pub hub: Option<Position>,
    /// Forks on this connection: a stream that forks again and again rests.
    pub forks: u32,
    /// Sent up to here on this connection, and the hash there.
    pub sent: EdgeOffset,
    pub sent_hash: BoundaryHash,
    /// Nothing is sent from here on: another lane has to land first.
    pub hold: Option<EdgeOffset>,
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
            hub: None,
            forks: 0,
            hold: None,
            in_flight: VecDeque::new(),
            reading: false,
            queued: false,
        }
    }

    /// The connection is gone.
    pub(super) fn disconnect(&mut self) {
        self.clear_in_flight();
        self.phase = StreamPhase::New;
        self.hub = None;
        self.forks = 0;
        self.queued = false;
    }

    pub(super) fn has_more(&self) -> bool {
        let end = self.hold.unwrap_or(self.local.next).min(self.local.next);
        self.phase == StreamPhase::Open && !self.reading && self.sent < end
    }

    pub(super) fn is_at_rest(&self) -> bool {
        let all_sent = self.sent == self.local.next && self.in_flight.is_empty();
        self.phase == StreamPhase::Open && all_sent
    }

    pub(super) fn read_request(&self) -> ReadRequest {
        ReadRequest {
            stream: self.local.stream,
            from: self.sent,
        }
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
            landed_life: local.landed_life,
        }
    }
}
