//! Settings by Kafka's names, for the APIs that show and change them: a topic's, which can be changed, and the few
//! of this broker, which can't. What is shown takes effect.

use std::collections::BTreeMap;

use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::groups::GroupLimits;
use tidegate_cloud_protocol::ledger::command::{OffsetCommit, TopicChange};
use tidegate_cloud_protocol::ledger::producers::PRODUCER_EXPIRES_MS;
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, TopicSettings};

use super::refusal::Refusal;
use super::{Context, NODE_ID};
use crate::limits::{
    KAFKA_CONNECTION_IDLE_MAX, KAFKA_FETCH_BYTES_MAX, KAFKA_MESSAGE_BYTES_MAX,
    KAFKA_REQUEST_BYTES_MAX, TOPIC_PARTITIONS_DEFAULT,
};
use crate::store::StoreUrl;
use crate::topic_settings::{self, STORAGE_URL};
use crate::topic_store;

/// Kinds of resources that have settings. Source: `ConfigResource.Type` of Kafka.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Where a value comes from. Source: `ConfigSource` of Kafka's DescribeConfigsResponse.
pub(super) const FROM_TOPIC: i8 = 1;
pub(super) const FROM_DEFAULT: i8 = 5;

/// What a value is. Source: `ConfigType` of Kafka's DescribeConfigsResponse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// One setting as it is now.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) is_default: bool,
    pub(super) kind: Kind,
    pub(super) documentation: &'static str,
}

impl Row {
    pub(super) fn source(&self) -> i8 {
        match self.is_default {
            true => FROM_DEFAULT,
            false => FROM_TOPIC,
        }
    }
}

/// Settings by name, as a request has them; `None` is the default.
pub(super) type Asked = BTreeMap<String, Option<String>>;

/// What becomes of a topic's settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) changes: Vec<TopicChange>,
    /// Of the store that the topic is to have; only with [`Mode::Look`], and only where it is not the cluster's own.
    store_url: Option<String>,
}

/// Whether a request is only to be looked at (`validate_only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Do,
    Look,
}

impl Mode {
    pub(super) fn of(validate_only: bool) -> Self {
        match validate_only {
            true => Self::Look,
            false => Self::Do,
        }
    }
}

/// What settings by name come to, without [`STORAGE_URL`].
pub(super) fn parse(asked: &Asked) -> Result<Vec<TopicChange>, Refusal> {
    Ok(topic_settings::parse_all(asked)?)
}

/// The same with it: a store that is named is asked first.
pub(super) async fn wanted(
    context: &Context,
    asked: &Asked,
    mode: Mode,
) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted {
        changes: parse(asked)?,
        store_url: None,
    };
    let Some(url) = asked.get(STORAGE_URL).map(Option::as_deref) else {
        return Ok(wanted);
    };
    let broker = &context.broker;
    if mode == Mode::Look {
        let url = topic_store::ask(broker, url).await?;
        wanted.store_url = url.map(|url| url.as_str().to_owned());
        return Ok(wanted);
    }
    let number = topic_store::number_of(broker, url).await?;
    wanted.changes.push(TopicChange::Store(number));
    Ok(wanted)
}

/// Another object store for a topic makes the cloud write elsewhere, with its own credentials: that is more than to
/// change a topic. `now` are the topic's settings so far.
pub(super) fn check_store(
    context: &Context,
    now: &TopicSettings,
    asked: &Asked,
) -> Result<(), Refusal> {
    let Some(url) = asked.get(STORAGE_URL) else {
        return Ok(());
    };
    let rows = of_topic(context, now);
    let row = rows.iter().find(|row| row.name == STORAGE_URL);
    let is_default = row.is_none_or(|row| row.is_default);
    let is_as_before = match url {
        None => is_default,
        Some(url) => {
            let url = url.parse().map(|url: StoreUrl| url.absolute());
            row.is_some_and(|row| url.is_ok_and(|url| row.value == url))
        }
    };
    match is_as_before {
        true => Ok(()),
        false => context.check(Operation::AlterConfigs, Resource::Cluster),
    }
}

/// All settings of a topic, by name.
pub(super) fn of_topic(context: &Context, settings: &TopicSettings) -> Vec<Row> {
    let cluster = context.broker.shared().segments.stores().cluster().url();
    let number = settings.store;
    let url = context
        .broker
        .ledger(|ledger| ledger.store_url(number).map(str::to_owned));
    let url = url.unwrap_or_else(|| cluster.absolute());
    let shown = topic_settings::show(settings, context.broker.pack_rule().segment_bytes);
    let shown = shown.chain([(STORAGE_URL, url, number == CLUSTER_STORE)]);
    let rows = shown.map(|(name, value, is_default)| {
        let (kind, documentation) = about(name);
        Row {
            name,
            value,
            is_default,
            kind,
            documentation,
        }
    });
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_unstable_by_key(|row| row.name);
    rows
}

/// What a topic's settings would be.
pub(super) fn of_wanted(context: &Context, wanted: &Wanted) -> Vec<Row> {
    let settings = TopicSettings::default().changed(&wanted.changes);
    let mut rows = of_topic(context, &settings);
    let store = rows.iter_mut().find(|row| row.name == STORAGE_URL);
    if let (Some(row), Some(url)) = (store, &wanted.store_url) {
        row.value.clone_from(url);
        row.is_default = false;
    }
    rows
}

