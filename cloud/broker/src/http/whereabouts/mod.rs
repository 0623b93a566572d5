//! `/api/v1/where`: for one message of an edge, what the cloud knows of each hop: the edge's link, how far
//! its streams have landed, where the message lies, who has read past it, and what is declared lost.
//! What has not landed only the edge can say.

mod search;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud_protocol::ledger::{Ledger, Stream, Target};
use tidegate_cloud_protocol::offset_map::OffsetMap;
use tidegate_shared::id::{EdgeId, EdgeOffset, Incarnation, KafkaOffset, StreamName, TopicId};
use tidegate_shared::topic::TopicFilter;

use super::Context;
use super::answer::{Answer, ApiError, Asked};
use super::edges::link;
use super::offsets;
use crate::limits::{WHERE_GAPS_MAX, WHERE_GROUPS_MAX};
use search::{Found, Search};

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/where", get(find))
}

/// Which message: an offset of a stream, or the newest that has landed, on an MQTT topic and at or before
/// a time where these are given.
#[derive(Debug, Deserialize)]
struct Question {
    edge: String,
    /// All of the edge's streams where it is left out. A keyed stream means all its lanes.
    stream: Option<String>,
    /// A topic or a filter.
    topic: Option<String>,
    at_ms: Option<i64>,
    offset: Option<u64>,
    incarnation: Option<u64>,
}

async fn find(State(context): State<Context>, Asked(asked): Asked<Question>) -> Answer {
    let edge = EdgeId::new(asked.edge.as_str())?;
    let topic = asked.topic.as_deref().map(TopicFilter::new).transpose();
    let topic = topic.map_err(|error| ApiError::bad_request(format!("topic: {error}")))?;
    let mut answer = context.broker.look(|ledger, map| {
        describe(ledger, map, &edge, asked.stream.as_deref())
            .ok_or_else(|| ApiError::not_found(format!("edge {edge} has never connected")))
    })?;
    answer["link"] = link(&context, &edge);
    if let Some(offset) = asked.offset {
        answer["found"] = at_offset(&context, &edge, &asked, EdgeOffset(offset)).await?;
        return Ok(Json(answer));
    }
    let search = Search {
        edge,
        stream: asked.stream,
        topic,
        at_ms: asked.at_ms,
    };
    let outcome = search.run(&context).await?;
    answer["found"] = match outcome.found {
        Some(found) => tell(&context, &found),
        None => Value::Null,
    };
    answer["searched_all"] = json!(outcome.searched_all);
    Ok(Json(answer))
}

/// What the offset map says, and with it the record's own times and topic where it has landed.
async fn at_offset(
    context: &Context,
    edge: &EdgeId,
    asked: &Question,
    offset: EdgeOffset,
) -> Result<Value, ApiError> {
    let stream = asked.stream.as_deref();
    let stream = stream.ok_or_else(|| ApiError::bad_request("an offset needs its stream"))?;
    let stream = StreamName::new(stream)?;
    let incarnation = asked.incarnation.map(Incarnation);
    let found = context.look_up(|all| offsets::find(all, (edge, &stream, incarnation), offset));
    let mut answer = found.await?;
    answer["stream"] = json!(stream);
    answer["edge_offset"] = json!(offset);
    let place = || {
        let partition = answer["partition"].as_i64()?;
        let topic_id = offsets::parse_topic_id(answer["topic_id"].as_str()?)?;
        let target = Target {
            topic_id,
            partition: tidegate_shared::id::PartitionId(i32::try_from(partition).ok()?),
        };
        Some((target, KafkaOffset(answer["kafka_offset"].as_i64()?)))
    };
    let Some((target, kafka_offset)) = place() else {
        return Ok(answer);
    };
    if let Some(record) = search::record_at(context, target, kafka_offset).await? {
        answer["time_ms"] = json!(record.time_ms);
        answer["mqtt_topic"] = json!(record.mqtt_topic);
        answer["landed_ms"] = json!(record.landed_ms);
    }
    answer["groups"] = groups(context, target, kafka_offset);
    Ok(answer)
}

fn tell(context: &Context, found: &Found) -> Value {
    let topic = |ledger: &Ledger| Some(ledger.topic(found.target.topic_id)?.name.clone());
    json!({
        "status": "landed",
        "stream": found.stream,
        "incarnation": found.fact.incarnation,
        "edge_offset": found.edge_offset(),
        "topic": context.broker.ledger(topic),
        "topic_id": found.target.topic_id.to_string(),
        "partition": found.target.partition,
        "kafka_offset": found.record.kafka_offset,
        "time_ms": found.record.time_ms,
        "mqtt_topic": found.record.mqtt_topic,
        "landed_ms": found.record.landed_ms,
        "groups": groups(context, found.target, found.record.kafka_offset),
    })
}

/// The groups that consume the topic, and whether each has committed past an offset.
fn groups(context: &Context, target: Target, offset: KafkaOffset) -> Value {
    let groups = context.broker.ledger(|ledger| {
        let concerned = ledger
            .groups()
            .filter(|group| has_topic(ledger, group, target.topic_id));
        let told = concerned.take(WHERE_GROUPS_MAX).map(|group| {
            let committed = ledger.committed_at(group, target).map(|at| at.offset);
            json!({
                "group": group,
                "committed": committed,
                "has_read": committed.is_some_and(|committed| committed > offset),
            })
        });
        told.collect::<Vec<_>>()
    });
    Value::Array(groups)
}

fn has_topic(ledger: &Ledger, group: &tidegate_shared::id::GroupName, topic_id: TopicId) -> bool {
    let mut committed = ledger.committed(group);
    committed.any(|(target, _)| target.topic_id == topic_id)
}

/// The edge's streams of that name, and what holds landing up; `None`: there is no such edge.
fn describe(
    ledger: &Ledger,
    map: &OffsetMap,
    edge: &EdgeId,
    stream: Option<&str>,
) -> Option<Value> {
    let known = ledger.edge(edge)?;
    let wanted = known
        .streams
        .iter()
        .filter(|(name, _)| stream.is_none_or(|asked| is_of(name, asked)));
    let streams = wanted.map(|(name, stream)| describe_stream(ledger, map, (edge, name), stream));
    Some(json!({
        "edge": edge,
        "quarantined": known.fights.is_quarantined,
        "behind": ledger.behind().is_some(),
        "streams": streams.collect::<Vec<_>>(),
        "found": null,
        "searched_all": true,
    }))
}

/// The stream itself, or a lane of it.
fn is_of(name: &StreamName, asked: &str) -> bool {
    let rest = name.as_str().strip_prefix(asked);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
}

fn describe_stream(
    ledger: &Ledger,
    map: &OffsetMap,
    (edge, name): (&EdgeId, &StreamName),
    stream: &Stream,
) -> Value {
    let incarnation = stream.head.incarnation;
    let gaps = map.newest_gaps(edge, name, incarnation, WHERE_GAPS_MAX);
    let gaps = gaps
        .into_iter()
        .map(|(from, to, reason)| json!({ "from": from, "to": to, "reason": reason.name() }));
    json!({
        "stream": name,
        "incarnation": incarnation,
        "landed": stream.head.next,
        "lost": stream.gap_records,
        "parked": ledger.topic(stream.target.topic_id).is_none(),
        "gaps": gaps.collect::<Vec<_>>(),
    })
}
