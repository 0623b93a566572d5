//! `tests/sim`: runs of the simulation, seed after seed, and a histogram of where the power went.

use std::process::ExitCode;
use std::str::FromStr;

use tidegate_simulation::power::{CrashPoint, Hits};
use tidegate_simulation::rule::Rule;
use tidegate_simulation::world::Counts;
use tidegate_simulation::{Outcome, Violation, run};

const USAGE: &str = "tests/sim --seeds N [--seed S] [--break RULE]";

/// From so many runs on, every named point must have been hit so often.
const RUNS_THAT_HIT_ALL: u64 = 1_000;
const HITS_MIN: u64 = 5;

struct Arguments {
    seeds: u64,
    first_seed: u64,
    broken: Option<Rule>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => simulate(&arguments),
        Err(error) => {
            eprintln!("{error}\nusage: {USAGE}");
            let rules = Rule::ALL.map(Rule::name).join(" ");
            eprintln!("rules: {rules}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut seeds, mut first_seed, mut broken) = (None, 0, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => seeds = Some(number(&value()?)?),
            "--seed" => first_seed = number(&value()?)?,
            "--break" => broken = Some(Rule::from_str(&value()?)?),
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    let seeds = seeds.ok_or("--seeds is missing")?;
    Ok(Arguments {
        seeds,
        first_seed,
        broken,
    })
}

fn number(text: &str) -> Result<u64, String> {
    let number = u64::from_str(text);
    number.map_err(|_| format!("{text} is not a number"))
}

fn simulate(arguments: &Arguments) -> ExitCode {
    // A panic is a violation, and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut hits, mut counts) = (Hits::default(), Counts::default());
    for seed in (arguments.first_seed..).take(arguments.seeds as usize) {
        let outcome = run(seed, arguments.broken);
        for (sum, more) in hits.iter_mut().zip(outcome.hits) {
            *sum += more;
        }
        counts.add(&outcome.counts);
        if let Some(violation) = &outcome.violation {
            print_violation(seed, arguments.broken, violation, &outcome);
            return ExitCode::from(1);
        }
    }
    println!("{} runs, every invariant held", arguments.seeds);
    println!(
        "{} published, {} delivered, {} refused, {} commits, {} checkpoints, {} power cuts",
        counts.published,
        counts.delivered,
        counts.refused,
        counts.commits,
        counts.checkpoints,
        counts.power_cuts
    );
    print_hits(&hits, arguments.seeds)
}

fn print_violation(seed: u64, broken: Option<Rule>, violation: &Violation, outcome: &Outcome) {
    for line in outcome.trace.lines() {
        println!("{line}");
    }
    println!("violated: {}: {}", violation.invariant, violation.what);
    let rule = broken.map_or(String::new(), |rule| format!(" --break {}", rule.name()));
    println!("seed {seed}: tests/sim --seeds 1 --seed {seed}{rule}");
}

fn print_hits(hits: &Hits, runs: u64) -> ExitCode {
    println!("the power went");
    let mut seldom = Vec::new();
    for point in CrashPoint::ALL {
        let times = hits[point as usize];
        println!("{:>28} {times:6}", point.name());
        if times < HITS_MIN {
            seldom.push(point.name());
        }
    }
    if runs >= RUNS_THAT_HIT_ALL && !seldom.is_empty() {
        println!("hit less than {HITS_MIN} times: {}", seldom.join(" "));
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}
