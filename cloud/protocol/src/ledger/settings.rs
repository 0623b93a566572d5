//! A topic's settings, under Kafka's names and with Kafka's defaults.

use super::command::TopicChange;
use super::stores::CLUSTER_STORE;

/// See the module. Times are in milliseconds, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// `retention.ms`: a record's time begins when it lands. `None`: for ever.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`, for each partition. `None`: without a bound.
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy` has `delete`.
    pub deletes: bool,
    /// `cleanup.policy` has `compact`.
    pub compacts: bool,
    /// `delete.retention.ms`.
    pub delete_retention_ms: u64,
    /// `pack.merge_below`: neighbouring batches smaller than this are packed as one; 0: none are.
    pub pack_merge_below_bytes: u64,
    /// `max.message.bytes`: a batch that a Kafka client produces has no more.
    pub message_bytes_max: u32,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `segment.bytes`; `None`: the cluster's.
    pub segment_bytes: Option<u32>,
    /// `storage.url`: the number of the object store that segments go to; 0: the cluster's.
    pub store: u32,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            deletes: true,
            compacts: false,
            delete_retention_ms: DAY_MS,
            pack_merge_below_bytes: 0,
            message_bytes_max: Self::MESSAGE_BYTES_MAX,
            log_append_time: false,
            segment_bytes: None,
            store: CLUSTER_STORE,
        }
    }
}

impl TopicSettings {
    /// Kafka's default of `max.message.bytes`.
    pub const MESSAGE_BYTES_MAX: u32 = 1_048_588;

    /// These with changes, in their order.
    #[must_use]
    pub fn changed(mut self, changes: &[TopicChange]) -> Self {
        changes.iter().for_each(|change| self.change(*change));
        self
    }

    pub(super) fn change(&mut self, change: TopicChange) {
        match change {
            TopicChange::RetentionMs(value) => self.retention_ms = u64::try_from(value).ok(),
            TopicChange::RetentionBytes(value) => self.retention_bytes = u64::try_from(value).ok(),
            TopicChange::CleanupPolicy(policy) => {
                self.deletes = policy & TopicChange::DELETES != 0;
                self.compacts = policy & TopicChange::COMPACTS != 0;
            }
            TopicChange::DeleteRetentionMs(value) => self.delete_retention_ms = or_zero(value),
            TopicChange::PackMergeBelow(value) => self.pack_merge_below_bytes = or_zero(value),
            TopicChange::MaxMessageBytes(value) => self.message_bytes_max = value,
            TopicChange::LogAppendTime(value) => self.log_append_time = value,
            TopicChange::SegmentBytes(value) => {
                self.segment_bytes = Some(value).filter(|bytes| *bytes > 0);
            }
            TopicChange::Store(number) => self.store = number,
        }
    }

    /// The changes that make the default these.
    pub(super) fn changes(&self) -> Vec<TopicChange> {
        let default = Self::default();
        let or_never = |value: Option<u64>| value.map_or(-1, to_wire);
        let changes = [
            (self.retention_ms != default.retention_ms)
                .then(|| TopicChange::RetentionMs(or_never(self.retention_ms))),
            (self.retention_bytes != default.retention_bytes)
                .then(|| TopicChange::RetentionBytes(or_never(self.retention_bytes))),
            ((self.deletes, self.compacts) != (default.deletes, default.compacts)).then(|| {
                let bit = |is_set, bit| if is_set { bit } else { 0 };
                let deletes = bit(self.deletes, TopicChange::DELETES);
                TopicChange::CleanupPolicy(deletes | bit(self.compacts, TopicChange::COMPACTS))
            }),
            (self.delete_retention_ms != default.delete_retention_ms)
                .then(|| TopicChange::DeleteRetentionMs(to_wire(self.delete_retention_ms))),
            (self.pack_merge_below_bytes != default.pack_merge_below_bytes)
                .then(|| TopicChange::PackMergeBelow(to_wire(self.pack_merge_below_bytes))),
            (self.message_bytes_max != default.message_bytes_max)
                .then_some(TopicChange::MaxMessageBytes(self.message_bytes_max)),
            (self.log_append_time != default.log_append_time)
                .then_some(TopicChange::LogAppendTime(self.log_append_time)),
            self.segment_bytes.map(TopicChange::SegmentBytes),
            (self.store != default.store).then_some(TopicChange::Store(self.store)),
        ];
        changes.into_iter().flatten().collect()
    }
}

fn or_zero(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn to_wire(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
