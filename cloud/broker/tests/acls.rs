//! What a client may not do it does not see, over the wire; rules are made by clients, hold at once on connections that
//! are open, and are there after a restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use support::http::{ask as ask_http, get};
use support::{Client, Edge, fetch_request, start, start_with};
use tidegate_cloud::Cloud;
use tidegate_cloud_protocol::acls::{
    CLUSTER_NAME, Operation, PatternKind, Permission, Resource, Rule,
};
use uuid::Uuid;

use Operation::{AlterConfigs, Create, Delete, Describe, DescribeConfigs, Read, Write};
use Permission::{Allow, Deny};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const TOPIC_REFUSED: i16 = 29;
const GROUP_REFUSED: i16 = 30;
const CLUSTER_REFUSED: i16 = 31;
const INVALID_REQUEST: i16 = 42;
const UNKNOWN_TOPIC_ID: i16 = 100;

const CLOSED: &str = ", authorization: {allow_everyone_if_no_acl_found: false}";

/// Kafka's numbers.
const ANYTHING: i8 = 1;
const MATCHING: i8 = 2;
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const READ: i8 = 3;
const ALLOW: i8 = 3;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn topic(value: &str) -> TopicName {
    TopicName(text(value))
}

/// For everybody who has not said who it is.
fn rule(permission: Permission, operation: Operation, resource: Resource<'_>) -> Rule {
    Rule {
        resource: resource.kind(),
        pattern: PatternKind::Literal,
        name: resource.name().to_owned(),
        principal: "User:ANONYMOUS".to_owned(),
        host: "*".to_owned(),
        operation,
        permission,
    }
}

async fn add(cloud: &Cloud, rules: impl IntoIterator<Item = Rule>) {
    let rules = rules.into_iter().collect();
    cloud.broker().add_rules(rules).await.unwrap();
}

macro_rules! asked {
    ($client:expr, $kind:ident, $version:expr, $request:expr) => {{
        let request = RequestKind::$kind($request);
        match $client.ask(ApiKey::$kind, $version, request).await {
            ResponseKind::$kind(response) => response,
            other => panic!("{other:?}"),
        }
    }};
}

async fn create(
    client: &mut Client,
    name: &str,
    settings: &[(&str, &str)],
) -> CreateTopicsResponse {
    let settings = settings.iter().map(|(name, value)| {
        create_topics_request::CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    let new = create_topics_request::CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(1)
        .with_replication_factor(-1)
        .with_configs(settings.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![new]);
    asked!(client, CreateTopics, 7, request)
}

/// Code, name and id of each.
async fn metadata(
    client: &mut Client,
    names: Option<&[&str]>,
    creates: bool,
) -> Vec<(i16, String, Uuid)> {
    let named = metadata_request::MetadataRequestTopic::default();
    let topics = names.map(|names| {
        let topics = names.iter();
        topics
            .map(|name| named.clone().with_name(Some(topic(name))))
            .collect()
    });
    let request = MetadataRequest::default()
        .with_topics(topics)
        .with_allow_auto_topic_creation(creates);
    let response = asked!(client, Metadata, 12, request);
    let topics = response.topics.into_iter().map(|topic| {
        let name = topic.name.map_or(String::new(), |name| name.to_string());
        (topic.error_code, name, topic.topic_id)
    });
    topics.collect()
}

#[tokio::test]
async fn metadata_hides_what_may_not_be_described() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    create(&mut client, "secret", &[]).await;
    let all = metadata(&mut client, None, false).await;
    let id = all.iter().find(|(_, name, _)| name == "secret").unwrap().2;
    add(&cloud, [rule(Deny, Describe, Resource::Topic("secret"))]).await;
    add(&cloud, [rule(Deny, Describe, Resource::Topic("hidden"))]).await;
    let all = metadata(&mut client, None, false).await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].1, "telemetry");
    // One that is there and one that is not look alike.
    for name in ["secret", "hidden"] {
        let told = metadata(&mut client, Some(&[name]), true).await;
        assert_eq!(told, [(TOPIC_REFUSED, name.to_owned(), Uuid::nil())]);
    }
    let by_id = metadata_request::MetadataRequestTopic::default().with_name(None);
    for (id, code) in [(id, TOPIC_REFUSED), (Uuid::from_u128(7), UNKNOWN_TOPIC_ID)] {
        let request =
            MetadataRequest::default().with_topics(Some(vec![by_id.clone().with_topic_id(id)]));
        let told = asked!(client, Metadata, 12, request);
        let told = &told.topics[0];
        assert_eq!(
            (told.error_code, &told.name, told.topic_id),
            (code, &None, id)
        );
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_topic_is_made_by_asking_only_for_who_may_make_it() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), CLOSED).await;
    let mut client = Client::connect(&cloud).await;
    add(&cloud, [rule(Allow, Describe, Resource::Topic("*"))]).await;
    let told = metadata(&mut client, Some(&["new"]), false).await;
    assert_eq!(told[0].0, UNKNOWN_TOPIC_OR_PARTITION);
    let told = metadata(&mut client, Some(&["new"]), true).await;
    assert_eq!(told[0].0, TOPIC_REFUSED);
    add(&cloud, [rule(Allow, Create, Resource::Topic("new"))]).await;
    let told = metadata(&mut client, Some(&["new", "newer"]), true).await;
    assert_eq!((told[0].0, told[1].0), (NONE, TOPIC_REFUSED));
    add(&cloud, [rule(Allow, Create, Resource::Cluster)]).await;
    let told = metadata(&mut client, Some(&["newer"]), true).await;
    assert_eq!(told[0].0, NONE);
    cloud.shutdown().await;
}

