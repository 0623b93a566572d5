//! The MQTT driver: listeners, and a task for each connection.

mod addressed;
mod authentication;
mod checking;
mod delayed;
mod doors;
mod driver;
mod events;
mod inlet;
mod mailbox;
mod offered;
mod outbox;
mod posted;
mod priority;
mod publishing;
mod queueing;
mod rights;
mod scram;
mod serving;
#[cfg(test)]
mod sizes;
mod sparkplug;
mod subscribing;
mod taking_in;
mod tokens;
mod topic_rules;
mod transport;
mod turn;
mod wills;
mod wire;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::metrics::gauge::Gauge;
use tidegate_edge_journal::JournalReader;
use tidegate_edge_protocol::mqtt::authentication::Turn;
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tidegate_shared::fleet::{ListenerSpec, MqttSpec};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::committer::Committer;
use crate::delayed::Delayed;
use crate::limits::{HANDSHAKE_TIMEOUT, SWEEP_INTERVAL};
use crate::metrics::Metrics;
use crate::retained::Retained;
use crate::router::{ConnectionId, Router};
use crate::rows::in_pieces;
use crate::sessions::{Clock, Sessions};

use offered::{ListenerLimits, Redirects, connection_limits};

pub(crate) use delayed::publish_delayed;
pub(crate) use doors::{Doors, Files, examine_doors};
pub(crate) use inlet::{Inlet, Offered};
pub(crate) use mailbox::{Answer, Letter, Mailbox};
pub(crate) use topic_rules::TopicRules;
use transport::{Arrival, Peer};
pub(crate) use transport::{Listener, Tls};

/// What every connection works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub router: Arc<Router>,
    pub committer: Committer,
    pub reader: JournalReader,
    pub sessions: Arc<Sessions>,
    pub retained: Arc<Retained>,
    pub delayed: Arc<Delayed>,
    /// The last of each topic of the server's own.
    pub system: Arc<Retained>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub limits: Arc<ConnectionLimits>,
    pub connections_max: usize,
    /// The largest record that the journal takes.
    pub record_bytes_max: usize,
    /// Of the connection's own listener.
    pub listener: ListenerLimits,
    /// Where each CONNECT is sent instead, and who is connected when the node stops.
    pub redirect: Redirects,
    pub doors: Doors,
    pub topics: Arc<TopicRules>,
    /// The connection's listener does.
    pub lets_anonymous_in: bool,
    connection_ids: Arc<AtomicU64>,
    /// Connections of all listeners, to be told when the node stops.
    open: Arc<Open>,
}

/// Messages that a journal has as rows, and how large a message's record may be.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub record_bytes_max: usize,
    pub retained: Retained,
    pub delayed: Delayed,
}

/// The mailboxes of open connections.
#[derive(Debug, Default)]
struct Open(Mutex<BTreeMap<ConnectionId, Arc<Mailbox>>>);

impl Open {
    fn insert(&self, id: ConnectionId, mailbox: &Arc<Mailbox>) {
        self.lock().insert(id, Arc::clone(mailbox));
    }

    fn remove(&self, id: ConnectionId) {
        self.lock().remove(&id);
    }

    /// The rules have changed.
    fn judge_again(&self) {
        for mailbox in self.lock().values() {
            mailbox.judge_again();
        }
    }

