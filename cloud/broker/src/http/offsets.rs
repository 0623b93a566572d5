//! The offset map over HTTP: look-up, translation, and groups' offsets in terms of edges. Exact, or it
//! says why not. Facts as a whole are `facts`' business.

use std::cmp::Reverse;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::command::{CommitOffsets, Entry, OffsetCommit};
use tidegate_cloud_protocol::ledger::{Ledger, Stream, Target};
use tidegate_cloud_protocol::offset_map::{AllFacts, InCloud, Place};
use tidegate_shared::id::{
    ClusterIncarnation, EdgeId, EdgeOffset, GroupName, Incarnation, KafkaOffset, PartitionId,
    StreamName, TopicId, TopicName,
};

use super::Context;
use super::answer::{Answer, ApiError, Asked, Sent, Unanswered, life};
use super::door::Asking;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/offsets/lookup", get(lookup))
        .route("/offsets/translate", get(translate))
        .route("/offsets/groups/{group}", get(group).post(set_group))
}

#[derive(Debug, Deserialize)]
struct InPartition {
    topic: String,
    partition: i32,
    offset: i64,
}

/// A Kafka offset to the edge's.
async fn lookup(State(context): State<Context>, Asked(asked): Asked<InPartition>) -> Answer {
    let found = context.look_up(|all| look_up(all, &asked)).await;
    found.map(Json)
}

fn look_up(all: AllFacts<'_>, asked: &InPartition) -> Result<Value, Unanswered> {
    let ledger = all.ledger;
    // By its id also a topic of another cloud, whose facts were imported.
    let topic_id = ledger
        .topic_id(&asked.topic)
        .or_else(|| parse_topic_id(&asked.topic));
    let unknown = || ApiError::not_found(format!("there is no topic {}", asked.topic));
    let target = Target {
        topic_id: topic_id.ok_or_else(unknown)?,
        partition: PartitionId(asked.partition),
    };
    let offset = KafkaOffset(asked.offset);
    // This cloud's own life, else the newest that has a fact about it: what was imported by a topic's name may be
    // another cloud's.
    let own = ledger.cluster_incarnation().unwrap_or_default();
    let mut lives = all.map.lives_of(target);
    let is_here = ledger.topic(target.topic_id).is_some();
    if is_here {
        let partition = ledger.partition(target).ok_or_else(|| {
            let (topic, partition) = (&asked.topic, asked.partition);
            ApiError::not_found(format!("topic {topic} has no partition {partition}"))
        })?;
        if offset >= partition.next {
            return Ok(json!({ "status": "not_yet", "known_up_to": partition.next }));
        }
        if offset < partition.log_start {
            return Ok(json!({ "status": "expired", "known_from": partition.log_start }));
        }
        // What is here came in this life, or before it began (each begins an epoch): no other can say whose it is.
        let began = ledger.epoch_end(target, partition.leader_epoch - 1);
        let was_before = began.is_some_and(|began| offset < began);
        let is_older = |life: &ClusterIncarnation| life.counter < own.counter;
        lives.retain(|life| *life == own || was_before && is_older(life));
    }
    lives.sort_by_key(|life| {
        let is_older = life.counter < own.counter;
        (*life != own, !is_older, Reverse(*life))
    });
    let asked = lives.into_iter().map(|cluster_incarnation| {
        let place = Place {
            cluster_incarnation,
            target,
        };
        all.at_edge(&place, offset)
    });
    let found = asked.filter_map(Result::transpose).next().transpose()?;
    Ok(match found {
        // What an edge lands has a fact for as long as it is here.
        None if is_here => json!({ "status": "from_a_kafka_client" }),
        // Of a topic that is only known by facts that were imported.
        None => json!({ "status": "not_from_an_edge" }),
        Some((source, edge_offset)) => json!({
            "status": "landed",
            "edge": source.edge,
            "stream": source.stream,
            "incarnation": source.incarnation,
            "edge_offset": edge_offset,
            "cluster_incarnation": life(source.cluster_incarnation),
        }),
    })
}

pub(super) fn parse_topic_id(text: &str) -> Option<TopicId> {
    let is_id = text.len() == 32;
    let parsed = is_id.then(|| u128::from_str_radix(text, 16).ok());
    parsed.flatten().map(TopicId)
}

#[derive(Debug, Deserialize)]
struct AtEdge {
    edge: String,
    stream: String,
    incarnation: Option<u64>,
    offset: u64,
}

