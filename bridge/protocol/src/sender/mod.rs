//! The edge's end of the bridge, as a value: says Hello, announces streams, goes on where the hub
//! says (if the journal can prove that position), and keeps offers under way within a window.
//!
//! It does no I/O: it asks for reads and commits by [`SenderEvent`]s, and the driver answers each one
//! once. It outlives connections; what was under way on a broken one is offered again on the next.

#[cfg(test)]
mod answers_tests;
mod events;
#[cfg(test)]
mod lanes_tests;
mod offers;
mod position;
#[cfg(test)]
mod priority_tests;
mod stream;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use tidegate_shared::id::{ClusterIncarnation, EdgeOffset, SessionEpoch, StoreId, StreamId};

use crate::frame::{Announce, Frame, Hello, PROTOCOL_VERSION, Pong, Welcome};
use crate::limits::{FRAME_STREAMS_MAX, SenderLimits};
use crate::reply_code::CloseCode;

pub use events::{
    Alarm, ReadOutcome, ReadRequest, SealedBatch, SealedGap, SenderEvent, StreamRead,
};
pub use stream::LocalStream;
use stream::{SendStream, StreamPhase};
use timers::Timers;

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
    /// Streams to announce, and streams with something to send: both round robin, these by priority.
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

    /// Whether the hub has all that is here, of every stream, as far as this connection tells.
    pub fn is_at_rest(&self) -> bool {
        self.is_online() && self.streams.values().all(SendStream::is_at_rest)
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
        // The one that was to be closed is gone: the next one is not meant.
        self.events
            .retain(|event| !matches!(event, SenderEvent::Close(_)));
        self.window_bytes = 0;
        for stream in self.streams.values_mut() {
            stream.disconnect();
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

    fn priority(&self, id: StreamId) -> u8 {
        self.streams
            .get(&id)
            .map_or(0, |stream| stream.local.priority)
    }

    /// Holds a lane back: nothing of it is sent from `below` on; `None` lets it go.
    pub fn handle_hold(&mut self, id: StreamId, below: Option<EdgeOffset>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.hold = below;
            self.make_ready(id);
            self.pump();
        }
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

    fn make_ready(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.has_more()
            && !stream.queued
        {
            stream.queued = true;
            let priority = self.priority(id);
            let behind = self.ready.iter().rev();
            let overtaken = behind
                .take_while(|it| self.priority(**it) < priority)
                .count();
            self.ready.insert(self.ready.len() - overtaken, id);
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
    fn take_ready(&mut self) -> Vec<ReadRequest> {
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
                taken.push(stream.read_request());
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
