//! A group that does what it should is found right; each thing that it must not do is found, by its name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::{Entry, Event, GroupHistory, Member, Violation, check, parse};

const SECOND: u64 = 1_000_000_000;

/// Three members and two partitions, ten records each: `a` begins alone and hands partition 1 to `b`; `b` is killed, and
/// `a` takes it back when its session has ended; `c` comes when `a` was stopped for longer than its session, takes all,
/// and `a` is told so.
fn right() -> GroupHistory {
    let a = "1000000000 subscribed\n2000000000 assigned 0,1\n3000000000 processed 0 0 100\n\
        3000000001 processed 1 0 200\n3500000000 committed 3400000000 0:1,1:1\n4000000000 revoked 0,1\n\
        4500000000 assigned 0\n5000000000 processed 0 1 101\n5500000000 committed 5400000000 0:2\n\
        8000000000 tick\n11000000000 tick\n14000000000 revoked 0\n15000000000 assigned 0,1\n\
        15000000001 processed 1 1 201\n15000000002 processed 1 2 202\n16000000000 tick\n\
        30000000000 tick\n30000000001 refused 30000000000 1:3 unknown member\n31000000000 lost 0,1\n\
        32000000000 closing\n33000000000 closed\n";
    let b = "4100000000 subscribed\n4600000000 assigned 1\n5000000000 processed 1 1 201\n5200000000 tick\n";
    let c = "17000000000 subscribed\n20000000000 tick\n23000000000 tick\n25000000000 assigned 0,1\n26000000000 processed 1 1 201\n\
        26000000001 processed 1 2 202\n26000000002 processed 0 2 102\n\
        27000000000 committed 26500000000 0:3,1:3\n28000000000 tick\n34000000000 tick\n41000000000 closing\n";
    let member = |name: &str, log, died_ns, continued_ns| Member {
        name: name.to_owned(),
        entries: parse(log),
        died_ns,
        continued_ns,
    };
    let produced = (0..3).flat_map(|at| {
        let value = at as u64;
        [((0, at), 100 + value), ((1, at), 200 + value)]
    });
    GroupHistory {
        members: vec![
            member("a", a, None, vec![30 * SECOND]),
            member("b", b, Some(6 * SECOND), vec![]),
            member("c", c, None, vec![]),
        ],
        produced: produced.collect(),
        closed_from_ns: 40 * SECOND,
        session_timeout: Duration::from_secs(6),
        heartbeat: Duration::from_secs(1),
        settles_within: Duration::from_secs(10),
    }
}

impl GroupHistory {
    fn entries(&mut self, member: usize) -> &mut Vec<Entry> {
        &mut self.members[member].entries
    }

    /// Says something more, in the order of time.
    fn say(&mut self, member: usize, line: &str) {
        let said = parse(&format!("{line}\n"));
        let entries = self.entries(member);
        entries.extend(said);
        entries.sort_by_key(|entry| entry.at_ns);
    }

    fn forget(&mut self, member: usize, at_ns: u64) {
        let entries = self.entries(member);
        let before = entries.len();
        entries.retain(|entry| entry.at_ns != at_ns);
        assert_eq!(entries.len(), before - 1);
    }
}

#[track_caller]
fn finds(change: impl FnOnce(&mut GroupHistory), is_meant: impl Fn(&Violation) -> bool) {
    let mut history = right();
    change(&mut history);
    let found = check(&history);
    assert!(found.iter().any(is_meant), "{found:?}");
}

#[test]
fn a_group_that_does_what_it_should_is_right() {
    assert_eq!(check(&right()), vec![]);
    assert_eq!(right().counts(), (6, 9));
}

#[test]
fn a_record_that_nobody_processed_is_found() {
    let lost = Violation::NotProcessed {
        partition: 0,
        offset: 2,
    };
    let last = |history: &mut GroupHistory| history.forget(2, 26_000_000_002);
    finds(last, |found| *found == lost);
    let never_seen = Violation::NotProcessed {
        partition: 1,
        offset: 3,
    };
    let more = |history: &mut GroupHistory| history.produced.extend([((1, 3), 203)]);
    finds(more, |found| *found == never_seen);
}

#[test]
fn a_record_that_nobody_produced_is_found() {
    finds(
        |history| history.say(2, "28000000001 processed 0 3 7"),
        |found| matches!(found, Violation::Phantom { value: 7, .. }),
    );
    finds(
        |history| history.produced.extend([((0, 1), 7)]),
        |found| matches!(found, Violation::Phantom { value: 101, .. }),
    );
}

