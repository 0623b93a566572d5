//! Entry 8 of a tick: takes facts of an earlier life, or of another map, into the offset map.

use bytes::{BufMut, BytesMut};
use tidegate_bridge_protocol::fact::Fact;
use tidegate_shared::id::{
    ClusterIncarnation, EdgeOffset, Incarnation, KafkaOffset, PartitionId, TopicId,
};
use tidegate_shared::wire::{Reader, put_bytes};

use super::open_session::take_edge;
use super::open_stream::take_stream;
use super::{DecodeError, Row};
use crate::offset_map::NamedFact;

/// Facts of one entry.
pub const FACTS_MAX: usize = 1_000;

/// The shortest fact: two one-letter names.
const FACT_BYTES_MIN: usize = 82;

/// Whoever proposes has seen that none contradicts what is known. The ledger's own state does not
/// change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportFacts {
    pub facts: Vec<NamedFact>,
}

impl Row for ImportFacts {
    const WHAT: &'static str = "entry import facts";
    const NUMBER: u8 = 8;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(u32::try_from(self.facts.len()).expect("at most FACTS_MAX"));
        for named in &self.facts {
            let fact = &named.fact;
            put_bytes(out, named.edge.as_str().as_bytes());
            put_bytes(out, named.stream.as_str().as_bytes());
            out.put_u64_le(fact.incarnation.0);
            out.put_u64_le(fact.edge_offset.0);
            out.put_u64_le(fact.count);
            out.put_u32_le(fact.cluster_incarnation.counter);
            out.put_u128_le(fact.cluster_incarnation.id);
            out.put_u128_le(fact.topic_id.0);
            out.put_i32_le(fact.partition.0);
            out.put_i64_le(fact.kafka_offset.0);
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let count = reader.count("facts", FACT_BYTES_MIN)?;
        let mut facts = Vec::with_capacity(count);
        for _ in 0..count {
            facts.push(NamedFact {
                edge: take_edge(reader)?,
                stream: take_stream(reader)?,
                fact: Fact {
                    incarnation: Incarnation(reader.u64("incarnation")?),
                    edge_offset: EdgeOffset(reader.u64("edge offset")?),
                    count: reader.u64("count")?,
                    cluster_incarnation: ClusterIncarnation {
                        counter: reader.u32("cluster incarnation")?,
                        id: reader.u128("cluster id")?,
                    },
                    topic_id: TopicId(reader.u128("topic")?),
                    partition: PartitionId(reader.i32("partition")?),
                    kafka_offset: KafkaOffset(reader.i64("Kafka offset")?),
                },
            });
        }
        Ok(Self { facts })
    }
}
