//! Hello and Welcome: the first frames of a connection.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::{ClusterIncarnation, SessionEpoch, StoreId};
use tidegate_shared::wire::Reader;

use super::{Body, BodyError, put_cluster, take_cluster};

/// The bridge protocol that this build speaks. The lower of both ends' is used.
pub const PROTOCOL_VERSION: u16 = 1;

/// Type 1, edge to cloud, first: who is there, and the newest of the cloud's state that it has seen.
/// The edge's identity is its certificate's and is not said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    pub protocol_version: u16,
    pub store_id: StoreId,
    pub cluster_incarnation: ClusterIncarnation,
    pub session_epoch: SessionEpoch,
}

impl Body for Hello {
    const KIND: u8 = 1;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.protocol_version);
        out.put_u128_le(self.store_id.0);
        put_cluster(out, self.cluster_incarnation);
        out.put_u64_le(self.session_epoch.0);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            protocol_version: reader.u16("protocol version")?,
            store_id: StoreId(reader.u128("store id")?),
            cluster_incarnation: take_cluster(reader)?,
            session_epoch: SessionEpoch(reader.u64("session epoch")?),
        })
    }
}

/// Type 2, cloud to edge: the answer to Hello. Every Batch carries this session epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub protocol_version: u16,
    pub session_epoch: SessionEpoch,
    pub cluster_incarnation: ClusterIncarnation,
    /// The cloud's clock, in milliseconds since the Unix epoch.
    pub time_ms: i64,
}

impl Body for Welcome {
    const KIND: u8 = 2;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.protocol_version);
        out.put_u64_le(self.session_epoch.0);
        put_cluster(out, self.cluster_incarnation);
        out.put_i64_le(self.time_ms);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            protocol_version: reader.u16("protocol version")?,
            session_epoch: SessionEpoch(reader.u64("session epoch")?),
            cluster_incarnation: take_cluster(reader)?,
            time_ms: reader.i64("time")?,
        })
    }
}
