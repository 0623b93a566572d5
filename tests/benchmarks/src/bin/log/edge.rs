//! An edge's end of the bridge, as little of it as lands batches: it announces lanes, offers batches of each
//! in turn, and holds what it is answered against what it offered.

use anyhow::{Context, bail, ensure};
use tidegate_bridge_protocol::frame::{
    Announce, AnnouncedStream, Batch, Frame, Granted, GrantedStream, Hello, Landed,
    PROTOCOL_VERSION,
};
use tidegate_bridge_protocol::landing::Offer;
use tidegate_bridge_protocol::limits::FRAME_STREAMS_MAX;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, SessionEpoch, StoreId,
    StreamId, StreamName, TopicName,
};

use crate::batches::Batches;

/// The edges' names: `load-0`, `load-1`, …
pub fn name(number: usize) -> anyhow::Result<EdgeId> {
    Ok(EdgeId::new(format!("load-{number}"))?)
}

/// The topics' names: `log-0`, `log-1`, …
pub fn topic(number: usize) -> String {
    format!("log-{number}")
}

/// A lane: where it stands, with all that was offered.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    incarnation: Incarnation,
    next: EdgeOffset,
    hash: BoundaryHash,
    /// Where it stands with all that was answered.
    landed: EdgeOffset,
}

#[derive(Clone, Debug)]
pub struct Edge {
    number: usize,
    topic: TopicName,
    session_epoch: SessionEpoch,
    lanes: Vec<Lane>,
    requests: u64,
    granted: usize,
}

impl Edge {
    /// Its lanes go to the partitions of their numbers.
    pub fn new(number: usize, topic_number: usize, lanes: usize) -> anyhow::Result<Self> {
        Ok(Self {
            number,
            topic: TopicName::new(topic(topic_number))?,
            session_epoch: SessionEpoch(0),
            lanes: vec![Lane::default(); lanes],
            requests: 0,
            granted: 0,
        })
    }

    pub fn hello(&self) -> Frame {
        Frame::Hello(Hello {
            protocol_version: PROTOCOL_VERSION,
            store_id: StoreId(self.number as u128 + 1),
            cluster_incarnation: ClusterIncarnation::default(),
            session_epoch: SessionEpoch(0),
        })
    }

    /// What the hub says to a Hello.
    pub fn welcomed(&mut self, frame: Frame) -> anyhow::Result<Vec<Frame>> {
        let Frame::Welcome(welcome) = frame else {
            bail!("instead of Welcome came {frame:?}");
        };
        self.session_epoch = welcome.session_epoch;
        let lanes: Vec<usize> = (0..self.lanes.len()).collect();
        let announce = |numbers: &[usize]| {
            let streams: anyhow::Result<_> =
                numbers.iter().map(|lane| self.announced(*lane)).collect();
            Ok(Frame::Announce(Announce { streams: streams? }))
        };
        lanes.chunks(FRAME_STREAMS_MAX).map(announce).collect()
    }

    fn announced(&self, lane: usize) -> anyhow::Result<AnnouncedStream> {
        Ok(AnnouncedStream {
            stream: StreamId(u32::try_from(lane)?),
            name: StreamName::new(format!("readings#{lane}"))?,
            topic: self.topic.clone(),
            incarnation: Incarnation(0),
            first: EdgeOffset(0),
            next: EdgeOffset(0),
            landed: EdgeOffset(0),
            landed_life: 0,
        })
    }

    pub fn grant(&mut self, frame: Frame) -> anyhow::Result<()> {
        let Frame::Granted(Granted { streams }) = frame else {
            bail!("instead of Granted came {frame:?}");
        };
        for granted in streams {
            let GrantedStream {
                stream,
                incarnation,
                next,
                hash,
                refused,
                partitions,
            } = granted;
            ensure!(refused.is_none(), "lane {stream} was refused: {refused:?}");
            let lane = self.lane(stream)?;
            ensure!(stream.0 < partitions, "lane {stream} has no partition");
            *lane = Lane {
                incarnation,
                next,
                hash,
                landed: next,
            };
            self.granted += 1;
        }
        Ok(())
    }

    pub fn is_granted(&self) -> bool {
        self.granted == self.lanes.len()
    }

    fn lane(&mut self, stream: StreamId) -> anyhow::Result<&mut Lane> {
        let lane = self.lanes.get_mut(stream.0 as usize);
        lane.with_context(|| format!("there is no lane {stream}"))
    }

    /// The next batch of the lane whose turn it is.
    pub fn offer(&mut self, batches: &mut Batches) -> Batch {
        let number = self.requests as usize % self.lanes.len();
        self.requests += 1;
        let lane = &mut self.lanes[number];
        let batch = batches.next_at(lane.next.0 as i64);
        let offer = Offer {
            session_epoch: self.session_epoch,
            incarnation: lane.incarnation,
            base_offset: lane.next,
            count: u64::from(batches.records),
            hash_before: lane.hash,
            hash_after: BoundaryHash(lane.hash.0 + 1),
        };
        lane.next = lane.next.plus(offer.count);
        lane.hash = offer.hash_after;
        Batch {
            request: self.requests,
            stream: StreamId(number as u32),
            offer,
            batch,
        }
    }

    /// How many records an answer says have landed.
    pub fn landed(&mut self, frame: Frame) -> anyhow::Result<u64> {
        let Frame::Landed(Landed {
            stream,
            landed,
            facts,
            ..
        }) = frame
        else {
            bail!("instead of Landed came {frame:?}");
        };
        let lane = self.lane(stream)?;
        let [fact] = &facts[..] else {
            bail!("a batch of lane {stream} has {} facts", facts.len());
        };
        ensure!(
            fact.edge_offset == lane.landed && lane.landed.plus(fact.count) == landed,
            "lane {stream} stands at {}, and landed are {} from {} on",
            lane.landed,
            fact.count,
            fact.edge_offset
        );
        lane.landed = landed;
        Ok(fact.count)
    }
}
