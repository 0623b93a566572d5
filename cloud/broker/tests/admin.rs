//! Kafka's admin APIs: what they do, what they refuse, and that it is still so after a restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use support::{Client, start, telemetry};
use tidegate_cloud::Cloud;
use tidegate_cloud_protocol::ledger::command::{AllotProducer, Begin, Entry, Part, Produce};
use tidegate_cloud_protocol::ledger::producers::Sequence;
use tidegate_cloud_protocol::ledger::{Command, Effect, Target};
use tidegate_shared::id::{GroupName, PartitionId};
use uuid::Uuid;

const INVALID_TOPIC: i16 = 17;
const UNKNOWN_TOPIC: i16 = 3;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const INVALID_GROUP_ID: i16 = 24;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;
const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;

/// Kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from.
const FROM_TOPIC: i8 = 1;
const FROM_DEFAULT: i8 = 5;

/// What is done with a setting.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// A new topic with settings.
fn topic(called: &str, partitions: i32, settings: &[(&str, &str)]) -> CreatableTopic {
    let configs = settings.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    CreatableTopic::default()
        .with_name(name(called))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.collect())
}

/// A new topic whose partitions are each to be on these nodes.
fn assigned(called: &str, partitions: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = partitions.iter().map(|(partition, brokers)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*partition)
            .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
    });
    topic(called, -1, &[]).with_assignments(assignments.collect())
}

async fn create(
    client: &mut Client,
    topics: Vec<CreatableTopic>,
    validate_only: bool,
) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest::default()
        .with_topics(topics)
        .with_validate_only(validate_only);
    let request = RequestKind::CreateTopics(request);
    let ResponseKind::CreateTopics(response) = client.ask(ApiKey::CreateTopics, 7, request).await
    else {
        panic!("another response");
    };
    response.topics
}

fn partitions(cloud: &Cloud, topic: &str) -> Option<usize> {
    cloud.broker().ledger(|ledger| {
        let id = ledger.topic_id(topic)?;
        Some(ledger.topic(id)?.partitions().len())
    })
}

