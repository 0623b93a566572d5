//! Command 1: begins a life of the cloud's own state (a cluster incarnation).

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::Reader;

use super::{DecodeError, Row};

/// The first command of every log. A later one begins a new cluster incarnation over the state that
/// is there, and raises all leader epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Milliseconds since the Unix epoch, by the clock of whoever proposes.
    pub now_ms: i64,
    /// Random; the counter is the ledger's own.
    pub cluster_incarnation_id: u128,
}

impl Row for Begin {
    const WHAT: &'static str = "command begin";
    const NUMBER: u8 = 1;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_i64_le(self.now_ms);
        out.put_u128_le(self.cluster_incarnation_id);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            now_ms: reader.i64("time")?,
            cluster_incarnation_id: reader.u128("cluster incarnation id")?,
        })
    }
}
