//! The edge's end of the bridge, as a value: says Hello, announces streams, goes on where the hub
//! says (if the journal can prove that position), and keeps offers under way within a window.
//!
//! It does no I/O: it asks for reads and commits by [`SenderEvent`]s, and the driver answers each one
//! once. It outlives connections; what was under way on a broken one is offered again on the next.

mod stream;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, SessionEpoch, StoreId, StreamId,
};

use crate::fact::Fact;
use crate::frame::{
    Announce, Batch, Frame, Gap, GrantedStream, Hello, Landed, PROTOCOL_VERSION, Pong, Refused,
    Welcome,
};
use crate::landing::{Offer, RefusedReason};
use crate::limits::{FRAME_STREAMS_MAX, GAP_WINDOW_BYTES, SenderLimits};
use crate::reply_code::CloseCode;

pub use stream::LocalStream;
use stream::{InFlight, SendStream, StreamPhase};
use timers::Timers;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderEvent {
    /// Commit this, then call [`Sender::handle_session_stored`].
    StoreSession {
        cluster_incarnation: ClusterIncarnation,
        session_epoch: SessionEpoch,
    },
    /// Commit this, then call [`Sender::handle_grant_stored`].
    StoreGrant {
        stream: StreamId,
        incarnation: Incarnation,
    },
    /// Find the hash at a boundary, then call [`Sender::handle_proof`].
    Prove {
        stream: StreamId,
        offset: EdgeOffset,
    },
    /// Read chunks of these streams from these offsets on, in turn while there is room, merge small
    /// ones, then call [`Sender::handle_read`] with an answer for each.
    Read {
        streams: Vec<(StreamId, EdgeOffset)>,
        bytes_max: usize,
    },
    /// The cloud has all below `landed`: tell the journal.
    Landed {
        stream: StreamId,
        landed: EdgeOffset,
        hash: BoundaryHash,
        facts: Vec<Fact>,
    },
    /// An operator should know; the data is kept.
    Alarm(Alarm),
    /// Close the connection, and connect again after a while.
    Close(CloseCode),
}

/// What a sender cannot mend by itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Alarm {
    #[error(
        "the cloud is older than what this edge has seen (cluster {seen}, session {seen_epoch}): it may have been restored; nothing is sent"
    )]
    CloudRestored {
        seen: ClusterIncarnation,
        seen_epoch: SessionEpoch,
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
    /// The room was taken by the streams before it: it is asked for again.
    NoRoom,
    /// The stream rests for a while.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Offline,
    AwaitingWelcome,
    Storing(Welcome),
    Online(SessionEpoch),
}

/// See the module.
#[derive(Debug)]
pub struct Sender {
    limits: SenderLimits,
    store_id: StoreId,
    cluster_incarnation: ClusterIncarnation,
    session_epoch: SessionEpoch,
    phase: Phase,
    streams: BTreeMap<StreamId, SendStream>,
    /// Streams to announce, and streams with something to send: both round robin.
    to_announce: VecDeque<StreamId>,
    ready: VecDeque<StreamId>,
    next_request: u64,
    timers: Timers,
    window_bytes: usize,
    reads: usize,
    outbox: VecDeque<Frame>,
    events: VecDeque<SenderEvent>,
}

impl Sender {
    /// `cluster_incarnation` and `session_epoch` are the newest that the journal has stored.
    pub fn new(
        limits: SenderLimits,
        store_id: StoreId,
        cluster_incarnation: ClusterIncarnation,
        session_epoch: SessionEpoch,
    ) -> Self {
        limits.check();
        Self {
            limits,
            store_id,
            cluster_incarnation,
            session_epoch,
            phase: Phase::Offline,
            streams: BTreeMap::new(),
            to_announce: VecDeque::new(),
            ready: VecDeque::new(),
            next_request: 1,
            timers: Timers::new(limits.answer_timeout),
            window_bytes: 0,
            reads: 0,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether batches may be sent now.
    pub fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online(_))
    }

    /// Bytes sent and not answered.
    pub fn window_bytes(&self) -> usize {
        self.window_bytes
    }

    /// A connection is there.
    pub fn handle_connected(&mut self) {
        self.handle_disconnected();
        self.phase = Phase::AwaitingWelcome;
        self.outbox.push_back(Frame::Hello(Hello {
            protocol_version: PROTOCOL_VERSION,
            store_id: self.store_id,
            cluster_incarnation: self.cluster_incarnation,
            session_epoch: self.session_epoch,
        }));
    }

