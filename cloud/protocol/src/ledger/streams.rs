//! Streams of edges: where each goes, how far it has landed, and its incarnations.

use std::collections::VecDeque;

use tidegate_bridge_protocol::broken::{Rule, broken};
use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::landing::{Head, Offer, RefusedReason, Verdict, judge};
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, SessionEpoch, StreamName,
};

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
    /// A stream that is known keeps its head and its partition; where its topic is gone it goes to the
    /// one that has the name now. A new one begins after the incarnation that the edge says it has, so
    /// that numbers of a life that this ledger never saw are not taken for its own.
    pub(super) fn open_stream(&mut self, open: OpenStream, cluster: ClusterIncarnation) -> Effect {
        let target = self.target_of(&open);
        let topics = &self.topics;
        let exists = |target: &Target| topics.contains_key(&target.topic_id);
        let known = self.edges.get(&open.edge);
        let known = known.and_then(|edge| edge.streams.get(&open.stream));
        let kept = known.map(|stream| stream.target).filter(exists);
        if let Some(stream) = known
            && self.behind.is_none()
            && stream.is_behind(&open, cluster)
        {
            self.behind = Some(Behind {
                edge: open.edge.clone(),
                seen: cluster,
                seen_epoch: open.session_epoch,
                stream: Some(open.stream.clone()),
            });
        }
        let edge = match self.speaker(&open.edge, open.session_epoch) {
            Ok(edge) => edge,
            Err(reason) => return refused(reason, Head::default()),
        };
        let Some(target) = kept.or(target) else {
            let stream = edge.streams.get(&open.stream);
            let head = stream.map_or(Head::default(), |stream| stream.head);
            return refused(RefusedReason::Parked, head);
        };
        let Some(incarnation) = open.incarnation.0.checked_add(1).map(Incarnation) else {
            return refused(RefusedReason::WrongIncarnation, Head::default());
        };
        let stream = edge.streams.entry(open.stream).or_insert_with(|| {
            let head = Head {
                incarnation,
                ..Head::default()
            };
            Stream::new(head, target)
        });
        stream.target = target;
        if stream.life != cluster.counter {
            stream.landed_before = stream.landed_before.max(open.landed);
        }
        let (head, life) = (stream.head, stream.life);
        Effect::StreamOpened(self.opened(head, life, target, cluster))
    }

    /// Where a stream would go if it were new.
    fn target_of(&self, open: &OpenStream) -> Option<Target> {
        let topic_id = *self.topic_ids.get(&open.topic)?;
        let partitions = self.topics[&topic_id].partitions().len();
        Some(Target {
            topic_id,
            partition: placement::place(&open.edge, &open.stream, partitions)?,
        })
    }

    fn opened(&self, head: Head, life: u32, target: Target, cluster: ClusterIncarnation) -> Opened {
        let topic = self.topics.get(&target.topic_id);
        Opened {
            head,
            target,
            is_of_older_life: life != cluster.counter,
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
        let newest = request.ends.0.max(request.edge_incarnation.0);
        let incarnation = newest.checked_add(1).map(Incarnation);
        let Some(incarnation) = incarnation.filter(|_| request.ends == stream.head.incarnation)
        else {
            return refused(RefusedReason::WrongIncarnation, stream.head);
        };
        let fork_made = Fork {
            incarnation,
            from: request.from,
            ended: stream.head.incarnation,
            ended_at: stream.head.next,
            reason: request.reason,
            at_ms: now_ms,
        };
        stream.begin(fork_made, request.hash, cluster);
        let (head, life, target) = (stream.head, stream.life, stream.target);
        Effect::StreamForked(Forked {
            edge: fork.edge,
            stream: fork.stream,
            fork: fork_made,
            opened: self.opened(head, life, target, cluster),
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
        let stale = (RefusedReason::StaleSessionEpoch, Head::default());
        let edge = self.edges.get_mut(edge).ok_or(stale)?;
        let epoch = edge.session_epoch;
        edge.session_is_used |= offer.session_epoch == epoch;
        let unknown = (RefusedReason::UnknownStream, Head::default());
        let stream = edge.streams.get_mut(stream).ok_or(unknown)?;
        let verdict = judge(&stream.head, epoch, offer);
        Ok((stream, verdict))
    }

    pub(super) fn land(&mut self, land: Land, cluster: ClusterIncarnation) -> Effect {
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
            (stream.head, stream.life) = (head, cluster.counter);
        }
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
            Verdict::Accept(head) => head,
            Verdict::Duplicate => return Effect::Duplicate { head: stream.head },
            Verdict::Refused(reason) => return refused(reason, stream.head),
        };
        (stream.head, stream.life) = (head, cluster.counter);
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

impl Stream {
    pub(super) fn new(head: Head, target: Target) -> Self {
        Self {
            head,
            target,
            gap_records: 0,
            life: 0,
            landed_before: EdgeOffset(0),
            forks: VecDeque::new(),
        }
    }

    /// Whether the edge had landed more of this very incarnation, in this very life of the cloud,
    /// than the ledger knows.
    fn is_behind(&self, open: &OpenStream, cluster: ClusterIncarnation) -> bool {
        open.incarnation == self.head.incarnation
            && self.life == cluster.counter
            && open.landed > self.head.next.max(self.landed_before)
    }

    fn begin(&mut self, fork: Fork, hash: BoundaryHash, cluster: ClusterIncarnation) {
        self.gap_records = self.gap_records.saturating_add(fork.gap_records());
        self.head = Head {
            incarnation: fork.incarnation,
            next: fork.from,
            hash,
        };
        self.life = cluster.counter;
        if self.forks.len() == FORKS_KEPT_MAX {
            self.forks.pop_front();
        }
        self.forks.push_back(fork);
    }
}