#[tokio::test]
async fn topics_are_made_as_asked_and_are_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let settings = [
        ("retention.ms", "1000"),
        ("cleanup.policy", "compact,delete"),
    ];
    let wanted = || {
        vec![
            topic("plain", -1, &[]),
            topic("set", 5, &settings),
            assigned("assigned", &[(1, &[1]), (0, &[1])]),
        ]
    };
    for looked in create(&mut client, wanted(), true).await {
        assert_eq!(looked.error_code, 0, "{looked:?}");
        assert_eq!(partitions(&cloud, &looked.name), None, "only looked at");
    }
    let made = create(&mut client, wanted(), false).await;
    let counts: Vec<_> = made
        .iter()
        .map(|made| {
            (
                made.error_code,
                made.num_partitions,
                made.replication_factor,
            )
        })
        .collect();
    assert_eq!(counts, [(0, 12, 1), (0, 5, 1), (0, 2, 1)]);
    let ids: Vec<Uuid> = made.iter().map(|made| made.topic_id).collect();
    let configs = made[1].configs.as_ref().unwrap();
    let shown: Vec<_> = configs
        .iter()
        .map(|one| (one.name.as_str(), one.value.as_deref(), one.config_source))
        .collect();
    assert!(shown.contains(&("retention.ms", Some("1000"), FROM_TOPIC)));
    assert!(shown.contains(&("cleanup.policy", Some("compact,delete"), FROM_TOPIC)));
    assert!(shown.contains(&("retention.bytes", Some("-1"), FROM_DEFAULT)));
    cloud.shutdown().await;

    let cloud = start(data.path()).await;
    for (made, id) in made.iter().zip(ids) {
        let found = cloud.broker().ledger(|ledger| ledger.topic_id(&made.name));
        assert_eq!(found.unwrap().0, id.as_u128());
        let count = made.num_partitions as usize;
        assert_eq!(partitions(&cloud, &made.name), Some(count));
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_topic_that_cannot_be_is_refused_with_kafkas_code() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let made = create(&mut client, vec![topic("a.b", 1, &[])], false).await;
    assert_eq!(made[0].error_code, 0);
    let no_value = topic("x", 1, &[("retention.ms", "")]);
    let no_value = {
        let mut topic = no_value;
        topic.configs[0].value = None;
        topic
    };
    let factor = |factor| topic("x", 1, &[]).with_replication_factor(factor);
    let long = "x".repeat(250);
    let cases = [
        (INVALID_TOPIC, topic("a/b", 1, &[])),
        (INVALID_TOPIC, topic("", 1, &[])),
        (INVALID_TOPIC, topic("..", 1, &[])),
        (INVALID_TOPIC, topic(&long, 1, &[])),
        (INVALID_TOPIC, topic("a_b", 1, &[])),
        (TOPIC_ALREADY_EXISTS, topic("telemetry", 1, &[])),
        (TOPIC_ALREADY_EXISTS, topic("a.b", 1, &[])),
        (INVALID_CONFIG, topic("x", 1, &[("no.such", "1")])),
        (INVALID_CONFIG, topic("x", 1, &[("retention.ms", "7d")])),
        (
            INVALID_CONFIG,
            topic("x", 1, &[("storage.url", "memory://")]),
        ),
        (INVALID_CONFIG, no_value),
        (INVALID_PARTITIONS, topic("x", 0, &[])),
        (INVALID_PARTITIONS, topic("x", -2, &[])),
        (POLICY_VIOLATION, topic("x", 10_001, &[])),
        (INVALID_REPLICATION_FACTOR, factor(0)),
        (INVALID_REPLICATION_FACTOR, factor(2)),
        (
            INVALID_REQUEST,
            assigned("x", &[(0, &[1])]).with_num_partitions(1),
        ),
        (
            INVALID_REQUEST,
            assigned("x", &[(0, &[1])]).with_replication_factor(1),
        ),
        (INVALID_REPLICA_ASSIGNMENT, assigned("x", &[(0, &[2])])),
        (INVALID_REPLICA_ASSIGNMENT, assigned("x", &[(0, &[])])),
        (INVALID_REPLICA_ASSIGNMENT, assigned("x", &[(0, &[1, 1])])),
        (INVALID_REPLICA_ASSIGNMENT, assigned("x", &[(1, &[1])])),
        (
            INVALID_REPLICA_ASSIGNMENT,
            assigned("x", &[(0, &[1]), (0, &[1])]),
        ),
    ];
    for (code, wanted) in cases {
        let told = format!("{wanted:?}");
        let refused = create(&mut client, vec![wanted], false).await;
        assert_eq!(refused[0].error_code, code, "{told}: {refused:?}");
        assert!(!refused[0].error_message.as_ref().unwrap().is_empty());
    }
    let unknown = create(&mut client, vec![topic("x", 1, &[("no.such", "1")])], false).await;
    assert!(
        unknown[0]
            .error_message
            .as_ref()
            .unwrap()
            .contains("no.such")
    );
    let twice = vec![topic("x", 1, &[]), topic("y", 1, &[]), topic("x", 2, &[])];
    let results = create(&mut client, twice, false).await;
    let codes: Vec<_> = results
        .iter()
        .map(|result| (result.name.as_str(), result.error_code))
        .collect();
    assert_eq!(codes, [("x", INVALID_REQUEST), ("y", 0)]);
    assert_eq!(partitions(&cloud, "x"), None);
    // Together too many, though neither alone.
    let many = vec![topic("m", 6_000, &[]), topic("n", 6_000, &[])];
    for refused in create(&mut client, many, false).await {
        assert_eq!(refused.error_code, POLICY_VIOLATION);
    }
    cloud.shutdown().await;
}

