//! ACLs as people's Kafka tools make them: they are there after `kill -9`, and hold at once for clients that are connected.
//! confluent-kafka does what is asked here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_system_tests::cli::tidegate;
use tidegate_system_tests::node::Cloud;
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{wait, workspace};

fn acls(kafka: SocketAddr, words: &[&str]) -> Value {
    let mut command = workspace::python("kafka_acls.py");
    let output = command.arg(kafka.to_string()).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A client that goes on until it is stopped.
fn client(scratch: &Scratch, kafka: SocketAddr, verb: &str) -> Process {
    let mut command = workspace::python("kafka_acls.py");
    command.args([&kafka.to_string(), verb, "orders"]);
    let log = scratch.path().join(format!("{verb}.log"));
    Process::start(verb, command, &log)
}

/// What it has said, a word for each time that something changed.
fn wait_for(client: &Process, words: &[&str]) {
    let what = format!("it is so in turn: {words:?}");
    wait::until(&what, wait::SOON, || {
        let log = client.log();
        let said = log
            .lines()
            .filter(|line| ["allowed", "refused"].contains(line));
        said.eq(words.iter().copied()).then_some(())
    });
}

fn restart(cloud: &mut Cloud) {
    cloud.kill();
    cloud.start();
    cloud.wait_ready();
}

const EVERY: [&str; 7] = ["ANY", "-", "ANY", "-", "-", "ANY", "ANY"];

fn filter<'a>(verb: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&[verb], words].concat()
}

#[test]
fn acls_are_there_until_they_are_deleted_and_hold_for_who_is_connected() {
    let scratch = Scratch::new("kafka-acls");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    cloud.configure("topics:\n  - name: orders\n    partitions: 1\n");
    cloud.start();
    cloud.wait_ready();
    let (kafka, http) = (cloud.kafka, cloud.http);
    let producer = client(&scratch, kafka, "produce");
    let consumer = client(&scratch, kafka, "consume");
    for client in [&producer, &consumer] {
        wait_for(client, &["allowed"]);
    }

    let deny = [
        "TOPIC",
        "ord",
        "PREFIXED",
        "User:ANONYMOUS",
        "*",
        "ALL",
        "DENY",
    ];
    let other = [
        "GROUP",
        "others",
        "LITERAL",
        "User:ada",
        "192.0.2.7",
        "READ",
        "ALLOW",
    ];
    assert_eq!(acls(kafka, &filter("create", &deny)), Value::Null);
    assert_eq!(acls(kafka, &filter("create", &other)), Value::Null);
    for client in [&producer, &consumer] {
        wait_for(client, &["allowed", "refused"]);
    }
    let both = json!([other, deny]);
    assert_eq!(acls(kafka, &filter("describe", &EVERY)), both);
    restart(&mut cloud);
    assert_eq!(acls(kafka, &filter("describe", &EVERY)), both);

    let matching = ["TOPIC", "orders", "MATCH", "-", "-", "ANY", "ANY"];
    assert_eq!(acls(kafka, &filter("delete", &matching)), json!([deny]));
    for client in [&producer, &consumer] {
        wait_for(client, &["allowed", "refused", "allowed"]);
    }
    restart(&mut cloud);
    assert_eq!(acls(kafka, &filter("describe", &EVERY)), json!([other]));

    // People's own command makes the same rules.
    let add = [
        "acl",
        "add",
        "--principal",
        "User:ANONYMOUS",
        "--deny",
        "read",
        "--topic",
        "orders",
    ];
    tidegate(http, &add).ok();
    let allow = [
        "acl",
        "add",
        "--principal",
        "User:*",
        "--allow",
        "write",
        "--topic",
        "orders",
    ];
    tidegate(http, &allow).ok();
    wait_for(&consumer, &["allowed", "refused", "allowed", "refused"]);
    let listed = tidegate(
        http,
        &["acl", "list", "--topic", "orders", "--output", "json"],
    )
    .ok();
    assert_eq!(listed.json()["rules"].as_array().unwrap().len(), 2);
    let remove = ["acl", "remove", "--deny", "read", "--topic", "orders"];
    tidegate(http, &remove).ok();
    tidegate(http, &["acl", "remove"]).fails(1);
    let allow = [
        "acl",
        "add",
        "--principal",
        "User:ANONYMOUS",
        "--allow",
        "read",
        "--topic",
        "orders",
    ];
    tidegate(http, &allow).ok();
    wait_for(
        &consumer,
        &["allowed", "refused", "allowed", "refused", "allowed"],
    );
    wait_for(&producer, &["allowed", "refused", "allowed"]);
}
