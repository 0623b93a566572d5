//! `3-runs` and `7-copies`: which offsets of a stream lie in a log file, as they were written there
//! first or as the cleaner copied them. Sparse on purpose: where each chunk lies is said by the table
//! in the file itself.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::EdgeOffset;
use tidegate_shared::wire::Reader;

use super::TableError;
use crate::state::Run;

pub(super) fn encode(run: &Run) -> BytesMut {
    let mut out = BytesMut::with_capacity(36);
    out.put_u64_le(run.first.0);
    out.put_u64_le(run.next.0);
    out.put_u32_le(run.chunks);
    out.put_u64_le(run.bytes);
    out.put_u32_le(run.first_time_s);
    out.put_u32_le(run.last_time_s);
    out
}

pub(super) fn decode(file: u64, row: Bytes) -> Result<Run, TableError> {
    let mut reader = Reader::new(row);
    let mut run = Run {
        file,
        first: EdgeOffset(reader.u64("first")?),
        next: EdgeOffset(reader.u64("next")?),
        chunks: reader.u32("chunks")?,
        bytes: reader.u64("bytes")?,
        ..Run::default()
    };
    // Format 1 ends here: what it has ages from its first opening by this build.
    if !reader.is_empty() {
        run.first_time_s = reader.u32("first time")?;
        run.last_time_s = reader.u32("last time")?;
    }
    Ok(run)
}

/// A copy's key is where it ends; the file stands in the row.
pub(super) fn encode_copy(run: &Run) -> BytesMut {
    let mut out = BytesMut::with_capacity(44);
    out.put_u64_le(run.file);
    out.put_slice(&encode(run));
    out
}

pub(super) fn decode_copy(next: EdgeOffset, row: Bytes) -> Result<Run, TableError> {
    let mut reader = Reader::new(row);
    let file = reader.u64("log file")?;
    Ok(Run {
        copied: true,
        next,
        ..decode(file, reader.rest().clone())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        let run = Run {
            file: 1,
            copied: false,
            first: EdgeOffset(2),
            next: EdgeOffset(3),
            chunks: 4,
            bytes: 5,
            first_time_s: 6,
            last_time_s: 7,
        };
        assert_eq!(decode(1, encode(&run).freeze()).unwrap(), run);
        let copied = Run {
            copied: true,
            ..run
        };
        let row = encode_copy(&copied).freeze();
        assert_eq!(decode_copy(copied.next, row).unwrap(), copied);
    }
}
