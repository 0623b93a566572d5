//! The simulation's short form, that it comes out the same from the same seed, and that it notices
//! each rule of the production code that is left out.

use tidegate_simulation::rule::Rule;
use tidegate_simulation::{Outcome, run};

/// `tests/sim` runs as many as it is asked for.
const SEEDS: u64 = 60;

/// A rule that is broken must show before so many runs are over.
const BROKEN_SEEDS_MAX: u64 = 300;

fn described(seed: u64, outcome: &Outcome) -> String {
    let lines: Vec<_> = outcome.trace.lines().collect();
    let violation = &outcome.violation;
    format!("{}\nseed {seed}: {violation:?}", lines.join("\n"))
}

#[test]
fn every_promise_outlives_power_cuts() {
    for seed in 0..SEEDS {
        let outcome = run(seed, None);
        assert_eq!(outcome.violation, None, "{}", described(seed, &outcome));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [0, 1, 7] {
        let (first, second) = (run(seed, None), run(seed, None));
        assert!(first.trace.count() > 500, "a run does something");
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(run(0, None).trace, run(1, None).trace);
}

fn must_show(rule: Rule) {
    let shows = |seed: &u64| run(*seed, Some(rule)).violation.is_some();
    let found = (0..BROKEN_SEEDS_MAX).find(shows);
    let name = rule.name();
    assert!(found.is_some(), "nothing broke without the rule of {name}");
    // The run that showed it holds as soon as the rule does.
    let seed = found.unwrap_or_default();
    assert_eq!(run(seed, None).violation, None, "seed {seed}");
}

#[test]
fn a_sync_that_does_nothing_is_noticed() {
    must_show(Rule::Fsync);
}

#[test]
fn a_log_file_that_is_recycled_before_its_checkpoint_is_noticed() {
    must_show(Rule::RecycleBeforeCheckpoint);
}

/// [MQTT-4.3.2-4]
#[test]
fn a_puback_before_the_commit_is_noticed() {
    must_show(Rule::PubackBeforeCommit);
}

/// [MQTT-4.3.3-8]
#[test]
fn a_pubrec_before_the_commit_is_noticed() {
    must_show(Rule::PubrecBeforeCommit);
}

/// [MQTT-4.3.3-11]
#[test]
fn a_pubcomp_before_the_commit_is_noticed() {
    must_show(Rule::PubcompBeforeCommit);
}

/// [MQTT-3.2.2-2]
#[test]
fn a_connack_before_the_commit_is_noticed() {
    must_show(Rule::ConnackBeforeCommit);
}

#[test]
fn a_suback_before_the_commit_is_noticed() {
    must_show(Rule::SubackBeforeCommit);
}

#[test]
fn an_identifier_that_is_used_before_its_commit_is_noticed() {
    must_show(Rule::AssignBeforeCommit);
}

/// [MQTT-4.3.3-6]
#[test]
fn a_pubrel_before_the_commit_is_noticed() {
    must_show(Rule::ReceivedBeforeCommit);
}

#[test]
fn a_journal_that_does_not_know_what_sessions_read_is_noticed() {
    must_show(Rule::NeededFrom);
}

#[test]
fn a_session_that_is_let_go_of_too_early_is_noticed() {
    must_show(Rule::LetGoUnsure);
}

#[test]
fn a_row_that_says_too_much_is_noticed() {
    must_show(Rule::FoldUnsure);
}
