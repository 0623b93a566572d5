//! The `spec` of a profile: all that an edge is asked to be. Every field has a default, so that a
//! lone node runs on an empty file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::{
    AutoSubscribeSpec, ByteSize, JwtSpec, LimitsSpec, ListenerAddress, ListenerSpec, RedirectSpec,
    RewriteSpec, SourceName, SourceSpec, Span, source,
};
use crate::id::{StreamName, TopicName};
use crate::record::Compression;
use crate::topic::TopicFilter;

/// `edge.yaml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeSpec {
    /// The folder that holds everything. Default: `tidegate-edge`.
    pub data: PathBuf,
    pub mqtt: MqttSpec,
    pub http: HttpSpec,
    pub journal: JournalSpec,
    /// Which messages are kept, and in which stream; the first that matches counts. Default: every
    /// topic goes to the stream `telemetry`, keyed by its topic.
    pub routes: Vec<RouteSpec>,
    /// Settings of streams, by name. A stream that is not named here has the defaults.
    pub streams: BTreeMap<StreamName, StreamSpec>,
    /// Brokers that messages are taken from, beside those that devices publish here. Default: none.
    pub sources: Vec<SourceSpec>,
    /// Where the streams land. Without it, the edge keeps them.
    pub uplink: Option<UplinkSpec>,
}

/// How devices connect over MQTT.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MqttSpec {
    /// Default: one on `127.0.0.1:1883`.
    pub listeners: Vec<ListenerSpec>,
    /// The largest packet. Default: `1MiB`.
    pub packet_bytes_max: ByteSize,
    /// Connections at once, over all listeners; fewer where the system lets the node have too few open
    /// files, which it says at its start. Default: 20000.
    pub connections_max: usize,
    /// What a client and a listener may take, where a listener does not say otherwise. Each has a default.
    pub limits: LimitsSpec,
    /// Users who can prove who they are, by a password (user name and password in CONNECT) or by SCRAM-SHA-256
    /// (MQTT 5, enhanced authentication): a file of lines `NAME:HASH` and `NAME:VERIFIER`, as `tidegate-edge passwd
    /// NAME` and `tidegate-edge scram NAME` print them, read again when it changes or on SIGHUP. A relative path starts
    /// at the configuration file's folder. `scram_users` is an older name of it. Default: none; nobody is asked.
    #[serde(alias = "scram_users")]
    pub users: Option<PathBuf>,
    /// Whose signature makes a JSON Web Token count as a client's password. Default: nobody's.
    pub jwt: Option<JwtSpec>,
    /// So many failures to prove a name, of one address, hold nobody up. Past it, who comes from there has a turn one
    /// after the other. Raise it where many devices come from one address. Default: 5.
    pub failures_free: u32,
    /// Whether a client's id must be its user's name, or begin with it and a `/`: so nobody takes another's session, and what
    /// is sent to another's client id. Ids that the node assigns are nobody's. Default: false.
    pub client_id_of_user: bool,
    /// Who may publish and subscribe to what: a YAML file of rules, read again when it changes or on SIGHUP. A
    /// relative path starts at the configuration file's folder. Default: none, and everybody may do everything.
    pub acl: Option<PathBuf>,
    /// Who is kept out, whatever they prove: a YAML file of client ids, users and addresses, read again when it changes
    /// or on SIGHUP. A relative path starts at the configuration file's folder. Default: nobody.
    pub blocked: Option<PathBuf>,
    /// What each client is subscribed to without asking. Default: nothing.
    pub auto_subscribe: Vec<AutoSubscribeSpec>,
    /// Topics of clients that have another name here; the first that matches counts. Default: none.
    pub rewrite: Vec<RewriteSpec>,
    /// Births of Sparkplug B are kept under `$sparkplug/certificates/`, and deaths of nodes say when they are told
    /// (Sparkplug 3.0, an Aware server). Default: false.
    pub sparkplug_aware: bool,
    /// The user property of a message (MQTT 5) that says its priority, from 0 to 9, and counts before its route's.
    /// Messages of one topic may then overtake each other. Default: none.
    pub priority_property: Option<String>,
    /// The longest keep alive that a client of MQTT 5 gets: one that asks for a longer one, or for none,
    /// is told this. Default: none, the client's own counts.
    pub keep_alive_max: Option<Span>,
    /// Where clients are sent instead. Default: nowhere.
    pub redirect: Option<RedirectSpec>,
    /// What of the log one client session may have waiting for it. Past it, the session loses its
    /// oldest, counted. Default: `1GiB`.
    pub session_backlog_bytes_max: ByteSize,
    /// The server's own figures are published under `$SYS/broker` so often. Default: `10s`; `0` is
    /// never.
    pub sys_interval: Span,
}

