//! The cloud as it is for ARM, out of its package and under an emulator, with an edge of its kind: a device publishes, a
//! stock Kafka client consumes, and both nodes are killed between. By its name alone, since its package takes long to make:
//! `tests/run --full arm_cloud`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tidegate_system_tests::board::ARM64;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{EDGE_ID, STREAM, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{kafka, skip};

const MESSAGES: usize = 200;

#[test]
fn what_devices_publish_is_consumed_once_from_an_arm64_cloud() {
    let scratch = Scratch::new("arm-cloud");
    let programs = ["tidegate-cloud", "tidegate-edge"].map(|node| ARM64.program(node, &scratch));
    let [cloud, edge] = programs;
    let (cloud, edge) = match (cloud, edge) {
        (Ok(cloud), Ok(edge)) => (cloud, edge),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let mut site = Site::new(scratch.path(), scratch.path());
    site.cloud.program.is_of(cloud, &ARM64);
    site.edge.program.is_of(edge, &ARM64);
    // What is read has been packed, as well as what has not.
    site.cloud.configure("pack: {max_age: 1s}\n");
    site.start();
    let messages = payloads(EDGE_ID, 0, 2 * MESSAGES);
    for half in messages.chunks(MESSAGES) {
        publish(Publisher::Paho, site.edge.mqtt, "plant/line", half);
        site.cloud.kill();
        site.edge.kill();
        site.start();
    }
    site.edge.wait_landed(messages.len() as u64);
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(site.cloud.kafka, STREAM, &out);
    let read: Vec<_> = records.iter().map(|record| record.value.as_str()).collect();
    assert_eq!(read, messages);
}
