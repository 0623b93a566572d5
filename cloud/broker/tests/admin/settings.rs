//! Settings: shown, changed one by one, replaced as a whole.

use kafka_protocol::messages::*;

use super::support::{Client, start, telemetry};
use super::*;

/// A resource's settings: name, value, source, read-only; or the error.
type Described = Result<Vec<(String, String, i8, bool)>, i16>;

async fn describe(client: &mut Client, kind: i8, called: &str, keys: &[&str]) -> Described {
    let keys = keys.iter().map(|key| text(key)).collect();
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(called))
        .with_configuration_keys(Some(keys));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource; 2]);
    let request = RequestKind::DescribeConfigs(request);
    let response = client.ask(ApiKey::DescribeConfigs, 4, request).await;
    let ResponseKind::DescribeConfigs(mut response) = response else {
        panic!("{response:?}");
    };
    assert_eq!(response.results.len(), 1, "asked twice, answered once");
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
        "compression.type",
        "delete.retention.ms",
        "flush.messages",
        "max.message.bytes",
        "message.timestamp.type",
        "min.insync.replicas",
        "pack.merge_below",
        "preallocate",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "storage.url",
        "unclean.leader.election.enable",
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

/// A setting's name, what is done with it, and a value.
pub(super) type Change<'a> = (&'a str, i8, Option<&'a str>);

/// Changes settings of a resource, and gives the code.
pub(super) async fn change(
    client: &mut Client,
    (kind, called): (i8, &str),
    settings: &[Change<'_>],
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
    let cases: [(i16, (i8, &str), Vec<Change<'_>>); 12] = [
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