async fn delete(
    client: &mut Client,
    topics: &[(Option<&str>, Uuid)],
) -> Vec<(Option<String>, Uuid, i16)> {
    let topics = topics.iter().map(|(called, id)| {
        delete_topics_request::DeleteTopicState::default()
            .with_name(called.map(name))
            .with_topic_id(*id)
    });
    let request = DeleteTopicsRequest::default().with_topics(topics.collect());
    let request = RequestKind::DeleteTopics(request);
    let ResponseKind::DeleteTopics(response) = client.ask(ApiKey::DeleteTopics, 6, request).await
    else {
        panic!("another response");
    };
    let responses = response.responses.into_iter();
    responses
        .map(|one| {
            let name = one.name.map(|name| name.to_string());
            (name, one.topic_id, one.error_code)
        })
        .collect()
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let wanted = ["a", "b", "c", "d"].map(|called| topic(called, 1, &[]));
    let made = create(&mut client, wanted.into(), false).await;
    let id = |at: usize| made[at].topic_id;
    let nil = Uuid::nil();
    let named = |name: &str| Some(name.to_owned());

    let deleted = delete(&mut client, &[(Some("a"), nil), (None, id(1))]).await;
    assert_eq!(deleted, [(named("a"), id(0), 0), (named("b"), id(1), 0)]);
    let other = Uuid::from_u128(7);
    let asked = [
        (Some("a"), nil),
        (None, other),
        (None, nil),
        (Some("c"), id(2)),
        (Some("c"), nil),
        (Some("c"), nil),
        (Some("d"), nil),
        (None, id(3)),
    ];
    let refused = delete(&mut client, &asked).await;
    let expected = [
        (named("a"), nil, UNKNOWN_TOPIC),
        (None, other, UNKNOWN_TOPIC_ID),
        (None, nil, INVALID_REQUEST),
        (named("c"), id(2), INVALID_REQUEST),
        (named("c"), nil, INVALID_REQUEST),
        (named("d"), nil, INVALID_REQUEST),
        (None, id(3), INVALID_REQUEST),
    ];
    assert_eq!(refused, expected);
    let there = ["a", "b", "c", "d"].map(|name| partitions(&cloud, name));
    assert_eq!(there, [None, None, Some(1), Some(1)]);
    cloud.shutdown().await;
}

#[tokio::test]
async fn topics_grow_and_never_shrink() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let wanted = |called: &str, count, brokers: Option<&[&[i32]]>| {
        let assignments = brokers.map(|partitions| {
            let partitions = partitions.iter().map(|brokers| {
                let ids = brokers.iter().map(|id| BrokerId(*id)).collect();
                create_partitions_request::CreatePartitionsAssignment::default()
                    .with_broker_ids(ids)
            });
            partitions.collect()
        });
        create_partitions_request::CreatePartitionsTopic::default()
            .with_name(name(called))
            .with_count(count)
            .with_assignments(assignments)
    };
    let cases = [
        (UNKNOWN_TOPIC, wanted("no", 5, None)),
        (INVALID_PARTITIONS, wanted("telemetry", 3, None)),
        (INVALID_PARTITIONS, wanted("telemetry", 2, None)),
        (INVALID_PARTITIONS, wanted("telemetry", -1, None)),
        (INVALID_PARTITIONS, wanted("telemetry", 10_001, None)),
        (
            INVALID_REPLICA_ASSIGNMENT,
            wanted("telemetry", 5, Some(&[&[1]])),
        ),
        (
            INVALID_REPLICA_ASSIGNMENT,
            wanted("telemetry", 4, Some(&[&[2]])),
        ),
        (0, wanted("telemetry", 4, Some(&[&[1]]))),
        (0, wanted("telemetry", 7, None)),
    ];
    for validate_only in [true, false] {
        for (code, topic) in cases.clone() {
            let told = format!("{topic:?}");
            let request = CreatePartitionsRequest::default()
                .with_topics(vec![topic])
                .with_validate_only(validate_only);
            let request = RequestKind::CreatePartitions(request);
            let response = client.ask(ApiKey::CreatePartitions, 3, request).await;
            let ResponseKind::CreatePartitions(response) = response else {
                panic!("{response:?}");
            };
            assert_eq!(response.results[0].error_code, code, "{told}");
        }
        let expected = if validate_only { 3 } else { 7 };
        assert_eq!(partitions(&cloud, "telemetry"), Some(expected));
    }
    cloud.shutdown().await;
}

