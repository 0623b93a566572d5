//! What a store was asked for and what went over the wire: as a value, to be priced, and for Prometheus.
//! Attempts are counted, not calls: what is tried again is paid for again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// A kind of request, as stores price them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An object in one piece.
    Put,
    /// One part of a long object.
    Part,
    /// The beginning or the completion of a long object.
    Multipart,
    /// The end of a long object that came to nothing.
    Abort,
    Get,
    Head,
    /// One answer with up to 1,000 names.
    List,
    Delete,
}

const OPERATIONS: usize = Operation::Delete as usize + 1;

impl Operation {
    fn label(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Part => "part",
            Self::Multipart => "multipart",
            Self::Abort => "abort",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// How a request ended, as Prometheus is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// No such object, or (of a creation) there is one, or a range that it does not have.
    Declined,
    /// 429 or 503.
    Throttled,
    TimedOut,
    /// The connection or the server failed.
    Failed,
    /// No right to, or it makes no sense.
    Refused,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Declined => "declined",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// Requests and bytes since a store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    requests: [u64; OPERATIONS],
    /// Bytes of objects that were sent, those of failed requests among them.
    pub written_bytes: u64,
    /// Bytes of objects that arrived whole.
    pub read_bytes: u64,
}

impl Usage {
    pub fn requests(&self, operation: Operation) -> u64 {
        self.requests[operation as usize]
    }

    /// What came since an earlier look at the same store.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (later, earlier) in since.requests.iter_mut().zip(earlier.requests) {
            *later = later.saturating_sub(earlier);
        }
        since.written_bytes = self.written_bytes.saturating_sub(earlier.written_bytes);
        since.read_bytes = self.read_bytes.saturating_sub(earlier.read_bytes);
        since
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    direction: &'static str,
}

/// The counters of all stores of a node; a clone counts in the same ones.
#[derive(Clone, Debug, Default)]
pub struct StoreMetrics {
    requests: Family<RequestLabels, Counter>,
    bytes: Family<ByteLabels, Counter>,
}

impl StoreMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let requests = "Requests to object stores, each attempt, by outcome";
        registry.register("object_store_requests", requests, self.requests.clone());
        let bytes = "Bytes of objects written to and read from object stores";
        registry.register("object_store_bytes", bytes, self.bytes.clone());
    }
}

/// Counts for one store, and in the node's counters.
#[derive(Debug)]
pub(super) struct Meter {
    requests: [AtomicU64; OPERATIONS],
    written_bytes: AtomicU64,
    read_bytes: AtomicU64,
    metrics: StoreMetrics,
}

impl Meter {
    pub(super) fn new(metrics: &StoreMetrics) -> Arc<Self> {
        Arc::new(Self {
            requests: Default::default(),
            written_bytes: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            metrics: metrics.clone(),
        })
    }

    pub(super) fn count(&self, operation: Operation, outcome: Outcome, requests: u64) {
        self.requests[operation as usize].fetch_add(requests, Ordering::Relaxed);
        let labels = RequestLabels {
            operation: operation.label(),
            outcome: outcome.label(),
        };
        let counter = self.metrics.requests.get_or_create(&labels);
        counter.inc_by(requests);
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        let direction = "written";
        let counter = self.metrics.bytes.get_or_create(&ByteLabels { direction });
        counter.inc_by(bytes);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        let direction = "read";
        let counter = self.metrics.bytes.get_or_create(&ByteLabels { direction });
        counter.inc_by(bytes);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            requests: std::array::from_fn(|at| self.requests[at].load(Ordering::Relaxed)),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
        }
    }
}
