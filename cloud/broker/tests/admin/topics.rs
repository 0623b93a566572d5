//! Topics: made, deleted, grown.

use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::*;
use tidegate_cloud::Cloud;
use uuid::Uuid;

use super::support::{Client, start};
use super::*;

/// A new topic with settings.
pub(super) fn topic(called: &str, partitions: i32, settings: &[(&str, &str)]) -> CreatableTopic {
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

pub(super) async fn create(
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
        // Once, with both.
        (named("d"), id(3), INVALID_REQUEST),
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
