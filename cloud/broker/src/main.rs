//! The daemon `tidegate-cloud`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tidegate_cloud::{Cloud, Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The cloud node of Tidegate: takes what edges land, and serves it to Kafka clients.
#[derive(Debug, Parser)]
#[command(name = "tidegate-cloud", version)]
struct Arguments {
    /// The configuration, a YAML file. Without it, all defaults apply.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CLOUD_CONFIG")]
    config: Option<PathBuf>,
    /// The folder that holds everything; overrides `data` in the configuration.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CLOUD_DATA")]
    data: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `tidegate_cloud=debug`.
    #[arg(long, default_value = "info", env = "TIDEGATE_LOG")]
    log: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-cloud: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let mut config = match &arguments.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    if let Some(data) = arguments.data {
        config.data = data;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cloud = Box::pin(Cloud::start(config)).await?;
    let broker = cloud.broker();
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        reason = broker.failed() => {
            // Nothing can be acknowledged any more; a start reads the log anew.
            anyhow::bail!("the log failed: {reason}");
        }
    }
    cloud.shutdown().await;
    Ok(())
}
