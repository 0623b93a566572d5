//! `POST /api/v1/topics/{topic}/records`: takes records as a Kafka producer's with `acks=all`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::Path;
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, RequestKind, ResponseKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use serde::Deserialize;
use serde_json::json;
use tidegate_bridge_protocol::lanes::lane_of;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};
use uuid::Uuid;

use super::json::{Sent as Payload, SentHeader};
use crate::clock::wall_ms;
use crate::http::Context;
use crate::http::answer::{Answer, ApiError, Sent};
use crate::http::door::Asking;
use crate::http::kafka::{ask, check, unexpected};
use crate::http::topics::find;
use crate::limits::HTTP_RECORDS_MAX;

const VERSION: i16 = 12;
const ACKS_ALL: i16 = -1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Produce {
    records: Vec<One>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    /// By its key, or else any one, where it is not said.
    partition: Option<i32>,
    #[serde(default)]
    key: Payload,
    #[serde(default)]
    value: Payload,
    #[serde(default)]
    headers: Vec<SentHeader>,
    /// Milliseconds since the Unix epoch; now, where it is not said.
    timestamp: Option<i64>,
}

pub(super) async fn produce(
    Asking(context): Asking,
    Path(topic): Path<String>,
    Sent(asked): Sent<Produce>,
) -> Answer {
    if asked.records.is_empty() || asked.records.len() > HTTP_RECORDS_MAX {
        let why = format!("1 to {HTTP_RECORDS_MAX} records can be sent at once");
        return Err(ApiError::bad_request(why));
    }
    context.allow(Operation::Write, Resource::Topic(&topic))?;
    let topic_id = find(&context, &topic)?;
    let partitions = context
        .broker
        .ledger(|ledger| Some(ledger.topic(topic_id)?.partitions().len()));
    let partitions = i32::try_from(partitions.unwrap_or(1)).unwrap_or(i32::MAX);
    // What has no key goes to one partition: each has a batch of its own.
    let any = (Uuid::new_v4().as_u128() % partitions.max(1) as u128) as i32;
    let now_ms = wall_ms();
    let mut batches = BTreeMap::<i32, BatchBuilder>::new();
    let mut places = Vec::with_capacity(asked.records.len());
    for one in asked.records {
        let partition = one.partition.unwrap_or_else(|| match &one.key.0 {
            Some(key) => lane_of(key, partitions as usize) as i32,
            None => any,
        });
        let batch = batches.entry(partition).or_default();
        places.push((partition, i64::from(batch.count())));
        batch.push(&Record {
            timestamp_ms: one.timestamp.unwrap_or(now_ms),
            key: one.key.0,
            value: one.value.0,
            headers: one.headers.into_iter().map(Into::into).collect(),
        });
    }
    let sealed = batches.into_iter().map(|(partition, mut batch)| {
        let bytes = batch.seal(0, Compression::None, &mut Compressor::new());
        (partition, bytes)
    });
    let mut taken = send(&context, &topic, sealed.collect()).await?;
    if taken.values().all(Result::is_err)
        && let Some((_, Err(error))) = taken.pop_first()
    {
        return Err(error);
    }
    let rows = places
        .into_iter()
        .map(|(partition, delta)| match taken.get(&partition) {
            Some(Ok(base)) => json!({ "partition": partition, "offset": base + delta }),
            Some(Err(error)) => json!({ "partition": partition, "error": error.to_string() }),
            None => json!({ "partition": partition, "error": "it was not answered" }),
        });
    Ok(Json(
        json!({ "topic": topic, "records": rows.collect::<Vec<_>>() }),
    ))
}

/// The offset of each batch's first record, or why it was not taken.
async fn send(
    context: &Context,
    topic: &str,
    batches: Vec<(i32, Bytes)>,
) -> Result<BTreeMap<i32, Result<i64, ApiError>>, ApiError> {
    let partitions = batches.into_iter().map(|(partition, batch)| {
        PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch))
    });
    let data = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(partitions.collect());
    let request = ProduceRequest::default()
        .with_acks(ACKS_ALL)
        .with_topic_data(vec![data]);
    let response = ask(context, VERSION, RequestKind::Produce(request)).await?;
    let ResponseKind::Produce(response) = response else {
        return Err(unexpected());
    };
    let topics = response.responses.into_iter();
    let partitions = topics.flat_map(|topic| topic.partition_responses);
    let taken = partitions.map(|one| {
        let what = format!("topic {topic} partition {}", one.index);
        let why = one.error_message.as_ref().map(|why| why.as_str());
        let checked = check(one.error_code, &what, why);
        (one.index, checked.map(|()| one.base_offset))
    });
    Ok(taken.collect())
}
