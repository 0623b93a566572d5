//! The offset map over HTTP: look-up, translation, groups, export, import, verification. Exact, or it
//! says why not.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_cloud_protocol::ledger::command::{
    CommitOffsets, Entry, FACTS_MAX, ImportFacts, OffsetCommit,
};
use tidegate_cloud_protocol::ledger::{Ledger, Target};
use tidegate_cloud_protocol::offset_map::{InCloud, OffsetMap, Place};
use tidegate_shared::id::{
    EdgeId, EdgeOffset, GroupName, Incarnation, KafkaOffset, PartitionId, StreamName, TopicId,
};

use super::Context;
use super::answer::{Answer, ApiError, life, parse_life};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/offsets/lookup", get(lookup))
        .route("/offsets/translate", get(translate))
        .route("/offsets/groups/{group}", get(group).post(set_group))
        .route("/offsets/export", get(export))
        .route("/offsets/import", axum::routing::post(import))
        .route("/offsets/verify", get(verify))
}

#[derive(Debug, Deserialize)]
struct InPartition {
    topic: String,
    partition: i32,
    offset: i64,
}

/// A Kafka offset to the edge's.
async fn lookup(State(context): State<Context>, Query(asked): Query<InPartition>) -> Answer {
    let found = context
        .broker
        .look(|ledger, map| look_up(ledger, map, &asked));
    found.map(Json)
}

