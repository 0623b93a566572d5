//! How a topic is stored, over HTTP: its settings, where each partition lies, what is to be given up, and
//! the scrub.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::command::{AlterTopic, Entry, TopicChange, Trim};
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Effect, Ledger, Target, Topic};
use tidegate_cloud_protocol::moving;
use tidegate_shared::id::{KafkaOffset, PartitionId, TopicId};
use tokio::sync::mpsc;

use super::Context;
use super::answer::{Answer, ApiError, Sent};
use super::door::Asking;
use super::lines::{Lines, NDJSON, line};
use super::topics::find;
use crate::scrub::{self, Finding};
use crate::store::{Price, Store};
use crate::topic_settings::{self, STORAGE_URL};
use crate::topic_store::{self, TopicStoreError};

/// Findings that wait for a slow reader.
const FINDINGS_MAX: usize = 16;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/topics/{topic}", get(describe))
        .route("/topics/{topic}/config", post(alter))
        .route("/topics/{topic}/trim", post(trim))
        .route("/topics/{topic}/verify", get(verify))
        .route("/storage/cost", get(cost))
}

async fn describe(State(context): State<Context>, Path(topic): Path<String>) -> Answer {
    let topic_id = find(&context, &topic)?;
    let open = context.broker.shared().segments.stores();
    let cluster = open.cluster().url();
    let (cluster, troubles) = (&*cluster.absolute(), open.troubles());
    let segment_bytes = context.broker.pack_rule().segment_bytes;
    let described = context.broker.ledger(|ledger| {
        let known = ledger.topic(topic_id)?;
        Some(json!({
            "topic": known.name,
            "topic_id": topic_id.to_string(),
            "config": config(ledger, known, cluster, segment_bytes),
            "partitions": partitions(ledger, topic_id, known),
            "stores": stores(ledger, topic_id, known, cluster, &troubles),
        }))
    });
    let described = described.ok_or_else(|| ApiError::not_found("the topic is gone"))?;
    Ok(Json(described))
}

fn config(ledger: &Ledger, topic: &Topic, cluster: &str, segment_bytes: u64) -> Value {
    let settings = topic_settings::show(&topic.settings, segment_bytes);
    let number = topic.settings.store;
    let url = ledger.store_url(number).unwrap_or(cluster).to_owned();
    let store = (STORAGE_URL, url, number == CLUSTER_STORE);
    let settings = settings.chain([store]).map(|(name, value, is_default)| {
        json!({ "name": name, "value": value, "is_default": is_default })
    });
    settings.collect()
}

/// What the topic has in each object store. What it has in another than its own is on its way there.
fn stores(
    ledger: &Ledger,
    topic_id: TopicId,
    topic: &Topic,
    cluster: &str,
    troubles: &BTreeMap<u32, String>,
) -> Value {
    let stored = moving::stored(ledger, topic_id).into_iter();
    let stores = stored.map(|(number, stored)| {
        json!({
            "store": number,
            "url": ledger.store_url(number).unwrap_or(cluster),
            "segments": stored.segments,
            "bytes": stored.bytes,
            "is_topics": number == topic.settings.store,
            "trouble": troubles.get(&number),
        })
    });
    stores.collect()
}

fn targets(topic_id: TopicId, topic: &Topic) -> impl Iterator<Item = Target> + use<> {
    let partitions = 0..topic.partitions().len() as i32;
    partitions.map(move |number| Target {
        topic_id,
        partition: PartitionId(number),
    })
}

