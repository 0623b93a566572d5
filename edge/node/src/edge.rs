//! The whole node: opens the journal, binds the listeners, starts the uplink, and ends them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};
use tidegate_bridge::{Credentials, Tasks};
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_journal::{Journal, JournalReader};
use tidegate_shared::data_lock::DataLock;
use tidegate_shared::fleet::{EdgeSpec, UplinkSpec, parse_yaml};
use tidegate_shared::id::{EdgeId, StoreId, StreamId, StreamName, TopicName};
use tidegate_shared::record::Compression;
use tidegate_shared::topic::TopicFilter;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::committer::Committer;
use crate::delayed::Delayed;
use crate::doctor::card;
use crate::lanes::{self, KeyedStreams};
use crate::metrics::Metrics;
use crate::mqtt;
use crate::open_files;
use crate::policy::policy_of;
use crate::record::origin_headers;
use crate::retained::Retained;
use crate::router::{Route, Router};
use crate::sessions::{Clock, Loaded, Sessions};
use crate::source::Source;
use crate::uplink::Uplink;

/// A stream of this node alone, which is never uplinked.
const UNROUTED_STREAM: &str = "_unrouted";

/// A running edge node.
#[derive(Debug)]
pub struct Edge {
    id: Option<EdgeId>,
    committer: Committer,
    metrics: Arc<Metrics>,
    mqtt_addresses: Vec<SocketAddr>,
    mqtt_listeners: Vec<String>,
    files: mqtt::Files,
    http_address: SocketAddr,
    shutdown: watch::Sender<bool>,
    tasks: Tasks,
    _lock: DataLock,
}

/// Messages so far: received since the start; stored and landed ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeCounters {
    pub received: u64,
    pub stored: u64,
    pub landed: u64,
}

/// Reads `edge.yaml`. Relative paths in it start at its folder.
///
/// # Errors
/// One line with the file's path, and the line where the YAML is at fault.
pub fn load_spec(path: &Path) -> anyhow::Result<EdgeSpec> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    let shown = path.display();
    let mut spec: EdgeSpec = parse_yaml(&text).map_err(|error| anyhow!("{shown}: {error}"))?;
    spec.check().with_context(|| shown.to_string())?;
    mqtt::TopicRules::new(&spec.mqtt).with_context(|| shown.to_string())?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for tls in spec
        .mqtt
        .listeners
        .iter_mut()
        .filter_map(|listener| listener.tls.as_mut())
    {
        tls.resolve(folder);
    }
    if let Some(uplink) = &mut spec.uplink {
        for path in [&mut uplink.certificate, &mut uplink.key, &mut uplink.ca] {
            *path = folder.join(&path);
        }
    }
    for source in &mut spec.sources {
        source.resolve(folder);
    }
    let mqtt = &mut spec.mqtt;
    if let Some(jwt) = &mut mqtt.jwt {
        jwt.resolve(folder);
    }
    let files = [&mut mqtt.users, &mut mqtt.acl, &mut mqtt.blocked];
    for path in files.into_iter().flatten() {
        *path = folder.join(&path);
    }
    Ok(spec)
}

