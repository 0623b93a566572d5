//! CreatePartitions (KIP-195): topics grow. Source: Kafka's `ReplicationControlManager`.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::command::GrowTopic;
use tidegate_cloud_protocol::ledger::{Command, Effect};
use tidegate_shared::id::TopicId;
use uuid::Uuid;

use super::configs::Mode;
use super::create_topics::here;
use super::refusal::{Refusal, fields};
use super::{Context, reply_code};
use crate::limits::TOPIC_PARTITIONS_MAX;

pub(super) async fn handle(
    context: &Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mode = Mode::of(request.validate_only);
    let mut named = BTreeMap::<_, usize>::new();
    for topic in &request.topics {
        *named.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(named.len());
    for topic in request.topics {
        // What is named twice is answered once.
        let Some(times) = named.remove(&topic.name) else {
            continue;
        };
        let grown = match times {
            1 => grow(context, &topic, mode).await,
            _ => Err(Refusal::new(
                reply_code::INVALID_REQUEST,
                "Duplicate topic name.",
            )),
        };
        let (code, message) = fields(grown);
        let result = CreatePartitionsTopicResult::default()
            .with_name(topic.name)
            .with_error_code(code)
            .with_error_message(message);
        results.push(result);
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn grow(context: &Context, topic: &CreatePartitionsTopic, mode: Mode) -> Result<(), Refusal> {
    context.check(Operation::Alter, Resource::Topic(&topic.name))?;
    let (topic_id, partitions) = check(context, topic)?;
    if mode == Mode::Look {
        return Ok(());
    }
    let command = Command::GrowTopic(GrowTopic {
        topic_id,
        partitions,
    });
    match context.broker.command(command).await? {
        Effect::TopicGrown { before, .. } if before < partitions => Ok(()),
        Effect::TopicGrown { before, .. } => Err(no_increase(topic, before)),
        _ => Err(unknown(topic)),
    }
}

fn check(context: &Context, topic: &CreatePartitionsTopic) -> Result<(TopicId, u32), Refusal> {
    let found = context.topic_id(&topic.name, Uuid::nil());
    let topic_id = found.ok_or_else(|| unknown(topic))?;
    let before = context.broker.ledger(|ledger| {
        let topic = ledger.topic(topic_id);
        topic.map(|topic| topic.partitions().len() as u32)
    });
    let before = before.ok_or_else(|| unknown(topic))?;
    let wanted = u32::try_from(topic.count).unwrap_or(0);
    if wanted <= before {
        return Err(no_increase(topic, before));
    }
    if let Some(assignments) = &topic.assignments {
        let more = wanted - before;
        if assignments.len() != more as usize {
            let why = format!(
                "Attempted to add {more} additional partition(s), but {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refusal::new(reply_code::INVALID_REPLICA_ASSIGNMENT, why));
        }
        for assignment in assignments {
            here(assignment.broker_ids.iter().map(|id| id.0))?;
        }
    }
    if wanted > TOPIC_PARTITIONS_MAX {
        let why = format!("A topic has at most {TOPIC_PARTITIONS_MAX} partitions, not {wanted}.");
        return Err(Refusal::new(reply_code::INVALID_PARTITIONS, why));
    }
    Ok((topic_id, wanted))
}

fn no_increase(topic: &CreatePartitionsTopic, before: u32) -> Refusal {
    let (name, count) = (topic.name.as_str(), topic.count);
    let why = match i64::from(count) == i64::from(before) {
        true => format!("Topic already has {before} partition(s)."),
        false => format!(
            "The topic {name} currently has {before} partition(s); {count} would not be an increase."
        ),
    };
    Refusal::new(reply_code::INVALID_PARTITIONS, why)
}

fn unknown(topic: &CreatePartitionsTopic) -> Refusal {
    let why = format!("There is no topic {}.", topic.name.as_str());
    Refusal::new(reply_code::UNKNOWN_TOPIC_OR_PARTITION, why)
}
