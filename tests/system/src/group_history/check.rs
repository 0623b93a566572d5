//! The judgement; what is promised stands in the parent module.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::owned::{self, End, Ownership, Silence};
use super::{Event, GroupHistory};

/// What the group protocol does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged record was processed by nobody.
    NotProcessed { partition: i32, offset: i64 },
    /// A record was processed that nobody has produced so.
    Phantom {
        partition: i32,
        offset: i64,
        value: u64,
    },
    /// Within one ownership, records do not follow each other.
    OutOfOrder {
        member: String,
        partition: i32,
        after: i64,
        offset: i64,
    },
    /// A record was processed by who did not own its partition.
    NotOwned {
        member: String,
        partition: i32,
        offset: i64,
    },
    /// Two members owned a partition at one time.
    OwnedTwice {
        partition: i32,
        first: String,
        second: String,
        at_ns: u64,
        for_ns: u64,
    },
    /// A member lost a partition, though it was not silent.
    LostForNothing {
        member: String,
        partition: i32,
        at_ns: u64,
    },
    /// An owner began before what had been committed.
    CommitForgotten {
        member: String,
        partition: i32,
        committed: i64,
        began_at: i64,
    },
    /// A commit was taken of who had lost the partition to another.
    StaleCommit {
        member: String,
        partition: i32,
        owner: String,
        at_ns: u64,
    },
    /// At the end a partition has no owner, or several.
    NotSettled { partition: i32, owners: Vec<String> },
    /// At the end who owns what still changed, so long after the last change of who is there.
    SettledLate { after_ns: u64 },
    /// At the end a partition is not committed to its end.
    Lag {
        partition: i32,
        committed: i64,
        end: i64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

/// All that is wrong; nothing where the group did what it should.
pub fn check(history: &GroupHistory) -> Vec<Violation> {
    let mut judge = Judge::new(history);
    judge.check_processed();
    judge.check_order();
    judge.check_owned_once();
    judge.check_lost();
    judge.check_commits();
    judge.check_settled();
    judge.found
}

/// A commit that was taken.
struct Commit {
    member: usize,
    partition: i32,
    offset: i64,
    began_ns: u64,
    ended_ns: u64,
}

struct Judge<'a> {
    history: &'a GroupHistory,
    ownerships: Vec<Ownership>,
    /// Each member's.
    silences: Vec<Vec<Silence>>,
    commits: Vec<Commit>,
    found: Vec<Violation>,
}

