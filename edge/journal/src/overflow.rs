//! Dropping what must go: by a stream's retention, and when the journal is full. What is dropped
//! before it landed leaves a gap, durable before anything is freed.

use std::collections::BTreeMap;

use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{BoundaryHash, EdgeOffset, StreamId};

use crate::clock::{JournalTime, Tick, is_plausible};
use crate::entry::Entry;
use crate::expiry::{batch_bytes, first_within, first_young, is_due};
use crate::gap::{Gap, GapEntry};
use crate::journal::{CommitError, Journal};
use crate::limits::BOUNDARIES_KEPT_MAX;
use crate::pool::{Need, PoolError};
use crate::reader::JournalReader;
use crate::retention::{Overflow, StreamPolicy};
use crate::state::{RowKey, Run, State, StreamState};

/// A stream's data below an offset is to go.
pub(crate) type Drop = (StreamId, EdgeOffset, GapReason);

/// What is to go so that a file is free.
#[derive(Debug, Default)]
struct Victim {
    drops: Vec<Drop>,
    is_lossless: bool,
    /// Some of the file is to be copied.
    something_stays: bool,
}

/// What freeing a file costs.
#[derive(Debug, Default)]
struct Cost {
    loses: bool,
    stays_bytes: u64,
}

/// What becomes of a run when its file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Landed,
    Loss,
    Stays,
}

fn fate(stream: &StreamState, run: &Run) -> Fate {
    match (stream.policy.retention.until_landed, stream.policy.overflow) {
        (true, _) if run.next <= stream.landed => Fate::Landed,
        (_, Overflow::DropOldest) => Fate::Loss,
        _ => Fate::Stays,
    }
}

/// A boundary costs this much of a frame.
const BOUNDARY_BYTES: usize = 24;

impl Journal {
    /// Moves the journal's clock on. Steps of the wall clock do not.
    pub fn tick(&mut self, tick: Tick) {
        let time = JournalTime(self.time_at_open.0 + tick.monotonic_ms_since_open);
        let meta = &mut self.shared().state.meta;
        meta.time = meta.time.max(time);
        if is_plausible(tick.wall_ms) {
            meta.wall_ms = tick.wall_ms;
        }
    }

    /// Sets what a stream keeps, and what happens to it when the journal is full.
    pub fn set_policy(&mut self, stream: StreamId, policy: StreamPolicy) {
        let mut shared = self.shared();
        match shared.state.streams.get_mut(&stream) {
            Some(state) if state.policy == policy => {}
            Some(state) => {
                state.policy = policy;
                shared.state.dirty.insert(RowKey::Stream(stream));
            }
            None => drop(shared.policies_of_new.insert(stream, policy)),
        }
    }

    /// Drops what retention lets go, and makes room ahead of time where a stream says so. To be
    /// called about once a second; the next checkpoint frees the space.
    pub fn retain(&mut self) -> Result<(), CommitError> {
        if self.failed {
            return Err(CommitError::Failed);
        }
        let expired = self.expired();
        self.drop_all(expired)
            .or_else(|error| self.unless_full(error))?;
        let spares = self.writer.pool.keep_spares();
        spares.map_err(|error| self.fail(error))?;
        if self.writer.pool.wants_space() && !self.has_dead_files() {
            let freed = self.free_a_file();
            freed.map(drop).or_else(|error| self.unless_full(error))?;
        }
        Ok(())
    }

