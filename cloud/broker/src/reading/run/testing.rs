//! Runs for tests.

use std::io::Write;

use tidegate_cloud_protocol::index::LogPlace;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

use super::*;

pub(crate) const EPOCH: i32 = 9;

/// A batch of one record.
pub(crate) fn batch(value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(&Record {
        timestamp_ms: 1,
        value: Some(vec![b'v'; value_bytes].into()),
        ..Record::default()
    });
    builder.seal(0, Compression::None, &mut Compressor::default())
}

/// A file of batches back to back, with something else before those that `apart` names.
pub(super) fn lying(batches: &[Bytes], apart: &[usize]) -> (Arc<File>, VecDeque<Batch>) {
    let mut file = tempfile::tempfile().unwrap();
    let (mut position, mut places) = (0, Vec::new());
    for (nth, bytes) in batches.iter().enumerate() {
        if apart.contains(&nth) {
            file.write_all(b"else").unwrap();
            position += 4;
        }
        file.write_all(bytes).unwrap();
        places.push((nth, position, bytes.len()));
        position += bytes.len() as u64;
    }
    let file = Arc::new(file);
    let lying = places.into_iter().map(|(nth, position, bytes)| Batch {
        base_offset: KafkaOffset(nth as i64),
        bytes,
        lies: Lies::InFile(Lying {
            file: Arc::clone(&file),
            place: LogPlace {
                object: 1,
                position,
            }
            .into(),
            crc: None,
        }),
    });
    let lying = lying.collect();
    (file, lying)
}

pub(crate) fn file_run(batches: &[Bytes]) -> (Arc<File>, Run) {
    let (file, lying) = lying(batches, &[]);
    (file, Run::new(lying, EPOCH))
}

pub(crate) fn memory_run(batches: &[Bytes]) -> Run {
    let batches = (0..).zip(batches).map(|(offset, bytes)| Batch {
        base_offset: KafkaOffset(offset),
        bytes: bytes.len(),
        lies: Lies::InMemory(bytes.clone()),
    });
    Run::new(batches.collect(), EPOCH)
}

/// What is sent of these.
pub(super) fn sent(batches: &[Bytes]) -> Vec<u8> {
    let sent = (0..).zip(batches).map(|(offset, bytes)| {
        let mut bytes = bytes.to_vec();
        rewrite_in_place(&mut bytes, offset, EPOCH);
        bytes
    });
    sent.flatten().collect()
}
