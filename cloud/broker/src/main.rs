//! The daemon `tidegate-cloud`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidegate_bridge::daemon::{self, Signals};
use tidegate_cloud::config::WalConfig;
use tidegate_cloud::{Cloud, Config, authority};
use tidegate_shared::id::EdgeId;
use tidegate_shared::service::Service;
use tracing_subscriber::EnvFilter;

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
    daemon::run("tidegate-cloud", run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
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
        make_certificate(&config, edge, &out).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut signals = Signals::new()?;
    let service = Service::from_environment();
    let cloud = tokio::select! {
        started = Box::pin(Cloud::start(config)) => started?,
        signal = signals.stop() => anyhow::bail!("{signal}: stopped before it was ready"),
    };
    let (reload, answers) = (
        async || cloud.reload().await,
        async || cloud.answers().await,
    );
    let ended = signals.until_end(&service, "certificates", reload, answers, cloud.failed());
    let failed = ended.await;
    daemon::end(failed, cloud.shutdown()).await?;
    Ok(ExitCode::SUCCESS)
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
