//! `tests/fuzz`: valid inputs changed by chance, one after the other, until the time is over or
//! something breaks. What breaks is made small, printed with its seed, and kept.
//!
//! It is not guided by coverage: that needs an instrumented build. What it has instead is a knowledge
//! of the formats: it begins with inputs that are right.

mod batches;
mod inputs;
mod mutate;
mod packets;
#[path = "../../system/src/mqtt/scram.rs"]
#[allow(unreachable_pub, reason = "shared with the tests over sockets")]
mod scram;
mod segments;
mod session_inputs;
mod sessions;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mutate::Random;
use targets::Target;

const USAGE: &str = "tests/fuzz NAME --seconds N [--seed S]";

struct Arguments {
    target: Target,
    seconds: u64,
    seed: u64,
    crashes: PathBuf,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => fuzz(&arguments),
        Err(error) => {
            eprintln!("{error}\nusage: {USAGE}");
            let names = targets::ALL.map(|target| target.name);
            eprintln!("names: {}", names.join(" "));
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut seed = since.map_or(0, |since| since.as_nanos() as u64);
    let (mut target, mut seconds) = (None, None);
    let mut crashes = PathBuf::from("target/fuzz/crashes");
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => seconds = Some(number(&value()?)?),
            "--seed" => seed = number(&value()?)?,
            "--crashes" => crashes = PathBuf::from(value()?),
            name => {
                let known = targets::ALL.into_iter().find(|target| target.name == name);
                target = Some(known.ok_or(format!("there is no target {name}"))?);
            }
        }
    }
    Ok(Arguments {
        target: target.ok_or("a target's name is missing")?,
        seconds: seconds.ok_or("--seconds is missing")?,
        seed,
        crashes,
    })
}

fn number(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| format!("{text} is not a number"))
}

fn fuzz(arguments: &Arguments) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let (target, seed) = (arguments.target, arguments.seed);
    println!("{}: seed {seed}", target.name);
    let mut random = Random::new(seed);
    let (began, time) = (Instant::now(), Duration::from_secs(arguments.seconds));
    let (mut inputs, mut taken) = (0_u64, 0_u64);
    while began.elapsed() < time {
        let input = mutate::mutated((target.input)(&mut random), &mut random);
        inputs += 1;
        match run(target, &input) {
            Ok(is_valid) => taken += u64::from(is_valid),
            Err(why) => {
                report(arguments, &input, &why);
                return ExitCode::from(1);
            }
        }
    }
    println!(
        "{}: {inputs} inputs, {taken} of them were taken",
        target.name
    );
    ExitCode::SUCCESS
}

/// Whether the input was taken as valid; why not, where it broke something.
fn run(target: Target, input: &[u8]) -> Result<bool, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let owned = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or(owned).unwrap_or("a panic").to_owned())
    })
}

fn report(arguments: &Arguments, input: &[u8], why: &str) {
    let breaks = |input: &[u8]| run(arguments.target, input).is_err();
    let small = mutate::shrunk(input.to_vec(), breaks);
    let name = format!("{}-{}", arguments.target.name, arguments.seed);
    println!("broke: {why}");
    println!("seed: {}", arguments.seed);
    println!("input of {} bytes: {:02x?}", small.len(), small);
    match keep(&arguments.crashes, &name, &small) {
        Ok(path) => println!("kept: {}", path.display()),
        Err(error) => println!("not kept: {error}"),
    }
}

fn keep(folder: &Path, name: &str, input: &[u8]) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(name);
    std::fs::write(&path, input)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUTS: u64 = 2_000;

    #[test]
    fn no_target_breaks_and_each_takes_something() {
        for target in targets::ALL {
            let mut random = Random::new(1);
            let mut taken = 0;
            for _ in 0..INPUTS {
                let input = mutate::mutated((target.input)(&mut random), &mut random);
                let ran = run(target, &input);
                assert!(ran.is_ok(), "{}: {ran:?}, {input:02x?}", target.name);
                taken += u64::from(ran == Ok(true));
            }
            assert!(taken > INPUTS / 50, "{}: {taken} were taken", target.name);
            assert!(taken < INPUTS, "{}: some are not valid", target.name);
        }
    }

    #[test]
    fn what_breaks_gets_small() {
        let input: Vec<u8> = (0..=255).collect();
        let small = mutate::shrunk(input, |input| input.contains(&7) && input.contains(&99));
        assert_eq!(small, [7, 99]);
    }
}
