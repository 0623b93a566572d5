//! What tells the facts of an interval of a partition from all others, in eight bytes: whoever packs says by
//! it which facts the segment holds, and the map lets go of exactly those.

use bytes::{BufMut, BytesMut};

use super::Source;
use super::snapshot::put_source;

/// How many facts, after those that follow on from one another have become one, and a CRC-32C over all
/// that they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactsMark {
    pub count: u32,
    pub crc: u32,
}

/// Source, edge offset, count and Kafka offset.
type Row<'a> = (&'a Source, u64, u64, u64);

impl FactsMark {
    /// Of facts about one partition, in its order.
    pub(crate) fn of<'a>(facts: impl Iterator<Item = Row<'a>>) -> Self {
        let mut mark = Self::default();
        let mut newest: Option<Row<'a>> = None;
        let mut bytes = BytesMut::new();
        for fact in facts {
            match &mut newest {
                Some(before) if follows(before, &fact) => before.2 += fact.2,
                before => {
                    let whole = before.replace(fact);
                    whole.into_iter().for_each(|row| mark.add(row, &mut bytes));
                }
            }
        }
        newest.into_iter().for_each(|row| mark.add(row, &mut bytes));
        mark
    }

    fn add(&mut self, (source, edge_offset, count, kafka_offset): Row<'_>, bytes: &mut BytesMut) {
        bytes.clear();
        put_source(bytes, source);
        bytes.put_u64_le(edge_offset);
        bytes.put_u64_le(count);
        bytes.put_u64_le(kafka_offset);
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.count += 1;
    }
}

/// Whether the second goes on where the first ends, on both sides.
fn follows(before: &Row<'_>, next: &Row<'_>) -> bool {
    before.0 == next.0 && before.1 + before.2 == next.1 && before.3 + before.2 == next.3
}
