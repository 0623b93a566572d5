//! `1-meta`: the one row that says which store this is and up to where the index covers the log.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::{ClusterIncarnation, Position, SessionEpoch, StoreId};
use tidegate_shared::wire::Reader;

use super::TableError;
use crate::clock::JournalTime;
use crate::state::{Meta, Tail};

/// The journal's format. A change here needs a new golden folder. Rows grow at their ends only: what
/// an older format does not have gets its default.
pub const FORMAT_VERSION: u32 = 4;
/// The oldest that is read: 1 and 2 were never released.
const FORMAT_VERSION_MIN: u32 = 3;

pub(super) fn encode(meta: &Meta) -> BytesMut {
    let mut out = BytesMut::with_capacity(96);
    out.put_u32_le(FORMAT_VERSION);
    out.put_u128_le(meta.store_id.0);
    out.put_u64_le(meta.tail.file);
    out.put_u32_le(meta.tail.at);
    out.put_u32_le(meta.tail.crc);
    out.put_u64_le(meta.tail.next_position.0);
    out.put_u64_le(meta.next_file);
    out.put_u32_le(meta.cluster_incarnation.counter);
    out.put_u128_le(meta.cluster_incarnation.id);
    out.put_u64_le(meta.session_epoch.0);
    out.put_u64_le(meta.time.0);
    out.put_i64_le(meta.wall_ms);
    out.put_u64_le(meta.needed_from.0);
    out
}

pub(super) fn decode(row: Bytes) -> Result<Meta, TableError> {
    let mut reader = Reader::new(row);
    let found = reader.u32("format version")?;
    if !(FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&found) {
        return Err(TableError::Format {
            found,
            known: FORMAT_VERSION,
        });
    }
    Ok(Meta {
        store_id: StoreId(reader.u128("store id")?),
        tail: Tail {
            file: reader.u64("tail file")?,
            at: reader.u32("tail place")?,
            crc: reader.u32("tail crc")?,
            next_position: Position(reader.u64("next position")?),
        },
        next_file: reader.u64("next file")?,
        cluster_incarnation: ClusterIncarnation {
            counter: reader.u32("cluster incarnation")?,
            id: reader.u128("cluster id")?,
        },
        session_epoch: SessionEpoch(reader.u64("session epoch")?),
        time: JournalTime(reader.u64("journal time")?),
        wall_ms: reader.i64("wall time")?,
        needed_from: Position(reader.u64("needed from")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        let meta = Meta {
            store_id: StoreId(1),
            tail: Tail {
                file: 2,
                at: 3,
                crc: 4,
                next_position: Position(5),
            },
            next_file: 6,
            cluster_incarnation: ClusterIncarnation { counter: 7, id: 8 },
            session_epoch: SessionEpoch(9),
            time: JournalTime(10),
            wall_ms: 11,
            needed_from: Position(12),
        };
        let row = encode(&meta).freeze();
        assert_eq!(decode(row.clone()).unwrap(), meta);
        let mut newer = BytesMut::from(&row[..]);
        newer[0] += 1;
        let found = decode(newer.freeze()).unwrap_err();
        let is_newer = |found| found == FORMAT_VERSION + 1;
        assert!(matches!(found, TableError::Format { found, .. } if is_newer(found)));
    }
}
