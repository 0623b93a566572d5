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
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use doctor_command::DoctorArguments;
use import_command::ImportArguments;
use journal_command::JournalCommand;
use passwd_command::PasswdArguments;
use scram_command::ScramArguments;
use support_bundle::BundleArguments;
use tidegate_bridge::watchdog;
use tidegate_edge::{Edge, load_spec};
use tidegate_shared::fleet::EdgeSpec;
use tidegate_shared::service::Service;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// So long a node that has failed has to come to its end.
const FAILED_SHUTDOWN_MAX: Duration = Duration::from_secs(10);

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
    let ended = tokio::runtime::Runtime::new()
        .context("the runtime cannot be started")
        .and_then(|runtime| {
            let ended = runtime.block_on(run(arguments));
            // What still waits for a disk or a name server is waited for by nobody.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate-edge: {error:#}");
            ExitCode::FAILURE
        }
    }
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
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let service = Service::from_environment();
    let edge = Box::pin(Edge::start(spec)).await?;
    watchdog::told(service.ready());
    let reload = async {
        while hang_up.recv().await.is_some() {
            tracing::info!("SIGHUP: reading certificates, users and rules again");
            watchdog::told(service.reloading());
            edge.reload().await;
            watchdog::told(service.ready());
        }
    };
    let failed = tokio::select! {
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: stopping");
            None
        }
        _ = interrupt.recv() => {
            tracing::info!("SIGINT: stopping");
            None
        }
        () = reload => None,
        () = watchdog::feed(&service, async || edge.answers().await) => None,
        reason = edge.failed() => Some(reason),
    };
    watchdog::told(service.stopping());
    let Some(reason) = failed else {
        edge.shutdown().await;
        return Ok(ExitCode::SUCCESS);
    };
    // Nothing can be acknowledged any more, or nobody comes in; a start opens all anew. What goes on keeps what it has.
    tracing::error!(reason, "stopping");
    let _ = tokio::time::timeout(FAILED_SHUTDOWN_MAX, edge.shutdown()).await;
    anyhow::bail!("{reason}")
}
