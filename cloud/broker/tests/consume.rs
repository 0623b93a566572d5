//! From an edge's batch to a Kafka client's record, over TCP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};
use support::{Client, Edge, START_MS, start};
use tidegate_cloud::Submission;
use tidegate_cloud_protocol::ledger::{Effect, Target};
use tidegate_shared::record::split_batches;
use uuid::Uuid;

fn telemetry() -> TopicName {
    TopicName(StrBytes::from_static_str("telemetry"))
}

fn fetch_request(version: i16, target: Target, offset: i64, wait_ms: i32) -> FetchRequest {
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
async fn what_lands_twice_is_there_once_and_what_is_no_batch_is_refused() {
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

    let Submission::Land {
        edge: id,
        stream,
        offer,
        batch,
    } = edge.next(5)
    else {
        unreachable!()
    };
    let mut torn = BytesMut::from(&batch[..]);
    let last = torn.len() - 1;
    torn[last] ^= 1;
    let land = |offer, batch: Bytes| Submission::Land {
        edge: id.clone(),
        stream: stream.clone(),
        offer,
        batch,
    };
    let mut wrong_count = offer;
    wrong_count.count = 4;
    let submissions = vec![
        land(offer, torn.freeze()),
        land(wrong_count, batch.clone()),
        land(offer, batch),
    ];
    let effects = cloud.broker().submit(submissions).await.unwrap();
    let bad = tidegate_bridge_protocol::landing::RefusedReason::BadBatch;
    for effect in &effects[..2] {
        assert!(matches!(effect, Effect::Refused { reason, .. } if *reason == bad));
    }
    assert!(matches!(effects[2], Effect::Landed(_)));

    let mut client = Client::connect(&cloud).await;
    assert_eq!(
        records(&fetch(&mut client, edge.target, 0, 0).await),
        dense(15)
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_damage_is_never_served() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(1000).await;
    edge.land(1000).await;
    cloud.shutdown().await;
    let path = data.path().join("log/00000000000000000001.log");
    let file = std::fs::File::options()
        .write(true)
        .read(true)
        .open(path)
        .unwrap();
    file.set_len(file.metadata().unwrap().len() - 3).unwrap();

    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let fetched = fetch(&mut client, edge.target, 0, 0).await;
    assert_eq!(fetched.high_watermark, 1000);
    // Damaged while the node runs: it reads from the disk, since it was started anew.
    let length = file.metadata().unwrap().len();
    file.write_all_at(b"xxxx", length - 20).unwrap();
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

/// Every API at every version that is advertised gives an answer that a client can decode.
#[tokio::test]
async fn every_advertised_version_works() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    let mut client = Client::connect(&cloud).await;
    let request = RequestKind::ApiVersions(ApiVersionsRequest::default());
    let response = client.ask(ApiKey::ApiVersions, 3, request).await;
    let ResponseKind::ApiVersions(served) = response else {
        panic!("{response:?}");
    };
    assert!(served.api_keys.len() >= 11);
    for api in served.api_keys {
        let key = ApiKey::try_from(api.api_key).unwrap();
        let first = api.min_version.max(key.valid_versions().min);
        for version in first..=api.max_version {
            let request = request_of(key, version, edge.target);
            client.ask(key, version, request).await;
        }
    }
    cloud.shutdown().await;
}

fn request_of(key: ApiKey, version: i16, target: Target) -> RequestKind {
    let group = GroupId(StrBytes::from_static_str("group"));
    let text = StrBytes::from_static_str;
    match key {
        ApiKey::Produce => {
            let partition = produce_request::PartitionProduceData::default().with_records(None);
            let topic = produce_request::TopicProduceData::default()
                .with_name(telemetry())
                .with_partition_data(vec![partition]);
            let request = ProduceRequest::default()
                .with_acks(-1)
                .with_topic_data(vec![topic]);
            RequestKind::Produce(request)
        }
        ApiKey::Fetch => RequestKind::Fetch(fetch_request(version, target, 0, 0)),
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition::default().with_timestamp(-1);
            let topic = ListOffsetsTopic::default()
                .with_name(telemetry())
                .with_partitions(vec![partition]);
            RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(vec![topic]))
        }
        ApiKey::Metadata => {
            let named = metadata_request::MetadataRequestTopic::default();
            let topics = ["telemetry", "missing", "not a name"]
                .map(|name| named.clone().with_name(Some(TopicName(text(name)))));
            RequestKind::Metadata(MetadataRequest::default().with_topics(Some(topics.into())))
        }
        ApiKey::OffsetCommit => {
            let partition = offset_commit_request::OffsetCommitRequestPartition::default()
                .with_committed_offset(5)
                .with_committed_metadata(Some(text("m")));
            let topic = offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(telemetry())
                .with_partitions(vec![partition]);
            let request = OffsetCommitRequest::default()
                .with_group_id(group)
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![topic]);
            RequestKind::OffsetCommit(request)
        }
        ApiKey::OffsetFetch if version < 8 => {
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(telemetry())
                .with_partition_indexes(vec![0, 1]);
            let request = OffsetFetchRequest::default()
                .with_group_id(group)
                .with_topics(Some(vec![topic]));
            RequestKind::OffsetFetch(request)
        }
        ApiKey::OffsetFetch => {
            let group = offset_fetch_request::OffsetFetchRequestGroup::default()
                .with_group_id(group)
                .with_topics(None);
            RequestKind::OffsetFetch(OffsetFetchRequest::default().with_groups(vec![group]))
        }
        ApiKey::FindCoordinator if version < 4 => {
            RequestKind::FindCoordinator(FindCoordinatorRequest::default().with_key(text("group")))
        }
        ApiKey::FindCoordinator => {
            let keys = vec![text("group"), text("other")];
            RequestKind::FindCoordinator(
                FindCoordinatorRequest::default().with_coordinator_keys(keys),
            )
        }
        ApiKey::JoinGroup => {
            let protocol =
                join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
            let name = StrBytes::from_string(format!("group-{version}"));
            let request = JoinGroupRequest::default()
                .with_group_id(GroupId(name))
                .with_session_timeout_ms(6_000)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol]);
            RequestKind::JoinGroup(request)
        }
        ApiKey::SyncGroup => {
            RequestKind::SyncGroup(SyncGroupRequest::default().with_group_id(group))
        }
        ApiKey::Heartbeat => {
            RequestKind::Heartbeat(HeartbeatRequest::default().with_group_id(group))
        }
        ApiKey::LeaveGroup if version < 3 => {
            RequestKind::LeaveGroup(LeaveGroupRequest::default().with_group_id(group))
        }
        ApiKey::LeaveGroup => {
            let member = leave_group_request::MemberIdentity::default().with_member_id(text("m"));
            let request = LeaveGroupRequest::default()
                .with_group_id(group)
                .with_members(vec![member]);
            RequestKind::LeaveGroup(request)
        }
        ApiKey::ApiVersions => RequestKind::ApiVersions(ApiVersionsRequest::default()),
        other => panic!("{other:?} is advertised and not tested"),
    }
}