#[tokio::test]
async fn clients_are_told_what_they_may_do() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), CLOSED).await;
    let mut client = Client::connect(&cloud).await;
    let bits = |operations: &[Operation]| -> i32 {
        operations
            .iter()
            .map(|one| 1 << i32::from(one.code()))
            .sum()
    };
    add(&cloud, [rule(Allow, Read, Resource::Topic("telemetry"))]).await;
    let ask = MetadataRequest::default()
        .with_topics(None)
        .with_include_topic_authorized_operations(true)
        .with_include_cluster_authorized_operations(true);
    let told = asked!(client, Metadata, 10, ask.clone());
    let of_topic = told.topics[0].topic_authorized_operations;
    assert_eq!(of_topic, bits(&[Read, Describe]));
    assert_eq!(told.cluster_authorized_operations, 0);
    add(&cloud, [rule(Allow, Operation::All, Resource::Cluster)]).await;
    add(&cloud, [rule(Deny, AlterConfigs, Resource::Cluster)]).await;
    let told = asked!(client, Metadata, 10, ask);
    let of_cluster = 8096 & !bits(&[AlterConfigs]);
    assert_eq!(told.cluster_authorized_operations, of_cluster);
    let ask = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let told = asked!(client, DescribeCluster, 0, ask);
    assert_eq!(told.cluster_authorized_operations, of_cluster);
    add(&cloud, [rule(Allow, Delete, Resource::Group("g"))]).await;
    let ask = DescribeGroupsRequest::default()
        .with_groups(vec![GroupId(text("g")), GroupId(text("other"))])
        .with_include_authorized_operations(true);
    let told = asked!(client, DescribeGroups, 5, ask);
    assert_eq!(
        told.groups[0].authorized_operations,
        bits(&[Delete, Describe])
    );
    assert_eq!(told.groups[1].error_code, GROUP_REFUSED);
    cloud.shutdown().await;
}

async fn commit(client: &mut Client, names: &[&str]) -> Vec<i16> {
    let partition = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_committed_offset(5)
        .with_committed_metadata(Some(text("m")));
    let topics = names.iter().map(|name| {
        offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition.clone()])
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("readers")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let response = asked!(client, OffsetCommit, 8, request);
    let topics = response.topics.iter();
    topics.map(|topic| topic.partitions[0].error_code).collect()
}

