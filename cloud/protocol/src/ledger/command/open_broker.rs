//! Entry 13 of a tick: a broker begins its work.

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::Reader;

use super::{DecodeError, Row};

/// The broker gets an epoch that no other start ever had, and all earlier ones are closed: a segment
/// that was written under one of them, and is not in the ledger, never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBroker {
    /// Of the proposer's choice; whoever reads the log can tell the starts apart by it.
    pub id: u128,
}

impl Row for OpenBroker {
    const WHAT: &'static str = "entry open broker";
    const NUMBER: u8 = 13;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_u128_le(self.id);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let id = reader.u128("broker id")?;
        Ok(Self { id })
    }
}
