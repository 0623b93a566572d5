//! Each admin API's schema is that of its request, at every version that is served: a request is known to its last
//! byte, so that no length and no count in it goes by unseen, and a part of one is refused.

use bytes::BytesMut;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

use super::walk;
use crate::kafka::api_versions::APIS;

/// With two items in every array, and something in every text.
fn sample(key: ApiKey, version: i16) -> Option<RequestKind> {
    let text = || StrBytes::from_static_str("text");
    let name = || TopicName(text());
    let group = || GroupId(text());
    Some(match key {
        ApiKey::CreateTopics => {
            let assignment = create_topics_request::CreatableReplicaAssignment::default()
                .with_broker_ids(vec![BrokerId(1); 2]);
            let config = create_topics_request::CreatableTopicConfig::default()
                .with_name(text())
                .with_value(Some(text()));
            let topic = create_topics_request::CreatableTopic::default()
                .with_name(name())
                .with_assignments(vec![assignment; 2])
                .with_configs(vec![config; 2]);
            RequestKind::CreateTopics(CreateTopicsRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::DeleteTopics if version < 6 => {
            let request = DeleteTopicsRequest::default().with_topic_names(vec![name(); 2]);
            RequestKind::DeleteTopics(request)
        }
        ApiKey::DeleteTopics => {
            let topic = delete_topics_request::DeleteTopicState::default()
                .with_name(Some(name()))
                .with_topic_id(Uuid::from_u128(7));
            RequestKind::DeleteTopics(DeleteTopicsRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::CreatePartitions => {
            let assignment = create_partitions_request::CreatePartitionsAssignment::default()
                .with_broker_ids(vec![BrokerId(1); 2]);
            let topic = create_partitions_request::CreatePartitionsTopic::default()
                .with_name(name())
                .with_assignments(Some(vec![assignment; 2]));
            let request = CreatePartitionsRequest::default().with_topics(vec![topic; 2]);
            RequestKind::CreatePartitions(request)
        }
        ApiKey::DescribeConfigs => {
            let resource = describe_configs_request::DescribeConfigsResource::default()
                .with_resource_name(text())
                .with_configuration_keys(Some(vec![text(); 2]));
            let request = DescribeConfigsRequest::default().with_resources(vec![resource; 2]);
            RequestKind::DescribeConfigs(request)
        }
        ApiKey::DescribeAcls => RequestKind::DescribeAcls(
            DescribeAclsRequest::default()
                .with_resource_name_filter(Some(text()))
                .with_principal_filter(Some(text()))
                .with_host_filter(Some(text())),
        ),
        ApiKey::CreateAcls => {
            let acl = create_acls_request::AclCreation::default()
                .with_resource_name(text())
                .with_principal(text())
                .with_host(text());
            RequestKind::CreateAcls(CreateAclsRequest::default().with_creations(vec![acl; 2]))
        }
        ApiKey::DeleteAcls => {
            let filter = delete_acls_request::DeleteAclsFilter::default()
                .with_resource_name_filter(Some(text()))
                .with_principal_filter(Some(text()))
                .with_host_filter(Some(text()));
            RequestKind::DeleteAcls(DeleteAclsRequest::default().with_filters(vec![filter; 2]))
        }
        ApiKey::AlterConfigs => {
            let config = alter_configs_request::AlterableConfig::default()
                .with_name(text())
                .with_value(Some(text()));
            let resource = alter_configs_request::AlterConfigsResource::default()
                .with_resource_name(text())
                .with_configs(vec![config; 2]);
            let request = AlterConfigsRequest::default().with_resources(vec![resource; 2]);
            RequestKind::AlterConfigs(request)
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text())
                .with_value(Some(text()));
            let resource = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_name(text())
                .with_configs(vec![config; 2]);
            let request =
                IncrementalAlterConfigsRequest::default().with_resources(vec![resource; 2]);
            RequestKind::IncrementalAlterConfigs(request)
        }
        key => return sample_of_groups(key, version, &text, &name, &group),
    })
}

fn sample_of_groups(
    key: ApiKey,
    version: i16,
    text: &dyn Fn() -> StrBytes,
    name: &dyn Fn() -> TopicName,
    group: &dyn Fn() -> GroupId,
) -> Option<RequestKind> {
    Some(match key {
        ApiKey::ListGroups => {
            let words = |since| vec![text(); if version < since { 0 } else { 2 }];
            let request = ListGroupsRequest::default()
                .with_states_filter(words(4))
                .with_types_filter(words(5));
            RequestKind::ListGroups(request)
        }
        ApiKey::DescribeGroups => {
            let request = DescribeGroupsRequest::default().with_groups(vec![group(); 2]);
            RequestKind::DescribeGroups(request)
        }
        ApiKey::DeleteGroups => {
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group(); 2]);
            RequestKind::DeleteGroups(request)
        }
        ApiKey::OffsetDelete => {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
            let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(name())
                .with_partitions(vec![partition; 2]);
            let request = OffsetDeleteRequest::default()
                .with_group_id(group())
                .with_topics(vec![topic; 2]);
            RequestKind::OffsetDelete(request)
        }
        ApiKey::DescribeCluster => RequestKind::DescribeCluster(DescribeClusterRequest::default()),
        ApiKey::OffsetForLeaderEpoch => {
            let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(name())
                .with_partitions(vec![partition; 2]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic; 2]);
            RequestKind::OffsetForLeaderEpoch(request)
        }
        ApiKey::DescribeLogDirs => {
            let topic = describe_log_dirs_request::DescribableLogDirTopic::default()
                .with_topic(name())
                .with_partitions(vec![1; 2]);
            let request = DescribeLogDirsRequest::default().with_topics(Some(vec![topic; 2]));
            RequestKind::DescribeLogDirs(request)
        }
        ApiKey::DescribeProducers => {
            let topic = describe_producers_request::TopicRequest::default()
                .with_name(name())
                .with_partition_indexes(vec![1; 2]);
            let request = DescribeProducersRequest::default().with_topics(vec![topic; 2]);
            RequestKind::DescribeProducers(request)
        }
        _ => return None,
    })
}

#[test]
fn a_request_is_known_to_its_last_byte_and_a_part_of_it_is_refused() {
    let mut apis = 0;
    for (key, first, last) in APIS {
        apis += usize::from(sample(key, first).is_some());
        for version in first..=last {
            let Some(request) = sample(key, version) else {
                continue;
            };
            let mut bytes = BytesMut::new();
            let header = RequestHeader::default()
                .with_request_api_key(key as i16)
                .with_request_api_version(version)
                .with_client_id(Some(StrBytes::from_static_str("test")));
            let header_version = key.request_header_version(version);
            header.encode(&mut bytes, header_version).unwrap();
            request.encode(&mut bytes, version).unwrap();
            let rest = walk(key, version, &bytes);
            assert_eq!(rest, Ok(&[][..]), "{key:?} {version}");
            for end in 0..bytes.len() {
                let part = walk(key, version, &bytes[..end]);
                assert!(part.is_err(), "{key:?} {version} up to {end}");
            }
        }
    }
    assert_eq!(apis, 17);
}
