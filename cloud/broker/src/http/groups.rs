//! Consumer groups over HTTP: list, look at (members, committed offsets, lag), reset, delete.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use kafka_protocol::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest, RequestKind, ResponseKind, TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::Partition;
use tidegate_shared::id::PartitionId;

use super::Context;
use super::answer::{Answer, ApiError, Sent};
use super::door::Asking;
use super::kafka::{ask, check, unexpected};
use super::records::{offsets_at, partitions};

const LIST_VERSION: i16 = 4;
const DESCRIBE_VERSION: i16 = 5;
const DELETE_VERSION: i16 = 2;
const OFFSET_FETCH_VERSION: i16 = 7;
const OFFSET_COMMIT_VERSION: i16 = 8;

/// The state of a group that nobody knows.
const DEAD: &str = "Dead";

/// Of who commits without being a member.
const NO_GENERATION: i32 = -1;

/// A topic and one of its partitions.
type Place = (String, i32);

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/groups", get(list))
        .route("/groups/{group}", get(describe).delete(delete))
        .route("/groups/{group}/offsets", post(reset))
}

async fn list(Asking(context): Asking) -> Answer {
    let request = RequestKind::ListGroups(ListGroupsRequest::default());
    let ResponseKind::ListGroups(response) = ask(&context, LIST_VERSION, request).await? else {
        return Err(unexpected());
    };
    check(response.error_code, "groups", None)?;
    let groups = response.groups.into_iter().map(|group| {
        json!({
            "group": group.group_id.as_str(),
            "state": group.group_state.as_str(),
            "protocol_type": group.protocol_type.as_str(),
        })
    });
    Ok(Json(json!({ "groups": groups.collect::<Vec<_>>() })))
}

async fn describe(Asking(context): Asking, Path(group): Path<String>) -> Answer {
    let described = described(&context, &group).await?;
    let assigned = described.members.iter().flat_map(|member| {
        let places = assigned(member).into_iter();
        places.map(|place| (place, member.member_id.as_str().to_owned()))
    });
    let readers: BTreeMap<Place, String> = assigned.collect();
    let committed = committed(&context, &group).await?;
    let mut lag_of_all = 0;
    let offsets = committed.iter().map(|((topic, partition), committed)| {
        let is = partition_of(&context, topic, *partition);
        let lag = is.map(|is| (is.next.0 - committed.max(&is.log_start.0)).max(0));
        lag_of_all += lag.unwrap_or(0);
        json!({
            "topic": topic,
            "partition": partition,
            "committed": committed,
            "start": is.map(|is| is.log_start.0),
            "end": is.map(|is| is.next.0),
            "lag": lag,
            "member": readers.get(&(topic.clone(), *partition)),
        })
    });
    let offsets: Vec<Value> = offsets.collect();
    Ok(Json(json!({
        "group": group,
        "state": described.group_state.as_str(),
        "protocol_type": described.protocol_type.as_str(),
        "assignor": described.protocol_data.as_str(),
        "members": described.members.iter().map(member).collect::<Vec<_>>(),
        "offsets": offsets,
        "lag": lag_of_all,
    })))
}

async fn described(context: &Context, group: &str) -> Result<DescribedGroup, ApiError> {
    let request = DescribeGroupsRequest::default().with_groups(vec![id(group)]);
    let request = RequestKind::DescribeGroups(request);
    let ResponseKind::DescribeGroups(response) = ask(context, DESCRIBE_VERSION, request).await?
    else {
        return Err(unexpected());
    };
    let described = response.groups.into_iter().next().ok_or_else(unexpected)?;
    check(described.error_code, &format!("group {group}"), None)?;
    if described.group_state.as_str() == DEAD {
        return Err(ApiError::not_found(format!("there is no group {group}")));
    }
    Ok(described)
}

fn id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

fn member(member: &DescribedGroupMember) -> Value {
    let places = assigned(member).into_iter();
    let places = places.map(|(topic, partition)| json!({ "topic": topic, "partition": partition }));
    json!({
        "member": member.member_id.as_str(),
        "instance": member.group_instance_id.as_ref().map(|id| id.as_str()),
        "client_id": member.client_id.as_str(),
        "host": member.client_host.as_str(),
        "partitions": places.collect::<Vec<_>>(),
    })
}

/// What a consumer was assigned; nothing where it is no consumer's assignment.
fn assigned(member: &DescribedGroupMember) -> Vec<Place> {
    let mut bytes = member.member_assignment.clone();
    let Ok(version @ 0..) = bytes::Buf::try_get_i16(&mut bytes) else {
        return Vec::new();
    };
    // Newer versions have more behind what the older ones have.
    let version = version.min(ASSIGNMENT_VERSION);
    let Ok(assignment) = ConsumerProtocolAssignment::decode(&mut bytes, version) else {
        return Vec::new();
    };
    let topics = assignment.assigned_partitions.into_iter();
    let places = topics.flat_map(|topic| {
        let name = topic.topic.as_str().to_owned();
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| (name.clone(), partition))
    });
    places.collect()
}

/// The newest version of a consumer's assignment that is known here.
const ASSIGNMENT_VERSION: i16 = 3;

