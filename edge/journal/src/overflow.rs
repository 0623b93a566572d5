//! Making room: what retention lets go goes about once a second, and when the journal is full the
//! oldest file is emptied, at the least loss.

use std::collections::BTreeMap;

use tidegate_shared::gap::GapReason;
use tidegate_shared::id::StreamId;

use crate::cleaner::Copies;
use crate::clock::{JournalTime, Tick, is_plausible};
use crate::dropping::Drop;
use crate::expiry::{first_within, first_young, is_due};
use crate::journal::{CommitError, Journal};
use crate::limits::{CLEANED_AFTER_LOSS_PER_CENT_MAX, CLEANED_ALIVE_PER_CENT_MAX};
use crate::pool::PoolError;
use crate::retention::{Overflow, StreamPolicy};
use crate::state::{RowKey, Run, State, StreamState};

/// A full file, by what becomes of its parts when it is wanted.
#[derive(Debug, Default)]
struct Parts {
    has_landed: bool,
    has_loss: bool,
    /// Would be copied where nothing may be lost.
    not_landed: Copies,
    stays: Copies,
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

impl Journal {
    /// What retention keeps, as it stands in the log: chunks with their entries' fields, without the
    /// frames' headers and padding. Goes over all runs.
    pub fn living_log_bytes(&self) -> u64 {
        let shared = self.shared();
        let runs = shared
            .state
            .streams
            .values()
            .flat_map(|stream| &stream.runs);
        runs.map(Run::entry_bytes).sum()
    }

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
        if self.has_dead_files() {
            return Ok(());
        }
        let freed = if self.writer.pool.wants_space() {
            self.free_a_file(true)
        } else if self.writer.pool.wants_cleaning() {
            self.clean(CLEANED_ALIVE_PER_CENT_MAX)
        } else {
            Ok(false)
        };
        freed.map(drop).or_else(|error| self.unless_full(error))
    }

    /// Makes at least one log file free, or says that none can be.
    pub(crate) fn make_room(&mut self, copies_first: bool) -> Result<bool, CommitError> {
        if self.checkpoint_running {
            return Ok(false);
        }
        if !self.has_dead_files() {
            match self.free_a_file(copies_first) {
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

    /// Frees some full file, at the least loss: what landed and is only kept for a while goes first, then
    /// the cleaner copies, and only then streams lose their oldest.
    fn free_a_file(&mut self, copies_first: bool) -> Result<bool, PoolError> {
        if let Some((drops, stays)) = self.landed_victim() {
            self.drop_all(drops)?;
            if !stays {
                return Ok(true);
            }
        }
        if copies_first {
            match self.clean(CLEANED_ALIVE_PER_CENT_MAX) {
                // A copy needs more room than the gap does that a loss leaves.
                Ok(false) | Err(PoolError::Full) => {}
                cleaned => return cleaned,
            }
        }
        if self.writer.pool.waits_for_readers() {
            return Ok(false);
        }
        let Some((drops, stays)) = self.losing_victim() else {
            // A stream that loses nothing still has what the cleaner can get.
            return match copies_first {
                true => Ok(false),
                false => self.clean(CLEANED_ALIVE_PER_CENT_MAX),
            };
        };
        self.drop_all(drops)?;
        match stays {
            true => self.clean(CLEANED_AFTER_LOSS_PER_CENT_MAX),
            false => Ok(true),
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
        let needed_from = state.meta.needed_from;
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
            let mut kept = Vec::new();
            for (id, stream) in &shared.state.streams {
                if is_due(stream, now) {
                    due.push((*id, stream.clone()));
                }
                if !stream.landed_marks.is_empty() {
                    kept.push(*id);
                }
            }
            kept.into_iter().for_each(|id| shared.state.bury(id));
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

    /// What landed of the oldest full file that is worth emptying without it, and whether something of
    /// the file stays.
    fn landed_victim(&self) -> Option<(Vec<Drop>, bool)> {
        let pays = |parts: &Parts| {
            let left = &parts.not_landed;
            parts.has_landed && left.pay(&self.limits, CLEANED_ALIVE_PER_CENT_MAX)
        };
        self.victim(pays, |parts| !parts.not_landed.is_empty(), &[Fate::Landed])
    }

    /// What is lost of the oldest full file in which a loss frees something.
    fn losing_victim(&self) -> Option<(Vec<Drop>, bool)> {
        let pays = |parts: &Parts| {
            let left = &parts.stays;
            parts.has_loss && left.pay(&self.limits, CLEANED_AFTER_LOSS_PER_CENT_MAX)
        };
        let fates = [Fate::Landed, Fate::Loss];
        self.victim(pays, |parts| !parts.stays.is_empty(), &fates)
    }

    fn victim(
        &self,
        pays: impl Fn(&Parts) -> bool,
        stays: impl Fn(&Parts) -> bool,
        fates: &[Fate],
    ) -> Option<(Vec<Drop>, bool)> {
        let shared = self.shared();
        let state = &shared.state;
        let may_go = |sequence: &u64, parts: &Parts| {
            state.files.get(sequence).is_some_and(|file| {
                let needed = file.next_position.0 > state.meta.needed_from.0;
                file.sealed && !needed && !(stays(parts) && file.damaged)
            })
        };
        let files = parts_by_file(state);
        let mut candidates = files.iter();
        let (victim, parts) =
            candidates.find(|(file, parts)| pays(parts) && may_go(file, parts))?;
        let drops = state.streams.iter().flat_map(|(id, stream)| {
            let goes = |run: &&Run| run.file == *victim && fates.contains(&fate(stream, run));
            let runs = stream.runs.iter().filter(goes);
            runs.map(|run| (*id, run.next, GapReason::Overflow))
        });
        Some((drops.collect(), stays(parts)))
    }
}

fn parts_by_file(state: &State) -> BTreeMap<u64, Parts> {
    let mut files: BTreeMap<u64, Parts> = BTreeMap::new();
    for stream in state.streams.values() {
        for run in stream.runs.iter().filter(|run| !run.is_empty()) {
            let parts = files.entry(run.file).or_default();
            let fate = fate(stream, run);
            parts.has_landed |= fate == Fate::Landed;
            parts.has_loss |= fate == Fate::Loss;
            if fate != Fate::Landed {
                parts.not_landed.add(run);
            }
            if fate == Fate::Stays {
                parts.stays.add(run);
            }
        }
    }
    files
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
