//! What the journal must hold whenever it was opened: every stream dense and its hashes chained, from
//! what may have been let go of to at least what was said to be durable, and no damage where there
//! was only a power cut.

use std::collections::BTreeMap;

use tidegate_edge_journal::{JournalReader, OpenReport, StreamStatus};
use tidegate_shared::id::{EdgeOffset, StreamId};
use tidegate_shared::record::Batch;

use crate::broker::{Store, to_message};
use crate::promises::Promises;
use crate::{Stop, violated};

/// What a store was heard to say, over all its lives.
#[derive(Debug, Default)]
pub struct Audit {
    ends: BTreeMap<StreamId, EdgeOffset>,
    landed: BTreeMap<StreamId, EdgeOffset>,
    /// A journal was opened to the end.
    exists: bool,
}

const READ_BYTES_MAX: usize = 64 << 10;

impl Audit {
    /// The store is about to go.
    pub fn hear(&mut self, store: &Store) {
        for (known, said) in [
            (&mut self.ends, store.ends()),
            (&mut self.landed, store.landed()),
        ] {
            for (stream, offset) in said {
                let known = known.entry(*stream).or_default();
                *known = (*known).max(*offset);
            }
        }
    }

    /// A power cut damages nothing that was durable. An index that was never made to the end may be
    /// set aside.
    pub fn check_report(&mut self, report: &OpenReport) -> Result<(), Stop> {
        if !std::mem::replace(&mut self.exists, true) {
            return Ok(());
        }
        let is_clean = report.damage.is_empty()
            && report.set_aside.is_empty()
            && !report.index_lost
            && report.gap_records == 0
            && report.records_lost == 0;
        match is_clean {
            true => Ok(()),
            false => violated("a power cut damages nothing", format!("{report:?}")),
        }
    }

    pub fn check_streams(&self, reader: &JournalReader, promises: &Promises) -> Result<(), Stop> {
        for status in reader.streams() {
            let stream = status.stream;
            let landed = self.landed.get(&stream).copied().unwrap_or_default();
            let end = self.ends.get(&stream).copied().unwrap_or_default();
            if status.first > landed || status.next < end || !status.gaps.is_empty() {
                let what = format!("{status:?}, landed {landed:?}, durable to {end:?}");
                return violated("only what landed is let go", what);
            }
            check_stream(reader, &status, promises)?;
        }
        Ok(())
    }
}

fn check_stream(
    reader: &JournalReader,
    status: &StreamStatus,
    promises: &Promises,
) -> Result<(), Stop> {
    let (name, mut next, mut hash) = (&status.name, status.first, None);
    while next < status.next {
        let chunks = match reader.read(status.stream, next, READ_BYTES_MAX) {
            Ok(chunks) if !chunks.is_empty() => chunks,
            read => return violated("streams are dense", format!("{name:?} {next:?}: {read:?}")),
        };
        for chunk in chunks {
            let holds_next = chunk.base_offset <= next && chunk.end() > next;
            if !holds_next || hash.is_some_and(|hash| hash != chunk.hash_before) {
                let what = format!("{name:?} at {next:?} has {:?}", chunk.base_offset);
                return violated("streams are dense and their hashes chain", what);
            }
            check_records(chunk.batch, u64::from(chunk.count), promises)?;
            (next, hash) = (
                chunk.base_offset.plus(chunk.count.into()),
                Some(chunk.hash_after),
            );
        }
    }
    match hash.is_none_or(|hash| hash == status.hash) {
        true => Ok(()),
        false => violated("a stream ends with its hash", format!("{name:?}")),
    }
}

fn check_records(batch: bytes::Bytes, count: u64, promises: &Promises) -> Result<(), Stop> {
    let records = Batch::parse(batch).and_then(|batch| batch.records());
    let mut found = 0;
    for record in records.into_iter().flatten().flatten() {
        found += 1;
        match to_message(record.1) {
            Some(message) => promises.number_of(&message).map(drop)?,
            None => return violated("only what was published is there", "a record".to_owned()),
        }
    }
    match found == count {
        true => Ok(()),
        false => violated("streams are dense", format!("{found} records of {count}")),
    }
}
