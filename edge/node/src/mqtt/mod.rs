//! The MQTT driver: listeners, and a task for each connection.

mod driver;
mod mailbox;
mod offered;
mod publishing;
mod scram;
mod serving;
mod wills;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use tidegate_edge_journal::JournalReader;
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_shared::fleet::{ListenerSpec, MqttSpec};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::committer::Committer;
use crate::limits::SWEEP_INTERVAL;
use crate::metrics::Metrics;
use crate::retained::Retained;
use crate::router::Router;
use crate::rows::in_pieces;
use crate::sessions::{Clock, Sessions};

use offered::{ListenerLimits, Redirects, connection_limits};

pub(crate) use mailbox::{Answer, Letter, Mailbox};
pub(crate) use scram::Scram;

/// What every connection works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub router: Arc<Router>,
    pub committer: Committer,
    pub reader: JournalReader,
    pub sessions: Arc<Sessions>,
    pub retained: Arc<Retained>,
    /// The last of each topic of the server's own.
    pub system: Arc<Retained>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub limits: ConnectionLimits,
    pub connections_max: usize,
    /// Of the connection's own listener.
    pub listener: ListenerLimits,
    /// Where each CONNECT is sent instead, and who is connected when the node stops.
    pub redirect: Redirects,
    pub scram: Scram,
    connection_ids: Arc<AtomicU64>,
}

impl Context {
    pub(crate) fn new(
        spec: &MqttSpec,
        sessions: Arc<Sessions>,
        retained: Arc<Retained>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let connections_max = spec.connections_max;
        let connection_ids = Arc::new(AtomicU64::new(1));
        Self {
            router: Arc::clone(&sessions.router),
            committer: sessions.committer.clone(),
            reader: sessions.committer.reader().clone(),
            clock: sessions.clock,
            sessions,
            retained,
            system: Arc::default(),
            metrics,
            limits: connection_limits(spec, &spec.limits),
            connections_max,
            listener: ListenerLimits::new(&spec.limits, Gauge::default()),
            redirect: Redirects::new(spec.redirect.as_ref()),
            scram: Scram::default(),
            connection_ids,
        }
    }

    /// The same for the connections of one listener.
    pub(crate) fn for_listener(
        &self,
        spec: &MqttSpec,
        listener: &ListenerSpec,
        address: SocketAddr,
    ) -> Self {
        let limits = spec.limits_of(listener);
        let connections = self.metrics.listener_connections(address);
        Self {
            limits: connection_limits(spec, &limits),
            listener: ListenerLimits::new(&limits, connections),
            ..self.clone()
        }
    }

    fn sweep_retained(&self) {
        self.retained.sweep(self.clock.now_ms(), |rows| {
            in_pieces(rows).for_each(|rows| self.committer.store(rows, None));
        });
    }

    fn next_id(&self) -> u64 {
        self.connection_ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// Takes expired retained messages away, ends sessions and publishes wills when their time has come, until told to stop.
pub(crate) async fn sweep(context: Context, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            _ = stopping.changed() => return,
        }
        context.sweep().await;
    }
}

/// Takes connections until told to stop; then lets each say goodbye.
pub(crate) async fn serve(
    listener: TcpListener,
    context: Context,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    open(&mut connections, socket, peer, &context, &stopping);
                }
                Err(error) => {
                    // Out of file descriptors, mostly: it passes when somebody leaves.
                    tracing::warn!(%error, "mqtt: a connection could not be taken");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stopping.changed() => break,
        }
    }
    while connections.join_next().await.is_some() {}
}

fn open(
    connections: &mut JoinSet<()>,
    socket: TcpStream,
    peer: SocketAddr,
    context: &Context,
    stopping: &watch::Receiver<bool>,
) {
    let open = context.metrics.mqtt_connections.get();
    if open >= context.connections_max as i64 {
        tracing::warn!(%peer, open, "mqtt: too many connections: this one is closed");
        context.metrics.closed("too_many_connections");
        return;
    }
    if context.listener.is_full() {
        let connections_max = context.listener.connections_max;
        tracing::warn!(%peer, connections_max, "mqtt: too many connections of this listener: this one is closed");
        context.metrics.closed("too_many_of_listener");
        return;
    }
    let _ = socket.set_nodelay(true);
    context.metrics.mqtt_connections.inc();
    context.listener.connections.inc();
    let (context, stopping) = (context.clone(), stopping.clone());
    connections.spawn(async move {
        let (metrics, listener) = (Arc::clone(&context.metrics), context.listener.clone());
        driver::run(socket, peer, context, stopping).await;
        metrics.mqtt_connections.dec();
        listener.connections.dec();
    });
}
