//! Who owned which partition from when to when, by what the members said.

use std::collections::BTreeMap;

use super::{Event, Member};

/// How an ownership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The member gave it up, closed, died, or was given it anew.
    GivenUp,
    /// The member was told that it had lost it before.
    Lost,
    /// It had not ended when the member was last heard of.
    Open,
}

/// A partition in one member's hands.
#[derive(Clone, Debug)]
pub(super) struct Ownership {
    /// Its number in the history.
    pub(super) member: usize,
    pub(super) partition: i32,
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    pub(super) end: End,
    /// The offsets of what was processed meanwhile.
    pub(super) processed: Vec<i64>,
}

/// A record that a member has processed without owning its partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unowned {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// All that a member owned, in the order in which it was given it.
pub(super) fn of_member(number: usize, member: &Member) -> (Vec<Ownership>, Vec<Unowned>) {
    let (mut all, mut unowned): (Vec<Ownership>, _) = (Vec::new(), Vec::new());
    let mut held: BTreeMap<i32, usize> = BTreeMap::new();
    for entry in &member.entries {
        let at_ns = entry.at_ns;
        let mut give_up = |partition: i32, end: End| {
            if let Some(at) = held.remove(&partition) {
                let ownership: &mut Ownership = &mut all[at];
                (ownership.until_ns, ownership.end) = (at_ns, end);
            }
        };
        match &entry.event {
            Event::Assigned(partitions) => {
                for &partition in partitions {
                    give_up(partition, End::GivenUp);
                }
                for &partition in partitions {
                    held.insert(partition, all.len());
                    all.push(Ownership {
                        member: number,
                        partition,
                        from_ns: at_ns,
                        until_ns: u64::MAX,
                        end: End::Open,
                        processed: Vec::new(),
                    });
                }
            }
            Event::Revoked(partitions) => {
                for &partition in partitions {
                    give_up(partition, End::GivenUp);
                }
            }
            Event::Lost(partitions) => {
                for &partition in partitions {
                    give_up(partition, End::Lost);
                }
            }
            Event::Closing => {
                let partitions: Vec<i32> = held.keys().copied().collect();
                for partition in partitions {
                    if let Some(at) = held.remove(&partition) {
                        (all[at].until_ns, all[at].end) = (at_ns, End::GivenUp);
                    }
                }
            }
            Event::Processed {
                partition, offset, ..
            } => match held.get(partition) {
                Some(&at) => all[at].processed.push(*offset),
                None => unowned.push(Unowned {
                    partition: *partition,
                    offset: *offset,
                }),
            },
            Event::Subscribed | Event::Committed { .. } | Event::Alive => {}
        }
    }
    if let Some(died_ns) = member.died_ns {
        for &at in held.values() {
            (all[at].until_ns, all[at].end) = (died_ns, End::GivenUp);
        }
    }
    (all, unowned)
}

/// A span in which nothing was heard of a member; its death ends the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
}

/// All of a member's that are so long at least.
pub(super) fn silences(member: &Member, at_least_ns: u64) -> Vec<Silence> {
    let heard = member.entries.iter().map(|entry| entry.at_ns);
    let heard: Vec<u64> = heard.chain(member.died_ns).collect();
    let gaps = heard.windows(2).map(|gap| Silence {
        from_ns: gap[0],
        until_ns: gap[1],
    });
    gaps.filter(|gap| gap.until_ns.saturating_sub(gap.from_ns) >= at_least_ns)
        .collect()
}
