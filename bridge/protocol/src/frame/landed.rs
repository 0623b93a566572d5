//! Landed and Refused: the answers to a Batch or a Gap.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{
    BoundaryHash, EdgeOffset, Incarnation, KafkaOffset, PartitionId, StreamId, TopicId,
};
use tidegate_shared::wire::Reader;

use super::{Body, BodyError, put_cluster, put_item, take_cluster, take_items};
use crate::fact::Fact;
use crate::landing::RefusedReason;
use crate::limits::FRAME_FACTS_MAX;

/// Type 6, cloud to edge: all of the stream below `landed` is durable in the cloud, and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub request: u64,
    pub stream: StreamId,
    pub incarnation: Incarnation,
    pub landed: EdgeOffset,
    /// The hash at `landed`.
    pub hash: BoundaryHash,
    /// Where the offered interval lies; empty for a gap, and for a duplicate whose facts the ledger
    /// does not keep.
    pub facts: Vec<Fact>,
}

impl Body for Landed {
    const KIND: u8 = 6;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.request);
        out.put_u32_le(self.stream.0);
        out.put_u64_le(self.incarnation.0);
        out.put_u64_le(self.landed.0);
        out.put_u128_le(self.hash.0);
        let facts = &self.facts[..self.facts.len().min(FRAME_FACTS_MAX)];
        out.put_u32_le(facts.len() as u32);
        for fact in facts {
            put_item(out, |out| put_fact(out, fact));
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        let request = reader.u64("request")?;
        let stream = StreamId(reader.u32("stream")?);
        let incarnation = Incarnation(reader.u64("incarnation")?);
        let landed = EdgeOffset(reader.u64("landed")?);
        let hash = BoundaryHash(reader.u128("hash")?);
        let facts = take_items(reader, "facts", take_fact)?;
        Ok(Self {
            request,
            stream,
            incarnation,
            landed,
            hash,
            facts,
        })
    }
}

fn put_fact(out: &mut BytesMut, fact: &Fact) {
    out.put_u64_le(fact.incarnation.0);
    out.put_u64_le(fact.edge_offset.0);
    out.put_u64_le(fact.count);
    put_cluster(out, fact.cluster_incarnation);
    out.put_u128_le(fact.topic_id.0);
    out.put_i32_le(fact.partition.0);
    out.put_i64_le(fact.kafka_offset.0);
}

fn take_fact(reader: &mut Reader) -> Result<Fact, BodyError> {
    Ok(Fact {
        incarnation: Incarnation(reader.u64("fact's incarnation")?),
        edge_offset: EdgeOffset(reader.u64("fact's edge offset")?),
        count: reader.u64("fact's count")?,
        cluster_incarnation: take_cluster(reader)?,
        topic_id: TopicId(reader.u128("fact's topic")?),
        partition: PartitionId(reader.i32("fact's partition")?),
        kafka_offset: KafkaOffset(reader.i64("fact's Kafka offset")?),
    })
}

/// Type 7, cloud to edge: an offer was not taken; the hub's state says where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub request: u64,
    pub stream: StreamId,
    pub incarnation: Incarnation,
    pub reason: RefusedReason,
    /// E: the next offset that the hub takes.
    pub next: EdgeOffset,
    /// The hash at E.
    pub hash: BoundaryHash,
}

impl Body for Refused {
    const KIND: u8 = 7;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.request);
        out.put_u32_le(self.stream.0);
        out.put_u64_le(self.incarnation.0);
        out.put_u8(self.reason as u8);
        out.put_u64_le(self.next.0);
        out.put_u128_le(self.hash.0);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            request: reader.u64("request")?,
            stream: StreamId(reader.u32("stream")?),
            incarnation: Incarnation(reader.u64("incarnation")?),
            reason: {
                let number = reader.u8("reason")?;
                RefusedReason::from_number(number).unwrap_or(RefusedReason::Parked)
            },
            next: EdgeOffset(reader.u64("next")?),
            hash: BoundaryHash(reader.u128("hash")?),
        })
    }
}
