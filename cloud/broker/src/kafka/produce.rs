//! Produce: takes batches of Kafka clients into the log, as edges' are taken; the records stay as the client has packed
//! them. An answer comes once the ledger's decision is durable, whatever `acks` says but 0.
//!
//! A batch is refused for what its header says and for its CRC; what is in it is looked into only where the topic is
//! compacted, since a record without a key could never be outdone there.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::gathering::Wish;
use tidegate_cloud_protocol::ledger::command::{Entry, Part, Produce};
use tidegate_cloud_protocol::ledger::producers::Sequence;
use tidegate_cloud_protocol::ledger::{Effect, ProduceRefusal, Target};
use tidegate_shared::record::{
    BATCH_RECORDS_BYTES_MAX, Batch, BatchError, BatchHeader, HEADER_BYTES, TimestampType,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use super::{Context, reply_code, target};
use crate::broker::Submitted;
use crate::limits::{KAFKA_UNPACKED_BYTES_MAX, KAFKA_UNPACKINGS_MAX};

/// Where there is an error.
const NO_OFFSET: i64 = -1;

/// Of records that keep their sender's time.
const NO_TIME: i64 = -1;

/// Why a batch is not taken.
#[derive(Clone, Debug)]
struct Refusal {
    code: i16,
    /// For people.
    why: String,
    /// Where the partition itself has refused it, which then says where its log starts.
    by: Option<Target>,
    /// The place in the batch of the record that is to blame.
    record: Option<i32>,
}

impl From<(i16, String)> for Refusal {
    fn from((code, why): (i16, String)) -> Self {
        Self {
            code,
            why,
            by: None,
            record: None,
        }
    }
}

impl Refusal {
    fn by(self, target: Target) -> Self {
        let by = Some(target);
        Self { by, ..self }
    }
}

/// A partition's number, and where its batch goes.
type Asked = (i32, Result<Place, Refusal>);

/// Where a batch goes.
#[derive(Clone, Copy)]
struct Place {
    target: Target,
    /// When it came, where its topic says `LogAppendTime`; else -1.
    append_time_ms: i64,
}

/// What is on its way to the log, and what was refused before it came so far.
pub(super) struct Producing {
    version: i16,
    /// Whether the client waits for an answer.
    answers: bool,
    topics: Vec<(TopicName, Uuid, Vec<Asked>)>,
    submitted: Submitted,
}

/// What a producer is told.
pub(super) enum Told {
    Response(ProduceResponse),
    /// It waits for none.
    Nothing,
    /// It waits for none, and something was refused: Kafka tells that by closing the connection.
    Refused,
}

/// Has all that is fit to be taken on its way to the log when it returns: what one connection asks is decided in its
/// order. `None` when the node stops meanwhile.
pub(super) async fn begin(
    context: &Context,
    version: i16,
    request: ProduceRequest,
    request_bytes: usize,
) -> Option<Producing> {
    let of_request = check_request(context, &request);
    let mut producing = Producing {
        version,
        answers: request.acks != 0,
        topics: Vec::with_capacity(request.topic_data.len()),
        submitted: Submitted::default(),
    };
    let mut wishes = Vec::new();
    for topic in request.topic_data {
        let TopicProduceData {
            name,
            topic_id,
            partition_data,
            ..
        } = topic;
        let may = context.check_topic(Operation::Write, &name, topic_id);
        let may = may.map_err(|refusal| Refusal::from((refusal.code, refusal.message)));
        let of_topic = of_request.clone().and(may);
        let mut asked = Vec::with_capacity(partition_data.len());
        for data in partition_data {
            let index = data.index;
            let checked = match &of_topic {
                Err(refusal) => Err(refusal.clone()),
                Ok(()) => check(context, version, (&name, topic_id), data).await,
            };
            let taken = checked.map(|(place, wish)| {
                wishes.push(wish);
                place
            });
            asked.push((index, taken));
        }
        producing.topics.push((name, topic_id, asked));
    }
    let batches = || wishes.iter().filter_map(|(_, batch)| batch.as_ref());
    // What is kept in memory for consumers keeps the request's bytes: mostly, that is these batches.
    if 2 * batches().map(Bytes::len).sum::<usize>() < request_bytes {
        for (_, batch) in &mut wishes {
            *batch = batch.as_deref().map(Bytes::copy_from_slice);
        }
    }
    producing.submitted = context.broker.begin(wishes).await.ok()?;
    Some(producing)
}

impl Producing {
    /// Returns once all is decided, and durable. `None` when the node stops meanwhile.
    pub(super) async fn end(self, context: &Context) -> Option<Told> {
        let mut effects = self.submitted.effects().await.ok()?.into_iter();
        let (version, mut any_refused) = (self.version, false);
        let topics = self.topics.into_iter().map(|(name, topic_id, asked)| {
            let partitions = asked.into_iter().map(|(index, taken)| {
                let decided = taken.and_then(|mut place| {
                    let effect = effects.next();
                    if matches!(effect, Some(Effect::ProduceDuplicate { .. })) {
                        // Which time it has in the log nobody remembers.
                        place.append_time_ms = NO_TIME;
                    }
                    let base_offset = decided(effect);
                    let base_offset = base_offset.map_err(|refusal| refusal.by(place.target))?;
                    Ok((place, base_offset))
                });
                any_refused |= decided.is_err();
                answer(context, version, index, decided)
            });
            let partitions = partitions.collect();
            let mut response = TopicProduceResponse::default().with_partition_responses(partitions);
            match version {
                ..13 => response.name = name,
                13.. => response.topic_id = topic_id,
            }
            response
        });
        let response = ProduceResponse::default().with_responses(topics.collect());
        Some(match (self.answers, any_refused) {
            (true, _) => Told::Response(response),
            (false, false) => Told::Nothing,
            (false, true) => Told::Refused,
        })
    }
}

/// As in Kafka's `KafkaApis`, a transactional id is looked at where a batch is of a transaction, and then it is needed.
fn check_request(context: &Context, request: &ProduceRequest) -> Result<(), Refusal> {
    let is_transactional = has_transactional(request);
    if is_transactional {
        let may = match &request.transactional_id {
            Some(id) => context.check(Operation::Write, Resource::TransactionalId(id)),
            None => Err(context.refuse(Operation::Write, Resource::TransactionalId(""))),
        };
        may.map_err(|refusal| (refusal.code, refusal.message))?;
    }
    if !(-1..=1).contains(&request.acks) {
        let why = format!("acks is {}; -1, 0 and 1 are possible", request.acks);
        return Err((reply_code::INVALID_REQUIRED_ACKS, why).into());
    }
    if is_transactional {
        let why = "this broker has no transactions".to_owned();
        return Err((reply_code::INVALID_TXN_STATE, why).into());
    }
    Ok(())
}

fn has_transactional(request: &ProduceRequest) -> bool {
    let topics = request.topic_data.iter();
    let mut batches = topics
        .flat_map(|topic| &topic.partition_data)
        .filter_map(|data| data.records.as_ref());
    batches.any(|batch| BatchHeader::parse(batch).is_ok_and(|header| header.is_transactional()))
}

/// What is to be asked of the ledger for a partition's batch.
async fn check(
    context: &Context,
    version: i16,
    (name, topic_id): (&TopicName, Uuid),
    data: PartitionProduceData,
) -> Result<(Place, Wish), Refusal> {
    let unknown = match topic_id.is_nil() {
        true => reply_code::UNKNOWN_TOPIC_OR_PARTITION,
        false => reply_code::UNKNOWN_TOPIC_ID,
    };
    let id = context.topic_id(name, topic_id);
    let id = id.ok_or_else(|| (unknown, format!("there is no topic {}", name.as_str())))?;
    let target = target(id, data.index);
    let settings = context.broker.ledger(|ledger| {
        ledger.partition(target)?;
        Some(ledger.topic(id)?.settings)
    });
    let settings = settings.ok_or_else(|| {
        let why = format!("there is no partition {}", data.index);
        (reply_code::UNKNOWN_TOPIC_OR_PARTITION, why)
    })?;
    let bytes_max = settings.message_bytes_max as usize;
    let mut batch = take_batch(version, data.records.unwrap_or_default(), bytes_max)?;
    check_batch(&batch).map_err(|refusal| Refusal::from(refusal).by(target))?;
    if settings.compacts {
        let checked = context.unpacking.check_keys(&batch).await;
        checked.map_err(|refusal| refusal.by(target))?;
    }
    let mut append_time_ms = NO_TIME;
    if settings.log_append_time {
        append_time_ms = context.broker.clock().now_ms();
        batch = batch.appended_at(append_time_ms);
    }
    let header = batch.header();
    let sequence = (header.producer_id >= 0).then_some(Sequence {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        first: header.base_sequence,
    });
    let bytes = batch.bytes().clone();
    let produce = Produce {
        target,
        count: header.offset_count(),
        part: Part {
            attachment_offset: 0,
            batch_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            max_timestamp_ms: header.max_timestamp_ms,
        },
        sequence,
    };
    let place = Place {
        target,
        append_time_ms,
    };
    Ok((place, (Entry::Produce(produce), Some(bytes))))
}

/// Exactly one whole batch. Source: Kafka's `ProduceRequest.validateRecords`.
fn take_batch(version: i16, records: Bytes, bytes_max: usize) -> Result<Batch, (i16, String)> {
    let invalid = |why: &str| (reply_code::INVALID_RECORD, why.to_owned());
    if records.is_empty() {
        return Err(invalid("there is no batch"));
    }
    if records.len() > bytes_max {
        let why = format!(
            "the batch has {} bytes, at most {bytes_max} are taken (max.message.bytes)",
            records.len()
        );
        return Err((reply_code::MESSAGE_TOO_LARGE, why));
    }
    let header = BatchHeader::parse(&records).map_err(batch_refusal)?;
    if header.batch_bytes < records.len() {
        return Err(invalid("there is more than one batch"));
    }
    let batch = Batch::parse(records).map_err(batch_refusal)?;
    if version < ZSTD_SINCE && batch.header().attributes & COMPRESSION == ZSTD {
        let why = format!(
            "zstd can be produced from version {ZSTD_SINCE} of Produce on, and this is {version}"
        );
        return Err((reply_code::UNSUPPORTED_COMPRESSION_TYPE, why));
    }
    Ok(batch)
}

/// A batch as a producer makes it. Source: Kafka's `UnifiedLog` and `LogValidator`.
fn check_batch(batch: &Batch) -> Result<(), (i16, String)> {
    let invalid = |why: &str| (reply_code::INVALID_RECORD, why.to_owned());
    let header = batch.header();
    let is_known = |attributes: i16| (0..=4).contains(&(attributes & COMPRESSION));
    if !is_known(header.attributes) {
        let why = format!(
            "compression {} is not known",
            header.attributes & COMPRESSION
        );
        return Err((reply_code::UNSUPPORTED_COMPRESSION_TYPE, why));
    }
    if header.base_offset != 0 {
        return Err(invalid("the batch's first offset is not 0"));
    }
    if header.is_control() || header.delete_horizon_ms().is_some() {
        return Err(invalid("only a broker makes such batches"));
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        let why = "a producer does not say LogAppendTime".to_owned();
        return Err((reply_code::INVALID_TIMESTAMP, why));
    }
    if header.offset_count() != header.records_count as u64 {
        return Err(invalid("the count of records is not that of offsets"));
    }
    // Else a few bytes would take billions of offsets.
    let packed = (batch.bytes().len() - HEADER_BYTES) as u64;
    let unpacked_max = match header.attributes & COMPRESSION {
        0 => packed,
        _ => (packed * PACKED_RATIO_MAX).min(BATCH_RECORDS_BYTES_MAX as u64),
    };
    if header.offset_count().saturating_mul(RECORD_BYTES_MIN) > unpacked_max {
        return Err(invalid("there are more records than its bytes can hold"));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(invalid("an idempotent producer's batch has no sequence"));
    }
    Ok(())
}

/// A record takes at least so many bytes, and no codec packs them more than so many times.
const RECORD_BYTES_MIN: u64 = 7;
const PACKED_RATIO_MAX: u64 = 16_384;

/// The attributes that name the compression: none, gzip, snappy, lz4, zstd.
const COMPRESSION: i16 = 0x07;
const ZSTD: i16 = 4;

/// The version of Produce that came with zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// Unpacks what clients have packed: a few at once, by the side, and never more than a bound of each.
#[derive(Debug)]
pub(crate) struct Unpacking(Semaphore);

impl Default for Unpacking {
    fn default() -> Self {
        Self(Semaphore::new(KAFKA_UNPACKINGS_MAX))
    }
}

impl Unpacking {
    /// For whoever unpacks; held meanwhile.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.0.acquire().await.ok()
    }

    async fn check_keys(&self, batch: &Batch) -> Result<(), Refusal> {
        let _turn = self.turn().await;
        let batch = batch.clone();
        let checked = tokio::task::spawn_blocking(move || check_keys(&batch));
        checked.await.unwrap_or_else(|_| {
            let why = "the records cannot be read".to_owned();
            Err((reply_code::UNKNOWN_SERVER_ERROR, why).into())
        })
    }
}