    /// Makes at least one log file free, or says that none can be.
    pub(crate) fn make_room(&mut self) -> Result<bool, CommitError> {
        if self.checkpoint_running {
            return Ok(false);
        }
        if !self.has_dead_files() {
            match self.free_a_file() {
                Ok(true) => {}
                Ok(false) | Err(PoolError::Full) => return Ok(false),
                Err(PoolError::Io(error)) => return Err(self.fail(error)),
            }
        }
        match self.checkpoint() {
            Ok(()) => Ok(true),
            Err(CommitError::Full) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sees to it that nothing lives in some full file: without a loss if that can be.
    fn free_a_file(&mut self) -> Result<bool, PoolError> {
        let victim = self.victim();
        if !victim.is_lossless && self.clean()? {
            return Ok(true);
        }
        let found = !victim.drops.is_empty();
        self.drop_all(victim.drops)?;
        match victim.something_stays {
            true => self.clean(),
            false => Ok(found),
        }
    }

    fn unless_full(&mut self, error: PoolError) -> Result<(), CommitError> {
        match error {
            PoolError::Full => Ok(()),
            PoolError::Io(error) => Err(self.fail(error)),
        }
    }

    /// Whether a checkpoint would free something.
    fn has_dead_files(&self) -> bool {
        let state = &self.shared().state;
        let needed_from = state.needed_from;
        let mut files = state.files.values();
        !self.dead_unwritten.is_empty()
            || files
                .any(|file| file.sealed && file.runs == 0 && file.next_position.0 <= needed_from.0)
    }

    /// Streams with more, or older, than they may have; with where they are to begin.
    fn expired(&mut self) -> Vec<Drop> {
        let mut due = Vec::new();
        {
            let mut shared = self.shared();
            let now = shared.state.meta.time;
            let ids: Vec<StreamId> = shared.state.streams.keys().copied().collect();
            for id in ids {
                let stream = &shared.state.streams[&id];
                if is_due(stream, now) {
                    due.push((id, stream.clone()));
                }
                if !stream.landed_marks.is_empty() {
                    shared.state.bury(id);
                }
            }
        }
        let (reader, now) = (self.reader(), self.now());
        let expired = due.iter().flat_map(|(id, stream)| {
            let retention = stream.policy.retention;
            let old = retention.age_ms.map(|age_ms| {
                let to = first_young(&reader, *id, stream, now, age_ms);
                (*id, to, GapReason::Age)
            });
            let much = retention.bytes.map(|bytes_max| {
                let to = first_within(&reader, *id, stream, bytes_max);
                (*id, to, GapReason::Bytes)
            });
            old.into_iter().chain(much)
        });
        expired.collect()
    }

    fn now(&self) -> JournalTime {
        self.shared().state.meta.time
    }

    /// The oldest full file that can be emptied: one whose data landed, else one whose streams let
    /// their oldest go. What must stay of it is little enough to be copied.
    fn victim(&self) -> Victim {
        let alive_max = self.alive_bytes_max();
        let shared = self.shared();
        let state = &shared.state;
        let mut costs: BTreeMap<u64, Cost> = BTreeMap::new();
        for stream in state.streams.values() {
            for run in stream.runs.iter().filter(|run| !run.is_empty()) {
                let cost = costs.entry(run.file).or_default();
                match fate(stream, run) {
                    Fate::Landed => {}
                    Fate::Loss => cost.loses = true,
                    Fate::Stays => cost.stays_bytes += run.copied_bytes(),
                }
            }
        }
        let may_go = |file: &u64, cost: &Cost| {
            state.files.get(file).is_some_and(|file| {
                let needed = file.next_position.0 > state.needed_from.0;
                let copied = cost.stays_bytes == 0 || !file.damaged;
                file.sealed && !needed && copied && cost.stays_bytes <= alive_max
            })
        };
        let candidates = costs.iter().filter(|(file, cost)| may_go(file, cost));
        let lossless = candidates.clone().find(|(_, cost)| !cost.loses);
        let is_lossless = lossless.is_some();
        let Some((victim, cost)) = lossless.or_else(|| candidates.clone().next()) else {
            return Victim::default();
        };
        let runs = state.streams.iter().flat_map(|(id, stream)| {
            let of_victim = |run: &&Run| run.file == *victim && fate(stream, run) != Fate::Stays;
            let runs = stream.runs.iter().filter(of_victim);
            runs.map(|run| (*id, run.next, GapReason::Overflow))
        });
        Victim {
            drops: runs.collect(),
            is_lossless,
            something_stays: cost.stays_bytes > 0,
        }
    }

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
        Some(Entry::Landed {
            stream,
            landed: state.landed,
            hash: state.landed_hash,
        })
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
        (chunks + 1, bytes + batch_bytes(place.bytes))
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
    for run in runs.filter(|run| run.chunks > 0 && run.next > from && run.first < to) {
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

impl State {
    /// Policies that were set before their streams' commit.
    pub(crate) fn take_policies(&mut self, policies: &mut BTreeMap<StreamId, StreamPolicy>) {
        let streams = &mut self.streams;
        let dirty = &mut self.dirty;
        policies.retain(|id, policy| match streams.get_mut(id) {
            Some(stream) => {
                stream.policy = *policy;
                dirty.insert(RowKey::Stream(*id));
                false
            }
            None => true,
        });
    }
}
