//! The facts of the offset map as a whole, one JSON line each: export, import, verification. An import
//! is a union; what contradicts what is known changes nothing.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_cloud_protocol::ledger::command::{Entry, FACTS_MAX, ImportFacts};
use tidegate_cloud_protocol::ledger::{Ledger, Target};
use tidegate_cloud_protocol::offset_map::{Behind, Clash, Known, OffsetMap};
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
        let mut walk = Walk::default();
        while let Some(facts) = walk.next(&context).await.transpose() {
            let asked =
                facts.map(|facts| facts.into_iter().filter(|named| is_asked(named)).collect());
            let piece = asked.map(|asked: Vec<_>| tell(&context, &asked));
            let is_last = piece.is_err();
            if pieces.send(piece.map_err(io::Error::other)).await.is_err() || is_last {
                return;
            }
        }
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::new(lines))
}

/// All facts, in pieces: what is not packed first, so that what is packed meanwhile comes twice rather than not.
#[derive(Debug, Default)]
struct Walk {
    behind: Option<Behind>,
    /// Up to where segments' facts were handed out.
    packed: Option<(Target, KafkaOffset)>,
}

impl Walk {
    /// `None` at the end.
    async fn next(&mut self, context: &Context) -> Result<Option<Vec<NamedFact>>, ApiError> {
        if self.packed.is_none() {
            let behind = &mut self.behind;
            let facts = context
                .broker
                .look(|_, map| map.facts_behind(behind, EXPORT_FACTS_MAX));
            if !facts.is_empty() {
                return Ok(Some(facts));
            }
        }
        let (target, from) = self.packed.unwrap_or_default();
        let found = context.look_up(|all| {
            let Some((of, index)) = all.segment_from(target, from)? else {
                return Ok(None);
            };
            let from = if of == target { from } else { index.base() };
            let (facts, to) = all.facts_in_segment(of, &index, from, EXPORT_FACTS_MAX);
            Ok(Some((facts, (of, to))))
        });
        let Some((facts, told_to)) = found.await? else {
            return Ok(None);
        };
        self.packed = Some(told_to);
        Ok(Some(facts))
    }
}

/// One line of JSON for each.
fn tell(context: &Context, facts: &[NamedFact]) -> Bytes {
    let topic = |ledger: &Ledger, named: &NamedFact| {
        let topic = ledger.topic(named.fact.topic_id);
        topic.map(|topic| topic.name.clone())
    };
    let topics: Vec<_> = context.broker.ledger(|ledger| {
        let topics = facts.iter().map(|named| topic(ledger, named));
        topics.collect()
    });
    let mut piece = String::new();
    for (named, topic) in facts.iter().zip(&topics) {
        piece.push_str(&line(topic.as_ref().map(TopicName::as_str), named).to_string());
        piece.push('\n');
    }
    piece.into()
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
    // The next one finds what this one has brought.
    let _turn = context.imports.lock().await;
    let facts = context.broker.ledger(|ledger| facts_of(ledger, lines))?;
    let own = context.broker.ledger(Ledger::cluster_incarnation);
    let refused = |clash: Clash| ApiError::conflict(format!("{clash}; nothing was taken"));
    let mut beside = OffsetMap::new();
    let mut new = Vec::new();
    let mut new_lines = 0;
    for named in &facts {
        let is_other = beside.add(&named.edge, &named.stream, &named.fact);
        let is_other = is_other.map_err(refused)?;
        let before = new.len();
        for (part, known) in known_parts(&context, named).await? {
            match known {
                Known::Otherwise => return Err(refused(Clash(Box::new(named.clone())))),
                Known::Whole => {}
                Known::Not if Some(part.fact.cluster_incarnation) == own => {
                    let life = life(part.fact.cluster_incarnation);
                    return Err(ApiError::conflict(format!(
                        "{}, and {life} is this cloud's own life, whose facts it makes itself; nothing was taken",
                        missing(&part)
                    )));
                }
                Known::Not if is_other => new.push(part),
                Known::Not => {}
            }
        }
        new_lines += usize::from(new.len() > before);
    }
    for facts in new.chunks(FACTS_MAX) {
        let facts = facts.to_vec();
        let wish = (Entry::ImportFacts(ImportFacts { facts }), None);
        context.broker.submit(vec![wish]).await?;
    }
    Ok(Json(
        json!({ "new": new_lines, "known": facts.len() - new_lines }),
    ))
}

