//! A topic that a Kafka client asks for is made where the client and the configuration allow it, up to a bound; an
//! edge's stream to a topic that is missing makes none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, RequestKind, ResponseKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use support::{Client, start_with};
use tidegate_cloud::{Cloud, Config};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const POLICY_VIOLATION: i16 = 44;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// As the node's `limits` has it.
const AUTO_CREATED_TOPICS_MAX: usize = 10_000;

/// Of each topic its code, and how many partitions it has.
async fn ask(client: &mut Client, version: i16, names: &[&str], allows: bool) -> Vec<(i16, usize)> {
    let topics = names.iter().map(|name| {
        let name = StrBytes::from_string((*name).to_owned());
        MetadataRequestTopic::default().with_name(Some(TopicName(name)))
    });
    let request = MetadataRequest::default()
        .with_topics(Some(topics.collect()))
        .with_allow_auto_topic_creation(allows);
    told(client, version, request).await
}

async fn told(client: &mut Client, version: i16, request: MetadataRequest) -> Vec<(i16, usize)> {
    let request = RequestKind::Metadata(request);
    let response = client.ask(ApiKey::Metadata, version, request).await;
    let ResponseKind::Metadata(response) = response else {
        panic!("{response:?}");
    };
    let topics = response.topics.iter();
    topics
        .map(|topic| (topic.error_code, topic.partitions.len()))
        .collect()
}

fn topics(cloud: &Cloud) -> usize {
    cloud.broker().ledger(|ledger| ledger.topics().count())
}

#[tokio::test]
async fn a_missing_topic_is_made_where_the_client_allows_it_and_stays() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), "").await;
    let mut client = Client::connect(&cloud).await;
    let missing = (UNKNOWN_TOPIC_OR_PARTITION, 0);
    for version in [4, 9, 12] {
        let asked = ask(&mut client, version, &["orders"], false).await;
        assert_eq!(asked, [missing], "version {version}");
    }
    // By its id nothing can be made, and by all topics neither.
    let by_id = MetadataRequestTopic::default()
        .with_name(None)
        .with_topic_id(uuid::Uuid::from_u128(9));
    let request = MetadataRequest::default().with_topics(Some(vec![by_id]));
    let by_id = told(&mut client, 12, request).await;
    assert_eq!(by_id, [(UNKNOWN_TOPIC_ID, 0)]);
    let all = told(&mut client, 9, MetadataRequest::default().with_topics(None)).await;
    assert_eq!(all, [(NONE, 3)]);
    assert_eq!(topics(&cloud), 1);

    let names = ["orders", "not/a/name", "telemetry", "orders", ""];
    let asked = ask(&mut client, 9, &names, true).await;
    let invalid = (INVALID_TOPIC, 0);
    // What is asked twice is answered once.
    let expected = [(NONE, 12), invalid, (NONE, 3), invalid];
    assert_eq!(asked, expected);
    let old = MetadataRequestTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("old"))));
    let old = MetadataRequest::default().with_topics(Some(vec![old]));
    assert_eq!(told(&mut client, 1, old).await, [(NONE, 12)], "version 1");
    assert_eq!(topics(&cloud), 3);
    cloud.shutdown().await;

    let cloud = start_with(data.path(), "").await;
    let mut client = Client::connect(&cloud).await;
    let asked = ask(&mut client, 9, &["orders", "old"], false).await;
    assert_eq!(asked, [(NONE, 12), (NONE, 12)], "after a restart");
    cloud.shutdown().await;
}

#[tokio::test]
async fn nothing_is_made_where_the_configuration_says_no() {
    let data = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let yaml = format!(
        "{{data: {}, kafka: {{address: {any}, auto_create_topics: false}}, http: {{address: {any}}}, bridge: {{address: {any}}}}}",
        data.path().display()
    );
    let config = Config::parse(&yaml).unwrap();
    let cloud = Box::pin(Cloud::start(config)).await.unwrap();
    let mut client = Client::connect(&cloud).await;
    let asked = ask(&mut client, 9, &["orders", "telemetry"], true).await;
    assert_eq!(asked, [(UNKNOWN_TOPIC_OR_PARTITION, 0), (NONE, 12)]);
    assert_eq!(topics(&cloud), 1);
    cloud.shutdown().await;
}

/// Also where many ask at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_are_made_than_the_bound() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), "").await;
    let names: Vec<String> = (0..AUTO_CREATED_TOPICS_MAX + 100)
        .map(|number| format!("t{number}"))
        .collect();
    let mut asking = tokio::task::JoinSet::new();
    for names in names.chunks(names.len().div_ceil(8)) {
        let (mut client, names) = (Client::connect(&cloud).await, names.to_vec());
        asking.spawn(async move {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            // One request makes a few; who asks for more asks again.
            loop {
                let told = ask(&mut client, 9, &names, true).await;
                if !told.contains(&(UNKNOWN_TOPIC_OR_PARTITION, 0)) {
                    return told;
                }
            }
        });
    }
    let told = asking.join_all().await.concat();
    let of = |one: (i16, usize)| told.iter().filter(|told| **told == one).count();
    assert_eq!(topics(&cloud), AUTO_CREATED_TOPICS_MAX);
    // `telemetry` was there before.
    assert_eq!(of((NONE, 12)), AUTO_CREATED_TOPICS_MAX - 1);
    assert_eq!(of((POLICY_VIOLATION, 0)), 101);
    let mut client = Client::connect(&cloud).await;
    let asked = ask(&mut client, 9, &["one-more", "telemetry"], true).await;
    assert_eq!(asked, [(POLICY_VIOLATION, 0), (NONE, 3)]);
    let asked = ask(&mut client, 9, &["one-more"], false).await;
    assert_eq!(asked, [(UNKNOWN_TOPIC_OR_PARTITION, 0)]);
    cloud.shutdown().await;
}
