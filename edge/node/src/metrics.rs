//! The node's counters, as Prometheus reads them. Names begin with `tidegate_`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use tidegate_edge_protocol::mqtt::connection::RateLimit;

use crate::committer::Committer;
use crate::delayed::Delayed;
use crate::limits::METRICS_STREAMS_MAX;
use crate::retained::Retained;
use crate::sessions::Sessions;
use crate::source::SourceFamilies;
use crate::uplink::state::LinkState;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct NameLabels {
    name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabels {
    door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    stream: String,
}

/// A client id, or the filter of a shared subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabels {
    client: String,
}

/// An address on which MQTT is served, as the configuration says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
}

pub(crate) type Count = Counter<u64, AtomicU64>;

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub mqtt_connections: Gauge,
    pub mqtt_connects: Count,
    pub mqtt_packets_received: Count,
    pub mqtt_packets_sent: Count,
    pub mqtt_publishes_sent: Count,
    pub mqtt_received_bytes: Count,
    pub mqtt_sent_bytes: Count,
    /// Held up, since their address has failed to prove a name often.
    pub mqtt_slowed_connections: Count,
    /// Turned away for the same reason: too many waited.
    pub mqtt_turned_away_connections: Count,
    /// Kept out by `mqtt.blocked`.
    pub mqtt_blocked_connections: Count,
    pub messages_received: Count,
    pub messages_unrouted: Count,
    pub mqtt_messages_delivered: Count,
    pub mqtt_messages_dropped: Count,
    pub mqtt_publishes_withheld: Gauge,
    pub mqtt_withheld_bytes: Gauge,
    mqtt_closed: Family<NameLabels, Counter>,
    mqtt_not_authorized: Family<NameLabels, Counter>,
    failed_authentications: Family<DoorLabels, Counter>,
    /// Clients that are not read from, since they sent faster than they may.
    pub mqtt_rate_paused_clients: Gauge,
    mqtt_rate_pauses: Family<NameLabels, Counter>,
    mqtt_listener_connections: Family<ListenerLabels, Gauge>,
    pub uplink_connected: Gauge,
    pub uplink_connect_failures: Count,
    alarms: Family<NameLabels, Counter>,
    pub sources: SourceFamilies,
    /// How the uplink stands; not scraped.
    pub link: LinkState,
}

impl Metrics {
    /// Counts a connection that did not end by itself.
    pub(crate) fn closed(&self, name: &'static str) -> u64 {
        self.mqtt_closed.get_or_create(&NameLabels { name }).inc()
    }

    /// Counts a client that could not prove who it is.
    pub(crate) fn failed_authentication(&self) {
        let door = DoorLabels { door: "mqtt" };
        self.failed_authentications.get_or_create(&door).inc();
    }

    /// Counts what `mqtt.acl` does not allow, by what it was.
    pub(crate) fn not_authorized(&self, name: &'static str) {
        let family = &self.mqtt_not_authorized;
        family.get_or_create(&NameLabels { name }).inc();
    }

    /// Counts a client that is not read from for a while.
    pub(crate) fn rate_paused(&self, limit: RateLimit) {
        let name = match limit {
            RateLimit::Messages => "messages_per_second_max",
            RateLimit::Bytes => "bytes_per_second_max",
        };
        self.mqtt_rate_pauses
            .get_or_create(&NameLabels { name })
            .inc();
    }

    /// The connections of one listener.
    pub(crate) fn listener_connections(&self, listener: String) -> Gauge {
        let family = &self.mqtt_listener_connections;
        family.get_or_create(&ListenerLabels { listener }).clone()
    }

    /// How often clients were paused for one of their rates, and connections refused for a limit.
    pub(crate) fn limited(&self) -> (u64, u64) {
        let sum = |family: &Family<NameLabels, Counter>, names: [&'static str; 2]| {
            let count = |name| {
                family
                    .get(&NameLabels { name })
                    .map_or(0, |count| count.get())
            };
            names.map(count).iter().sum()
        };
        (
            sum(
                &self.mqtt_rate_pauses,
                ["messages_per_second_max", "bytes_per_second_max"],
            ),
            sum(
                &self.mqtt_closed,
                ["too_many_connections", "too_many_of_listener"],
            ),
        )
    }

