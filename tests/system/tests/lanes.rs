//! A keyed stream: each key's messages are in one partition, the one that Kafka's own partitioner would
//! take, in their order, over a kill and while the topic grows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use tidegate_system_tests::http;
use tidegate_system_tests::kafka::{self, Record};
use tidegate_system_tests::mqtt::Client;
use tidegate_system_tests::node::Site;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

const KEYS: u32 = 40;

fn topic(key: u32) -> String {
    format!("plant/device-{key}/load")
}

/// Publishes a round: one message of each key, numbered.
fn publish(client: &mut Client, round: u32) {
    for key in 0..KEYS {
        let id = u16::try_from(round % 100 * KEYS + key + 1).unwrap();
        client
            .publish(id, &topic(key), round.to_string().as_bytes())
            .unwrap();
    }
}

/// Landed over all lanes.
fn wait_landed(site: &Site, total: u32) {
    let what = format!("{total} have landed");
    wait::until(&what, wait::SOON * 4, || {
        let landed = http::metric_sum(site.cloud.http, "tidegate_landed_records_total")?;
        (landed >= f64::from(total)).then_some(())
    });
}

fn read(site: &Site, scratch: &Scratch) -> Vec<Record> {
    let mut records = kafka::read_all(site.cloud.kafka, "telemetry", &scratch.path().join("read"));
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Each key's rounds, in the order in which a consumer of its partition sees them, and its partitions.
fn by_key(records: &[Record]) -> BTreeMap<String, (Vec<u32>, Vec<i32>)> {
    let mut keys: BTreeMap<String, (Vec<u32>, Vec<i32>)> = BTreeMap::new();
    for record in records {
        let key = keys.entry(record.key.clone().unwrap()).or_default();
        key.0.push(record.value.parse().unwrap());
        key.1.push(record.partition);
        key.1.dedup();
    }
    keys
}

#[test]
fn keys_keep_their_order_in_partitions_of_their_own_while_the_topic_grows() {
    let scratch = Scratch::new("lanes");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.cloud
        .configure("topics:\n  - name: telemetry\n    partitions: 4\n");
    site.edge
        .configure("streams:\n  telemetry:\n    lanes: 4\n");
    site.start();
    let mut client = Client::connect(site.edge.mqtt, "lanes").unwrap();
    for round in 0..10 {
        publish(&mut client, round);
    }
    wait_landed(&site, 10 * KEYS);
    let before = by_key(&read(&site, &scratch));
    assert_eq!(before.len(), KEYS as usize);
    for (key, (rounds, partitions)) in &before {
        assert_eq!(*rounds, (0..10).collect::<Vec<_>>(), "{key}");
        assert_eq!(*partitions, [kafka::partition_of(key, 4)], "{key}");
    }

    // The topic grows while messages come.
    let body = r#"{"partitions": 7}"#;
    let grown = http::post(site.cloud.http, "/api/v1/topics/telemetry/partitions", body);
    assert_eq!(grown.unwrap().0, 200);
    for round in 10..20 {
        publish(&mut client, round);
    }
    wait_landed(&site, 20 * KEYS);
    // Once more, and the node is killed in the middle of it.
    let body = r#"{"partitions": 9}"#;
    let grown = http::post(site.cloud.http, "/api/v1/topics/telemetry/partitions", body);
    assert_eq!(grown.unwrap().0, 200);
    for round in 20..25 {
        publish(&mut client, round);
    }
    site.edge.kill();
    site.edge.start();
    site.edge.wait_ready();
    let mut client = Client::connect(site.edge.mqtt, "lanes").unwrap();
    for round in 25..30 {
        publish(&mut client, round);
    }
    wait_landed(&site, 30 * KEYS);
    let last = wait::until("new lanes are used", wait::SOON * 4, || {
        let names = "tidegate_journal_stream_next_offset{stream=\"telemetry#8\"}";
        site.edge.metric(names)
    });
    println!("telemetry#8 is at {last}");
    for round in 30..40 {
        publish(&mut client, round);
    }
    wait_landed(&site, 40 * KEYS);
    let records = read(&site, &scratch);
    for record in records
        .iter()
        .filter(|record| record.value.parse::<u32>().unwrap() >= 30)
    {
        let key = record.key.as_deref().unwrap();
        assert_eq!(record.partition, kafka::partition_of(key, 9), "{key}");
    }
    each_once_and_in_order(&site, &records);
}

/// A key's messages may lie in several partitions, since it moved as the topic grew: never back, and in
/// order within each. (That it is also in order over partitions is the property test's of `bridge/protocol`.)
fn each_once_and_in_order(site: &Site, records: &[Record]) {
    let mut seen: BTreeMap<&str, Vec<(u32, i32, i64)>> = BTreeMap::new();
    for record in records {
        let round = record.value.parse().unwrap();
        let key = record.key.as_deref().unwrap();
        seen.entry(key)
            .or_default()
            .push((round, record.partition, record.offset));
    }
    assert_eq!(seen.len(), KEYS as usize);
    for (key, mut messages) in seen {
        let places = messages.clone();
        messages.sort_unstable();
        let rounds: Vec<u32> = messages.iter().map(|(round, ..)| *round).collect();
        assert_eq!(rounds, (0..40).collect::<Vec<_>>(), "{key} has each once");
        for partition in places.iter().map(|(_, partition, _)| *partition) {
            let mut inside: Vec<_> = places.iter().filter(|place| place.1 == partition).collect();
            inside.sort_by_key(|(.., offset)| *offset);
            let is_sorted = inside.is_sorted_by_key(|(round, ..)| *round);
            assert!(is_sorted, "{key} in partition {partition}");
        }
        // All rounds of one partition come before the next one's.
        let mut partitions: Vec<i32> = messages
            .iter()
            .map(|(_, partition, _)| *partition)
            .collect();
        partitions.dedup();
        assert!(partitions.len() <= 3, "{key} went through {partitions:?}");
    }
    let verified = http::get(site.cloud.http, "/api/v1/offsets/verify").unwrap();
    assert!(verified.1.contains("\"wrong\":[]"), "{}", verified.1);
}
