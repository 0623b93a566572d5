//! The daemon `tidegate-cloud`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tidegate_bridge::watchdog;
use tidegate_cloud::config::WalConfig;
use tidegate_cloud::{Cloud, Config, authority};
use tidegate_shared::id::EdgeId;
use tidegate_shared::service::Service;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// So long a node that has failed has to come to its end.
const FAILED_SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// The cloud node of Tidegate: takes what edges land, and serves it to Kafka clients.
#[derive(Debug, Parser)]
#[command(name = "tidegate-cloud", version)]
struct Arguments {
    /// The configuration, a YAML file. Without it, all defaults apply.
    #[arg(
        long,
        value_name = "FILE",
        env = "TIDEGATE_CLOUD_CONFIG",
        global = true
    )]
    config: Option<PathBuf>,
    /// The folder that holds everything; overrides `data` in the configuration.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CLOUD_DATA", global = true)]
    data: Option<PathBuf>,
    /// Where segments lie, and with `wal: object` the log too: file:///…, s3://bucket/prefix, memory://;
    /// overrides `object_store` in the configuration.
    #[arg(
        long,
        value_name = "URL",
        env = "TIDEGATE_CLOUD_OBJECT_STORE",
        global = true
    )]
    object_store: Option<String>,
    /// What makes what lands durable: local (an fsync in the data folder) or object (a PUT to the object
    /// store); overrides `wal` in the configuration.
    #[arg(long, value_name = "WAL", env = "TIDEGATE_CLOUD_WAL", global = true)]
    wal: Option<WalConfig>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `tidegate_cloud=debug`.
    #[arg(long, default_value = "info", env = "TIDEGATE_LOG", global = true)]
    log: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a certificate for an edge, signed by this cloud's CA: ca.crt, edge.crt and edge.key.
    Certificate {
        /// The edge's id: 1 to 64 of a-z A-Z 0-9 . _ -
        edge: String,
        /// The folder to write into.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = tokio::runtime::Runtime::new()
        .context("the runtime cannot be started")
        .and_then(|runtime| {
            let ended = runtime.block_on(run(arguments));
            // What still waits for an object store is waited for by nobody.
            runtime.shutdown_background();
            ended
        });
    match ended {
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
    if let Some(url) = arguments.object_store {
        config.object_store = Some(url);
    }
    if let Some(wal) = arguments.wal {
        config.wal = wal;
    }
    if let Some(Command::Certificate { edge, out }) = arguments.command {
        return make_certificate(&config, edge, &out).await;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let service = Service::from_environment();
    let cloud = tokio::select! {
        started = Box::pin(Cloud::start(config)) => started?,
        _ = terminate.recv() => anyhow::bail!("SIGTERM: stopped before it was ready"),
        _ = interrupt.recv() => anyhow::bail!("SIGINT: stopped before it was ready"),
    };
    watchdog::told(service.ready());
    let reload = async {
        while hang_up.recv().await.is_some() {
            tracing::info!("SIGHUP: reading certificates again");
            watchdog::told(service.reloading());
            cloud.reload().await;
            watchdog::told(service.ready());
        }
    };
    let failed = tokio::select! {
        () = reload => None,
        () = watchdog::feed(&service, async || cloud.answers().await) => None,
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: stopping");
            None
        }
        _ = interrupt.recv() => {
            tracing::info!("SIGINT: stopping");
            None
        }
        reason = cloud.failed() => Some(reason),
    };
    watchdog::told(service.stopping());
    let Some(reason) = failed else {
        cloud.shutdown().await;
        return Ok(());
    };
    // Nothing can be acknowledged any more, or nobody comes in; a start reads the log anew. What goes on keeps what it has.
    tracing::error!(reason, "stopping");
    let _ = tokio::time::timeout(FAILED_SHUTDOWN_MAX, cloud.shutdown()).await;
    anyhow::bail!("{reason}")
}

async fn make_certificate(config: &Config, edge: String, out: &Path) -> anyhow::Result<()> {
    let edge = EdgeId::new(edge)?;
    let files = authority(config).await?.issue_edge(&edge, out)?;
    println!("edge         {edge}");
    println!("certificate  {}", files.certificate.display());
    println!("key          {}", files.key.display());
    println!("ca           {}", files.ca.display());
    Ok(())
}