/// An edge offset to the place where it landed, or why it has none.
async fn translate(State(context): State<Context>, Asked(asked): Asked<AtEdge>) -> Answer {
    let edge = EdgeId::new(asked.edge)?;
    let stream = StreamName::new(asked.stream)?;
    let offset = EdgeOffset(asked.offset);
    let incarnation = asked.incarnation.map(Incarnation);
    let found = context.look_up(|all| find(all, (&edge, &stream, incarnation), offset));
    found.await.map(Json)
}

/// A numbering; where none is named, the newest that has the offset in question.
type Numbering<'a> = (&'a EdgeId, &'a StreamName, Option<Incarnation>);

/// Where an edge offset is, with the incarnation that was meant.
pub(super) fn find(
    all: AllFacts<'_>,
    numbering: Numbering<'_>,
    offset: EdgeOffset,
) -> Result<Value, Unanswered> {
    let (edge, stream, _) = numbering;
    let incarnation = incarnation_of(all, numbering, offset)?;
    let in_cloud = all.in_cloud(edge, stream, incarnation, offset)?;
    let mut answer = describe(all.ledger, in_cloud);
    answer["incarnation"] = json!(incarnation);
    // An incarnation that has ended gets no more.
    let known = all.ledger.stream(edge, stream);
    let mut forks = known.iter().flat_map(|known| &known.forks);
    let next = forks.find(|fork| fork.ended == incarnation);
    if let Some(fork) = next.filter(|_| answer["status"] == "not_yet") {
        answer["status"] = json!("ended");
        answer["next_incarnation"] = json!(fork.incarnation);
        answer["next_begins_at"] = json!(fork.from);
    }
    Ok(answer)
}

/// The incarnation that is meant: of the ledger's, or of facts that were imported.
fn incarnation_of(
    all: AllFacts<'_>,
    (edge, stream, asked): Numbering<'_>,
    offset: EdgeOffset,
) -> Result<Incarnation, Unanswered> {
    let known = all.ledger.stream(edge, stream);
    let head = known.map(|known| known.head.incarnation);
    let mapped = all.map.incarnations(edge, stream);
    let newest = head.or_else(|| mapped.last().copied());
    let newest = newest.ok_or_else(|| {
        ApiError::not_found(format!("edge {edge} has never sent a stream {stream}"))
    })?;
    let Some(asked) = asked else {
        let begun = || known.map_or(newest, |known| begun_at(known, offset));
        return Ok(all.meant(edge, stream, offset)?.unwrap_or_else(begun));
    };
    if asked == newest || mapped.contains(&asked) {
        return Ok(asked);
    }
    let known: Vec<_> = mapped.iter().map(ToString::to_string).collect();
    Err(ApiError::not_found(format!(
        "stream {stream} of edge {edge} has no incarnation {asked}; known: {}",
        known.join(", ")
    ))
    .into())
}

/// The newest incarnation of a stream that does not begin behind an offset.
fn begun_at(stream: &Stream, offset: EdgeOffset) -> Incarnation {
    let mut incarnation = stream.head.incarnation;
    for fork in stream.forks.iter().rev() {
        if fork.incarnation == incarnation && offset < fork.from {
            incarnation = fork.ended;
        }
    }
    incarnation
}

/// Where an edge offset is, as JSON says it.
pub(super) fn describe(ledger: &Ledger, in_cloud: Option<InCloud>) -> Value {
    match in_cloud {
        None => json!({ "status": "not_yet", "known_up_to": 0 }),
        Some(InCloud::NotYet { known_up_to }) => {
            json!({ "status": "not_yet", "known_up_to": known_up_to })
        }
        Some(InCloud::Expired) => json!({ "status": "expired" }),
        Some(InCloud::Lost { reason, from, to }) => json!({
            "status": "lost",
            "reason": reason.name(),
            "from": from,
            "to": to,
        }),
        Some(InCloud::Landed {
            place,
            kafka_offset,
        }) => json!({
            "status": "landed",
            "topic": ledger.topic(place.target.topic_id).map(|topic| topic.name.as_str()),
            "topic_id": place.target.topic_id.to_string(),
            "partition": place.target.partition,
            "kafka_offset": kafka_offset,
            "cluster_incarnation": life(place.cluster_incarnation),
        }),
    }
}