fn about(name: &str) -> (Kind, &'static str) {
    match name {
        "cleanup.policy" => (
            Kind::List,
            "delete: what is old is given up (retention.ms, retention.bytes); compact: of each key the newest record \
             stays; or both.",
        ),
        "compression.type" => (
            Kind::Text,
            "Batches stay as their producers have packed them.",
        ),
        "flush.messages" => (Kind::Long, "Nothing is acknowledged before it is durable."),
        "max.message.bytes" => (
            Kind::Int,
            "The longest batch that a Kafka client can produce, as packed.",
        ),
        "message.timestamp.type" => (
            Kind::Text,
            "Whose clock a record's timestamp is: its sender's (CreateTime), or this broker's when it came (LogAppendTime).",
        ),
        "min.insync.replicas" => (
            Kind::Int,
            "There is one node; what it acknowledges is durable.",
        ),
        "preallocate" => (Kind::Boolean, "Files are not made at their full size."),
        "segment.bytes" => (
            Kind::Int,
            "A segment takes no more batches than this; 256 MiB is the most, whatever is said here.",
        ),
        "unclean.leader.election.enable" => (
            Kind::Boolean,
            "No replica that lacks records becomes the leader.",
        ),
        "delete.retention.ms" => (
            Kind::Long,
            "So long a tombstone stays in a compacted topic, in milliseconds.",
        ),
        "pack.merge_below" => (
            Kind::Long,
            "Neighbouring batches of fewer bytes are stored as one; 0: none are.",
        ),
        "retention.bytes" => (
            Kind::Long,
            "Each partition keeps so many bytes, where cleanup.policy has delete; -1: without a bound.",
        ),
        "retention.ms" => (
            Kind::Long,
            "Records are kept so long after they came, in milliseconds, where cleanup.policy has delete; -1: for ever.",
        ),
        _ => (
            Kind::Text,
            "The object store of the topic's segments, by its URL; by default the cluster's own.",
        ),
    }
}

/// The settings of this broker that Kafka has, too, with what is so here. None can be changed by a request.
pub(super) fn of_broker(context: &Context) -> Vec<Row> {
    let groups = GroupLimits::default();
    let fixed = |name, value: String, kind, documentation| Row {
        name,
        value,
        is_default: true,
        kind,
        documentation,
    };
    vec![
        fixed(
            "auto.create.topics.enable",
            context.auto_create.is_on().to_string(),
            Kind::Boolean,
            "A topic that a client asks for is made.",
        ),
        fixed(
            "connections.max.idle.ms",
            KAFKA_CONNECTION_IDLE_MAX.as_millis().to_string(),
            Kind::Long,
            "A connection without a request for so long is closed.",
        ),
        fixed(
            "default.replication.factor",
            REPLICAS.to_string(),
            Kind::Int,
            "Replicas of a new topic: one machine is one node.",
        ),
        fixed(
            "fetch.max.bytes",
            KAFKA_FETCH_BYTES_MAX.to_string(),
            Kind::Int,
            "Bytes of batches in one fetch response; the first batch always comes.",
        ),
        fixed(
            "group.initial.rebalance.delay.ms",
            groups.initial_rebalance_delay_ms.to_string(),
            Kind::Int,
            "A group that was empty waits so long for more members.",
        ),
        fixed(
            "group.max.session.timeout.ms",
            groups.session_timeout_max_ms.to_string(),
            Kind::Int,
            "The longest session timeout of a group's member.",
        ),
        fixed(
            "group.max.size",
            groups.members_max.to_string(),
            Kind::Int,
            "Members of one group.",
        ),
        fixed(
            "group.min.session.timeout.ms",
            groups.session_timeout_min_ms.to_string(),
            Kind::Int,
            "The shortest session timeout of a group's member.",
        ),
        fixed(
            "message.max.bytes",
            KAFKA_MESSAGE_BYTES_MAX.to_string(),
            Kind::Int,
            "The longest batch that a Kafka client can produce.",
        ),
        fixed(
            "node.id",
            NODE_ID.to_string(),
            Kind::Int,
            "This broker's id.",
        ),
        fixed(
            "num.partitions",
            TOPIC_PARTITIONS_DEFAULT.to_string(),
            Kind::Int,
            "Partitions of a new topic where none are said.",
        ),
        fixed(
            "offset.metadata.max.bytes",
            OffsetCommit::METADATA_BYTES_MAX.to_string(),
            Kind::Int,
            "The longest metadata of a committed offset.",
        ),
        fixed(
            "producer.id.expiration.ms",
            PRODUCER_EXPIRES_MS.to_string(),
            Kind::Int,
            "An idempotent producer that sent nothing for so long is forgotten.",
        ),
        fixed(
            "socket.request.max.bytes",
            KAFKA_REQUEST_BYTES_MAX.to_string(),
            Kind::Int,
            "The longest request.",
        ),
    ]
}

/// Replicas of every partition.
pub(super) const REPLICAS: i16 = 1;