/// Code and offset of the first partition of each topic.
async fn committed(client: &mut Client, names: Option<&[&str]>) -> (i16, Vec<(i16, i64)>) {
    let topics = names.map(|names| {
        let topics = names.iter().map(|name| {
            offset_fetch_request::OffsetFetchRequestTopics::default()
                .with_name(topic(name))
                .with_partition_indexes(vec![0])
        });
        topics.collect()
    });
    let group = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("readers")))
        .with_topics(topics);
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    let response = asked!(client, OffsetFetch, 8, request);
    let group = &response.groups[0];
    let topics = group.topics.iter().map(|topic| {
        let partition = &topic.partitions[0];
        (partition.error_code, partition.committed_offset)
    });
    (group.error_code, topics.collect())
}

#[tokio::test]
async fn a_group_shows_and_takes_offsets_of_topics_that_its_client_may_see() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    create(&mut client, "secret", &[]).await;
    let both: &[&str] = &["telemetry", "secret"];
    assert_eq!(commit(&mut client, both).await, [NONE, NONE]);
    add(&cloud, [rule(Deny, Read, Resource::Topic("secret"))]).await;
    assert_eq!(commit(&mut client, both).await, [NONE, TOPIC_REFUSED]);
    add(&cloud, [rule(Deny, Describe, Resource::Topic("secret"))]).await;
    let told = committed(&mut client, Some(both)).await;
    assert_eq!(told, (NONE, vec![(NONE, 5), (TOPIC_REFUSED, -1)]));
    assert_eq!(committed(&mut client, None).await, (NONE, vec![(NONE, 5)]));
    let listed = asked!(client, ListGroups, 4, ListGroupsRequest::default());
    assert_eq!(listed.groups.len(), 1);
    add(
        &cloud,
        [rule(Deny, Operation::All, Resource::Group("readers"))],
    )
    .await;
    assert_eq!(commit(&mut client, both).await, [GROUP_REFUSED; 2]);
    assert_eq!(
        committed(&mut client, Some(both)).await,
        (GROUP_REFUSED, vec![])
    );
    let listed = asked!(client, ListGroups, 4, ListGroupsRequest::default());
    assert_eq!(listed.groups.len(), 1, "by the right to the cluster");
    add(&cloud, [rule(Deny, Describe, Resource::Cluster)]).await;
    let listed = asked!(client, ListGroups, 4, ListGroupsRequest::default());
    assert_eq!(listed.groups, []);
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_topic_that_may_not_be_deleted_is_not_told_of() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), CLOSED).await;
    let mut client = Client::connect(&cloud).await;
    let id = cloud.broker().ledger(|ledger| ledger.topic_id("telemetry"));
    let id = Uuid::from_u128(id.unwrap().0);
    let mut delete = async |name: Option<&str>, id: Uuid| {
        let topic = delete_topics_request::DeleteTopicState::default()
            .with_name(name.map(topic))
            .with_topic_id(id);
        let request = DeleteTopicsRequest::default().with_topics(vec![topic]);
        let response = asked!(client, DeleteTopics, 6, request);
        let one = response.responses[0].clone();
        (one.error_code, one.name.map(|name| name.to_string()))
    };
    let nil = Uuid::nil();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        delete(Some("telemetry"), nil).await,
        (TOPIC_REFUSED, named("telemetry"))
    );
    assert_eq!(
        delete(Some("missing"), nil).await,
        (TOPIC_REFUSED, named("missing"))
    );
    assert_eq!(delete(None, id).await, (TOPIC_REFUSED, None));
    add(&cloud, [rule(Allow, Describe, Resource::Topic("*"))]).await;
    assert_eq!(
        delete(Some("missing"), nil).await.0,
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(delete(Some("telemetry"), nil).await.0, TOPIC_REFUSED);
    assert_eq!(delete(None, id).await, (TOPIC_REFUSED, named("telemetry")));
    add(&cloud, [rule(Allow, Delete, Resource::Cluster)]).await;
    assert_eq!(delete(None, id).await, (NONE, named("telemetry")));
    cloud.shutdown().await;
}

