//! Topics over HTTP: list, create, grow, delete.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::command::{CreateTopic, DeleteTopic, GrowTopic};
use tidegate_cloud_protocol::ledger::{Command, Effect, Ledger};
use tidegate_shared::id::{TopicId, TopicName};
use uuid::Uuid;

use super::Context;
use super::answer::{Answer, ApiError, Sent};
use super::door::Asking;
use super::storage::changes;
use crate::kafka::collision;
use crate::limits::TOPIC_PARTITIONS_MAX;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/topics", get(list).post(create))
        .route("/topics/{topic}", axum::routing::delete(delete))
        .route("/topics/{topic}/partitions", post(grow))
}

async fn list(Asking(context): Asking) -> Answer {
    let topics = context.broker.ledger(|ledger| {
        let seen = ledger.topics().filter(|(_, topic)| {
            let resource = Resource::Topic(topic.name.as_str());
            context.may_in(ledger, Operation::Describe, resource)
        });
        let topics = seen.map(|(id, topic)| {
            let partitions = topic.partitions().iter();
            let records: i64 = partitions.map(|one| one.next.0 - one.log_start.0).sum();
            json!({
                "topic": topic.name,
                "topic_id": id.to_string(),
                "partitions": topic.partitions().len(),
                "records": records,
            })
        });
        topics.collect::<Vec<_>>()
    });
    Ok(Json(json!({ "topics": topics })))
}

#[derive(Debug, Deserialize)]
struct Create {
    name: TopicName,
    partitions: u32,
    /// Settings that are not the default, by name.
    #[serde(default)]
    config: BTreeMap<String, Option<String>>,
}

fn check(partitions: u32) -> Result<(), ApiError> {
    match (1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
        true => Ok(()),
        false => {
            let why =
                format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions, not {partitions}");
            Err(ApiError::bad_request(why))
        }
    }
}

async fn create(Asking(context): Asking, Sent(asked): Sent<Create>) -> Answer {
    if !context.may(Operation::Create, Resource::Cluster) {
        context.allow(Operation::Create, Resource::Topic(asked.name.as_str()))?;
    }
    check(asked.partitions)?;
    let is_there = |ledger: &Ledger| ledger.topic_id(asked.name.as_str()).is_some();
    let conflict = || ApiError::conflict(format!("topic {} is there already", asked.name));
    // Before a store is asked that nobody may want.
    if context.broker.ledger(is_there) {
        return Err(conflict());
    }
    let alike = context
        .broker
        .ledger(|ledger| collision(ledger, &asked.name));
    if let Some(alike) = alike {
        let why = format!(
            "topic {} would be taken for {alike}, which is there",
            asked.name
        );
        return Err(ApiError::conflict(why));
    }
    let changes = changes(&context, &asked.config).await?;
    let create = CreateTopic {
        name: asked.name.clone(),
        topic_id: TopicId(Uuid::new_v4().as_u128()),
        partitions: asked.partitions,
        changes,
    };
    match context.broker.command(Command::CreateTopic(create)).await? {
        Effect::TopicCreated { topic_id } => Ok(Json(json!({
            "topic": asked.name,
            "topic_id": topic_id.to_string(),
        }))),
        _ => Err(conflict()),
    }
}

pub(super) fn find(context: &Context, topic: &str) -> Result<TopicId, ApiError> {
    let found = context.broker.ledger(|ledger| ledger.topic_id(topic));
    found.ok_or_else(|| ApiError::not_found(format!("there is no topic {topic}")))
}

async fn delete(State(context): State<Context>, Path(topic): Path<String>) -> Answer {
    let topic_id = find(&context, &topic)?;
    let command = Command::DeleteTopic(DeleteTopic { topic_id });
    context.broker.command(command).await?;
    Ok(Json(
        json!({ "topic": topic, "topic_id": topic_id.to_string() }),
    ))
}

#[derive(Debug, Deserialize)]
struct Grow {
    partitions: u32,
}

async fn grow(
    State(context): State<Context>,
    Path(topic): Path<String>,
    Sent(asked): Sent<Grow>,
) -> Answer {
    check(asked.partitions)?;
    let topic_id = find(&context, &topic)?;
    let command = Command::GrowTopic(GrowTopic {
        topic_id,
        partitions: asked.partitions,
    });
    match context.broker.command(command).await? {
        Effect::TopicGrown {
            before, partitions, ..
        } if partitions == asked.partitions && before < partitions => {
            Ok(Json(json!({ "topic": topic, "partitions": partitions })))
        }
        _ => Err(ApiError::bad_request(format!(
            "topic {topic} has as many partitions already: it can only grow"
        ))),
    }
}
