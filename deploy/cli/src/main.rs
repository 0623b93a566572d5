//! The command `tidegate`: what people type. It decides nothing of its own; it starts the daemons'
//! libraries (`up`), and asks running ones over HTTP.
//!
//! Exit codes: 0 done, or there is an answer; 1 it failed, or there is none; 2 the command line was wrong.

mod acl;
mod arguments;
mod cloud;
#[cfg(feature = "up")]
mod demo;
mod edge;
mod group;
#[cfg(feature = "up")]
mod kafka_client;
mod moment;
mod offsets;
mod remote;
#[cfg(test)]
mod sample_tests;
mod terminal;
mod topic;
#[cfg(feature = "up")]
mod up;
mod user;
mod whereabouts;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

/// The command line was wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate: {}", terminal::one_line(&format!("{error:#}")));
            match error.is::<remote::Usage>() {
                true => ExitCode::from(USAGE),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        #[cfg(feature = "up")]
        Command::Up(arguments) => up::run(*arguments).map(|()| ExitCode::SUCCESS),
        Command::Where(arguments) => whereabouts::run(&arguments),
        Command::Offsets(arguments) => offsets::run(&arguments),
        Command::Edge(arguments) => edge::run(&arguments),
        Command::Topic(arguments) => topic::run(&arguments),
        Command::Group(arguments) => group::run(&arguments),
        Command::User(arguments) => user::run(&arguments),
        Command::Acl(arguments) => acl::run(&arguments),
        Command::Cloud(arguments) => cloud::run(&arguments),
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