/// Health and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSpec {
    /// Default: `127.0.0.1:8081`.
    pub address: SocketAddr,
    /// As for MQTT listeners.
    pub insecure: bool,
}

/// The edge's store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSpec {
    /// How long a commit waits for company. Default: `10ms`; `0` is "at once".
    pub commit_linger: Span,
    /// A commit is made at the latest when this much has gathered. Default: `2MiB`.
    pub commit_bytes_max: ByteSize,
    /// What the journal may use on disk. Past it, streams do as their `overflow` says. Default:
    /// `10GiB`.
    pub bytes_max: ByteSize,
    /// Nothing is added to the journal's files with less than this left on the file system. Default:
    /// `256MiB`; `0` is no floor.
    pub free_disk_min: ByteSize,
}

/// Sends what matches to one stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    pub filter: TopicFilter,
    pub stream: StreamName,
    /// Default: `topic`.
    #[serde(default)]
    pub key: RouteKey,
    /// From 0 to 9: what waits with a higher one goes first, to subscribers that are connected and to the cloud.
    /// Default: 0.
    #[serde(default)]
    pub priority: u8,
}

/// What becomes the Kafka record's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKey {
    /// The MQTT topic.
    #[default]
    Topic,
    /// The publisher's client id.
    ClientId,
    /// No key.
    None,
}

/// One stream's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamSpec {
    /// The Kafka topic that it lands in. Default: the stream's name.
    pub topic: Option<TopicName>,
    /// Default: `zstd`.
    pub compression: Compression,
    /// Lanes to begin with: messages of one key keep their order, in a partition of their own, and those
    /// of different keys need not. A topic with more partitions gets more lanes. Default: 0, one order
    /// for all.
    pub lanes: u32,
    pub retention: RetentionSpec,
    /// What happens when the journal is full. Default: `reject`.
    pub overflow: OverflowSpec,
    /// What each record says of where it comes from, in headers of its own. Default: nothing.
    pub headers: BTreeSet<OriginHeader>,
}

/// What an edge can write into a record's headers: what it knows when the record is made. A record's
/// offset is not known then; `tidegate offsets lookup` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginHeader {
    /// `tidegate.edge`: the edge's id. Not there on an edge without an uplink, which has none.
    Edge,
    /// `tidegate.stream`: the stream as routes name it, also where it has lanes.
    Stream,
}

/// How long a stream's records are kept at the edge. What has landed may go at once by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSpec {
    /// What is older goes, landed or not. Only time while the node runs counts. Default: no bound.
    pub age: Option<Span>,
    /// Past it the oldest goes, landed or not. Default: no bound.
    pub bytes: Option<ByteSize>,
    /// What has landed stays for so long, while there is space. Default: `0`.
    pub keep_after_landed: Span,
}

/// What happens to a stream when the journal is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverflowSpec {
    /// What is new is refused.
    #[default]
    Reject,
    /// The oldest goes, and is declared lost.
    DropOldest,
}

/// The way to the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkSpec {
    /// `host:port` of the hub.
    pub cloud: String,
    /// The edge's certificate, its key, and the cloud's CA: PEM files. Relative paths start at the
    /// configuration file's folder.
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
    /// The longest pause between attempts to connect, and the one after a refusal that does not pass by
    /// itself. Default: `30s`.
    #[serde(default = "reconnect_max")]
    pub reconnect_max: Span,
}

/// The default of [`UplinkSpec::reconnect_max`].
pub fn reconnect_max() -> Span {
    Span(Duration::from_secs(30))
}

