//! What a store's requests and bytes cost by a price list. It knows no currency but that of the list.

use super::usage::{Operation, Usage};

/// A price list, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// PUT, COPY, POST and LIST requests.
    pub per_1000_writes: f64,
    /// GET and all other requests.
    pub per_1000_reads: f64,
    pub per_1000_deletes: f64,
    /// Of 2^30 bytes, as S3 counts.
    pub per_gb_month: f64,
    /// Of 2^30 bytes that are read from outside of the store's region. Nothing is paid within it.
    pub per_gb_read: f64,
}

/// What was paid for, in the list's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub writes: f64,
    pub reads: f64,
    pub deletes: f64,
    pub transfer: f64,
}

impl Cost {
    pub fn total(&self) -> f64 {
        self.writes + self.reads + self.deletes + self.transfer
    }
}

const GB: f64 = (1_u64 << 30) as f64;

impl Price {
    /// S3 Standard, US East (N. Virginia), first 50 TB, read from within the region: the list prices of
    /// <https://aws.amazon.com/s3/pricing/>, "Storage" and "Requests & data retrievals".
    pub const S3_STANDARD: Self = Self {
        per_1000_writes: 0.005,
        per_1000_reads: 0.0004,
        per_1000_deletes: 0.0,
        per_gb_month: 0.023,
        per_gb_read: 0.0,
    };

    /// A folder on one's own disk.
    pub const FREE: Self = Self {
        per_1000_writes: 0.0,
        per_1000_reads: 0.0,
        per_1000_deletes: 0.0,
        per_gb_month: 0.0,
        per_gb_read: 0.0,
    };

    /// What requests and transfer cost.
    pub fn cost(&self, usage: &Usage) -> Cost {
        let thousands = |operations: &[Operation]| {
            let requests = operations.iter().map(|kind| usage.requests(*kind));
            requests.sum::<u64>() as f64 / 1_000.0
        };
        use Operation as O;
        Cost {
            writes: thousands(&[O::Put, O::Part, O::Multipart, O::List]) * self.per_1000_writes,
            reads: thousands(&[O::Get, O::Head]) * self.per_1000_reads,
            deletes: thousands(&[O::Delete, O::Abort]) * self.per_1000_deletes,
            transfer: usage.read_bytes as f64 / GB * self.per_gb_read,
        }
    }

    /// What it costs to keep so many bytes for a month.
    pub fn storage_month(&self, stored_bytes: u64) -> f64 {
        stored_bytes as f64 / GB * self.per_gb_month
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::usage::{Meter, Outcome, StoreMetrics};

    #[test]
    fn requests_are_priced_by_their_kind() {
        let meter = Meter::new(&StoreMetrics::default());
        for kind in [
            Operation::Put,
            Operation::Part,
            Operation::Multipart,
            Operation::List,
        ] {
            meter.count(kind, Outcome::Done, 250);
        }
        meter.count(Operation::Get, Outcome::Failed, 9_000);
        meter.count(Operation::Head, Outcome::Done, 1_000);
        meter.count(Operation::Delete, Outcome::Done, 1_000_000);
        meter.read(1 << 30);
        let cost = Price::S3_STANDARD.cost(&meter.usage());
        assert!((cost.writes - 0.005).abs() < 1e-12, "{cost:?}");
        assert!((cost.reads - 0.004).abs() < 1e-12, "{cost:?}");
        assert!((cost.total() - 0.009).abs() < 1e-12, "{cost:?}");
        let abroad = Price {
            per_gb_read: 0.09,
            ..Price::S3_STANDARD
        };
        assert!((abroad.cost(&meter.usage()).transfer - 0.09).abs() < 1e-12);
        let stored = Price::S3_STANDARD.storage_month(100 << 30);
        assert!((stored - 2.3).abs() < 1e-12, "{stored}");
    }
}
