//! Segments whose indexes are not what a writer made, though every checksum of theirs is right.

use bytes::Bytes;
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_cloud_protocol::ledger::Target;
use tidegate_cloud_protocol::offset_map::Source;
use tidegate_cloud_protocol::segment::{FOOTER_BYTES, PackedBatch, SegmentIndex, SegmentWriter};
use tidegate_shared::id::*;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

use crate::mutate::Random;

const TARGET: Target = Target {
    topic_id: TopicId(1),
    partition: PartitionId(0),
};

/// A segment of a few batches of two edges.
pub fn input(random: &mut Random) -> Vec<u8> {
    let mut offset = random.below(5) as i64;
    let mut writer = SegmentWriter::new(TARGET, KafkaOffset(offset));
    let mut at_edge = [random.below(3); 2];
    for _ in 0..random.below(6) {
        let mut builder = BatchBuilder::new();
        let count = 1 + random.below(4);
        for _ in 0..count {
            builder.push(&Record {
                timestamp_ms: random.below(9) as i64,
                ..Record::default()
            });
        }
        offset += random.below(2) as i64;
        let number = random.below(2) as usize;
        let fact = NamedFact {
            edge: EdgeId::new(format!("edge-{number}")).expect("a name"),
            stream: StreamName::new("telemetry").expect("a name"),
            fact: Fact {
                incarnation: Incarnation(1),
                edge_offset: EdgeOffset(at_edge[number]),
                count,
                cluster_incarnation: ClusterIncarnation::default(),
                topic_id: TARGET.topic_id,
                partition: TARGET.partition,
                kafka_offset: KafkaOffset(offset),
            },
        };
        let batch = PackedBatch {
            bytes: builder.seal(offset, Compression::None, &mut Compressor::new()),
            landed_ms: random.odd_number() as i64,
            min_timestamp_ms: (random.below(2) == 0).then_some(0),
        };
        writer.push(batch, &[fact]).expect("they are in order");
        at_edge[number] += count + random.below(2);
        offset += count as i64;
    }
    let (parts, _) = writer.finish().expect("edges go on");
    parts.concat()
}

/// Whatever is taken as an index answers within itself, and facts lead back to where they come from.
pub fn run(input: &[u8]) -> Result<bool, String> {
    let bytes = input.len() as u64;
    let was_taken = SegmentIndex::decode(input, bytes).is_ok();
    let input = with_right_checksums(input);
    let Ok(index) = SegmentIndex::decode(&input, bytes) else {
        return match was_taken {
            true => Err("taken only with a wrong checksum".to_owned()),
            false => Ok(false),
        };
    };
    let input = Bytes::from(input);
    for entry in index.entries() {
        let run = index.run_from(entry.base_offset, bytes, true);
        if run.entries.first() != Some(entry) {
            return Err(format!("{entry:?} is not found by its offset"));
        }
        let end = run.position + run.bytes;
        let whole = input.get(run.position as usize..end as usize);
        let Some(whole) = whole.map(Bytes::copy_from_slice) else {
            return Err(format!("{entry:?} lies outside the segment"));
        };
        run.batches(&whole).for_each(drop);
        index
            .at_time(entry.max_timestamp_ms)
            .ok_or("its time is not found")?;
    }
    let facts = index.facts();
    for NamedFact { edge, stream, fact } in facts.within(index.base(), index.end()) {
        let source = Source {
            edge,
            stream,
            incarnation: fact.incarnation,
            cluster_incarnation: fact.cluster_incarnation,
        };
        let last = fact.edge_offset.plus(fact.count - 1);
        let expected = fact.kafka_offset.plus(fact.count as i64 - 1);
        match facts.in_cloud(&source, last) {
            Some(offset) if offset == expected => {}
            other => return Err(format!("{fact:?} leads to {other:?}")),
        }
        match facts.at_edge(expected) {
            Some((back, offset)) if *back == source && offset == last => {}
            other => return Err(format!("{fact:?} leads back to {other:?}")),
        }
        let first = facts.first_from(&source, last, index.base());
        if first != Some((last, expected)) {
            return Err(format!("{fact:?} ends first at {first:?}"));
        }
        facts
            .read_of(&source, (index.base(), index.end()))
            .ok_or("nothing of it is read")?;
    }
    facts.mark();
    Ok(true)
}

/// Footer and index as they are, but for the checksums: what a checksum refuses says nothing of what
/// comes behind it.
fn with_right_checksums(input: &[u8]) -> Vec<u8> {
    let mut fixed = input.to_vec();
    let Some(footer) = input.len().checked_sub(FOOTER_BYTES) else {
        return fixed;
    };
    let number = |at: usize| {
        let bytes = input[footer + at..].first_chunk::<4>();
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    // Index length, its CRC, and the CRC of all that is before the magic: see `Footer`.
    if let Some(from) = footer.checked_sub(number(8) as usize) {
        let crc = crc32c::crc32c(&input[from..footer]);
        fixed[footer + 12..footer + 16].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&fixed[footer..footer + FOOTER_BYTES - 12]);
    let at = footer + FOOTER_BYTES - 12;
    fixed[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    fixed
}
