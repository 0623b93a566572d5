//! Edges over real QUIC: what a broken or hostile one gets, and that its neighbour notices nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidegate_bridge::{ChannelError, Connection, Credentials, Dialer, FrameReader, HubAuthority};
use tidegate_bridge_protocol::frame::{
    Announce, AnnouncedStream, Batch, Frame, Gap, GrantedStream, Hello, Landed, PROTOCOL_VERSION,
    Ping,
};
use tidegate_bridge_protocol::landing::{Offer, RefusedReason};
use tidegate_cloud::{Cloud, Config};
use tidegate_cloud_protocol::ledger::command::{AlterTopic, Entry, ReleaseEdge, TopicChange};
use tidegate_cloud_protocol::ledger::{FIGHTS_MAX, Target};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::*;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

const DEADLINE: Duration = Duration::from_secs(20);

async fn start(folder: &Path) -> Cloud {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config {
        data: folder.join("cloud"),
        ..Config::default()
    };
    config.kafka.address = any;
    config.http.address = any;
    config.bridge.address = any;
    Cloud::start(config).await.unwrap()
}

/// An edge by hand.
struct HandEdge {
    connection: Connection,
    session_epoch: SessionEpoch,
    granted: GrantedStream,
    next: EdgeOffset,
    hash: BoundaryHash,
    requests: u64,
}

async fn read(reader: &mut FrameReader) -> Result<Frame, ChannelError> {
    tokio::time::timeout(DEADLINE, reader.read())
        .await
        .expect("an answer in time")
}

fn hello() -> Frame {
    Frame::Hello(Hello {
        protocol_version: PROTOCOL_VERSION,
        store_id: StoreId(1),
        cluster_incarnation: ClusterIncarnation::default(),
        session_epoch: SessionEpoch(0),
    })
}

fn announce(stream: u32, topic: &str, incarnation: Incarnation) -> Frame {
    let stream = AnnouncedStream {
        stream: StreamId(stream),
        name: StreamName::new("telemetry").unwrap(),
        topic: TopicName::new(topic).unwrap(),
        incarnation,
        first: EdgeOffset(0),
        next: EdgeOffset(0),
        landed: EdgeOffset(0),
        landed_life: 0,
    };
    Frame::Announce(Announce {
        streams: vec![stream],
    })
}

/// A connection on which nothing is said yet.
async fn dial(folder: &Path, cloud: &Cloud, id: &str) -> Connection {
    let authority = HubAuthority::open(folder.join("cloud/tls")).unwrap();
    let files = authority
        .issue_edge(&EdgeId::new(id).unwrap(), &folder.join(id))
        .unwrap();
    let credentials = Credentials::load(&files.certificate, &files.key, &files.ca).unwrap();
    let mut dialer = Dialer::new(credentials).unwrap();
    dialer.connect(cloud.bridge_address()).await.unwrap()
}

impl HandEdge {
    async fn connect(folder: &Path, cloud: &Cloud, id: &str) -> Self {
        let mut connection = dial(folder, cloud, id).await;
        send(&mut connection, &hello()).await;
        let Frame::Welcome(welcome) = read(&mut connection.control_in).await.unwrap() else {
            panic!("no Welcome");
        };
        send(&mut connection, &announce(0, "telemetry", Incarnation(0))).await;
        let Frame::Granted(granted) = read(&mut connection.control_in).await.unwrap() else {
            panic!("no Granted");
        };
        let granted = granted.streams[0];
        Self {
            connection,
            session_epoch: welcome.session_epoch,
            granted,
            next: granted.next,
            hash: granted.hash,
            requests: 0,
        }
    }

