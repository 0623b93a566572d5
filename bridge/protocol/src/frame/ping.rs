//! Ping and Pong: either end asks whether the other's program (not just its kernel) is there.

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::Reader;

use super::{Body, BodyError};

/// Type 8, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    pub nonce: u64,
}

/// Type 9: the answer, with the answering end's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    pub nonce: u64,
    pub time_ms: i64,
}

impl Body for Ping {
    const KIND: u8 = 8;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.nonce);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            nonce: reader.u64("nonce")?,
        })
    }
}

impl Body for Pong {
    const KIND: u8 = 9;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.nonce);
        out.put_i64_le(self.time_ms);
    }

    fn decode(reader: &mut Reader) -> Result<Self, BodyError> {
        Ok(Self {
            nonce: reader.u64("nonce")?,
            time_ms: reader.i64("time")?,
        })
    }
}
