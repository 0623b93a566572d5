//! `5-gaps` and `6-boundaries`: what is lost and not landed, and the hashes kept of what was dropped.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{BoundaryHash, EdgeOffset};
use tidegate_shared::wire::{Reader, WireError};

use super::TableError;
use crate::gap::Gap;

pub(super) fn encode(gap: &Gap) -> BytesMut {
    let mut out = BytesMut::with_capacity(41);
    out.put_u64_le(gap.to.0);
    out.put_u8(gap.reason as u8);
    out.put_u128_le(gap.hash_before.0);
    out.put_u128_le(gap.hash_after.0);
    out
}

pub(super) fn decode(from: EdgeOffset, row: Bytes) -> Result<Gap, TableError> {
    let mut reader = Reader::new(row);
    let to = EdgeOffset(reader.u64("gap's end")?);
    let reason = GapReason::from_number(reader.u8("gap's reason")?);
    Ok(Gap {
        from,
        to,
        reason: reason.ok_or(WireError::Invalid {
            field: "gap's reason",
        })?,
        hash_before: BoundaryHash(reader.u128("hash before")?),
        hash_after: BoundaryHash(reader.u128("hash after")?),
    })
}

pub(super) fn encode_boundary(hash: BoundaryHash) -> BytesMut {
    BytesMut::from(&hash.0.to_le_bytes()[..])
}

pub(super) fn decode_boundary(row: Bytes) -> Result<BoundaryHash, TableError> {
    Ok(BoundaryHash(Reader::new(row).u128("boundary's hash")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_round_trip() {
        let gap = Gap {
            from: EdgeOffset(1),
            to: EdgeOffset(2),
            reason: GapReason::Age,
            hash_before: BoundaryHash(3),
            hash_after: BoundaryHash(4),
        };
        assert_eq!(decode(gap.from, encode(&gap).freeze()).unwrap(), gap);
        let row = encode_boundary(BoundaryHash(5)).freeze();
        assert_eq!(decode_boundary(row).unwrap(), BoundaryHash(5));
    }
}
