//! Gaps: intervals of a stream that are lost and said to be, until the cloud has landed them. A gap
//! stands where the chunks would stand; the hash chain goes on across it as if they were there.

use std::ops::Range;

use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{BoundaryHash, EdgeOffset, StreamId};

use crate::state::{ApplyError, RowKey, State, StreamState};

/// One lost interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: EdgeOffset,
    /// The offset after the last lost record.
    pub to: EdgeOffset,
    pub reason: GapReason,
    /// The hash at `from`.
    pub hash_before: BoundaryHash,
    /// The hash at `to`.
    pub hash_after: BoundaryHash,
}

impl Gap {
    pub fn records(&self) -> u64 {
        self.to.0 - self.from.0
    }

    pub(crate) fn covers(&self, offset: EdgeOffset) -> bool {
        self.from <= offset && offset < self.to
    }
}

/// A gap as a frame records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GapEntry {
    pub stream: StreamId,
    pub gap: Gap,
    /// Chunks and batch bytes that died in the run that goes on behind `to`.
    pub died: (u32, u64),
    /// Hashes at boundaries within, for those that may have been sent before the data was dropped.
    pub boundaries: Vec<(EdgeOffset, BoundaryHash)>,
}

impl StreamState {
    pub(crate) fn gap_at(&self, offset: EdgeOffset) -> Option<&Gap> {
        let at = self.gaps.partition_point(|gap| gap.to <= offset);
        self.gaps.get(at).filter(|gap| gap.covers(offset))
    }

    /// Where the first gap behind `offset` begins.
    pub(crate) fn next_gap(&self, offset: EdgeOffset) -> EdgeOffset {
        let at = self.gaps.partition_point(|gap| gap.from <= offset);
        self.gaps
            .get(at)
            .map_or(EdgeOffset(u64::MAX), |gap| gap.from)
    }

    /// What is lost from `offset` on, where the hash there is known.
    pub(crate) fn gap_from(&self, offset: EdgeOffset) -> Option<Gap> {
        let gap = *self.gap_at(offset)?;
        let hash_before = match offset == gap.from {
            true => gap.hash_before,
            false => *self.boundaries.get(&offset)?,
        };
        Some(Gap {
            from: offset,
            hash_before,
            ..gap
        })
    }

    /// The hash at a boundary whose data need not be there.
    pub(crate) fn kept_hash(&self, offset: EdgeOffset) -> Option<BoundaryHash> {
        if offset == self.next {
            return Some(self.hash);
        }
        if offset == self.landed {
            return Some(self.landed_hash);
        }
        if offset == EdgeOffset(0) {
            return Some(BoundaryHash::START);
        }
        let edge = self.gaps.iter().find_map(|gap| {
            let before = (gap.from == offset).then_some(gap.hash_before);
            before.or((gap.to == offset).then_some(gap.hash_after))
        });
        edge.or_else(|| self.boundaries.get(&offset).copied())
    }

    /// From here on what lands there may have landed as lost.
    pub(crate) fn note_gap_offered(&mut self, gap: &Gap) {
        let mut offered = gap.from..gap.to;
        self.gaps_offered.retain(|other| {
            let is_apart = other.end < offered.start || offered.end < other.start;
            if !is_apart {
                offered = other.start.min(offered.start)..other.end.max(offered.end);
            }
            is_apart
        });
        self.gaps_offered.push(offered);
    }

    /// Records below `landed` that were under way when they were dropped: nobody has told the cloud that
    /// they are lost, so what landed is them.
    pub(crate) fn dropped_and_landed(&self, landed: EdgeOffset) -> u64 {
        let within = |from: EdgeOffset, to: EdgeOffset| {
            let (from, to) = (from.max(self.landed), to.min(landed));
            move |other: &Range<EdgeOffset>| {
                to.min(other.end).0.saturating_sub(from.max(other.start).0)
            }
        };
        let dropped = |gap: &Gap| {
            let all = within(gap.from, gap.to);
            let declared: u64 = self.gaps_offered.iter().map(&all).sum();
            all(&(gap.from..gap.to)) - declared
        };
        self.gaps.iter().map(dropped).sum()
    }

