//! Dropping a stream's oldest: what had landed just goes; for the rest a gap is made durable first, with
//! the hashes of those boundaries that may have been sent.

use std::collections::BTreeMap;

use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{BoundaryHash, EdgeOffset, StreamId};

use crate::entry::Entry;
use crate::expiry::living_bytes;
use crate::gap::{Gap, GapEntry};
use crate::journal::Journal;
use crate::limits::BOUNDARIES_KEPT_MAX;
use crate::pool::{Need, PoolError};
use crate::reader::JournalReader;
use crate::state::{Run, StreamState};

/// A stream's data below an offset is to go.
pub(crate) type Drop = (StreamId, EdgeOffset, GapReason);

/// A boundary costs this much of a frame.
const BOUNDARY_BYTES: usize = 24;

impl Journal {
    /// Drops streams' data below offsets. Where it has not landed the gaps are made durable first.
    pub(crate) fn drop_all(&mut self, drops: Vec<Drop>) -> Result<(), PoolError> {
        // One gap a stream: each is planned on what is there before all of them.
        let mut furthest: BTreeMap<StreamId, (EdgeOffset, GapReason)> = BTreeMap::new();
        for (stream, to, reason) in drops {
            let drop = furthest.entry(stream).or_insert((to, reason));
            if to > drop.0 {
                *drop = (to, reason);
            }
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (stream, (to, reason)) in furthest {
            let Some(entry) = self.plan_drop(stream, to, reason) else {
                continue;
            };
            bytes += 192 + entry.boundaries.len() * BOUNDARY_BYTES;
            // What a gap begins at must be as durable as the gap.
            entries.extend(self.landed_entry(stream));
            entries.push(Entry::Gap(entry));
            if bytes >= self.limits.commit_bytes_max / 2 {
                self.write_gaps(&std::mem::take(&mut entries))?;
                bytes = 0;
            }
        }
        self.write_gaps(&entries)
    }

    fn landed_entry(&self, stream: StreamId) -> Option<Entry> {
        let shared = self.shared();
        let state = shared.state.streams.get(&stream)?;
        Some(Entry::Landed(state.landed_entry(stream)))
    }

    /// One frame of gaps.
    pub(crate) fn write_gaps(&mut self, entries: &[Entry]) -> Result<(), PoolError> {
        let written = match entries.is_empty() {
            true => Ok(()),
            false => self.write(entries, Need::Freeing, self.writer.tail.next_position),
        };
        self.shared().dropping.clear();
        written
    }

    /// What the drop leaves: a gap, or nothing where all of it had landed; that goes at once.
    fn plan_drop(&mut self, id: StreamId, to: EdgeOffset, reason: GapReason) -> Option<GapEntry> {
        let reader = self.reader();
        let (stream, to) = {
            let mut shared = self.shared();
            let stream = shared.state.streams.get(&id)?;
            // What is lost already goes with it.
            let to = stream.gap_at(to).map_or(to, |gap| gap.to);
            let stream = stream.clone();
            if to <= stream.first() {
                return None;
            }
            // From here on nobody sends what is below.
            shared.dropping.insert(id, to);
            (stream, to)
        };
        let (to, hash_after) = readable_boundary(&reader, id, &stream, to);
        let died = died_in_run(&reader, id, &stream, to);
        if to <= stream.landed {
            let mut shared = self.shared();
            shared.state.drop_below(id, to, died);
            shared.dropping.remove(&id);
            return None;
        }
        let from = stream.first().max(stream.landed);
        let hash_before = stream
            .kept_hash(from)
            .or_else(|| hash_before(&reader, id, from))?;
        let room = self.limits.commit_bytes_max / 2 / BOUNDARY_BYTES;
        let room = room.min(BOUNDARIES_KEPT_MAX.saturating_sub(stream.boundaries.len()));
        let mut boundaries = Vec::new();
        if from != stream.landed && from <= stream.offered {
            boundaries.push((from, hash_before));
        }
        let sent = to.min(stream.offered.plus(1));
        boundaries.extend(boundaries_within(&reader, id, &stream, from, sent, room));
        Some(GapEntry {
            stream: id,
            gap: Gap {
                from,
                to,
                reason,
                hash_before,
                hash_after,
            },
            died,
            boundaries,
        })
    }
}

/// `to`, or the first boundary behind it whose hash can be read.
fn readable_boundary(
    reader: &JournalReader,
    id: StreamId,
    stream: &StreamState,
    mut to: EdgeOffset,
) -> (EdgeOffset, BoundaryHash) {
    while to < stream.next {
        if let Some(gap) = stream.gap_at(to) {
            to = gap.to;
            continue;
        }
        if let Some(hash) = hash_before(reader, id, to) {
            return (to, hash);
        }
        let places = reader.run_places(id, to).unwrap_or_default();
        let place = places.iter().find(|place| place.end() > to);
        let run = stream.runs.iter().find(|run| run.next > to);
        to = match (place, run) {
            (Some(place), _) if place.base_offset > to => place.base_offset,
            (Some(place), _) => place.end(),
            (None, Some(run)) => run.next,
            (None, None) => stream.next,
        };
    }
    (stream.next, stream.hash)
}

/// The hash at a boundary that a chunk begins at.
fn hash_before(reader: &JournalReader, id: StreamId, offset: EdgeOffset) -> Option<BoundaryHash> {
    let (file, places) = reader.run_of(id, offset).ok()??;
    let place = places.iter().find(|place| place.base_offset == offset)?;
    let entry = reader.read_fields(&file, place).ok()?;
    (entry.stream == id && entry.base_offset == offset).then_some(entry.hash_before)
}

/// Chunks and batch bytes that a drop takes from the run that goes on behind it.
fn died_in_run(
    reader: &JournalReader,
    id: StreamId,
    stream: &StreamState,
    to: EdgeOffset,
) -> (u32, u64) {
    let cut = |run: &&Run| run.first < to && to < run.next;
    let Some(run) = stream.runs.iter().find(cut) else {
        return (0, 0);
    };
    let places = reader.run_places(id, run.first).unwrap_or_default();
    let dead = places
        .iter()
        .filter(|place| place.base_offset >= run.first && place.end() <= to);
    dead.fold((0, 0), |(chunks, bytes), place| {
        (chunks + 1, bytes + living_bytes(place.bytes))
    })
}

/// Boundaries of chunks between `from` and `to`, the oldest first: those may have been sent.
fn boundaries_within(
    reader: &JournalReader,
    id: StreamId,
    stream: &StreamState,
    from: EdgeOffset,
    to: EdgeOffset,
    room: usize,
) -> Vec<(EdgeOffset, BoundaryHash)> {
    let mut found = Vec::new();
    let runs = stream.runs.iter();
    for run in runs.filter(|run| !run.is_empty() && run.next > from && run.first < to) {
        let Ok(Some((file, places))) = reader.run_of(id, run.first) else {
            continue;
        };
        for place in places {
            if found.len() >= room {
                return found;
            }
            if place.base_offset > from
                && place.base_offset < to
                && let Ok(entry) = reader.read_fields(&file, &place)
            {
                found.push((place.base_offset, entry.hash_before));
            }
        }
    }
    found
}
