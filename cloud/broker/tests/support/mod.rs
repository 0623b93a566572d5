//! A node in this process, an edge that lands into it, and a Kafka client of few lines.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(missing_debug_implementations, reason = "helpers of tests")]

pub mod http;
pub mod random;
pub mod stored;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    ApiKey, DeleteRecordsRequest, FetchRequest, RequestHeader, RequestKind, ResponseHeader,
    ResponseKind, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tidegate_bridge_protocol::landing::{ForkReason, ForkRequest, Head, Offer};
use tidegate_cloud::{Broker, Cloud, Config};
use tidegate_cloud_protocol::gathering::Wish;
use tidegate_cloud_protocol::ledger::command::{Entry, ForkStream, OpenSession, OpenStream};
use tidegate_cloud_protocol::ledger::{Effect, Ledger, Target};
use tidegate_cloud_protocol::questions::land_wish;
use tidegate_shared::id::{
    BoundaryHash, EdgeId, EdgeOffset, Incarnation, SessionEpoch, StoreId, StreamName,
};
use tidegate_shared::record::{Batch, BatchBuilder, Compression, Compressor, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// The first record's time.
pub const START_MS: i64 = 1_700_000_000_000;

/// Deletes what lies below the offsets of these partitions.
pub fn delete_request(below: &[(i32, i64)]) -> RequestKind {
    let partitions = below.iter().map(|(partition, offset)| {
        DeleteRecordsPartition::default()
            .with_partition_index(*partition)
            .with_offset(*offset)
    });
    let topic = DeleteRecordsTopic::default()
        .with_name(telemetry())
        .with_partitions(partitions.collect());
    RequestKind::DeleteRecords(DeleteRecordsRequest::default().with_topics(vec![topic]))
}

/// Everything is packed as soon as the housekeeping looks.
pub const AT_ONCE: &str = ", pack: {max_age: 0}";

/// Nothing is packed.
pub const NEVER: &str = ", pack: {max_age: 7d}";

/// No wait of these tests takes as long when all is well.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the ledger is as it should be.
pub async fn until(cloud: &Cloud, what: &str, is_so: impl Fn(&Ledger) -> bool) {
    let waiting = async {
        while !cloud.broker().ledger(&is_so) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok(), "not within {DEADLINE:?}: {what}");
}

pub async fn until_packed(cloud: &Cloud, target: Target, offset: i64) {
    until(cloud, "it is packed", |ledger| {
        let mut segments = ledger.log(target).segments();
        segments
            .next_back()
            .is_some_and(|newest| newest.end.0 >= offset)
    })
    .await;
}

/// The files of all segments of a folder store.
pub fn segments(data: &Path) -> Vec<PathBuf> {
    let of_clouds = files(&data.join("objects/segments")).into_iter();
    of_clouds.flat_map(|folder| files(&folder)).collect()
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    files
}

pub async fn start(data: &Path) -> Cloud {
    start_with(data, "").await
}

/// With more of its configuration: `, key: value`.
pub async fn start_with(data: &Path, more: &str) -> Cloud {
    let yaml = format!(
        "{{data: {}, kafka: {{address: 127.0.0.1:0}}, http: {{address: 127.0.0.1:0}}, \
         bridge: {{address: 127.0.0.1:0}}, topics: [{{name: telemetry, partitions: 3}}]{more}}}",
        data.display()
    );
    let config = Config::parse(&yaml).unwrap();
    Box::pin(Cloud::start(config)).await.unwrap()
}

pub struct Edge {
    broker: Broker,
    edge: EdgeId,
    stream: StreamName,
    pub session_epoch: SessionEpoch,
    pub head: Head,
    pub target: Target,
}

impl Edge {
    pub async fn connect(broker: Broker, name: &str) -> Self {
        let edge = EdgeId::new(name).unwrap();
        let stream = StreamName::new("telemetry").unwrap();
        let (seen_cluster, seen_epoch) = broker.ledger(|ledger| {
            let known = ledger.edge(&edge).map(|edge| edge.session_epoch);
            (
                ledger.cluster_incarnation().unwrap(),
                known.unwrap_or_default(),
            )
        });
        let open = OpenSession {
            edge: edge.clone(),
            store_id: StoreId(1),
            seen_cluster,
            seen_epoch,
        };
        let effects = broker.submit(vec![(Entry::OpenSession(open), None)]).await;
        let [Effect::SessionOpened { session_epoch }] = effects.unwrap()[..] else {
            panic!("no session");
        };
        let open = OpenStream {
            edge: edge.clone(),
            session_epoch,
            stream: stream.clone(),
            incarnation: Incarnation(0),
            topic: tidegate_shared::id::TopicName::new("telemetry").unwrap(),
            landed: EdgeOffset(0),
            landed_life: 0,
        };
        let effects = broker.submit(vec![(Entry::OpenStream(open), None)]).await;
        let [Effect::StreamOpened(opened)] = effects.unwrap()[..] else {
            panic!("no stream");
        };
        let (head, target) = (opened.head, opened.target);
        Self {
            broker,
            edge,
            stream,
            session_epoch,
            head,
            target,
        }
    }

    /// The next `count` records, to land; each value is the record's edge offset.
    pub fn next(&self, count: u64) -> Wish {
        let offsets = self.head.next.0..self.head.next.0 + count;
        let records = offsets.map(|offset| Record {
            timestamp_ms: START_MS + offset as i64,
            key: None,
            value: Some(offset.to_string().into()),
            headers: vec![],
        });
        self.batch(&records.collect::<Vec<_>>())
    }

    /// These records, to land.
    pub fn batch(&self, records: &[Record]) -> Wish {
        let mut builder = BatchBuilder::new();
        for record in records {
            builder.push(record);
        }
        let base = i64::try_from(self.head.next.0).unwrap();
        let batch = builder.seal(base, Compression::Zstd, &mut Compressor::new());
        let offer = Offer {
            session_epoch: self.session_epoch,
            incarnation: self.head.incarnation,
            base_offset: self.head.next,
            count: records.len() as u64,
            hash_before: self.head.hash,
            hash_after: BoundaryHash(self.head.hash.0 + 1),
        };
        let batch = Batch::parse(batch).unwrap();
        land_wish(self.edge.clone(), self.stream.clone(), offer, &batch).unwrap()
    }

    /// Its stream goes on in a new incarnation, from an earlier offset.
    pub async fn fork(&mut self, from: u64) {
        let request = ForkRequest {
            session_epoch: self.session_epoch,
            ends: self.head.incarnation,
            edge_incarnation: self.head.incarnation,
            from: EdgeOffset(from),
            hash: BoundaryHash(7),
            reason: ForkReason::Unproved,
            is_proved: false,
        };
        let fork = ForkStream {
            edge: self.edge.clone(),
            stream: self.stream.clone(),
            request,
        };
        let effects = self
            .broker
            .submit(vec![(Entry::ForkStream(fork), None)])
            .await;
        let effects = effects.unwrap();
        let Effect::StreamForked(forked) = &effects[0] else {
            panic!("{effects:?}");
        };
        self.head = forked.opened.head;
    }

    pub async fn land(&mut self, count: u64) {
        self.land_wish(self.next(count)).await;
    }

    /// As one batch.
    pub async fn land_records(&mut self, records: &[Record]) {
        self.land_wish(self.batch(records)).await;
    }

    /// Each a key and a value; no value is a tombstone.
    pub async fn land_keyed(&mut self, pairs: &[(&str, Option<&str>)]) {
        let records = pairs.iter().map(|(key, value)| Record {
            timestamp_ms: START_MS,
            key: Some(key.to_string().into()),
            value: value.map(|value| value.to_string().into()),
            headers: vec![],
        });
        let wish = self.batch(&records.collect::<Vec<_>>());
        self.land_wish(wish).await;
    }

    async fn land_wish(&mut self, wish: Wish) {
        let effects = self.broker.submit(vec![wish]).await.unwrap();
        let Effect::Landed(landed) = &effects[0] else {
            panic!("{effects:?}");
        };
        self.head = landed.head;
    }
}

pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub async fn connect(cloud: &Cloud) -> Self {
        let stream = TcpStream::connect(cloud.kafka_address()).await.unwrap();
        Self { stream }
    }

    pub async fn ask(&mut self, key: ApiKey, version: i16, request: RequestKind) -> ResponseKind {
        let mut out = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        header
            .encode(&mut out, key.request_header_version(version))
            .unwrap();
        request.encode(&mut out, version).unwrap();
        self.send(&out).await;
        let mut response = self.receive().await.expect("an answer");
        let header = ResponseHeader::decode(&mut response, key.response_header_version(version));
        assert_eq!(header.unwrap().correlation_id, 7);
        let decoded = ResponseKind::decode(key, &mut response, version).unwrap();
        assert!(
            !response.has_remaining(),
            "{key:?} {version}: bytes are left over"
        );
        decoded
    }

    pub async fn send(&mut self, request: &[u8]) {
        let mut out = BytesMut::new();
        out.put_u32(u32::try_from(request.len()).unwrap());
        out.put_slice(request);
        self.stream.write_all(&out).await.unwrap();
    }

    /// One response; `None` where the connection is closed.
    pub async fn receive(&mut self) -> Option<Bytes> {
        let length = self.stream.read_u32().await.ok()?;
        let mut response = vec![0; length as usize];
        self.stream.read_exact(&mut response).await.ok()?;
        Some(response.into())
    }
}

pub fn telemetry() -> TopicName {
    TopicName(StrBytes::from_static_str("telemetry"))
}

pub fn fetch_request(version: i16, target: Target, offset: i64, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(target.partition.0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let mut topic = FetchTopic::default().with_partitions(vec![partition]);
    if version >= 13 {
        topic.topic_id = Uuid::from_u128(target.topic_id.0);
    } else {
        topic.topic = telemetry();
    }
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
}
