//! One keyed stream over its life: with how many lanes it begins, when it gets more, and what has to
//! land before they go on. All that is decided about lanes; the meaning of a switch is
//! [`Lanes`](crate::lanes::Lanes)'.
//!
//! A value without I/O. Whoever owns the journal opens the streams that are named here, commits, and
//! says where streams stand; whoever drives the sender holds lanes as [`Keyed::hold`] says.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidegate_shared::id::{EdgeOffset, NameError, StreamId, StreamName};

use crate::lanes::{LANES_MAX, LaneEnd, Lanes};

/// What is stored of a keyed stream: how many lanes, and the barriers. See [`Lanes::decode`].
pub type StoredLanes = (u32, BTreeMap<StreamId, EdgeOffset>);

/// See the module.
#[derive(Clone, Debug)]
pub struct Keyed {
    name: StreamName,
    lanes: Lanes,
    /// Lanes that there should be, by the configuration and the topic's partitions; 0 where the
    /// configuration wants none (any more).
    wanted: u32,
}

/// How many lanes to open at a start, by the configuration and what is stored; 0: the stream itself.
/// `None`: it has none, and never had.
pub fn lanes_to_open(configured: u32, stored: Option<&StoredLanes>) -> Option<u32> {
    match stored {
        None if configured == 0 => None,
        None => Some(configured),
        // While a switch is under way its lanes stay: the next one begins behind it.
        Some((lanes, barriers)) if !barriers.is_empty() => Some(*lanes),
        Some(_) if configured == 0 => Some(0),
        Some((lanes, _)) => Some(configured.max(*lanes)),
    }
}

/// The names of so many lanes of a stream; none: its own.
pub fn lane_names(stream: &StreamName, lanes: u32) -> Result<Vec<StreamName>, NameError> {
    match lanes {
        0 => Ok(vec![stream.clone()]),
        lanes => (0..lanes).map(|lane| stream.with_lane(lane)).collect(),
    }
}

impl Keyed {
    /// Over the streams of [`lanes_to_open`]. Nothing goes to them before [`Keyed::start`].
    pub fn new(name: StreamName, configured: u32, targets: Vec<StreamId>) -> Self {
        Self {
            name,
            lanes: Lanes::new(targets),
            wanted: configured,
        }
    }

    pub fn name(&self) -> &StreamName {
        &self.name
    }

    pub fn targets(&self) -> &[StreamId] {
        self.lanes.targets()
    }

    /// The streams are durable. `previous` are those of the lanes that are stored, as far as there are
    /// any; `ends` says of every stream where it stands. Where lanes are others than before, what is
    /// in the old ones goes first, and the row of [`Keyed::encode`] is to be committed before anything
    /// goes to the new ones: then this is true.
    pub fn start(
        &mut self,
        stored: Option<&StoredLanes>,
        previous: &[StreamId],
        ends: &[LaneEnd],
    ) -> bool {
        let barriers = stored.map_or_else(BTreeMap::new, |(_, barriers)| barriers.clone());
        let targets = self.lanes.targets().to_vec();
        let switches = previous != targets;
        self.lanes = Lanes::restore(targets.clone(), barriers);
        if switches {
            self.lanes.switch(targets, ends_of(previous, ends));
        }
        self.settle(ends);
        switches
    }

    /// Where a message goes.
    pub fn target(&self, key: Option<&[u8]>) -> Option<StreamId> {
        self.lanes.target(key)
    }

    /// Whether a stream is one of its lanes, or one that they wait for.
    pub fn concerns(&self, stream: StreamId) -> bool {
        self.lanes.targets().contains(&stream) || self.lanes.waits_for(stream)
    }

    /// From where on a stream is not to be sent yet. It is looked at *after* reading: what came after a
    /// switch is there only once the hold is.
    pub fn hold(&self, stream: StreamId) -> Option<EdgeOffset> {
        self.lanes.hold(stream)
    }

    pub fn is_switching(&self) -> bool {
        self.lanes.is_switching()
    }

    /// The topic that its lanes go to has so many partitions.
    pub fn want(&mut self, partitions: u32) {
        if self.wanted > 0 {
            self.wanted = self.wanted.max(partitions.min(LANES_MAX));
        }
    }

    /// How many lanes there should be, if these are more, and none waits for another.
    pub fn wanting(&self) -> Option<u32> {
        let is_wanting = self.wanted as usize > self.lanes.targets().len();
        (is_wanting && !self.lanes.is_switching()).then_some(self.wanted)
    }