impl Edge {
    /// Starts a node: returns once its journal is open and its listeners answer.
    ///
    /// # Errors
    /// With what to do about it: the folder is in use, the journal is damaged, a port is taken.
    pub async fn start(mut spec: EdgeSpec) -> anyhow::Result<Self> {
        spec.check()?;
        spec.mqtt.connections_max = open_files::connections_max(
            spec.mqtt.connections_max,
            open_files::raise_limit(),
            log_files_max(&spec),
        );
        let credentials = spec.uplink.as_ref().map(load_credentials).transpose()?;
        let id = credentials
            .map(|credentials| credentials.edge_id())
            .transpose()?;
        let lock = DataLock::take(&spec.data)?;
        let doors = mqtt::Doors::load(&spec.mqtt, &spec.data)?;
        let topics = mqtt::TopicRules::new(&spec.mqtt)?;
        let mut listeners = Vec::new();
        for listener in &spec.mqtt.listeners {
            let packet_bytes_max = spec.mqtt.packet_bytes_max.0 as usize;
            listeners.push(mqtt::Listener::bind(listener, packet_bytes_max).await?);
        }
        let http = bind("http.address", spec.http.address).await?;
        let (opening, name) = (spec.clone(), id.clone());
        let Opened {
            journal,
            keyed,
            routes,
            unrouted,
            loaded,
            kept,
        } = tokio::task::spawn_blocking(move || open_journal(&opening, name.as_ref())).await??;
        let clock = Clock::new(journal.reader().time());
        let compression = compressions(&journal.reader(), &spec);
        let linger = spec.journal.commit_linger.0;
        let committer = Committer::start(journal, keyed, linger, unrouted)?;
        let metrics = Arc::new(Metrics::default());
        let router = Arc::new(Router::new(routes, unrouted));
        let sessions = Sessions::new(
            committer.clone(),
            Arc::clone(&router),
            clock,
            backlog_bytes_max(&spec),
            loaded,
        );
        let of_metrics = Arc::clone(&metrics);
        let context = mqtt::Context::new(&spec.mqtt, doors, sessions, kept, topics, of_metrics);
        let (shutdown, stopping) = watch::channel(false);
        let mut tasks = Tasks::default();
        let (mut mqtt_addresses, mut mqtt_listeners) = (Vec::new(), Vec::new());
        let certificates: Vec<_> = listeners.iter().filter_map(mqtt::Listener::tls).collect();
        let files = mqtt::Files::new(Arc::clone(&context), certificates);
        tasks.spawn(
            "the watch over files",
            files.clone().watch(stopping.clone()),
        );
        for (listener, described) in listeners.into_iter().zip(&spec.mqtt.listeners) {
            let address = listener.local_address()?;
            mqtt_addresses.extend(address);
            mqtt_listeners.push(listener.described()?);
            let context = context.for_listener(&spec.mqtt, described, address);
            let serve = mqtt::serve(listener, context, stopping.clone());
            tasks.spawn("an MQTT listener", serve);
        }
        let http_address = http.local_addr()?;
        let service = crate::http::router(crate::http::Context {
            sessions: Arc::clone(&context.sessions),
            retained: Arc::clone(&context.retained),
            delayed: Arc::clone(&context.delayed),
            metrics: Arc::clone(&metrics),
            edge: id.clone(),
            unrouted,
        });
        let serve = crate::http::serve(http, service, stopping.clone());
        tasks.spawn("the HTTP listener", serve);
        let sys_interval = spec.mqtt.sys_interval.0;
        let system = crate::system::run(Arc::clone(&context), sys_interval, stopping.clone());
        tasks.spawn("$SYS", system);
        let delayed = mqtt::publish_delayed(Arc::clone(&context), stopping.clone());
        tasks.spawn("the delayed messages", delayed);
        for source in spec.sources.clone() {
            let what = format!("the source {}", source.name);
            let (pause, stop) = (source.mqtt.reconnect_max.0, stopping.clone());
            let (spec, context) = (spec.clone(), Arc::clone(&context));
            let begin = move || {
                let source = Source::new(&source, &spec, &context);
                Ok::<_, Infallible>(Box::pin(source.run(stop.clone())))
            };
            tasks.keep_up(what, pause, stopping.clone(), begin)?;
        }
        let sweep = mqtt::sweep(context, stopping.clone());
        tasks.spawn("the sweep of what is over", sweep);
        if let (Some(uplink), Some(id)) = (&spec.uplink, id.clone()) {
            let (committer, metrics) = (committer.clone(), Arc::clone(&metrics));
            let (pause, stop) = (uplink.reconnect_max.0, stopping.clone());
            let (uplink, priorities) = (uplink.clone(), spec.priorities());
            let begin = move || {
                let credentials = load_credentials(&uplink)?;
                ensure!(
                    credentials.edge_id()? == id,
                    "the certificate is another edge's"
                );
                let uplink = Uplink::new(
                    &uplink,
                    credentials,
                    committer.clone(),
                    compression.clone(),
                    priorities.clone(),
                    unrouted,
                    Arc::clone(&metrics),
                )?;
                anyhow::Ok(Box::pin(uplink.run(stop.clone())))
            };
            tasks.keep_up("the uplink".to_owned(), pause, stopping, begin)?;
        }
        let edge = Self {
            id,
            committer,
            metrics,
            mqtt_addresses,
            mqtt_listeners,
            files,
            http_address,
            shutdown,
            tasks,
            _lock: lock,
        };
        edge.announce(&spec);
        Ok(edge)
    }