    fn batch(&mut self, value: &str) -> Batch {
        let mut builder = BatchBuilder::new();
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        builder.push(&Record {
            value,
            ..Record::default()
        });
        let base = self.next.0 as i64;
        let batch = builder.seal(base, Compression::None, &mut Compressor::new());
        self.requests += 1;
        let offer = Offer {
            session_epoch: self.session_epoch,
            incarnation: self.granted.incarnation,
            base_offset: self.next,
            count: 1,
            hash_before: self.hash,
            hash_after: BoundaryHash(self.hash.0 + 1),
        };
        Batch {
            request: self.requests,
            stream: StreamId(0),
            offer,
            batch,
        }
    }

    async fn send_bulk(&mut self, frame: &Frame) {
        let bulk = self.connection.bulk_out.as_mut().unwrap();
        // The hub may have closed by now: what it said is looked at elsewhere.
        let _ = bulk.write(frame).await;
        let _ = bulk.flush().await;
    }

    async fn answer(&mut self) -> Frame {
        read(&mut self.connection.control_in).await.unwrap()
    }

    async fn land(&mut self, value: &str) -> Landed {
        let batch = self.batch(value);
        (self.next, self.hash) = (self.next.plus(1), batch.offer.hash_after);
        self.send_bulk(&Frame::Batch(batch)).await;
        match self.answer().await {
            Frame::Landed(landed) => landed,
            other => panic!("instead of Landed came {other:?}"),
        }
    }

    /// Why the hub closed the connection.
    async fn end(self) -> String {
        end(self.connection).await
    }
}

async fn end(mut connection: Connection) -> String {
    tokio::time::timeout(DEADLINE, async {
        while connection.control_in.read().await.is_ok() {}
        connection.handle.closed().await;
    })
    .await
    .expect("the hub closes the connection");
    connection.handle.end_reason().unwrap()
}

async fn send(connection: &mut Connection, frame: &Frame) {
    connection.control_out.write(frame).await.unwrap();
    connection.control_out.flush().await.unwrap();
}

