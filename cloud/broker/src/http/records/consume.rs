//! `GET /api/v1/topics/{topic}/records`: the next records of a topic's partitions, and where to go on.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::Json;
use axum::extract::Path;
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, ListOffsetsRequest, RequestKind, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_shared::record::{BatchError, Record, split_batches};

use super::json;
use crate::http::Context;
use crate::http::answer::{Answer, ApiError, Asked};
use crate::http::door::Asking;
use crate::http::kafka::{ask, check, unexpected};
use crate::http::topics::find;
use crate::limits::{
    HTTP_FETCH_BYTES_MAX, HTTP_FETCH_WAIT_MAX, HTTP_RECORDS_MAX, HTTP_UNPACKED_BYTES_MAX,
    KAFKA_UNPACKED_BYTES_MAX,
};

const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
const NO_REPLICA: BrokerId = BrokerId(-1);
const NO_SESSION: i32 = -1;
const COUNT: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// One of the topic's; all, where it is not said.
    partition: Option<i32>,
    /// In `partition`.
    offset: Option<i64>,
    /// Where neither `offset` nor `next` is said: `beginning` (the default), `end`, or milliseconds since the Unix epoch.
    from: Option<String>,
    /// What an answer before this one gave.
    next: Option<String>,
    /// At most so many.
    count: Option<usize>,
    /// Where there is none yet, one is waited for, for so long.
    wait_ms: Option<u64>,
}

/// The offset that is read next of each partition, in the order in which they are served. Written `0:17,1:4`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Positions(Vec<(i32, i64)>);

impl FromStr for Positions {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let wrong = || {
            let why = format!("next is {text:?}, which no answer gave");
            ApiError::bad_request(why)
        };
        let pairs = text.split(',').map(|pair| {
            let (partition, offset) = pair.split_once(':')?;
            Some((partition.parse().ok()?, offset.parse().ok()?))
        });
        let positions = pairs.collect::<Option<_>>();
        positions.map(Self).ok_or_else(wrong)
    }
}

impl Positions {
    fn text(&self) -> String {
        let pairs = self.0.iter();
        let pairs = pairs.map(|(partition, offset)| format!("{partition}:{offset}"));
        pairs.collect::<Vec<_>>().join(",")
    }
}

pub(super) async fn consume(
    Asking(context): Asking,
    Path(topic): Path<String>,
    Asked(query): Asked<Query>,
) -> Answer {
    context.allow(Operation::Read, Resource::Topic(&topic))?;
    find(&context, &topic)?;
    let mut positions = start(&context, &topic, &query).await?;
    let count = query.count.unwrap_or(COUNT).clamp(1, HTTP_RECORDS_MAX);
    let wait_ms = query.wait_ms.unwrap_or(0);
    let wait_ms = wait_ms.min(HTTP_FETCH_WAIT_MAX.as_millis() as u64);
    let fetched = fetch(&context, &topic, &positions, wait_ms).await?;
    let turn = context.kafka.unpacking.turn().await;
    let unpack = move || unpack(&mut positions, fetched, count).map(|rows| (rows, positions));
    let unpacked = tokio::task::spawn_blocking(unpack).await;
    drop(turn);
    let unpacked = unpacked.map_err(|error| ApiError::unreadable(error.to_string()))?;
    let (records, positions) = unpacked.map_err(|error| {
        let why = format!("a record of topic {topic} cannot be read: {error}");
        ApiError::unreadable(why)
    })?;
    let next = positions.text();
    Ok(Json(
        json!({ "topic": topic, "records": records, "next": next }),
    ))
}

/// Where the query begins.
async fn start(context: &Context, topic: &str, query: &Query) -> Result<Positions, ApiError> {
    let refuse = |why: &str| Err(ApiError::bad_request(why));
    let ways = [
        query.offset.is_some(),
        query.from.is_some(),
        query.next.is_some(),
    ];
    if ways.into_iter().filter(|is_said| *is_said).count() > 1 {
        return refuse("one of offset, from and next can be given");
    }
    if let Some(next) = &query.next {
        return next.parse();
    }
    if let Some(offset) = query.offset {
        return match query.partition {
            Some(partition) => Ok(Positions(vec![(partition, offset)])),
            None => refuse("an offset is of a partition: give partition, too"),
        };
    }
    let time = match query.from.as_deref() {
        None | Some("beginning") => -2,
        Some("end") => -1,
        Some(time) => match time.parse() {
            Ok(time @ 0..) => time,
            _ => return refuse("from can be beginning, end, or milliseconds since the Unix epoch"),
        },
    };
    let partitions = match query.partition {
        Some(partition) => vec![partition],
        None => partitions(context, topic),
    };
    let offsets = offsets_at(context, topic, &partitions, time).await?;
    Ok(Positions(offsets.into_iter().collect()))
}

pub(in crate::http) fn partitions(context: &Context, topic: &str) -> Vec<i32> {
    let partitions = context.broker.ledger(|ledger| {
        let topic = ledger.topic(ledger.topic_id(topic)?)?;
        i32::try_from(topic.partitions().len()).ok()
    });
    (0..partitions.unwrap_or(0)).collect()
}

