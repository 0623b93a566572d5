//! Packing: takes a partition's batches in order, with what is known of them, and gives the segment's
//! parts. The batches' bytes are handed on, not copied; whoever stores the segment writes the parts one
//! after the other.

use bytes::{Bytes, BytesMut};
use tidegate_bridge_protocol::fact::NamedFact;
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::record::{BatchHeader, TimestampType};

use super::facts::{Gathered, Placed};
use super::{
    Footer, HEADER_BYTES, SegmentEntry, SegmentFacts, SegmentHeader, SegmentSummary, WriteError,
    encoding,
};
use crate::ledger::Target;
use crate::offset_map::Source;

/// A batch with its Kafka base offset in it, and what is not in its bytes.
#[derive(Clone, Debug)]
pub struct PackedBatch {
    pub bytes: Bytes,
    /// When it landed, by the ledger's time.
    pub landed_ms: i64,
    /// For whoever has read its records; `None` takes what the header can prove.
    pub min_timestamp_ms: Option<i64>,
}

/// Makes one segment.
#[derive(Debug)]
pub struct SegmentWriter {
    target: Target,
    base: KafkaOffset,
    /// The offset after the last batch.
    end: KafkaOffset,
    /// The offset after the last fact.
    facts_end: KafkaOffset,
    position: u64,
    records: u64,
    batches: Vec<Bytes>,
    entries: Vec<SegmentEntry>,
    facts: Gathered,
    /// The source of the newest fact: most often it is that of the next one.
    newest: Option<(Source, u32)>,
}

impl SegmentWriter {
    /// A segment of a partition that covers the offsets from `base` on.
    ///
    /// # Panics
    /// `base` is negative.
    pub fn new(target: Target, base: KafkaOffset) -> Self {
        assert!(base.0 >= 0, "a partition's offsets are from 0 on");
        Self {
            target,
            base,
            end: base,
            facts_end: base,
            position: HEADER_BYTES as u64,
            records: 0,
            batches: Vec::new(),
            entries: Vec::new(),
            facts: Gathered::default(),
            newest: None,
        }
    }

    /// Appends a batch, and facts about its offsets and those between the last batch and this one, which
    /// were compacted away.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing has changed then.
    pub fn push(&mut self, batch: PackedBatch, facts: &[NamedFact]) -> Result<(), WriteError> {
        let header = BatchHeader::parse(&batch.bytes)?;
        let given = batch.bytes.len();
        let batch_bytes = match u32::try_from(given) {
            Ok(bytes) if header.batch_bytes == given => bytes,
            _ => {
                let said = header.batch_bytes;
                return Err(WriteError::Length { said, given });
            }
        };
        let base_offset = KafkaOffset(header.base_offset);
        let end = after(base_offset, header.offset_count())?;
        if base_offset < self.end() {
            let (found, end) = (base_offset, self.end());
            return Err(WriteError::Order { found, end });
        }
        self.check_facts(facts, (self.end(), end))?;
        self.add_facts(facts);
        let told = batch.min_timestamp_ms;
        let told = told.filter(|min| *min <= header.max_timestamp_ms);
        self.entries.push(SegmentEntry {
            base_offset,
            position: self.position,
            max_timestamp_ms: header.max_timestamp_ms,
            min_timestamp_ms: told.or_else(|| proven_minimum(&header)),
            landed_ms: batch.landed_ms,
            count: header.offset_count() as u32,
            batch_bytes,
            crc: crc32c::crc32c(&batch.bytes),
        });
        self.position += u64::from(batch_bytes);
        self.records += header.records_count as u64;
        self.batches.push(batch.bytes);
        self.end = end;
        Ok(())
    }

    /// Keeps facts about offsets whose records were compacted away, behind all that is here.
    ///
    /// # Errors
    /// One is not behind the last batch and the last fact; nothing has changed then.
    pub fn push_facts(&mut self, facts: &[NamedFact]) -> Result<(), WriteError> {
        self.check_facts(facts, (self.end(), KafkaOffset(i64::MAX)))?;
        self.add_facts(facts);
        Ok(())
    }

    /// Header and batches as they are now.
    pub fn bytes(&self) -> u64 {
        self.position
    }

    /// The offset that the next batch may have at least.
    pub fn end(&self) -> KafkaOffset {
        self.end.max(self.facts_end)
    }

    /// Whether no batch is here.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Closes the segment where its last batch ends. The parts, one after the other, are the object.
    pub fn finish(self) -> Result<(Vec<Bytes>, SegmentSummary), WriteError> {
        let end = self.end();
        self.finish_at(end)
    }

