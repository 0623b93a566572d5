//! Batches of Kafka clients, over the wire: each is taken once, in its producer's order, and what is wrong with one is
//! told by Kafka's code on a connection that stays open.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, InitProducerIdRequest, ProduceRequest, RequestHeader, RequestKind, ResponseHeader,
    ResponseKind, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use support::random::Random;
use support::stored::fetch_all;
use support::{AT_ONCE, Client, Edge, NEVER, START_MS, start_with, telemetry, until_packed};
use tidegate_cloud::Cloud;
use tidegate_cloud_protocol::ledger::Target;
use tidegate_cloud_protocol::ledger::command::{AlterTopic, Entry, TopicChange};
use tidegate_shared::id::PartitionId;
use tidegate_shared::record::{
    Batch, BatchBuilder, Compression, Compressor, Record, TimestampType,
};
use uuid::Uuid;

const VERSION: i16 = 9;

const NONE: i16 = 0;
const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// A batch; of an idempotent producer, with its id, epoch and first sequence.
fn batch(values: &[&str], producer: Option<(i64, i16, i32)>) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(&Record {
            timestamp_ms: START_MS,
            key: Some("key".into()),
            value: Some(value.to_string().into()),
            headers: vec![],
        });
    }
    let sealed = builder.seal(0, Compression::None, &mut Compressor::new());
    let mut bytes = sealed.to_vec();
    if let Some((id, epoch, sequence)) = producer {
        bytes[43..51].copy_from_slice(&id.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    }
    with_crc(bytes)
}

fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// With other attributes.
fn marked(attributes: i16) -> Vec<u8> {
    let mut bytes = batch(&["one"], None);
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    with_crc(bytes)
}

/// Two billion records, which would take as many offsets.
fn claiming(compression: i16) -> Vec<u8> {
    let mut bytes = batch(&["one"], None);
    bytes[21..23].copy_from_slice(&compression.to_be_bytes());
    bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    with_crc(bytes)
}

fn request(partition: i32, acks: i16, records: &[u8]) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(Bytes::copy_from_slice(records)));
    let topic = TopicProduceData::default()
        .with_name(telemetry())
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_topic_data(vec![topic])
}

async fn ask(client: &mut Client, version: i16, asked: ProduceRequest) -> PartitionProduceResponse {
    let request = RequestKind::Produce(asked);
    let response = client.ask(ApiKey::Produce, version, request).await;
    let ResponseKind::Produce(mut response) = response else {
        panic!("{response:?}");
    };
    response.responses.remove(0).partition_responses.remove(0)
}

/// The code, and the first record's offset.
async fn produce(client: &mut Client, records: &[u8]) -> (i16, i64) {
    let response = ask(client, VERSION, request(0, -1, records)).await;
    (response.error_code, response.base_offset)
}

async fn init(client: &mut Client) -> i64 {
    let request =
        RequestKind::InitProducerId(InitProducerIdRequest::default().with_transactional_id(None));
    let response = client.ask(ApiKey::InitProducerId, 4, request).await;
    let ResponseKind::InitProducerId(response) = response else {
        panic!("{response:?}");
    };
    assert_eq!((response.error_code, response.producer_epoch), (NONE, 0));
    response.producer_id.0
}

fn partition(cloud: &Cloud, number: i32) -> Target {
    let topic_id = cloud
        .broker()
        .ledger(|ledger| ledger.topic_id("telemetry").unwrap());
    Target {
        topic_id,
        partition: PartitionId(number),
    }
}

/// Changes the topic of [`partition`].
async fn alter(cloud: &Cloud, change: TopicChange) {
    let topic_id = partition(cloud, 0).topic_id;
    let changes = vec![change];
    let alter = Entry::AlterTopic(AlterTopic { topic_id, changes });
    cloud.broker().submit(vec![(alter, None)]).await.unwrap();
}

