//! What the members of a consumer group wrote down, and whether it is what the group protocol promises.
//!
//! A member says when it was given partitions and gives them up, each record that it has processed, and each commit that
//! was taken (`clients/group_member.py`); who starts, stops and kills it says when. All times are of the machine's one
//! monotonic clock, so that they can be compared.
//!
//! What is promised of ownership, as it is judged here:
//! - A member owns a partition from when it is told so until it says that it gives it up, is told that it has lost it,
//!   closes, or dies. No two members own a partition at a time.
//! - But for this: who was *silent*, so that its session may have ended without it knowing. Silent is a member of which
//!   nothing was heard for nearly a session timeout: one that was stopped, or got no processor. From the beginning of a
//!   silence on, until it next is given the partition, others may own what it believes to own; and what it commits
//!   meanwhile must not be taken once another has it.
//! - What was handed to a member before a silence it may be told of only after it, when another has it long since: this
//!   is no ownership, if the member is told within a session that it has lost it.
//! - Nobody loses a partition who was not silent.

mod check;
mod owned;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub use check::{Violation, check};
pub use parse::parse;

/// What a member said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Subscribed,
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
    Processed {
        partition: i32,
        offset: i64,
        value: u64,
    },
    /// Was taken by the broker: the next offset of each partition.
    Committed {
        began_ns: u64,
        offsets: Vec<(i32, i64)>,
    },
    Closing,
    /// Anything else that says that it is alive.
    Alive,
}

/// When it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at_ns: u64,
    pub event: Event,
}

/// One life of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub entries: Vec<Entry>,
    /// When it was dead.
    pub died_ns: Option<u64>,
    /// When it went on after it had been stopped.
    pub continued_ns: Vec<u64>,
}

/// A group's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupHistory {
    pub members: Vec<Member>,
    /// What was acknowledged to the producer: the value at each partition and offset.
    pub produced: BTreeMap<(i32, i64), u64>,
    /// From then on nobody was started, stopped or killed, until all were told to close.
    pub closed_from_ns: u64,
    pub session_timeout: Duration,
    pub heartbeat: Duration,
    /// After the last change of who is there, each partition has its owner within this.
    pub settles_within: Duration,
}

impl GroupHistory {
    /// So long a member must not have been heard of, to be silent.
    fn silence_ns(&self) -> u64 {
        (self.session_timeout - self.heartbeat * 2).as_nanos() as u64
    }

    /// How many records there are, and how often one was processed.
    pub fn counts(&self) -> (usize, usize) {
        let entries = self.members.iter().flat_map(|member| &member.entries);
        let processed = entries.filter(|entry| matches!(entry.event, Event::Processed { .. }));
        (self.produced.len(), processed.count())
    }
}

/// The machine's monotonic clock, as Python's `time.monotonic_ns` gives it.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
