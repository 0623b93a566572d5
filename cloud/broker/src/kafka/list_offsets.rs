//! ListOffsets: the start, the end, and the first record at or after a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::{Partition, Target};
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::record::Batch;
use uuid::Uuid;

use super::{Context, reply_code, target};
use crate::reading::{StorageError, again_if_missing};
use crate::state::Shared;

/// Times with a meaning of their own. Source: `ListOffsetsRequest` of Kafka, KIP-734, KIP-405.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

const LATEST_TIERED: i64 = -5;

/// The first version in which a time with a meaning of its own has it.
fn known_since(time: i64) -> i16 {
    match time {
        LATEST_TIERED => 9,
        EARLIEST_LOCAL => 8,
        MAX_TIMESTAMP => 7,
        EARLIEST.. => 0,
        _ => i16::MAX,
    }
}

/// Offset and timestamp; both -1 where there is none.
type Found = (i64, i64);

const NOTHING: Found = (-1, -1);

pub(super) async fn handle(
    context: &Context,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut times = BTreeMap::<_, usize>::new();
    for topic in &request.topics {
        for wanted in &topic.partitions {
            let asked = (topic.name.clone(), wanted.partition_index);
            *times.entry(asked).or_default() += 1;
        }
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let id = context.topic_id(&topic.name, Uuid::nil());
        let may = context.check(Operation::Describe, Resource::Topic(&topic.name));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let index = wanted.partition_index;
            let answer = match times.remove(&(topic.name.clone(), index)) {
                // What is asked twice is answered once.
                None => continue,
                Some(2..) => refused(index, reply_code::INVALID_REQUEST),
                Some(_) if version < known_since(wanted.timestamp) => {
                    refused(index, reply_code::UNSUPPORTED_VERSION)
                }
                Some(_) => match &may {
                    Err(refusal) => refused(index, refusal.code),
                    Ok(()) => {
                        let target = id.map(|id| target(id, index));
                        one(context, version, target, wanted).await
                    }
                },
            };
            partitions.push(answer);
        }
        let response = ListOffsetsTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions);
        topics.push(response);
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Without an offset.
fn refused(partition: i32, code: i16) -> ListOffsetsPartitionResponse {
    let (offset, timestamp) = NOTHING;
    ListOffsetsPartitionResponse::default()
        .with_partition_index(partition)
        .with_error_code(code)
        .with_offset(offset)
        .with_timestamp(timestamp)
}

async fn one(
    context: &Context,
    version: i16,
    target: Option<Target>,
    wanted: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let mut response = refused(wanted.partition_index, reply_code::NONE);
    let found = target.and_then(|target| {
        let state = context.broker.shared().state();
        let partition = *state.ledger.partition(target)?;
        let time = match wanted.timestamp {
            MAX_TIMESTAMP => state.ledger.log(target).max_timestamp_ms(),
            time @ 0.. => Some(time),
            _ => None,
        };
        Some((target, partition, time))
    });
    let Some((target, partition, time)) = found else {
        return response.with_error_code(reply_code::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let epoch = reply_code::leader_epoch(wanted.current_leader_epoch, partition.leader_epoch);
    if epoch != reply_code::NONE {
        return response.with_error_code(epoch);
    }
    match look(context, wanted.timestamp, target, &partition, time).await {
        Ok((offset, timestamp)) => {
            (response.offset, response.timestamp) = (offset, timestamp);
            if version >= 4 && offset >= 0 {
                response.leader_epoch = partition.leader_epoch;
            }
            response
        }
        Err(error) => {
            context.broker.metrics().storage_errors.inc();
            tracing::error!(%error, ?target, "kafka: a look-up by time cannot be answered");
            response.with_error_code(reply_code::KAFKA_STORAGE_ERROR)
        }
    }
}

async fn look(
    context: &Context,
    asked: i64,
    target: Target,
    partition: &Partition,
    time: Option<i64>,
) -> Result<Found, StorageError> {
    match (asked, time) {
        (LATEST, _) => Ok((partition.next.0, -1)),
        (EARLIEST | EARLIEST_LOCAL, _) => Ok((partition.log_start.0, -1)),
        (_, None) => Ok(NOTHING),
        (_, Some(time)) => {
            let shared = context.broker.shared();
            again_if_missing(|| at_time(shared, target, partition.log_start.0, time)).await
        }
    }
}

/// The first record at a time or later, of those that are not given up.
async fn at_time(
    shared: &Arc<Shared>,
    target: Target,
    log_start: i64,
    time: i64,
) -> Result<Found, StorageError> {
    let mut from = KafkaOffset(log_start);
    while let Some(entry) = shared.entry_at_time(target, from, time).await? {
        let bytes = shared.read(entry, 0).await?;
        let found = tokio::task::spawn_blocking(move || first_at(bytes, log_start, time)).await;
        match found.ok().flatten() {
            Some(Some(found)) => return Ok(found),
            // What is given up reaches the time, and nothing that is left of the batch does.
            Some(None) => from = entry.end(),
            // It cannot be unpacked: its own start is the nearest answer.
            None => return Ok((entry.base_offset.0.max(log_start), entry.max_timestamp_ms)),
        }
    }
    Ok(NOTHING)
}

/// The first record of a batch at `time_ms` or later and not below `log_start`, if there is one; `None` where
/// the batch cannot be unpacked.
fn first_at(bytes: Bytes, log_start: i64, time_ms: i64) -> Option<Option<Found>> {
    let batch = Batch::parse(bytes).ok()?;
    for record in batch.records().ok()? {
        let (offset, record) = record.ok()?;
        let record_ms = batch.header().time_of_ms(record.timestamp_ms);
        if offset >= log_start && record_ms >= time_ms {
            return Some(Some((offset, record_ms)));
        }
    }
    Some(None)
}
