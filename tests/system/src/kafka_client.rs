//! A Kafka client that does one thing at a time and hides nothing: one request, its answer, and no retries. A test that
//! writes down a history must know when each request was sent, whether its answer came, and what it was.

mod batch;

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest,
    ProducerId, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

pub use batch::{Sequence, records, seal};

const INIT_PRODUCER_ID_VERSION: i16 = 4;
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 6;

const ANSWER_BYTES_MAX: usize = 64 << 20;
const FETCH_BYTES_MAX: i32 = 64 << 10;
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
const LATEST: i64 = -1;
const CONSUMER: BrokerId = BrokerId(-1);

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The answer did not come: what was asked may have been done.
    NoAnswer(std::io::Error),
    /// The broker's error code.
    Refused(i16),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(error) => write!(out, "no answer: {error}"),
            Self::Refused(code) => write!(out, "error code {code}"),
        }
    }
}

/// What a Fetch of one partition has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Offset and value, from the offset on that was asked for.
    pub records: Vec<(i64, Bytes)>,
    pub high_watermark: i64,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// An answer has to come within `patience`.
    pub fn open(kafka: SocketAddr, patience: Duration) -> Result<Self, Failure> {
        let stream = TcpStream::connect_timeout(&kafka, patience).map_err(Failure::NoAnswer)?;
        let set = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(patience)))
            .and_then(|()| stream.set_write_timeout(Some(patience)));
        set.map_err(Failure::NoAnswer)?;
        Ok(Self {
            stream,
            correlation_id: 0,
        })
    }

    /// An id for an idempotent producer, in its first epoch.
    pub fn producer_id(&mut self) -> Result<i64, Failure> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = self.ask(INIT_PRODUCER_ID_VERSION, &request)?;
        check(answer.error_code)?;
        Ok(answer.producer_id.0)
    }

    /// Produces a batch with `acks=all`; its offset.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> Result<i64, Failure> {
        let request = produce_request(topic, partition, batch);
        let answer = self.ask(PRODUCE_VERSION, &request)?;
        let mut answers = answer
            .responses
            .into_iter()
            .flat_map(|topic| topic.partition_responses);
        let answer = answers.next().ok_or_else(|| broken("no partition"))?;
        check(answer.error_code)?;
        Ok(answer.base_offset)
    }

    /// The same by a client that goes as soon as it has sent it.
    pub fn produce_and_go(mut self, topic: &str, partition: i32, batch: Bytes) {
        let request = produce_request(topic, partition, batch);
        let frame = self.encode(PRODUCE_VERSION, &request);
        // Where it did not get far, nobody was to know.
        let _ = self.stream.write_all(&frame);
    }

    /// What a partition has from an offset on, after at most `wait`.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
        wait: Duration,
    ) -> Result<Fetched, Failure> {
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(from)
            .with_partition_max_bytes(FETCH_BYTES_MAX);
        let topic = FetchTopic::default()
            .with_topic(name(topic))
            .with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_replica_id(CONSUMER)
            .with_max_wait_ms(wait.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_BYTES_MAX)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.ask(FETCH_VERSION, &request)?;
        check(answer.error_code)?;
        let mut answers = answer
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions);
        let answer = answers.next().ok_or_else(|| broken("no partition"))?;
        check(answer.error_code)?;
        let mut found = records(&answer.records.unwrap_or_default())
            .ok_or_else(|| broken("its records are no whole batches"))?;
        // A batch is sent whole, also where it begins before what was asked for.
        found.retain(|(offset, _)| *offset >= from);
        Ok(Fetched {
            records: found,
            high_watermark: answer.high_watermark,
        })
    }

    /// Where a partition ends.
    pub fn end(&mut self, topic: &str, partition: i32) -> Result<i64, Failure> {
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(LATEST);
        let topic = ListOffsetsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(CONSUMER)
            .with_topics(vec![topic]);
        let answer = self.ask(LIST_OFFSETS_VERSION, &request)?;
        let mut answers = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let answer = answers.next().ok_or_else(|| broken("no partition"))?;
        check(answer.error_code)?;
        Ok(answer.offset)
    }

    /// Sends a request and waits for its answer. After a [`Failure::NoAnswer`] the connection is of no use any more.
    fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Failure> {
        let frame = self.encode(version, request);
        let mut answer = self.exchange(&frame).map_err(Failure::NoAnswer)?;
        let header_version = api_key::<R>().response_header_version(version);
        let header = ResponseHeader::decode(&mut answer, header_version).map_err(broken)?;
        if header.correlation_id != self.correlation_id {
            return Err(broken("the answer belongs to another request"));
        }
        R::Response::decode(&mut answer, version).map_err(broken)
    }

    fn encode<R: Request>(&mut self, version: i16, request: &R) -> BytesMut {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("tidegate-system-tests")));
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        header
            .encode(&mut frame, api_key::<R>().request_header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .expect("the test asks for what the version has");
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }

    fn exchange(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.stream.write_all(frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        assert!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok(answer.into())
    }
}

fn api_key<R: Request>() -> ApiKey {
    ApiKey::try_from(R::KEY).expect("each request has its key")
}

fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(PRODUCE_TIMEOUT_MS)
        .with_topic_data(vec![topic])
}

fn check(code: i16) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        _ => Err(Failure::Refused(code)),
    }
}

/// An answer that is none.
fn broken(why: impl ToString) -> Failure {
    Failure::NoAnswer(std::io::Error::other(why.to_string()))
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