    fn shut_down(&self) {
        for mailbox in self.lock().values() {
            mailbox.shut_down(ReasonCode::ServerShuttingDown);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Arc<Mailbox>>> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Context {
    pub(crate) fn new(
        spec: &MqttSpec,
        doors: Doors,
        sessions: Arc<Sessions>,
        kept: Kept,
        topics: TopicRules,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let connections_max = spec.connections_max;
        let connection_ids = Arc::new(AtomicU64::new(1));
        Arc::new(Self {
            router: Arc::clone(&sessions.router),
            committer: sessions.committer.clone(),
            reader: sessions.committer.reader().clone(),
            clock: sessions.clock,
            sessions,
            retained: Arc::new(kept.retained),
            delayed: Arc::new(kept.delayed),
            system: Arc::default(),
            metrics,
            limits: Arc::new(connection_limits(spec, &spec.limits)),
            connections_max,
            record_bytes_max: kept.record_bytes_max,
            listener: ListenerLimits::new(&spec.limits, Gauge::default()),
            redirect: Redirects::new(spec.redirect.as_ref()),
            doors,
            topics: Arc::new(topics),
            lets_anonymous_in: false,
            connection_ids,
            open: Arc::default(),
        })
    }

    /// The same for the connections of one listener.
    pub(crate) fn for_listener(
        &self,
        spec: &MqttSpec,
        listener: &ListenerSpec,
        address: Option<SocketAddr>,
    ) -> Arc<Self> {
        let limits = spec.limits_of(listener);
        // A port that was given where the spec said 0.
        let name = address.map_or_else(|| listener.address.to_string(), |ip| ip.to_string());
        let connections = self.metrics.listener_connections(name);
        Arc::new(Self {
            limits: Arc::new(connection_limits(spec, &limits)),
            listener: ListenerLimits::new(&limits, connections),
            lets_anonymous_in: listener.lets_anonymous_in(spec.knows_users()),
            ..self.clone()
        })
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
pub(crate) async fn sweep(context: Arc<Context>, mut stopping: watch::Receiver<bool>) {
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
    listener: Listener,
    context: Arc<Context>,
    mut stopping: watch::Receiver<bool>,
) {
    // Each connection has one until its end.
    let (alive, mut ended) = mpsc::channel::<Infallible>(1);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(arrival) => open(alive.clone(), arrival, &context, &stopping),
                Err(error) => {
                    // Out of file descriptors, mostly: it passes when somebody leaves.
                    tracing::warn!(%error, "mqtt: a connection could not be taken");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            _ = stopping.changed() => break,
        }
    }
    context.open.shut_down();
    drop(alive);
    let _ = ended.recv().await;
}

fn open(
    alive: mpsc::Sender<Infallible>,
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
    if context.listener.is_full() {
        let (peer, connections_max) = (arrival.peer, context.listener.connections_max);
        tracing::warn!(%peer, connections_max, "mqtt: too many connections of this listener: this one is closed");
        context.metrics.closed("too_many_of_listener");
        return;
    }
    let seat = Seat::take(context, alive);
    let opening = Box::pin(shake_hands(arrival, seat, stopping.clone()));
    tokio::spawn(driver::run(opening));
}

/// A connection's place among those that are open, from its first byte to its end, whatever that is.
#[derive(Debug)]
struct Seat {
    context: Arc<Context>,
    _alive: mpsc::Sender<Infallible>,
}

impl Seat {
    fn take(context: &Arc<Context>, alive: mpsc::Sender<Infallible>) -> Self {
        context.metrics.mqtt_connections.inc();
        context.listener.connections.inc();
        Self {
            context: Arc::clone(context),
            _alive: alive,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.context.metrics.mqtt_connections.dec();
        self.context.listener.connections.dec();
    }
}

async fn shake_hands(
    arrival: Arrival,
    seat: Seat,
    mut stopping: watch::Receiver<bool>,
) -> Option<Box<driver::Task>> {
    let came_from = arrival.peer;
    let opened = tokio::select! {
        opened = timeout(HANDSHAKE_TIMEOUT, arrival.open()) => opened,
        _ = stopping.changed() => return None,
    };
    let why = match opened {
        Ok(Ok(opened)) => {
            let has_had_turn = await_turn(opened.peer, &seat, &mut stopping).await?;
            let is_stopping = || *stopping.borrow();
            let mut task = driver::begin(opened, seat, is_stopping);
            task.has_had_turn = has_had_turn;
            return Some(task);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    seat.context.metrics.closed("handshake");
    tracing::warn!(peer = %came_from, why, "mqtt: no connection came of a handshake");
    None
}

/// Who comes from an address that has failed to prove a name often is not heard at once.
/// Gives whether it had a turn of its own; `None`: it has none.
async fn await_turn(peer: Peer, seat: &Seat, stopping: &mut watch::Receiver<bool>) -> Option<bool> {
    let wait = match seat.context.doors.turn(peer) {
        Turn::Now => return Some(false),
        Turn::After(wait) => wait,
        Turn::Never => {
            seat.context.metrics.mqtt_turned_away_connections.inc();
            tracing::debug!(%peer, "mqtt: too many from this address wait after failures: this one is closed");
            return None;
        }
    };
    seat.context.metrics.mqtt_slowed_connections.inc();
    tokio::select! {
        () = tokio::time::sleep(wait) => Some(true),
        _ = stopping.changed() => None,
    }
}