fn partitions(ledger: &Ledger, topic_id: TopicId, topic: &Topic) -> Value {
    let partitions = targets(topic_id, topic).zip(topic.partitions());
    let partitions = partitions.map(|(target, numbers)| {
        let log = ledger.log(target);
        let packed: u64 = log.segments().map(|segment| segment.bytes).sum();
        json!({
            "partition": target.partition.0,
            "start": numbers.log_start.0,
            "end": numbers.next.0,
            "segments": log.segments().len(),
            "segments_bytes": packed,
            "tail_batches": log.tail().len(),
            "tail_bytes": log.tail_bytes(),
        })
    });
    partitions.collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alter {
    /// By name; `null` is the default.
    changes: BTreeMap<String, Option<String>>,
}

/// What settings by name come to. A store that is named is asked first.
pub(super) async fn changes(
    context: &Context,
    asked: &BTreeMap<String, Option<String>>,
) -> Result<Vec<TopicChange>, ApiError> {
    let changes = topic_settings::parse_all(asked);
    let mut changes = changes.map_err(|error| ApiError::bad_request(error.to_string()))?;
    if let Some(url) = asked.get(STORAGE_URL) {
        // It makes the cloud write elsewhere.
        context.allow(Operation::AlterConfigs, Resource::Cluster)?;
        let number = topic_store::number_of(&context.broker, url.as_deref()).await?;
        changes.push(TopicChange::Store(number));
    }
    Ok(changes)
}

async fn alter(
    Asking(context): Asking,
    Path(topic): Path<String>,
    Sent(asked): Sent<Alter>,
) -> Answer {
    let topic_id = find(&context, &topic)?;
    let changes = changes(&context, &asked.changes).await?;
    let alter = Entry::AlterTopic(AlterTopic { topic_id, changes });
    match context.broker.submit(vec![(alter, None)]).await?[..] {
        [Effect::TopicAltered { .. }] => describe(State(context), Path(topic)).await,
        _ => Err(ApiError::not_found(format!("there is no topic {topic}"))),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    partition: i32,
    /// The first offset that stays; -1: all that there is is given up.
    before: i64,
}

async fn trim(
    State(context): State<Context>,
    Path(topic): Path<String>,
    Sent(asked): Sent<Before>,
) -> Answer {
    let target = Target {
        topic_id: find(&context, &topic)?,
        partition: PartitionId(asked.partition),
    };
    let known = context
        .broker
        .ledger(|ledger| ledger.partition(target).copied());
    let Some(known) = known else {
        let why = format!("topic {topic} has no partition {}", asked.partition);
        return Err(ApiError::not_found(why));
    };
    let start = match asked.before {
        -1 => known.next,
        before => KafkaOffset(before),
    };
    if start < KafkaOffset(0) || start > known.next {
        let why = format!(
            "partition {} ends at offset {}",
            asked.partition, known.next
        );
        return Err(ApiError::bad_request(why));
    }
    let trim = Entry::Trim(Trim { target, start });
    match context.broker.submit(vec![(trim, None)]).await?[..] {
        [Effect::Trimmed { start, .. }] => Ok(Json(json!({
            "topic": topic,
            "partition": asked.partition,
            "start": start.0,
        }))),
        _ => Err(ApiError::not_found(format!("there is no topic {topic}"))),
    }
}

/// What the segments of each topic cost in a month, and what was asked of each object store since the start,
/// by the list prices of S3; a folder costs nothing.
async fn cost(State(context): State<Context>) -> Answer {
    let open = context.broker.shared().segments.stores().open_now();
    let prices: BTreeMap<u32, Price> = open
        .iter()
        .map(|(number, store)| (*number, price(store).0))
        .collect();
    let topics = context.broker.ledger(|ledger| {
        let topics = ledger.topics().map(|(topic_id, topic)| {
            let stored = moving::stored(ledger, topic_id);
            let per_month = stored.iter().map(|(number, stored)| {
                // One that is not open now has its price all the same; only a folder has none.
                let price = prices.get(number).unwrap_or(&Price::S3_STANDARD);
                price.storage_month(stored.bytes)
            });
            json!({
                "topic": topic.name,
                "segments": stored.values().map(|stored| stored.segments).sum::<u64>(),
                "bytes": stored.values().map(|stored| stored.bytes).sum::<u64>(),
                "usd_per_month": per_month.sum::<f64>(),
            })
        });
        topics.collect::<Vec<_>>()
    });
    let stores: Vec<Value> = open
        .iter()
        .map(|(number, store)| asked_of(*number, store))
        .collect();
    Ok(Json(json!({ "topics": topics, "stores": stores })))
}

/// What a store's bytes and requests cost, and by which list.
fn price(store: &Store) -> (Price, &'static str) {
    match store.url().as_folder().is_some() || store.url().is_memory() {
        true => (Price::FREE, "none: it is on this machine"),
        false => (Price::S3_STANDARD, "S3 Standard, US East (N. Virginia)"),
    }
}

fn asked_of(number: u32, store: &Store) -> Value {
    let (price, list) = price(store);
    let usage = store.usage();
    let cost = price.cost(&usage);
    json!({
        "store": number,
        "object_store": store.url().as_str(),
        "price_list": list,
        "since_start": {
            "written_bytes": usage.written_bytes,
            "read_bytes": usage.read_bytes,
            "usd_writes": cost.writes,
            "usd_reads": cost.reads,
            "usd_total": cost.total(),
        },
    })
}

/// One line for each object and each tail, and a last one that says how many there were: without it, the
/// scrub did not come to its end.
async fn verify(
    State(context): State<Context>,
    Path(topic): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let topic_id = find(&context, &topic)?;
    let scrub = Arc::clone(&context.scrub).try_acquire_owned();
    let scrub =
        scrub.map_err(|_| ApiError::conflict("a topic is being verified: ask again later"))?;
    let (findings, mut found) = mpsc::channel::<Finding>(FINDINGS_MAX);
    let shared = Arc::clone(context.broker.shared());
    tokio::spawn(async move {
        scrub::topic(shared, topic_id, findings).await;
        drop(scrub);
    });
    let (pieces, lines) = Lines::new();
    let broker = context.broker.clone();
    tokio::spawn(async move {
        let (mut objects, mut bytes, mut wrong) = (0_u64, 0, 0_u64);
        while let Some(finding) = found.recv().await {
            objects += 1;
            bytes += finding.bytes;
            wrong += u64::from(finding.wrong.is_some());
            let url = broker.ledger(|ledger| ledger.store_url(finding.store).map(str::to_owned));
            let told = told(&finding, url.as_deref());
            if pieces.send(Ok(line(&told))).await.is_err() {
                return;
            }
        }
        let last = json!({ "objects": objects, "bytes": bytes, "damaged": wrong });
        // Nobody may be there any more to read it.
        let _ = pieces.send(Ok(line(&last))).await;
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::new(lines)))
}

/// `url`: of the object's store, where that is not the cluster's.
fn told(finding: &Finding, url: Option<&str>) -> Value {
    json!({
        "partition": finding.partition,
        "object": finding.object.as_deref().unwrap_or("log"),
        "object_store": url,
        "from": finding.from,
        "to": finding.to,
        "bytes": finding.bytes,
        "wrong": finding.wrong,
    })
}

impl From<TopicStoreError> for ApiError {
    fn from(error: TopicStoreError) -> Self {
        match error {
            TopicStoreError::Submit(error) => error.into(),
            refused => Self::bad_request(refused.to_string()),
        }
    }
}