#[tokio::test]
async fn what_is_produced_is_fetched_as_it_was_beside_what_has_landed() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let target = edge.target;
    edge.land(10).await;
    let mut client = Client::connect(&cloud).await;
    let sent = batch(&["one", "two"], None);
    for (version, base_offset) in [(3, 10), (8, 12), (13, 14)] {
        let mut asked = request(target.partition.0, 1, &sent);
        if version >= 13 {
            asked.topic_data[0].name = Default::default();
            asked.topic_data[0].topic_id = Uuid::from_u128(target.topic_id.0);
        }
        let response = ask(&mut client, version, asked).await;
        assert_eq!(
            (response.error_code, response.base_offset),
            (NONE, base_offset)
        );
    }
    edge.land(1).await;
    let before = fetch_all(&mut client, target, 0).await;
    assert_eq!(before.len(), 5);
    let numbered = [
        &10_i64.to_be_bytes()[..],
        &sent[8..12],
        &[0; 4],
        &sent[16..],
    ]
    .concat();
    assert_eq!(before[1], numbered);
    cloud.shutdown().await;

    let cloud = start_with(data.path(), AT_ONCE).await;
    until_packed(&cloud, target, 17).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(fetch_all(&mut client, target, 0).await, before);
    cloud.shutdown().await;
}

