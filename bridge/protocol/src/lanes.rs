//! Keyed streams: one order for each key instead of one for all. Messages go by their key to *lanes*,
//! each a stream that lands in a partition of its own. When the topic grows, more lanes are made, and
//! keys move; nothing of what comes after is sent before all that came before has landed, so that no
//! key's messages change their order.
//!
//! A value without I/O: whoever owns the journal stores what [`Lanes::encode`] gives in the commit in
//! which the switch takes effect, and whoever drives the sender holds streams as [`Lanes::hold`] says.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::{EdgeOffset, StreamId};
use tidegate_shared::wire::{Reader, WireError};

use crate::broken::{Rule, broken};

/// Lanes of one stream.
pub const LANES_MAX: u32 = 1_024;

/// The lane of a key, as Kafka's own partitioner has it where there are as many partitions
/// (`murmur2` of the key's bytes, without its sign, modulo the lanes).
pub fn lane_of(key: &[u8], lanes: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % lanes.max(1)
}

/// MurmurHash2 as Kafka's `Utils.murmur2` has it.
fn murmur2(bytes: &[u8]) -> u32 {
    const MIX: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let mut mixed = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        mixed = mixed.wrapping_mul(MIX);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MIX) ^ mixed.wrapping_mul(MIX);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let last = rest
            .iter()
            .rev()
            .fold(0, |last, byte| last << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ hash >> 15
}

/// Which streams a keyed stream consists of now, and what has to land before they go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// By lane.
    targets: Vec<StreamId>,
    /// Streams of before the last switch, and where each stood then. While one has not landed so far,
    /// nothing of what came after the switch is sent.
    barriers: BTreeMap<StreamId, EdgeOffset>,
}

/// A stream at a switch: where it ends, and how far it has landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneEnd {
    pub stream: StreamId,
    pub next: EdgeOffset,
    pub landed: EdgeOffset,
}

impl Lanes {
    pub fn new(targets: Vec<StreamId>) -> Self {
        Self {
            targets,
            barriers: BTreeMap::new(),
        }
    }

    pub fn targets(&self) -> &[StreamId] {
        &self.targets
    }

    /// Where a message goes; one without a key to the first lane.
    pub fn target(&self, key: Option<&[u8]>) -> Option<StreamId> {
        let lane = key.map_or(0, |key| lane_of(key, self.targets.len()));
        self.targets.get(lane).copied()
    }

    /// Whether something has to land before the others go on: until then there is no further switch.
    pub fn is_switching(&self) -> bool {
        !self.barriers.is_empty()
    }

    /// From now on messages go to `targets`. `ends` are all streams that messages went to before, with
    /// everything in them that came before.
    pub fn switch(&mut self, targets: Vec<StreamId>, ends: impl IntoIterator<Item = LaneEnd>) {
        let waits = ends.into_iter().filter(|end| end.landed < end.next);
        self.barriers
            .extend(waits.map(|end| (end.stream, end.next)));
        self.targets = targets;
    }

    /// Whether a stream of before the last switch has to land first.
    pub fn waits_for(&self, stream: StreamId) -> bool {
        self.barriers.contains_key(&stream)
    }

    /// From where on a stream is held back.
    pub fn hold(&self, stream: StreamId) -> Option<EdgeOffset> {
        if self.barriers.is_empty() || broken(Rule::SkipBarrier) {
            return None;
        }
        match self.barriers.get(&stream) {
            Some(barrier) => Some(*barrier),
            // Whatever it holds came after the switch, or had landed before.
            None => Some(EdgeOffset(0)),
        }
    }

    /// A stream has landed so far; whether that was the last that the others waited for.
    pub fn note_landed(&mut self, stream: StreamId, landed: EdgeOffset) -> bool {
        let waits_for = self.barriers.get(&stream);
        if waits_for.is_none_or(|barrier| landed < *barrier) {
            return false;
        }
        self.barriers.remove(&stream);
        self.barriers.is_empty()
    }

    /// How many lanes there are, and the barriers.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u32_le(self.targets.len() as u32);
        out.put_u32_le(self.barriers.len() as u32);
        for (stream, barrier) in &self.barriers {
            out.put_u32_le(stream.0);
            out.put_u64_le(barrier.0);
        }
        out.freeze()
    }

    /// What [`Lanes::encode`] gave: the number of lanes, and the barriers.
    pub fn decode(bytes: Bytes) -> Result<(u32, BTreeMap<StreamId, EdgeOffset>), WireError> {
        let mut reader = Reader::new(bytes);
        let lanes = reader.u32("lanes")?;
        let mut barriers = BTreeMap::new();
        for _ in 0..reader.count("barriers", 12)? {
            let stream = StreamId(reader.u32("stream")?);
            barriers.insert(stream, EdgeOffset(reader.u64("barrier")?));
        }
        Ok((lanes, barriers))
    }

    /// The lanes as they were stored, over the streams that they are.
    pub fn restore(targets: Vec<StreamId>, barriers: BTreeMap<StreamId, EdgeOffset>) -> Self {
        Self { targets, barriers }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of Kafka's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn keys_go_where_kafka_sends_them() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert_eq!(murmur2(b""), 275_646_681);
    }

    #[test]
    fn nothing_goes_on_before_all_has_landed() {
        let stream = |number| StreamId(number);
        let mut lanes = Lanes::new(vec![stream(0), stream(1)]);
        assert_eq!(lanes.hold(stream(0)), None);
        let end = |number, next, landed| LaneEnd {
            stream: stream(number),
            next: EdgeOffset(next),
            landed: EdgeOffset(landed),
        };
        let more = vec![stream(0), stream(1), stream(2)];
        lanes.switch(more.clone(), [end(0, 10, 4), end(1, 7, 7)]);
        assert!(lanes.is_switching());
        assert_eq!(lanes.hold(stream(0)), Some(EdgeOffset(10)));
        // All of it has landed, or came after.
        assert_eq!(lanes.hold(stream(1)), Some(EdgeOffset(0)));
        assert_eq!(lanes.hold(stream(2)), Some(EdgeOffset(0)));
        let (count, barriers) = Lanes::decode(lanes.encode()).unwrap();
        assert_eq!((count, Lanes::restore(more, barriers)), (3, lanes.clone()));
        assert!(!lanes.note_landed(stream(0), EdgeOffset(9)));
        assert!(!lanes.note_landed(stream(1), EdgeOffset(9)));
        assert!(lanes.note_landed(stream(0), EdgeOffset(10)));
        assert_eq!(lanes.hold(stream(2)), None);
    }

    proptest! {
        #[test]
        fn every_key_has_a_lane(key in prop::collection::vec(any::<u8>(), 0..40), lanes in 1..50_usize) {
            prop_assert!(lane_of(&key, lanes) < lanes);
        }

        #[test]
        fn hostile_rows_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Lanes::decode(bytes.into());
        }
    }
}
