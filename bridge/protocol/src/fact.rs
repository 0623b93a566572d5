//! Facts: which interval of a stream lies at which interval of a partition. All facts together are
//! the offset map. A fact is born in the ledger's apply and never changes.

use tidegate_shared::id::{
    ClusterIncarnation, EdgeOffset, Incarnation, KafkaOffset, PartitionId, TopicId,
};

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
        assert_eq!(fact.to_kafka(EdgeOffset(99)), None);
        assert_eq!(fact.to_kafka(EdgeOffset(110)), None);
        assert_eq!(fact.to_edge(KafkaOffset(4999)), None);
        assert_eq!(fact.to_edge(KafkaOffset(5010)), None);
    }
}