    /// Enters a gap: those inside it become part of it, one of the same reason before it grows.
    /// Returns the gaps and boundaries whose rows change, and the records not counted before.
    fn enter_gap(&mut self, mut gap: Gap) -> (Vec<EdgeOffset>, Vec<EdgeOffset>, u64) {
        // What is declared already stays as it is: damage can reach into what was dropped.
        let inside_out = |other: &&Gap| other.from < gap.from && gap.from < other.to;
        if let Some(other) = self.gaps.iter().find(inside_out) {
            (gap.from, gap.hash_before) = (other.to, other.hash_after);
        }
        let outside_in = |other: &&Gap| other.from < gap.to && gap.to < other.to;
        if let Some(other) = self.gaps.iter().find(outside_in) {
            (gap.to, gap.hash_after) = (other.from, other.hash_before);
        }
        if gap.from >= gap.to {
            return (Vec::new(), Vec::new(), 0);
        }
        let mut changed = vec![gap.from];
        let mut joints = Vec::new();
        let mut fresh = gap.to.0.saturating_sub(gap.from.max(self.landed).0);
        let inside = |other: &Gap| gap.from <= other.from && other.to <= gap.to;
        for other in self.gaps.iter().filter(|other| inside(other)) {
            fresh -= other.records();
            changed.push(other.from);
            for (offset, hash) in [
                (other.from, other.hash_before),
                (other.to, other.hash_after),
            ] {
                if gap.from < offset && offset < gap.to {
                    self.boundaries.insert(offset, hash);
                    joints.push(offset);
                }
            }
        }
        self.gaps.retain(|other| !inside(other));
        let at = self.gaps.partition_point(|other| other.from < gap.from);
        if let Some(before) = at.checked_sub(1).map(|at| self.gaps[at])
            && before.to == gap.from
            && before.reason == gap.reason
        {
            gap.from = before.from;
            gap.hash_before = before.hash_before;
            changed.push(before.from);
            self.gaps[at - 1] = gap;
        } else {
            self.gaps.insert(at, gap);
        }
        (changed, joints, fresh)
    }

    /// Lets go of what the cloud has: gaps and boundaries below `landed`. Returns what changed.
    fn settle_gaps(&mut self) -> (Vec<EdgeOffset>, Vec<EdgeOffset>) {
        let landed = self.landed;
        let mut changed = Vec::new();
        for gap in self.gaps.iter_mut().take_while(|gap| gap.from < landed) {
            changed.push(gap.from);
            if gap.to > landed {
                gap.from = landed;
                gap.hash_before = self.landed_hash;
                changed.push(landed);
            }
        }
        self.gaps.retain(|gap| gap.to > landed);
        self.gaps_offered.retain(|offered| offered.end > landed);
        let kept = self.boundaries.split_off(&EdgeOffset(landed.0 + 1));
        let settled = std::mem::replace(&mut self.boundaries, kept);
        (changed, settled.into_keys().collect())
    }
}

impl State {
    /// Takes up a lost interval. Unless the medium lost it, all before it is gone too.
    pub(crate) fn apply_gap(&mut self, entry: &GapEntry) -> Result<(), ApplyError> {
        let (id, mut gap) = (entry.stream, entry.gap);
        let stream = self
            .streams
            .get_mut(&id)
            .ok_or(ApplyError::UnknownStream(id))?;
        let first = stream.first().max(stream.landed);
        if gap.reason != GapReason::Damaged
            && gap.from > first
            && let Some(hash) = stream.kept_hash(first)
        {
            // The frame that declared what lies before it is damaged.
            (gap.from, gap.hash_before) = (first, hash);
        }
        stream.boundaries.extend(entry.boundaries.iter().copied());
        let (changed, mut boundaries, fresh) = stream.enter_gap(gap);
        boundaries.extend(entry.boundaries.iter().map(|(at, _)| *at));
        stream.gap_records += fresh;
        self.gap_records += fresh;
        if gap.to > stream.next {
            // What was lost with frames that cannot be read: the stream goes on behind it.
            stream.next = gap.to;
            stream.hash = gap.hash_after;
        }
        let boundaries = boundaries.into_iter();
        self.dirty
            .extend(boundaries.map(|at| RowKey::Boundary(id, at)));
        self.dirty
            .extend(changed.into_iter().map(|at| RowKey::Gap(id, at)));
        self.dirty.insert(RowKey::Stream(id));
        match gap.reason {
            GapReason::Damaged => self.mark_damaged(id, &gap),
            _ => self.drop_below(id, gap.to, entry.died),
        }
        self.settle(id);
        Ok(())
    }

    /// The files in which the damage lies are not used again.
    fn mark_damaged(&mut self, id: StreamId, gap: &Gap) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        for run in &stream.runs {
            if run.first < gap.to
                && gap.from < run.next
                && let Some(file) = self.files.get_mut(&run.file)
            {
                file.damaged = true;
                self.dirty.insert(RowKey::File(run.file));
            }
        }
    }

    /// Forgets what lies below the landed offset.
    pub(crate) fn settle(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let (gaps, boundaries) = stream.settle_gaps();
        self.dirty
            .extend(gaps.into_iter().map(|at| RowKey::Gap(id, at)));
        let boundaries = boundaries.into_iter().map(|at| RowKey::Boundary(id, at));
        self.dirty.extend(boundaries);
    }
}
