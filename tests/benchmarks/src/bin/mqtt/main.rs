//! The load tool of `tests/bench mqtt`: raw sockets, packets made once, epoll, one thread; it must cost
//! less than any broker that it measures (`sink` is a broker that does nothing, to show that). Each run
//! prints one object of JSON; a loss, a duplicate, a message out of order or a stall ends it with exit
//! code 1.

mod connects;
mod latency;
mod link;
mod process;
mod publisher;
mod sink;
mod subscriber;
mod throughput;
mod wire;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use wire::Version;

/// Measures MQTT brokers.
///
/// By hand, against a broker that runs:
///
///     tidegate-mqtt-load throughput --address 127.0.0.1:1883 --pid $(pidof tidegate-edge) \
///         --payload-bytes 100 --qos 0 --under-way 500 --seconds 3
///     tidegate-mqtt-load throughput --address 127.0.0.1:1883 --pid $(pidof tidegate-edge) \
///         --payload-bytes 100 --qos 1 --under-way 100 --seconds 3
///
/// Under callgrind or strace let it end by count: --messages 100000.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// As fast as it goes, with a fixed number of messages under way.
    Throughput(throughput::Arguments),
    /// How long messages take at a fixed rate.
    Latency(latency::Arguments),
    /// How many clients are accepted in a second.
    Connects(connects::Arguments),
    /// How much memory clients take that only stay.
    Idle(connects::IdleArguments),
    /// A broker that only moves bytes: it shows what this tool can do at most.
    Sink(sink::Arguments),
}

/// Which broker is measured.
#[derive(Clone, Debug, Args)]
pub struct Broker {
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub address: SocketAddr,
    /// The broker's process, whose CPU and memory are read.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Of MQTT: 3 (3.1.1) or 5.
    #[arg(long, default_value = "3")]
    pub version: Version,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tidegate-mqtt-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<serde_json::Value> {
    match command {
        Command::Throughput(arguments) => throughput::run(arguments),
        Command::Latency(arguments) => latency::run(arguments),
        Command::Connects(arguments) => connects::run(&arguments),
        Command::Idle(arguments) => connects::run_idle(&arguments),
        Command::Sink(arguments) => sink::run(&arguments),
    }
}
