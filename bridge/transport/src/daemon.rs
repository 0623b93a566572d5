//! What a daemon does around its node: it starts a runtime, goes on until a signal or the node itself ends it, and comes to
//! its end in order.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tidegate_shared::service::Service;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::watchdog;

/// So long a node that has failed has to come to its end.
const FAILED_SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// Runs it to its end. What still waits then, for a disk, an object store or a name server, is waited for by nobody.
pub fn run<E: Display>(name: &str, daemon: impl Future<Output = Result<ExitCode, E>>) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{name}: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(daemon);
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ExitCode::FAILURE
    })
}

/// What is said to a daemon.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// # Errors
    /// They cannot be listened for.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when it is to stop, with the signal that said so.
    pub async fn stop(&mut self) -> &'static str {
        stop(&mut self.terminate, &mut self.interrupt).await
    }

    /// Tells the service manager that the node is ready, and alive as long as it answers, and has it read again what
    /// `reloads` names; until it is to stop, or `failed` says why it is of no use any more, which is given.
    pub async fn until_end(
        mut self,
        service: &Service,
        reloads: &str,
        reload: impl AsyncFn(),
        answers: impl AsyncFn() -> bool,
        failed: impl Future<Output = String>,
    ) -> Option<String> {
        watchdog::told(service.ready());
        let reloading = async {
            while self.hang_up.recv().await.is_some() {
                tracing::info!("SIGHUP: reading {reloads} again");
                watchdog::told(service.reloading());
                reload().await;
                watchdog::told(service.ready());
            }
        };
        let reason = tokio::select! {
            () = reloading => None,
            () = watchdog::feed(service, answers) => None,
            signal = stop(&mut self.terminate, &mut self.interrupt) => {
                tracing::info!("{signal}: stopping");
                None
            }
            reason = failed => Some(reason),
        };
        watchdog::told(service.stopping());
        reason
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Shuts a node down, also one that has failed, for a reason that is the error then: nothing can be acknowledged by it any
/// more, or nobody comes in. A start opens all anew; what goes on of it keeps what it has.
///
/// # Errors
/// That it has failed.
pub async fn end(failed: Option<String>, shutdown: impl Future<Output = ()>) -> Result<(), Failed> {
    let Some(reason) = failed else {
        shutdown.await;
        return Ok(());
    };
    tracing::error!(reason, "stopping");
    let _ = timeout(FAILED_SHUTDOWN_MAX, shutdown).await;
    Err(Failed(reason))
}

/// Why a node was of no use any more.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Failed(String);
