//! The bridge's world in short: that it holds, that the same seed is the same run, that each rule of
//! the production code is missed when it is left out, and that what shows it gets small.

use tidegate_simulation::bridge::shrink::shrunk;
use tidegate_simulation::bridge::{Break, Outcome, Plan, STEPS, run};
use tidegate_simulation::rule::OF_BRIDGE;

/// `tests/sim` runs as many as it is asked for.
const SEEDS: u64 = 25;

/// A rule that is broken must show before so many runs are over.
const BROKEN_SEEDS_MAX: u64 = 100;

fn described(seed: u64, outcome: &Outcome) -> String {
    let lines: Vec<_> = outcome.trace.lines().collect();
    let violation = &outcome.violation;
    format!("{}\nseed {seed}: {violation:?}", lines.join("\n"))
}

fn run_of(seed: u64, broken: Option<Break>) -> Outcome {
    run(&Plan::of(seed, broken))
}

#[test]
fn everything_lands_exactly_once_whatever_fails() {
    for seed in 0..SEEDS {
        let outcome = run_of(seed, None);
        assert_eq!(outcome.violation, None, "{}", described(seed, &outcome));
        assert!(outcome.tally.landed > 0, "a run does something");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [0, 1, 7] {
        let (first, second) = (run_of(seed, None), run_of(seed, None));
        assert!(first.trace.count() > 500, "a run does something");
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(run_of(0, None).trace, run_of(1, None).trace);
}

/// What is left out of a run changes nothing of what chance says elsewhere.
#[test]
fn the_end_of_a_run_left_out_leaves_its_beginning_as_it_was() {
    let whole = Plan {
        lines_max: usize::MAX,
        ..Plan::of(3, None)
    };
    let mut half = whole.clone();
    half.steps.truncate(half.steps.len() / 2);
    let (whole, half) = (run(&whole).trace, run(&half).trace);
    let until_rest = half.lines().take_while(|line| !line.contains("faults end"));
    let (mut same, mut lines) = (0, whole.lines());
    for line in until_rest {
        assert_eq!(lines.next(), Some(line));
        same += 1;
    }
    assert!(same > 100, "{same} lines are a beginning");
}

#[test]
fn each_rule_that_is_left_out_is_noticed() {
    // A log file that is used again too early is missed only where the power goes just then: seldom
    // enough that only the long form looks for it.
    let often = |(_, broken): &(&str, Break)| *broken != Break::RecycleEarly;
    for (name, broken) in OF_BRIDGE.into_iter().filter(often) {
        let shows = |seed: &u64| run_of(*seed, Some(broken)).violation.is_some();
        let found = (0..BROKEN_SEEDS_MAX).find(shows);
        let seed = found.unwrap_or_else(|| panic!("nothing broke without {name}"));
        // The run that showed it holds as soon as the rule does.
        assert_eq!(run_of(seed, None).violation, None, "{name}, seed {seed}");
    }
}

#[test]
fn a_violated_run_gets_small_and_stays_violated() {
    let (name, broken) = OF_BRIDGE[1];
    let plans = (0..BROKEN_SEEDS_MAX).map(|seed| Plan::of(seed, Some(broken)));
    let plan = plans.into_iter().find(|plan| run(plan).violation.is_some());
    let plan = plan.unwrap_or_else(|| panic!("nothing broke without {name}"));
    let invariant = |plan: &Plan| run(plan).violation.map(|violation| violation.invariant);
    let before = invariant(&plan);
    let small = shrunk(plan);
    assert_eq!(invariant(&small), before);
    let steps = small.steps.len() as u64;
    assert!(steps < STEPS / 4, "{steps} steps are left");
}
