//! Offsets of records that a Kafka client has produced, among those that an edge has landed: what look-up, translation,
//! groups, export and verification say of them, before they are packed, once they are, and once they are merged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, RequestKind, ResponseKind};
use serde_json::{Value, json};
use support::http::{ask, ask_text, get};
use support::stored::fetch_all;
use support::{AT_ONCE, Client, Edge, NEVER, START_MS, start_with, telemetry, until_packed};
use tidegate_cloud::Cloud;
use tidegate_cloud_protocol::ledger::Target;
use tidegate_cloud_protocol::ledger::command::{
    AlterTopic, CommitOffsets, Entry, OffsetCommit, TopicChange,
};
use tidegate_shared::id::{GroupName, KafkaOffset, PartitionId};
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

/// So many records of a Kafka client, as one batch.
async fn produce(client: &mut Client, target: Target, count: i64, compression: Compression) {
    let mut builder = BatchBuilder::new();
    for number in 0..count {
        builder.push(&Record {
            timestamp_ms: START_MS + number,
            key: Some("key".into()),
            value: Some(Bytes::from(vec![b'v'; 600])),
            headers: vec![],
        });
    }
    let batch = builder.seal(0, compression, &mut Compressor::new());
    let data = PartitionProduceData::default()
        .with_index(target.partition.0)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(telemetry())
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![topic]);
    let request = RequestKind::Produce(request);
    let response = client.ask(ApiKey::Produce, 9, request).await;
    let ResponseKind::Produce(response) = response else {
        panic!("{response:?}");
    };
    let told = &response.responses[0].partition_responses[0];
    assert_eq!(told.error_code, 0, "{told:?}");
}

/// Two records of the edge, three of a Kafka client, and so on; a partition of the client's own; a group that is in the
/// midst of both.
async fn mixed(cloud: &Cloud) -> (Edge, Target) {
    let mut edge = Edge::connect(cloud.broker(), "first").await;
    let mut client = Client::connect(cloud).await;
    let target = edge.target;
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        edge.land(2).await;
        produce(&mut client, target, 3, compression).await;
    }
    let mut alone = target;
    alone.partition = PartitionId((target.partition.0 + 1) % 3);
    produce(&mut client, alone, 4, Compression::None).await;
    let of = |target: Target, offset| OffsetCommit {
        topic_id: target.topic_id,
        partition: target.partition,
        offset: KafkaOffset(offset),
        leader_epoch: -1,
        metadata: String::new(),
    };
    let commit = CommitOffsets {
        group: GroupName::new("g").unwrap(),
        offsets: vec![of(target, 9), of(alone, 2)],
    };
    let wish = (Entry::CommitOffsets(commit), None);
    cloud.broker().submit(vec![wish]).await.unwrap();
    (edge, alone)
}

