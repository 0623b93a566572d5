//! What is under way: reads become offers within the window, and answers settle them.

use std::time::Instant;

use tidegate_shared::id::{BoundaryHash, EdgeOffset, StreamId};

use super::events::{Alarm, ReadOutcome, SealedBatch, SealedGap, SenderEvent, StreamRead};
use super::stream::{InFlight, Position, StreamPhase};
use super::{Phase, Sender};
use crate::fact::Fact;
use crate::frame::{Batch, Frame, Gap, Landed, Refused};
use crate::landing::{Offer, RefusedReason};
use crate::limits::GAP_WINDOW_BYTES;

impl Sender {
    /// The answer to one [`SenderEvent::Read`].
    pub fn handle_read(&mut self, now: Instant, reads: Vec<StreamRead>) {
        self.reads -= 1;
        for read in reads {
            let (id, from) = (read.stream, read.from);
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.reading = false;
            if stream.phase == StreamPhase::Open && stream.sent == from {
                match read.outcome {
                    ReadOutcome::Batches(batches) => self.offer_all(now, id, batches),
                    ReadOutcome::Gap(gap) if self.has_room_for_gap() => {
                        self.offer_gap(now, id, gap);
                    }
                    ReadOutcome::Gap(_) => {}
                    ReadOutcome::Gone { first } => self.handle_gone(now, id, first),
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

    /// Reads may bring somewhat more than they were asked for: what the window has no room for is read
    /// again when it has. One batch always goes, or one that is too large would stand for ever.
    fn offer_all(&mut self, now: Instant, id: StreamId, batches: Vec<SealedBatch>) {
        for batch in batches {
            let bytes = self.window_bytes + batch.batch.len();
            if self.window_bytes > 0 && bytes > self.limits.window_bytes_max {
                return;
            }
            self.offer(now, id, batch);
        }
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

    fn has_room_for_gap(&self) -> bool {
        let bytes = self.window_bytes + GAP_WINDOW_BYTES;
        self.window_bytes == 0 || bytes <= self.limits.window_bytes_max
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

    pub(super) fn handle_landed(&mut self, landed: Landed) {
        let Some(stream) = self.streams.get_mut(&landed.stream) else {
            return;
        };
        if landed.incarnation != stream.local.incarnation {
            return;
        }
        let known =
            |offer: &InFlight| offer.end == landed.landed && offer.hash_after == landed.hash;
        if landed.landed > stream.local.landed && !stream.in_flight.iter().any(known) {
            // Not a boundary that is under way: an answer from before a rewind. The journal says
            // whether it is true.
            if let Some(hub) = stream.hub.filter(|_| stream.phase == StreamPhase::Open) {
                let (next, hash) = (landed.landed, landed.hash);
                self.resume(landed.stream, Position { next, hash, ..hub });
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

    pub(super) fn note_landed(
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
            stream.local.landed_life = self.cluster_incarnation.counter;
            self.events.push_back(SenderEvent::Landed {
                stream: id,
                landed,
                hash,
                facts,
            });
        }
    }

    pub(super) fn handle_refused(&mut self, now: Instant, refused: Refused) {
        let id = refused.stream;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // An answer to what is no longer under way was overtaken by another one.
        if !stream.is_under_way(refused.request) {
            return;
        }
        if let Some(code) = refused.reason.ends_session() {
            self.events.push_back(SenderEvent::Close(code));
            return;
        }
        match refused.reason {
            RefusedReason::WrongOffset | RefusedReason::WrongHash
                if refused.incarnation == stream.local.incarnation =>
            {
                if let Some(hub) = stream.hub {
                    let (next, hash) = (refused.next, refused.hash);
                    self.resume(id, Position { next, hash, ..hub });
                }
            }
            // The stream is another at the hub by now: it is asked for anew.
            RefusedReason::WrongIncarnation
            | RefusedReason::WrongOffset
            | RefusedReason::WrongHash
            | RefusedReason::UnknownStream => {
                self.window_bytes -= stream.clear_in_flight();
                stream.phase = StreamPhase::New;
                self.to_announce.push_back(id);
            }
            reason => self.park(now, id, reason),
        }
    }

    pub(super) fn park(&mut self, now: Instant, id: StreamId, reason: RefusedReason) {
        self.rest(now, id, Alarm::Parked { stream: id, reason });
    }

    pub(super) fn rest(&mut self, now: Instant, id: StreamId, alarm: Alarm) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.window_bytes -= stream.clear_in_flight();
            stream.phase = StreamPhase::Parked;
            self.timers.note_rest(id, now + self.limits.parked_retry);
            self.events.push_back(SenderEvent::Alarm(alarm));
        }
    }
}
