//! The cluster: its node, where the data is, who produces, and where leader epochs ended.

use std::collections::BTreeMap;

use kafka_protocol::messages::*;
use tidegate_cloud_protocol::ledger::command::{AllotProducer, Begin, Entry, Part, Produce};
use tidegate_cloud_protocol::ledger::producers::Sequence;
use tidegate_cloud_protocol::ledger::{Command, Effect, Target};
use tidegate_shared::id::PartitionId;
use uuid::Uuid;

use super::settings::change;
use super::support::{self, Client, start, telemetry};
use super::*;

#[tokio::test]
async fn the_cluster_is_this_node() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let mut ask = async |endpoint_type, may: bool| {
        let request = DescribeClusterRequest::default()
            .with_endpoint_type(endpoint_type)
            .with_include_cluster_authorized_operations(may);
        let request = RequestKind::DescribeCluster(request);
        let response = client.ask(ApiKey::DescribeCluster, 2, request).await;
        let ResponseKind::DescribeCluster(response) = response else {
            panic!("{response:?}");
        };
        response
    };
    let told = ask(1, false).await;
    assert_eq!((told.error_code, told.controller_id), (0, BrokerId(1)));
    assert_eq!(told.cluster_authorized_operations, i32::MIN, "not asked");
    let id = Uuid::from_u128(cloud.broker().store_id()).simple();
    assert_eq!(told.cluster_id.as_str(), id.to_string());
    let [one] = &told.brokers[..] else {
        panic!("{told:?}");
    };
    let address = format!("{}:{}", one.host.as_str(), one.port);
    assert_eq!(address, cloud.kafka_address().to_string());
    assert_eq!(ask(1, true).await.cluster_authorized_operations, 8096);
    assert_eq!(ask(2, false).await.error_code, MISMATCHED_ENDPOINT_TYPE);
    assert_eq!(ask(3, false).await.error_code, UNSUPPORTED_ENDPOINT_TYPE);
    cloud.shutdown().await;
}

/// The bytes of `telemetry`'s partitions in each log directory, by its path.
async fn log_dirs(
    client: &mut Client,
    partitions: Option<&[i32]>,
) -> BTreeMap<String, BTreeMap<i32, i64>> {
    let topics = partitions.map(|partitions| {
        let topic = describe_log_dirs_request::DescribableLogDirTopic::default()
            .with_topic(telemetry())
            .with_partitions(partitions.to_vec());
        let unknown = describe_log_dirs_request::DescribableLogDirTopic::default()
            .with_topic(name("no"))
            .with_partitions(vec![0]);
        vec![topic, unknown]
    });
    let request = DescribeLogDirsRequest::default().with_topics(topics);
    let request = RequestKind::DescribeLogDirs(request);
    let response = client.ask(ApiKey::DescribeLogDirs, 4, request).await;
    let ResponseKind::DescribeLogDirs(response) = response else {
        panic!("{response:?}");
    };
    let dirs = response.results.into_iter().map(|dir| {
        assert_eq!(dir.error_code, 0);
        assert!(dir.total_bytes >= dir.usable_bytes && dir.usable_bytes > 0);
        let partitions = dir.topics.into_iter().flat_map(|topic| {
            assert_eq!(topic.name, telemetry());
            topic.partitions
        });
        let sizes = partitions.map(|one| (one.partition_index, one.partition_size));
        (dir.log_dir.to_string(), sizes.collect())
    });
    dirs.collect()
}

#[tokio::test]
async fn object_stores_are_log_directories_with_what_each_partition_has() {
    let data = tempfile::tempdir().unwrap();
    let cloud = support::start_with(data.path(), support::AT_ONCE).await;
    let mut client = Client::connect(&cloud).await;
    let mut edge = support::Edge::connect(cloud.broker(), "press-4").await;
    let at = edge.target.partition.0;
    edge.land(10).await;
    support::until_packed(&cloud, edge.target, 10).await;
    let folder = data.path().join("objects").display().to_string();
    let dirs = log_dirs(&mut client, None).await;
    let bytes: u64 = support::segments(data.path())
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert_eq!(dirs.len(), 1);
    assert_eq!(dirs[&folder].len(), 3, "all partitions");
    assert_eq!(dirs[&folder][&at], bytes as i64);

    let elsewhere = data.path().join("elsewhere").display().to_string();
    let url = [("storage.url", SET, Some(elsewhere.as_str()))];
    assert_eq!(
        change(&mut client, (TOPIC, "telemetry"), &url, false).await,
        0
    );
    support::until(&cloud, "its segment has moved", |ledger| {
        let mut segments = ledger.log(edge.target).segments();
        segments.all(|segment| segment.id.store == 1)
    })
    .await;
    let dirs = log_dirs(&mut client, Some(&[at])).await;
    assert!(dirs[&folder].is_empty(), "{dirs:?}");
    assert_eq!(dirs[&elsewhere], BTreeMap::from([(at, bytes as i64)]));
    cloud.shutdown().await;
}

