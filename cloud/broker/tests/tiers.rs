//! What landed is packed into segments, and nobody notices: the same bytes are fetched from memory, log and
//! segment, over restarts, with an empty cache; and what is given up is gone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, ListOffsetsRequest, RequestKind, ResponseKind};
use support::stored::{fetch, fetch_all};
use support::{
    AT_ONCE, Client, DEADLINE, Edge, NEVER, START_MS, delete_request, files, segments, start_with,
    telemetry, until, until_packed,
};
use tidegate_cloud::Cloud;
use tidegate_cloud_protocol::ledger::command::{AlterTopic, Entry, TopicChange, Trim};
use tidegate_cloud_protocol::ledger::{Ledger, Target};
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::record::split_batches;

/// Everything is packed at once, and what is replaced goes as soon as a snapshot allows.
const AND_SWEPT: &str = ", pack: {max_age: 0}, restore_window: 0";

/// Offset of the first record at a time or later.
async fn at_time(client: &mut Client, target: Target, time_ms: i64) -> i64 {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(target.partition.0)
        .with_timestamp(time_ms);
    let topic = ListOffsetsTopic::default()
        .with_name(telemetry())
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let request = RequestKind::ListOffsets(request);
    match client.ask(ApiKey::ListOffsets, 7, request).await {
        ResponseKind::ListOffsets(response) => response.topics[0].partitions[0].offset,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_batch_is_the_same_bytes_from_memory_log_and_segment() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    for _ in 0..20 {
        edge.land(10).await;
    }
    let target = edge.target;
    let mut client = Client::connect(&cloud).await;
    let from_memory = fetch_all(&mut client, target, 0).await;
    assert_eq!(from_memory.len(), 20);
    cloud.shutdown().await;

    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(
        fetch_all(&mut client, target, 0).await,
        from_memory,
        "from the log"
    );
    cloud.shutdown().await;

    let cloud = start_with(data.path(), AT_ONCE).await;
    until_packed(&cloud, target, 200).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(
        fetch_all(&mut client, target, 0).await,
        from_memory,
        "from a segment"
    );
    // From within, by time, and beyond.
    assert_eq!(fetch_all(&mut client, target, 55).await, from_memory[5..]);
    assert_eq!(at_time(&mut client, target, START_MS + 123).await, 123);
    assert_eq!(at_time(&mut client, target, START_MS + 200).await, -1);
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(5).await;
    assert_eq!(at_time(&mut client, target, START_MS + 201).await, 201);
    assert_eq!(fetch_all(&mut client, target, 0).await.len(), 21);
    cloud.shutdown().await;

    fs::remove_dir_all(data.path().join("cache")).unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    let again = fetch_all(&mut client, target, 0).await;
    assert_eq!(again[..20], from_memory, "from the store");
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_is_packed_leaves_the_log_and_is_there_after_every_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut landed = 0;
    let mut target = None;
    for _ in 0..4 {
        let cloud = start_with(data.path(), AND_SWEPT).await;
        let mut edge = Edge::connect(cloud.broker(), "press-4").await;
        // As one batch: it is one segment whenever it is packed.
        edge.land(100).await;
        landed += 100;
        target = Some(edge.target);
        until_packed(&cloud, edge.target, landed).await;
        let mut client = Client::connect(&cloud).await;
        assert_eq!(
            fetch_all(&mut client, edge.target, 0).await.len() as i64,
            landed / 100
        );
        cloud.shutdown().await;
    }
    let cloud = start_with(data.path(), NEVER).await;
    let ledger_is_small = cloud.broker().ledger(|ledger| {
        let log = ledger.log(target.unwrap());
        (log.tail().len(), log.segments().len() >= 4)
    });
    assert_eq!(ledger_is_small, (0, true));
    cloud.shutdown().await;
    assert_eq!(
        files(&data.path().join("snapshots")).len(),
        2,
        "no more are kept"
    );
}

#[tokio::test]
async fn a_start_from_the_older_snapshot_finds_all_that_it_names() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), AND_SWEPT).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    for round in 1..=3 {
        edge.land(10).await;
        until_packed(&cloud, edge.target, round * 10).await;
    }
    let target = edge.target;
    cloud.shutdown().await;
    let newest = files(&data.path().join("snapshots")).pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(fetch_all(&mut client, target, 0).await.len(), 3);
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_is_given_up_is_deleted_and_its_offsets_are_told() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), AND_SWEPT).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let target = edge.target;
    for round in 1..=3 {
        edge.land(10).await;
        until_packed(&cloud, target, round * 10).await;
    }
    assert_eq!(segments(data.path()).len(), 3);
    let start = KafkaOffset(15);
    let trim = Entry::Trim(Trim { target, start });
    cloud.broker().submit(vec![(trim, None)]).await.unwrap();
    let mut client = Client::connect(&cloud).await;
    let out_of_range = 1;
    assert_eq!(
        fetch(&mut client, target, 14).await.error_code,
        out_of_range
    );
    let data_left = fetch(&mut client, target, 15).await;
    assert_eq!((data_left.error_code, data_left.log_start_offset), (0, 15));
    assert_eq!(at_time(&mut client, target, 0).await, 15);
    assert_eq!(at_time(&mut client, target, START_MS + 12).await, 15);
    assert_eq!(at_time(&mut client, target, START_MS + 25).await, 25);
    // Retention by size takes the next, by time all that is packed.
    let alter = |change| {
        Entry::AlterTopic(AlterTopic {
            topic_id: target.topic_id,
            changes: vec![change],
        })
    };
    let by_size = alter(TopicChange::RetentionBytes(1));
    cloud.broker().submit(vec![(by_size, None)]).await.unwrap();
    let starts_at = |offset| {
        move |ledger: &Ledger| ledger.partition(target).unwrap().log_start == KafkaOffset(offset)
    };
    until(&cloud, "only one segment is left", starts_at(20)).await;
    let by_time = alter(TopicChange::RetentionMs(0));
    cloud.broker().submit(vec![(by_time, None)]).await.unwrap();
    until(&cloud, "nothing is left", starts_at(30)).await;
    let gone = |ledger: &Ledger| ledger.free_segments(i64::MAX).count() == 0;
    until(&cloud, "what is given up is deleted", gone).await;
    assert_eq!(segments(data.path()), Vec::<PathBuf>::new());
    assert_eq!(fetch(&mut client, target, 30).await.error_code, 0);
    edge.land(10).await;
    assert_eq!(fetch_all(&mut client, target, 30).await.len(), 1);
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_flipped_byte_in_a_segment_is_an_error_and_never_wrong_data() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), AT_ONCE).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    let target = edge.target;
    until_packed(&cloud, target, 10).await;
    cloud.shutdown().await;
    let segment = segments(data.path()).remove(0);
    let whole = fs::read(&segment).unwrap();
    for at in (0..whole.len()).step_by(11) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&segment, &flipped).unwrap();
        let _ = fs::remove_dir_all(data.path().join("cache"));
        let cloud = start_with(data.path(), NEVER).await;
        let mut client = Client::connect(&cloud).await;
        let fetched = fetch(&mut client, target, 0).await;
        let records = fetched.records.unwrap_or_default();
        match fetched.error_code {
            0 => {
                let batch = split_batches(records).next().unwrap().unwrap();
                assert_eq!(batch.records().unwrap().count(), 10, "flipped at {at}");
            }
            code => assert_eq!((code, records.len()), (56, 0), "flipped at {at}"),
        }
        cloud.shutdown().await;
    }
}