#[test]
fn records_out_of_order_are_found() {
    finds(
        |history| history.say(0, "15000000003 processed 1 4 204"),
        |found| {
            matches!(
                found,
                Violation::OutOfOrder {
                    offset: 4,
                    after: 2,
                    ..
                }
            )
        },
    );
    finds(
        |history| history.say(2, "26000000003 processed 1 1 201"),
        |found| {
            matches!(
                found,
                Violation::OutOfOrder {
                    offset: 1,
                    after: 2,
                    ..
                }
            )
        },
    );
}

#[test]
fn a_record_of_another_members_partition_is_found() {
    finds(
        |history| history.say(0, "4200000000 processed 1 1 201"),
        |found| matches!(found, Violation::NotOwned { .. }),
    );
}

#[test]
fn a_partition_that_is_given_before_it_was_given_up_is_found() {
    // `a` gives up a moment after `b` has got it.
    finds(
        |history| {
            history.forget(0, 4_000_000_000);
            history.forget(0, 4_500_000_000);
            history.say(0, "4700000000 revoked 1");
        },
        |found| {
            matches!(
                found,
                Violation::OwnedTwice {
                    partition: 1,
                    for_ns: 100_000_000,
                    ..
                }
            )
        },
    );
    // `b` lives on, and was never silent.
    finds(
        |history| {
            history.members[1].died_ns = None;
            for second in 6..40 {
                history.say(1, &format!("{second}000000000 tick"));
            }
        },
        |found| matches!(found, Violation::OwnedTwice { partition: 1, .. }),
    );
    // `a` was not silent before `c` got all that it had.
    finds(
        |history| (17..30).for_each(|second| history.say(0, &format!("{second}000000000 tick"))),
        |found| matches!(found, Violation::OwnedTwice { .. }),
    );
}

/// `a`, stopped while its assignment was on its way, is told of it after its session, and then of the loss.
#[test]
fn what_a_member_is_told_too_late_it_does_not_own_unless_it_keeps_it() {
    let told_late = |history: &mut GroupHistory| {
        history.forget(0, 31_000_000_000);
        history.say(0, "16500000000 revoked 0,1");
        history.say(0, "30000000002 assigned 0");
    };
    let mut history = right();
    told_late(&mut history);
    history.say(0, "30000400000 lost 0");
    assert_eq!(check(&history), vec![]);
    let keeps = |history: &mut GroupHistory| {
        told_late(history);
        history.say(2, "31000000000 tick");
    };
    finds(keeps, |found| {
        matches!(found, Violation::OwnedTwice { partition: 0, .. })
    });
}

#[test]
fn who_loses_a_partition_without_having_been_silent_is_found() {
    finds(
        |history| history.say(2, "28500000000 lost 0"),
        |found| matches!(found, Violation::LostForNothing { partition: 0, .. }),
    );
}

#[test]
fn who_begins_before_what_was_committed_is_found() {
    finds(
        |history| history.say(1, "4900000000 processed 1 0 200"),
        |found| {
            matches!(
                found,
                Violation::CommitForgotten {
                    committed: 1,
                    began_at: 0,
                    ..
                }
            )
        },
    );
}

#[test]
fn a_commit_of_who_has_lost_its_session_is_found() {
    finds(
        |history| history.say(0, "30500000000 committed 30000000000 1:3"),
        |found| matches!(found, Violation::StaleCommit { partition: 1, .. }),
    );
}

#[test]
fn a_group_that_does_not_settle_is_found() {
    finds(
        |history| history.say(2, "29000000000 revoked 1"),
        |found| matches!(found, Violation::NotSettled { partition: 1, owners } if owners.is_empty()),
    );
    // Given up and taken again for ever, though nobody comes or goes.
    finds(
        |history| {
            history.closed_from_ns = 60 * SECOND;
            for second in (35..60).step_by(2) {
                let next = second + 1;
                history.say(2, &format!("{second}000000000 revoked 0,1"));
                history.say(2, &format!("{next}000000000 assigned 0,1"));
            }
            history
                .entries(2)
                .retain(|entry| entry.event != Event::Closing);
        },
        |found| matches!(found, Violation::SettledLate { .. }),
    );
    finds(
        |history| history.say(2, "28500000000 committed 28400000000 1:2"),
        |found| {
            matches!(
                found,
                Violation::Lag {
                    partition: 1,
                    committed: 2,
                    end: 3
                }
            )
        },
    );
}

#[test]
fn a_line_that_was_not_finished_is_none() {
    let parsed = parse("5 processed 1 2 3\n6 assigned \n7 assign");
    let expected = [
        Event::Processed {
            partition: 1,
            offset: 2,
            value: 3,
        },
        Event::Assigned(vec![]),
    ];
    let events: Vec<_> = parsed.into_iter().map(|entry| entry.event).collect();
    assert_eq!(events, expected);
    assert_eq!(parse("7 assign"), vec![]);
}