    /// As it is with more lanes. Everything that messages were put to before is committed, and `ends`
    /// says so. It takes the place of this one when its row is durable, after [`Keyed::settle`].
    pub fn grown(&self, targets: Vec<StreamId>, ends: &[LaneEnd]) -> Self {
        let mut grown = self.clone();
        let before = ends_of(self.lanes.targets(), ends);
        grown.lanes.switch(targets, before);
        grown
    }

    /// Streams have landed so far, whenever that was.
    pub fn settle(&mut self, ends: &[LaneEnd]) {
        for end in ends {
            self.lanes.note_landed(end.stream, end.landed);
        }
    }

    /// A stream has landed so far; whether that was the last that the others waited for: then its row
    /// is to be stored sometime, they are let go, and more lanes may be wanted.
    pub fn note_landed(&mut self, stream: StreamId, landed: EdgeOffset) -> bool {
        self.lanes.note_landed(stream, landed)
    }

    /// As it is stored, by its name.
    pub fn encode(&self) -> Bytes {
        self.lanes.encode()
    }
}

fn ends_of(streams: &[StreamId], ends: &[LaneEnd]) -> Vec<LaneEnd> {
    let of_streams = ends.iter().filter(|end| streams.contains(&end.stream));
    of_streams.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(stream: u32, next: u64, landed: u64) -> LaneEnd {
        LaneEnd {
            stream: StreamId(stream),
            next: EdgeOffset(next),
            landed: EdgeOffset(landed),
        }
    }

    fn streams(count: u32) -> Vec<StreamId> {
        (0..count).map(StreamId).collect()
    }

    fn keyed(lanes: u32) -> Keyed {
        let name = StreamName::new("telemetry").unwrap();
        Keyed::new(name, lanes, streams(lanes))
    }

    #[test]
    fn a_start_opens_what_is_stored_or_more() {
        let barrier = BTreeMap::from([(StreamId(0), EdgeOffset(3))]);
        let cases = [
            (0, None, None),
            (2, None, Some(2)),
            (2, Some((5, BTreeMap::new())), Some(5)),
            (8, Some((5, BTreeMap::new())), Some(8)),
            (0, Some((5, BTreeMap::new())), Some(0)),
            (8, Some((5, barrier.clone())), Some(5)),
            (0, Some((5, barrier)), Some(5)),
        ];
        for (configured, stored, expected) in cases {
            let opened = lanes_to_open(configured, stored.as_ref());
            assert_eq!(opened, expected, "{configured} {stored:?}");
        }
    }

    #[test]
    fn growth_waits_for_the_switch_before_it() {
        let mut keyed = keyed(2);
        keyed.want(4);
        assert_eq!(keyed.wanting(), Some(4));
        let mut grown = keyed.grown(streams(4), &[end(0, 5, 2), end(1, 3, 3)]);
        assert!(!keyed.is_switching(), "nothing is so before it is durable");
        grown.settle(&[end(0, 5, 4)]);
        grown.want(6);
        assert_eq!((grown.is_switching(), grown.wanting()), (true, None));
        assert_eq!(grown.hold(StreamId(3)), Some(EdgeOffset(0)));
        assert!(grown.note_landed(StreamId(0), EdgeOffset(5)));
        assert_eq!((grown.hold(StreamId(3)), grown.wanting()), (None, Some(6)));
        grown.want(u32::MAX);
        assert_eq!(grown.wanting(), Some(LANES_MAX));
    }

    #[test]
    fn a_start_goes_on_with_what_had_not_landed() {
        let mut keyed = keyed(4);
        let barriers = BTreeMap::from([(StreamId(0), EdgeOffset(5)), (StreamId(1), EdgeOffset(3))]);
        let ends = [end(0, 9, 4), end(1, 3, 3)];
        assert!(!keyed.start(Some(&(4, barriers)), &streams(4), &ends));
        assert_eq!(keyed.hold(StreamId(0)), Some(EdgeOffset(5)));
        assert!(keyed.note_landed(StreamId(0), EdgeOffset(5)));
        // More are configured than there were.
        let ends = [end(0, 9, 9), end(1, 3, 2)];
        assert!(keyed.start(Some(&(2, BTreeMap::new())), &streams(2), &ends));
        assert_eq!(keyed.hold(StreamId(1)), Some(EdgeOffset(3)));
    }

    #[test]
    fn a_stream_without_lanes_wants_none() {
        let mut keyed = keyed(0);
        keyed.want(7);
        assert_eq!(keyed.wanting(), None);
        let name = StreamName::new("telemetry").unwrap();
        assert_eq!(lane_names(&name, 0).unwrap()[0], name);
        let lanes = lane_names(&name, 2).unwrap();
        assert_eq!(lanes[1].as_str(), "telemetry#1");
    }
}