#[tokio::test]
async fn segments_that_nobody_knows_are_deleted() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), AND_SWEPT).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    until_packed(&cloud, edge.target, 10).await;
    cloud.shutdown().await;
    let known = segments(data.path());
    let folder = known[0].parent().unwrap();
    let orphan = folder.join("0000000000000001-00000000000000aa");
    fs::write(&orphan, b"its broker ended before it could propose it").unwrap();
    let other = data
        .path()
        .join("objects/segments/0b/0000000000000001-00000000000000aa");
    fs::create_dir(other.parent().unwrap()).unwrap();
    fs::write(&other, b"of another cloud").unwrap();

    let cloud = start_with(data.path(), AND_SWEPT).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let waiting = async {
        // Each packed batch brings a snapshot, and the second one lets go what is before the first.
        while orphan.exists() {
            edge.land(1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok());
    assert!(other.exists());
    assert!(known.iter().all(|segment| segment.exists()));
    cloud.shutdown().await;
}

/// Offset, key and value of all records.
async fn keyed(client: &mut Client, target: Target) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut all = Vec::new();
    for bytes in fetch_all(client, target, 0).await {
        let batch = split_batches(bytes).next().unwrap().unwrap();
        for record in batch.records().unwrap() {
            let (offset, record) = record.unwrap();
            let key = record.key.as_ref().map(text).unwrap();
            all.push((offset, key, record.value.as_ref().map(text)));
        }
    }
    all
}

async fn alter(cloud: &Cloud, target: Target, changes: Vec<TopicChange>) {
    let topic_id = target.topic_id;
    let alter = Entry::AlterTopic(AlterTopic { topic_id, changes });
    cloud.broker().submit(vec![(alter, None)]).await.unwrap();
}

