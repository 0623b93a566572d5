//! CreateTopics (KIP-4, KIP-464, KIP-525). Each topic is decided by itself, in Kafka's order of checks: its name, whether it is
//! there, its settings, its partitions. Source: Kafka's `ReplicationControlManager`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource, ResourceKind};
use tidegate_cloud_protocol::ledger::command::CreateTopic;
use tidegate_cloud_protocol::ledger::{Command, Effect, Ledger, TopicSettings};
use tidegate_shared::id::{TopicId, TopicName};
use uuid::Uuid;

use super::configs::{self, Asked, Mode, REPLICAS, Row};
use super::refusal::Refusal;
use super::{Context, NODE_ID, reply_code};
use crate::limits::TOPIC_PARTITIONS_DEFAULT;
use crate::limits::TOPIC_PARTITIONS_MAX;
use crate::topic_settings::STORAGE_URL;

/// The default, of partitions and of replicas.
const DEFAULT: i32 = -1;

/// A topic that was made, or could be.
struct Created {
    id: TopicId,
    partitions: u32,
    /// `None` for who may not see them.
    rows: Option<Vec<Row>>,
}

pub(super) async fn handle(
    context: &Context,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mode = Mode::of(request.validate_only);
    let mut named = BTreeMap::<_, usize>::new();
    for topic in &request.topics {
        *named.entry(topic.name.clone()).or_default() += 1;
    }
    let all: i64 = request.topics.iter().map(partitions_asked).sum();
    let mut results = Vec::with_capacity(named.len());
    for topic in &request.topics {
        // What is named twice is answered once.
        let Some(times) = named.remove(&topic.name) else {
            continue;
        };
        let created = match times {
            1 if all > i64::from(TOPIC_PARTITIONS_MAX) => Err(Refusal::new(
                reply_code::POLICY_VIOLATION,
                format!("one request can make {TOPIC_PARTITIONS_MAX} partitions, not {all}"),
            )),
            1 => create(context, topic, mode).await,
            _ => Err(Refusal::new(
                reply_code::INVALID_REQUEST,
                "Duplicate topic name.",
            )),
        };
        results.push(result(topic, created));
    }
    CreateTopicsResponse::default().with_topics(results)
}

fn partitions_asked(topic: &CreatableTopic) -> i64 {
    match topic.num_partitions {
        DEFAULT if topic.assignments.is_empty() => i64::from(TOPIC_PARTITIONS_DEFAULT),
        DEFAULT => topic.assignments.len() as i64,
        partitions => i64::from(partitions.max(0)),
    }
}

async fn create(context: &Context, topic: &CreatableTopic, mode: Mode) -> Result<Created, Refusal> {
    context.check_either(
        (Operation::Create, Resource::Cluster),
        (Operation::Create, Resource::Topic(&topic.name)),
    )?;
    let name = new_name(context, &topic.name)?;
    let asked = settings(topic)?;
    configs::check_store(context, &TopicSettings::default(), &asked)?;
    configs::parse(&asked)?;
    let partitions = partitions(topic)?;
    // Last, since it may ask an object store.
    let wanted = configs::wanted(context, &asked, mode).await?;
    let id = match mode {
        // As Kafka: one that no topic will have.
        Mode::Look => TopicId(Uuid::new_v4().as_u128()),
        Mode::Do => {
            let create = CreateTopic {
                name: name.clone(),
                topic_id: TopicId(Uuid::new_v4().as_u128()),
                partitions,
                changes: wanted.changes.clone(),
            };
            match context.broker.command(Command::CreateTopic(create)).await? {
                Effect::TopicCreated { topic_id } => topic_id,
                Effect::StoreUnknown { number } => {
                    let why = format!("{STORAGE_URL}: there is no object store {number}");
                    return Err(Refusal::new(reply_code::INVALID_CONFIG, why));
                }
                _ => return Err(exists(&name)),
            }
        }
    };
    let may_see = context.may(Operation::DescribeConfigs, Resource::Topic(name.as_str()));
    let rows = may_see.then(|| configs::of_wanted(context, &wanted));
    Ok(Created {
        id,
        partitions,
        rows,
    })
}

fn exists(name: &TopicName) -> Refusal {
    let why = format!("Topic '{name}' already exists.");
    Refusal::new(reply_code::TOPIC_ALREADY_EXISTS, why)
}

fn new_name(context: &Context, name: &str) -> Result<TopicName, Refusal> {
    let invalid = |why| Refusal::new(reply_code::INVALID_TOPIC, why);
    let name = TopicName::new(name).map_err(|error| invalid(error.to_string()))?;
    let (is_there, alike) = context.broker.ledger(|ledger| {
        let is_there = ledger.topic_id(name.as_str()).is_some();
        (is_there, collision(ledger, &name))
    });
    match alike {
        _ if is_there => Err(exists(&name)),
        // As Kafka, which could not tell them apart in its metrics: tools of its users count on it.
        Some(alike) => Err(invalid(format!(
            "Topic '{name}' collides with existing topic: {alike}"
        ))),
        None => Ok(name),
    }
}