    /// Closes the segment at an offset that is behind its last batch: those between were compacted away.
    ///
    /// # Errors
    /// `end` is before something that is here, or two facts contradict each other.
    pub fn finish_at(
        mut self,
        end: KafkaOffset,
    ) -> Result<(Vec<Bytes>, SegmentSummary), WriteError> {
        if end < self.end() {
            let (found, end) = (end, self.end());
            return Err(WriteError::Order { found, end });
        }
        let facts = std::mem::take(&mut self.facts).finish(self.target);
        let facts = facts.map_err(|(source, at)| {
            let whose = Box::new(source);
            WriteError::Clash { whose, at }
        })?;
        let (target, base) = (self.target, self.base);
        let index = encoding::encode(target, base, &self.entries, &facts);
        let too_large = |_| WriteError::IndexTooLarge(index.len());
        let footer = Footer {
            index_position: self.position,
            index_bytes: u32::try_from(index.len()).map_err(too_large)?,
            index_crc: crc32c::crc32c(&index),
            end,
            batches: u32::try_from(self.entries.len()).map_err(too_large)?,
        };
        let summary = self.summary(&footer, &facts);
        let (mut head, mut foot) = (BytesMut::new(), BytesMut::new());
        SegmentHeader { target, base }.encode(&mut head);
        footer.encode(&mut foot);
        let mut parts = vec![head.freeze()];
        parts.append(&mut self.batches);
        parts.extend([index, foot.freeze()]);
        Ok((parts, summary))
    }

    fn summary(&self, footer: &Footer, facts: &SegmentFacts) -> SegmentSummary {
        let entries = || self.entries.iter();
        // Least of all is what is not known.
        let minimum = entries().map(|entry| entry.min_timestamp_ms).min();
        SegmentSummary {
            target: self.target,
            base: self.base,
            end: footer.end,
            bytes: footer.index_position + footer.tail_bytes(),
            index_position: footer.index_position,
            index_bytes: footer.index_bytes,
            index_crc: footer.index_crc,
            batches: footer.batches,
            records: self.records,
            max_timestamp_ms: entries().map(|entry| entry.max_timestamp_ms).max(),
            min_timestamp_ms: minimum.flatten(),
            landed_ms_min: entries().map(|entry| entry.landed_ms).min(),
            landed_ms_max: entries().map(|entry| entry.landed_ms).max(),
            facts: facts.mark(),
        }
    }

    fn check_facts(
        &self,
        facts: &[NamedFact],
        (from, to): (KafkaOffset, KafkaOffset),
    ) -> Result<(), WriteError> {
        let mut at = from.max(self.facts_end);
        for named in facts {
            let fact = &named.fact;
            let end = after(fact.kafka_offset, fact.count);
            let fits = (fact.topic_id, fact.partition)
                == (self.target.topic_id, self.target.partition)
                && fact.kafka_offset >= at
                && fact.count > 0
                && fact.edge_offset.0.checked_add(fact.count).is_some();
            at = match end {
                Ok(end) if fits && end <= to => end,
                _ => return Err(WriteError::Fact(Box::new(named.clone()))),
            };
        }
        Ok(())
    }

    fn add_facts(&mut self, facts: &[NamedFact]) {
        for named in facts {
            let placed = Placed {
                kafka_offset: named.fact.kafka_offset.0,
                edge_offset: named.fact.edge_offset.0,
                count: named.fact.count,
                source: self.source(named),
            };
            self.facts_end = KafkaOffset(placed.end());
            self.facts.push(placed);
        }
    }

    fn source(&mut self, named: &NamedFact) -> u32 {
        let is_newest = |source: &Source| {
            source.incarnation == named.fact.incarnation
                && source.cluster_incarnation == named.fact.cluster_incarnation
                && source.edge == named.edge
                && source.stream == named.stream
        };
        if let Some((source, number)) = &self.newest
            && is_newest(source)
        {
            return *number;
        }
        let source = Source {
            edge: named.edge.clone(),
            stream: named.stream.clone(),
            incarnation: named.fact.incarnation,
            cluster_incarnation: named.fact.cluster_incarnation,
        };
        let number = self.facts.sources.number(source.clone());
        self.newest = Some((source, number));
        number
    }
}

fn after(offset: KafkaOffset, count: u64) -> Result<KafkaOffset, WriteError> {
    let end = offset.0.checked_add_unsigned(count);
    let end = end.filter(|_| offset.0 >= 0);
    end.map(KafkaOffset).ok_or(WriteError::Offsets(offset))
}

/// The least timestamp, where the header alone says it: see the module's page.
fn proven_minimum(header: &BatchHeader) -> Option<i64> {
    let is_one = header.records_count == 1;
    let is_one_time = header.timestamp_type() == TimestampType::LogAppendTime;
    (is_one || is_one_time).then_some(header.max_timestamp_ms)
}