/// All that is said of what an edge has landed and a Kafka client has produced, in turn.
async fn check_mixed(cloud: &Cloud, target: Target, alone: Target) {
    let cloud = &cloud;
    let lookup = async |target: Target, offset: i64| {
        let partition = target.partition;
        let path = format!("/offsets/lookup?topic=telemetry&partition={partition}&offset={offset}");
        get(cloud, &path).await
    };
    for offset in 0..15 {
        let told = lookup(target, offset).await;
        if offset % 5 < 2 {
            let at_edge = offset / 5 * 2 + offset % 5;
            assert_eq!(
                (&told["status"], &told["edge_offset"]),
                (&json!("landed"), &json!(at_edge)),
                "{offset}: {told}"
            );
            let path = format!("/offsets/translate?edge=first&stream=telemetry&offset={at_edge}");
            assert_eq!(get(cloud, &path).await["kafka_offset"], offset);
            let path = format!("/where?edge=first&stream=telemetry&offset={at_edge}");
            let found = get(cloud, &path).await["found"].clone();
            assert_eq!(found["kafka_offset"], offset, "{found}");
            assert_eq!(found["time_ms"], START_MS + at_edge, "{found}");
            assert_eq!(found["groups"][0]["has_read"], offset < 9, "{found}");
        } else {
            assert_eq!(told, json!({"status": "from_a_kafka_client"}), "{offset}");
        }
    }
    let told = lookup(target, 15).await;
    assert_eq!(told, json!({"status": "not_yet", "known_up_to": 15}));
    for offset in 0..4 {
        let told = lookup(alone, offset).await;
        assert_eq!(told, json!({"status": "from_a_kafka_client"}), "{offset}");
    }
    let newest = get(cloud, "/where?edge=first&stream=telemetry").await;
    assert_eq!(newest["found"]["edge_offset"], 5, "{newest}");
    let rows = get(cloud, "/offsets/groups/g").await["offsets"].clone();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["edge_offset"], 4, "offset 9 is behind it");
    let (_, lines) = ask_text(cloud, "GET", "/offsets/export", "").await;
    let facts = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let counted: u64 = facts.map(|fact| fact["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 6, "{lines}");
    for verdict in [
        get(cloud, "/offsets/verify").await,
        ask(cloud, "POST", "/offsets/verify", &lines).await.1,
    ] {
        assert_eq!(verdict["wrong_count"], 0, "{verdict}");
    }
}

/// Facts about its first ten offsets, of an older and a newer life of another cloud.
async fn import_foreign(cloud: &Cloud, target: Target) {
    for (life, edge_offset) in [("0-ee", 0), ("9-ff", 100)] {
        let foreign = json!({
            "edge": "elsewhere",
            "stream": "telemetry",
            "incarnation": 1,
            "edge_offset": edge_offset,
            "count": 10,
            "topic": "telemetry",
            "partition": target.partition,
            "kafka_offset": 0,
            "cluster_incarnation": life,
        });
        let (status, taken) = ask(cloud, "POST", "/offsets/import", &foreign.to_string()).await;
        assert_eq!((status, &taken["new"]), (200, &json!(1)), "{taken}");
    }
}

#[tokio::test]
async fn what_a_kafka_client_has_produced_is_called_that_also_once_it_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start_with(folder.path(), NEVER).await;
    let (edge, alone) = mixed(&cloud).await;
    check_mixed(&cloud, edge.target, alone).await;
    cloud.shutdown().await;
    let cloud = start_with(folder.path(), AT_ONCE).await;
    until_packed(&cloud, edge.target, 15).await;
    until_packed(&cloud, alone, 4).await;
    check_mixed(&cloud, edge.target, alone).await;
    // Whatever another cloud says of a topic of this name.
    import_foreign(&cloud, edge.target).await;
    for (offset, status) in [(0, "landed"), (2, "from_a_kafka_client")] {
        let partition = edge.target.partition;
        let path = format!("/offsets/lookup?topic=telemetry&partition={partition}&offset={offset}");
        let told = get(&cloud, &path).await;
        assert_eq!(told["status"], status, "{told}");
        assert_ne!(told["edge"], "elsewhere");
    }
    // And once its beginning is gone, that is said.
    let request = support::delete_request(&[(edge.target.partition.0, 4)]);
    let mut client = Client::connect(&cloud).await;
    client.ask(ApiKey::DeleteRecords, 2, request).await;
    let partition = edge.target.partition;
    for (offset, status) in [(3, "expired"), (4, "from_a_kafka_client")] {
        let path = format!("/offsets/lookup?topic=telemetry&partition={partition}&offset={offset}");
        assert_eq!(get(&cloud, &path).await["status"], status);
    }
    cloud.shutdown().await;
}

/// Batches of both lie in one another's: tiny ones are merged, whoever they are from.
#[tokio::test]
async fn what_a_kafka_client_has_produced_is_called_that_once_it_is_merged() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start_with(folder.path(), NEVER).await;
    let (edge, alone) = mixed(&cloud).await;
    let merges = Entry::AlterTopic(AlterTopic {
        topic_id: edge.target.topic_id,
        changes: vec![TopicChange::PackMergeBelow(64 << 10)],
    });
    cloud.broker().submit(vec![(merges, None)]).await.unwrap();
    cloud.shutdown().await;
    let cloud = start_with(folder.path(), AT_ONCE).await;
    until_packed(&cloud, edge.target, 15).await;
    until_packed(&cloud, alone, 4).await;
    let mut client = Client::connect(&cloud).await;
    let batches = fetch_all(&mut client, edge.target, 0).await;
    assert!(batches.len() < 6, "{} batches", batches.len());
    check_mixed(&cloud, edge.target, alone).await;
    cloud.shutdown().await;
}
