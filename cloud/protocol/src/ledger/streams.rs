//! Streams of edges: where each goes, how far it has landed, and its incarnations.

use std::collections::VecDeque;

use tidegate_bridge_protocol::broken::{Rule, broken};
use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::landing::{
    ForkReason, ForkRequest, Head, Offer, RefusedReason, Verdict, judge,
};
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, SessionEpoch, StreamName,
};

use crate::index::LogPlace;

use super::command::{ForkStream, Land, LandGap, OpenStream};
use super::{
    Behind, Effect, FORKS_KEPT_MAX, Fork, Forked, GapLanded, Landed, Ledger, Opened, Stream,
    Target, placement,
};

/// Why not, and where the stream stands.
type Refusal = (RefusedReason, Head);

fn refused(reason: RefusedReason, head: Head) -> Effect {
    Effect::Refused { reason, head }
}

impl Ledger {
    /// A stream that is known keeps its head, and its partition as long as its topic is there and the edge
    /// names no other; else it goes to the one that has the name now. A new one begins after the incarnation that the edge says it has, so
    /// that numbers of a life that this ledger never saw are not taken for its own.
    pub(super) fn open_stream(&mut self, open: OpenStream, cluster: ClusterIncarnation) -> Effect {
        let target = self.target_of(&open);
        let topics = &self.topics;
        let is_named = |target: &Target| {
            let topic = topics.get(&target.topic_id);
            topic.is_some_and(|topic| topic.name == open.topic)
        };
        let known = self.edges.get(&open.edge);
        let known = known.and_then(|edge| edge.streams.get(&open.stream));
        let kept = known.map(|stream| stream.target).filter(is_named);
        let is_behind = is_behind(known, &open, cluster);
        let edge = match self.speaker(&open.edge, open.session_epoch) {
            Ok(edge) => edge,
            Err(reason) => return refused(reason, Head::default()),
        };
        // Only who speaks for the edge is believed.
        if is_behind {
            self.behind = Some(Behind {
                edge: open.edge,
                seen: cluster,
                seen_epoch: open.session_epoch,
                stream: Some(open.stream),
            });
            return refused(RefusedReason::CloudBehind, Head::default());
        }
        let Some(target) = kept.or(target) else {
            let stream = edge.streams.get(&open.stream);
            let head = stream.map_or(Head::default(), |stream| stream.head);
            return refused(RefusedReason::Parked, head);
        };
        let Some(incarnation) = incarnation_after(open.incarnation, cluster) else {
            return refused(RefusedReason::WrongIncarnation, Head::default());
        };
        if edge.streams.len() >= EDGE_STREAMS_MAX && !edge.streams.contains_key(&open.stream) {
            return refused(RefusedReason::TooLarge, Head::default());
        }
        let stream = edge.streams.entry(open.stream).or_insert_with(|| {
            let head = Head {
                incarnation,
                ..Head::default()
            };
            Stream::new(head, target)
        });
        stream.target = target;
        let head = stream.head;
        Effect::StreamOpened(self.opened(head, target))
    }

    /// Where a stream would go if it were new.
    fn target_of(&self, open: &OpenStream) -> Option<Target> {
        let topic_id = *self.topic_ids.get(&open.topic)?;
        let partitions = self.topics[&topic_id].partitions().len();
        Some(Target {
            topic_id,
            partition: placement::place(&open.edge, &open.stream, partitions),
        })
    }

    fn opened(&self, head: Head, target: Target) -> Opened {
        let topic = self.topics.get(&target.topic_id);
        Opened {
            head,
            target,
            partitions: topic.map_or(0, |topic| topic.partitions().len() as u32),
        }
    }