    fn announce(&self, spec: &EdgeSpec) {
        let id = self.id.as_ref().map_or("(no uplink)", EdgeId::as_str);
        tracing::info!(
            edge = id,
            mqtt = %format_args!("[{}]", self.mqtt_listeners.join(", ")),
            http = %self.http_address,
            data = %spec.data.display(),
            "the edge is ready"
        );
        let shown = spec
            .mqtt
            .listeners
            .iter()
            .filter(|listener| listener.shows_passwords());
        for listener in shown.filter(|_| spec.mqtt.knows_users()) {
            let address = &listener.address;
            tracing::warn!(%address, "passwords can be read on the way to this listener: give it tls");
        }
        if self.mqtt_listeners.is_empty() {
            tracing::warn!("no MQTT client can connect: mqtt.listeners is empty");
        }
    }

    /// Who this edge is, by its certificate.
    pub fn id(&self) -> Option<&EdgeId> {
        self.id.as_ref()
    }

    /// Reads again what may change without a restart: the certificates of listeners, `mqtt.users`,
    /// `mqtt.jwt` and `mqtt.acl`. What cannot be used is logged, and the old one stays.
    pub async fn reload(&self) {
        self.files.reload(true).await;
    }

    /// Where MQTT clients are served, but for Unix sockets; the ports that were given where the spec said 0.
    pub fn mqtt_addresses(&self) -> Vec<SocketAddr> {
        self.mqtt_addresses.clone()
    }

    /// Where and over what MQTT clients are served, Unix sockets among them, in the spec's order.
    pub fn mqtt_listeners(&self) -> &[String] {
        &self.mqtt_listeners
    }

    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    pub fn counters(&self) -> EdgeCounters {
        let streams = self.committer.reader().streams();
        EdgeCounters {
            received: self.metrics.messages_received.get(),
            stored: streams.iter().map(|stream| stream.next.0).sum(),
            landed: streams.iter().map(|stream| stream.landed.0).sum(),
        }
    }

    /// Returns true once the committer has had its turn: the node can do what it is for. False where it has
    /// ended.
    pub async fn answers(&self) -> bool {
        self.committer.answers().await
    }

    /// Returns when the node is of no use any more, with the reason: its journal has failed, or a task. A new start opens
    /// all anew.
    pub async fn failed(&self) -> String {
        tokio::select! {
            reason = self.committer.failed() => format!("the journal failed: {reason}"),
            what = self.tasks.failed() => format!("a panic ended {what}"),
        }
    }

    /// Says goodbye to clients and hub, commits what is queued, and leaves nothing to replay.
    pub async fn shutdown(mut self) {
        self.shutdown.send_replace(true);
        while let Some(ended) = self.tasks.ended().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the edge has failed");
            }
        }
        self.committer.stop().await;
    }
}

/// Half of the journal at most: sessions must not keep streams from going on.
fn backlog_bytes_max(spec: &EdgeSpec) -> u64 {
    let journal = spec.journal.bytes_max.0 / 2;
    spec.mqtt.session_backlog_bytes_max.0.min(journal)
}

pub(crate) fn log_files_max(spec: &EdgeSpec) -> usize {
    (spec.journal.bytes_max.0 as usize / Limits::default().log_file_bytes).max(4)
}

fn load_credentials(uplink: &UplinkSpec) -> anyhow::Result<Credentials> {
    Credentials::load(&uplink.certificate, &uplink.key, &uplink.ca).context("uplink")
}

/// A journal, and what the node has in it.
struct Opened {
    journal: Journal,
    keyed: KeyedStreams,
    routes: Vec<(TopicFilter, Route)>,
    /// Keeps what no route takes and a client session wants.
    unrouted: StreamId,
    loaded: Loaded,
    kept: mqtt::Kept,
}

