//! Where a stream goes on: where the hub says, if the journal can prove that it means the same
//! messages; else the stream forks, in a new incarnation, from what is known to be its own.

use std::time::Instant;

use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, StreamId};

use super::events::{Alarm, SenderEvent};
use super::stream::{PlannedFork, Position, StreamPhase};
use super::{Phase, Sender};
use crate::broken::{Rule, broken};
use crate::frame::{Fork, Frame, GrantedStream};
use crate::landing::{ForkReason, ForkRequest, same_hash};
use crate::limits::CONNECTION_FORKS_MAX;

impl Sender {
    pub(super) fn handle_granted(&mut self, now: Instant, granted: GrantedStream) {
        let id = granted.stream;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if granted.partitions > 0 {
            let partitions = granted.partitions;
            self.events.push_back(SenderEvent::Partitions {
                stream: id,
                partitions,
            });
        }
        let hub = Position::of(&granted);
        match (granted.refused, stream.phase) {
            (Some(reason), _) if reason.ends_session().is_some() => {
                let code = reason.ends_session();
                self.events.extend(code.map(SenderEvent::Close));
            }
            (Some(reason), StreamPhase::Announced | StreamPhase::Forking(..)) => {
                self.park(now, id, reason);
            }
            (None, StreamPhase::Announced) => {
                stream.hub = Some(hub);
                self.resume(id, hub);
            }
            // One that is not newer only tells of partitions.
            (None, StreamPhase::Forking(planned, from))
                if hub.incarnation > planned.hub.incarnation =>
            {
                stream.hub = Some(hub);
                self.events.push_back(SenderEvent::Alarm(Alarm::Forked {
                    stream: id,
                    incarnation: hub.incarnation,
                    from,
                    hub_next: planned.hub.next,
                    reason: planned.reason,
                }));
                self.resume(id, hub);
            }
            _ => {}
        }
    }

