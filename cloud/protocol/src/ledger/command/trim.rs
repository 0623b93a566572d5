//! Entry 10 of a tick: a partition begins later from now on.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::wire::Reader;

use super::{DecodeError, Row, put_target, take_target};
use crate::ledger::Target;

/// What lies below an offset is given up: its time is over (retention), or a client asked for it
/// (Kafka's DeleteRecords).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trim {
    pub target: Target,
    /// The first offset that stays. One past the end is taken as the end; one below the start changes
    /// nothing.
    pub start: KafkaOffset,
}

impl Row for Trim {
    const WHAT: &'static str = "entry trim";
    const NUMBER: u8 = 10;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_target(out, &self.target);
        out.put_i64_le(self.start.0);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            target: take_target(reader)?,
            start: KafkaOffset(reader.i64("start")?),
        })
    }
}