/// A resource's settings: name, value, source, read-only; or the error.
type Described = Result<Vec<(String, String, i8, bool)>, i16>;

async fn describe(client: &mut Client, kind: i8, called: &str, keys: &[&str]) -> Described {
    let keys = keys.iter().map(|key| text(key)).collect();
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(called))
        .with_configuration_keys(Some(keys));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let request = RequestKind::DescribeConfigs(request);
    let response = client.ask(ApiKey::DescribeConfigs, 4, request).await;
    let ResponseKind::DescribeConfigs(mut response) = response else {
        panic!("{response:?}");
    };
    let result = response.results.remove(0);
    assert_eq!(
        (result.resource_type, result.resource_name.as_str()),
        (kind, called)
    );
    if result.error_code != 0 {
        return Err(result.error_code);
    }
    let configs = result.configs.into_iter().map(|one| {
        let value = one.value.unwrap().to_string();
        (
            one.name.to_string(),
            value,
            one.config_source,
            one.read_only,
        )
    });
    Ok(configs.collect())
}

/// The value of one setting of `telemetry`.
async fn value(client: &mut Client, setting: &str) -> String {
    let mut rows = describe(client, TOPIC, "telemetry", &[setting])
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    rows.remove(0).1
}

#[tokio::test]
async fn settings_are_shown_as_they_are() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let all = describe(&mut client, TOPIC, "telemetry", &[])
        .await
        .unwrap();
    let names: Vec<&str> = all.iter().map(|(name, ..)| name.as_str()).collect();
    let expected = [
        "cleanup.policy",
        "delete.retention.ms",
        "pack.merge_below",
        "retention.bytes",
        "retention.ms",
        "storage.url",
    ];
    assert_eq!(names, expected);
    assert!(
        all.iter()
            .all(|(.., source, read_only)| { (*source, *read_only) == (FROM_DEFAULT, false) })
    );
    let broker = describe(&mut client, BROKER, "1", &[]).await.unwrap();
    assert!(broker.iter().all(|(.., read_only)| *read_only));
    let of_broker = |name: &str| {
        let mut rows = broker.iter();
        rows.find(|row| row.0 == name).unwrap().1.clone()
    };
    assert_eq!(of_broker("message.max.bytes"), "1048588");
    assert_eq!(of_broker("num.partitions"), "12");
    assert_eq!(describe(&mut client, BROKER, "", &[]).await, Ok(vec![]));
    for (kind, called, code) in [
        (TOPIC, "no", UNKNOWN_TOPIC),
        (TOPIC, "a/b", INVALID_TOPIC),
        (BROKER, "2", INVALID_REQUEST),
        (BROKER, "x", INVALID_REQUEST),
        (77, "x", INVALID_REQUEST),
    ] {
        assert_eq!(describe(&mut client, kind, called, &[]).await, Err(code));
    }
    cloud.shutdown().await;
}

