//! OffsetDelete (KIP-496): a group forgets what it has committed in partitions that none of its members wants. Source:
//! Kafka's `OffsetMetadataManager` and `ClassicGroup`.

use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::groups::{GroupDescription, GroupState};
use tidegate_cloud_protocol::ledger::Target;
use tidegate_cloud_protocol::ledger::command::{Entry, ForgetOffsets};
use uuid::Uuid;

use super::describe_groups::find;
use super::{Context, reply_code, target};

pub(super) async fn handle(
    context: &Context,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    match delete(context, request).await {
        Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
        Err(code) => OffsetDeleteResponse::default().with_error_code(code),
    }
}

async fn delete(
    context: &Context,
    request: OffsetDeleteRequest,
) -> Result<Vec<OffsetDeleteResponseTopic>, i16> {
    let group = find(context, Operation::Delete, &request.group_id)?;
    let now = context.coordinator.describe(&group);
    let is_empty = |now: &GroupDescription| now.state == GroupState::Empty;
    // Only of consumers it is known which topics they want.
    if now
        .as_ref()
        .is_some_and(|now| !is_empty(now) && !now.is_of_consumers())
    {
        return Err(reply_code::NON_EMPTY_GROUP);
    }
    let mut targets = Vec::new();
    let topics = request.topics.into_iter();
    let topics = topics
        .map(|topic| check(context, now.as_ref(), topic, &mut targets))
        .collect();
    if !targets.is_empty() {
        let targets = Some(targets);
        let forget = Entry::ForgetOffsets(ForgetOffsets { group, targets });
        let forgotten = context.broker.submit(vec![(forget, None)]).await;
        forgotten.map_err(|_| reply_code::COORDINATOR_NOT_AVAILABLE)?;
    }
    Ok(topics)
}

/// What is answered about a topic; what the group is to forget of it goes to `targets`.
fn check(
    context: &Context,
    now: Option<&GroupDescription>,
    topic: OffsetDeleteRequestTopic,
    targets: &mut Vec<Target>,
) -> OffsetDeleteResponseTopic {
    let topic_id = context.topic_id(&topic.name, Uuid::nil());
    let is_wanted = now.is_some_and(|now| now.wants(&topic.name));
    let may = context.check(Operation::Read, Resource::Topic(&topic.name));
    let refused = may.err().map(i16::from);
    let partitions = topic.partitions.into_iter().map(|partition| {
        let index = partition.partition_index;
        let found = topic_id.map(|id| target(id, index));
        let found = found.filter(|found| context.broker.ledger(|l| l.partition(*found).is_some()));
        let code = match found {
            _ if refused.is_some() => refused.unwrap_or_default(),
            None => reply_code::UNKNOWN_TOPIC_OR_PARTITION,
            Some(_) if is_wanted => reply_code::GROUP_SUBSCRIBED_TO_TOPIC,
            Some(target) => {
                targets.push(target);
                reply_code::NONE
            }
        };
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(code)
    });
    OffsetDeleteResponseTopic::default()
        .with_partitions(partitions.collect())
        .with_name(topic.name)
}