#[tokio::test]
async fn another_object_store_needs_a_right_to_the_cluster() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), CLOSED).await;
    let mut client = Client::connect(&cloud).await;
    let elsewhere = format!("file://{}/elsewhere", data.path().display());
    let store = [("storage.url", elsewhere.as_str())];
    add(&cloud, [rule(Allow, Create, Resource::Topic("*"))]).await;
    add(&cloud, [rule(Allow, AlterConfigs, Resource::Topic("*"))]).await;
    let made = create(&mut client, "away", &store).await;
    assert_eq!(made.topics[0].error_code, CLUSTER_REFUSED);
    assert!(!data.path().join("elsewhere").exists(), "it was not asked");
    let mut alter = async |name: &str, value: &str| {
        let setting = incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)));
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("telemetry"))
            .with_configs(vec![setting]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = asked!(client, IncrementalAlterConfigs, 1, request);
        response.responses[0].error_code
    };
    assert_eq!(alter("retention.ms", "5000").await, NONE);
    assert_eq!(alter("storage.url", &elsewhere).await, CLUSTER_REFUSED);
    add(&cloud, [rule(Allow, AlterConfigs, Resource::Cluster)]).await;
    assert_eq!(alter("storage.url", &elsewhere).await, NONE);
    // Back to the default is another store, too; what stays as it is, is none.
    add(&cloud, [rule(Deny, AlterConfigs, Resource::Cluster)]).await;
    assert_eq!(alter("storage.url", &elsewhere).await, NONE);
    let mut replace = async |settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(name, value)| {
            alter_configs_request::AlterableConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("telemetry"))
            .with_configs(settings.collect());
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        asked!(client, AlterConfigs, 2, request).responses[0].error_code
    };
    assert_eq!(replace(&[("retention.ms", "1")]).await, CLUSTER_REFUSED);
    assert_eq!(replace(&store).await, NONE);
    cloud.shutdown().await;
}

#[tokio::test]
async fn settings_of_a_new_topic_are_for_who_may_see_them() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), CLOSED).await;
    let mut client = Client::connect(&cloud).await;
    add(&cloud, [rule(Allow, Create, Resource::Topic("*"))]).await;
    let made = create(&mut client, "one", &[]).await;
    let made = &made.topics[0];
    assert_eq!(
        (made.error_code, made.topic_config_error_code),
        (NONE, TOPIC_REFUSED)
    );
    assert_eq!(
        (made.num_partitions, made.configs.as_deref()),
        (-1, Some(&[][..]))
    );
    add(&cloud, [rule(Allow, DescribeConfigs, Resource::Topic("*"))]).await;
    let made = create(&mut client, "two", &[]).await;
    let made = &made.topics[0];
    assert_eq!(
        (made.error_code, made.topic_config_error_code),
        (NONE, NONE)
    );
    assert!(made.num_partitions == 1 && !made.configs.as_ref().unwrap().is_empty());
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_rule_holds_at_once_on_a_connection_that_is_open() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    let mut client = Client::connect(&cloud).await;
    let mut fetch = async |version: i16| {
        let request = fetch_request(version, edge.target, 0, 0);
        let response = asked!(client, Fetch, version, request);
        let partition = &response.responses[0].partitions[0];
        let bytes = partition.records.as_ref().map_or(0, bytes::Bytes::len);
        (partition.error_code, bytes > 0)
    };
    let deny = rule(Deny, Read, Resource::Topic("telemetry"));
    for version in [4, 12, 17] {
        assert_eq!(fetch(version).await, (NONE, true));
        add(&cloud, [deny.clone()]).await;
        assert_eq!(fetch(version).await, (TOPIC_REFUSED, false), "{version}");
        let all = vec![Default::default()];
        let removed = cloud.broker().remove_rules(all).await.unwrap();
        assert_eq!(removed, [[deny.clone()]]);
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn who_may_write_anywhere_may_write_idempotently() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), CLOSED).await;
    let mut client = Client::connect(&cloud).await;
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let mut ask = async || asked!(client, InitProducerId, 4, request.clone()).error_code;
    assert_eq!(ask().await, CLUSTER_REFUSED);
    add(&cloud, [rule(Allow, Read, Resource::Topic("telemetry"))]).await;
    assert_eq!(ask().await, CLUSTER_REFUSED);
    add(&cloud, [rule(Allow, Write, Resource::Topic("telemetry"))]).await;
    assert_eq!(ask().await, NONE);
    add(&cloud, [rule(Deny, Write, Resource::Topic("*"))]).await;
    assert_eq!(ask().await, CLUSTER_REFUSED);
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_super_user_may_do_all() {
    let data = tempfile::tempdir().unwrap();
    let yaml = ", authorization: {super_users: ['User:admin', 'User:ANONYMOUS'], allow_everyone_if_no_acl_found: false}";
    let cloud = start_with(data.path(), yaml).await;
    let mut client = Client::connect(&cloud).await;
    add(&cloud, [rule(Deny, Operation::All, Resource::Topic("*"))]).await;
    let told = metadata(&mut client, None, false).await;
    assert_eq!(told.len(), 1);
    let broker = cloud.broker();
    let read = |principal| broker.authorize(principal, "::1", Read, Resource::Topic("telemetry"));
    assert!(read("User:admin") && !read("User:ada"));
    cloud.shutdown().await;
}

