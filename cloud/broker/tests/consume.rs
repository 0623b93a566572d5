//! From an edge's batch to a Kafka client's record, over TCP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, ListOffsetsRequest, RequestKind, ResponseKind};
use support::{Client, Edge, START_MS, fetch_request, start, telemetry};
use tidegate_cloud_protocol::ledger::{Effect, TailBatch, Target};
use tidegate_shared::record::split_batches;

async fn fetch(client: &mut Client, target: Target, offset: i64, wait_ms: i32) -> PartitionData {
    fetch_at(client, 13, target, offset, wait_ms).await
}

async fn fetch_at(
    client: &mut Client,
    version: i16,
    target: Target,
    offset: i64,
    wait_ms: i32,
) -> PartitionData {
    let request = RequestKind::Fetch(fetch_request(version, target, offset, wait_ms));
    let ResponseKind::Fetch(mut response) = client.ask(ApiKey::Fetch, version, request).await
    else {
        panic!("no fetch response");
    };
    assert_eq!(response.session_id, 0);
    response.responses.remove(0).partitions.remove(0)
}

/// Offset and value of each record.
fn records(data: &PartitionData) -> Vec<(i64, String)> {
    let batches = split_batches(data.records.clone().unwrap());
    let records = batches.flat_map(|batch| batch.unwrap().records().unwrap());
    records
        .map(|record| {
            let (offset, record) = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            (offset, value)
        })
        .collect()
}

fn dense(count: i64) -> Vec<(i64, String)> {
    (0..count).map(|n| (n, n.to_string())).collect()
}

#[tokio::test]
async fn what_landed_is_fetched_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    for _ in 0..5 {
        edge.land(10).await;
    }
    let mut client = Client::connect(&cloud).await;
    let fetched = fetch(&mut client, edge.target, 0, 0).await;
    assert_eq!(records(&fetched), dense(50));
    assert_eq!(fetched.high_watermark, 50);
    let inside = fetch(&mut client, edge.target, 33, 0).await;
    assert_eq!(
        records(&inside)[0].0,
        30,
        "the whole batch that holds the offset"
    );
    cloud.shutdown().await;

    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(
        records(&fetch(&mut client, edge.target, 0, 0).await),
        dense(50)
    );
    let mut again = Edge::connect(cloud.broker(), "press-4").await;
    assert_eq!(again.head, edge.head);
    assert!(again.session_epoch > edge.session_epoch);
    again.land(10).await;
    assert_eq!(
        records(&fetch(&mut client, edge.target, 0, 0).await),
        dense(60)
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_fetch_at_the_tail_waits_for_what_lands() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let mut client = Client::connect(&cloud).await;
    let waiting = fetch(&mut client, edge.target, 0, 30_000);
    let landing = edge.land(3);
    let both = async { tokio::join!(waiting, landing).0 };
    let fetched = tokio::time::timeout(Duration::from_secs(10), both).await;
    // The wait itself may begin after the landing; it ends at once in either case.
    assert_eq!(records(&fetched.unwrap()), dense(3));
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_lands_twice_is_there_once() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let first = edge.next(10);
    let effects = cloud
        .broker()
        .submit(vec![first.clone(), first.clone()])
        .await;
    let effects = effects.unwrap();
    assert!(matches!(
        effects[..],
        [Effect::Landed(_), Effect::Duplicate { .. }]
    ));
    let Effect::Landed(landed) = &effects[0] else {
        unreachable!()
    };
    edge.head = landed.head;

    edge.land(5).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(
        records(&fetch(&mut client, edge.target, 0, 0).await),
        dense(15)
    );
    cloud.shutdown().await;
}