/// A topic whose name is the same as a new one's but for full stops and underscores: Kafka could not tell them apart in its
/// metrics.
pub(crate) fn collision(ledger: &Ledger, name: &TopicName) -> Option<TopicName> {
    let name = name.as_str();
    if !name.contains(['.', '_']) {
        return None;
    }
    let mut names = ledger.topics().map(|(_, topic)| &topic.name);
    let alike = names.find(|there| there.as_str() != name && is_alike(there.as_str(), name));
    alike.cloned()
}

/// Whether two names are the same but for full stops and underscores.
fn is_alike(one: &str, other: &str) -> bool {
    let either = |byte: u8| matches!(byte, b'.' | b'_');
    let mut bytes = one.bytes().zip(other.bytes());
    one.len() == other.len()
        && bytes.all(|(one, other)| one == other || either(one) && either(other))
}

fn settings(topic: &CreatableTopic) -> Result<Asked, Refusal> {
    let without = topic.configs.iter().filter(|one| one.value.is_none());
    let without: Vec<&str> = without.map(|one| one.name.as_str()).collect();
    if !without.is_empty() {
        let why = format!(
            "Null value not supported for topic configs: {}",
            without.join(",")
        );
        return Err(Refusal::new(reply_code::INVALID_CONFIG, why));
    }
    let text = |value: &StrBytes| value.as_str().to_owned();
    let settings = topic.configs.iter();
    Ok(settings
        .map(|one| (text(&one.name), one.value.as_ref().map(text)))
        .collect())
}

fn partitions(topic: &CreatableTopic) -> Result<u32, Refusal> {
    if !topic.assignments.is_empty() {
        return assigned(topic);
    }
    match topic.replication_factor {
        -1 | REPLICAS => {}
        ..=0 => {
            let why = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(reply_code::INVALID_REPLICATION_FACTOR, why));
        }
        more => {
            let why = format!(
                "The target replication factor of {more} cannot be reached because only 1 broker(s) are registered."
            );
            return Err(Refusal::new(reply_code::INVALID_REPLICATION_FACTOR, why));
        }
    }
    match topic.num_partitions {
        DEFAULT => Ok(TOPIC_PARTITIONS_DEFAULT),
        ..=0 => {
            let why = "Number of partitions was set to an invalid non-positive value.";
            Err(Refusal::new(reply_code::INVALID_PARTITIONS, why))
        }
        partitions => Ok(partitions.unsigned_abs()),
    }
}

/// The request says itself where each partition is to be: here, once, and without a partition between missing.
fn assigned(topic: &CreatableTopic) -> Result<u32, Refusal> {
    let defaults = [i32::from(topic.replication_factor), topic.num_partitions];
    if defaults != [DEFAULT; 2] {
        let why = "A manual partition assignment was specified, but replication factor and numPartitions were not both \
                   set to -1.";
        return Err(Refusal::new(reply_code::INVALID_REQUEST, why));
    }
    let mut assigned = BTreeSet::new();
    for CreatableReplicaAssignment {
        partition_index,
        broker_ids,
        ..
    } in &topic.assignments
    {
        here(broker_ids.iter().map(|id| id.0))?;
        if !assigned.insert(*partition_index) {
            let why = format!(
                "Found multiple manual partition assignments for partition {partition_index}"
            );
            return Err(Refusal::new(reply_code::INVALID_REPLICA_ASSIGNMENT, why));
        }
    }
    if !assigned.iter().copied().eq(0..assigned.len() as i32) {
        let why = "partitions should be a consecutive 0-based integer sequence";
        return Err(Refusal::new(reply_code::INVALID_REPLICA_ASSIGNMENT, why));
    }
    Ok(assigned.len() as u32)
}

/// Replicas that a request wants of a partition: there is one node, and a replica on it.
pub(super) fn here(brokers: impl Iterator<Item = i32>) -> Result<(), Refusal> {
    let brokers: Vec<i32> = brokers.collect();
    let why = match brokers[..] {
        [NODE_ID] => return Ok(()),
        [] => "The manual partition assignment includes an empty replica list.".to_owned(),
        _ => match brokers.iter().find(|id| **id != NODE_ID) {
            Some(other) => format!(
                "The manual partition assignment includes broker {other}, but no such broker is registered."
            ),
            None => format!(
                "The manual partition assignment includes the broker {NODE_ID} more than once."
            ),
        },
    };
    Err(Refusal::new(reply_code::INVALID_REPLICA_ASSIGNMENT, why))
}

fn result(topic: &CreatableTopic, created: Result<Created, Refusal>) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(topic.name.clone());
    match created {
        Ok(created) => {
            let result = result
                .with_topic_id(Uuid::from_u128(created.id.0))
                .with_error_message(None);
            match created.rows {
                Some(rows) => result
                    .with_num_partitions(created.partitions as i32)
                    .with_replication_factor(REPLICAS)
                    .with_configs(Some(rows.into_iter().map(config).collect())),
                None => {
                    let (code, _) = reply_code::not_authorized(ResourceKind::Topic);
                    result.with_topic_config_error_code(code)
                }
            }
        }
        Err(refusal) => {
            let (code, message) = refusal.fields();
            result.with_error_code(code).with_error_message(message)
        }
    }
}

fn config(row: Row) -> CreatableTopicConfigs {
    let source = row.source();
    CreatableTopicConfigs::default()
        .with_name(StrBytes::from_static_str(row.name))
        .with_value(Some(StrBytes::from_string(row.value)))
        .with_config_source(source)
}
