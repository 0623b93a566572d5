//! OffsetCommit and OffsetFetch: groups' offsets, kept by the ledger.

use std::collections::BTreeSet;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::groups::{GroupError, Identity};
use tidegate_cloud_protocol::ledger::command::{CommitOffsets, Entry, OffsetCommit};
use tidegate_cloud_protocol::ledger::{Committed, Effect, Ledger};
use tidegate_shared::id::{GroupName, KafkaOffset, PartitionId, TopicId};
use uuid::Uuid;

use super::describe_groups::is_there;
use super::groups::group_for;
use super::{Context, reply_code, target};

/// From this version of OffsetCommit on, a group that is not there has a code of its own (KIP-848).
const UNKNOWN_GROUP_TOLD_SINCE: i16 = 9;

pub(super) async fn commit(
    context: &Context,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let group = match group_for(context, Operation::Read, &request.group_id) {
        Ok(group) => group,
        Err(code) => return commit_failed(request, code),
    };
    let mut offsets = Vec::new();
    // Each partition's code, as far as it is known before the commit.
    let mut topics: Vec<_> = request
        .topics
        .iter()
        .map(|topic| check_topic(context, topic, &mut offsets))
        .collect();
    let code = match check_group(context, version, &group, &request) {
        Err(code) => code,
        Ok(()) if offsets.is_empty() => reply_code::NONE,
        Ok(()) => store(context, group, offsets).await,
    };
    for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if partition.error_code == reply_code::NONE {
            partition.error_code = code;
        }
    }
    OffsetCommitResponse::default().with_topics(topics)
}

/// Nothing is said of any partition but that the group is not for this client.
fn commit_failed(request: OffsetCommitRequest, code: i16) -> OffsetCommitResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn check_group(
    context: &Context,
    version: i16,
    group: &GroupName,
    request: &OffsetCommitRequest,
) -> Result<(), i16> {
    let instance = request.group_instance_id.as_deref();
    let identity = Identity {
        group: group.clone(),
        member_id: request.member_id.as_str().to_owned(),
        instance: instance.map(str::to_owned),
        generation: request.generation_id_or_member_epoch,
    };
    let checked = context.coordinator.check_commit(&identity);
    checked.map_err(|error| match error {
        GroupError::IllegalGeneration if !context.coordinator.has_members(group) => {
            no_member(context, version, group)
        }
        error => reply_code::group(error),
    })
}

/// What somebody is told who is in a group in which nobody is.
fn no_member(context: &Context, version: i16, group: &GroupName) -> i16 {
    match version {
        _ if is_there(context, group) => reply_code::UNKNOWN_MEMBER_ID,
        ..UNKNOWN_GROUP_TOLD_SINCE => reply_code::group(GroupError::IllegalGeneration),
        _ => reply_code::GROUP_ID_NOT_FOUND,
    }
}

fn check_topic(
    context: &Context,
    topic: &OffsetCommitRequestTopic,
    offsets: &mut Vec<OffsetCommit>,
) -> OffsetCommitResponseTopic {
    let id = context.topic_id(&topic.name, Uuid::nil());
    let may = context.check(Operation::Read, Resource::Topic(&topic.name));
    let may = may.map_err(i16::from);
    let partitions = topic.partitions.iter().map(|partition| {
        let checked = may.and_then(|()| check_partition(context, id, partition));
        let code = match checked {
            Ok(offset) => {
                offsets.push(offset);
                reply_code::NONE
            }
            Err(code) => code,
        };
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code)
    });
    OffsetCommitResponseTopic::default()
        .with_partitions(partitions.collect())
        .with_name(topic.name.clone())
}

