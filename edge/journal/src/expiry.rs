//! Where a stream begins once what retention lets go is gone: by whole runs, and in the run in which
//! the bound lies by single chunks, which its log file's table names.

use std::collections::BTreeSet;

use tidegate_shared::id::{EdgeOffset, StreamId};

use crate::clock::JournalTime;
use crate::entry::CHUNK_FIELDS_BYTES;
use crate::journal::Journal;
use crate::reader::JournalReader;
use crate::state::{Run, StreamState};

impl Journal {
    /// Counts anew what lives in the run that each of `streams` begins with. A frame that was written again
    /// lies in another run than before, so what a gap's entry says of its run need not hold there.
    pub(crate) fn recount(&mut self, streams: &BTreeSet<StreamId>) {
        let reader = self.reader();
        let firsts: Vec<(StreamId, Run)> = {
            let shared = self.shared();
            let firsts = streams.iter().filter_map(|id| {
                let stream = shared.state.streams.get(id)?;
                let mut living = stream.runs.iter().filter(|run| !run.is_empty());
                Some((*id, *living.next()?))
            });
            firsts.collect()
        };
        for (id, run) in firsts {
            // Where it cannot be read, it is damaged, and found to be when it is wanted.
            let places = reader.run_places(id, run.first).unwrap_or_default();
            let mut shared = self.shared();
            let stream = shared.state.streams.get_mut(&id);
            let found = stream.and_then(|stream| {
                let mut runs = stream.runs.iter_mut();
                runs.find(|other| other.first == run.first && other.next == run.next)
            });
            if let Some(found) = found.filter(|_| !places.is_empty()) {
                found.chunks = places.len() as u32;
                found.bytes = places.iter().map(|place| living_bytes(place.bytes)).sum();
                let row = found.row(id);
                shared.state.dirty.insert(row);
            }
        }
    }
}

/// Whether a stream has more, or older, than it may.
pub(crate) fn is_due(stream: &StreamState, now: JournalTime) -> bool {
    let retention = &stream.policy.retention;
    let oldest = stream.runs.iter().find(|run| !run.is_empty());
    let old = retention.age_ms.zip(oldest);
    old.is_some_and(|(age_ms, run)| now.ms_since_seconds(run.first_time_s) >= age_ms)
        || retention
            .bytes
            .is_some_and(|max| stream.living_bytes() > max)
}

/// Where a stream begins once all that is older than `age_ms` is gone.
pub(crate) fn first_young(
    reader: &JournalReader,
    id: StreamId,
    stream: &StreamState,
    now: JournalTime,
    age_ms: u64,
) -> EdgeOffset {
    let is_old = |time_s: u32| now.ms_since_seconds(time_s) >= age_ms;
    let mut to = stream.first();
    for run in stream.runs.iter().filter(|run| !run.is_empty()) {
        if is_old(run.last_time_s) {
            to = run.next;
            continue;
        }
        if is_old(run.first_time_s) {
            let places = reader.run_places(id, run.first).unwrap_or_default();
            let old = places.iter().take_while(|place| is_old(place.time_s));
            to = old.last().map_or(to, |place| place.end().max(to));
        }
        break;
    }
    to
}

/// Where a stream begins once it has at most `bytes_max`.
pub(crate) fn first_within(
    reader: &JournalReader,
    id: StreamId,
    stream: &StreamState,
    bytes_max: u64,
) -> EdgeOffset {
    let mut bytes = stream.living_bytes();
    let mut to = stream.first();
    for run in &stream.runs {
        if bytes <= bytes_max {
            break;
        }
        if bytes - run.bytes >= bytes_max {
            (bytes, to) = (bytes - run.bytes, run.next);
            continue;
        }
        let places = reader.run_places(id, run.first).unwrap_or_default();
        for place in places.iter().filter(|place| place.base_offset >= run.first) {
            if bytes <= bytes_max {
                break;
            }
            bytes = bytes.saturating_sub(living_bytes(place.bytes));
            to = place.end();
        }
        break;
    }
    to
}

/// A chunk's marks and batch, of its entry's bytes.
pub(crate) fn living_bytes(entry_bytes: u32) -> u64 {
    u64::from(entry_bytes).saturating_sub(CHUNK_FIELDS_BYTES as u64)
}
