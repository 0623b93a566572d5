//! `tidegate up`: a cloud and one edge in this process, each by its daemon's own library. They meet
//! as they would on two machines, over QUIC with certificates of the cloud's own CA.

mod banner;
mod identity;
mod node;
mod preflight;
#[cfg(test)]
mod tests;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::UpArguments;
use crate::demo::Demo;
use crate::terminal::Terminal;
pub(crate) use node::Node;

/// Runs until a signal ends it or a part fails.
pub(crate) fn run(arguments: UpArguments) -> anyhow::Result<()> {
    let terminal = Terminal::new();
    terminal.log_to_stderr(&arguments.log)?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot be started")?;
    let ended = runtime.block_on(Box::pin(serve(arguments, terminal)));
    // What still waits for an object store is waited for by nobody.
    runtime.shutdown_background();
    ended
}

async fn serve(arguments: UpArguments, terminal: Terminal) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let _lock = preflight::check(&arguments)?;
    let mut node = tokio::select! {
        started = Box::pin(Node::start(&arguments)) => started?,
        () = signals.next() => anyhow::bail!("stopped by a signal before it was ready"),
    };
    terminal.print(&banner::text(&node.places(&arguments), &terminal));
    let demo = match node.take_demo_consumer() {
        Some(consumer) => Some(Demo::start(&node, consumer, terminal.clone())?),
        None => None,
    };
    let showing = async {
        match &demo {
            Some(demo) => demo.show(&node).await,
            None => std::future::pending().await,
        }
    };
    let failure = tokio::select! {
        () = signals.next() => None,
        reason = node.failed() => Some(reason),
        () = showing => None,
    };
    if let Some(reason) = &failure {
        tracing::error!(reason, "stopping");
    }
    let stopping = async {
        if let Some(demo) = demo {
            demo.stop(&node).await;
        }
        Box::pin(node.shutdown()).await;
    };
    tokio::select! {
        () = stopping => {}
        () = signals.next() => {
            terminal.end_status();
            anyhow::bail!("stopped at once by a second signal; what was acknowledged is kept");
        }
    }
    if let Some(reason) = failure {
        anyhow::bail!(
            "{reason}; what was acknowledged is kept, and a new start goes on from there"
        );
    }
    let kept = arguments.data.display();
    terminal.print(&format!("stopped; everything is kept in {kept}"));
    Ok(())
}

/// Ctrl-C and SIGTERM.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
