//! Joins small neighbouring chunks into one batch before it is sent: the cloud's cost is per batch.
//! What is large enough goes as it lies in the journal, byte for byte.

use bytes::Bytes;
use tidegate_shared::id::{BoundaryHash, EdgeOffset};
use tidegate_shared::record::{Batch, BatchBuilder, BatchError, Compression, Compressor, Record};

use crate::chunk::Chunk;
use crate::journal::record_bytes;
use crate::limits::{MERGE_CHUNK_BYTES_MAX, MERGED_RECORDS_BYTES_MAX};

/// One or more whole chunks, as one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub base_offset: EdgeOffset,
    pub count: u64,
    pub hash_before: BoundaryHash,
    pub hash_after: BoundaryHash,
    pub batch: Bytes,
}

/// Chunks of one stream, in order and without a hole, as batches: small neighbours joined, as long
/// as their records take at most [`MERGED_RECORDS_BYTES_MAX`] unpacked.
pub fn merge(chunks: Vec<Chunk>, compression: Compression) -> Result<Vec<Sealed>, BatchError> {
    let mut merged = Vec::new();
    let mut group = Group::default();
    let mut compressor = Compressor::new();
    for chunk in chunks {
        if chunk.batch.len() >= MERGE_CHUNK_BYTES_MAX {
            merged.extend(group.seal(compression, &mut compressor));
            group.chunks.push(chunk);
            merged.extend(group.seal(compression, &mut compressor));
            continue;
        }
        let (records, bytes) = unpack(&chunk)?;
        if group.bytes + bytes > MERGED_RECORDS_BYTES_MAX {
            merged.extend(group.seal(compression, &mut compressor));
        }
        group.bytes += bytes;
        group.records.extend(records);
        group.chunks.push(chunk);
    }
    merged.extend(group.seal(compression, &mut compressor));
    Ok(merged)
}

/// A chunk's records, and what they take.
fn unpack(chunk: &Chunk) -> Result<(Vec<Record>, usize), BatchError> {
    let mut records = Vec::with_capacity(chunk.count.min(4096) as usize);
    let mut bytes = 0;
    for record in Batch::parse(chunk.batch.clone())?.records()? {
        let record = record?.1;
        bytes += record_bytes(&record);
        records.push(record);
    }
    Ok((records, bytes))
}

/// Neighbours that go out as one batch.
#[derive(Debug, Default)]
struct Group {
    chunks: Vec<Chunk>,
    records: Vec<Record>,
    bytes: usize,
}

impl Group {
    /// Takes what has gathered; a chunk that stayed alone keeps its bytes.
    fn seal(&mut self, compression: Compression, compressor: &mut Compressor) -> Option<Sealed> {
        let Self {
            chunks, records, ..
        } = std::mem::take(self);
        let (first, last) = (chunks.first()?, chunks.last()?);
        let batch = if chunks.len() == 1 {
            first.batch.clone()
        } else {
            let mut builder = BatchBuilder::new();
            records.iter().for_each(|record| builder.push(record));
            builder.seal(first.base_offset.0 as i64, compression, compressor)
        };
        Some(Sealed {
            base_offset: first.base_offset,
            count: last.end().0 - first.base_offset.0,
            hash_before: first.hash_before,
            hash_after: last.hash_after,
            batch,
        })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_shared::id::{Position, StreamId};

    use super::*;
    use crate::chunk::hash_after;

    fn chunks(sizes: &[(u32, usize)]) -> Vec<Chunk> {
        let (mut offset, mut hash) = (EdgeOffset(0), BoundaryHash::START);
        sizes
            .iter()
            .map(|&(count, bytes)| {
                let mut builder = BatchBuilder::new();
                for index in 0..count {
                    let value = Bytes::from(vec![index as u8; bytes]);
                    builder.push(&Record {
                        value: Some(value),
                        ..Record::default()
                    });
                }
                let batch =
                    builder.seal(offset.0 as i64, Compression::None, &mut Compressor::new());
                let chunk = Chunk {
                    stream: StreamId(0),
                    base_offset: offset,
                    count,
                    position: Position(offset.0),
                    marks: Bytes::new(),
                    time_s: 0,
                    hash_before: hash,
                    hash_after: hash_after(hash, &batch),
                    batch,
                };
                (offset, hash) = (chunk.end(), chunk.hash_after);
                chunk
            })
            .collect()
    }

    #[test]
    fn small_neighbours_are_joined_and_large_chunks_go_as_they_are() {
        let chunks = chunks(&[(2, 10), (3, 10), (1, 40_000), (1, 10), (1, 20)]);
        let merged = merge(chunks.clone(), Compression::None).unwrap();
        let counts: Vec<u64> = merged.iter().map(|batch| batch.count).collect();
        assert_eq!(counts, [5, 1, 2]);
        assert_eq!(merged[1].batch, chunks[2].batch);
        assert_eq!(merged[0].hash_after, chunks[1].hash_after);
        let mut next = EdgeOffset(0);
        let mut hash = BoundaryHash::START;
        for batch in merged {
            assert_eq!((batch.base_offset, batch.hash_before), (next, hash));
            let parsed = Batch::parse(batch.batch).unwrap();
            assert_eq!(parsed.header().base_offset as u64, next.0);
            assert_eq!(parsed.header().offset_count(), batch.count);
            (next, hash) = (next.plus(batch.count), batch.hash_after);
        }
        assert_eq!(next, EdgeOffset(8));
    }

    #[test]
    fn what_packs_well_is_bounded_unpacked() {
        // Zeros, as a sensor that is off sends them: small in the journal, large unpacked.
        let mut chunks = chunks(&[(1, 300_000); 8]);
        let mut hash = BoundaryHash::START;
        for chunk in &mut chunks {
            let mut builder = BatchBuilder::new();
            builder.push(&Record {
                value: Some(Bytes::from(vec![0; 300_000])),
                ..Record::default()
            });
            let offset = chunk.base_offset.0 as i64;
            chunk.batch = builder.seal(offset, Compression::Zstd, &mut Compressor::new());
            assert!(chunk.batch.len() < MERGE_CHUNK_BYTES_MAX);
            chunk.hash_before = hash;
            hash = hash_after(hash, &chunk.batch);
            chunk.hash_after = hash;
        }
        let merged = merge(chunks, Compression::None).unwrap();
        assert_eq!(merged.len(), 3);
        for batch in merged {
            assert!(batch.batch.len() <= MERGED_RECORDS_BYTES_MAX + 4096);
        }
    }
}
