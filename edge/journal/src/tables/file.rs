//! `4-files`: the log files in which something lives.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::wire::Reader;

use super::TableError;
use crate::state::FileState;

pub(super) fn encode(file: &FileState) -> BytesMut {
    let mut out = BytesMut::with_capacity(9);
    out.put_u32_le(file.slot);
    out.put_u32_le(file.used);
    out.put_u8(u8::from(file.sealed));
    out
}

/// `runs` is counted while the runs are loaded.
pub(super) fn decode(row: Bytes) -> Result<FileState, TableError> {
    let mut reader = Reader::new(row);
    Ok(FileState {
        slot: reader.u32("slot")?,
        used: reader.u32("used")?,
        sealed: reader.u8("sealed")? != 0,
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
            runs: 0,
        };
        assert_eq!(decode(encode(&file).freeze()).unwrap(), file);
    }
}
