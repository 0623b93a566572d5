//! The node's counters, as Prometheus reads them. Names begin with `tidegate_`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::store::{CacheMetrics, StoreMetrics};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    pub reason: &'static str,
}

/// Why a stream's numbering began anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ForkLabels {
    pub reason: &'static str,
}

/// With which code the hub closed a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabels {
    pub code: &'static str,
}

/// Why records never came.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GapLabels {
    pub reason: &'static str,
}

/// By which door somebody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    Kafka,
    Http,
}

/// Through which door somebody was not let in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DoorLabels {
    pub door: &'static str,
}

/// All counters; a clone counts in the same ones.
#[derive(Debug, Default)]
pub struct Metrics {
    pub landed_batches: Counter<u64, AtomicU64>,
    pub landed_records: Counter<u64, AtomicU64>,
    pub landed_bytes: Counter<u64, AtomicU64>,
    pub duplicate_batches: Counter<u64, AtomicU64>,
    pub refused_offers: Family<ReasonLabels, Counter>,
    pub hub_gap_records: Family<GapLabels, Counter>,
    pub forked_streams: Family<ForkLabels, Counter>,
    pub log_syncs: Counter<u64, AtomicU64>,
    pub log_written_bytes: Counter<u64, AtomicU64>,
    pub fetch_requests: Counter<u64, AtomicU64>,
    pub fetch_bytes: Counter<u64, AtomicU64>,
    pub offset_commits: Counter<u64, AtomicU64>,
    pub kafka_connections: Gauge,
    pub kafka_bad_requests: Counter<u64, AtomicU64>,
    pub kafka_refused_requests: Counter<u64, AtomicU64>,
    pub kafka_failed_connections: Counter<u64, AtomicU64>,
    pub failed_authentications: Family<DoorLabels, Counter>,
    pub storage_errors: Counter<u64, AtomicU64>,
    /// Counted by all object stores.
    pub object_stores: StoreMetrics,
    /// Counted by the cache before them.
    pub object_store_cache: CacheMetrics,
    pub packed_segments: Counter<u64, AtomicU64>,
    pub packed_bytes: Counter<u64, AtomicU64>,
    pub compacted_segments: Counter<u64, AtomicU64>,
    pub joined_segments: Counter<u64, AtomicU64>,
    pub produced_batches: Counter<u64, AtomicU64>,
    pub produced_records: Counter<u64, AtomicU64>,
    pub produced_bytes: Counter<u64, AtomicU64>,
    pub pack_failures: Counter<u64, AtomicU64>,
    pub compaction_failures: Counter<u64, AtomicU64>,
    pub join_failures: Counter<u64, AtomicU64>,
    pub moved_segments: Counter<u64, AtomicU64>,
    pub moved_bytes: Counter<u64, AtomicU64>,
    pub move_failures: Counter<u64, AtomicU64>,
    pub swept_segments: Counter<u64, AtomicU64>,
    pub swept_log_files: Counter<u64, AtomicU64>,
    pub swept_orphans: Counter<u64, AtomicU64>,
    /// Counted by the hub.
    pub connected_edges: Gauge,
    pub cloud_behind: Gauge,
    /// Set by the sequencer, and when metrics are asked for.
    pub log_in_flight: Gauge,
    pub log_waits_seconds: Gauge,
    pub quarantined_edges: Gauge,
    pub bridge_closed_connections: Family<CloseLabels, Counter>,
    pub bridge_rejected_handshakes: Counter<u64, AtomicU64>,
}

impl Metrics {
    /// The text that Prometheus scrapes.
    pub fn encode(&self) -> String {
        let mut registry = Registry::with_prefix("tidegate");
        self.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String does not fail");
        text
    }

    /// Somebody was not let in.
    pub(crate) fn refused_at(&self, door: Door) {
        let door = match door {
            Door::Kafka => "kafka",
            Door::Http => "http",
        };
        let labels = DoorLabels { door };
        self.failed_authentications.get_or_create(&labels).inc();
    }