impl<'a> Judge<'a> {
    fn new(history: &'a GroupHistory) -> Self {
        let (mut ownerships, mut commits, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for (number, member) in history.members.iter().enumerate() {
            let (owned, unowned) = owned::of_member(number, member);
            ownerships.extend(owned);
            found.extend(unowned.into_iter().map(|record| Violation::NotOwned {
                member: member.name.clone(),
                partition: record.partition,
                offset: record.offset,
            }));
            for entry in &member.entries {
                let Event::Committed { began_ns, offsets } = &entry.event else {
                    continue;
                };
                commits.extend(offsets.iter().map(|&(partition, offset)| Commit {
                    member: number,
                    partition,
                    offset,
                    began_ns: *began_ns,
                    ended_ns: entry.at_ns,
                }));
            }
        }
        ownerships.sort_by_key(|ownership| ownership.from_ns);
        let silence_ns = history.silence_ns();
        let members = history.members.iter();
        Self {
            history,
            ownerships,
            silences: members.map(|it| owned::silences(it, silence_ns)).collect(),
            commits,
            found,
        }
    }

    fn name(&self, member: usize) -> String {
        self.history.members[member].name.clone()
    }

    fn check_processed(&mut self) {
        let mut left = self.history.produced.clone();
        let mut phantoms = BTreeSet::new();
        for entry in self.history.members.iter().flat_map(|it| &it.entries) {
            let Event::Processed {
                partition,
                offset,
                value,
            } = entry.event
            else {
                continue;
            };
            let place = (partition, offset);
            left.remove(&place);
            if self.history.produced.get(&place) != Some(&value) {
                phantoms.insert((partition, offset, value));
            }
        }
        let lost = left.into_keys();
        self.found
            .extend(lost.map(|(partition, offset)| Violation::NotProcessed { partition, offset }));
        let phantoms = phantoms.into_iter();
        self.found.extend(
            phantoms.map(|(partition, offset, value)| Violation::Phantom {
                partition,
                offset,
                value,
            }),
        );
    }

    fn check_order(&mut self) {
        for ownership in &self.ownerships {
            let pairs = ownership.processed.windows(2);
            let wrong = pairs.filter(|pair| pair[1] != pair[0] + 1);
            let member = &self.history.members[ownership.member].name;
            self.found.extend(wrong.map(|pair| Violation::OutOfOrder {
                member: member.clone(),
                partition: ownership.partition,
                after: pair[0],
                offset: pair[1],
            }));
        }
    }

    /// Whether a member's session may have ended, within an ownership, before a moment.
    fn is_excused(&self, ownership: &Ownership, before_ns: u64) -> bool {
        let span = ownership.from_ns..before_ns;
        let mut silences = self.silences[ownership.member].iter();
        silences.any(|silence| span.contains(&silence.from_ns))
    }

    /// Whether it was over before it began: what a member was given before a silence it was told after it, and soon
    /// that it has lost it.
    fn is_late(&self, ownership: &Ownership) -> bool {
        let soon_ns = self.history.session_timeout.as_nanos() as u64;
        let mut silences = self.silences[ownership.member].iter();
        ownership.end == End::Lost
            && silences.any(|silence| {
                let told = silence.until_ns..silence.until_ns + soon_ns;
                told.contains(&ownership.from_ns) && told.contains(&ownership.until_ns)
            })
    }

    fn check_owned_once(&mut self) {
        let mut held: BTreeMap<i32, Vec<&Ownership>> = BTreeMap::new();
        let mut found = Vec::new();
        for next in self.ownerships.iter().filter(|it| !self.is_late(it)) {
            let holders = held.entry(next.partition).or_default();
            holders.retain(|holder| holder.until_ns > next.from_ns);
            for holder in holders.iter().filter(|it| it.member != next.member) {
                if self.is_excused(holder, next.from_ns) {
                    continue;
                }
                found.push(Violation::OwnedTwice {
                    partition: next.partition,
                    first: self.name(holder.member),
                    second: self.name(next.member),
                    at_ns: next.from_ns,
                    for_ns: holder.until_ns.min(next.until_ns) - next.from_ns,
                });
            }
            holders.push(next);
        }
        self.found.extend(found);
    }

    fn check_lost(&mut self) {
        let lost = self.ownerships.iter().filter(|it| it.end == End::Lost);
        let for_nothing = lost.filter(|it| !self.is_excused(it, it.until_ns) && !self.is_late(it));
        let found: Vec<_> = for_nothing
            .map(|ownership| Violation::LostForNothing {
                member: self.name(ownership.member),
                partition: ownership.partition,
                at_ns: ownership.until_ns,
            })
            .collect();
        self.found.extend(found);
    }

    fn check_commits(&mut self) {
        let mut found = Vec::new();
        let mut by_partition: BTreeMap<i32, Vec<&Commit>> = BTreeMap::new();
        for commit in &self.commits {
            by_partition
                .entry(commit.partition)
                .or_default()
                .push(commit);
        }
        for ownership in self.ownerships.iter().filter(|it| !self.is_late(it)) {
            let commits = by_partition.get(&ownership.partition);
            let commits = || commits.into_iter().flatten();
            let before = commits().filter(|commit| commit.ended_ns < ownership.from_ns);
            let committed = before.map(|commit| commit.offset).max().unwrap_or(0);
            if let Some(&first) = ownership.processed.first()
                && first < committed
            {
                found.push(Violation::CommitForgotten {
                    member: self.name(ownership.member),
                    partition: ownership.partition,
                    committed,
                    began_at: first,
                });
            }
            let meanwhile = commits().filter(|commit| {
                let span = ownership.from_ns..ownership.until_ns;
                commit.member != ownership.member && span.contains(&commit.began_ns)
            });
            for commit in meanwhile.filter(|commit| self.is_older(commit, ownership)) {
                found.push(Violation::StaleCommit {
                    member: self.name(commit.member),
                    partition: ownership.partition,
                    owner: self.name(ownership.member),
                    at_ns: commit.began_ns,
                });
            }
        }
        self.found.extend(found);
    }

    /// Whether who commits has the partition from before another was given it, if at all.
    fn is_older(&self, commit: &Commit, newer: &Ownership) -> bool {
        let mut given = self.ownerships.iter().filter(|it| {
            let is_same = it.member == commit.member && it.partition == commit.partition;
            is_same && it.from_ns <= commit.began_ns
        });
        given
            .next_back()
            .is_none_or(|newest| newest.from_ns < newer.from_ns)
    }

    fn check_settled(&mut self) {
        let at_ns = self.history.closed_from_ns;
        let mut owners: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for (partition, _) in self.history.produced.keys() {
            owners.entry(*partition).or_default();
        }
        for ownership in &self.ownerships {
            if (ownership.from_ns..ownership.until_ns).contains(&at_ns) {
                let name = self.name(ownership.member);
                owners.entry(ownership.partition).or_default().push(name);
            }
        }
        for (partition, owners) in owners {
            if owners.len() != 1 {
                self.found.push(Violation::NotSettled { partition, owners });
            }
        }
        let changed_ns = self.last_of_owners().saturating_sub(self.last_of_members());
        if changed_ns > self.history.settles_within.as_nanos() as u64 {
            let after_ns = changed_ns;
            self.found.push(Violation::SettledLate { after_ns });
        }
        self.check_lag();
    }

    /// When who owns what last changed, before all were closed.
    fn last_of_owners(&self) -> u64 {
        let changes = self
            .ownerships
            .iter()
            .flat_map(|it| [it.from_ns, it.until_ns]);
        let changes = changes.filter(|at_ns| *at_ns < self.history.closed_from_ns);
        changes.max().unwrap_or(0)
    }

    /// When somebody last came, went or came to, before all were closed.
    fn last_of_members(&self) -> u64 {
        let of_member = self.history.members.iter().flat_map(|member| {
            let said = member
                .entries
                .iter()
                .filter(|entry| matches!(entry.event, Event::Subscribed | Event::Closing));
            let said = said.map(|entry| entry.at_ns);
            said.chain(member.died_ns)
                .chain(member.continued_ns.iter().copied())
        });
        let changes = of_member.filter(|at_ns| *at_ns < self.history.closed_from_ns);
        changes.max().unwrap_or(0)
    }

    fn check_lag(&mut self) {
        let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
        for (partition, offset) in self.history.produced.keys() {
            ends.insert(*partition, offset + 1);
        }
        for (partition, end) in ends {
            let of_partition = self.commits.iter().filter(|it| it.partition == partition);
            let newest = of_partition.max_by_key(|commit| commit.ended_ns);
            let committed = newest.map_or(0, |commit| commit.offset);
            if committed != end {
                self.found.push(Violation::Lag {
                    partition,
                    committed,
                    end,
                });
            }
        }
    }
}