/// Where the last of these batches ends in the log's only file.
fn end_of_batches(tail: &[TailBatch]) -> u64 {
    let last = tail.last().unwrap();
    last.place.position + u64::from(last.batch_bytes)
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_damage_is_never_served() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(1000).await;
    edge.land(1000).await;
    let cloud_tail = cloud.broker().ledger(|ledger| {
        let tail = ledger.log(edge.target).tail();
        tail.iter().copied().collect::<Vec<TailBatch>>()
    });
    cloud.shutdown().await;
    let path = data.path().join("log/00000000000000000001.log");
    let file = std::fs::File::options()
        .write(true)
        .read(true)
        .open(path)
        .unwrap();
    // As a kill would leave it: the stop has made a snapshot, of what was durable then.
    std::fs::remove_dir_all(data.path().join("snapshots")).unwrap();
    let landed = end_of_batches(&cloud_tail);
    file.set_len(landed - 3).unwrap();

    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let fetched = fetch(&mut client, edge.target, 0, 0).await;
    assert_eq!(fetched.high_watermark, 1000);
    // Damaged while the node runs: it reads from the disk, since it was started anew.
    file.write_all_at(b"xxxx", end_of_batches(&cloud_tail[..1]) - 20)
        .unwrap();
    let fetched = fetch(&mut client, edge.target, 0, 0).await;
    assert_eq!(fetched.error_code, 56);
    assert!(fetched.records.unwrap().is_empty());
    cloud.shutdown().await;
}

#[tokio::test]
async fn two_processes_cannot_share_a_folder() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let yaml = format!(
        "{{data: {}, kafka: {{address: 127.0.0.1:0}}}}",
        data.path().display()
    );
    let config = tidegate_cloud::Config::parse(&yaml).unwrap();
    let error = Box::pin(tidegate_cloud::Cloud::start(config))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("in use by another process"));
    cloud.shutdown().await;
}

#[tokio::test]
async fn errors_are_kafkas_own() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let edge = Edge::connect(cloud.broker(), "press-4").await;
    let mut client = Client::connect(&cloud).await;
    let beyond = fetch(&mut client, edge.target, 1, 30_000).await;
    assert_eq!(beyond.error_code, 1, "OFFSET_OUT_OF_RANGE");
    let mut unknown = edge.target;
    unknown.topic_id.0 ^= 1;
    let by_id = fetch(&mut client, unknown, 0, 30_000).await;
    assert_eq!(by_id.error_code, 100, "UNKNOWN_TOPIC_ID");
    unknown = edge.target;
    unknown.partition.0 = 99;
    let by_name = fetch_at(&mut client, 4, unknown, 0, 30_000).await;
    assert_eq!(by_name.error_code, 3, "UNKNOWN_TOPIC_OR_PARTITION");
    cloud.shutdown().await;
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    edge.land(10).await;
    let mut client = Client::connect(&cloud).await;
    let times = [
        (-2, 0),
        (-1, 20),
        (-3, 19),
        (START_MS + 13, 13),
        (START_MS + 99, -1),
    ];
    for (timestamp, expected) in times {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(edge.target.partition.0)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(telemetry())
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        let request = RequestKind::ListOffsets(request);
        let response = client.ask(ApiKey::ListOffsets, 8, request).await;
        let ResponseKind::ListOffsets(response) = response else {
            panic!("{response:?}");
        };
        assert_eq!(
            response.topics[0].partitions[0].offset, expected,
            "at {timestamp}"
        );
    }
    cloud.shutdown().await;
}

/// `min_bytes` of Fetch.
#[tokio::test]
async fn a_fetch_waits_until_there_is_as_much_as_it_wants() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(1).await;
    let target = edge.target;
    let first = fetch(&mut Client::connect(&cloud).await, target, 0, 0).await;
    let bytes = first.records.unwrap().len() as i32;
    let mut client = Client::connect(&cloud).await;
    let request = fetch_request(12, target, 0, 60_000).with_min_bytes(2 * bytes);
    let asked = client.ask(ApiKey::Fetch, 12, RequestKind::Fetch(request));
    let (response, ()) = tokio::join!(asked, async {
        // Each of these wakes it, and the first is not enough yet.
        edge.land(1).await;
        edge.land(1).await;
    });
    let ResponseKind::Fetch(response) = response else {
        panic!("{response:?}");
    };
    let got = response.responses[0].partitions[0]
        .records
        .as_ref()
        .unwrap();
    assert!(
        got.len() as i32 >= 2 * bytes,
        "{} of {}",
        got.len(),
        2 * bytes
    );
    // Who wants more than there is gets what there is once its time is over.
    let request = fetch_request(12, target, 0, 50).with_min_bytes(1 << 20);
    let response = client
        .ask(ApiKey::Fetch, 12, RequestKind::Fetch(request))
        .await;
    let ResponseKind::Fetch(response) = response else {
        panic!("{response:?}");
    };
    let got = response.responses[0].partitions[0]
        .records
        .as_ref()
        .unwrap();
    assert!(!got.is_empty());
    cloud.shutdown().await;
}
