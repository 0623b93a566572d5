//! Joins small neighbouring chunks into one batch before it is sent: the cloud's cost is per batch.
//! What is large enough goes as it lies in the journal, byte for byte.

use tidegate_bridge_protocol::sender::SealedBatch;
use tidegate_edge_journal::Chunk;
use tidegate_shared::record::{Batch, BatchBuilder, BatchError, Compression, Compressor};

use crate::limits::MERGE_CHUNK_BYTES_MAX;

/// Chunks of one stream, in order and without a hole, as batches of at most `batch_bytes_max`
/// before compression (a larger chunk stands alone).
pub(crate) fn merge(
    chunks: Vec<Chunk>,
    batch_bytes_max: usize,
    compression: Compression,
) -> Result<Vec<SealedBatch>, BatchError> {
    let mut merged = Vec::new();
    let mut group: Vec<Chunk> = Vec::new();
    let mut compressor = Compressor::new();
    let mut flush = |group: &mut Vec<Chunk>| -> Result<(), BatchError> {
        if !group.is_empty() {
            merged.push(seal(group, compression, &mut compressor)?);
            group.clear();
        }
        Ok(())
    };
    let mut group_bytes = 0;
    for chunk in chunks {
        let bytes = chunk.batch.len();
        let alone = bytes >= MERGE_CHUNK_BYTES_MAX;
        if alone || group_bytes + bytes > batch_bytes_max / 4 {
            flush(&mut group)?;
            group_bytes = 0;
        }
        group.push(chunk);
        group_bytes += bytes;
        if alone {
            flush(&mut group)?;
            group_bytes = 0;
        }
    }
    flush(&mut group)?;
    Ok(merged)
}

fn seal(
    group: &[Chunk],
    compression: Compression,
    compressor: &mut Compressor,
) -> Result<SealedBatch, BatchError> {
    let (first, last) = (&group[0], &group[group.len() - 1]);
    let batch = if group.len() == 1 {
        first.batch.clone()
    } else {
        let mut builder = BatchBuilder::new();
        for chunk in group {
            for record in Batch::parse(chunk.batch.clone())?.records()? {
                builder.push(&record?.1);
            }
        }
        builder.seal(first.base_offset.0 as i64, compression, compressor)
    };
    Ok(SealedBatch {
        base_offset: first.base_offset,
        count: last.end().0 - first.base_offset.0,
        hash_before: first.hash_before,
        hash_after: last.hash_after,
        batch,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_edge_journal::hash_after;
    use tidegate_shared::id::{BoundaryHash, EdgeOffset, Position, StreamId};
    use tidegate_shared::record::Record;

    use super::*;

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
        let merged = merge(chunks.clone(), 1 << 20, Compression::None).unwrap();
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
}