#[tokio::test]
async fn an_idempotent_producers_batches_are_taken_once_and_in_order_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    let (first, second) = (init(&mut client).await, init(&mut client).await);
    assert_ne!(first, second);
    let of = |epoch, sequence| batch(&["one", "two"], Some((first, epoch, sequence)));
    assert_eq!(produce(&mut client, &of(0, 0)).await, (NONE, 0));
    assert_eq!(produce(&mut client, &of(0, 2)).await, (NONE, 2));
    assert_eq!(produce(&mut client, &of(0, 0)).await, (NONE, 0), "again");
    let out_of_order = (OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    assert_eq!(produce(&mut client, &of(0, 6)).await, out_of_order);
    cloud.shutdown().await;

    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(produce(&mut client, &of(0, 2)).await, (NONE, 2), "again");
    assert_eq!(produce(&mut client, &of(1, 3)).await, out_of_order);
    assert_eq!(produce(&mut client, &of(1, 0)).await, (NONE, 4));
    let stale = (INVALID_PRODUCER_EPOCH, -1);
    assert_eq!(produce(&mut client, &of(0, 4)).await, stale);
    let third = init(&mut client).await;
    assert!(third != first && third != second);
    assert_eq!(
        fetch_all(&mut client, partition(&cloud, 0), 0).await.len(),
        3
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_is_wrong_is_told_and_the_connection_stays() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    let whole = batch(&["one"], None);
    let flipped = {
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let of_format = |magic| {
        let mut bytes = whole.clone();
        bytes[16] = magic;
        bytes
    };
    let numbered = [&7_i64.to_be_bytes(), &whole[8..]].concat();
    let miscounted = {
        let mut bytes = whole.clone();
        bytes[57..61].copy_from_slice(&2_i32.to_be_bytes());
        with_crc(bytes)
    };
    let large = batch(&["x".repeat(1_048_589).as_str()], None);
    for (code, records) in [
        (CORRUPT_MESSAGE, &flipped[..]),
        (CORRUPT_MESSAGE, &of_format(9)),
        (INVALID_RECORD, &of_format(1)),
        (INVALID_RECORD, &numbered),
        (INVALID_RECORD, &whole[..whole.len() - 1]),
        (INVALID_RECORD, &[]),
        (INVALID_RECORD, &[whole.clone(), whole.clone()].concat()),
        (INVALID_RECORD, &miscounted),
        (INVALID_RECORD, &claiming(0)),
        (INVALID_RECORD, &claiming(4)),
        (INVALID_RECORD, &marked(1 << 5)),
        (INVALID_RECORD, &batch(&["one"], Some((7, 0, -1)))),
        (TRANSACTIONAL_ID_AUTHORIZATION_FAILED, &marked(1 << 4)),
        (INVALID_TIMESTAMP, &marked(1 << 3)),
        (UNSUPPORTED_COMPRESSION_TYPE, &marked(6)),
        (MESSAGE_TOO_LARGE, &large),
    ] {
        let told = produce(&mut client, records).await;
        assert_eq!(told, (code, -1), "{} bytes", records.len());
    }
    let told = ask(&mut client, VERSION, request(3, -1, &whole)).await;
    assert_eq!(told.error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let told = ask(&mut client, VERSION, request(0, 2, &whole)).await;
    assert_eq!(told.error_code, INVALID_REQUIRED_ACKS);
    assert!(told.error_message.unwrap().contains("acks is 2"));
    let mut unknown = request(0, -1, &whole);
    unknown.topic_data[0].name = Default::default();
    unknown.topic_data[0].topic_id = Uuid::from_u128(9);
    let told = ask(&mut client, 13, unknown).await;
    assert_eq!(told.error_code, UNKNOWN_TOPIC_ID);
    let mut of_transaction = request(0, -1, &marked(1 << 4));
    let name = StrBytes::from_static_str("orders");
    of_transaction.transactional_id = Some(TransactionalId(name.clone()));
    let told = ask(&mut client, VERSION, of_transaction).await;
    assert_eq!(told.error_code, INVALID_TXN_STATE);
    let init = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(name)));
    let request = RequestKind::InitProducerId(init);
    let response = client.ask(ApiKey::InitProducerId, 2, request).await;
    let ResponseKind::InitProducerId(response) = response else {
        panic!("{response:?}");
    };
    assert_ne!(response.error_code, NONE);
    assert_eq!(
        produce(&mut client, &whole).await,
        (NONE, 0),
        "nothing was taken"
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_record_of_a_compacted_topic_needs_a_key() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    alter(&cloud, TopicChange::CleanupPolicy(TopicChange::COMPACTS)).await;
    let mut client = Client::connect(&cloud).await;
    let sealed = |compression, key: Option<&'static str>| {
        let mut builder = BatchBuilder::new();
        builder.push(&Record {
            key: key.map(Bytes::from),
            value: Some(vec![b'v'; 1_000].into()),
            ..Record::default()
        });
        let sealed = builder.seal(0, compression, &mut Compressor::new());
        assert_eq!(i16::from(sealed[22]), compression as i16, "it is packed");
        sealed
    };
    let ways = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for (offset, way) in (0..).zip(ways) {
        let told = produce(&mut client, &sealed(way, None)).await;
        assert_eq!(told, (INVALID_RECORD, -1), "{way:?}");
        let told = produce(&mut client, &sealed(way, Some("key"))).await;
        assert_eq!(told, (NONE, offset), "{way:?}");
    }
    cloud.shutdown().await;
}

/// The request's bytes, without its length.
fn encoded(correlation_id: i32, asked: ProduceRequest) -> BytesMut {
    let mut out = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(ApiKey::Produce as i16)
        .with_request_api_version(VERSION)
        .with_correlation_id(correlation_id)
        .encode(&mut out, ApiKey::Produce.request_header_version(VERSION))
        .unwrap();
    asked.encode(&mut out, VERSION).unwrap();
    out
}

#[tokio::test]
async fn what_is_sent_ahead_is_taken_and_answered_in_its_order() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    let producer = init(&mut client).await;
    for number in 0..40 {
        let records = batch(&["one"], Some((producer, 0, number)));
        // Every third waits for no answer.
        let acks = if number % 3 == 0 { 0 } else { -1 };
        client
            .send(&encoded(number, request(0, acks, &records)))
            .await;
    }
    for number in (0..40).filter(|number| number % 3 != 0) {
        let mut response = client.receive().await.unwrap();
        let version = ApiKey::Produce.response_header_version(VERSION);
        let header = ResponseHeader::decode(&mut response, version).unwrap();
        assert_eq!(header.correlation_id, number);
        let decoded = ResponseKind::decode(ApiKey::Produce, &mut response, VERSION).unwrap();
        assert!(!response.has_remaining());
        let ResponseKind::Produce(decoded) = decoded else {
            panic!("{decoded:?}");
        };
        let told = &decoded.responses[0].partition_responses[0];
        assert_eq!(
            (told.error_code, told.base_offset),
            (NONE, i64::from(number))
        );
    }
    // Kafka tells who waits for no answer that something is wrong by closing the connection.
    let gap = batch(&["one"], Some((producer, 0, 90)));
    client.send(&encoded(90, request(0, 0, &gap))).await;
    assert_eq!(client.receive().await, None);
    cloud.shutdown().await;
}