#[tokio::test]
async fn the_producers_of_a_partition_are_told() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let topic_id = cloud.broker().ledger(|l| l.topic_id("telemetry")).unwrap();
    let target = Target {
        topic_id,
        partition: PartitionId(1),
    };
    let sequence = Sequence {
        producer_id: 0,
        producer_epoch: 3,
        first: 40,
    };
    let produce = Entry::Produce(Produce {
        target,
        count: 5,
        part: Part::default(),
        sequence: Some(sequence),
    });
    let wishes = vec![(Entry::AllotProducer(AllotProducer), None), (produce, None)];
    let effects = cloud.broker().submit(wishes).await.unwrap();
    assert!(matches!(effects[1], Effect::Produced(_)), "{effects:?}");
    let now_ms = cloud.broker().ledger(|ledger| ledger.now_ms());

    let topics = [("telemetry", vec![0, 1, 9, 1]), ("no", vec![0])];
    let topics = topics.map(|(topic, partitions)| {
        describe_producers_request::TopicRequest::default()
            .with_name(name(topic))
            .with_partition_indexes(partitions)
    });
    let request = DescribeProducersRequest::default().with_topics(topics.into());
    let request = RequestKind::DescribeProducers(request);
    let response = client.ask(ApiKey::DescribeProducers, 0, request).await;
    let ResponseKind::DescribeProducers(response) = response else {
        panic!("{response:?}");
    };
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes: Vec<_> = partitions.clone().map(|one| one.error_code).collect();
    assert_eq!(codes, [UNKNOWN_TOPIC, 0, 0, UNKNOWN_TOPIC]);
    let told: Vec<_> = partitions.flat_map(|one| &one.active_producers).collect();
    let expected = describe_producers_response::ProducerState::default()
        .with_producer_id(ProducerId(0))
        .with_producer_epoch(3)
        .with_last_sequence(44)
        .with_last_timestamp(now_ms)
        .with_coordinator_epoch(-1);
    assert_eq!(told, [&expected]);
    cloud.shutdown().await;
}

/// Asks where an epoch of a partition ends, believing in the current one: the code, the epoch and the end.
async fn epoch_end(
    client: &mut Client,
    (topic, partition): (&str, i32),
    current: i32,
    epoch: i32,
) -> (i16, i32, i64) {
    let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(current)
        .with_leader_epoch(epoch);
    let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
        .with_topic(name(topic))
        .with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    let request = RequestKind::OffsetForLeaderEpoch(request);
    let response = client.ask(ApiKey::OffsetForLeaderEpoch, 4, request).await;
    let ResponseKind::OffsetForLeaderEpoch(response) = response else {
        panic!("{response:?}");
    };
    let one = &response.topics[0].partitions[0];
    (one.error_code, one.leader_epoch, one.end_offset)
}

#[tokio::test]
async fn an_epoch_ends_where_a_new_life_of_the_cloud_began() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let mut edge = support::Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    let begin = Command::Begin(Begin {
        now_ms: 1,
        cluster_incarnation_id: 7,
    });
    cloud.broker().command(begin).await.unwrap();
    let mut edge = support::Edge::connect(cloud.broker(), "press-5").await;
    let target = edge.target;
    edge.land(5).await;
    let next = |target| {
        cloud
            .broker()
            .ledger(|l| l.partition(target).unwrap().next.0)
    };
    let here = ("telemetry", target.partition.0);
    let before = next(target) - 5;
    assert_eq!(epoch_end(&mut client, here, 1, 0).await, (0, 0, before));
    assert_eq!(
        epoch_end(&mut client, here, -1, 1).await,
        (0, 1, next(target))
    );
    assert_eq!(epoch_end(&mut client, here, 1, 2).await, (0, -1, -1));
    let refused = |code| (code, -1, -1);
    for (code, asked, current) in [
        (FENCED_LEADER_EPOCH, here, 0),
        (UNKNOWN_LEADER_EPOCH, here, 2),
        (UNKNOWN_TOPIC, ("telemetry", 9), 1),
        (UNKNOWN_TOPIC, ("no", 0), 1),
    ] {
        let told = epoch_end(&mut client, asked, current, 0).await;
        assert_eq!(told, refused(code));
    }
    cloud.shutdown().await;
}
