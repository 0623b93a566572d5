//! The facts of the offset map as a whole, one JSON line each: export, import, verification. An import
//! is a union; what contradicts what is known changes nothing.

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_cloud_protocol::ledger::Ledger;
use tidegate_cloud_protocol::ledger::command::{Entry, FACTS_MAX, ImportFacts};
use tidegate_cloud_protocol::offset_map::{InCloud, OffsetMap};
use tidegate_shared::id::{
    EdgeId, EdgeOffset, Incarnation, KafkaOffset, PartitionId, StreamName, TopicName,
};

use super::Context;
use super::answer::{Answer, ApiError, Asked, life, parse_life};
use super::lines::Lines;
use super::offsets::parse_topic_id;
use crate::limits::{EXPORT_FACTS_MAX, HTTP_FACTS_BYTES_MAX, WRONG_FACTS_SHOWN_MAX};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/offsets/export", get(export))
        .route("/offsets/import", post(import))
        .route("/offsets/verify", get(verify).post(verify_facts))
        .layer(DefaultBodyLimit::max(HTTP_FACTS_BYTES_MAX))
}

#[derive(Debug, Deserialize)]
struct Exported {
    edge: Option<String>,
    stream: Option<String>,
}

/// One line of JSON a fact.
async fn export(
    State(context): State<Context>,
    Asked(asked): Asked<Exported>,
) -> impl IntoResponse {
    let is_asked = move |named: &NamedFact| {
        let is =
            |asked: &Option<String>, name: &str| asked.as_deref().is_none_or(|asked| asked == name);
        is(&asked.edge, named.edge.as_str()) && is(&asked.stream, named.stream.as_str())
    };
    let (pieces, lines) = Lines::new();
    tokio::spawn(async move {
        let mut after = None;
        loop {
            let (facts, topics) = context.broker.look(|ledger, map| {
                let facts = map.facts_behind(&mut after, EXPORT_FACTS_MAX);
                let topic =
                    |named: &NamedFact| Some(ledger.topic(named.fact.topic_id)?.name.clone());
                let topics: Vec<_> = facts.iter().map(topic).collect();
                (facts, topics)
            });
            if facts.is_empty() {
                return;
            }
            let mut piece = String::new();
            for (named, topic) in facts
                .iter()
                .zip(&topics)
                .filter(|(named, _)| is_asked(named))
            {
                piece.push_str(&line(topic.as_ref().map(TopicName::as_str), named).to_string());
                piece.push('\n');
            }
            if pieces.send(piece.into()).await.is_err() {
                return;
            }
        }
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::new(lines))
}

fn line(topic: Option<&str>, named: &NamedFact) -> Value {
    let fact = &named.fact;
    json!({
        "edge": named.edge,
        "stream": named.stream,
        "incarnation": fact.incarnation,
        "edge_offset": fact.edge_offset,
        "count": fact.count,
        "topic": topic,
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

impl Line {
    /// The fact, where its topic can be told: by its id, else by its name here.
    fn fact(self, ledger: &Ledger, number: usize) -> Result<NamedFact, ApiError> {
        let by_id = self.topic_id.as_deref().and_then(parse_topic_id);
        let by_name = || ledger.topic_id(self.topic.as_deref()?);
        let topic_id = by_id.or_else(by_name);
        let topic_id = topic_id
            .ok_or_else(|| wrong(number, "neither topic_id nor a topic that is here".into()))?;
        let cluster_incarnation = parse_life(&self.cluster_incarnation);
        let cluster_incarnation = cluster_incarnation.ok_or_else(|| {
            let why = format!("{:?} is no cluster incarnation", self.cluster_incarnation);
            wrong(number, why)
        })?;
        let ends = self.edge_offset.0.checked_add(self.count).is_some()
            && i64::try_from(self.count).is_ok_and(|count| {
                self.kafka_offset.0 >= 0 && self.kafka_offset.0.checked_add(count).is_some()
            });
        if self.count == 0 || !ends {
            return Err(wrong(
                number,
                "its interval is empty, or ends nowhere".into(),
            ));
        }
        Ok(NamedFact {
            edge: self.edge,
            stream: self.stream,
            fact: Fact {
                incarnation: self.incarnation,
                edge_offset: self.edge_offset,
                count: self.count,
                cluster_incarnation,
                topic_id,
                partition: self.partition,
                kafka_offset: self.kafka_offset,
            },
        })
    }
}

fn wrong(number: usize, why: String) -> ApiError {
    ApiError::bad_request(format!("line {number}: {why}"))
}

/// The lines, each with its number. Apart from the facts: reading tens of megabytes must not keep out what
/// lands.
fn parse(body: &Bytes) -> Result<Vec<(usize, Line)>, ApiError> {
    let text = std::str::from_utf8(body);
    let text = text.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, text)| !text.trim().is_empty());
    let parsed = lines.map(|(number, text)| {
        let line = serde_json::from_str(text);
        Ok((
            number,
            line.map_err(|error| wrong(number, error.to_string()))?,
        ))
    });
    parsed.collect()
}

fn facts_of(ledger: &Ledger, lines: Vec<(usize, Line)>) -> Result<Vec<NamedFact>, ApiError> {
    let facts = lines.into_iter();
    facts
        .map(|(number, line)| line.fact(ledger, number))
        .collect()
}

/// Takes the lines of an export: a union. Facts that contradict what is known, or each other, are an
/// error, and then nothing of all is taken. So are facts of this cloud's own life that it has not made:
/// they would be in the way of what lands.
async fn import(State(context): State<Context>, body: Bytes) -> Answer {
    let lines = parse(&body)?;
    let (facts, new) = context.broker.look(|ledger, map| {
        let facts = facts_of(ledger, lines)?;
        let new = map.would_add(&facts);
        let new = new.map_err(|clash| ApiError::conflict(format!("{clash}; nothing was taken")))?;
        let own = ledger.cluster_incarnation().unwrap_or_default();
        if let Some(named) = map.first_not_made(&facts, own) {
            let why = format!(
                "{}, and {} is this cloud's own life, whose facts it makes itself; nothing was taken",
                missing(named),
                life(own)
            );
            return Err(ApiError::conflict(why));
        }
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
    Ok(Json(verdict(facts, wrong)))
}

/// Looks whether each fact of the lines is known here, and leads from either side to the other.
async fn verify_facts(State(context): State<Context>, body: Bytes) -> Answer {
    let lines = parse(&body)?;
    let (facts, wrong) = context.broker.look(|ledger, map| {
        let facts = facts_of(ledger, lines)?;
        let wrong = facts
            .iter()
            .enumerate()
            .filter(|(_, named)| !map.holds(named));
        let wrong = wrong.map(|(index, named)| format!("fact {}: {}", index + 1, missing(named)));
        let wrong: Vec<_> = wrong.collect();
        Ok::<_, ApiError>((facts.len(), wrong))
    })?;
    Ok(Json(verdict(facts, wrong)))
}

fn missing(named: &NamedFact) -> String {
    let fact = &named.fact;
    format!(
        "edge {} stream {} incarnation {} offsets {}..{} are not known to lie at {} of partition {} of topic {}",
        named.edge,
        named.stream,
        fact.incarnation,
        fact.edge_offset,
        fact.edge_offset.plus(fact.count),
        fact.kafka_offset,
        fact.partition,
        fact.topic_id
    )
}

fn verdict(facts: usize, mut wrong: Vec<String>) -> Value {
    let count = wrong.len();
    wrong.truncate(WRONG_FACTS_SHOWN_MAX);
    json!({ "facts": facts, "wrong_count": count, "wrong": wrong })
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