    /// The connection is gone. Reads that were asked for are still to be answered.
    pub fn handle_disconnected(&mut self) {
        self.phase = Phase::Offline;
        self.outbox.clear();
        self.to_announce.clear();
        self.ready.clear();
        self.timers.clear();
        self.window_bytes = 0;
        for stream in self.streams.values_mut() {
            stream.clear_in_flight();
            stream.phase = StreamPhase::New;
            stream.queued = false;
        }
    }

    /// A stream is new in the journal, or has more.
    pub fn handle_stream(&mut self, local: LocalStream) {
        let id = local.stream;
        match self.streams.get_mut(&id) {
            Some(stream) => {
                stream.local.first = local.first;
                stream.local.next = local.next.max(stream.local.next);
            }
            None => {
                self.streams.insert(id, SendStream::new(local));
                if self.is_online() {
                    self.to_announce.push_back(id);
                }
            }
        }
        self.make_ready(id);
        self.pump();
    }

    /// Takes a frame from the hub.
    pub fn handle_frame(&mut self, now: Instant, frame: Frame) {
        match (frame, self.phase) {
            (Frame::Welcome(welcome), Phase::AwaitingWelcome) => self.handle_welcome(welcome),
            (Frame::Granted(granted), Phase::Online(_)) => {
                granted
                    .streams
                    .into_iter()
                    .for_each(|stream| self.handle_granted(now, stream));
            }
            (Frame::Landed(landed), Phase::Online(_)) => self.handle_landed(landed),
            (Frame::Refused(refused), Phase::Online(_)) => self.handle_refused(now, refused),
            (Frame::Ping(ping), _) => {
                self.outbox.push_back(Frame::Pong(Pong {
                    nonce: ping.nonce,
                    time_ms: 0,
                }));
            }
            (Frame::Pong(_), _) => {}
            _ => self
                .events
                .push_back(SenderEvent::Close(CloseCode::Protocol)),
        }
        self.pump();
    }

    fn handle_welcome(&mut self, welcome: Welcome) {
        let (seen, seen_epoch) = (self.cluster_incarnation, self.session_epoch);
        let same = welcome.cluster_incarnation == seen;
        let older = welcome.cluster_incarnation.counter < seen.counter;
        if older || (same && welcome.session_epoch <= seen_epoch) {
            let alarm = Alarm::CloudRestored { seen, seen_epoch };
            self.events.push_back(SenderEvent::Alarm(alarm));
            self.events
                .push_back(SenderEvent::Close(CloseCode::Protocol));
            return;
        }
        self.phase = Phase::Storing(welcome);
        self.events.push_back(SenderEvent::StoreSession {
            cluster_incarnation: welcome.cluster_incarnation,
            session_epoch: welcome.session_epoch,
        });
    }

    /// The session's commit is durable: from here on its epoch may be used.
    pub fn handle_session_stored(&mut self, session_epoch: SessionEpoch) {
        let Phase::Storing(welcome) = self.phase else {
            return;
        };
        if welcome.session_epoch != session_epoch {
            return;
        }
        self.cluster_incarnation = welcome.cluster_incarnation;
        self.session_epoch = session_epoch;
        self.phase = Phase::Online(session_epoch);
        self.to_announce = self.streams.keys().copied().collect();
        self.pump();
    }

    fn handle_granted(&mut self, now: Instant, granted: GrantedStream) {
        let Some(stream) = self.streams.get_mut(&granted.stream) else {
            return;
        };
        if stream.phase != StreamPhase::Announced {
            return;
        }
        if let Some(reason) = granted.refused {
            return self.park(now, granted.stream, reason);
        }
        if stream.local.incarnation == Incarnation(0) {
            stream.phase = StreamPhase::Granting(granted.next, granted.hash);
            let (stream, incarnation) = (granted.stream, granted.incarnation);
            self.events.push_back(SenderEvent::StoreGrant {
                stream,
                incarnation,
            });
        } else if stream.local.incarnation != granted.incarnation {
            self.diverge(granted.stream, granted.next, "the incarnation is another");
        } else {
            self.resume(granted.stream, granted.next, granted.hash);
        }
    }

