//! What the medium lost: declares it as gaps, so that everything else goes on.

use std::collections::BTreeMap;

use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{BoundaryHash, EdgeOffset, StreamId};

use crate::entry::Entry;
use crate::gap::{Gap, GapEntry};
use crate::journal::{CommitError, Journal};
use crate::log_file::ChunkPlace;
use crate::pool::PoolError;
use crate::reader::{JournalReader, read_chunk};
use crate::state::{Run, StreamState};

impl Journal {
    /// Looks again at what a reader could not read at `from`. If that is so, the chunks that cannot
    /// be read become a gap; what is good behind them stays. `None` where it can be read after all.
    pub fn declare_damage(
        &mut self,
        stream: StreamId,
        from: EdgeOffset,
    ) -> Result<Option<Gap>, CommitError> {
        if self.failed {
            return Err(CommitError::Failed);
        }
        let reader = self.reader();
        let Some(state) = self.shared().state.streams.get(&stream).cloned() else {
            return Ok(None);
        };
        let from = from.max(state.first()).max(state.landed);
        let Some((to, hash_after)) = end_of_damage(&reader, stream, &state, from) else {
            return Ok(None);
        };
        let gap = Gap {
            from,
            to,
            reason: GapReason::Damaged,
            hash_before: hash_at(&reader, stream, &state, from),
            hash_after,
        };
        self.write_damage(vec![(stream, gap)])?;
        Ok(Some(gap))
    }

    /// New names of damaged files that were set aside since this was asked last.
    pub fn take_set_aside(&mut self) -> Vec<String> {
        std::mem::take(&mut self.writer.pool.set_aside)
    }

    /// Declares runs lost whose log file is gone. They are out of the state already.
    pub(crate) fn declare_lost(&mut self, lost: Vec<(StreamId, Run)>) -> Result<(), CommitError> {
        let reader = self.reader();
        let mut gaps = Vec::new();
        let mut covered = BTreeMap::new();
        for (id, run) in lost {
            let Some(state) = self.shared().state.streams.get(&id).cloned() else {
                continue;
            };
            let from = run.first.max(state.landed);
            let is_known = state.gap_at(from).is_some_and(|gap| gap.to >= run.next);
            let before = covered.get(&id).copied().unwrap_or_default();
            if from >= run.next || is_known || run.next <= before {
                continue;
            }
            let (to, hash_after) = match end_of_damage(&reader, id, &state, run.next) {
                Some(end) => end,
                None => (run.next, hash_at(&reader, id, &state, run.next)),
            };
            let gap = Gap {
                from,
                to,
                reason: GapReason::Damaged,
                hash_before: hash_at(&reader, id, &state, from),
                hash_after,
            };
            covered.insert(id, to);
            gaps.push((id, gap));
        }
        self.write_damage(gaps)
    }

    fn write_damage(&mut self, gaps: Vec<(StreamId, Gap)>) -> Result<(), CommitError> {
        let entries = gaps.into_iter().map(|(stream, gap)| {
            Entry::Gap(GapEntry {
                stream,
                gap,
                died: (0, 0),
                boundaries: Vec::new(),
            })
        });
        let entries: Vec<Entry> = entries.collect();
        // A gap takes about 100 bytes of a frame.
        for entries in entries.chunks(self.limits.commit_bytes_max / 128) {
            match self.write_gaps(entries) {
                Ok(()) => {}
                Err(PoolError::Full) => return Err(CommitError::Full),
                Err(PoolError::Io(error)) => return Err(self.fail(error)),
            }
        }
        Ok(())
    }
}

/// Where the stream can be read again, and the hash there; `None` if it can be at `from`.
fn end_of_damage(
    reader: &JournalReader,
    id: StreamId,
    stream: &StreamState,
    from: EdgeOffset,
) -> Option<(EdgeOffset, BoundaryHash)> {
    let mut at = from;
    while at < stream.next {
        if let Some(gap) = stream.gap_at(at) {
            let end = (
                at,
                if at == gap.from {
                    gap.hash_before
                } else {
                    gap.hash_after
                },
            );
            return (at > from).then_some(end);
        }
        let located = reader.run_of(id, at).ok().flatten();
        let place = located.as_ref().and_then(|(_, places)| {
            let holds = |place: &&ChunkPlace| place.end() > at;
            places.iter().find(holds)
        });
        at = match (&located, place) {
            (Some(_), Some(place)) if place.base_offset > at => place.base_offset,
            (Some((file, _)), Some(place)) => match read_chunk(file, id, place) {
                Ok(chunk) if at == from && chunk.base_offset <= from => return None,
                Ok(chunk) => return Some((at, chunk.hash_before)),
                Err(_) => place.end(),
            },
            // A run whose table says nothing of it, or whose file is gone.
            _ => stream
                .runs
                .iter()
                .map(|run| if run.first > at { run.first } else { run.next })
                .find(|next| *next > at)
                .unwrap_or(stream.next),
        };
    }
    (from < stream.next).then_some((stream.next, stream.hash))
}

/// The hash at a boundary, even where what begins there cannot be read.
pub(crate) fn hash_at(
    reader: &JournalReader,
    id: StreamId,
    stream: &StreamState,
    offset: EdgeOffset,
) -> BoundaryHash {
    if let Some(hash) = stream.kept_hash(offset) {
        return hash;
    }
    if let Ok(Some(hash)) = reader.hash_at(id, offset) {
        return hash;
    }
    let before = EdgeOffset(offset.0.saturating_sub(1));
    let chunks = reader.read(id, before, 1).unwrap_or_default();
    let ends_there = chunks.first().filter(|chunk| chunk.end() == offset);
    // A hash that nobody can know proves nothing: the hub will say so.
    ends_there.map_or(BoundaryHash(u128::MAX), |chunk| chunk.hash_after)
}
