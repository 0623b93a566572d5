//! `tests/sim`: runs of the simulation, seed after seed, in both worlds, and tables of what happened
//! in them.

use std::process::ExitCode;
use std::str::FromStr;

use tidegate_simulation::bridge::cases::{Case, CaseCounts};
use tidegate_simulation::bridge::shrink::shrunk;
use tidegate_simulation::bridge::{self, Plan, Tally};
use tidegate_simulation::power::{CrashPoint, Hits};
use tidegate_simulation::rule::{Broken, Rule};
use tidegate_simulation::trace::Trace;
use tidegate_simulation::world::Counts;
use tidegate_simulation::{Violation, run};

const USAGE: &str =
    "tests/sim --seeds N [--seed S] [--break RULE] [--only sessions|bridge] [--lines N]";

/// From so many runs on, every named point must have been hit so often.
const RUNS_THAT_HIT_ALL: u64 = 1_000;
const HITS_MIN: u64 = 5;

/// From so many runs on, every hard case must have come so often.
const RUNS_WITH_ALL_CASES: u64 = 2_000;
const CASES_MIN: u64 = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    Both,
    Sessions,
    Bridge,
}

struct Arguments {
    seeds: u64,
    first_seed: u64,
    broken: Option<Broken>,
    only: Only,
    /// Lines of the trace that are printed, where other than a few.
    lines_max: Option<usize>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => simulate(&arguments),
        Err(error) => {
            eprintln!("{error}\nusage: {USAGE}");
            eprintln!("rules: {}", Broken::names().join(" "));
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut seeds, mut first_seed, mut broken, mut only) = (None, 0, None, Only::Both);
    let mut lines_max = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => seeds = Some(number(&value()?)?),
            "--seed" => first_seed = number(&value()?)?,
            "--break" => broken = Some(Broken::from_str(&value()?)?),
            "--lines" => lines_max = Some(number(&value()?)? as usize),
            "--only" => {
                only = match value()?.as_str() {
                    "sessions" => Only::Sessions,
                    "bridge" => Only::Bridge,
                    other => return Err(format!("there is no world {other}")),
                }
            }
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    let seeds = seeds.ok_or("--seeds is missing")?;
    // A rule belongs to one world.
    let only = match broken {
        Some(Broken::Sessions(_)) => Only::Sessions,
        Some(Broken::Bridge(_)) => Only::Bridge,
        None => only,
    };
    Ok(Arguments {
        seeds,
        first_seed,
        broken,
        only,
        lines_max,
    })
}

fn number(text: &str) -> Result<u64, String> {
    let number = u64::from_str(text);
    number.map_err(|_| format!("{text} is not a number"))
}

/// Sums over runs.
#[derive(Default)]
struct Sums {
    hash: Trace,
    hits: Hits,
    counts: Counts,
    cases: CaseCounts,
    tally: Tally,
}

fn simulate(arguments: &Arguments) -> ExitCode {
    // A panic is a violation, and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    let mut sums = Sums::default();
    for seed in (arguments.first_seed..).take(arguments.seeds as usize) {
        let violated = (arguments.only != Only::Bridge
            && !run_sessions(seed, arguments, &mut sums))
            || (arguments.only != Only::Sessions && !run_bridge(seed, arguments, &mut sums));
        if violated {
            return ExitCode::from(1);
        }
    }
    println!(
        "held: {} seeds, trace hash {:016x}",
        arguments.seeds,
        sums.hash.hash()
    );
    let mut code = ExitCode::SUCCESS;
    if arguments.only != Only::Bridge && !print_hits(&sums, arguments.seeds) {
        code = ExitCode::from(1);
    }
    if arguments.only != Only::Sessions && !print_cases(&sums, arguments.seeds) {
        code = ExitCode::from(1);
    }
    code
}

/// Whether everything held.
fn run_sessions(seed: u64, arguments: &Arguments, sums: &mut Sums) -> bool {
    let broken = match arguments.broken {
        Some(Broken::Sessions(rule)) => Some(rule),
        _ => None,
    };
    let outcome = run(seed, broken);
    for (sum, more) in sums.hits.iter_mut().zip(outcome.hits) {
        *sum += more;
    }
    sums.counts.add(&outcome.counts);
    sums.hash.mix(&outcome.trace.hash().to_le_bytes());
    let Some(violation) = &outcome.violation else {
        return true;
    };
    print_violation(seed, violation, &outcome.trace);
    let rule = broken.map_or(String::new(), |rule| {
        format!(" --break {}", Rule::name(rule))
    });
    println!("again: tests/sim --seeds 1 --seed {seed} --only sessions{rule}");
    false
}

