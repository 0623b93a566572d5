//! Histories of a log that is right are found right, whatever their clients do at once; one change that no log could
//! have shown is found, by its name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::seeded::{SEEDED, lose};
use super::{Kind, Operation, Outcome, Violation, check};
use crate::random::Random;

const CLIENTS: usize = 6;
const PARTITIONS: u64 = 3;

/// How far before and behind its moment an operation begins and ends, at most.
const SPREAD_NS: u64 = 400;
const STEP_NS: u64 = 50;

/// What clients would see of logs that do what they should: at each step one of them takes effect.
fn right_history(seed: u64, steps: usize) -> Vec<Operation> {
    let mut random = Random::seeded(seed);
    let mut logs = vec![Vec::new(); PARTITIONS as usize];
    let mut free_at = [0; CLIENTS];
    let mut history = Vec::new();
    for step in 0..steps {
        let at_ns = 1_000 + step as u64 * STEP_NS;
        let client = random.below(CLIENTS as u64) as usize;
        if free_at[client] >= at_ns {
            continue;
        }
        let began_ns = (at_ns - 1 - random.below(SPREAD_NS)).max(free_at[client]);
        let ended_ns = at_ns + 1 + random.below(SPREAD_NS);
        free_at[client] = ended_ns + 1;
        let partition = random.below(PARTITIONS) as usize;
        let kind = match random.below(2) {
            0 => produce(step as u64, &mut logs[partition], &mut random),
            _ => fetch(&logs[partition], &mut random),
        };
        history.push(Operation {
            client: client as u32,
            partition: partition as i32,
            began_ns,
            ended_ns,
            kind,
        });
    }
    let end_ns = free_at.into_iter().max().unwrap() + 1;
    for (partition, log) in logs.iter().enumerate() {
        history.push(Operation {
            client: CLIENTS as u32,
            partition: partition as i32,
            began_ns: end_ns,
            ended_ns: end_ns + 1,
            kind: read(log, 0, log.len()),
        });
    }
    history
}

fn produce(value: u64, log: &mut Vec<u64>, random: &mut Random) -> Kind {
    let offset = log.len() as i64;
    let outcome = match random.below(10) {
        0 => Outcome::Refused,
        1 => Outcome::Unknown,
        2 => {
            log.push(value);
            Outcome::Unknown
        }
        _ => {
            log.push(value);
            Outcome::Acknowledged(offset)
        }
    };
    Kind::Produce { value, outcome }
}

fn fetch(log: &[u64], random: &mut Random) -> Kind {
    let from = random.below(log.len() as u64 + 1) as usize;
    let to = from + random.below((log.len() - from) as u64 + 1) as usize;
    read(log, from, to)
}

fn read(log: &[u64], from: usize, to: usize) -> Kind {
    Kind::Fetch {
        from: from as i64,
        records: (from..to).map(|at| (at as i64, log[at])).collect(),
        end: log.len() as i64,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_log_does_is_right(seed: u64, steps in 1..400_usize) {
        prop_assert_eq!(check(&right_history(seed, steps)), vec![]);
    }

    #[test]
    fn what_no_log_does_is_found_by_its_name(seed: u64, steps in 100..400_usize) {
        for (name, change, is_meant) in SEEDED {
            let mut history = right_history(seed, steps);
            if change(&mut history, &mut Random::seeded(seed ^ 1)) {
                let found = check(&history);
                prop_assert!(found.iter().any(is_meant), "{}: {:?}", name, found);
            }
        }
    }

    /// The order of the operations in the history means nothing.
    #[test]
    fn in_whatever_order_operations_were_written_down(seed: u64) {
        let mut history = right_history(seed, 300);
        let mut random = Random::seeded(seed);
        lose(&mut history, &mut random);
        let mut expected: Vec<_> = check(&history).iter().map(Violation::to_string).collect();
        for at in (1..history.len()).rev() {
            history.swap(at, random.below(at as u64 + 1) as usize);
        }
        let mut found: Vec<_> = check(&history).iter().map(Violation::to_string).collect();
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn each_change_is_tried() {
    for (name, change, _) in SEEDED {
        let tried = (0..20).filter(|seed| {
            let mut history = right_history(*seed, 300);
            change(&mut history, &mut Random::seeded(*seed))
        });
        assert!(tried.count() > 5, "{name}");
    }
}

/// Two that ran at the same time may have happened in either order.
#[test]
fn what_happens_at_once_has_no_order() {
    let operation = |client, began_ns, ended_ns, kind| Operation {
        client,
        partition: 0,
        began_ns,
        ended_ns,
        kind,
    };
    let acknowledged = |value, offset| Kind::Produce {
        value,
        outcome: Outcome::Acknowledged(offset),
    };
    let end = |end| Kind::Fetch {
        from: 0,
        records: vec![],
        end,
    };
    let mut history = vec![
        operation(1, 10, 50, acknowledged(7, 1)),
        operation(2, 20, 40, acknowledged(8, 0)),
        operation(3, 15, 45, end(0)),
        operation(4, 46, 60, end(1)),
    ];
    assert_eq!(check(&history), vec![]);
    // A third read that begins when value 7 is acknowledged must see it.
    history.push(operation(5, 51, 52, end(1)));
    let found = check(&history);
    assert!(
        matches!(found[0], Violation::StaleRead { known_end: 2, .. }),
        "{found:?}"
    );
}