    /// The incarnation that the edge was told ends where it stands. What lies between it and where
    /// the new one begins is lost, and counted.
    pub(super) fn fork_stream(&mut self, fork: ForkStream, cluster: ClusterIncarnation) -> Effect {
        let (now_ms, request) = (self.now_ms, fork.request);
        let stream = match self.stream_of(&fork.edge, &fork.stream, request.session_epoch) {
            Ok(stream) => stream,
            Err((reason, head)) => return refused(reason, head),
        };
        if request.from > EDGE_OFFSET_MAX {
            return refused(RefusedReason::WrongOffset, stream.head);
        }
        let newest = request.ends.max(request.edge_incarnation);
        let incarnation = incarnation_after(newest, cluster);
        let Some(incarnation) = incarnation.filter(|_| request.ends == stream.head.incarnation)
        else {
            return refused(RefusedReason::WrongIncarnation, stream.head);
        };
        let fork_made = Fork {
            incarnation,
            from: request.from,
            ended: stream.head.incarnation,
            ended_at: stream.head.next,
            lost: stream.lost_with(&request, cluster),
            reason: request.reason,
            at_ms: now_ms,
        };
        stream.begin(fork_made, request.hash, cluster);
        let (head, target) = (stream.head, stream.target);
        Effect::StreamForked(Forked {
            edge: fork.edge,
            stream: fork.stream,
            fork: fork_made,
            opened: self.opened(head, target),
        })
    }

    fn stream_of(
        &mut self,
        edge: &EdgeId,
        stream: &StreamName,
        session_epoch: SessionEpoch,
    ) -> Result<&mut Stream, Refusal> {
        let edge = self.speaker(edge, session_epoch);
        let edge = edge.map_err(|reason| (reason, Head::default()))?;
        let stream = edge.streams.get_mut(stream);
        stream.ok_or((RefusedReason::UnknownStream, Head::default()))
    }

    /// The stream of an offer, and what the rule says.
    fn judge(
        &mut self,
        edge: &EdgeId,
        stream: &StreamName,
        offer: &Offer,
    ) -> Result<(&mut Stream, Verdict), Refusal> {
        if self.behind.is_some() {
            return Err((RefusedReason::CloudBehind, Head::default()));
        }
        let life = self.cluster_incarnation.map_or(0, |life| life.counter);
        let stale = (RefusedReason::StaleSessionEpoch, Head::default());
        let edge = self.edges.get_mut(edge).ok_or(stale)?;
        let epoch = edge.session_epoch;
        edge.session_is_used |= offer.session_epoch == epoch;
        if edge.session_life != life && offer.session_epoch == epoch {
            return Err((RefusedReason::OlderLife, Head::default()));
        }
        let unknown = (RefusedReason::UnknownStream, Head::default());
        let stream = edge.streams.get_mut(stream).ok_or(unknown)?;
        let verdict = judge(&stream.head, epoch, offer);
        Ok((stream, verdict))
    }

    pub(super) fn land(
        &mut self,
        land: Land,
        cluster: ClusterIncarnation,
        place: LogPlace,
    ) -> Effect {
        let (stream, verdict) = match self.judge(&land.edge, &land.stream, &land.offer) {
            Ok(judged) => judged,
            Err((reason, head)) => return refused(reason, head),
        };
        let before = stream.head;
        let head = match verdict {
            Verdict::Accept(head) => head,
            Verdict::Duplicate if broken(Rule::DoubleFact) => before,
            Verdict::Duplicate => return Effect::Duplicate { head: before },
            Verdict::Refused(reason) => return refused(reason, before),
        };
        let target = stream.target;
        let topic = self.topics.get_mut(&target.topic_id);
        let Some(partition) = topic.and_then(|topic| topic.partition_mut(target)) else {
            return refused(RefusedReason::Parked, before);
        };
        let Some(kafka_offset) = partition.take_offsets(land.offer.count) else {
            return refused(RefusedReason::BadBatch, before);
        };
        let fact = Fact {
            incarnation: land.offer.incarnation,
            edge_offset: land.offer.base_offset,
            count: land.offer.count,
            cluster_incarnation: cluster,
            topic_id: target.topic_id,
            partition: target.partition,
            kafka_offset,
        };
        let edge = self.edges.get_mut(&land.edge);
        if let Some(stream) = edge.and_then(|edge| edge.streams.get_mut(&land.stream)) {
            stream.move_to(head, cluster);
        }
        self.add_part(target, kafka_offset, land.offer.count, land.part, place);
        Effect::Landed(Landed {
            edge: land.edge,
            stream: land.stream,
            fact,
            head,
            part: land.part,
        })
    }

