//! What of a stream may go, and when: its policy, and the deaths that follow from it. A stream always
//! loses its oldest first, so what lives is one interval, and a run is cut at its front only.

use std::collections::VecDeque;

use tidegate_shared::id::{BoundaryHash, EdgeOffset, StreamId};

use crate::clock::JournalTime;
use crate::entry::LandedEntry;
use crate::state::{ApplyError, RowKey, State, StreamState};

/// How long a stream's records are kept. What is not landed and must go leaves a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// What is older goes, landed or not, by the journal's own clock. `None`: no bound.
    pub age_ms: Option<u64>,
    /// What the stream may hold, as batches; its oldest goes beyond it. `None`: no bound.
    pub bytes: Option<u64>,
    /// What landed may go.
    pub until_landed: bool,
    /// What landed stays for so long after it did, while there is space.
    pub keep_after_landed_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age_ms: None,
            bytes: None,
            until_landed: true,
            keep_after_landed_ms: 0,
        }
    }
}

/// What happens to a stream when the journal is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Overflow {
    /// Nothing of it is dropped: what is new is refused.
    #[default]
    Reject = 0,
    /// Its oldest goes, with a gap.
    DropOldest = 1,
}

/// A stream's policy. It is kept in the index, so that it also holds while opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPolicy {
    pub retention: Retention,
    pub overflow: Overflow,
}

/// `keep_after_landed` is kept to within this part of it: so many marks a stream has, and two.
const MARKS_PER_KEEP: u64 = 16;

/// Offsets below which all had landed by a time; oldest first.
pub(crate) type LandedMarks = VecDeque<(EdgeOffset, JournalTime)>;

impl StreamState {
    /// Notes that all below `landed` had landed by `now`.
    fn mark_landed(&mut self, now: JournalTime) {
        let keep = self.policy.retention.keep_after_landed_ms;
        if keep == 0 {
            self.landed_marks.clear();
            return;
        }
        let mark = (self.landed, now);
        let before_last = self.landed_marks.iter().rev().nth(1);
        let is_close = before_last.is_some_and(|(_, at)| now.0 - at.0 < keep / MARKS_PER_KEEP);
        match self.landed_marks.back_mut().filter(|_| is_close) {
            Some(last) => *last = mark,
            None => self.landed_marks.push_back(mark),
        }
    }

    /// How far the stream has landed, as an entry.
    pub(crate) fn landed_entry(&self, stream: StreamId) -> LandedEntry {
        LandedEntry {
            stream,
            landed: self.landed,
            hash: self.landed_hash,
            gap_records_landed: self.gap_records_landed,
        }
    }

    /// Below this, data may go since it landed, and did so long enough ago.
    fn landed_floor(&mut self, now: JournalTime) -> EdgeOffset {
        let retention = self.policy.retention;
        if !retention.until_landed {
            return EdgeOffset(0);
        }
        if retention.keep_after_landed_ms == 0 {
            return self.landed;
        }
        let old = |at: JournalTime| now.0.saturating_sub(at.0) >= retention.keep_after_landed_ms;
        let mut floor = EdgeOffset(0);
        while let Some((offset, _)) = self.landed_marks.front().filter(|(_, at)| old(*at)) {
            floor = *offset;
            // The last one stays: it says how far the floor is.
            if self.landed_marks.len() == 1 {
                break;
            }
            let next_is_old = self.landed_marks.get(1).is_some_and(|(_, at)| old(*at));
            if !next_is_old {
                break;
            }
            self.landed_marks.pop_front();
        }
        floor
    }

    /// Batch bytes that live.
    pub(crate) fn living_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum()
    }
}

impl State {
    /// What the cloud says, as an entry, once it is applied; `None` for a stream that is not there.
    pub(crate) fn note_landed(
        &mut self,
        stream: StreamId,
        landed: EdgeOffset,
        hash: BoundaryHash,
    ) -> Option<LandedEntry> {
        let state = self.streams.get(&stream)?;
        let entry = LandedEntry {
            stream,
            landed,
            hash,
            gap_records_landed: state.gap_records_landed + state.dropped_and_landed(landed),
        };
        self.apply_landed(&entry).ok()?;
        Some(entry)
    }

    /// Moves a stream's landed offset on; never back.
    pub(crate) fn apply_landed(&mut self, entry: &LandedEntry) -> Result<(), ApplyError> {
        let (now, life) = (self.meta.time, self.meta.cluster_incarnation.counter);
        let (stream, landed) = (entry.stream, entry.landed);
        let state = self.stream_mut(stream)?;
        if landed > state.landed {
            state.landed = landed;
            state.landed_hash = entry.hash;
            state.landed_life = life;
            if landed > state.next {
                // The frame with its last chunks is damaged; the cloud has them.
                state.next = landed;
                state.hash = entry.hash;
            }
            state.mark_landed(now);
            let before = std::mem::replace(&mut state.gap_records_landed, entry.gap_records_landed);
            self.gap_records_landed += entry.gap_records_landed.saturating_sub(before);
            self.settle(stream);
            self.bury(stream);
        }
        Ok(())
    }

    /// Lets go of a stream's landed runs in files that are full.
    pub(crate) fn bury(&mut self, id: StreamId) {
        let now = self.meta.time;
        if let Some(stream) = self.streams.get_mut(&id) {
            let floor = stream.landed_floor(now);
            self.bury_below(id, floor);
        }
    }

    /// Lets go of whole runs below `floor`, and of empty ones, in files that are full. What lies in
    /// the active file goes with it, but for copies: those are older than what follows them.
    fn bury_below(&mut self, id: StreamId, floor: EdgeOffset) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let mut at = 0;
        while let Some(run) = stream.runs.get_mut(at) {
            if !run.is_empty() && run.next > floor {
                break;
            }
            match self.files.get_mut(&run.file).filter(|file| file.sealed) {
                Some(file) => {
                    file.runs -= 1;
                    self.dirty.insert(run.row(id));
                    stream.runs.remove(at);
                }
                None => {
                    if run.copied && !run.is_empty() {
                        run.empty();
                        self.dirty.insert(run.row(id));
                    }
                    at += 1;
                }
            }
        }
    }

    /// All of a stream below `to` is dead. `died` is what that took from the run that goes on.
    pub(crate) fn drop_below(&mut self, id: StreamId, to: EdgeOffset, died: (u32, u64)) {
        self.bury_below(id, to);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // A run of the active file is emptied, and goes when its file is full.
        for run in stream.runs.iter_mut().take_while(|run| run.first < to) {
            if run.next <= to {
                run.empty();
            } else {
                run.first = to;
                run.chunks = run.chunks.saturating_sub(died.0);
                run.bytes = run.bytes.saturating_sub(died.1);
            }
            self.dirty.insert(run.row(id));
        }
    }

    /// Takes out the full files in which nothing lives and that no session needs. They may be used
    /// again once a checkpoint that records this is durable, and not before; those that are damaged
    /// (the second value) never.
    pub(crate) fn take_dead_files(&mut self) -> Vec<(u64, bool)> {
        let needed_from = self.meta.needed_from;
        let dead = self.files.iter().filter(|(_, file)| {
            file.sealed && file.runs == 0 && file.next_position.0 <= needed_from.0
        });
        let dead: Vec<(u64, bool)> = dead
            .map(|(sequence, file)| (*sequence, file.damaged))
            .collect();
        for (sequence, _) in &dead {
            self.files.remove(sequence);
            self.dirty.insert(RowKey::File(*sequence));
        }
        dead
    }
}