/// A group's committed offsets in terms of edges: of each numbering that landed in a partition, the
/// first offset that the group has not read.
async fn group(Asking(context): Asking, Path(group): Path<String>) -> Answer {
    let group = GroupName::new(group)?;
    context.allow(Operation::Describe, Resource::Group(group.as_str()))?;
    let committed = context.broker.ledger(|ledger| {
        let is_known = ledger.groups().any(|known| *known == group);
        let committed = ledger.committed(&group).filter(|(target, _)| {
            let topic = ledger.topic(target.topic_id);
            let name = topic.map_or("", |topic| topic.name.as_str());
            context.may_in(ledger, Operation::Describe, Resource::Topic(name))
        });
        let committed = committed.map(|(target, committed)| (target, committed.offset));
        is_known.then(|| committed.collect::<Vec<_>>())
    });
    let unknown = || ApiError::not_found(format!("group {group} has never committed an offset"));
    let mut rows = Vec::new();
    // One partition after the other: each may need a segment's index.
    for (target, offset) in committed.ok_or_else(unknown)? {
        rows.extend(context.look_up(|all| read_in(all, target, offset)).await?);
    }
    Ok(Json(json!({ "offsets": rows })))
}

fn read_in(
    all: AllFacts<'_>,
    target: Target,
    offset: KafkaOffset,
) -> Result<Vec<Value>, Unanswered> {
    let topic = all.ledger.topic(target.topic_id);
    let topic = topic.map(|topic| topic.name.as_str());
    let mut rows = Vec::new();
    for cluster_incarnation in all.map.lives_of(target) {
        let place = Place {
            cluster_incarnation,
            target,
        };
        for (source, next) in all.read_below(&place, offset)? {
            rows.push(json!({
                "topic": topic,
                "partition": target.partition,
                "kafka_offset": offset,
                "edge": source.edge,
                "stream": source.stream,
                "incarnation": source.incarnation,
                "edge_offset": next,
            }));
        }
    }
    Ok(rows)
}

#[derive(Debug, Deserialize)]
struct SetGroup {
    edge: String,
    stream: String,
    incarnation: Option<u64>,
    offset: u64,
}

/// Puts a group to where an edge's message lies: it reads that message next.
async fn set_group(
    Asking(context): Asking,
    Path(group): Path<String>,
    Sent(asked): Sent<SetGroup>,
) -> Answer {
    let group = GroupName::new(group)?;
    context.allow(Operation::Read, Resource::Group(group.as_str()))?;
    let edge = EdgeId::new(asked.edge)?;
    let stream = StreamName::new(asked.stream)?;
    if context.coordinator.has_members(&group) {
        let why = format!("group {group} has members: stop its consumers first");
        return Err(ApiError::conflict(why));
    }
    let numbering = (&edge, &stream, asked.incarnation.map(Incarnation));
    let found = context.look_up(|all| first_of(all, numbering, EdgeOffset(asked.offset)));
    let (target, offset, topic) = found.await?;
    context.allow(Operation::Read, Resource::Topic(topic.as_str()))?;
    let commit = CommitOffsets {
        group,
        offsets: vec![OffsetCommit {
            topic_id: target.topic_id,
            partition: target.partition,
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }],
    };
    let wish = (Entry::CommitOffsets(commit), None);
    context.broker.submit(vec![wish]).await?;
    Ok(Json(json!({
        "topic": topic,
        "partition": target.partition,
        "kafka_offset": offset,
    })))
}

/// Where the first record of a numbering lies that is at an offset or behind it.
fn first_of(
    all: AllFacts<'_>,
    numbering: Numbering<'_>,
    offset: EdgeOffset,
) -> Result<(Target, KafkaOffset, TopicName), Unanswered> {
    let (edge, stream, asked) = numbering;
    let incarnation = incarnation_of(all, numbering, offset)?;
    let newer = all.map.incarnations(edge, stream).into_iter();
    let newer = newer.filter(|newer| asked.is_none() && *newer > incarnation);
    // Where nothing more of it has landed, its successor goes on.
    for incarnation in std::iter::once(incarnation).chain(newer) {
        let first = all.first_from(edge, stream, incarnation, offset)?;
        let Some((place, kafka_offset)) = first else {
            continue;
        };
        if let Some(topic) = all.ledger.topic(place.target.topic_id) {
            return Ok((place.target, kafka_offset, topic.name.clone()));
        }
    }
    Err(ApiError::not_found(format!(
        "nothing of edge {edge} stream {stream} incarnation {incarnation} that is here has landed from {offset} on"
    ))
    .into())
}
