//! Where a stream begins once what retention lets go is gone: by whole runs, and in the run in which
//! the bound lies by single chunks, which its log file's table names.

use tidegate_shared::id::{EdgeOffset, StreamId};

use crate::clock::JournalTime;
use crate::entry::CHUNK_FIELDS_BYTES;
use crate::reader::JournalReader;
use crate::state::StreamState;

/// Whether a stream has more, or older, than it may.
pub(crate) fn is_due(stream: &StreamState, now: JournalTime) -> bool {
    let retention = &stream.policy.retention;
    let oldest = stream.runs.iter().find(|run| run.chunks > 0);
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
    for run in stream.runs.iter().filter(|run| run.chunks > 0) {
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
            bytes = bytes.saturating_sub(batch_bytes(place.bytes));
            to = place.end();
        }
        break;
    }
    to
}

/// A chunk's batch bytes, of its entry's.
pub(crate) fn batch_bytes(entry_bytes: u32) -> u64 {
    u64::from(entry_bytes).saturating_sub(CHUNK_FIELDS_BYTES as u64)
}