    pub(crate) fn alarm(&self, name: &'static str) {
        self.alarms.get_or_create(&NameLabels { name }).inc();
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn encode(
        &self,
        sessions: &Sessions,
        retained: &Retained,
        delayed: &Delayed,
    ) -> String {
        let (committer, router) = (&sessions.committer, &sessions.router);
        let mut registry = Registry::with_prefix("tidegate");
        self.register(&mut registry);
        register_journal(&mut registry, committer);
        let subscriptions = ConstGauge::new(router.subscriptions() as i64);
        registry.register(
            "mqtt_sessions",
            "Client sessions: those that outlive their connections, and those of online clients",
            ConstGauge::new(sessions.len() as i64),
        );
        registry.register(
            "mqtt_session_messages_lost",
            "Messages that client sessions lost, as they had more waiting than they may",
            ConstCounter::new(sessions.losses.total()),
        );
        registry.register(
            "mqtt_session_lost_worst",
            "What the sessions lost that lost most; past them, only the sum counts",
            worst(sessions),
        );
        registry.register(
            "mqtt_clients_online",
            "Clients that are connected",
            ConstGauge::new(sessions.online() as i64),
        );
        registry.register(
            "mqtt_retained_messages",
            "Topics with a retained message",
            ConstGauge::new(retained.len() as i64),
        );
        let (waiting, bytes) = delayed.waiting();
        registry.register(
            "mqtt_delayed_messages",
            "Messages that are not due yet",
            ConstGauge::new(waiting as i64),
        );
        registry.register(
            "mqtt_delayed_bytes",
            "What those take in memory",
            ConstGauge::new(bytes as i64),
        );
        registry.register(
            "mqtt_subscriptions",
            "Subscriptions of online clients and of sessions",
            subscriptions,
        );
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String does not fail");
        text
    }

    fn register(&self, registry: &mut Registry) {
        let counters = [
            (
                "mqtt_packets_received",
                "MQTT packets received",
                &self.mqtt_packets_received,
            ),
            (
                "mqtt_packets_sent",
                "MQTT packets sent",
                &self.mqtt_packets_sent,
            ),
            (
                "mqtt_publishes_sent",
                "PUBLISH packets sent, those sent again among them",
                &self.mqtt_publishes_sent,
            ),
            (
                "mqtt_received_bytes",
                "Bytes read from MQTT clients",
                &self.mqtt_received_bytes,
            ),
            (
                "mqtt_sent_bytes",
                "Bytes written to MQTT clients",
                &self.mqtt_sent_bytes,
            ),
            (
                "mqtt_connects",
                "CONNECTs that were not malformed",
                &self.mqtt_connects,
            ),
            (
                "mqtt_slowed_connections",
                "Connections that had to wait, since their address has failed to prove a name often",
                &self.mqtt_slowed_connections,
            ),
            (
                "mqtt_turned_away_connections",
                "Connections that were turned away for that, since too many waited",
                &self.mqtt_turned_away_connections,
            ),
            (
                "mqtt_blocked_connections",
                "Connections that mqtt.blocked kept out",
                &self.mqtt_blocked_connections,
            ),
            (
                "messages_received",
                "Messages that clients published",
                &self.messages_received,
            ),
            (
                "messages_unrouted",
                "Messages that no route matched: online subscribers had them, nothing was kept",
                &self.messages_unrouted,
            ),
            (
                "mqtt_messages_delivered",
                "Messages queued for online subscribers",
                &self.mqtt_messages_delivered,
            ),
            (
                "mqtt_messages_dropped",
                "QoS 0 messages that a subscriber had no room for, or were larger than it takes",
                &self.mqtt_messages_dropped,
            ),
            (
                "uplink_connect_failures",
                "Attempts to reach the hub that failed",
                &self.uplink_connect_failures,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let connections = self.mqtt_connections.clone();
        registry.register("mqtt_connections", "Open MQTT connections", connections);
        let withheld = self.mqtt_publishes_withheld.clone();
        registry.register(
            "mqtt_publishes_withheld",
            "Publishes of MQTT 3 clients that wait, unacknowledged, for space in the journal",
            withheld,
        );
        let withheld = self.mqtt_withheld_bytes.clone();
        registry.register("mqtt_withheld_bytes", "What those take", withheld);
        let connected = self.uplink_connected.clone();
        registry.register(
            "uplink_connected",
            "1 while the hub is connected",
            connected,
        );
        let closed = self.mqtt_closed.clone();
        registry.register(
            "mqtt_closed",
            "MQTT connections closed by the node, by reason",
            closed,
        );
        let failed = self.failed_authentications.clone();
        registry.register(
            "failed_authentications",
            "Clients that could not prove who they are, by the door",
            failed,
        );
        let refused = self.mqtt_not_authorized.clone();
        registry.register(
            "mqtt_not_authorized",
            "What mqtt.acl did not allow, by what it was",
            refused,
        );
        let paused = self.mqtt_rate_paused_clients.clone();
        registry.register(
            "mqtt_rate_paused_clients",
            "Clients that are not read from for a while, since they sent faster than they may",
            paused,
        );
        let pauses = self.mqtt_rate_pauses.clone();
        registry.register(
            "mqtt_rate_pauses",
            "How often a client was paused so, by the limit",
            pauses,
        );
        let listeners = self.mqtt_listener_connections.clone();
        registry.register(
            "mqtt_listener_connections",
            "Open MQTT connections, by the listener that took them",
            listeners,
        );
        self.sources.register(registry);
        let alarms = self.alarms.clone();
        registry.register("alarms", "What an operator should know, by kind", alarms);
    }
}

fn worst(sessions: &Sessions) -> Family<ClientLabels, Gauge> {
    let family = Family::<ClientLabels, Gauge>::default();
    for (name, lost) in sessions.losses.worst() {
        let client = name.as_str().to_owned();
        family
            .get_or_create(&ClientLabels { client })
            .set(lost as i64);
    }
    family
}

fn register_journal(registry: &mut Registry, committer: &Committer) {
    let stats = committer.stats();
    let counters = [
        ("journal_commits", "Commits", stats.commits),
        ("journal_records", "Records committed", stats.records),
        ("journal_syncs", "fdatasyncs of the commit log", stats.syncs),
        (
            "journal_log_written_bytes",
            "Frames, headers and tables written",
            stats.log_bytes,
        ),
        (
            "journal_log_filled_bytes",
            "Zeros written into new log files",
            stats.fill_bytes,
        ),
        (
            "journal_checkpoints",
            "Checkpoints written to the index",
            stats.checkpoints,
        ),
        (
            "journal_gap_records",
            "Records declared lost before they landed, ever",
            stats.gap_records,
        ),
        (
            "journal_gap_records_landed",
            "Those of them that were under way then, and landed all the same",
            stats.gap_records_landed,
        ),
        (
            "journal_cleaned_bytes",
            "Bytes of batches that the cleaner copied",
            stats.cleaned_bytes,
        ),
        (
            "journal_refused",
            "Publishes refused by the journal",
            committer.refused(),
        ),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
    let bytes = ConstGauge::new(committer.log_bytes() as i64);
    registry.register(
        "journal_log_bytes",
        "What the log files take, spares included",
        bytes,
    );
    let files = ConstGauge::new(stats.log_files as i64);
    registry.register("journal_log_files", "Log files, spares included", files);
    registry.register(
        "journal_checkpoint_needs_space",
        "1 while the index has no space for its checkpoint",
        ConstGauge::new(i64::from(stats.checkpoint_needs_space)),
    );
    let streams = committer.reader().streams();
    let gauge = Family::<StreamLabels, Gauge>::default();
    let (next, landed, first) = (gauge.clone(), Family::default(), Family::default());
    let (mut landed_sum, mut next_sum) = (0, 0);
    for (index, status) in streams.iter().enumerate() {
        landed_sum += status.landed.0;
        next_sum += status.next.0;
        if index < METRICS_STREAMS_MAX {
            let labels = StreamLabels {
                stream: status.name.to_string(),
            };
            let set = |family: &Family<StreamLabels, Gauge>, value: u64| {
                family.get_or_create(&labels).set(value as i64);
            };
            set(&next, status.next.0);
            set(&landed, status.landed.0);
            set(&first, status.first.0);
        }
    }
    registry.register(
        "journal_stream_next_offset",
        "A stream's next edge offset",
        next,
    );
    registry.register(
        "journal_stream_first_offset",
        "A stream's oldest kept edge offset",
        first,
    );
    registry.register(
        "uplink_stream_landed_offset",
        "The cloud has all below it",
        landed,
    );
    let streams = ConstGauge::new(streams.len() as i64);
    registry.register("journal_streams", "Streams", streams);
    let stored = ConstCounter::new(next_sum);
    registry.register("stored_messages", "Messages in all streams, ever", stored);
    let landed = ConstCounter::new(landed_sum);
    registry.register(
        "landed_messages",
        "Messages of all streams that landed, ever",
        landed,
    );
}