    /// Goes on where the hub says, if that position is known to be ours.
    pub(super) fn resume(&mut self, id: StreamId, mut hub: Position) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.window_bytes -= stream.clear_in_flight();
        let local = &stream.local;
        if broken(Rule::ResumeByEdge) {
            (hub.next, hub.hash) = (local.landed, local.landed_hash);
        }
        // Another node of this identity has forked from before what this one knows to have landed: to go on
        // there would land it again, and what is stored as landed was not of that incarnation.
        let is_anothers = hub.incarnation > local.incarnation
            && hub.next < local.landed
            && local.landed_life == self.cluster_incarnation.counter;
        if hub.incarnation < local.incarnation || hub.next > local.next || is_anothers {
            return self.fork(id, hub);
        }
        if hub.next == local.landed {
            return match same_hash(hub.hash, local.landed_hash) {
                true => self.take_position(id, hub),
                false => self.fork(id, hub),
            };
        }
        // What is no longer here may be provable all the same: dropped data leaves its boundaries.
        stream.phase = StreamPhase::Proving(hub);
        let offset = hub.next;
        self.events
            .push_back(SenderEvent::Prove { stream: id, offset });
    }

    /// The journal's hash at the boundary that was asked for; `None` where it has none.
    pub fn handle_proof(&mut self, id: StreamId, offset: EdgeOffset, hash: Option<BoundaryHash>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.phase {
            StreamPhase::Proving(hub) if hub.next == offset => {
                match hash.is_some_and(|hash| same_hash(hub.hash, hash)) {
                    true => self.take_position(id, hub),
                    false => self.fork(id, hub),
                }
            }
            StreamPhase::ProvingFork(planned, first) if first == offset => {
                let (landed, landed_hash) = (stream.local.landed, stream.local.landed_hash);
                let (from, hash) = hash.map_or((landed, landed_hash), |hash| (first, hash));
                self.ask_for_fork(id, planned, from, hash);
            }
            _ => {}
        }
        self.pump();
    }

    /// The position is proved: its incarnation is committed first, where it is another.
    fn take_position(&mut self, id: StreamId, hub: Position) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if hub.incarnation != stream.local.incarnation {
            stream.phase = StreamPhase::Granting(hub);
            self.events.push_back(SenderEvent::StoreGrant {
                stream: id,
                incarnation: hub.incarnation,
            });
            return;
        }
        if hub.next > stream.local.landed {
            self.note_landed(id, hub.next, hub.hash, Vec::new());
        }
        self.open(id, hub.next, hub.hash);
    }

    /// The grant's commit is durable.
    pub fn handle_grant_stored(&mut self, id: StreamId, incarnation: Incarnation) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.local.incarnation = incarnation;
        if let StreamPhase::Granting(hub) = stream.phase
            && hub.incarnation == incarnation
        {
            self.take_position(id, hub);
            self.pump();
        }
    }

    fn open(&mut self, id: StreamId, next: EdgeOffset, hash: BoundaryHash) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.phase = StreamPhase::Open;
            stream.sent = next;
            stream.sent_hash = hash;
            self.make_ready(id);
        }
    }

    /// The hub's position is not ours. Where the cloud has lost what it had, all that is kept here
    /// goes again; else only what is not known to have landed.
    fn fork(&mut self, id: StreamId, hub: Position) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let local = &stream.local;
        let life = self.cluster_incarnation.counter;
        let lost_by_cloud = local.landed > EdgeOffset(0) && local.landed_life != life;
        let reason = match (lost_by_cloud, local.incarnation) {
            (true, _) => ForkReason::CloudRestored,
            (false, Incarnation(0)) => ForkReason::NewStore,
            (false, _) => ForkReason::Unproved,
        };
        let planned = PlannedFork {
            hub,
            reason,
            is_proved: false,
        };
        let (first, landed, landed_hash) = (local.first, local.landed, local.landed_hash);
        match lost_by_cloud && first < landed {
            true => self.prove_fork(id, planned, first),
            false => self.ask_for_fork(id, planned, landed, landed_hash),
        }
    }

    fn prove_fork(&mut self, id: StreamId, planned: PlannedFork, first: EdgeOffset) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.phase = StreamPhase::ProvingFork(planned, first);
            let offset = first;
            self.events
                .push_back(SenderEvent::Prove { stream: id, offset });
        }
    }

    fn ask_for_fork(
        &mut self,
        id: StreamId,
        planned: PlannedFork,
        from: EdgeOffset,
        hash: BoundaryHash,
    ) {
        let Phase::Online(session_epoch) = self.phase else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.forks += 1;
        if stream.forks > CONNECTION_FORKS_MAX {
            return self.diverge(id, planned.hub.next, "it has forked too often");
        }
        stream.phase = StreamPhase::Forking(planned, from);
        let request = ForkRequest {
            session_epoch,
            ends: planned.hub.incarnation,
            edge_incarnation: stream.local.incarnation,
            from,
            hash,
            reason: planned.reason,
            is_proved: planned.is_proved,
        };
        let stream = id;
        self.outbox.push_back(Frame::Fork(Fork { stream, request }));
    }

    /// What is to be sent again was let go meanwhile: it had landed once, and is declared lost.
    pub(super) fn handle_gone(&mut self, now: Instant, id: StreamId, first: EdgeOffset) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let (from, landed) = (stream.sent, stream.local.landed);
        if from >= landed {
            return self.rest(now, id, Alarm::Unreadable { stream: id, from });
        }
        self.window_bytes -= stream.clear_in_flight();
        let (incarnation, next, hash) = (stream.local.incarnation, from, stream.sent_hash);
        let hub = Position {
            incarnation,
            next,
            hash,
        };
        let reason = ForkReason::CloudRestored;
        let (first, landed_hash) = (first.min(landed), stream.local.landed_hash);
        let planned = PlannedFork {
            hub,
            reason,
            is_proved: true,
        };
        match first == landed {
            true => self.ask_for_fork(id, planned, landed, landed_hash),
            false => self.prove_fork(id, planned, first),
        }
    }

    pub(super) fn diverge(&mut self, id: StreamId, next: EdgeOffset, why: &'static str) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.window_bytes -= stream.clear_in_flight();
            stream.phase = StreamPhase::Diverged;
            let alarm = Alarm::Diverged {
                stream: id,
                next,
                why,
            };
            self.events.push_back(SenderEvent::Alarm(alarm));
        }
    }
}