    fn register(&self, registry: &mut Registry) {
        let counters = [
            ("landed_batches", "Batches landed", &self.landed_batches),
            ("landed_records", "Records landed", &self.landed_records),
            (
                "landed_bytes",
                "Bytes of batches landed",
                &self.landed_bytes,
            ),
            (
                "produced_batches",
                "Batches of Kafka clients taken",
                &self.produced_batches,
            ),
            (
                "produced_records",
                "Records of Kafka clients taken",
                &self.produced_records,
            ),
            (
                "produced_bytes",
                "Bytes of batches of Kafka clients taken",
                &self.produced_bytes,
            ),
            (
                "duplicate_batches",
                "Batches that had landed before",
                &self.duplicate_batches,
            ),
            (
                "log_syncs",
                "Frames of the log that have become durable: each a sync, or an object",
                &self.log_syncs,
            ),
            (
                "log_written_bytes",
                "Bytes written to the log",
                &self.log_written_bytes,
            ),
            (
                "fetch_requests",
                "Kafka fetch requests",
                &self.fetch_requests,
            ),
            (
                "fetch_bytes",
                "Bytes of batches sent to consumers",
                &self.fetch_bytes,
            ),
            (
                "offset_commits",
                "Partitions' offsets committed by groups",
                &self.offset_commits,
            ),
            (
                "kafka_bad_requests",
                "Kafka requests that were malformed, too long or not supported",
                &self.kafka_bad_requests,
            ),
            (
                "kafka_failed_connections",
                "Kafka connections that ended by a mistake of this node",
                &self.kafka_failed_connections,
            ),
            (
                "kafka_refused_requests",
                "What Kafka clients asked for and were not allowed, counted for each resource",
                &self.kafka_refused_requests,
            ),
            (
                "bridge_rejected_handshakes",
                "Bridge connections turned away before an edge was known",
                &self.bridge_rejected_handshakes,
            ),
            (
                "storage_errors",
                "Batches that could not be read back whole",
                &self.storage_errors,
            ),
            ("packed_segments", "Segments made", &self.packed_segments),
            ("packed_bytes", "Bytes of segments made", &self.packed_bytes),
            (
                "compacted_segments",
                "Segments written anew without what later records of their keys outdo",
                &self.compacted_segments,
            ),
            (
                "joined_segments",
                "Small segments that have become part of a larger one",
                &self.joined_segments,
            ),
            (
                "pack_failures",
                "Segments that could not be made or stored; it is tried again",
                &self.pack_failures,
            ),
            (
                "moved_segments",
                "Segments moved to the object store that their topic says",
                &self.moved_segments,
            ),
            (
                "moved_bytes",
                "Bytes of segments moved to another object store",
                &self.moved_bytes,
            ),
            (
                "move_failures",
                "Segments that could not be moved; it is tried again",
                &self.move_failures,
            ),
            (
                "compaction_failures",
                "Partitions that could not be compacted; it is tried again",
                &self.compaction_failures,
            ),
            (
                "join_failures",
                "Small segments that could not be joined; it is tried again",
                &self.join_failures,
            ),
            (
                "swept_segments",
                "Segments deleted since nothing needs them",
                &self.swept_segments,
            ),
            (
                "swept_log_files",
                "Log files removed since nothing needs them",
                &self.swept_log_files,
            ),
            (
                "swept_orphans",
                "Segments deleted that the ledger never knew",
                &self.swept_orphans,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        self.object_stores.register(registry);
        self.object_store_cache.register(registry);
        let refused = "Offers refused, by reason";
        registry.register("refused_offers", refused, self.refused_offers.clone());
        let failed = "Clients that were not let in: no handshake, or no proof of who they are";
        let family = self.failed_authentications.clone();
        registry.register("failed_authentications", failed, family);
        let gaps = "Records that edges declared lost, by reason";
        registry.register("hub_gap_records", gaps, self.hub_gap_records.clone());
        let forks = "Streams whose numbering began anew, by reason: possible duplicates";
        registry.register("forked_streams", forks, self.forked_streams.clone());
        let behind = "1 while nothing lands, since an edge has seen a newer state of this cloud";
        registry.register("cloud_behind", behind, self.cloud_behind.clone());
        let in_flight = "Frames on their way to the log";
        registry.register("log_in_flight", in_flight, self.log_in_flight.clone());
        let waits = "How long the oldest of them waits: nothing is decided before it is durable";
        registry.register("log_waits_seconds", waits, self.log_waits_seconds.clone());
        let held = "Edges in quarantine, since two nodes were seen to have their identity";
        registry.register("quarantined_edges", held, self.quarantined_edges.clone());
        let connections = "Open Kafka connections";
        registry.register(
            "kafka_connections",
            connections,
            self.kafka_connections.clone(),
        );
        let closed = "Bridge connections closed for a breach, by code";
        let family = self.bridge_closed_connections.clone();
        registry.register("bridge_closed_connections", closed, family);
        let edges = "Edges connected to the hub";
        registry.register("connected_edges", edges, self.connected_edges.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_scraped_under_our_prefix() {
        let metrics = Metrics::default();
        metrics.landed_records.inc_by(3);
        let reason = "wrong_hash";
        let refused = &metrics.refused_offers;
        refused.get_or_create(&ReasonLabels { reason }).inc();
        let text = metrics.encode();
        assert!(text.contains("tidegate_landed_records_total 3"), "{text}");
        assert!(
            text.contains("tidegate_refused_offers_total{reason=\"wrong_hash\"} 1"),
            "{text}"
        );
    }
}