    /// The same rule as for a batch. It needs no topic: nothing is stored.
    pub(super) fn land_gap(&mut self, land: LandGap, cluster: ClusterIncarnation) -> Effect {
        let (stream, verdict) = match self.judge(&land.edge, &land.stream, &land.offer) {
            Ok(judged) => judged,
            Err((reason, head)) => return refused(reason, head),
        };
        let head = match verdict {
            Verdict::Accept(head) if head.next > EDGE_OFFSET_MAX => {
                return refused(RefusedReason::WrongOffset, stream.head);
            }
            Verdict::Accept(head) => head,
            Verdict::Duplicate => return Effect::Duplicate { head: stream.head },
            Verdict::Refused(reason) => return refused(reason, stream.head),
        };
        stream.move_to(head, cluster);
        if broken(Rule::DropGap) {
            return Effect::Duplicate { head };
        }
        let count = land.offer.count;
        stream.gap_records = stream.gap_records.saturating_add(count);
        Effect::GapLanded(GapLanded {
            edge: land.edge,
            stream: land.stream,
            incarnation: head.incarnation,
            from: land.offer.base_offset,
            count,
            reason: land.reason,
            head,
        })
    }
}

/// A stream's offsets end here; none comes so far by honest means.
const EDGE_OFFSET_MAX: EdgeOffset = EdgeOffset(i64::MAX as u64);

/// So many streams of one edge are known; nothing takes one away yet. A connection may announce as many.
pub const EDGE_STREAMS_MAX: usize = 100_000;

/// So many incarnations of a stream a life of the cloud may begin before the numbers of the next.
const INCARNATIONS_PER_LIFE: u64 = 1_000_000;

/// A number that no other life of the cloud has given: what was granted in a life that was lost with a
/// restore must not be taken for what is granted in this one.
fn incarnation_after(newest: Incarnation, cluster: ClusterIncarnation) -> Option<Incarnation> {
    let first = u64::from(cluster.counter.saturating_sub(1)) * INCARNATIONS_PER_LIFE + 1;
    newest
        .0
        .checked_add(1)
        .map(|next| Incarnation(next.max(first)))
}

/// Whether the edge had landed more, in this very life of the cloud, than the ledger knows.
fn is_behind(known: Option<&Stream>, open: &OpenStream, cluster: ClusterIncarnation) -> bool {
    let of_this_life = open.landed > EdgeOffset(0) && open.landed_life == cluster.counter;
    of_this_life
        && known.is_none_or(|stream| {
            let head = &stream.head;
            open.incarnation > head.incarnation
                || (open.incarnation == head.incarnation && open.landed > head.next)
        })
}

impl Stream {
    pub(super) fn new(head: Head, target: Target) -> Self {
        Self {
            head,
            target,
            gap_records: 0,
            life: 0,
            older: (head.incarnation, head.next),
            forks: VecDeque::new(),
        }
    }

    /// The head as an earlier life of the cloud left it.
    fn older(&self, cluster: ClusterIncarnation) -> (Incarnation, EdgeOffset) {
        match self.life == cluster.counter {
            true => self.older,
            false => (self.head.incarnation, self.head.next),
        }
    }

    fn move_to(&mut self, head: Head, cluster: ClusterIncarnation) {
        self.older = self.older(cluster);
        self.life = cluster.counter;
        self.head = head;
    }

    /// From where on what the edge has no longer is not here either, of which incarnation. What it has
    /// not proved to be its own may be another's: then nothing tells but what an earlier life left of
    /// the edge's own incarnation, or where that one ended.
    fn lost_with(
        &self,
        request: &ForkRequest,
        cluster: ClusterIncarnation,
    ) -> Option<(Incarnation, EdgeOffset)> {
        if request.reason != ForkReason::CloudRestored {
            return None;
        }
        if request.is_proved {
            return Some((self.head.incarnation, self.head.next));
        }
        let (incarnation, next) = self.older(cluster);
        let of_edge = request.edge_incarnation;
        if of_edge == incarnation {
            return Some((incarnation, next));
        }
        let ended = self.forks.iter().rfind(|fork| fork.ended == of_edge);
        Some((of_edge, ended.map_or(EdgeOffset(0), |fork| fork.ended_at)))
    }

    fn begin(&mut self, fork: Fork, hash: BoundaryHash, cluster: ClusterIncarnation) {
        self.gap_records = self.gap_records.saturating_add(fork.gap_records());
        let head = Head {
            incarnation: fork.incarnation,
            next: fork.from,
            hash,
        };
        self.move_to(head, cluster);
        if self.forks.len() == FORKS_KEPT_MAX {
            self.forks.pop_front();
        }
        self.forks.push_back(fork);
    }
}