/// A spec that cannot work or would be unsafe.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    #[error(
        "{key} {address} can be reached from other machines, and clients are not authenticated: use 127.0.0.1, make them prove who they are, or set insecure: true beside it"
    )]
    Exposed {
        key: &'static str,
        address: SocketAddr,
    },
    #[error("mqtt.listeners {0}: {1}")]
    Listener(ListenerAddress, &'static str),
    #[error("{key} is {value}; it must lie between {min} and {max}")]
    Range {
        key: &'static str,
        value: String,
        min: String,
        max: String,
    },
    #[error(
        "mqtt.redirect.server {0:?} is no server, such as other.example:1883: it takes up to 1024 printable ASCII characters"
    )]
    RedirectServer(String),
    #[error(
        "mqtt.auto_subscribe: {0} is shared, and no_local is not for shared subscriptions [MQTT-3.8.3-4]"
    )]
    SharedNoLocal(TopicFilter),
    #[error("sources {0}: {1}")]
    Source(SourceName, String),
    #[error("mqtt.jwt has no key: name a file as secret, public_key or jwks")]
    JwtKeys,
    #[error("uplink.cloud {0:?} is not host:port, such as cloud.example.com:7443")]
    Cloud(String),
    #[error("stream {0} has no topic of its own name: # is for lanes; name a topic under streams")]
    StreamTopic(StreamName),
    #[error("stream {0} has lanes, and a route to it says key: none: lanes are chosen by the key")]
    LanesWithoutKey(StreamName),
}

impl Default for EdgeSpec {
    fn default() -> Self {
        Self {
            data: PathBuf::from("tidegate-edge"),
            mqtt: MqttSpec::default(),
            http: HttpSpec::default(),
            journal: JournalSpec::default(),
            routes: vec![RouteSpec {
                filter: TopicFilter::new("#").expect("it is a filter"),
                stream: StreamName::new("telemetry").expect("it is a name"),
                key: RouteKey::Topic,
                priority: 0,
            }],
            streams: BTreeMap::new(),
            sources: Vec::new(),
            uplink: None,
        }
    }
}

/// Pauses between attempts to connect are at least and at most so long.
const RECONNECT_MAX_RANGE: [Span; 2] = [
    Span(Duration::from_millis(100)),
    Span(Duration::from_secs(3600)),
];

/// Lanes of one stream.
const LANES_MAX: u32 = 1_024;

/// The highest priority of a message.
pub const PRIORITY_MAX: u8 = 9;

/// More often, the figures would be the load.
const SYS_INTERVAL_MIN: Span = Span(Duration::from_millis(100));

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Default for MqttSpec {
    fn default() -> Self {
        Self {
            listeners: vec![ListenerSpec::tcp(loopback(1883), false)],
            packet_bytes_max: ByteSize(1 << 20),
            connections_max: 20_000,
            limits: LimitsSpec::default(),
            users: None,
            jwt: None,
            failures_free: 5,
            client_id_of_user: false,
            acl: None,
            blocked: None,
            auto_subscribe: Vec::new(),
            rewrite: Vec::new(),
            sparkplug_aware: false,
            priority_property: None,
            keep_alive_max: None,
            redirect: None,
            session_backlog_bytes_max: ByteSize(1 << 30),
            sys_interval: Span(Duration::from_secs(10)),
        }
    }
}

impl Default for HttpSpec {
    fn default() -> Self {
        Self {
            address: loopback(8081),
            insecure: false,
        }
    }
}

impl Default for JournalSpec {
    fn default() -> Self {
        Self {
            commit_linger: Span(Duration::from_millis(10)),
            commit_bytes_max: ByteSize(2 << 20),
            bytes_max: ByteSize(10 << 30),
            free_disk_min: ByteSize(256 << 20),
        }
    }
}

impl EdgeSpec {
    /// The topic that a stream lands in.
    pub fn topic_of(&self, stream: &StreamName) -> Result<TopicName, SpecError> {
        match self
            .streams
            .get(stream)
            .and_then(|settings| settings.topic.clone())
        {
            Some(topic) => Ok(topic),
            None => {
                TopicName::new(stream.as_str()).map_err(|_| SpecError::StreamTopic(stream.clone()))
            }
        }
    }

    /// With how many lanes a keyed stream begins; 0: it is not keyed.
    pub fn lanes_of(&self, stream: &StreamName) -> u32 {
        self.streams
            .get(stream)
            .map_or(0, |settings| settings.lanes)
    }

    /// Of streams that have one, by name: the highest of their routes.
    pub fn priorities(&self) -> BTreeMap<StreamName, u8> {
        let mut priorities = BTreeMap::new();
        for route in self.routes.iter().filter(|route| route.priority > 0) {
            let priority = priorities.entry(route.stream.clone()).or_default();
            *priority = route.priority.max(*priority);
        }
        priorities
    }

