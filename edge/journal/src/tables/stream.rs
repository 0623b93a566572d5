//! `2-streams`: a stream's name, topic, offsets and hashes.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, StreamName, TopicName};
use tidegate_shared::wire::{Reader, put_bytes};

use super::TableError;
use crate::state::StreamState;

pub(super) fn encode(stream: &StreamState) -> BytesMut {
    let mut out = BytesMut::with_capacity(128);
    put_bytes(&mut out, stream.name.as_str().as_bytes());
    put_bytes(&mut out, stream.topic.as_str().as_bytes());
    out.put_u64_le(stream.incarnation.0);
    out.put_u64_le(stream.next.0);
    out.put_u128_le(stream.hash.0);
    out.put_u64_le(stream.landed.0);
    out.put_u128_le(stream.landed_hash.0);
    out.put_u64_le(stream.last_chunk.0);
    out.put_u32_le(stream.last_chunk.1);
    out
}

pub(super) fn decode(row: Bytes) -> Result<StreamState, TableError> {
    let mut reader = Reader::new(row);
    let name = StreamName::new(reader.string("name", StreamName::LENGTH_MAX)?)?;
    let topic = TopicName::new(reader.string("topic", TopicName::LENGTH_MAX)?)?;
    Ok(StreamState {
        incarnation: Incarnation(reader.u64("incarnation")?),
        next: EdgeOffset(reader.u64("next")?),
        hash: BoundaryHash(reader.u128("hash")?),
        landed: EdgeOffset(reader.u64("landed")?),
        landed_hash: BoundaryHash(reader.u128("landed hash")?),
        last_chunk: (
            reader.u64("last chunk's file")?,
            reader.u32("last chunk's place")?,
        ),
        ..StreamState::new(name, topic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        let name = StreamName::new("telemetry#2").unwrap();
        let stream = StreamState {
            incarnation: Incarnation(3),
            next: EdgeOffset(4),
            hash: BoundaryHash(5),
            landed: EdgeOffset(2),
            landed_hash: BoundaryHash(6),
            last_chunk: (7, 8),
            ..StreamState::new(name, TopicName::new("telemetry").unwrap())
        };
        assert_eq!(decode(encode(&stream).freeze()).unwrap(), stream);
    }
}
