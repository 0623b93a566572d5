//! Fetch planning: which batches answer a fetch, within its limits. Pure; the broker reads them.
//!
//! Sources: KIP-74 (the first batch is returned even where it is larger than the limits, so that a
//! consumer always gets on), KIP-227 is not used (every fetch names all its partitions).

use tidegate_shared::id::KafkaOffset;

use crate::index::{IndexEntry, PartitionIndex};
use crate::ledger::{Partition, Target};

/// What a fetch asks of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub target: Target,
    pub offset: KafkaOffset,
    pub bytes_max: usize,
}

/// What one partition answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub partition: Partition,
    pub batches: Vec<IndexEntry>,
    /// The offset asked for is below the log's start or above its end.
    pub out_of_range: bool,
}

/// The answer to a whole fetch: one item for each wish, `None` where there is no such partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub partitions: Vec<Option<Planned>>,
    pub bytes: usize,
}

impl Plan {
    /// Whether waiting makes no sense: some partition has an error to tell.
    pub fn has_error(&self) -> bool {
        let error = |planned: &Option<Planned>| planned.as_ref().is_none_or(|p| p.out_of_range);
        self.partitions.iter().any(error)
    }
}

/// Plans a fetch. Partitions are served in the order of the wishes, until `bytes_max`.
pub fn plan<'a>(
    wishes: &[Wish],
    bytes_max: usize,
    lookup: impl Fn(Target) -> Option<(&'a Partition, &'a PartitionIndex)>,
) -> Plan {
    let mut bytes = 0;
    let partitions = wishes
        .iter()
        .map(|wish| {
            let (partition, index) = lookup(wish.target)?;
            let out_of_range = wish.offset < partition.log_start || wish.offset > partition.next;
            let mut planned = Planned {
                partition: *partition,
                batches: Vec::new(),
                out_of_range,
            };
            if !out_of_range {
                let room = wish.bytes_max.min(bytes_max.saturating_sub(bytes));
                bytes += take(
                    &mut planned.batches,
                    index.from_offset(wish.offset),
                    room,
                    bytes == 0,
                );
            }
            Some(planned)
        })
        .collect();
    Plan { partitions, bytes }
}

/// Takes batches while they fit into `room`; the first one also where it does not, if `always_one`.
fn take(
    batches: &mut Vec<IndexEntry>,
    offered: &[IndexEntry],
    room: usize,
    always_one: bool,
) -> usize {
    let mut taken = 0;
    for entry in offered {
        let fits = taken + entry.batch_bytes as usize <= room;
        let needed = always_one && taken == 0;
        if !fits && !needed {
            break;
        }
        taken += entry.batch_bytes as usize;
        batches.push(*entry);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Address;
    use proptest::prelude::*;
    use tidegate_shared::id::{PartitionId, TopicId};

    fn target(partition: i32) -> Target {
        Target {
            topic_id: TopicId(1),
            partition: PartitionId(partition),
        }
    }

    /// A partition of ten-record batches of these sizes.
    fn partition(sizes: &[u32]) -> (Partition, PartitionIndex) {
        let mut index = PartitionIndex::default();
        for (number, batch_bytes) in sizes.iter().enumerate() {
            index.push(IndexEntry {
                base_offset: KafkaOffset(number as i64 * 10),
                count: 10,
                batch_bytes: *batch_bytes,
                max_timestamp_ms: 0,
                landed_ms: 0,
                address: Address::default(),
            });
        }
        let next = KafkaOffset(sizes.len() as i64 * 10);
        (
            Partition {
                next,
                ..Partition::default()
            },
            index,
        )
    }

    fn wish(partition: i32, offset: i64, bytes_max: usize) -> Wish {
        Wish {
            target: target(partition),
            offset: KafkaOffset(offset),
            bytes_max,
        }
    }

    #[test]
    fn the_first_batch_comes_even_if_it_is_too_large() {
        let stored = partition(&[500, 500]);
        let one = plan(&[wish(0, 13, 10)], 10, |_| Some((&stored.0, &stored.1)));
        let planned = one.partitions[0].as_ref().unwrap();
        assert_eq!(planned.batches.len(), 1);
        assert_eq!(planned.batches[0].base_offset, KafkaOffset(10));
        let two = plan(&[wish(0, 0, 10), wish(1, 0, 10)], 10_000, |_| {
            Some((&stored.0, &stored.1))
        });
        assert!(two.partitions[1].as_ref().unwrap().batches.is_empty());
    }

    #[test]
    fn offsets_outside_are_told_and_the_end_is_inside() {
        let stored = partition(&[100]);
        let at = |offset| {
            let plan = plan(&[wish(0, offset, 999)], 999, |_| {
                Some((&stored.0, &stored.1))
            });
            plan.has_error()
        };
        assert!(at(-1) && at(11) && !at(10) && !at(0));
        assert!(plan(&[wish(0, 0, 9)], 9, |_| None).has_error());
    }

    proptest! {
        #[test]
        fn limits_hold_but_for_the_first_batch(
            sizes in proptest::collection::vec(1u32..100, 1..20),
            offset in 0i64..200,
            each in 0usize..300,
            total in 0usize..500,
        ) {
            let stored = partition(&sizes);
            let wishes = [wish(0, offset, each), wish(1, 0, each)];
            let plan = plan(&wishes, total, |_| Some((&stored.0, &stored.1)));
            let batches: Vec<_> = plan.partitions.iter().flatten().flat_map(|p| &p.batches).collect();
            let bytes: usize = batches.iter().map(|entry| entry.batch_bytes as usize).sum();
            prop_assert_eq!(bytes, plan.bytes);
            prop_assert!(bytes <= total || batches.len() == 1);
            prop_assert!(!batches.is_empty());
        }
    }
}