#[tokio::test]
async fn each_breach_ends_its_own_connection_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut bystander = HandEdge::connect(folder.path(), &cloud, "bystander").await;
    bystander.land("before").await;

    let mut edge = HandEdge::connect(folder.path(), &cloud, "wrong-crc").await;
    let mut batch = edge.batch("21.5");
    let mut damaged = BytesMut::from(&batch.batch[..]);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    batch.batch = damaged.freeze();
    edge.send_bulk(&Frame::Batch(batch)).await;
    let reason = edge.end().await;
    assert!(
        reason.contains("bad_batch") && reason.contains("CRC"),
        "{reason}"
    );
    bystander.land("after a wrong CRC").await;

    let mut edge = HandEdge::connect(folder.path(), &cloud, "too-many").await;
    let mut batch = edge.batch("21.5");
    batch.offer.count = 1_000_000;
    edge.send_bulk(&Frame::Batch(batch)).await;
    assert!(edge.end().await.contains("bad_batch"));

    let mut edge = HandEdge::connect(folder.path(), &cloud, "unannounced").await;
    let mut batch = edge.batch("21.5");
    batch.stream = StreamId(77);
    edge.send_bulk(&Frame::Batch(batch)).await;
    assert!(edge.end().await.contains("protocol"));

    let mut edge = HandEdge::connect(folder.path(), &cloud, "hello-again").await;
    send(&mut edge.connection, &hello()).await;
    assert!(edge.end().await.contains("protocol"));

    // A frame that says it has 4 GiB: a batch's header with a length of its own making.
    let mut edge = HandEdge::connect(folder.path(), &cloud, "oversized").await;
    let mut batch = edge.batch("21.5");
    batch.batch = Bytes::from(vec![0; 5 << 20]);
    edge.send_bulk(&Frame::Batch(batch)).await;
    assert!(edge.end().await.contains("frame_too_large"));

    let landed = bystander.land("after them all").await;
    assert_eq!(landed.landed, EdgeOffset(3));
    let broker = cloud.broker();
    let text = broker.metrics().encode();
    for code in ["bad_batch\"} 2", "protocol\"} 2", "frame_too_large\"} 1"] {
        let line = format!("tidegate_bridge_closed_connections_total{{code=\"{code}");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_forged_offset_lands_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut edge = HandEdge::connect(folder.path(), &cloud, "forger").await;
    edge.land("0").await;
    for (base, hash) in [(5, None), (1, Some(BoundaryHash(999)))] {
        let honest = (edge.next, edge.hash);
        edge.next = EdgeOffset(base);
        edge.hash = hash.unwrap_or(edge.hash);
        let batch = edge.batch("forged");
        edge.send_bulk(&Frame::Batch(batch)).await;
        let Frame::Refused(refused) = edge.answer().await else {
            panic!("not refused")
        };
        let expected = if base == 5 {
            RefusedReason::WrongOffset
        } else {
            RefusedReason::WrongHash
        };
        assert_eq!(refused.reason, expected);
        assert_eq!((refused.next, refused.hash), honest);
        (edge.next, edge.hash) = honest;
    }
    // What landed before is answered again, and not stored again.
    let honest = (edge.next, edge.hash);
    (edge.next, edge.hash) = (EdgeOffset(0), BoundaryHash(0));
    assert_eq!(edge.land("0").await.landed, EdgeOffset(1));
    (edge.next, edge.hash) = honest;
    assert_eq!(edge.land("1").await.facts[0].kafka_offset, KafkaOffset(1));
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_lands_has_the_time_when_it_came_where_its_topic_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut edge = HandEdge::connect(folder.path(), &cloud, "press-4").await;
    edge.land("0").await;
    let broker = cloud.broker();
    let topic_id = broker
        .ledger(|ledger| ledger.topic_id("telemetry"))
        .unwrap();
    let changes = vec![TopicChange::LogAppendTime(true)];
    let stamped = Entry::AlterTopic(AlterTopic { topic_id, changes });
    broker.submit(vec![(stamped, None)]).await.unwrap();
    let landed = edge.land("1").await;
    let target = Target {
        topic_id,
        partition: landed.facts[0].partition,
    };
    let times: Vec<i64> = broker.ledger(|ledger| {
        let tail = ledger.log(target).tail().iter();
        tail.map(|batch| batch.max_timestamp_ms).collect()
    });
    assert_eq!(times[0], 0, "its sender's");
    assert!(times[1] > 0, "{times:?}");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_gap_lands_in_its_turn_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut edge = HandEdge::connect(folder.path(), &cloud, "lossy").await;
    edge.land("0").await;
    let Batch { offer, .. } = edge.batch("never sent");
    let gap = Gap {
        request: edge.requests,
        stream: StreamId(0),
        offer: Offer { count: 7, ..offer },
        reason: GapReason::Overflow,
    };
    (edge.next, edge.hash) = (edge.next.plus(7), offer.hash_after);
    for _ in 0..2 {
        // The second is a duplicate: answered, and not counted again.
        edge.send_bulk(&Frame::Gap(gap)).await;
        let Frame::Landed(landed) = edge.answer().await else {
            panic!("no Landed")
        };
        assert_eq!((landed.landed, landed.facts), (EdgeOffset(8), vec![]));
    }
    let after = edge.land("8").await;
    assert_eq!(after.facts[0].kafka_offset, KafkaOffset(1));
    let text = cloud.broker().metrics().encode();
    let line = "tidegate_hub_gap_records_total{reason=\"overflow\"} 7";
    assert!(text.contains(line), "{text}");
    cloud.shutdown().await;
    // What landed as a gap is known after a restart too.
    let cloud = start(folder.path()).await;
    let again = HandEdge::connect(folder.path(), &cloud, "lossy").await;
    assert_eq!(again.next, EdgeOffset(9));
    cloud.shutdown().await;
}