/// Most of a request can be something else than batches: only these are kept.
#[tokio::test]
async fn a_request_that_is_mostly_no_batch_is_taken_as_any_other() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    let mut asked = request(0, -1, &batch(&["one"], None));
    let mut padding = BytesMut::new();
    padding.put_bytes(7, 1 << 20);
    asked.unknown_tagged_fields.insert(99, padding.freeze());
    let told = ask(&mut client, VERSION, asked).await;
    assert_eq!((told.error_code, told.base_offset), (NONE, 0));
    // As where most of it is refused.
    let mut asked = request(0, -1, &batch(&["two"], None));
    let large = batch(&["x".repeat(1_048_589).as_str()], None);
    let refused = PartitionProduceData::default()
        .with_index(1)
        .with_records(Some(large.into()));
    asked.topic_data[0].partition_data.push(refused);
    let told = ask(&mut client, VERSION, asked).await;
    assert_eq!((told.error_code, told.base_offset), (NONE, 1));
    assert_eq!(
        fetch_all(&mut client, partition(&cloud, 0), 0).await.len(),
        2
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn records_have_the_time_when_they_came_where_their_topic_says_so() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    alter(&cloud, TopicChange::LogAppendTime(true)).await;
    let mut client = Client::connect(&cloud).await;
    let told = ask(&mut client, VERSION, request(0, -1, &batch(&["one"], None))).await;
    assert_eq!(told.error_code, NONE);
    assert!(told.log_append_time_ms > START_MS, "{told:?}");
    let batches = fetch_all(&mut client, partition(&cloud, 0), 0).await;
    assert_eq!(batches.len(), 1);
    for bytes in batches {
        let batch = Batch::parse(bytes).expect("its CRC is right");
        let header = batch.header();
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert!(header.max_timestamp_ms > START_MS);
        assert_eq!(header.base_timestamp_ms, START_MS, "its sender's");
    }
    cloud.shutdown().await;
}

/// Of a compacted topic all records are looked at.
#[tokio::test]
async fn what_unpacks_to_too_much_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    alter(&cloud, TopicChange::CleanupPolicy(TopicChange::COMPACTS)).await;
    let mut client = Client::connect(&cloud).await;
    // Snappy packs to a twentieth at best: no batch that is short enough unpacks to so much.
    for way in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new();
        builder.push(&Record {
            key: Some("key".into()),
            value: Some(vec![0; 40 << 20].into()),
            ..Record::default()
        });
        let bomb = builder.seal(0, way, &mut Compressor::new());
        let (code, _) = produce(&mut client, &bomb).await;
        assert_eq!(code, CORRUPT_MESSAGE, "{way:?}, {} bytes", bomb.len());
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_topic_says_how_long_a_batch_may_be() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    let long = batch(&["x".repeat(100).as_str()], None);
    assert_eq!(produce(&mut client, &long).await, (NONE, 0));
    alter(&cloud, TopicChange::MaxMessageBytes(long.len() as u32 - 1)).await;
    assert_eq!(produce(&mut client, &long).await.0, MESSAGE_TOO_LARGE);
    cloud.shutdown().await;
}

/// Batches whose CRC is right and that are wrong otherwise: the seed is printed, `TIDEGATE_TEST_SEED` sets it and
/// `TIDEGATE_TEST_CASES` how many there are.
#[tokio::test]
async fn batches_that_are_changed_by_chance_are_refused_or_kept_whole() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    let mut random = Random::new();
    let cases = Random::number("TIDEGATE_TEST_CASES").unwrap_or(400);
    let (mut taken, mut refused) = (0, 0);
    for half in 0..2 {
        // First nothing but the header and the CRC is looked at, then all records are.
        if half == 1 {
            alter(&cloud, TopicChange::CleanupPolicy(TopicChange::COMPACTS)).await;
        }
        for _ in 0..cases / 2 {
            let mut bytes = batch(&["one", "two", "three"], None);
            for _ in 0..=random.below(2) {
                let at = 21 + random.below(bytes.len() - 21);
                match random.below(3) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = [0, 0x7f, 0x80, 0xff][random.below(4)],
                    _ => bytes.truncate(at.max(62)),
                }
            }
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            match produce(&mut client, &with_crc(bytes)).await.0 {
                NONE => taken += 1,
                _ => refused += 1,
            }
        }
    }
    assert!(
        taken > 0 && refused > cases / 8,
        "{taken} taken, {refused} refused"
    );
    let broker = cloud.broker();
    assert_eq!(broker.metrics().kafka_failed_connections.get(), 0);
    let kept = fetch_all(&mut client, partition(&cloud, 0), 0).await;
    assert_eq!(kept.len() as u64, taken);
    for bytes in kept {
        Batch::parse(bytes).expect("it is as it was taken");
    }
    cloud.shutdown().await;
}
