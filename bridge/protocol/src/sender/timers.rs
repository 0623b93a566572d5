//! What a sender waits for: answers to what it sent, and streams that rest.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tidegate_shared::id::StreamId;

#[derive(Debug)]
pub(super) struct Timers {
    answer_timeout: Duration,
    /// Offers in the order of sending. Those that were answered are dropped when they come to the
    /// front, so that none of many streams has to be searched.
    sent: VecDeque<(Instant, StreamId, u64)>,
    resting: BTreeMap<StreamId, Instant>,
}

impl Timers {
    pub(super) fn new(answer_timeout: Duration) -> Self {
        Self {
            answer_timeout,
            sent: VecDeque::new(),
            resting: BTreeMap::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.sent.clear();
        self.resting.clear();
    }

    pub(super) fn note_sent(&mut self, now: Instant, stream: StreamId, request: u64) {
        self.sent.push_back((now, stream, request));
    }

    pub(super) fn note_rest(&mut self, stream: StreamId, until: Instant) {
        self.resting.insert(stream, until);
    }

    /// Lets go of what was answered.
    pub(super) fn settle(&mut self, is_under_way: impl Fn(StreamId, u64) -> bool) {
        let answered =
            |(_, stream, request): &(Instant, StreamId, u64)| !is_under_way(*stream, *request);
        while self.sent.front().is_some_and(answered) {
            self.sent.pop_front();
        }
    }

    /// Whether the oldest offer under way has waited for too long.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.sent
            .front()
            .is_some_and(|(sent_at, ..)| now >= *sent_at + self.answer_timeout)
    }

    /// Streams that have rested.
    pub(super) fn take_rested(&mut self, now: Instant) -> Vec<StreamId> {
        let rested = self.resting.iter().filter(|(_, until)| now >= **until);
        let rested: Vec<StreamId> = rested.map(|(stream, _)| *stream).collect();
        for stream in &rested {
            self.resting.remove(stream);
        }
        rested
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let late = self
            .sent
            .front()
            .map(|(sent_at, ..)| *sent_at + self.answer_timeout);
        late.into_iter().chain(self.resting.values().copied()).min()
    }
}