/// Opens the journal, and in it the stream of each route.
fn open_journal(spec: &EdgeSpec, edge: Option<&EdgeId>) -> anyhow::Result<Opened> {
    let defaults = Limits::default();
    let limits = Limits {
        commit_bytes_max: spec.journal.commit_bytes_max.0 as usize,
        // A packet's properties take more as record headers than they did in the packet.
        record_bytes_max: (spec.mqtt.packet_bytes_max.0 as usize)
            .min(spec.journal.commit_bytes_max.0 as usize),
        log_files_max: log_files_max(spec),
        free_disk_min_bytes: spec.journal.free_disk_min.0,
        ..defaults
    };
    card::judge_at_start(&spec.data);
    let folder = spec.data.join("journal");
    let medium = Directory::open(&folder)
        .with_context(|| format!("the journal's folder {} cannot be used", folder.display()))?;
    let new_store_id = StoreId(random_id()?);
    let (mut journal, report) = Journal::open(Arc::new(medium), limits, new_store_id)
        .with_context(|| format!("the journal in {} cannot be opened", folder.display()))?;
    for damage in &report.damage {
        tracing::error!(damage, "the journal was damaged");
    }
    for name in &report.set_aside {
        tracing::error!(folder = %folder.display(), name, "set aside; delete it once it is of no use");
    }
    if report.gap_records + report.records_lost > 0 {
        let (declared, unknown) = (report.gap_records, report.records_lost);
        tracing::error!(
            declared,
            unknown,
            "messages were lost with what was damaged"
        );
    }
    if report.created || report.index_lost {
        tracing::info!(folder = %folder.display(), "a new journal");
    } else {
        let (frames, records) = (report.frames_replayed, report.records_replayed);
        tracing::info!(
            frames,
            records,
            "the journal is open; replayed past the checkpoint"
        );
    }
    // Before anything is committed: rows are read as the opening's checkpoint left them.
    let loaded = Loaded::read(&journal)?;
    let kept = mqtt::Kept {
        record_bytes_max: limits.record_bytes_max,
        retained: Retained::load(&journal)?,
        delayed: Delayed::load(&journal)?,
    };
    let stored = lanes::load(&journal)?;
    let keyed = KeyedStreams::default();
    let mut routes = Vec::new();
    for route in &spec.routes {
        let name = &route.stream;
        let of_name = stored.get(name.as_str().as_bytes());
        let stream = match keyed.open(&mut journal, spec, name, of_name)? {
            Some(stream) => stream,
            None => {
                let topic = spec.topic_of(name)?;
                let stream = journal.open_stream(name, &topic, spec.compression_of(name))?;
                journal.set_policy(stream, policy_of(spec, name));
                stream
            }
        };
        routes.push((
            route.filter.clone(),
            Route {
                stream,
                key: route.key,
                origin: origin_headers(spec, name, edge),
                priority: route.priority,
            },
        ));
    }
    let (name, topic) = (
        StreamName::new(UNROUTED_STREAM)?,
        TopicName::new(UNROUTED_STREAM)?,
    );
    let unrouted = journal.open_stream(&name, &topic, Compression::default())?;
    journal.commit()?;
    keyed.opened(&mut journal, &stored)?;
    journal.commit()?;
    Ok(Opened {
        journal,
        keyed,
        routes,
        unrouted,
        loaded,
        kept,
    })
}

fn compressions(reader: &JournalReader, spec: &EdgeSpec) -> BTreeMap<StreamId, Compression> {
    let streams = reader.streams().into_iter();
    streams
        .map(|stream| (stream.stream, spec.compression_of(&stream.name)))
        .collect()
}

fn random_id() -> io::Result<u128> {
    let mut bytes = [0; 16];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| bind_error(key, address, &error))
}

/// Why nothing listens at an address, and what to do about it.
pub(crate) fn bind_error(key: &str, address: SocketAddr, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "port {} is in use on {}: stop what listens there, or change {key}",
            address.port(),
            address.ip()
        ),
        _ => anyhow!("cannot listen on {address} ({key}): {error}"),
    }
}
