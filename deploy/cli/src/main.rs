//! The command `tidegate`: what people type. It decides nothing of its own; it starts the daemons'
//! libraries (`up`) and, later, talks to running ones.
//!
//! Exit codes: 0 done, 1 it failed, 2 the command line was wrong.

mod arguments;
#[cfg(feature = "up")]
mod demo;
#[cfg(feature = "up")]
mod kafka_client;
#[cfg(test)]
mod sample_tests;
mod terminal;
#[cfg(feature = "up")]
mod up;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate: {}", terminal::one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        #[cfg(feature = "up")]
        arguments::Command::Up(arguments) => up::run(*arguments),
    }
}

/// Help and version go out as they are; a mistake becomes one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == arguments::NOTHING_ASKED {
        let _ = error.print();
    } else {
        eprintln!("tidegate: {}", arguments::one_line(error));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
