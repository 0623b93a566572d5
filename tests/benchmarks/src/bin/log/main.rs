//! The load tool of `tests/bench log`: lands batches that were sealed before, by edges over QUIC or in the
//! process itself, produces the same batches to Apache Kafka, and reads either back. It checks what it is
//! answered, and that what was read is whole and without a hole. Each run prints one object of JSON; what is
//! refused, lost or damaged ends it with exit code 1.

mod batches;
mod edge;
mod here;
mod kafka;
#[path = "../mqtt/process.rs"]
#[allow(dead_code, reason = "of its memory nothing is asked here")]
mod process;
mod produce;
mod read;
mod tally;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures what lands and what is read.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lands over QUIC, in a cloud that runs.
    Land(wire::Arguments),
    /// Lands without a network, in a cloud within this process.
    LandHere(here::Arguments),
    /// Produces to Apache Kafka.
    Produce(produce::Arguments),
    /// Reads topics from their beginning to their end.
    Read(read::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tidegate-log-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<serde_json::Value> {
    match command {
        Command::Land(arguments) => Box::pin(wire::run(arguments)).await,
        Command::LandHere(arguments) => Box::pin(here::run(arguments)).await,
        Command::Produce(arguments) => Box::pin(produce::run(arguments)).await,
        Command::Read(arguments) => Box::pin(read::run(arguments)).await,
    }
}