/// Who has nothing to say is told all the same, by the code.
#[tokio::test]
async fn a_newer_connection_fences_the_older_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut older = HandEdge::connect(folder.path(), &cloud, "twin").await;
    older.land("0").await;
    let other = HandEdge::connect(folder.path(), &cloud, "other").await;
    let mut newer = HandEdge::connect(folder.path(), &cloud, "twin").await;
    assert!(older.end().await.contains("fenced"));
    assert_eq!(newer.next, EdgeOffset(1), "it goes on where the hub says");
    newer.land("1").await;
    assert_eq!(
        cloud.broker().presence().connected(),
        2,
        "no other is closed"
    );
    drop(other);
    cloud.shutdown().await;
}

/// Each says that it has seen nothing of what the others have said: they fight, and all are held.
#[tokio::test]
async fn all_connections_of_an_edge_are_closed_when_it_is_put_into_quarantine() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut idle = HandEdge::connect(folder.path(), &cloud, "twin").await;
    for _ in 1..FIGHTS_MAX {
        let next = HandEdge::connect(folder.path(), &cloud, "twin").await;
        assert!(idle.end().await.contains("fenced"));
        idle = next;
    }
    let mut last = dial(folder.path(), &cloud, "twin").await;
    send(&mut last, &hello()).await;
    assert!(end(last).await.contains("quarantined"));
    assert!(idle.end().await.contains("quarantined"), "it is told, too");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_stream_whose_topic_is_not_there_is_parked_and_no_other_waits() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut edge = HandEdge::connect(folder.path(), &cloud, "parked").await;
    let stream = AnnouncedStream {
        stream: StreamId(1),
        name: StreamName::new("other").unwrap(),
        topic: TopicName::new("nowhere").unwrap(),
        incarnation: Incarnation(0),
        first: EdgeOffset(0),
        next: EdgeOffset(0),
        landed: EdgeOffset(0),
        landed_life: 0,
    };
    let frame = Frame::Announce(Announce {
        streams: vec![stream],
    });
    send(&mut edge.connection, &frame).await;
    let Frame::Granted(granted) = edge.answer().await else {
        panic!("no Granted")
    };
    assert_eq!(granted.streams[0].refused, Some(RefusedReason::Parked));
    edge.land("0").await;
    send(&mut edge.connection, &Frame::Ping(Ping { nonce: 4 })).await;
    assert!(matches!(edge.answer().await, Frame::Pong(pong) if pong.nonce == 4));
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_connection_that_says_no_hello_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut silent = dial(folder.path(), &cloud, "silent").await;
    // A Ping is no Hello.
    send(&mut silent, &Frame::Ping(Ping { nonce: 1 })).await;
    let reason = end(silent).await;
    assert!(reason.contains("timeout"), "{reason}");
}

#[tokio::test]
async fn an_edge_has_at_most_eight_open_connections() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut open = Vec::new();
    for nonce in 0..8 {
        let mut connection = dial(folder.path(), &cloud, "many").await;
        send(&mut connection, &Frame::Ping(Ping { nonce })).await;
        read(&mut connection.control_in).await.unwrap();
        open.push(connection);
    }
    let mut ninth = dial(folder.path(), &cloud, "many").await;
    send(&mut ninth, &hello()).await;
    let reason = end(ninth).await;
    assert!(reason.contains("too many open connections"), "{reason}");
    let mut neighbour = HandEdge::connect(folder.path(), &cloud, "neighbour").await;
    neighbour.land("while the other has too many").await;
}

#[tokio::test]
async fn a_long_submission_is_decided_in_parts_and_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let broker = cloud.broker();
    let release = |number| {
        let edge = EdgeId::new(format!("edge-{number}")).unwrap();
        (Entry::ReleaseEdge(ReleaseEdge { edge }), None)
    };
    let syncs_before = broker.metrics().log_syncs.get();
    let effects = broker.submit((0..10_000).map(release).collect()).await;
    assert_eq!(effects.unwrap().len(), 10_000);
    assert!(broker.submit(vec![]).await.unwrap().is_empty());
    assert_eq!(broker.metrics().log_syncs.get() - syncs_before, 3);
}
