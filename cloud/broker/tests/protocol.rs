//! What is advertised works at every version, and what is not a request ends its own connection only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "protocol/hostile.rs"]
mod hostile;
#[path = "protocol/rights.rs"]
mod rights;
mod support;

use bytes::BytesMut;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};
use support::{Client, Edge, delete_request, fetch_request, start, telemetry};
use tidegate_cloud_protocol::ledger::Target;

/// Every API at every version that is advertised gives an answer that a client can decode.
#[tokio::test]
async fn every_advertised_version_works() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    let mut client = Client::connect(&cloud).await;
    let request = request_of(ApiKey::ApiVersions, 3, edge.target);
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
            let mut topic = produce_request::TopicProduceData::default();
            topic.partition_data = vec![partition];
            match version {
                ..13 => topic.name = telemetry(),
                13.. => topic.topic_id = uuid::Uuid::from_u128(target.topic_id.0),
            }
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
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            RequestKind::ApiVersions(match version {
                ..3 => request,
                _ => request
                    .with_client_software_name(text("test"))
                    .with_client_software_version(text("1")),
            })
        }
        ApiKey::InitProducerId => RequestKind::InitProducerId(
            InitProducerIdRequest::default().with_transactional_id(None),
        ),
        ApiKey::DeleteRecords => delete_request(&[(0, 0)]),
        key => admin_request_of(key, version),
    }
}

