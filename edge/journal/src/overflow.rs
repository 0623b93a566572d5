//! Making room: what retention lets go goes about once a second, and when the journal is full the
//! oldest file is emptied, at the least loss.

use std::collections::BTreeMap;

use tidegate_shared::gap::GapReason;
use tidegate_shared::id::StreamId;

use crate::clock::{JournalTime, Tick, is_plausible};
use crate::dropping::Drop;
use crate::expiry::{first_within, first_young, is_due};
use crate::journal::{CommitError, Journal};
use crate::pool::PoolError;
use crate::retention::{Overflow, StreamPolicy};
use crate::state::{RowKey, Run, State, StreamState};

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
                let needed = file.next_position.0 > state.meta.needed_from.0;
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