/// Changes settings of a resource, and gives the code: each its name, what is done with it, and a value.
async fn change(
    client: &mut Client,
    (kind, called): (i8, &str),
    settings: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> i16 {
    let configs = settings.iter().map(|(name, operation, value)| {
        incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(called))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    let request = RequestKind::IncrementalAlterConfigs(request);
    let response = client
        .ask(ApiKey::IncrementalAlterConfigs, 1, request)
        .await;
    let ResponseKind::IncrementalAlterConfigs(response) = response else {
        panic!("{response:?}");
    };
    response.responses[0].error_code
}

#[tokio::test]
async fn settings_change_one_by_one_and_take_effect() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let topic = (TOPIC, "telemetry");
    let set = [("retention.ms", SET, Some("5000"))];
    assert_eq!(change(&mut client, topic, &set, true).await, 0);
    assert_eq!(value(&mut client, "retention.ms").await, "604800000");
    assert_eq!(change(&mut client, topic, &set, false).await, 0);
    assert_eq!(value(&mut client, "retention.ms").await, "5000");
    let effective = cloud.broker().ledger(|ledger| {
        let topic = ledger.topic(ledger.topic_id("telemetry")?)?;
        topic.settings.retention_ms
    });
    assert_eq!(effective, Some(5000));
    for (operation, word, policy) in [
        (APPEND, "compact", "compact,delete"),
        (APPEND, "compact", "compact,delete"),
        (SUBTRACT, "delete", "compact"),
        (SET, "delete", "delete"),
    ] {
        let settings = [("cleanup.policy", operation, Some(word))];
        assert_eq!(change(&mut client, topic, &settings, false).await, 0);
        assert_eq!(value(&mut client, "cleanup.policy").await, policy);
    }
    let store = data.path().join("elsewhere").display().to_string();
    let url = [("storage.url", SET, Some(store.as_str()))];
    let before = value(&mut client, "storage.url").await;
    assert_eq!(change(&mut client, topic, &url, true).await, 0);
    let stores = cloud.broker().ledger(|ledger| ledger.stores().count());
    assert_eq!(
        (value(&mut client, "storage.url").await, stores),
        (before, 0)
    );
    assert_eq!(change(&mut client, topic, &url, false).await, 0);
    assert_eq!(value(&mut client, "storage.url").await, store);
    let delete = [
        ("retention.ms", DELETE, None),
        ("storage.url", DELETE, None),
    ];
    assert_eq!(change(&mut client, topic, &delete, false).await, 0);
    assert_eq!(value(&mut client, "retention.ms").await, "604800000");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_setting_that_cannot_be_is_refused_and_nothing_changes() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let before = describe(&mut client, TOPIC, "telemetry", &[]).await;
    let topic = (TOPIC, "telemetry");
    let good = ("retention.ms", SET, Some("5"));
    let cases: [(i16, (i8, &str), Vec<(&str, i8, Option<&str>)>); 12] = [
        (
            INVALID_CONFIG,
            topic,
            vec![good, ("no.such", SET, Some("1"))],
        ),
        (INVALID_CONFIG, topic, vec![("no.such", DELETE, None)]),
        (INVALID_CONFIG, topic, vec![("no.such", APPEND, Some("1"))]),
        (
            INVALID_CONFIG,
            topic,
            vec![("retention.ms", SET, Some("x"))],
        ),
        (
            INVALID_CONFIG,
            topic,
            vec![("retention.ms", APPEND, Some("1"))],
        ),
        (
            INVALID_CONFIG,
            topic,
            vec![("cleanup.policy", SUBTRACT, Some("delete"))],
        ),
        (
            INVALID_CONFIG,
            topic,
            vec![("storage.url", SET, Some("memory://"))],
        ),
        (INVALID_REQUEST, topic, vec![("retention.ms", SET, None)]),
        (INVALID_REQUEST, topic, vec![("retention.ms", 9, Some("1"))]),
        (INVALID_REQUEST, topic, vec![good, good]),
        (
            INVALID_REQUEST,
            (BROKER, "1"),
            vec![("num.partitions", SET, Some("1"))],
        ),
        (UNKNOWN_TOPIC, (TOPIC, "no"), vec![good]),
    ];
    for (code, resource, settings) in cases {
        let told = format!("{resource:?} {settings:?}");
        let refused = change(&mut client, resource, &settings, false).await;
        assert_eq!(refused, code, "{told}");
    }
    assert_eq!(describe(&mut client, TOPIC, "telemetry", &[]).await, before);
    cloud.shutdown().await;
}

/// The codes of AlterConfigs for `telemetry` as a whole, once for each of `resources`.
async fn replace(
    client: &mut Client,
    resources: &[&[(&str, Option<&str>)]],
    validate_only: bool,
) -> Vec<i16> {
    let resources = resources.iter().map(|settings| {
        let configs = settings.iter().map(|(name, value)| {
            alter_configs_request::AlterableConfig::default()
                .with_name(text(name))
                .with_value(value.map(text))
        });
        alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(telemetry().0)
            .with_configs(configs.collect())
    });
    let request = AlterConfigsRequest::default()
        .with_resources(resources.collect())
        .with_validate_only(validate_only);
    let request = RequestKind::AlterConfigs(request);
    let ResponseKind::AlterConfigs(response) = client.ask(ApiKey::AlterConfigs, 2, request).await
    else {
        panic!("another response");
    };
    let responses = response.responses.iter();
    responses.map(|response| response.error_code).collect()
}

#[tokio::test]
async fn settings_are_replaced_as_a_whole() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let first: &[_] = &[("retention.ms", Some("7")), ("retention.bytes", Some("8"))];
    assert_eq!(replace(&mut client, &[first], true).await, [0]);
    assert_eq!(value(&mut client, "retention.bytes").await, "-1");
    assert_eq!(replace(&mut client, &[first], false).await, [0]);
    assert_eq!(value(&mut client, "retention.bytes").await, "8");
    let second: &[_] = &[("retention.ms", Some("9"))];
    assert_eq!(replace(&mut client, &[second], false).await, [0]);
    assert_eq!(value(&mut client, "retention.ms").await, "9");
    assert_eq!(
        value(&mut client, "retention.bytes").await,
        "-1",
        "default again"
    );
    let twice = replace(&mut client, &[first, second], false).await;
    assert_eq!(twice, [INVALID_REQUEST; 2]);
    for (code, settings) in [
        (INVALID_CONFIG, ("no.such", Some("1"))),
        (INVALID_REQUEST, ("retention.ms", None)),
    ] {
        assert_eq!(replace(&mut client, &[&[settings]], false).await, [code]);
    }
    assert_eq!(value(&mut client, "retention.ms").await, "9");
    cloud.shutdown().await;
}

