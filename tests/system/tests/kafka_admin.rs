//! People's Kafka tools look after topics, settings and groups, and what they did is so after `kill -9`.
//! confluent-kafka's AdminClient does what is asked here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_system_tests::node::Cloud;
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{wait, workspace};

/// Records that are in the topic before its consumer has come.
const RECORDS: u64 = 100;

/// The client does one thing, and this is what came of it.
fn admin(kafka: SocketAddr, words: &[&str]) -> Value {
    let mut command = workspace::python("kafka_admin.py");
    let output = command.arg(kafka.to_string()).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn restart(cloud: &mut Cloud) {
    cloud.kill();
    cloud.start();
    cloud.wait_ready();
}

fn refused(name: &str) -> Value {
    json!({ "error": name })
}

#[test]
fn topics_and_their_settings_are_as_the_client_made_them() {
    let scratch = Scratch::new("kafka-admin-topics");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    cloud.start();
    cloud.wait_ready();
    let kafka = cloud.kafka;
    let ask = |words: &[&str]| admin(kafka, words);
    let cluster = ask(&["cluster"]);
    assert_eq!(cluster["controller"], 1);
    assert_eq!(cluster["nodes"], json!([kafka.to_string()]));

    assert_eq!(ask(&["create", "plain", "-1"]), Value::Null);
    let create = [
        "create",
        "set",
        "3",
        "retention.ms=60000",
        "cleanup.policy=compact",
    ];
    assert_eq!(ask(&create), Value::Null);
    assert_eq!(ask(&["create", "gone", "1"]), Value::Null);
    assert_eq!(ask(&create), refused("TOPIC_ALREADY_EXISTS"));
    let bad = ["create", "bad", "1", "retention.hours=1"];
    assert_eq!(ask(&bad), refused("INVALID_CONFIG"));
    let topics = json!({ "telemetry": 12, "plain": 12, "set": 3, "gone": 1 });
    assert_eq!(ask(&["topics"]), topics);
    let described = ask(&["topic", "set"]);
    assert_eq!(described["partitions"], 3);

    restart(&mut cloud);
    assert_eq!(ask(&["topics"]), topics);
    assert_eq!(ask(&["topic", "set"]), described, "with the same id");
    assert_eq!(ask(&["cluster"]), cluster);
    assert_eq!(ask(&["grow", "set", "5"]), Value::Null);
    assert_eq!(ask(&["grow", "set", "4"]), refused("INVALID_PARTITIONS"));
    let alter = [
        "alter",
        "set",
        "retention.ms,=,5000",
        "cleanup.policy,+,delete",
    ];
    assert_eq!(ask(&alter), Value::Null);
    let bad = ["alter", "set", "retention.ms,=,soon"];
    assert_eq!(ask(&bad), refused("INVALID_CONFIG"));
    assert_eq!(ask(&["delete", "gone"]), Value::Null);
    let unknown = refused("UNKNOWN_TOPIC_OR_PART");
    assert_eq!(ask(&["delete", "gone"]), unknown);

    restart(&mut cloud);
    let topics = json!({ "telemetry": 12, "plain": 12, "set": 5 });
    assert_eq!(ask(&["topics"]), topics);
    let config = ask(&["config", "TOPIC", "set"]);
    assert_eq!(config["retention.ms"], json!(["5000", false]));
    assert_eq!(config["cleanup.policy"], json!(["compact,delete", false]));
    assert_eq!(config["retention.bytes"], json!(["-1", true]));
    assert_eq!(ask(&["alter", "set", "retention.ms,!,"]), Value::Null);
    let config = ask(&["config", "TOPIC", "set"]);
    assert_eq!(config["retention.ms"], json!(["604800000", true]));
    let broker = ask(&["config", "BROKER", "1"]);
    assert_eq!(broker["num.partitions"], json!(["12", true]));
    assert_eq!(ask(&["config", "TOPIC", "gone"]), unknown);
}

#[test]
fn groups_are_seen_and_go_when_they_are_told_to() {
    let scratch = Scratch::new("kafka-admin-groups");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    cloud.start();
    cloud.wait_ready();
    let kafka = cloud.kafka;
    let ask = |words: &[&str]| admin(kafka, words);
    assert_eq!(ask(&["create", "numbers", "2"]), Value::Null);
    let produce = ["produce", "numbers", &RECORDS.to_string()];
    assert_eq!(ask(&produce), json!({ "left": 0 }));

    // It waits for one record more than there are.
    let mut command = workspace::python("kafka_follow.py");
    let all = (RECORDS + 1).to_string();
    command.args([&kafka.to_string(), "numbers", "readers", &all, "120"]);
    let log = scratch.path().join("follow.log");
    let mut follower = Process::start("kafka_follow.py", command, &log);
    follower.wait_for_log("following", wait::SOON);
    assert_eq!(ask(&["groups"]), json!({ "readers": "STABLE" }));
    let group = ask(&["group", "readers"]);
    let member = json!({ "host": "/127.0.0.1", "client": "rdkafka", "partitions": 2 });
    let described = json!({ "state": "STABLE", "assignor": "range", "members": [member] });
    assert_eq!(group, described);
    let delete = ["delete_group", "readers"];
    assert_eq!(ask(&delete), refused("NON_EMPTY_GROUP"));
    assert_eq!(ask(&["produce", "numbers", "1"]), json!({ "left": 0 }));
    let ended = follower.wait(wait::SOON);
    assert!(ended.success(), "{ended}: {}", follower.log());

    let committed = json!({ "sum": RECORDS + 1 });
    restart(&mut cloud);
    assert_eq!(ask(&["groups"]), json!({ "readers": "EMPTY" }));
    assert_eq!(ask(&["group", "readers"])["state"], "EMPTY");
    assert_eq!(ask(&["committed", "readers"]), committed);
    assert_eq!(ask(&delete), Value::Null);
    restart(&mut cloud);
    assert_eq!(ask(&["groups"]), json!({}));
    assert_eq!(ask(&delete), refused("GROUP_ID_NOT_FOUND"));
}
