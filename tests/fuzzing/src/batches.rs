//! Batches that are not what a builder made, though their checksums are right, taken up by what rewrites
//! batches.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_cloud_protocol::compaction::{Compacted, Compactor, KeyMap, MergeLimits, Merger};
use tidegate_shared::record::{
    Batch, BatchBuilder, BatchHeader, Compression, Compressor, HEADER_BYTES, Record,
};

use crate::mutate::Random;

const LIMITS: MergeLimits = MergeLimits {
    below_bytes: 4 << 10,
    records_bytes_max: 64 << 10,
};

/// Some batches, each behind its length.
pub fn input(random: &mut Random) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut offset = random.below(3) as i64;
    for _ in 0..1 + random.below(5) {
        let mut builder = BatchBuilder::new();
        for _ in 0..1 + random.below(4) {
            builder.push(&Record {
                timestamp_ms: random.below(9) as i64,
                key: (random.below(9) > 0).then(|| vec![random.below(3) as u8].into()),
                value: (random.below(4) > 0).then(|| vec![7; random.below(40) as usize].into()),
                headers: Vec::new(),
            });
        }
        let count = i64::from(builder.count());
        let compression = match random.below(3) {
            0 => Compression::Zstd,
            _ => Compression::None,
        };
        let batch = builder.seal(offset, compression, &mut Compressor::new());
        offset += count + random.below(2) as i64;
        out.put_u16_le(batch.len() as u16);
        out.put_slice(&batch);
    }
    out.to_vec()
}

fn batches(mut input: &[u8]) -> Vec<Batch> {
    let mut found = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        input = rest;
        if bytes.len() < HEADER_BYTES {
            continue;
        }
        let mut bytes = bytes.to_vec();
        let rest_bytes = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&rest_bytes.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        found.extend(Batch::parse(Bytes::from(bytes)));
    }
    found
}

/// Offsets and records, where all can be read.
fn read(batches: &[Batch]) -> Option<Vec<(i64, Record)>> {
    let all = batches.iter().map(|batch| {
        let records = batch.records().ok()?;
        records.collect::<Result<Vec<_>, _>>().ok()
    });
    Some(all.collect::<Option<Vec<_>>>()?.concat())
}

/// Whatever batches come: merged they have the same records, and compacted some of the same, in order.
pub fn run(input: &[u8]) -> Result<bool, String> {
    let batches = batches(input);
    let Some(all) = read(&batches).filter(|all| !all.is_empty()) else {
        merged(&batches)?;
        return Ok(false);
    };
    if read(&merged(&batches)?).as_ref() != Some(&all) {
        return Err("merged, they have other records".to_owned());
    }
    let mut keys = KeyMap::new(4, 1);
    let is_whole = batches.iter().all(|batch| keys.note(batch).is_ok());
    let mut compactor = Compactor::new(&keys, 5, 10);
    let mut left = Vec::new();
    for batch in &batches {
        match compactor.compact(batch, false) {
            Ok(Compacted::Rewritten { bytes, .. }) => {
                let header = BatchHeader::parse(&bytes).map_err(|error| error.to_string())?;
                if header.last_offset_delta != batch.header().last_offset_delta {
                    return Err("a compacted batch covers other offsets".to_owned());
                }
                left.push(Batch::parse(bytes).map_err(|error| error.to_string())?);
            }
            Ok(Compacted::Gone) => {}
            Ok(Compacted::Unchanged) | Err(_) => left.push(batch.clone()),
        }
    }
    let mut from = all.iter();
    let left = read(&left).ok_or("a compacted batch cannot be read")?;
    match left.iter().all(|placed| from.any(|known| known == placed)) {
        true => Ok(is_whole),
        false => Err("compaction has changed a record".to_owned()),
    }
}

fn merged(batches: &[Batch]) -> Result<Vec<Batch>, String> {
    let mut merger = Merger::new(LIMITS, Compression::Zstd);
    let mut out = Vec::new();
    for batch in batches {
        merger.push(batch, 0, Vec::new(), &mut out);
    }
    merger.flush(&mut out);
    let parsed = out
        .into_iter()
        .map(|merged| Batch::parse(merged.batch.bytes));
    parsed
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}