    /// The grant's commit is durable.
    pub fn handle_grant_stored(&mut self, id: StreamId, incarnation: Incarnation) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.local.incarnation = incarnation;
        if let StreamPhase::Granting(next, hash) = stream.phase {
            self.resume(id, next, hash);
            self.pump();
        }
    }

    /// Goes on where the hub says, if that position is known to be ours.
    fn resume(&mut self, id: StreamId, next: EdgeOffset, hash: BoundaryHash) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.window_bytes -= stream.clear_in_flight();
        let local = &stream.local;
        if next > local.next {
            return self.diverge(id, next, "the hub has more than this journal");
        }
        if next == local.landed {
            if hash != local.landed_hash {
                return self.diverge(id, next, "the hash is another");
            }
            return self.open(id, next, hash);
        }
        // What is no longer here may be provable all the same: dropped data leaves its boundaries.
        stream.phase = StreamPhase::Proving(next, hash);
        self.events.push_back(SenderEvent::Prove {
            stream: id,
            offset: next,
        });
    }

    /// The journal's hash at the boundary that was asked for; `None` where it has none.
    pub fn handle_proof(&mut self, id: StreamId, offset: EdgeOffset, hash: Option<BoundaryHash>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let StreamPhase::Proving(next, expected) = stream.phase else {
            return;
        };
        if next != offset {
            return;
        }
        if hash == Some(expected) {
            if next > stream.local.landed {
                self.note_landed(id, next, expected, Vec::new());
            }
            self.open(id, next, expected);
        } else {
            let why = match hash {
                Some(_) => "the hash is another",
                None => "what the hub asks for is no longer here",
            };
            self.diverge(id, next, why);
        }
        self.pump();
    }

    fn open(&mut self, id: StreamId, next: EdgeOffset, hash: BoundaryHash) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.phase = StreamPhase::Open;
            stream.sent = next;
            stream.sent_hash = hash;
            self.make_ready(id);
        }
    }

    fn handle_landed(&mut self, landed: Landed) {
        let Some(stream) = self.streams.get_mut(&landed.stream) else {
            return;
        };
        let known =
            |offer: &InFlight| offer.end == landed.landed && offer.hash_after == landed.hash;
        if landed.landed > stream.local.landed && !stream.in_flight.iter().any(known) {
            // Not a boundary that is under way: an answer from before a rewind. The journal says
            // whether it is true.
            if landed.incarnation == stream.local.incarnation && stream.phase == StreamPhase::Open {
                self.resume(landed.stream, landed.landed, landed.hash);
            }
            return;
        }
        while stream
            .in_flight
            .front()
            .is_some_and(|offer| offer.end <= landed.landed)
        {
            self.window_bytes -= stream.in_flight.pop_front().map_or(0, |offer| offer.bytes);
        }
        self.note_landed(landed.stream, landed.landed, landed.hash, landed.facts);
    }

    fn note_landed(
        &mut self,
        id: StreamId,
        landed: EdgeOffset,
        hash: BoundaryHash,
        facts: Vec<Fact>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if landed > stream.local.landed {
            stream.local.landed = landed;
            stream.local.landed_hash = hash;
            self.events.push_back(SenderEvent::Landed {
                stream: id,
                landed,
                hash,
                facts,
            });
        }
    }

    fn handle_refused(&mut self, now: Instant, refused: Refused) {
        let Some(stream) = self.streams.get_mut(&refused.stream) else {
            return;
        };
        // An answer to what is no longer under way was overtaken by another one.
        if !stream.is_under_way(refused.request) {
            return;
        }
        match refused.reason {
            RefusedReason::StaleSessionEpoch => {
                self.events.push_back(SenderEvent::Close(CloseCode::Fenced));
            }
            RefusedReason::WrongOffset | RefusedReason::WrongHash
                if refused.incarnation == stream.local.incarnation =>
            {
                self.resume(refused.stream, refused.next, refused.hash);
            }
            RefusedReason::WrongIncarnation
            | RefusedReason::WrongOffset
            | RefusedReason::WrongHash => {
                self.diverge(refused.stream, refused.next, "the incarnation is another");
            }
            reason => self.park(now, refused.stream, reason),
        }
    }

    fn park(&mut self, now: Instant, id: StreamId, reason: RefusedReason) {
        self.rest(now, id, Alarm::Parked { stream: id, reason });
    }

    fn rest(&mut self, now: Instant, id: StreamId, alarm: Alarm) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.window_bytes -= stream.clear_in_flight();
            stream.phase = StreamPhase::Parked;
            self.timers.note_rest(id, now + self.limits.parked_retry);
            self.events.push_back(SenderEvent::Alarm(alarm));
        }
    }

    fn diverge(&mut self, id: StreamId, next: EdgeOffset, why: &'static str) {
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

    /// The answer to one [`SenderEvent::Read`].
    pub fn handle_read(&mut self, now: Instant, reads: Vec<StreamRead>) {
        self.reads -= 1;
        for StreamRead {
            stream: id,
            from,
            outcome,
        } in reads
        {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.reading = false;
            if stream.phase == StreamPhase::Open && stream.sent == from {
                match outcome {
                    ReadOutcome::Batches(batches) => {
                        batches
                            .into_iter()
                            .for_each(|batch| self.offer(now, id, batch));
                    }
                    ReadOutcome::Gap(gap) => self.offer_gap(now, id, gap),
                    ReadOutcome::NoRoom => {}
                    ReadOutcome::Failed => {
                        self.rest(now, id, Alarm::Unreadable { stream: id, from });
                    }
                }
            }
            self.make_ready(id);
        }
        self.pump();
    }

    fn offer(&mut self, now: Instant, id: StreamId, sealed: SealedBatch) {
        let ends = (sealed.hash_before, sealed.hash_after);
        let bytes = sealed.batch.len();
        let offered = self.put_under_way(now, id, sealed.base_offset, sealed.count, ends, bytes);
        if let Some((request, offer)) = offered {
            let batch = Batch {
                request,
                stream: id,
                offer,
                batch: sealed.batch,
            };
            self.outbox.push_back(Frame::Batch(batch));
        }
    }

    fn offer_gap(&mut self, now: Instant, id: StreamId, gap: SealedGap) {
        let ends = (gap.hash_before, gap.hash_after);
        let bytes = GAP_WINDOW_BYTES;
        let offered = self.put_under_way(now, id, gap.base_offset, gap.count, ends, bytes);
        if let Some((request, offer)) = offered {
            let reason = gap.reason;
            self.outbox.push_back(Frame::Gap(Gap {
                request,
                stream: id,
                offer,
                reason,
            }));
        }
    }

    /// Numbers what follows on what was sent, and counts it in the window.
    fn put_under_way(
        &mut self,
        now: Instant,
        id: StreamId,
        base_offset: EdgeOffset,
        count: u64,
        (hash_before, hash_after): (BoundaryHash, BoundaryHash),
        bytes: usize,
    ) -> Option<(u64, Offer)> {
        let Phase::Online(session_epoch) = self.phase else {
            return None;
        };
        let stream = self.streams.get_mut(&id)?;
        if base_offset != stream.sent || hash_before != stream.sent_hash {
            let sent = stream.sent;
            self.diverge(id, sent, "no chunk begins there");
            return None;
        }
        let request = self.next_request;
        self.next_request += 1;
        let end = base_offset.plus(count);
        stream.in_flight.push_back(InFlight {
            request,
            end,
            hash_after,
            bytes,
        });
        self.timers.note_sent(now, id, request);
        stream.sent = end;
        stream.sent_hash = hash_after;
        self.window_bytes += bytes;
        let offer = Offer {
            session_epoch,
            incarnation: stream.local.incarnation,
            base_offset,
            count,
            hash_before,
            hash_after,
        };
        Some((request, offer))
    }

    fn make_ready(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.has_more()
            && !stream.queued
        {
            stream.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Announces what is to be announced, and asks for reads while the window has room.
    fn pump(&mut self) {
        if !self.is_online() {
            return;
        }
        while !self.to_announce.is_empty() {
            let count = self.to_announce.len().min(FRAME_STREAMS_MAX);
            let mut streams = Vec::with_capacity(count);
            for id in self.to_announce.drain(..count) {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.phase = StreamPhase::Announced;
                    streams.push(stream.announcement());
                }
            }
            self.outbox.push_back(Frame::Announce(Announce { streams }));
        }
        let bytes_max = self.limits.batch_bytes_max;
        while self.reads < self.limits.reads_max
            && self.window_bytes + (self.reads + 1) * bytes_max <= self.limits.window_bytes_max
        {
            let streams = self.take_ready();
            if streams.is_empty() {
                break;
            }
            self.reads += 1;
            self.events
                .push_back(SenderEvent::Read { streams, bytes_max });
        }
        let streams = &self.streams;
        self.timers.settle(|id, request| {
            let stream = streams.get(&id);
            stream.is_some_and(|stream| stream.is_under_way(request))
        });
    }

    /// The next streams in turn that have something to send; each at the offset to read from.
    fn take_ready(&mut self) -> Vec<(StreamId, EdgeOffset)> {
        let mut taken = Vec::new();
        while taken.len() < self.limits.read_streams_max {
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.queued = false;
            if stream.has_more() {
                stream.reading = true;
                taken.push((id, stream.sent));
            }
        }
        taken
    }

    /// Time has come to [`Sender::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_online() {
            return;
        }
        if self.timers.is_late(now) {
            self.events
                .push_back(SenderEvent::Close(CloseCode::Timeout));
            return;
        }
        for id in self.timers.take_rested(now) {
            if let Some(stream) = self.streams.get_mut(&id)
                && stream.phase == StreamPhase::Parked
            {
                stream.phase = StreamPhase::New;
                self.to_announce.push_back(id);
            }
        }
        self.pump();
    }

    /// When [`Sender::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.is_online().then(|| self.timers.next())?
    }

    pub fn poll_transmit(&mut self) -> Option<Frame> {
        self.outbox.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }
}