/// The first offset of each partition at a time or later; the end, where there is none.
pub(in crate::http) async fn offsets_at(
    context: &Context,
    topic: &str,
    partitions: &[i32],
    time: i64,
) -> Result<BTreeMap<i32, i64>, ApiError> {
    let wanted = partitions.iter().map(|partition| {
        ListOffsetsPartition::default()
            .with_partition_index(*partition)
            .with_timestamp(time)
    });
    let asked = ListOffsetsTopic::default()
        .with_name(name(topic))
        .with_partitions(wanted.collect());
    let request = ListOffsetsRequest::default()
        .with_replica_id(NO_REPLICA)
        .with_topics(vec![asked]);
    let request = RequestKind::ListOffsets(request);
    let ResponseKind::ListOffsets(response) = ask(context, LIST_OFFSETS_VERSION, request).await?
    else {
        return Err(unexpected());
    };
    let (mut found, mut at_end) = (BTreeMap::new(), Vec::new());
    for one in response
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
    {
        let partition = one.partition_index;
        check(
            one.error_code,
            &format!("topic {topic} partition {partition}"),
            None,
        )?;
        match one.offset {
            ..0 => at_end.push(partition),
            offset => drop(found.insert(partition, offset)),
        }
    }
    if !at_end.is_empty() && time >= 0 {
        found.extend(Box::pin(offsets_at(context, topic, &at_end, -1)).await?);
    }
    Ok(found)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Batches of each partition, which hold its position or begin behind it.
async fn fetch(
    context: &Context,
    topic: &str,
    positions: &Positions,
    wait_ms: u64,
) -> Result<Vec<(i32, Bytes)>, ApiError> {
    let wanted = positions.0.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(HTTP_FETCH_BYTES_MAX)
    });
    let asked = FetchTopic::default()
        .with_topic(name(topic))
        .with_partitions(wanted.collect());
    let request = FetchRequest::default()
        .with_replica_id(NO_REPLICA)
        .with_max_wait_ms(i32::try_from(wait_ms).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(HTTP_FETCH_BYTES_MAX)
        .with_session_epoch(NO_SESSION)
        .with_topics(vec![asked]);
    let response = ask(context, FETCH_VERSION, RequestKind::Fetch(request)).await?;
    let ResponseKind::Fetch(response) = response else {
        return Err(unexpected());
    };
    check(response.error_code, &format!("topic {topic}"), None)?;
    let partitions = response.responses.into_iter();
    let partitions = partitions.flat_map(|topic| topic.partitions);
    let fetched = partitions.map(|one| {
        let partition = one.partition_index;
        let mut positions = positions.0.iter();
        let position = positions.find(|(asked, _)| *asked == partition);
        let offset = position.map_or(0, |(_, offset)| *offset);
        let what = format!("topic {topic} partition {partition} at offset {offset}");
        check(one.error_code, &what, None)?;
        Ok((partition, one.records.unwrap_or_default()))
    });
    fetched.collect()
}

/// At most `count` records, and no more of [`HTTP_UNPACKED_BYTES_MAX`] but for the last, from the positions on, which move behind
/// them.
fn unpack(
    positions: &mut Positions,
    fetched: Vec<(i32, Bytes)>,
    count: usize,
) -> Result<Vec<Value>, BatchError> {
    let mut rows = Vec::new();
    let mut room = Room {
        count,
        bytes: HTTP_UNPACKED_BYTES_MAX,
    };
    for (partition, run) in fetched {
        let before = rows.len();
        let Some(at) = positions.0.iter().position(|(one, _)| *one == partition) else {
            continue;
        };
        let is_full = unpack_one(&mut positions.0[at], run, &mut room, &mut rows)?;
        if rows.len() > before {
            // It is served last the next time.
            let served = positions.0.remove(at);
            positions.0.push(served);
        }
        if is_full {
            break;
        }
    }
    Ok(rows)
}

/// What an answer still takes.
struct Room {
    count: usize,
    bytes: usize,
}

impl Room {
    fn is_full(&self) -> bool {
        self.count == 0 || self.bytes == 0
    }

    fn take(&mut self, record: &Record) {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = record.headers.iter();
        let headers: usize = headers.map(|one| one.name.len() + length(&one.value)).sum();
        let bytes = length(&record.key) + length(&record.value) + headers;
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Whether there is no room for more.
fn unpack_one(
    (partition, position): &mut (i32, i64),
    run: Bytes,
    room: &mut Room,
    rows: &mut Vec<Value>,
) -> Result<bool, BatchError> {
    for batch in split_batches(run) {
        let batch = batch?;
        for record in batch.records_within(KAFKA_UNPACKED_BYTES_MAX)? {
            let (offset, record) = record?;
            if room.is_full() {
                return Ok(true);
            }
            // A batch is sent whole, also where it begins before what was asked for.
            if offset >= *position {
                room.take(&record);
                rows.push(json::record(&batch, *partition, offset, &record));
                *position = offset + 1;
            }
        }
        let header = batch.header();
        let next = header.base_offset + i64::from(header.last_offset_delta) + 1;
        *position = next.max(*position);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        let positions: Positions = "0:17,11:4".parse().unwrap();
        assert_eq!(positions.0, [(0, 17), (11, 4)]);
        assert_eq!(positions.text(), "0:17,11:4");
        for wrong in ["", "0", "0:x", "0:1,", "0:1;1:2"] {
            assert!(wrong.parse::<Positions>().is_err(), "{wrong}");
        }
    }
}
