//! Entry 1 of a tick: grants an edge its next session epoch.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{ClusterIncarnation, EdgeId, SessionEpoch, StoreId};
use tidegate_shared::wire::{Reader, put_bytes};

use super::{DecodeError, Row, take_name};

/// An edge has connected. The epoch granted fences every older connection of the same edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    pub edge: EdgeId,
    pub store_id: StoreId,
    /// The newest of the cloud's state that the edge has stored.
    pub seen_cluster: ClusterIncarnation,
    pub seen_epoch: SessionEpoch,
}

impl Row for OpenSession {
    const WHAT: &'static str = "entry open session";
    const NUMBER: u8 = 1;
    /// 2: what the edge has seen.
    const VERSION: u8 = 2;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.edge.as_str().as_bytes());
        out.put_u128_le(self.store_id.0);
        out.put_u32_le(self.seen_cluster.counter);
        out.put_u128_le(self.seen_cluster.id);
        out.put_u64_le(self.seen_epoch.0);
    }

    fn take(reader: &mut Reader, version: u8) -> Result<Self, DecodeError> {
        let edge = take_edge(reader)?;
        if version == 1 {
            return Ok(Self {
                edge,
                store_id: StoreId::default(),
                seen_cluster: ClusterIncarnation::default(),
                seen_epoch: SessionEpoch(0),
            });
        }
        Ok(Self {
            edge,
            store_id: StoreId(reader.u128("store id")?),
            seen_cluster: ClusterIncarnation {
                counter: reader.u32("cluster incarnation")?,
                id: reader.u128("cluster id")?,
            },
            seen_epoch: SessionEpoch(reader.u64("session epoch")?),
        })
    }
}

pub(super) fn take_edge(reader: &mut Reader) -> Result<EdgeId, DecodeError> {
    take_name(reader, "edge id", EdgeId::LENGTH_MAX, |value| {
        EdgeId::new(value)
    })
}
