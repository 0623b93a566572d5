//! Whether what clients saw of partitions is what one log for each partition could have shown them: linearizability,
//! for a log.
//!
//! Each operation has its begin and its end on one clock, and took place at one moment between them. A log is easier to
//! judge than a register: offsets say in which order produced values took effect, and the end that a fetch was told says
//! between which of them it did. So all operations of a partition have a place in one order, and the history is
//! linearizable exactly if no operation that had ended before another began has a later place. That is one sweep over the
//! begins and ends in the order of time. It does no I/O.

mod check;
pub mod seeded;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use check::{Violation, check};

/// What a producer was told of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It lies at this offset.
    Acknowledged(i64),
    /// It is not there, and never will be.
    Refused,
    /// No answer came: it may be there, now or later, once.
    Unknown,
}

/// What a client asked, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Values are never sent twice but by a producer whose copies the broker knows, as one operation.
    Produce { value: u64, outcome: Outcome },
    /// The records from an offset on, and where the log ended (its high watermark).
    Fetch {
        from: i64,
        records: Vec<(i64, u64)>,
        end: i64,
    },
}

/// One operation of one client on one partition. An operation that failed without an effect is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: u32,
    pub partition: i32,
    /// On the one clock of the history, in nanoseconds.
    pub began_ns: u64,
    pub ended_ns: u64,
    pub kind: Kind,
}

/// How much of what a history has; for what a test prints, and to see that it is worth something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Of those without an answer, that were read.
    pub unknown_yet_read: usize,
    pub fetches: usize,
    pub records_read: usize,
}

impl Tally {
    pub fn of(history: &[Operation]) -> Self {
        let mut tally = Self::default();
        let mut read = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        for operation in history {
            match &operation.kind {
                Kind::Produce { value, outcome } => match outcome {
                    Outcome::Acknowledged(_) => tally.acknowledged += 1,
                    Outcome::Refused => tally.refused += 1,
                    Outcome::Unknown => drop(unknown.insert(*value)),
                },
                Kind::Fetch { records, .. } => {
                    tally.fetches += 1;
                    tally.records_read += records.len();
                    read.extend(records.iter().map(|(_, value)| *value));
                }
            }
        }
        tally.unknown = unknown.len();
        tally.unknown_yet_read = unknown.intersection(&read).count();
        tally
    }
}

/// Each partition's operations.
fn by_partition(history: &[Operation]) -> BTreeMap<i32, Vec<&Operation>> {
    let mut found: BTreeMap<i32, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        found
            .entry(operation.partition)
            .or_default()
            .push(operation);
    }
    found
}
