//! What is counted of sources. Names begin with `tidegate_source_`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::Count;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabels {
    source: String,
    reason: &'static str,
}

/// Of all sources.
#[derive(Debug, Default)]
pub(crate) struct SourceFamilies {
    connected: Family<SourceLabels, Gauge>,
    held: Family<SourceLabels, Gauge>,
    messages: Family<SourceLabels, Count>,
    bytes: Family<SourceLabels, Count>,
    refused: Family<SourceLabels, Count>,
    reconnects: Family<SourceLabels, Count>,
    connect_failures: Family<SourceLabels, Count>,
    sessions_lost: Family<SourceLabels, Count>,
    subscriptions_refused: Family<SourceLabels, Count>,
    dropped: Family<DroppedLabels, Count>,
}

/// Of one.
#[derive(Debug)]
pub(super) struct Figures {
    name: String,
    pub(super) connected: Gauge,
    /// Bytes that wait for the journal.
    pub(super) held: Gauge,
    pub(super) messages: Count,
    pub(super) bytes: Count,
    pub(super) refused: Count,
    pub(super) reconnects: Count,
    pub(super) connect_failures: Count,
    pub(super) sessions_lost: Count,
    pub(super) subscriptions_refused: Count,
    dropped: Family<DroppedLabels, Count>,
}

impl SourceFamilies {
    pub(super) fn of(&self, source: &str) -> Figures {
        let labels = SourceLabels {
            source: source.to_owned(),
        };
        let count = |family: &Family<SourceLabels, Count>| family.get_or_create(&labels).clone();
        Figures {
            name: source.to_owned(),
            connected: self.connected.get_or_create(&labels).clone(),
            held: self.held.get_or_create(&labels).clone(),
            messages: count(&self.messages),
            bytes: count(&self.bytes),
            refused: count(&self.refused),
            reconnects: count(&self.reconnects),
            connect_failures: count(&self.connect_failures),
            sessions_lost: count(&self.sessions_lost),
            subscriptions_refused: count(&self.subscriptions_refused),
            dropped: self.dropped.clone(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "source_connected",
            "1 while the source's broker is connected",
            self.connected.clone(),
        );
        registry.register(
            "source_held_bytes",
            "What a source has and its broker was not told that it is safe",
            self.held.clone(),
        );
        let counters = [
            (
                "source_messages",
                "Messages that came from a source's broker, those that came again among them",
                &self.messages,
            ),
            ("source_bytes", "What their payloads took", &self.bytes),
            (
                "source_refused",
                "Messages of a source that the journal had no space for: they wait, unacknowledged",
                &self.refused,
            ),
            (
                "source_reconnects",
                "Connections of a source after its first",
                &self.reconnects,
            ),
            (
                "source_connect_failures",
                "Attempts to reach a source's broker that failed",
                &self.connect_failures,
            ),
            (
                "source_sessions_lost",
                "How often a source's broker had lost the session: what it kept for it is gone",
                &self.sessions_lost,
            ),
            (
                "source_subscriptions_refused",
                "Filters that a source's broker did not grant",
                &self.subscriptions_refused,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "source_dropped",
            "Messages of a source that were acknowledged and cannot be taken, by the reason",
            self.dropped.clone(),
        );
    }
}

impl Figures {
    /// Gives how many it are now.
    pub(super) fn drop_one(&self, reason: &'static str) -> u64 {
        let labels = DroppedLabels {
            source: self.name.clone(),
            reason,
        };
        self.dropped.get_or_create(&labels).inc() + 1
    }
}
