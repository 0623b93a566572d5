//! `2-streams`: a stream's name, topic, offsets and hashes.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::{BoundaryHash, EdgeOffset, Incarnation, StreamName, TopicName};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::TableError;
use crate::clock::JournalTime;
use crate::retention::{Overflow, Retention, StreamPolicy};
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
    put_policy(&mut out, &stream.policy);
    out.put_u64_le(stream.gap_records);
    out.put_u32_le(stream.landed_marks.len() as u32);
    for (offset, at) in &stream.landed_marks {
        out.put_u64_le(offset.0);
        out.put_u64_le(at.0);
    }
    out.put_u32_le(stream.landed_life);
    out.put_u64_le(stream.gap_records_landed);
    out
}

/// `u64::MAX` stands for "no bound".
fn put_policy(out: &mut BytesMut, policy: &StreamPolicy) {
    let retention = &policy.retention;
    out.put_u64_le(retention.age_ms.unwrap_or(u64::MAX));
    out.put_u64_le(retention.bytes.unwrap_or(u64::MAX));
    out.put_u8(u8::from(retention.until_landed));
    out.put_u64_le(retention.keep_after_landed_ms);
    out.put_u8(policy.overflow as u8);
}

fn take_policy(reader: &mut Reader) -> Result<StreamPolicy, WireError> {
    let bound = |value: u64| (value != u64::MAX).then_some(value);
    Ok(StreamPolicy {
        retention: Retention {
            age_ms: bound(reader.u64("retention age")?),
            bytes: bound(reader.u64("retention bytes")?),
            until_landed: reader.u8("until landed")? != 0,
            keep_after_landed_ms: reader.u64("keep after landed")?,
        },
        overflow: match reader.u8("overflow")? {
            0 => Overflow::Reject,
            1 => Overflow::DropOldest,
            _ => return Err(WireError::Invalid { field: "overflow" }),
        },
    })
}

pub(super) fn decode(row: Bytes) -> Result<StreamState, TableError> {
    let mut reader = Reader::new(row);
    let name = StreamName::new(reader.string("name", StreamName::LENGTH_MAX)?)?;
    let topic = TopicName::new(reader.string("topic", TopicName::LENGTH_MAX)?)?;
    let mut stream = StreamState {
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
    };
    stream.offered = stream.next;
    // Format 1 ends here.
    if !reader.is_empty() {
        stream.policy = take_policy(&mut reader)?;
        stream.gap_records = reader.u64("gap records")?;
        for _ in 0..reader.count("landed marks", 16)? {
            let offset = EdgeOffset(reader.u64("mark's offset")?);
            let at = JournalTime(reader.u64("mark's time")?);
            stream.landed_marks.push_back((offset, at));
        }
    }
    // And format 3 here.
    if !reader.is_empty() {
        stream.landed_life = reader.u32("landed life")?;
    }
    // And what the first builds of format 4 wrote, here.
    if !reader.is_empty() {
        stream.gap_records_landed = reader.u64("gap records that landed")?;
    }
    Ok(stream)
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
            landed_life: 13,
            last_chunk: (7, 8),
            offered: EdgeOffset(4),
            gap_records: 9,
            gap_records_landed: 3,
            landed_marks: [(EdgeOffset(2), JournalTime(10))].into(),
            policy: StreamPolicy {
                retention: Retention {
                    age_ms: Some(11),
                    bytes: None,
                    until_landed: false,
                    keep_after_landed_ms: 12,
                },
                overflow: Overflow::DropOldest,
            },
            ..StreamState::new(name, TopicName::new("telemetry").unwrap())
        };
        let row = encode(&stream).freeze();
        assert_eq!(decode(row.clone()).unwrap(), stream);
        let old = decode(row.slice(..row.len() - 8)).unwrap();
        assert_eq!((old.landed_life, old.gap_records_landed), (13, 0));
        let old = decode(row.slice(..row.len() - 8 - 4)).unwrap();
        assert_eq!((old.gap_records, old.landed_life), (9, 0));
        // A row of format 1 has no policy, and what comes after it.
        let old = decode(row.slice(..row.len() - 26 - 8 - 4 - 16 - 4 - 8)).unwrap();
        assert_eq!(old.policy, StreamPolicy::default());
        assert_eq!((old.next, old.gap_records), (EdgeOffset(4), 0));
    }
}
