//! Entry 15 of a tick: takes a batch of a Kafka client.

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::Reader;

use super::{DecodeError, Part, Row, put_target, take_target};
use crate::ledger::Target;
use crate::ledger::producers::Sequence;

/// A batch for one partition. Its bytes are durable as a landed batch's are ([`super::Land`]); whoever proposes has
/// checked its CRC, and that it has so many offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produce {
    pub target: Target,
    /// Offsets; at least 1.
    pub count: u64,
    pub part: Part,
    /// Of an idempotent producer.
    pub sequence: Option<Sequence>,
}

/// In the place of an idempotent producer's id.
const NO_PRODUCER: i64 = -1;

impl Row for Produce {
    const WHAT: &'static str = "entry produce";
    const NUMBER: u8 = 15;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_target(out, &self.target);
        out.put_u64_le(self.count);
        self.part.put(out);
        match self.sequence {
            Some(sequence) => {
                out.put_i64_le(sequence.producer_id);
                out.put_i16_le(sequence.producer_epoch);
                out.put_i32_le(sequence.first);
            }
            None => out.put_i64_le(NO_PRODUCER),
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let target = take_target(reader)?;
        let (count, part) = (reader.u64("count")?, Part::take(reader)?);
        let sequence = match reader.i64("producer id")? {
            NO_PRODUCER => None,
            producer_id => Some(Sequence {
                producer_id,
                producer_epoch: reader.i16("producer epoch")?,
                first: reader.i32("first sequence")?,
            }),
        };
        Ok(Self {
            target,
            count,
            part,
            sequence,
        })
    }
}
