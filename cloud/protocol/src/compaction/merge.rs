//! Merging: tiny batches that lie next to each other, as a thousand slow edges send them, become one,
//! whose records compress together. It goes by what is safe: batches of a producer with sequences or
//! transactions, of the log's own time, with a delete horizon, or of another compression or leader epoch
//! than the one before stay apart, and so does what cannot be read.

use bytes::Bytes;
use tidegate_bridge_protocol::fact::NamedFact;
use tidegate_shared::record::{
    Batch, BatchHeader, BatchRewriter, Compression, Compressor, Records, TimestampType,
};

use super::checked_records;
use crate::segment::PackedBatch;

/// When batches are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeLimits {
    /// `pack.merge_below`: batches below this are merged; 0 merges none.
    pub below_bytes: usize,
    /// A merged batch's records, not packed, are no more than this.
    pub records_bytes_max: usize,
}

/// A batch that is done, as it came or made of several.
#[derive(Clone, Debug)]
pub struct Merged {
    pub batch: PackedBatch,
    /// All facts of those that it is made of.
    pub facts: Vec<NamedFact>,
    /// How many it is made of.
    pub of: usize,
}

/// Takes a partition's batches in order, and gives them back in order, some of them merged.
#[derive(Debug)]
pub struct Merger {
    limits: MergeLimits,
    compression: Compression,
    compressor: Compressor,
    group: Vec<Member>,
    /// Of the group, not packed.
    records_bytes: usize,
}

#[derive(Debug)]
struct Member {
    header: BatchHeader,
    bytes: Bytes,
    records: Records,
    landed_ms: i64,
    facts: Vec<NamedFact>,
}

impl Merger {
    /// Batches that are not compressed, as small ones are, get `compression` once they are merged: it must
    /// be one that the topic's consumers read. Others keep theirs.
    pub fn new(limits: MergeLimits, compression: Compression) -> Self {
        Self {
            limits,
            compression,
            compressor: Compressor::new(),
            group: Vec::new(),
            records_bytes: 0,
        }
    }

    /// Takes the next batch, with its Kafka base offset in it, and hands out what is done. `facts` are
    /// about its offsets (and about those before it that were compacted away).
    pub fn push(
        &mut self,
        batch: &Batch,
        landed_ms: i64,
        facts: Vec<NamedFact>,
        out: &mut Vec<Merged>,
    ) {
        let records = self.mergeable(batch);
        let joins = records
            .as_ref()
            .is_some_and(|records| self.joins(batch.header(), records));
        if !joins {
            self.flush(out);
        }
        match records {
            Some(records) => {
                self.records_bytes += records.bytes();
                self.group.push(Member {
                    header: batch.header().clone(),
                    bytes: batch.bytes().clone(),
                    records,
                    landed_ms,
                    facts,
                });
            }
            None => out.push(Merged {
                batch: PackedBatch {
                    bytes: batch.bytes().clone(),
                    landed_ms,
                    min_timestamp_ms: None,
                },
                facts,
                of: 1,
            }),
        }
    }

    /// Hands out what waits for a neighbour.
    pub fn flush(&mut self, out: &mut Vec<Merged>) {
        let group = std::mem::take(&mut self.group);
        self.records_bytes = 0;
        match self.merged(&group) {
            Some(batch) => out.push(Merged {
                batch,
                of: group.len(),
                facts: group.into_iter().flat_map(|member| member.facts).collect(),
            }),
            None => out.extend(group.into_iter().map(|member| Merged {
                batch: PackedBatch {
                    min_timestamp_ms: least_timestamp(&member.records),
                    bytes: member.bytes,
                    landed_ms: member.landed_ms,
                },
                facts: member.facts,
                of: 1,
            })),
        }
    }

    /// The records, where the batch may be merged at all.
    fn mergeable(&self, batch: &Batch) -> Option<Records> {
        let header = batch.header();
        let is_plain = header.producer_id < 0
            && !header.is_transactional()
            && !header.is_control()
            && header.delete_horizon_ms().is_none()
            && header.timestamp_type() == TimestampType::CreateTime;
        if !is_plain || header.batch_bytes >= self.limits.below_bytes || header.records_count == 0 {
            return None;
        }
        checked_records(batch, self.limits.records_bytes_max).ok()
    }

    fn joins(&self, header: &BatchHeader, records: &Records) -> bool {
        let (Some(first), Some(last)) = (self.group.first(), self.group.last()) else {
            return true;
        };
        let (first, behind) = (&first.header, last_offset(&last.header));
        let fits = self.records_bytes + records.bytes() <= self.limits.records_bytes_max;
        let covers = last_offset(header).checked_sub(first.base_offset);
        fits && header.base_offset > behind
            && covers.is_some_and(|covers| i32::try_from(covers).is_ok())
            && header.attributes == first.attributes
            && header.leader_epoch == first.leader_epoch
    }

    /// One batch of the whole group; `None` where that saves nothing.
    fn merged(&mut self, group: &[Member]) -> Option<PackedBatch> {
        let ([first, _, ..], Some(last)) = (group, group.last()) else {
            return None;
        };
        let mut rewriter = BatchRewriter::new(first.header.clone());
        for member in group {
            for record in member.records.clone() {
                let (offset, record) = record.ok()?;
                rewriter.push(offset, &record);
            }
        }
        let compression = match first.header.compression() {
            Ok(Compression::None) => self.compression,
            of_all => of_all.ok()?,
        };
        let bytes = rewriter.seal(last_offset(&last.header), compression, &mut self.compressor);
        let were: usize = group.iter().map(|member| member.bytes.len()).sum();
        let minima = group.iter().map(|member| least_timestamp(&member.records));
        (bytes.len() < were).then(|| PackedBatch {
            bytes,
            // Retention goes by the newest: nothing is deleted early.
            landed_ms: group
                .iter()
                .map(|member| member.landed_ms)
                .max()
                .unwrap_or_default(),
            min_timestamp_ms: minima.min().flatten(),
        })
    }
}

/// Of a batch whose records are checked: it does not overflow.
fn last_offset(header: &BatchHeader) -> i64 {
    header.base_offset + i64::from(header.last_offset_delta)
}

fn least_timestamp(records: &Records) -> Option<i64> {
    let records = records.clone().filter_map(Result::ok);
    records.map(|(_, record)| record.timestamp_ms).min()
}
