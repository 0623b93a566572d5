//! Fetch planning: which batches answer a fetch, within its limits. Pure; the broker reads them.
//!
//! Sources: KIP-74 (the first batch is returned even where it is larger than the limits, so that a
//! consumer always gets on).

use tidegate_shared::id::KafkaOffset;

use crate::index::IndexEntry;
use crate::ledger::{Partition, PartitionLog, Segment, TailBatch, Target};

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
    pub source: Source,
    /// The offset asked for is below the log's start or above its end.
    pub out_of_range: bool,
}

/// Where an answer is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Batches where they landed; none at the end of the partition.
    Tail(Vec<IndexEntry>),
    /// A segment, whose own index tells where its batches lie: from `offset` on, as many as there is
    /// room for, and the first one in any case if `always_one`.
    Segment {
        segment: Segment,
        offset: KafkaOffset,
        room: usize,
        always_one: bool,
    },
}

impl Source {
    /// Whether there is nothing to be read.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Tail(entries) if entries.is_empty())
    }

    /// Takes no more than there is room for: what was planned is an estimate where segments are read. The
    /// first batch of an answer is taken in any case.
    pub fn bound(&mut self, left: usize, is_first: bool) {
        match self {
            Self::Segment {
                room, always_one, ..
            } => {
                *room = (*room).min(left);
                *always_one &= is_first;
            }
            Self::Tail(entries) => {
                let mut bytes = 0;
                let fits = entries.iter().take_while(|entry| {
                    bytes += entry.batch_bytes as usize;
                    bytes <= left
                });
                let count = fits.count().max(usize::from(is_first));
                entries.truncate(count);
            }
        }
    }
}

/// The answer to a whole fetch: one item for each wish, `None` where there is no such partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub partitions: Vec<Option<Planned>>,
    pub bytes: usize,
    /// There is more than one answer can have: it makes no sense to wait for what is to come.
    pub more: bool,
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
    lookup: impl Fn(Target) -> Option<(&'a Partition, &'a PartitionLog)>,
) -> Plan {
    let (mut bytes, mut more) = (0, false);
    let partitions = wishes
        .iter()
        .map(|wish| {
            let (partition, log) = lookup(wish.target)?;
            let out_of_range = wish.offset < partition.log_start || wish.offset > partition.next;
            let mut planned = Planned {
                partition: *partition,
                source: Source::Tail(Vec::new()),
                out_of_range,
            };
            if !out_of_range {
                let room = wish.bytes_max.min(bytes_max.saturating_sub(bytes));
                let (source, taken) = source(log, wish.offset, room, bytes == 0);
                more |= matches!(&source, Source::Segment { segment, .. } if segment.end < partition.next);
                planned.source = source;
                bytes += taken;
            }
            Some(planned)
        })
        .collect();
    Plan {
        partitions,
        bytes,
        more,
    }
}

/// What is read for one partition, and the bytes that it is expected to be. One answer comes out of one
/// segment, or out of the tail.
fn source(
    log: &PartitionLog,
    offset: KafkaOffset,
    room: usize,
    always_one: bool,
) -> (Source, usize) {
    let Some(segment) = log.segment_at(offset) else {
        let (batches, bytes) = take(log.tail_from(offset), room, always_one);
        return (Source::Tail(batches), bytes);
    };
    if room == 0 && !always_one {
        return (Source::Tail(Vec::new()), 0);
    }
    let source = Source::Segment {
        segment: *segment,
        offset,
        room,
        always_one,
    };
    (source, expected_bytes(segment, offset).min(room.max(1)))
}

/// Bytes from `offset` to the end of a segment, if all its records were of one size; at least 1.
fn expected_bytes(segment: &Segment, offset: KafkaOffset) -> usize {
    let records = (segment.end.0 - segment.base.0).max(1) as u128;
    let left = (segment.end.0 - offset.0).clamp(0, segment.end.0 - segment.base.0) as u128;
    let bytes = u128::from(segment.index_position) * left / records;
    usize::try_from(bytes).unwrap_or(usize::MAX).max(1)
}

/// Takes batches while they fit into `room`; the first one also where it does not, if `always_one`.
fn take<'a>(
    offered: impl Iterator<Item = &'a TailBatch>,
    room: usize,
    always_one: bool,
) -> (Vec<IndexEntry>, usize) {
    let (mut batches, mut taken) = (Vec::new(), 0);
    for batch in offered {
        let fits = taken + batch.batch_bytes as usize <= room;
        let needed = always_one && taken == 0;
        if !fits && !needed {
            break;
        }
        taken += batch.batch_bytes as usize;
        batches.push(batch.entry());
    }
    (batches, taken)
}

#[cfg(test)]
mod tests;
