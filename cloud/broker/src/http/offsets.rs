//! The offset map over HTTP: look-up, translation, and groups' offsets in terms of edges. Exact, or it
//! says why not. Facts as a whole are `facts`' business.

use std::cmp::Reverse;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud_protocol::ledger::command::{CommitOffsets, Entry, OffsetCommit};
use tidegate_cloud_protocol::ledger::{Ledger, Stream, Target};
use tidegate_cloud_protocol::offset_map::{InCloud, OffsetMap, Place};
use tidegate_shared::id::{
    EdgeId, EdgeOffset, GroupName, Incarnation, KafkaOffset, PartitionId, StreamName, TopicId,
};

use super::Context;
use super::answer::{Answer, ApiError, Asked, Sent, life};

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
    let found = context
        .broker
        .look(|ledger, map| look_up(ledger, map, &asked));
    found.map(Json)
}

fn look_up(ledger: &Ledger, map: &OffsetMap, asked: &InPartition) -> Result<Value, ApiError> {
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
    if ledger.topic(target.topic_id).is_some() {
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
    }
    // This cloud's own life, else the newest that has a fact about it: what was imported by a topic's name may be
    // another cloud's.
    let own = ledger.cluster_incarnation().unwrap_or_default();
    let mut lives = map.lives_of(target);
    lives.sort_by_key(|life| {
        let is_older = life.counter < own.counter;
        (*life != own, !is_older, Reverse(*life))
    });
    let found = lives.into_iter().find_map(|cluster_incarnation| {
        let place = Place {
            cluster_incarnation,
            target,
        };
        map.at_edge(&place, offset)
    });
    Ok(match found {
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
    let found = context
        .broker
        .look(|ledger, map| find(ledger, map, (&edge, &stream, incarnation), offset));
    found.map(Json)
}

/// A numbering; where none is named, the newest that has the offset in question.
type Numbering<'a> = (&'a EdgeId, &'a StreamName, Option<Incarnation>);

/// Where an edge offset is, with the incarnation that was meant.
pub(super) fn find(
    ledger: &Ledger,
    map: &OffsetMap,
    numbering: Numbering<'_>,
    offset: EdgeOffset,
) -> Result<Value, ApiError> {
    let (edge, stream, _) = numbering;
    let incarnation = incarnation_of(ledger, map, numbering, offset)?;
    let in_cloud = map.in_cloud(edge, stream, incarnation, offset);
    let mut answer = describe(ledger, in_cloud);
    answer["incarnation"] = json!(incarnation);
    // An incarnation that has ended gets no more.
    let known = ledger.stream(edge, stream);
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
    ledger: &Ledger,
    map: &OffsetMap,
    (edge, stream, asked): Numbering<'_>,
    offset: EdgeOffset,
) -> Result<Incarnation, ApiError> {
    let known = ledger.stream(edge, stream);
    let head = known.map(|known| known.head.incarnation);
    let mapped = map.incarnations(edge, stream);
    let newest = head.or_else(|| mapped.last().copied());
    let newest = newest.ok_or_else(|| {
        ApiError::not_found(format!("edge {edge} has never sent a stream {stream}"))
    })?;
    let Some(asked) = asked else {
        let begun = || known.map_or(newest, |known| begun_at(known, offset));
        return Ok(map.meant(edge, stream, offset).unwrap_or_else(begun));
    };
    if asked == newest || mapped.contains(&asked) {
        return Ok(asked);
    }
    let known: Vec<_> = mapped.iter().map(ToString::to_string).collect();
    Err(ApiError::not_found(format!(
        "stream {stream} of edge {edge} has no incarnation {asked}; known: {}",
        known.join(", ")
    )))
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
async fn group(State(context): State<Context>, Path(group): Path<String>) -> Answer {
    let group = GroupName::new(group)?;
    let rows = context.broker.look(|ledger, map| {
        let mut rows = Vec::new();
        for (target, committed) in ledger.committed(&group) {
            let topic = ledger
                .topic(target.topic_id)
                .map(|topic| topic.name.as_str());
            for cluster_incarnation in map.lives_of(target) {
                let place = Place {
                    cluster_incarnation,
                    target,
                };
                for (source, next) in map.read_below(&place, committed.offset) {
                    rows.push(json!({
                        "topic": topic,
                        "partition": target.partition,
                        "kafka_offset": committed.offset,
                        "edge": source.edge,
                        "stream": source.stream,
                        "incarnation": source.incarnation,
                        "edge_offset": next,
                    }));
                }
            }
        }
        let is_known = ledger.groups().any(|known| *known == group);
        is_known.then_some(rows)
    });
    let unknown = || ApiError::not_found(format!("group {group} has never committed an offset"));
    Ok(Json(json!({ "offsets": rows.ok_or_else(unknown)? })))
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
    State(context): State<Context>,
    Path(group): Path<String>,
    Sent(asked): Sent<SetGroup>,
) -> Answer {
    let group = GroupName::new(group)?;
    let edge = EdgeId::new(asked.edge)?;
    let stream = StreamName::new(asked.stream)?;
    if context.coordinator.has_members(&group) {
        let why = format!("group {group} has members: stop its consumers first");
        return Err(ApiError::conflict(why));
    }
    let found = context.broker.look(|ledger, map| {
        let numbering = (&edge, &stream, asked.incarnation.map(Incarnation));
        let offset = EdgeOffset(asked.offset);
        let incarnation = incarnation_of(ledger, map, numbering, offset)?;
        let newer = map.incarnations(&edge, &stream).into_iter();
        let newer = newer.filter(|newer| asked.incarnation.is_none() && *newer > incarnation);
        // Where nothing more of it has landed, its successor goes on.
        let mut firsts = std::iter::once(incarnation)
            .chain(newer)
            .filter_map(|incarnation| map.first_from(&edge, &stream, incarnation, offset));
        let first = firsts.next();
        let named = first.and_then(|(place, kafka_offset)| {
            let topic = ledger.topic(place.target.topic_id)?.name.clone();
            Some((place.target, kafka_offset, topic))
        });
        let why = format!(
            "nothing of edge {edge} stream {stream} incarnation {incarnation} that is here has landed from {offset} on"
        );
        named.ok_or_else(|| ApiError::not_found(why))
    });
    let (target, offset, topic) = found?;
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