/// A consumer's subscription to topics, and its assignment, as opaque bytes of ours.
fn subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    out.freeze()
}

const ASSIGNMENT: &[u8] = b"partition 2";

/// Joins a group as its only member, which leads; returns its id and generation.
async fn join(client: &mut Client, group: &str, kind: &str, topics: &[&str]) -> (StrBytes, i32) {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(subscription(topics));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text(kind))
        .with_protocols(vec![protocol]);
    let response = client
        .ask(ApiKey::JoinGroup, 3, RequestKind::JoinGroup(request))
        .await;
    let ResponseKind::JoinGroup(joined) = response else {
        panic!("{response:?}");
    };
    assert_eq!(joined.error_code, 0);
    (joined.member_id, joined.generation_id)
}

async fn assign(client: &mut Client, group: &str, (member, generation): (StrBytes, i32)) {
    let assignment = sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(ASSIGNMENT));
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(generation)
        .with_member_id(member)
        .with_assignments(vec![assignment]);
    let response = client
        .ask(ApiKey::SyncGroup, 1, RequestKind::SyncGroup(request))
        .await;
    assert!(matches!(response, ResponseKind::SyncGroup(synced) if synced.error_code == 0));
}

async fn leave(client: &mut Client, group: &str, member: StrBytes) {
    let request = LeaveGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(member);
    let response = client
        .ask(ApiKey::LeaveGroup, 1, RequestKind::LeaveGroup(request))
        .await;
    assert!(matches!(response, ResponseKind::LeaveGroup(left) if left.error_code == 0));
}

/// Commits offset 1 in partitions 0 and 1 of `telemetry`, as a client that is in no group.
async fn commit(client: &mut Client, group: &str, (member, generation): (StrBytes, i32)) {
    let partitions = [0, 1].map(|partition| {
        offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(1)
    });
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(telemetry())
        .with_partitions(partitions.into());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(member)
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic]);
    let request = RequestKind::OffsetCommit(request);
    let response = client.ask(ApiKey::OffsetCommit, 8, request).await;
    let ResponseKind::OffsetCommit(committed) = response else {
        panic!("{response:?}");
    };
    let mut partitions = committed.topics[0].partitions.iter();
    assert!(partitions.all(|partition| partition.error_code == 0));
}

const NOBODY: (StrBytes, i32) = (StrBytes::from_static_str(""), -1);

