//! `4-files`: the log files in which something lives.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::Position;
use tidegate_shared::wire::Reader;

use super::TableError;
use crate::state::FileState;

pub(super) fn encode(file: &FileState) -> BytesMut {
    let mut out = BytesMut::with_capacity(17);
    out.put_u32_le(file.slot);
    out.put_u32_le(file.used);
    out.put_u8(u8::from(file.sealed) | u8::from(file.damaged) << 1);
    out.put_u64_le(file.next_position.0);
    out
}

/// `runs` is counted while the runs are loaded.
pub(super) fn decode(row: Bytes) -> Result<FileState, TableError> {
    let mut reader = Reader::new(row);
    let (slot, used) = (reader.u32("slot")?, reader.u32("used")?);
    let flags = reader.u8("flags")?;
    Ok(FileState {
        slot,
        used,
        sealed: flags & 1 != 0,
        damaged: flags & 2 != 0,
        // Format 1 had no sessions that could need a file.
        next_position: match reader.is_empty() {
            true => Position(0),
            false => Position(reader.u64("next position")?),
        },
        runs: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        let file = FileState {
            slot: 1,
            used: 2,
            sealed: true,
            damaged: true,
            next_position: Position(3),
            runs: 0,
        };
        assert_eq!(decode(encode(&file).freeze()).unwrap(), file);
    }
}
