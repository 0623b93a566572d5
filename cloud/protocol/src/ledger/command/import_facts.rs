//! Entry 8 of a tick: takes facts of an earlier life, or of another map, into the offset map.

use bytes::{BufMut, BytesMut};
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_shared::wire::{Reader, put_bytes};

use super::open_session::take_edge;
use super::open_stream::take_stream;
use super::{DecodeError, Row};

/// Facts of one entry.
pub const FACTS_MAX: usize = 1_000;

/// The shortest fact: two one-letter names.
const FACT_BYTES_MIN: usize = 82;

/// Whoever proposes has seen that none contradicts what is known. The ledger's own state does not
/// change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportFacts {
    pub facts: Vec<NamedFact>,
}

impl Row for ImportFacts {
    const WHAT: &'static str = "entry import facts";
    const NUMBER: u8 = 8;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(u32::try_from(self.facts.len()).expect("at most FACTS_MAX"));
        for named in &self.facts {
            put_bytes(out, named.edge.as_str().as_bytes());
            put_bytes(out, named.stream.as_str().as_bytes());
            named.fact.put(out);
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let count = reader.count("facts", FACT_BYTES_MIN)?;
        let mut facts = Vec::with_capacity(count);
        for _ in 0..count {
            facts.push(NamedFact {
                edge: take_edge(reader)?,
                stream: take_stream(reader)?,
                fact: Fact::take(reader)?,
            });
        }
        Ok(Self { facts })
    }
}