/// Groups with their kinds and states.
async fn list(client: &mut Client, states: &[&str], types: &[&str]) -> Vec<[String; 3]> {
    let filter = |words: &[&str]| words.iter().map(|word| text(word)).collect();
    let request = ListGroupsRequest::default()
        .with_states_filter(filter(states))
        .with_types_filter(filter(types));
    let request = RequestKind::ListGroups(request);
    let ResponseKind::ListGroups(response) = client.ask(ApiKey::ListGroups, 5, request).await
    else {
        panic!("another response");
    };
    let groups = response.groups.into_iter();
    groups
        .map(|group| {
            assert_eq!(group.group_type.as_str(), "classic");
            let id = group.group_id.to_string();
            let (kind, state) = (group.protocol_type, group.group_state);
            [id, kind.to_string(), state.to_string()]
        })
        .collect()
}

async fn describe_group(
    client: &mut Client,
    version: i16,
    group: &str,
) -> describe_groups_response::DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    let request = RequestKind::DescribeGroups(request);
    let response = client.ask(ApiKey::DescribeGroups, version, request).await;
    let ResponseKind::DescribeGroups(mut response) = response else {
        panic!("{response:?}");
    };
    response.groups.remove(0)
}

#[tokio::test]
async fn groups_are_listed_and_described_as_they_are() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    commit(&mut client, "offsets", NOBODY).await;
    let member = join(&mut client, "members", "consumer", &["telemetry"]).await;

    let group = describe_group(&mut client, 5, "members").await;
    assert_eq!(group.group_state.as_str(), "CompletingRebalance");
    assert_eq!(group.protocol_data.as_str(), "");
    assert!(group.members[0].member_metadata.is_empty());
    assign(&mut client, "members", member.clone()).await;
    let group = describe_group(&mut client, 5, "members").await;
    let fields = [
        &group.group_state,
        &group.protocol_type,
        &group.protocol_data,
    ];
    assert_eq!(
        fields.map(|field| field.as_str()),
        ["Stable", "consumer", "range"]
    );
    let [one] = &group.members[..] else {
        panic!("{group:?}");
    };
    assert_eq!(one.member_id, member.0);
    let client_of = [&one.client_id, &one.client_host];
    assert_eq!(
        client_of.map(|field| field.as_str()),
        ["test", "/127.0.0.1"]
    );
    assert_eq!(one.member_metadata, subscription(&["telemetry"]));
    assert_eq!(one.member_assignment, ASSIGNMENT);

    let row = |fields: [&str; 3]| fields.map(str::to_owned);
    let members = row(["members", "consumer", "Stable"]);
    let offsets = row(["offsets", "", "Empty"]);
    let all = vec![members.clone(), offsets.clone()];
    assert_eq!(list(&mut client, &[], &[]).await, all);
    assert_eq!(list(&mut client, &[], &["CLASSIC"]).await, all);
    assert_eq!(list(&mut client, &["stable", "Dead"], &[]).await, [members]);
    assert_eq!(list(&mut client, &["Empty"], &[]).await, [offsets]);
    assert!(list(&mut client, &[], &["consumer"]).await.is_empty());

    let empty = describe_group(&mut client, 6, "offsets").await;
    assert_eq!((empty.error_code, empty.group_state.as_str()), (0, "Empty"));
    let dead = describe_group(&mut client, 5, "no").await;
    assert_eq!((dead.error_code, dead.group_state.as_str()), (0, "Dead"));
    let dead = describe_group(&mut client, 6, "no").await;
    let told = (dead.error_code, dead.group_state.as_str());
    assert_eq!(told, (GROUP_ID_NOT_FOUND, "Dead"));
    let unnamed = describe_group(&mut client, 5, "").await;
    assert_eq!(unnamed.error_code, INVALID_GROUP_ID);
    cloud.shutdown().await;
}

async fn delete_groups(client: &mut Client, groups: &[&str]) -> Vec<i16> {
    let groups = groups.iter().map(|group| GroupId(text(group)));
    let request = DeleteGroupsRequest::default().with_groups_names(groups.collect());
    let request = RequestKind::DeleteGroups(request);
    let ResponseKind::DeleteGroups(response) = client.ask(ApiKey::DeleteGroups, 2, request).await
    else {
        panic!("another response");
    };
    let results = response.results.iter();
    results.map(|result| result.error_code).collect()
}

