//! Changes to a history that no log could have shown: what the check finds of them says what it is worth.

use super::{Kind, Operation, Outcome, Violation};
use crate::random::Random;

/// A change to a history that no log could have shown, and what it is found as.
pub type Seeded = (
    &'static str,
    fn(&mut [Operation], &mut Random) -> bool,
    fn(&Violation) -> bool,
);

pub const SEEDED: [Seeded; 8] = [
    ("lost", lose, |found| {
        matches!(found, Violation::LostAcknowledgement { .. })
    }),
    ("overwritten", overwrite, |found| {
        matches!(found, Violation::LostAcknowledgement { .. })
    }),
    ("twice", double, |found| {
        matches!(found, Violation::Duplicate { .. })
    }),
    ("reordered", reorder, |found| {
        matches!(found, Violation::Reordered { .. })
    }),
    ("stale", stale, |found| {
        matches!(found, Violation::StaleRead { .. })
    }),
    ("phantom", invent, |found| {
        matches!(found, Violation::Phantom { .. })
    }),
    ("refused yet there", refuse, |found| {
        matches!(found, Violation::Phantom { .. })
    }),
    ("hole", skip, |found| {
        matches!(found, Violation::Hole { .. })
    }),
];

/// The numbers of the operations that are meant.
fn pick(
    history: &[Operation],
    random: &mut Random,
    is_meant: impl Fn(&Operation) -> bool,
) -> Option<usize> {
    let meant: Vec<usize> = (0..history.len())
        .filter(|at| is_meant(&history[*at]))
        .collect();
    let at = random.below(meant.len().max(1) as u64) as usize;
    meant.get(at).copied()
}

/// What the last fetch of a partition has brought, where it has read it from its beginning to its end.
fn last_fetch(
    history: &mut [Operation],
    partition: i32,
) -> Option<(&mut Vec<(i64, u64)>, &mut i64)> {
    let of_partition = history.iter_mut().filter(|it| it.partition == partition);
    match &mut of_partition.max_by_key(|it| it.began_ns)?.kind {
        Kind::Fetch {
            from: 0,
            records,
            end,
        } if records.len() as i64 == *end => Some((records, end)),
        _ => None,
    }
}

fn acknowledged(operation: &Operation) -> Option<(u64, i64)> {
    match operation.kind {
        Kind::Produce {
            value,
            outcome: Outcome::Acknowledged(offset),
        } => Some((value, offset)),
        _ => None,
    }
}

/// The log of a partition ends, for who reads it last, before its last acknowledged value.
pub(super) fn lose(history: &mut [Operation], random: &mut Random) -> bool {
    let Some(at) = pick(history, random, |it| acknowledged(it).is_some()) else {
        return false;
    };
    let (partition, (_, lost)) = (
        history[at].partition,
        acknowledged(&history[at]).expect("picked for it"),
    );
    let Some((records, end)) = last_fetch(history, partition) else {
        return false;
    };
    records.retain(|(offset, _)| *offset < lost);
    *end = lost;
    true
}

/// Of what a fetch has read, a value is another that was sent long before.
fn overwrite(history: &mut [Operation], random: &mut Random) -> bool {
    let Some(at) = pick(history, random, |it| acknowledged(it).is_some()) else {
        return false;
    };
    let partition = history[at].partition;
    let (value, _) = acknowledged(&history[at]).expect("picked for it");
    let replace = |operation: &mut Operation| {
        let Kind::Fetch { records, .. } = &mut operation.kind else {
            return;
        };
        for record in records.iter_mut().filter(|record| record.1 == value) {
            record.1 = u64::MAX;
        }
    };
    history
        .iter_mut()
        .filter(|operation| operation.partition == partition)
        .for_each(replace);
    true
}

/// The last fetch finds an acknowledged value once more, at the end.
fn double(history: &mut [Operation], random: &mut Random) -> bool {
    let Some(at) = pick(history, random, |it| acknowledged(it).is_some()) else {
        return false;
    };
    let (value, _) = acknowledged(&history[at]).expect("picked for it");
    let partition = history[at].partition;
    let Some((records, end)) = last_fetch(history, partition) else {
        return false;
    };
    records.push((*end, value));
    *end += 1;
    true
}

/// Two values that were sent one after the other have each other's offsets, for everybody.
fn reorder(history: &mut [Operation], random: &mut Random) -> bool {
    let Some(first) = pick(history, random, |operation| {
        acknowledged(operation).is_some()
    }) else {
        return false;
    };
    let (ended_ns, partition) = (history[first].ended_ns, history[first].partition);
    let Some(second) = pick(history, random, |operation| {
        let is_later = operation.began_ns > ended_ns && operation.partition == partition;
        is_later && acknowledged(operation).is_some()
    }) else {
        return false;
    };
    let (one, one_at) = acknowledged(&history[first]).expect("picked for it");
    let (other, other_at) = acknowledged(&history[second]).expect("picked for it");
    for operation in history.iter_mut().filter(|it| it.partition == partition) {
        match &mut operation.kind {
            Kind::Produce { value, outcome } if *value == one => {
                *outcome = Outcome::Acknowledged(other_at);
            }
            Kind::Produce { value, outcome } if *value == other => {
                *outcome = Outcome::Acknowledged(one_at);
            }
            Kind::Produce { .. } => {}
            Kind::Fetch { records, .. } => {
                for (_, value) in records {
                    *value = match *value {
                        same if same == one => other,
                        same if same == other => one,
                        same => same,
                    };
                }
            }
        }
    }
    true
}

/// A fetch that began after an acknowledgement is told an end before it.
fn stale(history: &mut [Operation], random: &mut Random) -> bool {
    let Some(at) = pick(history, random, |it| acknowledged(it).is_some()) else {
        return false;
    };
    let (ended_ns, partition) = (history[at].ended_ns, history[at].partition);
    let (_, offset) = acknowledged(&history[at]).expect("picked for it");
    let Some(fetch) = pick(history, random, |operation| {
        let is_later = operation.began_ns > ended_ns && operation.partition == partition;
        is_later && acknowledged(operation).is_none()
    }) else {
        return false;
    };
    match &mut history[fetch].kind {
        Kind::Fetch { from, records, end } => {
            *from = (*from).min(offset);
            records.clear();
            *end = offset;
            true
        }
        Kind::Produce { .. } => false,
    }
}

/// The last fetch finds a value that nobody has sent.
fn invent(history: &mut [Operation], _: &mut Random) -> bool {
    let partition = history.first().map_or(0, |it| it.partition);
    let Some((records, end)) = last_fetch(history, partition) else {
        return false;
    };
    records.push((*end, u64::MAX));
    *end += 1;
    true
}

/// A value that was read had been refused.
fn refuse(history: &mut [Operation], random: &mut Random) -> bool {
    let Some(at) = pick(history, random, |it| acknowledged(it).is_some()) else {
        return false;
    };
    if let Kind::Produce { outcome, .. } = &mut history[at].kind {
        *outcome = Outcome::Refused;
    }
    true
}

/// A fetch leaves a record out.
fn skip(history: &mut [Operation], random: &mut Random) -> bool {
    let Some(at) = pick(
        history,
        random,
        |operation| matches!(&operation.kind, Kind::Fetch { records, .. } if records.len() > 1),
    ) else {
        return false;
    };
    if let Kind::Fetch { records, .. } = &mut history[at].kind {
        let last = records.len() as u64 - 1;
        records.remove(random.below(last) as usize);
    }
    true
}