#[tokio::test]
async fn committed_offsets_survive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let edge = Edge::connect(cloud.broker(), "press-4").await;
    let mut client = Client::connect(&cloud).await;
    let commit = request_of(ApiKey::OffsetCommit, 8, edge.target);
    client.ask(ApiKey::OffsetCommit, 8, commit).await;
    cloud.shutdown().await;

    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let request = request_of(ApiKey::OffsetFetch, 8, edge.target);
    let response = client.ask(ApiKey::OffsetFetch, 8, request).await;
    let ResponseKind::OffsetFetch(response) = response else {
        panic!("{response:?}");
    };
    let partition = &response.groups[0].topics[0].partitions[0];
    assert_eq!(
        (partition.committed_offset, partition.metadata.as_deref()),
        (5, Some("m"))
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn hostile_bytes_close_their_own_connection_only() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut bystander = Client::connect(&cloud).await;
    let hostile: [&[u8]; 6] = [
        // Metadata with 2^31 - 1 topics.
        &[0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
        // An API that is not served, one that does not exist, a version that does not.
        &[0, 19, 0, 1, 0, 0, 0, 9],
        &[0x7f, 0, 0, 1, 0, 0, 0, 9],
        &[0, 3, 0, 99, 0, 0, 0, 9],
        &[0, 3],
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in hostile {
        let mut client = Client::connect(&cloud).await;
        client.send(bytes).await;
        assert!(client.receive().await.is_none(), "{bytes:?}");
    }
    let mut long = Client::connect(&cloud).await;
    tokio::io::AsyncWriteExt::write_all(&mut long.stream, b"GET / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    assert!(long.receive().await.is_none());
    let request = RequestKind::ApiVersions(ApiVersionsRequest::default());
    bystander.ask(ApiKey::ApiVersions, 0, request).await;
    let bad = cloud.broker().metrics().kafka_bad_requests.get();
    assert_eq!(bad, 7);
    cloud.shutdown().await;
}

/// KIP-511.
#[tokio::test]
async fn a_newer_api_versions_is_answered_in_version_0() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let mut request = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(18)
        .with_request_api_version(99)
        .with_correlation_id(7);
    header.encode(&mut request, 2).unwrap();
    client.send(&request).await;
    let mut response = client.receive().await.unwrap().slice(4..);
    let decoded = ResponseKind::decode(ApiKey::ApiVersions, &mut response, 0).unwrap();
    let ResponseKind::ApiVersions(decoded) = decoded else {
        panic!("{decoded:?}");
    };
    assert_eq!(decoded.error_code, 35);
    assert!(!decoded.api_keys.is_empty());
    cloud.shutdown().await;
}