#[tokio::test]
async fn a_group_goes_once_nobody_is_in_it_and_stays_away_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    commit(&mut client, "offsets", NOBODY).await;
    commit(&mut client, "others", NOBODY).await;
    let member = join(&mut client, "members", "consumer", &["telemetry"]).await;
    assign(&mut client, "members", member.clone()).await;
    commit(&mut client, "members", member.clone()).await;
    let codes = delete_groups(&mut client, &["offsets", "members", "no", ""]).await;
    let refused = [0, NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, INVALID_GROUP_ID];
    assert_eq!(codes, refused);
    leave(&mut client, "members", member.0).await;
    let codes = delete_groups(&mut client, &["members", "members", "offsets"]).await;
    assert_eq!(codes, [0, GROUP_ID_NOT_FOUND, GROUP_ID_NOT_FOUND]);
    cloud.shutdown().await;

    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let left = list(&mut client, &[], &[]).await;
    assert_eq!(left, [["others", "", "Empty"].map(str::to_owned)]);
    cloud.shutdown().await;
}

/// The codes of OffsetDelete, the group's own first, for partitions of topics.
async fn delete_offsets(
    client: &mut Client,
    group: &str,
    partitions: &[(&str, i32)],
) -> (i16, Vec<i16>) {
    let topics = partitions.iter().map(|(topic, partition)| {
        let partition = offset_delete_request::OffsetDeleteRequestPartition::default()
            .with_partition_index(*partition);
        offset_delete_request::OffsetDeleteRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition])
    });
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(topics.collect());
    let request = RequestKind::OffsetDelete(request);
    let ResponseKind::OffsetDelete(response) = client.ask(ApiKey::OffsetDelete, 0, request).await
    else {
        panic!("another response");
    };
    let topics = response.topics.iter();
    let codes = topics.map(|topic| topic.partitions[0].error_code);
    (response.error_code, codes.collect())
}

#[tokio::test]
async fn a_group_forgets_offsets_of_topics_that_none_of_its_members_wants() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    create(&mut client, vec![topic("other", 1, &[])], false).await;
    let committed = |group: &str| {
        let group = GroupName::new(group).unwrap();
        cloud.broker().ledger(|ledger| {
            let committed = ledger.committed(&group);
            committed
                .map(|(target, _)| target.partition.0)
                .collect::<Vec<_>>()
        })
    };
    commit(&mut client, "offsets", NOBODY).await;
    let asked = [
        ("telemetry", 1),
        ("telemetry", 2),
        ("telemetry", 9),
        ("no", 0),
    ];
    let codes = delete_offsets(&mut client, "offsets", &asked).await;
    assert_eq!(codes, (0, vec![0, 0, UNKNOWN_TOPIC, UNKNOWN_TOPIC]));
    assert_eq!(committed("offsets"), [0]);

    let asked = [("telemetry", 0), ("other", 0)];
    let member = join(&mut client, "members", "consumer", &["telemetry"]).await;
    assign(&mut client, "members", member.clone()).await;
    commit(&mut client, "members", member).await;
    let codes = delete_offsets(&mut client, "members", &asked).await;
    assert_eq!(codes, (0, vec![GROUP_SUBSCRIBED_TO_TOPIC, 0]));
    assert_eq!(committed("members"), [0, 1]);

    let member = join(&mut client, "workers", "connect", &[]).await;
    assign(&mut client, "workers", member).await;
    let codes = delete_offsets(&mut client, "workers", &asked).await;
    assert_eq!(codes, (NON_EMPTY_GROUP, vec![]));
    let codes = delete_offsets(&mut client, "no", &asked).await;
    assert_eq!(codes, (GROUP_ID_NOT_FOUND, vec![]));
    let codes = delete_offsets(&mut client, "", &asked).await;
    assert_eq!(codes, (INVALID_GROUP_ID, vec![]));
    cloud.shutdown().await;
}

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

    let topics = [("telemetry", vec![0, 1, 9]), ("no", vec![0])];
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
    assert_eq!(codes, [0, 0, UNKNOWN_TOPIC, UNKNOWN_TOPIC]);
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
