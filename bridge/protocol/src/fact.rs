//! Facts: which interval of a stream lies at which interval of a partition. All facts together are
//! the offset map. A fact is born in the ledger's apply and never changes.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, EdgeOffset, Incarnation, KafkaOffset, PartitionId, StreamName,
    TopicId,
};
use tidegate_shared::wire::{Reader, WireError};

/// One interval's place on the cloud's side. The edge's side (edge and stream) is said by where
/// the fact stands: in a frame about a stream, or in the index of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    pub incarnation: Incarnation,
    pub edge_offset: EdgeOffset,
    pub count: u64,
    pub cluster_incarnation: ClusterIncarnation,
    pub topic_id: TopicId,
    pub partition: PartitionId,
    pub kafka_offset: KafkaOffset,
}

impl Fact {
    /// Its fields, as frames and the ledger's commands have them.
    pub fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.incarnation.0);
        out.put_u64_le(self.edge_offset.0);
        out.put_u64_le(self.count);
        out.put_u32_le(self.cluster_incarnation.counter);
        out.put_u128_le(self.cluster_incarnation.id);
        out.put_u128_le(self.topic_id.0);
        out.put_i32_le(self.partition.0);
        out.put_i64_le(self.kafka_offset.0);
    }

    pub fn take(reader: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            incarnation: Incarnation(reader.u64("fact's incarnation")?),
            edge_offset: EdgeOffset(reader.u64("fact's edge offset")?),
            count: reader.u64("fact's count")?,
            cluster_incarnation: ClusterIncarnation {
                counter: reader.u32("fact's cluster incarnation")?,
                id: reader.u128("fact's cluster id")?,
            },
            topic_id: TopicId(reader.u128("fact's topic")?),
            partition: PartitionId(reader.i32("fact's partition")?),
            kafka_offset: KafkaOffset(reader.i64("fact's Kafka offset")?),
        })
    }

    /// What it says of `[from, to)` of the partition; `None` where that is nothing.
    pub fn within(&self, from: KafkaOffset, to: KafkaOffset) -> Option<Self> {
        let first = from.max(self.kafka_offset);
        let end = to.min(self.kafka_offset.plus(self.count as i64));
        let count = u64::try_from(end.0.checked_sub(first.0)?).ok()?;
        (count > 0).then(|| Self {
            edge_offset: self
                .edge_offset
                .plus((first.0 - self.kafka_offset.0) as u64),
            kafka_offset: first,
            count,
            ..*self
        })
    }

    /// Where an edge offset landed; `None` outside the interval.
    pub fn to_kafka(&self, edge_offset: EdgeOffset) -> Option<KafkaOffset> {
        let delta = edge_offset
            .0
            .checked_sub(self.edge_offset.0)
            .filter(|d| *d < self.count)?;
        Some(self.kafka_offset.plus(delta as i64))
    }

    /// Which edge offset lies at a Kafka offset; `None` outside the interval.
    pub fn to_edge(&self, kafka_offset: KafkaOffset) -> Option<EdgeOffset> {
        let delta = u64::try_from(kafka_offset.0.checked_sub(self.kafka_offset.0)?).ok()?;
        (delta < self.count).then(|| self.edge_offset.plus(delta))
    }
}

/// A fact with both its sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFact {
    pub edge: EdgeId,
    pub stream: StreamName,
    pub fact: Fact,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_exact_both_ways_and_silent_outside() {
        let fact = Fact {
            incarnation: Incarnation(1),
            edge_offset: EdgeOffset(100),
            count: 10,
            cluster_incarnation: ClusterIncarnation { counter: 1, id: 9 },
            topic_id: TopicId(4),
            partition: PartitionId(2),
            kafka_offset: KafkaOffset(5000),
        };
        for delta in 0..10 {
            let (edge, kafka) = (EdgeOffset(100 + delta), KafkaOffset(5000 + delta as i64));
            assert_eq!(fact.to_kafka(edge), Some(kafka));
            assert_eq!(fact.to_edge(kafka), Some(edge));
        }
        let cut = |from, to| fact.within(KafkaOffset(from), KafkaOffset(to));
        let part = cut(5003, 5005).unwrap();
        assert_eq!((part.edge_offset, part.count), (EdgeOffset(103), 2));
        assert_eq!(cut(0, 9000), Some(fact));
        for (from, to) in [(0, 5000), (5010, 9000), (5004, 5004), (5006, 5002)] {
            assert_eq!(cut(from, to), None);
        }
        assert_eq!(fact.to_kafka(EdgeOffset(99)), None);
        assert_eq!(fact.to_kafka(EdgeOffset(110)), None);
        assert_eq!(fact.to_edge(KafkaOffset(4999)), None);
        assert_eq!(fact.to_edge(KafkaOffset(5010)), None);
    }
}