    /// How a stream's batches are packed.
    pub fn compression_of(&self, stream: &StreamName) -> Compression {
        self.streams
            .get(stream)
            .map(|settings| settings.compression)
            .unwrap_or_default()
    }

    /// Refuses what cannot work or would be unsafe.
    pub fn check(&self) -> Result<(), SpecError> {
        exposed("http.address", self.http.address, self.http.insecure)?;
        let size = |key, value: ByteSize, min, max| {
            let (min, max) = (ByteSize(min), ByteSize(max));
            if (min..=max).contains(&value) {
                return Ok(());
            }
            let (value, min, max) = (value.to_string(), min.to_string(), max.to_string());
            Err(SpecError::Range {
                key,
                value,
                min,
                max,
            })
        };
        // A packet's record must fit a commit, and a commit a log file of 8 MiB.
        size(
            "mqtt.packet_bytes_max",
            self.mqtt.packet_bytes_max,
            1 << 10,
            1 << 20,
        )?;
        // It is cut at the beginnings of log files.
        size(
            "mqtt.session_backlog_bytes_max",
            self.mqtt.session_backlog_bytes_max,
            16 << 20,
            1 << 44,
        )?;
        size(
            "journal.commit_bytes_max",
            self.journal.commit_bytes_max,
            64 << 10,
            2 << 20,
        )?;
        size(
            "journal.bytes_max",
            self.journal.bytes_max,
            64 << 20,
            1 << 44,
        )?;
        if self.journal.commit_linger > Span(Duration::from_secs(10)) {
            let value = format!("{:?}", self.journal.commit_linger.0);
            let (min, max) = ("0".to_owned(), "10s".to_owned());
            return Err(SpecError::Range {
                key: "journal.commit_linger",
                value,
                min,
                max,
            });
        }
        let sys_interval = self.mqtt.sys_interval;
        if !sys_interval.0.is_zero() && sys_interval < SYS_INTERVAL_MIN {
            return Err(SpecError::Range {
                key: "mqtt.sys_interval",
                value: format!("{:?}", sys_interval.0),
                min: format!("{:?}", SYS_INTERVAL_MIN.0),
                max: "for ever; 0 is never".to_owned(),
            });
        }
        self.mqtt.check()?;
        for route in &self.routes {
            self.topic_of(&route.stream)?;
            if route.priority > PRIORITY_MAX {
                return Err(SpecError::Range {
                    key: "priority",
                    value: format!("{} (route {})", route.priority, route.filter),
                    min: "0".to_owned(),
                    max: PRIORITY_MAX.to_string(),
                });
            }
            if self.lanes_of(&route.stream) > 0 && route.key == RouteKey::None {
                return Err(SpecError::LanesWithoutKey(route.stream.clone()));
            }
        }
        for (name, settings) in &self.streams {
            if settings.lanes > LANES_MAX {
                return Err(SpecError::Range {
                    key: "lanes",
                    value: format!("{} (stream {name})", settings.lanes),
                    min: "0".to_owned(),
                    max: LANES_MAX.to_string(),
                });
            }
        }
        source::check(&self.sources, &self.mqtt.listeners)?;
        if let Some(uplink) = &self.uplink {
            let port = uplink
                .cloud
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(SpecError::Cloud(uplink.cloud.clone()));
            }
            let [min, max] = RECONNECT_MAX_RANGE;
            if !(min..=max).contains(&uplink.reconnect_max) {
                return Err(SpecError::Range {
                    key: "uplink.reconnect_max",
                    value: format!("{:?}", uplink.reconnect_max.0),
                    min: format!("{:?}", min.0),
                    max: format!("{:?}", max.0),
                });
            }
        }
        Ok(())
    }
}

/// Why a pause between attempts to connect can't be so long.
pub(super) fn reconnect_refused(pause: Span) -> Option<String> {
    let [min, max] = RECONNECT_MAX_RANGE;
    let is_fine = (min..=max).contains(&pause);
    (!is_fine).then(|| {
        format!(
            "is {:?}; it must lie between {:?} and {:?}",
            pause.0, min.0, max.0
        )
    })
}

fn exposed(key: &'static str, address: SocketAddr, insecure: bool) -> Result<(), SpecError> {
    if insecure || address.ip().is_loopback() {
        return Ok(());
    }
    Err(SpecError::Exposed { key, address })
}