#[tokio::test]
async fn a_compacted_topic_keeps_the_newest_of_each_key_at_its_offset() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), AND_SWEPT).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let target = edge.target;
    let rounds: [&[(&str, Option<&str>)]; 4] = [
        &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))],
        &[("a", Some("2")), ("a", Some("3"))],
        &[("b", None), ("a", Some("4"))],
        &[("d", Some("1"))],
    ];
    let mut landed = 0;
    for round in rounds {
        edge.land_keyed(round).await;
        landed += round.len() as i64;
        until_packed(&cloud, target, landed).await;
    }
    alter(
        &cloud,
        target,
        vec![
            TopicChange::CleanupPolicy(2),
            TopicChange::DeleteRetentionMs(3_600_000),
        ],
    )
    .await;
    let record =
        |offset, key: &str, value: Option<&str>| (offset, key.to_owned(), value.map(str::to_owned));
    let expected = [
        record(2, "c", Some("1")),
        record(5, "b", None),
        record(6, "a", Some("4")),
        record(7, "d", Some("1")),
    ];
    let mut client = Client::connect(&cloud).await;
    let compacted = async {
        while keyed(&mut client, target).await != expected {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let compacted = tokio::time::timeout(DEADLINE, compacted).await;
    let found = keyed(&mut client, target).await;
    assert!(compacted.is_ok(), "{found:?}");
    // What came of it is in the store, and is the same after a restart; where a whole batch is gone, the
    // fetch goes on behind it.
    assert_eq!(fetch_all(&mut client, target, 3).await.len(), 2);
    cloud.shutdown().await;
    let cloud = start_with(data.path(), AND_SWEPT).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(keyed(&mut client, target).await, expected);
    cloud.shutdown().await;
}

#[tokio::test]
async fn tiny_neighbours_are_packed_as_one_where_the_topic_says_so() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut edges = Vec::new();
    for name in ["press-1", "press-2", "press-3", "press-4"] {
        edges.push(Edge::connect(cloud.broker(), name).await);
    }
    let target = edges[3].target;
    alter(&cloud, target, vec![TopicChange::PackMergeBelow(1_000)]).await;
    for _ in 0..50 {
        edges[3].land(1).await;
    }
    let mut client = Client::connect(&cloud).await;
    let before = fetch_all(&mut client, target, 0).await;
    assert_eq!(before.len(), 50);
    cloud.shutdown().await;

    let cloud = start_with(data.path(), AT_ONCE).await;
    until_packed(&cloud, target, 50).await;
    let mut client = Client::connect(&cloud).await;
    let after = fetch_all(&mut client, target, 0).await;
    let bytes = |batches: &[Bytes]| batches.iter().map(Bytes::len).sum::<usize>();
    let (before_bytes, after_bytes) = (bytes(&before), bytes(&after));
    println!(
        "50 batches of {before_bytes} bytes are {} of {after_bytes}",
        after.len()
    );
    assert!(after.len() < 5 && after_bytes * 3 < before_bytes);
    let records = |batches: Vec<Bytes>| -> Vec<_> {
        let batches = batches
            .into_iter()
            .map(|bytes| split_batches(bytes).next().unwrap().unwrap());
        let records = batches.flat_map(|batch| {
            batch
                .records()
                .unwrap()
                .map(Result::unwrap)
                .collect::<Vec<_>>()
        });
        records
            .map(|(offset, record)| (offset, record.timestamp_ms, record.value))
            .collect()
    };
    assert_eq!(records(after), records(before));
    cloud.shutdown().await;
}

#[tokio::test]
async fn records_are_deleted_by_kafka_or_it_is_said_why_not() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    let mut client = Client::connect(&cloud).await;
    let partition = edge.target.partition.0;
    let below = [
        (partition, 11),
        (partition, 4),
        (99, 0),
        (partition, -2),
        (partition, -1),
    ];
    let told = deleted(&mut client, &below).await;
    let out_of_range = 1;
    assert_eq!(
        told,
        [
            (-1, out_of_range),
            (10, 0),
            (-1, 3),
            (-1, out_of_range),
            (10, 0)
        ]
    );
    let compacts = vec![TopicChange::CleanupPolicy(TopicChange::COMPACTS)];
    alter(&cloud, edge.target, compacts).await;
    let policy_violation = 44;
    assert_eq!(
        deleted(&mut client, &[(partition, 4)]).await,
        [(-1, policy_violation)]
    );
    cloud.shutdown().await;
}

/// Where each partition begins then, and the error code.
async fn deleted(client: &mut Client, below: &[(i32, i64)]) -> Vec<(i64, i16)> {
    let response = client
        .ask(ApiKey::DeleteRecords, 2, delete_request(below))
        .await;
    let ResponseKind::DeleteRecords(response) = response else {
        panic!("{response:?}");
    };
    let partitions = response.topics[0].partitions.iter();
    let told = partitions.map(|partition| (partition.low_watermark, partition.error_code));
    told.collect()
}
