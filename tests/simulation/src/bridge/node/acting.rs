//! What a node does for its sender: it reads, proves and stores, as the uplink's driver does.

use std::time::Instant;

use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::keyed::Keyed;
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_bridge_protocol::sender::{
    Alarm, ReadOutcome, ReadRequest, SealedBatch, SealedGap, SenderEvent, StreamRead,
};
use tidegate_edge_journal::{Gap, Journal, Sealed, ToSend, merge};
use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, StreamId, StreamName};
use tidegate_shared::record::Compression;

use super::{Awaited, Node};
use crate::random::Random;
use crate::{Stop, violated};

/// An answer of the journal on its way to the sender.
#[derive(Debug)]
pub(super) enum Done {
    Read(Vec<StreamRead>),
    Proof(StreamId, EdgeOffset, Option<BoundaryHash>),
}

/// What the world has to know of what a node did.
#[derive(Debug)]
pub enum Report {
    /// The sender was told that the cloud has all below.
    Landed(StreamName, Incarnation, EdgeOffset, Vec<Fact>),
    /// All lanes of before a switch have landed: the others go on.
    LanesLetGo,
    Alarm(Alarm),
    Close(CloseCode),
}

impl Node {
    /// Does what the sender asks for.
    pub fn act(&mut self, reports: &mut Vec<Report>) {
        while let Some(event) = self.sender.poll_event() {
            let Some(journal) = &mut self.journal else {
                continue;
            };
            match event {
                SenderEvent::StoreSession {
                    cluster_incarnation,
                    session_epoch,
                } => {
                    journal.see_session(cluster_incarnation, session_epoch);
                    self.awaited.push(Awaited::Session(session_epoch));
                }
                SenderEvent::StoreGrant {
                    stream,
                    incarnation,
                } => {
                    journal.grant(stream, incarnation);
                    self.awaited.push(Awaited::Grant(stream, incarnation));
                }
                SenderEvent::Prove { stream, offset } => {
                    let hash = journal.reader().hash_at(stream, offset).ok().flatten();
                    self.done.push(Done::Proof(stream, offset, hash));
                }
                SenderEvent::Read { streams, bytes_max } => {
                    let reads = read(journal, self.keyed.as_ref(), streams, bytes_max);
                    self.done.push(Done::Read(reads));
                }
                SenderEvent::Landed {
                    stream,
                    landed,
                    hash,
                    facts,
                } => {
                    journal.advance_landed(stream, landed, hash);
                    let incarnation = journal
                        .reader()
                        .stream(stream)
                        .map_or(Incarnation(0), |status| status.incarnation);
                    let name = self.streams[&stream].clone();
                    reports.push(Report::Landed(name, incarnation, landed, facts));
                    self.lane_landed(stream, landed, reports);
                }
                SenderEvent::Partitions { stream, partitions } => {
                    self.partitions.insert(stream, partitions);
                    self.lane_has_partitions(stream, partitions);
                }
                SenderEvent::Alarm(alarm) => reports.push(Report::Alarm(alarm)),
                SenderEvent::Close(code) => {
                    // As in the edge's own driver: the rest is for the next connection.
                    reports.push(Report::Close(code));
                    return;
                }
            }
        }
    }

    /// Hands one answer of the journal to the sender, not always the oldest.
    pub fn finish_one(&mut self, now: Instant, random: &mut Random) {
        if self.done.is_empty() {
            return;
        }
        let at = random.below(self.done.len() as u64) as usize;
        match self.done.remove(at) {
            Done::Read(reads) => self.sender.handle_read(now, reads),
            Done::Proof(stream, offset, hash) => self.sender.handle_proof(stream, offset, hash),
        }
    }

    /// Proofs that are under way are of no use any more.
    pub fn forget_answers(&mut self) {
        self.done.retain(|done| matches!(done, Done::Read(_)));
    }

    /// Takes a frame that the sender has for a link.
    pub fn poll_transmit(&mut self) -> Result<Option<Frame>, Stop> {
        let frame = self.sender.poll_transmit();
        let (stream, offer) = match &frame {
            Some(Frame::Batch(batch)) => (batch.stream, batch.offer),
            Some(Frame::Gap(gap)) => (gap.stream, gap.offer),
            _ => return Ok(frame),
        };
        let incarnation = self.incarnations.get(&stream).copied();
        if (offer.session_epoch, Some(offer.incarnation)) != (self.session, incarnation) {
            let what = format!("stream {stream}: {offer:?}, committed is {incarnation:?}");
            return violated("what is granted is committed before it is used", what);
        }
        Ok(frame)
    }
}

fn read(
    journal: &mut Journal,
    keyed: Option<&Keyed>,
    streams: Vec<ReadRequest>,
    bytes_max: usize,
) -> Vec<StreamRead> {
    let mut room = bytes_max;
    let mut reads = Vec::new();
    for request in streams {
        let keyed = keyed.filter(|keyed| keyed.concerns(request.stream));
        let outcome = match room {
            0 => ReadOutcome::NoRoom,
            _ => read_stream(journal, keyed, request, room),
        };
        if let ReadOutcome::Batches(batches) = &outcome {
            let bytes: usize = batches.iter().map(|batch| batch.batch.len()).sum();
            room = room.saturating_sub(bytes);
        }
        reads.push(StreamRead {
            stream: request.stream,
            from: request.from,
            outcome,
        });
    }
    reads
}

fn read_stream(
    journal: &mut Journal,
    keyed: Option<&Keyed>,
    request: ReadRequest,
    bytes_max: usize,
) -> ReadOutcome {
    let (stream, from) = (request.stream, request.from);
    match journal.reader().read_to_send(stream, from, bytes_max) {
        Ok(ToSend::Gap(gap)) => ReadOutcome::Gap(seal_gap(&gap)),
        Ok(ToSend::Gone { first }) => ReadOutcome::Gone { first },
        Ok(ToSend::Later) => ReadOutcome::NoRoom,
        Ok(ToSend::Chunks(mut chunks)) => {
            if let Some(hold) = keyed.and_then(|keyed| keyed.hold(stream)) {
                chunks.retain(|chunk| chunk.base_offset < hold);
                if chunks.is_empty() {
                    return ReadOutcome::NoRoom;
                }
            }
            match merge(chunks, Compression::None) {
                Ok(batches) if !batches.is_empty() => {
                    ReadOutcome::Batches(batches.into_iter().map(seal).collect())
                }
                _ => ReadOutcome::Failed,
            }
        }
        Err(_) => match journal.declare_damage(stream, from) {
            Ok(Some(_)) => ReadOutcome::NoRoom,
            _ => ReadOutcome::Failed,
        },
    }
}

fn seal(sealed: Sealed) -> SealedBatch {
    SealedBatch {
        base_offset: sealed.base_offset,
        count: sealed.count,
        hash_before: sealed.hash_before,
        hash_after: sealed.hash_after,
        batch: sealed.batch,
    }
}

fn seal_gap(gap: &Gap) -> SealedGap {
    SealedGap {
        base_offset: gap.from,
        count: gap.records(),
        hash_before: gap.hash_before,
        hash_after: gap.hash_after,
        reason: gap.reason,
    }
}
