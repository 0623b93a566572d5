//! An edge whose data folder was put back to an older copy: what the cloud has landed since cannot be
//! proved, so the stream forks. Nothing is taken for a duplicate, and what appears twice was declared.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{self, Publisher, payloads, publish};
use tidegate_system_tests::node::{EDGE_ID, STREAM, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

#[test]
fn an_edge_restored_from_a_backup_forks_and_loses_nothing() {
    let scratch = Scratch::new("restored");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.reconnect_soon();
    site.start();
    let topic = "plant/line1";
    publish(
        Publisher::Paho,
        site.edge.mqtt,
        topic,
        &payloads("a", 0, 200),
    );
    site.edge.wait_landed(200);
    site.edge.kill();
    let backup = scratch.path().join("backup");
    lines::copy_folder(&site.edge.data, &backup);

    site.edge.start();
    site.edge.wait_ready();
    publish(
        Publisher::Mosquitto,
        site.edge.mqtt,
        topic,
        &payloads("b", 0, 300),
    );
    site.edge.wait_landed(500);
    site.edge.kill();
    lines::restore_folder(&backup, &site.edge.data);

    // Without a link it comes past where the cloud is, with a boundary at the very offset: only the hash
    // tells that other messages are meant.
    site.cloud.kill();
    site.edge.start();
    site.edge.wait_ready();
    for (from, to) in [(0, 300), (300, 400)] {
        let payloads = payloads("c", from, to);
        publish(Publisher::Paho, site.edge.mqtt, topic, &payloads);
    }
    site.cloud.start();
    site.cloud.wait_ready();
    wait::until("the edge raises the alarm", wait::SOON, || {
        (site.edge.alarms("forked") >= 1).then_some(())
    });
    assert_eq!(site.edge.wait_landed(600), 600);
    let counted = "tidegate_forked_streams_total{reason=\"unproved\"}";
    assert_eq!(site.cloud.metric(counted), Some(1.0));
    let (from, ended_at) = declared(&site);
    assert_eq!(ended_at, 500);
    all_is_there(&site, &scratch, from..200);
    tidegate(site.cloud.http, &["offsets", "verify"]).ok();
    older_life_is_told(&site);
}

/// The interval of which the fork says that it may appear twice.
fn declared(site: &Site) -> (u64, u64) {
    let shown = json(site.cloud.http, &["edge", "show", EDGE_ID])
        .ok()
        .json();
    let stream = shown["streams"].as_array().unwrap()[0].clone();
    assert_eq!(stream["stream"], STREAM);
    let fork = &stream["forks"].as_array().unwrap()[0];
    assert_eq!(fork["reason"], "unproved", "{fork}");
    (
        fork["from"].as_u64().unwrap(),
        fork["ended_at"].as_u64().unwrap(),
    )
}

/// Every payload is there; twice only those of `declared`, by their edge offset.
fn all_is_there(site: &Site, scratch: &Scratch, declared: std::ops::Range<u64>) {
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(site.cloud.kafka, STREAM, &out);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for record in &records {
        *counts.entry(record.value.clone()).or_default() += 1;
    }
    let wanted = [("a", 200), ("b", 300), ("c", 400)];
    for (name, count) in wanted {
        for payload in payloads(name, 0, count) {
            let seen = counts.remove(&payload).unwrap_or_default();
            let number: u64 = payload[2..].parse().unwrap();
            let twice = name == "a" && declared.contains(&number);
            assert!(seen == 1 || (twice && seen == 2), "{payload}: {seen} times");
        }
    }
    assert!(counts.is_empty(), "{counts:?}");
}

/// Message 250 means two things now: one in each incarnation.
fn older_life_is_told(site: &Site) {
    let at = |incarnation: &str| {
        let words = [
            "offsets",
            "translate",
            EDGE_ID,
            STREAM,
            "250",
            "--incarnation",
            incarnation,
        ];
        json(site.cloud.http, &words).ok().json()["kafka_offset"]
            .as_i64()
            .unwrap()
    };
    assert!(at("1") < at("2"));
    let words = [
        "offsets",
        "translate",
        EDGE_ID,
        STREAM,
        "700",
        "--incarnation",
        "1",
    ];
    let ended = tidegate(site.cloud.http, &words).fails(1);
    assert!(
        ended.out.starts_with("ended: incarnation 1 went on as 2"),
        "{ended:?}"
    );
}