/// Whether everything held.
fn run_bridge(seed: u64, arguments: &Arguments, sums: &mut Sums) -> bool {
    let broken = match arguments.broken {
        Some(Broken::Bridge(rule)) => Some(rule),
        _ => None,
    };
    let plan = Plan::of(seed, broken);
    let outcome = bridge::run(&plan);
    sums.cases.add(&outcome.cases);
    sums.tally.add(&outcome.tally);
    sums.hash.mix(&outcome.trace.hash().to_le_bytes());
    if outcome.violation.is_none() {
        return true;
    }
    let mut plan = shrunk(plan);
    plan.lines_max = arguments.lines_max.unwrap_or(plan.lines_max);
    let outcome = bridge::run(&plan);
    if let Some(violation) = &outcome.violation {
        print_violation(seed, violation, &outcome.trace);
    }
    let cases: Vec<_> = plan.cases.iter().map(|case| case.name()).collect();
    let faults = plan.steps.iter().filter(|step| step.fails).count();
    println!(
        "shrunk to {} steps, {faults} of them with faults; cases: {}",
        plan.steps.len(),
        cases.join(", ")
    );
    let rule = broken.map_or(String::new(), |broken| {
        format!(" --break {}", Broken::Bridge(broken).name())
    });
    println!("again: tests/sim --seeds 1 --seed {seed} --only bridge{rule}");
    false
}

fn print_violation(seed: u64, violation: &Violation, trace: &Trace) {
    let earlier = trace.count() - trace.lines().count() as u64;
    if earlier > 0 {
        println!("({earlier} lines before; --lines N shows more)");
    }
    let (mut before, mut again) = ("", 0);
    for line in trace.lines().chain([""]) {
        if line == before {
            again += 1;
            continue;
        }
        if again > 0 {
            println!("             ({again} more like this)");
        }
        (before, again) = (line, 0);
        println!("{line}");
    }
    println!("invariant: {}", violation.invariant);
    println!("seed: {seed}");
    println!("{}", violation.what);
}

/// Whether each point was hit often enough.
fn print_hits(sums: &Sums, runs: u64) -> bool {
    let counts = &sums.counts;
    println!(
        "sessions: {} published, {} delivered, {} refused, {} commits, {} checkpoints, {} power cuts",
        counts.published,
        counts.delivered,
        counts.refused,
        counts.commits,
        counts.checkpoints,
        counts.power_cuts
    );
    println!("the power went");
    let mut seldom = Vec::new();
    for point in CrashPoint::ALL {
        let times = sums.hits[point as usize];
        println!("{:>42} {times:8}", point.name());
        if times < HITS_MIN {
            seldom.push(point.name());
        }
    }
    is_enough(runs >= RUNS_THAT_HIT_ALL, &seldom, HITS_MIN)
}

/// Whether each case came often enough.
fn print_cases(sums: &Sums, runs: u64) -> bool {
    let tally = &sums.tally;
    println!(
        "bridge: {} landed, {} gaps, {} duplicates answered, {} refusals, {} forks, {} quarantines, {} new cluster incarnations; at most the ledger took {} bytes, an index {} and boundaries {} in 60 days offline, with {} log files",
        tally.landed,
        tally.gaps,
        tally.duplicates,
        tally.refusals,
        tally.forks,
        tally.quarantines,
        tally.begins,
        tally.ledger_bytes_max,
        tally.index_bytes_max,
        tally.boundary_bytes_max,
        tally.log_files_max
    );
    println!("hard cases");
    let mut seldom = Vec::new();
    for case in Case::ALL {
        let times = sums.cases.of(case);
        println!("{:>42} {times:8}", case.name());
        if times < CASES_MIN {
            seldom.push(case.name());
        }
    }
    is_enough(runs >= RUNS_WITH_ALL_CASES, &seldom, CASES_MIN)
}

fn is_enough(is_judged: bool, seldom: &[&str], times_min: u64) -> bool {
    if is_judged && !seldom.is_empty() {
        println!("less than {times_min} times: {}", seldom.join(", "));
        return false;
    }
    true
}
