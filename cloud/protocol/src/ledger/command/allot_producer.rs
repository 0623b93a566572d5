//! Entry 16 of a tick: an id for a Kafka producer.

use bytes::BytesMut;
use tidegate_shared::wire::Reader;

use super::{DecodeError, Row};

/// The producer gets an id that no other ever had (InitProducerId, KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllotProducer;

impl Row for AllotProducer {
    const WHAT: &'static str = "entry allot producer";
    const NUMBER: u8 = 16;
    const VERSION: u8 = 1;

    fn put(&self, _out: &mut BytesMut) {}

    fn take(_reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}