fn look_up(ledger: &Ledger, map: &OffsetMap, asked: &InPartition) -> Result<Value, ApiError> {
    let topic_id = ledger.topic_id(&asked.topic);
    let unknown = || ApiError::not_found(format!("there is no topic {}", asked.topic));
    let target = Target {
        topic_id: topic_id.ok_or_else(unknown)?,
        partition: PartitionId(asked.partition),
    };
    let partition = ledger.partition(target).ok_or_else(|| {
        let (topic, partition) = (&asked.topic, asked.partition);
        ApiError::not_found(format!("topic {topic} has no partition {partition}"))
    })?;
    let offset = KafkaOffset(asked.offset);
    if offset >= partition.next {
        return Ok(json!({ "status": "not_yet", "known_up_to": partition.next }));
    }
    if offset < partition.log_start {
        return Ok(json!({ "status": "expired", "known_from": partition.log_start }));
    }
    // The newest life of the cloud that has a fact about it.
    let lives = map.lives_of(target);
    let found = lives.into_iter().rev().find_map(|cluster_incarnation| {
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

#[derive(Debug, Deserialize)]
struct AtEdge {
    edge: String,
    stream: String,
    incarnation: Option<u64>,
    offset: u64,
}

/// An edge offset to the place where it landed, or why it has none.
async fn translate(State(context): State<Context>, Query(asked): Query<AtEdge>) -> Answer {
    let edge = EdgeId::new(asked.edge)?;
    let stream = StreamName::new(asked.stream)?;
    let offset = EdgeOffset(asked.offset);
    let found = context.broker.look(|ledger, map| {
        let known = ledger.stream(&edge, &stream);
        let known = known.ok_or_else(|| {
            ApiError::not_found(format!("edge {edge} has never sent a stream {stream}"))
        })?;
        let incarnation = asked.incarnation.map(Incarnation);
        let incarnation = incarnation.unwrap_or(known.head.incarnation);
        let in_cloud = map.in_cloud(&edge, &stream, incarnation, offset);
        let mut answer = describe(ledger, in_cloud);
        answer["incarnation"] = json!(incarnation);
        // An incarnation that has ended gets no more.
        let next = known.forks.iter().find(|fork| fork.ended == incarnation);
        if let Some(fork) = next.filter(|_| answer["status"] == "not_yet") {
            answer["status"] = json!("ended");
            answer["next_incarnation"] = json!(fork.incarnation);
            answer["next_begins_at"] = json!(fork.from);
        }
        Ok::<_, ApiError>(answer)
    });
    found.map(Json)
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
    let unknown = || ApiError::not_found(format!("group {group} has committed nothing"));
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
    Json(asked): Json<SetGroup>,
) -> Answer {
    let group = GroupName::new(group)?;
    let edge = EdgeId::new(asked.edge)?;
    let stream = StreamName::new(asked.stream)?;
    if context.coordinator.has_members(&group) {
        let why = format!("group {group} has members: stop its consumers first");
        return Err(ApiError::conflict(why));
    }
    let found = context.broker.look(|ledger, map| {
        let newest = ledger.stream(&edge, &stream)?.head.incarnation;
        let incarnation = asked.incarnation.map_or(newest, Incarnation);
        let offset = EdgeOffset(asked.offset);
        let (place, kafka_offset) = map.first_from(&edge, &stream, incarnation, offset)?;
        let topic = ledger.topic(place.target.topic_id)?.name.clone();
        Some((place.target, kafka_offset, topic))
    });
    let Some((target, offset, topic)) = found else {
        let asked = asked.offset;
        let why = format!("nothing of edge {edge} stream {stream} has landed from {asked} on");
        return Err(ApiError::not_found(why));
    };
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

#[derive(Debug, Deserialize)]
struct Exported {
    edge: Option<String>,
    stream: Option<String>,
}

/// One line of JSON a fact.
async fn export(
    State(context): State<Context>,
    Query(asked): Query<Exported>,
) -> impl IntoResponse {
    let is_asked = |named: &NamedFact| {
        asked
            .edge
            .as_deref()
            .is_none_or(|edge| edge == named.edge.as_str())
            && asked
                .stream
                .as_deref()
                .is_none_or(|stream| stream == named.stream.as_str())
    };
    let lines = context.broker.look(|ledger, map| {
        let mut lines = String::new();
        for named in map.facts().filter(is_asked) {
            lines.push_str(&line(ledger, &named).to_string());
            lines.push('\n');
        }
        lines
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], lines)
}

fn line(ledger: &Ledger, named: &NamedFact) -> Value {
    let fact = &named.fact;
    json!({
        "edge": named.edge,
        "stream": named.stream,
        "incarnation": fact.incarnation,
        "edge_offset": fact.edge_offset,
        "count": fact.count,
        "topic": ledger.topic(fact.topic_id).map(|topic| topic.name.as_str()),
        "topic_id": fact.topic_id.to_string(),
        "partition": fact.partition,
        "kafka_offset": fact.kafka_offset,
        "cluster_incarnation": life(fact.cluster_incarnation),
    })
}

/// A line of an export. The topic's name is for people: its id counts.
#[derive(Debug, Deserialize)]
struct Line {
    edge: EdgeId,
    stream: StreamName,
    incarnation: Incarnation,
    edge_offset: EdgeOffset,
    count: u64,
    topic: Option<String>,
    topic_id: Option<String>,
    partition: PartitionId,
    kafka_offset: KafkaOffset,
    cluster_incarnation: String,
}

fn parse_line(ledger: &Ledger, number: usize, text: &str) -> Result<NamedFact, ApiError> {
    let wrong = |why: String| ApiError::bad_request(format!("line {number}: {why}"));
    let line: Line = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let by_id = line.topic_id.as_deref();
    let by_id = by_id
        .and_then(|id| u128::from_str_radix(id, 16).ok())
        .map(TopicId);
    let by_name = || ledger.topic_id(line.topic.as_deref()?);
    let topic_id = by_id.or_else(by_name);
    let topic_id =
        topic_id.ok_or_else(|| wrong("neither topic_id nor a topic that is here".into()))?;
    let cluster_incarnation = parse_life(&line.cluster_incarnation);
    let cluster_incarnation = cluster_incarnation.ok_or_else(|| {
        wrong(format!(
            "{:?} is no cluster incarnation",
            line.cluster_incarnation
        ))
    })?;
    let ends = line.edge_offset.0.checked_add(line.count).is_some()
        && i64::try_from(line.count).is_ok_and(|count| {
            line.kafka_offset.0 >= 0 && line.kafka_offset.0.checked_add(count).is_some()
        });
    if line.count == 0 || !ends {
        return Err(wrong("its interval is empty, or ends nowhere".into()));
    }
    Ok(NamedFact {
        edge: line.edge,
        stream: line.stream,
        fact: Fact {
            incarnation: line.incarnation,
            edge_offset: line.edge_offset,
            count: line.count,
            cluster_incarnation,
            topic_id,
            partition: line.partition,
            kafka_offset: line.kafka_offset,
        },
    })
}

/// Takes the lines of an export: a union. Facts that contradict what is known, or each other, are an
/// error, and then nothing of all is taken.
async fn import(State(context): State<Context>, body: Bytes) -> Answer {
    let text = std::str::from_utf8(&body);
    let text = text.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let (facts, new) = context.broker.look(|ledger, map| {
        let mut facts = Vec::new();
        for (index, text) in text
            .lines()
            .enumerate()
            .filter(|(_, text)| !text.is_empty())
        {
            facts.push(parse_line(ledger, index + 1, text)?);
        }
        let new = map.would_add(&facts);
        let new = new.map_err(|clash| ApiError::conflict(clash.to_string()))?;
        Ok::<_, ApiError>((facts, new))
    })?;
    let known = facts.len() - new;
    for facts in facts.chunks(FACTS_MAX) {
        let facts = facts.to_vec();
        let wish = (Entry::ImportFacts(ImportFacts { facts }), None);
        context.broker.submit(vec![wish]).await?;
    }
    Ok(Json(json!({ "new": new, "known": known })))
}

/// Looks at every fact from both sides, and holds the map against what has landed.
async fn verify(State(context): State<Context>) -> Answer {
    let (facts, wrong) = context.broker.look(|ledger, map| {
        let mut wrong = map.check();
        wrong.extend(against_heads(ledger, map));
        (map.facts().count(), wrong)
    });
    Ok(Json(json!({ "facts": facts, "wrong": wrong })))
}

/// Heads that say more, or less, than the facts and gaps of their incarnation.
fn against_heads(ledger: &Ledger, map: &OffsetMap) -> Vec<String> {
    let streams = ledger.edges().flat_map(|(edge, known)| {
        let streams = known.streams.iter();
        streams.map(move |(name, stream)| (edge, name, stream))
    });
    let wrong = streams.filter_map(|(edge, name, stream)| {
        let head = &stream.head;
        let begins_at = stream
            .forks
            .back()
            .filter(|fork| fork.incarnation == head.incarnation);
        let nothing_landed = head.next == begins_at.map_or(EdgeOffset(0), |fork| fork.from);
        let known = map.in_cloud(edge, name, head.incarnation, head.next);
        let agrees = match known {
            None => nothing_landed,
            Some(InCloud::NotYet { known_up_to }) => known_up_to == head.next || nothing_landed,
            Some(_) => false,
        };
        (!agrees).then(|| {
            format!(
                "edge {edge} stream {name} incarnation {}: {} have landed, the map says {known:?}",
                head.incarnation, head.next
            )
        })
    });
    wrong.collect()
}
