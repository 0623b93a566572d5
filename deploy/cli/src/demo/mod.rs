//! `up --demo`: this host as a device. It publishes the host's readings over MQTT to the edge's own
//! listener, consumes them from Kafka over TCP, and counts them on their way. It touches nothing
//! inside the nodes but the edge's counters.

mod publisher;
mod readings;
mod status;
mod watcher;

use std::time::Duration;

use tidegate_edge::EdgeCounters;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::kafka_client::Consumer;
use crate::terminal::Terminal;
use crate::up::Node;
pub(crate) use readings::topic_level;
use status::Status;
use watcher::Watched;

const STATUS_REWRITTEN_EACH: Duration = Duration::from_millis(250);
const STATUS_LINE_EACH: Duration = Duration::from_secs(10);

/// A running demo.
#[derive(Debug)]
pub(crate) struct Demo {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    watched: Watched,
    /// What the edge had counted before: it counts for ever, and the status line since the start.
    before: EdgeCounters,
    terminal: Terminal,
}

impl Demo {
    pub(crate) fn start(
        node: &Node,
        consumer: Consumer,
        terminal: Terminal,
    ) -> anyhow::Result<Self> {
        let before = node.edge().counters();
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let watched = Watched::default();
        tasks.spawn(watcher::run(consumer, watched.clone(), stopping.clone()));
        let host = topic_level(node.host());
        tasks.spawn(publisher::run(node.mqtt()?, host, stopping));
        Ok(Self {
            stop,
            tasks,
            watched,
            before,
            terminal,
        })
    }

    /// Shows the status until it is dropped.
    pub(crate) async fn show(&self, node: &Node) {
        let each = match self.terminal.rewrites() {
            true => STATUS_REWRITTEN_EACH,
            false => STATUS_LINE_EACH,
        };
        loop {
            tokio::time::sleep(each).await;
            self.show_once(node);
        }
    }

    /// Ends the device's connection and the consumer, and shows how far all came.
    pub(crate) async fn stop(mut self, node: &Node) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.show_once(node);
        self.terminal.end_status();
    }

    fn show_once(&self, node: &Node) {
        let status = Status::new(self.before, node.edge().counters(), &self.watched);
        self.terminal.status(&status.to_string());
    }
}
