//! The Kafka listener: any Kafka client reads what edges have landed, and consumer groups share it.
//!
//! Served with the `kafka-protocol` codec; records stay opaque. What is advertised (`api_versions`)
//! is enforced; what is not is refused by closing the connection. It decides nothing about offsets
//! or groups: those are the ledger's and the coordinator's.

mod access;
mod acls;
mod alter_configs;
mod alter_user_scram_credentials;
mod api_versions;
mod auto_create;
mod configs;
mod connection;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_user_scram_credentials;
mod dispatch;
mod fetch;
mod fetch_session;
mod find_coordinator;
mod gate;
mod groups;
mod incremental_alter_configs;
mod init_producer_id;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_delete;
mod offset_for_leader_epoch;
mod offsets;
mod old_produce;
mod produce;
mod refusal;
mod reply_code;
pub(crate) mod sasl;
mod shape;

use std::sync::{Arc, Mutex};

pub(crate) use auto_create::AutoCreate;
use bytes::Bytes;
pub(crate) use create_topics::collision;
pub(crate) use fetch::FetchMemory;
pub(crate) use fetch_session::FetchSession;
pub(crate) use gate::Gate;
use kafka_protocol::messages::{RequestKind, ResponseKind};
pub(crate) use produce::Unpacking;
use tidegate_cloud_protocol::ledger::Target;
use tidegate_shared::id::{PartitionId, TopicId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::coordinator::Coordinator;
use crate::credentials::Credentials;
use crate::limits::KAFKA_CONNECTIONS_MAX;
use crate::metrics::Door;
use crate::tls::{Tls, principal_by_certificate};
use connection::ConnectionError;

/// This node's id; one machine is one node.
const NODE_ID: i32 = 1;

/// Who has not said who it is.
pub(crate) const ANONYMOUS: &str = "User:ANONYMOUS";

/// What every connection needs.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) broker: Broker,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) advertised_host: String,
    pub(crate) advertised_port: u16,
    /// Where the connection's client is, as Kafka shows it: `/192.0.2.7`. Empty before there is a connection.
    pub(crate) client_host: String,
    /// Who the client is, as Kafka writes it: `User:ada`.
    pub(crate) principal: Arc<str>,
    /// Where the listener wants clients to say who they are.
    pub(crate) gate: Option<Gate>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) auto_create: Arc<AutoCreate>,
    pub(crate) unpacking: Arc<Unpacking>,
    /// Permits are KiB of long requests.
    pub(crate) room: Arc<Semaphore>,
    /// Of this connection; a fetch takes it out while it goes on.
    pub(crate) fetch_session: Arc<Mutex<Option<FetchSession>>>,
    pub(crate) fetch_memory: FetchMemory,
    /// Permits are partitions of all connections' fetch sessions.
    pub(crate) session_room: Arc<Semaphore>,
    /// Of this start of the cloud, by chance; 31 bits, and not 0.
    pub(crate) start: u32,
}

impl Context {
    /// What a client of this node would be answered, without a connection of its own. `None` when the node stops meanwhile, and
    /// for what is not served.
    pub(crate) async fn ask(&self, version: i16, request: RequestKind) -> Option<ResponseKind> {
        let RequestKind::Produce(request) = request else {
            return dispatch::handle(self, version, "", request).await;
        };
        let batches = request
            .topic_data
            .iter()
            .flat_map(|topic| &topic.partition_data);
        let bytes = batches
            .map(|one| one.records.as_ref().map_or(0, Bytes::len))
            .sum();
        let producing = produce::begin(self, version, request, bytes).await?;
        match producing.end(self).await? {
            produce::Told::Response(response) => Some(ResponseKind::Produce(response)),
            produce::Told::Nothing | produce::Told::Refused => None,
        }
    }

    /// A partition, by its topic's id, or else its name (whichever the request's version has).
    fn topic_id(&self, name: &str, id: uuid::Uuid) -> Option<TopicId> {
        self.broker.ledger(|ledger| match id.is_nil() {
            true => ledger.topic_id(name),
            false => Some(TopicId(id.as_u128())).filter(|id| ledger.topic(*id).is_some()),
        })
    }
}

fn target(topic_id: TopicId, partition: i32) -> Target {
    Target {
        topic_id,
        partition: PartitionId(partition),
    }
}

/// Accepts connections until `shutdown` changes; then ends them all.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    context: Context,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() >= KAFKA_CONNECTIONS_MAX => {
                    tracing::warn!(%peer, "kafka: refused: {KAFKA_CONNECTIONS_MAX} connections are open");
                    drop(stream);
                }
                Ok((stream, peer)) => {
                    let context = Context {
                        client_host: format!("/{}", peer.ip().to_canonical()),
                        fetch_session: Arc::default(),
                        ..context.clone()
                    };
                    connections.spawn(connect(stream, tls.clone(), peer.to_string(), context));
                }
                Err(error) => {
                    tracing::warn!(%error, "kafka: cannot accept a connection");
                    // Out of file descriptors: accepting again at once would spin.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    context.broker.metrics().kafka_failed_connections.inc();
                    tracing::error!(%error, "kafka: a connection's task has failed");
                }
            }
            _ = shutdown.changed() => break,
        }
    }
    connections.shutdown().await;
}

/// Counts the connection for as long as it lives, however it ends.
struct Open(Context);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.broker.metrics().kafka_connections.dec();
    }
}

async fn connect(stream: TcpStream, tls: Option<Tls>, peer: String, context: Context) {
    context.broker.metrics().kafka_connections.inc();
    let mut open = Open(context);
    if let Err(error) = serve_one(stream, tls, &mut open.0).await {
        if error.is_own_failure() {
            open.0.broker.metrics().kafka_failed_connections.inc();
        }
        if error.is_at_the_gate() {
            open.0.broker.metrics().refused_at(Door::Kafka);
            tracing::warn!(peer, %error, "kafka: not let in");
        } else if error.is_bad_request() {
            open.0.broker.metrics().kafka_bad_requests.inc();
            tracing::warn!(peer, %error, "kafka: connection closed");
        } else {
            tracing::debug!(peer, %error, "kafka: connection ended");
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    tls: Option<Tls>,
    context: &mut Context,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let (reader, writer) = stream.into_split();
        return connection::serve(reader, writer, context).await;
    };
    let stream = tls.accept(stream).await.map_err(ConnectionError::Tls)?;
    if let Some(principal) = principal_by_certificate(&stream) {
        context.principal = principal;
    }
    let (reader, writer) = tokio::io::split(stream);
    connection::serve(reader, writer, context).await
}
