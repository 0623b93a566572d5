//! Entry 14 of a tick: an object store gets a number.

use bytes::BytesMut;
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::{DecodeError, Row};

/// Bytes of an object store's URL.
pub const STORE_URL_BYTES_MAX: usize = 1_024;

/// Topics can have their segments in the store from now on. A URL that has a number keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddStore {
    /// Not empty, of [`STORE_URL_BYTES_MAX`] at most. The ledger knows nothing more about it.
    pub url: String,
}

impl Row for AddStore {
    const WHAT: &'static str = "entry add store";
    const NUMBER: u8 = 14;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.url.as_bytes());
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let url = take_store_url(reader)?;
        Ok(Self { url })
    }
}

pub(in super::super) fn take_store_url(reader: &mut Reader) -> Result<String, DecodeError> {
    let field = "object store's URL";
    let url = reader.string(field, STORE_URL_BYTES_MAX)?;
    match url.is_empty() {
        true => Err(WireError::Invalid { field }.into()),
        false => Ok(url),
    }
}