fn admin_request_of(key: ApiKey, version: i16) -> RequestKind {
    const TOPIC: i8 = 2;
    const ANYTHING: i8 = 1;
    let text = StrBytes::from_static_str;
    let new = || TopicName(StrBytes::from_string(format!("new-{version}")));
    match key {
        ApiKey::CreateTopics => {
            let config = create_topics_request::CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1000")));
            let topic = create_topics_request::CreatableTopic::default()
                .with_name(new())
                .with_num_partitions(2)
                .with_replication_factor(-1)
                .with_configs(vec![config]);
            let unnamed = create_topics_request::CreatableTopic::default();
            let request = CreateTopicsRequest::default().with_topics(vec![topic, unnamed]);
            RequestKind::CreateTopics(request)
        }
        ApiKey::DeleteTopics if version < 6 => {
            RequestKind::DeleteTopics(DeleteTopicsRequest::default().with_topic_names(vec![new()]))
        }
        ApiKey::DeleteTopics => {
            let topic = delete_topics_request::DeleteTopicState::default().with_name(Some(new()));
            let unnamed = delete_topics_request::DeleteTopicState::default().with_name(None);
            let request = DeleteTopicsRequest::default().with_topics(vec![topic, unnamed]);
            RequestKind::DeleteTopics(request)
        }
        ApiKey::CreatePartitions => {
            let topic = create_partitions_request::CreatePartitionsTopic::default()
                .with_name(telemetry())
                .with_count(4 + i32::from(version))
                .with_assignments(None);
            RequestKind::CreatePartitions(
                CreatePartitionsRequest::default().with_topics(vec![topic]),
            )
        }
        ApiKey::DescribeConfigs => {
            let resources = [(TOPIC, "telemetry"), (4, "1"), (4, ""), (9, "what")];
            let resources = resources.map(|(kind, name)| {
                describe_configs_request::DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            });
            let request = DescribeConfigsRequest::default()
                .with_resources(resources.into())
                .with_include_documentation(version >= 3);
            RequestKind::DescribeConfigs(request)
        }
        ApiKey::AlterConfigs => {
            let config = alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("5000")));
            let resource = alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text("telemetry"))
                .with_configs(vec![config]);
            RequestKind::AlterConfigs(AlterConfigsRequest::default().with_resources(vec![resource]))
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_config_operation(1)
                .with_value(None);
            let resource = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text("telemetry"))
                .with_configs(vec![config]);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            RequestKind::IncrementalAlterConfigs(request)
        }
        ApiKey::ListGroups => RequestKind::ListGroups(ListGroupsRequest::default()),
        ApiKey::DescribeGroups => {
            // One with offsets, one with members, and one that there is not.
            let groups = ["group", "group-1", "no"].map(|name| GroupId(text(name)));
            let request = DescribeGroupsRequest::default()
                .with_groups(groups.into())
                .with_include_authorized_operations(version >= 3);
            RequestKind::DescribeGroups(request)
        }
        ApiKey::DeleteGroups => {
            let groups = ["group", "group-1", "no"].map(|name| GroupId(text(name)));
            RequestKind::DeleteGroups(
                DeleteGroupsRequest::default().with_groups_names(groups.into()),
            )
        }
        ApiKey::OffsetDelete => {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
            let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(telemetry())
                .with_partitions(vec![partition]);
            let request = OffsetDeleteRequest::default()
                .with_group_id(GroupId(text("group")))
                .with_topics(vec![topic]);
            RequestKind::OffsetDelete(request)
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(telemetry())
                .with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            RequestKind::OffsetForLeaderEpoch(request)
        }
        ApiKey::DescribeCluster => {
            let request =
                DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
            RequestKind::DescribeCluster(request)
        }
        ApiKey::DescribeLogDirs => {
            RequestKind::DescribeLogDirs(DescribeLogDirsRequest::default().with_topics(None))
        }
        ApiKey::DescribeProducers => {
            let topic = describe_producers_request::TopicRequest::default()
                .with_name(telemetry())
                .with_partition_indexes(vec![0, 9]);
            RequestKind::DescribeProducers(
                DescribeProducersRequest::default().with_topics(vec![topic]),
            )
        }
        ApiKey::SaslHandshake => {
            let request = kafka_protocol::messages::SaslHandshakeRequest::default();
            RequestKind::SaslHandshake(request.with_mechanism(text("PLAIN")))
        }
        ApiKey::SaslAuthenticate => {
            let request = kafka_protocol::messages::SaslAuthenticateRequest::default();
            RequestKind::SaslAuthenticate(request.with_auth_bytes("token".into()))
        }
        ApiKey::DescribeUserScramCredentials => RequestKind::DescribeUserScramCredentials(
            kafka_protocol::messages::DescribeUserScramCredentialsRequest::default(),
        ),
        ApiKey::AlterUserScramCredentials => RequestKind::AlterUserScramCredentials(
            kafka_protocol::messages::AlterUserScramCredentialsRequest::default().with_deletions(vec![
                kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialDeletion::default()
                    .with_name(text("nobody"))
                    .with_mechanism(1),
            ]),
        ),
        ApiKey::DescribeAcls => {
            let request = DescribeAclsRequest::default()
                .with_resource_type_filter(ANYTHING)
                .with_pattern_type_filter(ANYTHING)
                .with_operation(ANYTHING)
                .with_permission_type(ANYTHING)
                .with_resource_name_filter(None);
            RequestKind::DescribeAcls(request)
        }
        ApiKey::CreateAcls => {
            let acl = create_acls_request::AclCreation::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text("other"))
                .with_resource_pattern_type(3)
                .with_principal(text("User:ada"))
                .with_host(text("*"))
                .with_operation(3)
                .with_permission_type(3);
            RequestKind::CreateAcls(CreateAclsRequest::default().with_creations(vec![acl]))
        }
        ApiKey::DeleteAcls => {
            let filter = delete_acls_request::DeleteAclsFilter::default()
                .with_resource_type_filter(ANYTHING)
                .with_resource_name_filter(Some(text("other")))
                .with_pattern_type_filter(ANYTHING)
                .with_operation(ANYTHING)
                .with_permission_type(ANYTHING);
            RequestKind::DeleteAcls(DeleteAclsRequest::default().with_filters(vec![filter]))
        }
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
        &[0, 43, 0, 1, 0, 0, 0, 9],
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

/// A topic can have thousands of partitions, and a request name it as often.
#[tokio::test]
async fn what_is_asked_twice_is_answered_once() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let named = metadata_request::MetadataRequestTopic::default().with_name(Some(telemetry()));
    let request = MetadataRequest::default().with_topics(Some(vec![named; 100]));
    let response = client.ask(ApiKey::Metadata, 9, RequestKind::Metadata(request));
    let ResponseKind::Metadata(response) = response.await else {
        panic!("no metadata");
    };
    assert_eq!(response.topics.len(), 1);
    let group = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_static_str("group")))
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![group; 100]);
    let response = client.ask(ApiKey::OffsetFetch, 8, RequestKind::OffsetFetch(request));
    let ResponseKind::OffsetFetch(response) = response.await else {
        panic!("no offsets");
    };
    assert_eq!(response.groups.len(), 1);
    cloud.shutdown().await;
}
