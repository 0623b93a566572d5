//! The MQTT driver: listeners, and a task for each connection.

mod driver;
mod mailbox;
mod publishing;
mod serving;
mod transport;
mod wills;
mod wire;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_edge_journal::JournalReader;
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_shared::fleet::MqttSpec;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::committer::Committer;
use crate::limits::{
    CERTIFICATES_INTERVAL, HANDSHAKE_TIMEOUT, INFLIGHT_INBOUND_MAX, SWEEP_INTERVAL,
};
use crate::metrics::Metrics;
use crate::retained::Retained;
use crate::router::Router;
use crate::rows::in_pieces;
use crate::sessions::{Clock, Sessions};

use driver::{Running, Task};
pub(crate) use mailbox::{Answer, Letter, Mailbox};
use transport::Arrival;
pub(crate) use transport::{Listener, Tls};

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
    connection_ids: Arc<AtomicU64>,
}

impl Context {
    pub(crate) fn new(
        spec: &MqttSpec,
        sessions: Arc<Sessions>,
        retained: Arc<Retained>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let packet_bytes_max = NonZeroU32::new(spec.packet_bytes_max.0 as u32);
        let defaults = ConnectionLimits::default();
        let limits = ConnectionLimits {
            packet_bytes_max: packet_bytes_max.unwrap_or(defaults.packet_bytes_max),
            inflight_inbound_max: INFLIGHT_INBOUND_MAX,
            ..defaults
        };
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
            limits,
            connections_max,
            connection_ids,
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

/// Reads the certificates of listeners again when they change, until told to stop.
pub(crate) async fn renew(certificates: Vec<Arc<Tls>>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATES_INTERVAL) => {}
            _ = stopping.changed() => return,
        }
        reload(&certificates, false).await;
    }
}

/// Reads the certificates again, where they changed or `anyway`.
pub(crate) async fn reload(certificates: &[Arc<Tls>], anyway: bool) {
    for tls in certificates {
        let tls = Arc::clone(tls);
        // It reads files.
        let reloading = tokio::task::spawn_blocking(move || tls.reload(anyway));
        let _ = reloading.await;
    }
}

/// Takes connections until told to stop; then lets each say goodbye.
pub(crate) async fn serve(
    listener: Listener,
    context: Context,
    mut stopping: watch::Receiver<bool>,
) {
    let (mut connections, context) = (JoinSet::new(), Arc::new(context));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(arrival) => open(&mut connections, arrival, &context, &stopping),
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
    arrival: Arrival,
    context: &Arc<Context>,
    stopping: &watch::Receiver<bool>,
) {
    let open = context.metrics.mqtt_connections.get();
    if open >= context.connections_max as i64 {
        tracing::warn!(peer = %arrival.peer, open, "mqtt: too many connections: this one is closed");
        context.metrics.closed("too_many_connections");
        return;
    }
    context.metrics.mqtt_connections.inc();
    let metrics = Arc::clone(&context.metrics);
    // Boxed here and not within: what is spawned would have room for what goes into the box, too.
    let attending = Box::pin(attend(arrival, Arc::clone(context), stopping.clone()));
    connections.spawn(async move {
        attending.await;
        metrics.mqtt_connections.dec();
    });
}

/// Does the handshakes, and runs the connection to its end.
async fn attend(arrival: Arrival, context: Arc<Context>, stopping: watch::Receiver<bool>) {
    // Nothing of it is left behind while the connection runs.
    if let Some(running) = Box::pin(begin(arrival, context, stopping)).await {
        running.await;
    }
}

async fn begin(
    arrival: Arrival,
    context: Arc<Context>,
    mut stopping: watch::Receiver<bool>,
) -> Option<Running> {
    let came_from = arrival.peer;
    let opened = tokio::select! {
        opened = timeout(HANDSHAKE_TIMEOUT, arrival.open()) => opened,
        _ = stopping.changed() => return None,
    };
    let why = match opened {
        Ok(Ok((socket, peer))) => {
            let task = Task::new(socket, peer, Context::clone(&context));
            return Some(driver::run(task, stopping));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    context.metrics.closed("handshake");
    tracing::warn!(peer = %came_from, why, "mqtt: no connection came of a handshake");
    None
}
