//! How wishes become answers: what has gathered is one tick, the tick is made durable together with
//! its batches, then it is applied, and only what applying has decided is answered. The types hold
//! the order: answers come out of [`Pending::durable`] alone.

use bytes::Bytes;
#[cfg(feature = "simulation")]
use tidegate_bridge_protocol::broken::{Rule, broken};

#[cfg(feature = "simulation")]
use crate::index::LogPlace;
use crate::ledger::command::{Entry, Tick};
use crate::ledger::{Command, Effects};

/// An entry with its batch, where it has one.
pub type Wish = (Entry, Option<Bytes>);

/// One tick in the making. `T` is whoever waits for the answer.
#[derive(Debug)]
pub struct Gathering<T> {
    entries: Vec<Entry>,
    /// Offset among the attachments, and bytes.
    batches: Vec<(u32, Bytes)>,
    batches_bytes: usize,
    waiting: Vec<(T, usize)>,
}

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            batches: Vec::new(),
            batches_bytes: 0,
            waiting: Vec::new(),
        }
    }
}

impl<T> Gathering<T> {
    /// Adds wishes that one caller waits for.
    ///
    /// # Panics
    /// When the batches of a tick exceed 4 GiB: the caller's limits hold them far below.
    pub fn add(&mut self, wishes: Vec<Wish>, who: T) {
        self.waiting.push((who, wishes.len()));
        for (mut entry, batch) in wishes {
            if let (Some(part), Some(batch)) = (entry.part_mut(), batch) {
                let offset = u32::try_from(self.batches_bytes).expect("a tick is bounded");
                part.attachment_offset = offset;
                self.batches_bytes += batch.len();
                self.batches.push((offset, batch));
            }
            self.entries.push(entry);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Entries, and bytes of batches.
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.batches_bytes)
    }

    /// Closes the tick; `now_ms` is the proposer's clock.
    pub fn seal(self, now_ms: i64) -> Pending<T> {
        let entries = self.entries;
        Pending {
            command: Command::Tick(Tick { now_ms, entries }),
            batches: self.batches,
            waiting: self.waiting,
        }
    }
}

/// A tick that is to be made durable.
#[derive(Debug)]
pub struct Pending<T> {
    command: Command,
    batches: Vec<(u32, Bytes)>,
    waiting: Vec<(T, usize)>,
}

impl<T> Pending<T> {
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// Batches by their offset among the command's attachments, in its order.
    pub fn batches(&self) -> &[(u32, Bytes)] {
        &self.batches
    }

    /// Command and batches are durable: applies the command, and hands out what it has decided.
    ///
    /// # Errors
    /// What `apply` says; nobody is answered then, and `self` is gone with those who wait.
    pub fn durable<E>(
        self,
        apply: impl FnOnce(Command, &[(u32, Bytes)]) -> Result<Effects, E>,
    ) -> Result<Vec<(T, Effects)>, E> {
        let effects = apply(self.command, &self.batches)?;
        Ok(deal(self.waiting, effects))
    }

    /// Nothing was decided: those who wait are to be told.
    pub fn failed(self) -> Vec<T> {
        self.waiting.into_iter().map(|(who, _)| who).collect()
    }
}

fn deal<T>(waiting: Vec<(T, usize)>, effects: Effects) -> Vec<(T, Effects)> {
    let mut effects = effects.into_iter();
    let mut own = |count| effects.by_ref().take(count).collect();
    let waiting = waiting.into_iter();
    waiting.map(|(who, count)| (who, own(count))).collect()
}

/// What a simulation breaks: answers that come before their time, from the ledger as it is now.
#[cfg(feature = "simulation")]
impl<T: Clone> Pending<T> {
    pub fn answers_too_early(&self, ledger: &crate::ledger::Ledger) -> Option<Vec<(T, Effects)>> {
        if broken(Rule::AckBeforeCommit) {
            let effects = ledger
                .clone()
                .apply(self.command.clone(), LogPlace::default())
                .ok()?;
            return Some(deal(self.waiting.clone(), effects));
        }
        if !broken(Rule::AnswerBeforeApply) {
            return None;
        }
        // Each is guessed as if it were alone.
        let Command::Tick(tick) = &self.command else {
            return None;
        };
        let guess = |entry: &Entry| {
            let (now_ms, entries) = (tick.now_ms, vec![entry.clone()]);
            let alone = Command::Tick(Tick { now_ms, entries });
            ledger
                .clone()
                .apply(alone, LogPlace::default())
                .unwrap_or_default()
        };
        let effects = tick.entries.iter().flat_map(guess).collect();
        Some(deal(self.waiting.clone(), effects))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_shared::id::EdgeId;

    use super::*;
    use crate::ledger::Effect;
    use crate::ledger::command::ReleaseEdge;

    #[test]
    fn everybody_gets_their_own_answers_and_only_after_applying() {
        let release = || {
            let edge = EdgeId::new("press-4").unwrap();
            (Entry::ReleaseEdge(ReleaseEdge { edge }), None)
        };
        let mut gathering = Gathering::default();
        gathering.add(vec![release()], "a");
        gathering.add(vec![], "b");
        gathering.add(vec![release(), release()], "c");
        let pending = gathering.seal(5);
        let dealt = pending.durable(|_, _| {
            let released = |was_held| Effect::EdgeReleased { was_held };
            Ok::<_, ()>(vec![released(true), released(false), released(true)])
        });
        let dealt: Vec<_> = dealt
            .unwrap()
            .into_iter()
            .map(|(who, own)| (who, own.len()))
            .collect();
        assert_eq!(dealt, [("a", 1), ("b", 0), ("c", 2)]);
    }
}