fn acl(kind: i8, name: &str, pattern: i8) -> create_acls_request::AclCreation {
    create_acls_request::AclCreation::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_resource_pattern_type(pattern)
        .with_principal(text("User:ada"))
        .with_host(text("*"))
        .with_operation(READ)
        .with_permission_type(ALLOW)
}

async fn create_acls(client: &mut Client, acls: Vec<create_acls_request::AclCreation>) -> Vec<i16> {
    let request = CreateAclsRequest::default().with_creations(acls);
    let response = asked!(client, CreateAcls, 3, request);
    response.results.iter().map(|one| one.error_code).collect()
}

/// Pattern and name of each, of a kind of resource that a filter means.
async fn described(
    client: &mut Client,
    kind: i8,
    name: Option<&str>,
    pattern: i8,
) -> Vec<(i8, String, usize)> {
    let request = DescribeAclsRequest::default()
        .with_resource_type_filter(kind)
        .with_resource_name_filter(name.map(text))
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_pattern_type_filter(pattern)
        .with_operation(ANYTHING)
        .with_permission_type(ANYTHING);
    let response = asked!(client, DescribeAcls, 3, request);
    assert_eq!(response.error_code, NONE);
    let resources = response.resources.into_iter().map(|one| {
        let name = one.resource_name.to_string();
        (one.pattern_type, name, one.acls.len())
    });
    resources.collect()
}