fn check_partition(
    context: &Context,
    topic_id: Option<TopicId>,
    partition: &OffsetCommitRequestPartition,
) -> Result<OffsetCommit, i16> {
    let topic_id = topic_id.ok_or(reply_code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let wanted = target(topic_id, partition.partition_index);
    let known = context.broker.ledger(|l| l.partition(wanted).is_some());
    if !known {
        return Err(reply_code::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    if metadata.len() > OffsetCommit::METADATA_BYTES_MAX {
        return Err(reply_code::OFFSET_METADATA_TOO_LARGE);
    }
    Ok(OffsetCommit {
        topic_id,
        partition: PartitionId(partition.partition_index),
        offset: KafkaOffset(partition.committed_offset),
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.to_owned(),
    })
}

async fn store(context: &Context, group: GroupName, offsets: Vec<OffsetCommit>) -> i16 {
    let count = offsets.len() as u64;
    let commit = Entry::CommitOffsets(CommitOffsets { group, offsets });
    match context.broker.submit(vec![(commit, None)]).await.as_deref() {
        Ok([Effect::OffsetsCommitted { unknown }]) if unknown.is_empty() => {
            context.broker.metrics().offset_commits.inc_by(count);
            reply_code::NONE
        }
        // A topic has gone in between; the client asks for metadata and commits again.
        Ok(_) => reply_code::UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) => reply_code::COORDINATOR_NOT_AVAILABLE,
    }
}

/// One partition's committed offset: `None` where the group has none, and a code where the client may not see it.
type Row = (i32, Result<Option<Committed>, i16>);

/// What one group has, by topic.
type Rows = Vec<(TopicName, Vec<Row>)>;

pub(super) fn fetch(
    context: &Context,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if version < 8 {
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics.map(|t| (t.name, t.partition_indexes)).collect()
        });
        return fetch_one(context, version, &request.group_id, topics);
    }
    // What is asked twice is answered once: a group can have committed in thousands of partitions.
    let mut asked = BTreeSet::new();
    let groups = request.groups.into_iter();
    let groups = groups.filter(|group| asked.insert(group.group_id.clone()));
    let groups = groups.map(|group| {
        let topics = group.topics.map(|topics| {
            let topics = topics.into_iter();
            topics.map(|t| (t.name, t.partition_indexes)).collect()
        });
        let response = OffsetFetchResponseGroup::default();
        let response = match rows(context, &group.group_id, topics) {
            Ok(rows) => response.with_topics(rows.into_iter().map(batched_topic).collect()),
            Err(code) => response.with_error_code(code),
        };
        response.with_group_id(group.group_id)
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

fn fetch_one(
    context: &Context,
    version: i16,
    group: &GroupId,
    topics: Option<Vec<(TopicName, Vec<i32>)>>,
) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    // Version 1 has a code for each partition only.
    let asked = topics.clone().filter(|_| version < 2).unwrap_or_default();
    match rows(context, group, topics) {
        Ok(rows) => {
            let topics = rows.into_iter().map(|topic| single_topic(version, topic));
            response.with_topics(topics.collect())
        }
        Err(code) if version >= 2 => response.with_error_code(code),
        Err(code) => {
            let topics = asked.into_iter().map(|(name, partitions)| {
                let rows = partitions.into_iter().map(|index| (index, Err(code)));
                single_topic(version, (name, rows.collect()))
            });
            response.with_topics(topics.collect())
        }
    }
}

fn rows(
    context: &Context,
    group: &GroupId,
    topics: Option<Vec<(TopicName, Vec<i32>)>>,
) -> Result<Rows, i16> {
    let group = group_for(context, Operation::Describe, group)?;
    Ok(context.broker.ledger(|ledger| match topics {
        Some(topics) => topics
            .into_iter()
            .map(|(name, partitions)| {
                let topic = Resource::Topic(&name);
                let may_see = context.may_in(ledger, Operation::Describe, topic);
                let refused = (!may_see).then(|| context.refuse(Operation::Describe, topic));
                let rows = partitions.into_iter().map(|partition| match &refused {
                    None => row(ledger, &group, &name, partition),
                    Some(refusal) => (partition, Err(refusal.code)),
                });
                let rows = rows.collect();
                (name, rows)
            })
            .collect(),
        None => all_rows(context, ledger, &group),
    }))
}

fn row(ledger: &Ledger, group: &GroupName, topic: &TopicName, partition: i32) -> Row {
    let id = ledger.topic_id(topic);
    let committed = id.and_then(|id| ledger.committed_at(group, target(id, partition)));
    (partition, Ok(committed.cloned()))
}

/// Of the topics that the client may see.
fn all_rows(context: &Context, ledger: &Ledger, group: &GroupName) -> Rows {
    let mut rows: Rows = Vec::new();
    for (target, committed) in ledger.committed(group) {
        let Some(topic) = ledger.topic(target.topic_id) else {
            continue;
        };
        let row = (target.partition.0, Ok(Some(committed.clone())));
        match rows.last_mut() {
            Some((name, rows)) if name.as_str() == topic.name.as_str() => rows.push(row),
            _ => {
                let name = StrBytes::from_string(topic.name.to_string());
                rows.push((TopicName(name), vec![row]));
            }
        }
    }
    rows.retain(|(name, _)| {
        let topic = Resource::Topic(name);
        context.may_in(ledger, Operation::Describe, topic)
    });
    rows
}

fn single_topic(version: i16, (name, rows): (TopicName, Vec<Row>)) -> OffsetFetchResponseTopic {
    let partitions = rows.into_iter().map(|(index, committed)| {
        let (code, (offset, leader_epoch, metadata)) = fields(committed);
        let mut partition = OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(code)
            .with_committed_offset(offset)
            .with_metadata(Some(metadata));
        if version >= 5 {
            partition.committed_leader_epoch = leader_epoch;
        }
        partition
    });
    OffsetFetchResponseTopic::default()
        .with_partitions(partitions.collect())
        .with_name(name)
}

fn batched_topic((name, rows): (TopicName, Vec<Row>)) -> OffsetFetchResponseTopics {
    let partitions = rows.into_iter().map(|(index, committed)| {
        let (code, (offset, leader_epoch, metadata)) = fields(committed);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_error_code(code)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(Some(metadata))
    });
    OffsetFetchResponseTopics::default()
        .with_partitions(partitions.collect())
        .with_name(name)
}

/// The code, and offset, leader epoch and metadata.
fn fields(committed: Result<Option<Committed>, i16>) -> (i16, (i64, i32, StrBytes)) {
    let code = *committed.as_ref().err().unwrap_or(&reply_code::NONE);
    let committed = committed.ok().flatten();
    let fields = committed.map_or((-1, -1, StrBytes::new()), |committed| {
        let metadata = StrBytes::from_string(committed.metadata);
        (committed.offset.0, committed.leader_epoch, metadata)
    });
    (code, fields)
}
