//! The daemon `tidegate-edge`.

mod doctor_command;
mod entry;
mod import;
mod import_command;
mod journal_command;
mod passwd_command;
mod scram_command;
mod support_bundle;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use doctor_command::DoctorArguments;
use import_command::ImportArguments;
use journal_command::JournalCommand;
use passwd_command::PasswdArguments;
use scram_command::ScramArguments;
use support_bundle::BundleArguments;
use tidegate_bridge::daemon::{self, Signals};
use tidegate_edge::{Edge, load_spec};
use tidegate_shared::fleet::EdgeSpec;
use tidegate_shared::service::Service;
use tracing_subscriber::EnvFilter;

/// The edge node of Tidegate: devices publish to it over MQTT; it keeps every message and sends it on.
#[derive(Debug, Parser)]
#[command(name = "tidegate-edge", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration, a YAML file. Without it, all defaults apply, and there is no uplink.
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_EDGE_CONFIG")]
    config: Option<PathBuf>,
    /// The folder that holds everything; overrides `data` in the configuration.
    #[arg(long, global = true, value_name = "DIR", env = "TIDEGATE_EDGE_DATA")]
    data: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `tidegate_edge=debug`.
    #[arg(long, global = true, default_value = "info", env = "TIDEGATE_LOG")]
    log: String,
}

/// Without one, the node runs.
#[derive(Debug, Subcommand)]
enum Command {
    /// Look into the journal of a node that does not run.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Make an edge.yaml of mosquitto's configuration, and name what could not be carried over. Exits with 0 where all
    /// was, with 1 where something was not, with 2 where there is no result.
    Import(ImportArguments),
    /// Print a line for the file of mqtt.users, for a client that sends its password; the password comes from
    /// standard input.
    Passwd(PasswdArguments),
    /// The same for a client that proves by SCRAM-SHA-256 that it knows its password.
    Scram(ScramArguments),
    /// Look at all that the node needs of its machine, its network and its files, and say what to do about what is
    /// wrong: exits with 1 if something is. Disturbs no node that runs.
    Doctor(DoctorArguments),
    /// Collect configuration, doctor's findings, metrics, logs and facts of the machine into one file, without secrets
    /// and payloads.
    SupportBundle(BundleArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::run("tidegate-edge", run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        command,
        config,
        data,
        log,
    } = arguments;
    let load = || {
        let mut spec = match &config {
            Some(path) => load_spec(path)?,
            None => EdgeSpec::default(),
        };
        if let Some(data) = &data {
            spec.data.clone_from(data);
        }
        anyhow::Ok(spec)
    };
    // What it prints is all that it has to say.
    let command = match command {
        Some(Command::Doctor(arguments)) => {
            return Box::pin(arguments.run(config.as_deref(), data.clone(), load)).await;
        }
        Some(Command::SupportBundle(arguments)) => {
            return Box::pin(arguments.run(config.as_deref(), data.clone(), load)).await;
        }
        command => command,
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&log)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match command {
        Some(Command::Scram(arguments)) => {
            scram_command::run(&arguments)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Passwd(arguments)) => {
            passwd_command::run(&arguments)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Journal(command)) => return journal_command::run(command, &load()?.data),
        Some(Command::Import(arguments)) => return Ok(import_command::run(&arguments)),
        Some(Command::Doctor(_) | Command::SupportBundle(_)) | None => {}
    }
    let spec = load()?;
    let signals = Signals::new()?;
    let service = Service::from_environment();
    let edge = Box::pin(Edge::start(spec)).await?;
    let (reload, answers) = (async || edge.reload().await, async || edge.answers().await);
    let reloads = "certificates, users and rules";
    let ended = signals.until_end(&service, reloads, reload, answers, edge.failed());
    let failed = ended.await;
    daemon::end(failed, edge.shutdown()).await?;
    Ok(ExitCode::SUCCESS)
}