#[tokio::test]
async fn clients_make_find_and_delete_rules() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let from_six = acl(TOPIC, "orders", LITERAL).with_host(text("0:0:0:0:0:0:0:1"));
    let good = vec![
        acl(TOPIC, "orders", LITERAL),
        from_six.clone(),
        acl(TOPIC, "ord", PREFIXED),
        acl(TOPIC, "*", LITERAL),
        acl(TOPIC, "ordinary", LITERAL),
        acl(GROUP, "readers", LITERAL),
        // Again.
        acl(TOPIC, "orders", LITERAL),
    ];
    assert_eq!(create_acls(&mut client, good).await, [NONE; 7]);
    let bad = vec![
        acl(CLUSTER, "other", LITERAL),
        acl(TOPIC, "", LITERAL),
        acl(TOPIC, "a", MATCHING),
        acl(ANYTHING, "a", LITERAL),
        acl(TOPIC, "a", LITERAL).with_principal(text("ada")),
        acl(TOPIC, "a", LITERAL).with_operation(ANYTHING),
        acl(TOPIC, "a", LITERAL).with_permission_type(99),
        acl(TOPIC, "a", LITERAL).with_host(text("")),
    ];
    let codes = create_acls(&mut client, bad).await;
    assert_eq!(codes, [INVALID_REQUEST; 8]);

    let is = |pattern: i8, name: &str, count| (pattern, name.to_owned(), count);
    let mut find = async |pattern| described(&mut client, TOPIC, Some("orders"), pattern).await;
    let exact = [is(LITERAL, "orders", 2)];
    assert_eq!(find(LITERAL).await, exact);
    assert_eq!(find(ANYTHING).await, exact);
    assert_eq!(find(PREFIXED).await, []);
    let matching = [
        is(LITERAL, "*", 1),
        is(LITERAL, "orders", 2),
        is(PREFIXED, "ord", 1),
    ];
    assert_eq!(find(MATCHING).await, matching);
    cloud.shutdown().await;

    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let all = described(&mut client, ANYTHING, None, ANYTHING).await;
    assert_eq!(all.iter().map(|one| one.2).sum::<usize>(), 6, "{all:?}");
    let filter = |name: &str, host: Option<&str>| {
        delete_acls_request::DeleteAclsFilter::default()
            .with_resource_type_filter(TOPIC)
            .with_resource_name_filter(Some(text(name)))
            .with_pattern_type_filter(ANYTHING)
            .with_principal_filter(None)
            .with_host_filter(host.map(text))
            .with_operation(ANYTHING)
            .with_permission_type(ANYTHING)
    };
    let filters = vec![
        // The same address, written otherwise.
        filter("orders", Some("::1")),
        filter("ord", None),
        filter("ord", None).with_operation(99),
    ];
    let request = DeleteAclsRequest::default().with_filters(filters);
    let response = asked!(client, DeleteAcls, 3, request);
    let told = response.filter_results.iter();
    let told: Vec<_> = told
        .map(|one| (one.error_code, one.matching_acls.len()))
        .collect();
    assert_eq!(told, [(NONE, 1), (NONE, 1), (INVALID_REQUEST, 0)]);
    assert_eq!(
        response.filter_results[0].matching_acls[0].host.as_str(),
        "::1"
    );
    let left = described(&mut client, TOPIC, Some("orders"), MATCHING).await;
    assert_eq!(left, [is(LITERAL, "*", 1), is(LITERAL, "orders", 1)]);
    cloud.shutdown().await;
}

#[tokio::test]
async fn people_make_find_and_remove_rules_over_http() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(
        data.path(),
        ", authorization: {super_users: ['User:ANONYMOUS']}",
    )
    .await;
    let new = r#"{"rules": [{"resource_type": "topic", "resource_name": "tele", "pattern_type": "prefixed",
        "principal": "User:ada", "operation": "Describe-Configs", "permission": "deny"},
        {"resource_type": "cluster", "resource_name": "kafka-cluster", "principal": "User:ada", "operation": "all"}]}"#;
    let (status, made) = ask_http(&cloud, "POST", "/acls", new).await;
    assert_eq!((status, made["rules"].as_array().unwrap().len()), (200, 2));
    let found = get(
        &cloud,
        "/acls?resource_type=topic&resource_name=telemetry&pattern_type=match",
    )
    .await;
    let found = &found["rules"];
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["operation"], "describe_configs");
    assert_eq!(found[0]["host"], "*");
    let told = rule(Allow, Operation::All, Resource::Cluster);
    assert!(cloud.broker().ledger(|ledger| {
        let mut rules = ledger.rules().iter();
        rules.any(|rule| {
            rule == Rule {
                principal: "User:ada".to_owned(),
                ..told.clone()
            }
        })
    }));
    for bad in [
        new.replace("deny", "perhaps"),
        new.replace(CLUSTER_NAME, "other"),
        new.replace("User:ada", "ada"),
        new.replace("\"operation\"", "\"operations\""),
    ] {
        let (status, why) = ask_http(&cloud, "POST", "/acls", &bad).await;
        assert!((400..500).contains(&status), "{why}");
    }
    assert_eq!(ask_http(&cloud, "DELETE", "/acls", "").await.0, 400);
    let (status, gone) = ask_http(&cloud, "DELETE", "/acls?resource_type=cluster", "").await;
    assert_eq!((status, gone["rules"].as_array().unwrap().len()), (200, 1));
    let (_, gone) = ask_http(&cloud, "DELETE", "/acls?all=true", "").await;
    assert_eq!(gone["rules"].as_array().unwrap().len(), 1);
    assert!(cloud.broker().ledger(|ledger| ledger.rules().is_empty()));
    cloud.shutdown().await;
}