/// All that a group has committed.
async fn committed(context: &Context, group: &str) -> Result<BTreeMap<Place, i64>, ApiError> {
    let request = OffsetFetchRequest::default()
        .with_group_id(id(group))
        .with_topics(None);
    let request = RequestKind::OffsetFetch(request);
    let ResponseKind::OffsetFetch(response) = ask(context, OFFSET_FETCH_VERSION, request).await?
    else {
        return Err(unexpected());
    };
    check(response.error_code, &format!("group {group}"), None)?;
    let rows = response.topics.into_iter().flat_map(|topic| {
        let name = topic.name.as_str().to_owned();
        let partitions = topic.partitions.into_iter();
        partitions.map(move |one| ((name.clone(), one.partition_index), one.committed_offset))
    });
    Ok(rows.filter(|(_, offset)| *offset >= 0).collect())
}

fn partition_of(context: &Context, topic: &str, partition: i32) -> Option<Partition> {
    context.broker.ledger(|ledger| {
        let topic_id = ledger.topic_id(topic)?;
        let partition = PartitionId(partition);
        ledger
            .partition(tidegate_cloud_protocol::ledger::Target {
                topic_id,
                partition,
            })
            .copied()
    })
}

async fn delete(Asking(context): Asking, Path(group): Path<String>) -> Answer {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![id(&group)]);
    let request = RequestKind::DeleteGroups(request);
    let ResponseKind::DeleteGroups(response) = ask(&context, DELETE_VERSION, request).await? else {
        return Err(unexpected());
    };
    let result = response.results.first().ok_or_else(unexpected)?;
    check(result.error_code, &format!("group {group}"), None)?;
    Ok(Json(json!({ "group": group })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    topic: String,
    /// All, where it is not said.
    partition: Option<i32>,
    to: To,
    /// Only tell what would be.
    #[serde(default)]
    dry_run: bool,
}

/// Where a group is to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum To {
    Beginning,
    End,
    /// The first record at a time or later, in milliseconds since the Unix epoch.
    Time(i64),
    Offset(i64),
    /// So much further than it is; back, where it is negative.
    Shift(i64),
}

/// Puts a group somewhere else. It must have no members, who would not notice.
async fn reset(
    Asking(context): Asking,
    Path(group): Path<String>,
    Sent(asked): Sent<Reset>,
) -> Answer {
    let topic = &*asked.topic;
    context.allow(Operation::Read, Resource::Group(&group))?;
    context.allow(Operation::Read, Resource::Topic(topic))?;
    super::topics::find(&context, topic)?;
    if let Ok(name) = tidegate_shared::id::GroupName::new(group.clone())
        && context.coordinator.has_members(&name)
    {
        let why = format!("group {group} has members: stop its consumers first");
        return Err(ApiError::conflict(why));
    }
    let wanted = match asked.partition {
        Some(partition) => vec![partition],
        None => partitions(&context, topic),
    };
    let before = committed(&context, &group).await?;
    let before = |partition: i32| before.get(&(topic.to_owned(), partition)).copied();
    let times = match asked.to {
        To::Beginning => offsets_at(&context, topic, &wanted, -2).await?,
        To::End => offsets_at(&context, topic, &wanted, -1).await?,
        To::Time(time @ 0..) => offsets_at(&context, topic, &wanted, time).await?,
        To::Time(_) => return Err(ApiError::bad_request("a time is 0 or more")),
        To::Offset(_) | To::Shift(_) => BTreeMap::new(),
    };
    let mut rows = Vec::new();
    for partition in wanted {
        let what = || format!("topic {topic} has no partition {partition}");
        let is = partition_of(&context, topic, partition);
        let is = is.ok_or_else(|| ApiError::not_found(what()))?;
        let to = match asked.to {
            To::Offset(offset) => Some(offset),
            To::Shift(by) => before(partition).map(|offset| offset.saturating_add(by)),
            _ => times.get(&partition).copied(),
        };
        // As Kafka's tool: what is out of range is put to the nearest end.
        let to = to.map(|to| to.clamp(is.log_start.0, is.next.0));
        rows.extend(to.map(|to| (partition, to)));
    }
    if !asked.dry_run && !rows.is_empty() {
        commit(&context, &group, topic, &rows).await?;
    }
    let rows = rows.into_iter().map(|(partition, to)| {
        json!({ "topic": topic, "partition": partition, "before": before(partition), "offset": to })
    });
    let offsets: Vec<Value> = rows.collect();
    Ok(Json(
        json!({ "group": group, "dry_run": asked.dry_run, "offsets": offsets }),
    ))
}

async fn commit(
    context: &Context,
    group: &str,
    topic: &str,
    rows: &[(i32, i64)],
) -> Result<(), ApiError> {
    let partitions = rows.iter().map(|(partition, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(StrBytes::default()))
    });
    let topic_rows = OffsetCommitRequestTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(id(group))
        .with_generation_id_or_member_epoch(NO_GENERATION)
        .with_topics(vec![topic_rows]);
    let request = RequestKind::OffsetCommit(request);
    let ResponseKind::OffsetCommit(response) = ask(context, OFFSET_COMMIT_VERSION, request).await?
    else {
        return Err(unexpected());
    };
    for one in response.topics.iter().flat_map(|topic| &topic.partitions) {
        check(one.error_code, &format!("group {group}"), None)?;
    }
    Ok(())
}
