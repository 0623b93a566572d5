//! Edges over HTTP: who is there, how far their streams have landed, and what an operator decides.

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tidegate_cloud_protocol::ledger::command::{Begin, Entry, ReleaseEdge};
use tidegate_cloud_protocol::ledger::{Command, Edge, Effect, Ledger, Stream};
use tidegate_shared::id::{EdgeId, StreamName};
use uuid::Uuid;

use super::Context;
use super::answer::{Answer, ApiError, life};
use crate::clock::wall_ms;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/edges", get(list))
        .route("/edges/{edge}", get(show))
        .route("/edges/{edge}/release", post(release))
        .route("/cluster", get(cluster))
        .route("/cluster/incarnation", post(begin))
}

async fn list(State(context): State<Context>) -> Answer {
    let mut edges = context.broker.ledger(|ledger| {
        let edges = ledger
            .edges()
            .map(|(id, edge)| (id.clone(), describe(id, edge)));
        edges.collect::<Vec<_>>()
    });
    for (id, edge) in &mut edges {
        edge["link"] = link(&context, id);
    }
    let edges: Vec<_> = edges.into_iter().map(|(_, edge)| edge).collect();
    Ok(Json(json!({ "edges": edges })))
}

fn describe(id: &EdgeId, edge: &Edge) -> Value {
    let landed = edge.streams.values().map(|stream| stream.head.next.0);
    json!({
        "edge": id,
        "session_epoch": edge.session_epoch,
        "store_id": edge.store_id.to_string(),
        "quarantined": edge.fights.is_quarantined,
        "fights": edge.fights.count,
        "streams": edge.streams.len(),
        "landed": landed.fold(0, u64::saturating_add),
    })
}

/// An edge's connection: whether there is one, since when, when something came last, and why the one
/// before ended. Known since the cloud's start.
pub(super) fn link(context: &Context, edge: &EdgeId) -> Value {
    let Some(seen) = context.broker.presence().of(edge) else {
        return json!({ "connected": false });
    };
    json!({
        "connected": seen.connected_since_ms.is_some(),
        "since_ms": seen.connected_since_ms,
        "last_seen_ms": seen.last_seen_ms(),
        "peer": seen.peer.to_string(),
        "last_ended": seen.ended,
    })
}

async fn show(State(context): State<Context>, Path(edge): Path<String>) -> Answer {
    let edge = EdgeId::new(edge)?;
    let seen = context.broker.presence().of(&edge);
    let announced = seen.map(|seen| seen.announced).unwrap_or_default();
    let shown = context.broker.ledger(|ledger| {
        let known = ledger.edge(&edge)?;
        let mut shown = describe(&edge, known);
        let streams = known.streams.iter().map(|(name, stream)| {
            let mut described = describe_stream(ledger, name, stream);
            described["announced"] = json!(announced.get(name));
            described
        });
        shown["streams"] = Value::Array(streams.collect());
        Some(shown)
    });
    let unknown = || ApiError::not_found(format!("edge {edge} has never connected"));
    let mut shown = shown.ok_or_else(unknown)?;
    shown["link"] = link(&context, &edge);
    Ok(Json(shown))
}

fn describe_stream(ledger: &Ledger, name: &StreamName, stream: &Stream) -> Value {
    let forks = stream.forks.iter().map(|fork| {
        json!({
            "incarnation": fork.incarnation,
            "from": fork.from,
            "ended": fork.ended,
            "ended_at": fork.ended_at,
            "reason": fork.reason.name(),
            "lost": fork.gap_records(),
            "at_ms": fork.at_ms,
        })
    });
    let topic = ledger.topic(stream.target.topic_id);
    json!({
        "stream": name,
        "incarnation": stream.head.incarnation,
        "landed": stream.head.next,
        "lost": stream.gap_records,
        "topic": topic.map(|topic| topic.name.as_str()),
        "partition": stream.target.partition,
        "parked": topic.is_none(),
        "forks": forks.collect::<Vec<_>>(),
    })
}

/// Lets an edge out of quarantine.
async fn release(State(context): State<Context>, Path(edge): Path<String>) -> Answer {
    let edge = EdgeId::new(edge)?;
    let entry = Entry::ReleaseEdge(ReleaseEdge { edge: edge.clone() });
    let effects = context.broker.submit(vec![(entry, None)]).await?;
    match effects.first() {
        Some(Effect::EdgeReleased { was_held: true }) => {
            tracing::warn!(%edge, "an edge was released from quarantine");
            Ok(Json(json!({ "edge": edge })))
        }
        _ => Err(ApiError::conflict(format!(
            "edge {edge} is not in quarantine"
        ))),
    }
}

async fn cluster(State(context): State<Context>) -> Answer {
    let connected = context.broker.presence().connected();
    let mut status = context.broker.ledger(|ledger| {
        let behind = ledger.behind().map(|behind| {
            json!({
                "edge": behind.edge,
                "seen": life(behind.seen),
                "seen_epoch": behind.seen_epoch,
                "stream": behind.stream,
            })
        });
        let held = ledger
            .edges()
            .filter(|(_, edge)| edge.fights.is_quarantined);
        let held: Vec<_> = held.map(|(id, _)| id.as_str()).collect();
        json!({
            "cluster_incarnation": life(ledger.cluster_incarnation().unwrap_or_default()),
            "behind": behind,
            "topics": ledger.topics().count(),
            "edges": ledger.edges().count(),
            "quarantined": held,
        })
    });
    status["connected"] = json!(connected);
    Ok(Json(status))
}

/// Begins a new cluster incarnation: after a restore, so that edges send again what they keep.
async fn begin(State(context): State<Context>) -> Answer {
    let begin = Begin {
        now_ms: wall_ms(),
        cluster_incarnation_id: Uuid::new_v4().as_u128(),
    };
    match context.broker.command(Command::Begin(begin)).await? {
        Effect::Begun {
            cluster_incarnation,
        } => {
            tracing::warn!(%cluster_incarnation, "a new cluster incarnation has begun");
            let cluster_incarnation = life(cluster_incarnation);
            Ok(Json(json!({ "cluster_incarnation": cluster_incarnation })))
        }
        _ => Err(ApiError::conflict("no incarnation was begun")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use tidegate_bridge_protocol::landing::Head;
    use tidegate_cloud_protocol::ledger::Target;
    use tidegate_shared::id::{EdgeOffset, PartitionId, TopicId};

    use super::*;

    /// Nothing that an edge says of its offsets can end the listing.
    #[test]
    fn heads_whose_sum_is_no_number_are_told() {
        let stream = |name: &str| {
            let stream = Stream {
                head: Head {
                    next: EdgeOffset(u64::MAX - 1),
                    ..Head::default()
                },
                target: Target {
                    topic_id: TopicId(1),
                    partition: PartitionId(0),
                },
                gap_records: 0,
                life: 1,
                older: Default::default(),
                forks: VecDeque::new(),
            };
            (StreamName::new(name).unwrap(), stream)
        };
        let edge = Edge {
            streams: BTreeMap::from([stream("a"), stream("b")]),
            ..Edge::default()
        };
        let told = describe(&EdgeId::new("plant").unwrap(), &edge);
        assert_eq!(told["landed"], u64::MAX);
    }
}