fn check_keys(batch: &Batch) -> Result<(), Refusal> {
    let records = batch.records_within(KAFKA_UNPACKED_BYTES_MAX);
    for (place, record) in (0..).zip(records.map_err(batch_refusal)?) {
        let (_, record) = record.map_err(batch_refusal)?;
        if record.key.is_none() {
            let why = "a record of a compacted topic needs a key".to_owned();
            return Err(Refusal {
                record: Some(place),
                ..(reply_code::INVALID_RECORD, why).into()
            });
        }
    }
    Ok(())
}

fn batch_refusal(error: BatchError) -> (i16, String) {
    let code = match error {
        BatchError::Compression(_) => reply_code::UNSUPPORTED_COMPRESSION_TYPE,
        // Formats 0 and 1 are those before Kafka 0.11.
        BatchError::Contradiction(_) | BatchError::Short(_) | BatchError::Magic(0 | 1) => {
            reply_code::INVALID_RECORD
        }
        _ => reply_code::CORRUPT_MESSAGE,
    };
    (code, error.to_string())
}

/// The offset of a batch's first record.
fn decided(effect: Option<Effect>) -> Result<i64, Refusal> {
    let (code, why) = match effect {
        Some(Effect::Produced(produced)) => return Ok(produced.base_offset.0),
        Some(Effect::ProduceDuplicate { base_offset }) => return Ok(base_offset.0),
        Some(Effect::ProduceRefused { reason }) => match reason {
            ProduceRefusal::UnknownPartition => {
                (reply_code::UNKNOWN_TOPIC_OR_PARTITION, "the topic is gone")
            }
            ProduceRefusal::CloudBehind => (
                reply_code::KAFKA_STORAGE_ERROR,
                "this cloud was restored from an older state: its operator has to decide",
            ),
            ProduceRefusal::StaleEpoch => (
                reply_code::INVALID_PRODUCER_EPOCH,
                "another instance of the producer has a newer epoch",
            ),
            ProduceRefusal::OutOfOrder => (
                reply_code::OUT_OF_ORDER_SEQUENCE_NUMBER,
                "something of the producer's before it is missing",
            ),
            ProduceRefusal::Full => (
                reply_code::UNKNOWN_SERVER_ERROR,
                "the partition has no more offsets",
            ),
        },
        _ => (reply_code::UNKNOWN_SERVER_ERROR, "nothing was decided"),
    };
    Err((code, why.to_owned()).into())
}

fn answer(
    context: &Context,
    version: i16,
    index: i32,
    decided: Result<(Place, i64), Refusal>,
) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default().with_index(index);
    let target = match decided {
        Ok((place, base_offset)) => {
            response.base_offset = base_offset;
            response.log_append_time_ms = place.append_time_ms;
            Some(place.target)
        }
        Err(refusal) => {
            response.error_code = refusal.code;
            response.base_offset = NO_OFFSET;
            if version >= 8 {
                let why = StrBytes::from_string(refusal.why);
                response.record_errors = record_error(refusal.record, &why);
                response.error_message = Some(why);
            }
            refusal.by
        }
    };
    if version >= 5 {
        let partition = target.and_then(|target| {
            let broker = &context.broker;
            broker.ledger(|ledger| ledger.partition(target).copied())
        });
        response.log_start_offset = partition.map_or(NO_OFFSET, |one| one.log_start.0);
    }
    response
}

fn record_error(record: Option<i32>, why: &StrBytes) -> Vec<BatchIndexAndErrorMessage> {
    let error = record.map(|record| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(record)
            .with_batch_index_error_message(Some(why.clone()))
    });
    error.into_iter().collect()
}