/// A fact in parts, each of which at most one segment of its partition has, with what is known of them: so
/// that few indexes are in memory at once.
async fn known_parts(
    context: &Context,
    named: &NamedFact,
) -> Result<Vec<(NamedFact, Known)>, ApiError> {
    let parts = context.broker.ledger(|ledger| parts_of(ledger, named));
    let mut known = Vec::with_capacity(parts.len());
    for part in parts {
        let found = context.look_up(|all| Ok(all.compare(&part)?)).await?;
        known.push((part, found));
        // The rest says nothing that would be taken.
        if found == Known::Otherwise {
            break;
        }
    }
    Ok(known)
}

fn parts_of(ledger: &Ledger, named: &NamedFact) -> Vec<NamedFact> {
    let fact = &named.fact;
    let (mut at, end) = (fact.kafka_offset, fact.kafka_offset.plus(fact.count as i64));
    let segments = ledger.log(Target::of(fact)).segments_within(at, end);
    let ends = segments.map(|segment| segment.end.min(end)).chain([end]);
    let parts = ends.filter_map(|to| {
        let fact = fact.within(at, to)?;
        at = to;
        let (edge, stream) = (named.edge.clone(), named.stream.clone());
        Some(NamedFact { edge, stream, fact })
    });
    parts.collect()
}

/// Holds the map against what has landed, looks at its facts from both sides, and whether those in segments are
/// looked up there. A segment that cannot be read is wrong.
async fn verify(State(context): State<Context>) -> Answer {
    let (mut facts, mut wrong) = context.broker.look(|ledger, map| {
        let mut wrong = map.check();
        wrong.extend(against_heads(ledger, map));
        (map.facts().count(), wrong)
    });
    let mut at = (Target::default(), KafkaOffset(0));
    let next = |(target, from)| {
        context
            .broker
            .ledger(|ledger| ledger.segment_from(target, from))
    };
    while let Some((target, segment)) = next(at) {
        let found = context.look_up(|all| {
            let Some((target, index)) = all.segment_from(at.0, at.1)? else {
                return Ok((0, Vec::new()));
            };
            let (facts, _) = all.facts_in_segment(target, &index, index.base(), usize::MAX);
            Ok((facts.len(), all.check_segment(target, &index)))
        });
        match found.await {
            Ok((found, of_segment)) => {
                facts += found;
                wrong.extend(of_segment);
            }
            Err(error) => wrong.push(error.to_string()),
        }
        at = (target, segment.end);
    }
    Ok(Json(verdict(facts, wrong)))
}

/// Looks whether each fact of the lines is known here, and leads from either side to the other.
async fn verify_facts(State(context): State<Context>, body: Bytes) -> Answer {
    let lines = parse(&body)?;
    let facts = context.broker.ledger(|ledger| facts_of(ledger, lines))?;
    let mut wrong = Vec::new();
    for (number, named) in (1..).zip(&facts) {
        let parts = known_parts(&context, named).await?;
        if parts.iter().any(|(_, known)| *known != Known::Whole) {
            wrong.push(format!("fact {number}: {}", missing(named)));
        }
    }
    Ok(Json(verdict(facts.len(), wrong)))
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
        let known = map.end_of(edge, name, head.incarnation);
        let agrees = match known {
            None => nothing_landed,
            Some(end) => end == head.next || (nothing_landed && end < head.next),
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
