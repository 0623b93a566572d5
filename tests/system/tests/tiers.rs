//! The cloud's tiers, with whole processes: it is killed again and again while it packs, snapshots and
//! deletes, and everything that landed is consumed, once; a damaged segment is found and told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::s3::S3;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// What lands is packed in the next second; what is replaced goes as soon as snapshots allow.
const HASTY: &str = "pack: {max_age: 0}\nrestore_window: 0\n";

const KILLS: usize = 12;

const BETWEEN_KILLS: usize = 40;

fn segments(site: &Site) -> Vec<PathBuf> {
    let of_clouds = files(&site.cloud.data.join("objects/segments")).into_iter();
    of_clouds.flat_map(|folder| files(&folder)).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// How often each value is there.
fn consumed(site: &Site, scratch: &Scratch) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let out = scratch.path().join("consumed.jsonl");
    for record in kafka::read_all(site.cloud.kafka, STREAM, &out) {
        *counts.entry(record.value).or_default() += 1;
    }
    counts
}

fn each_once(expected: usize) -> BTreeMap<String, usize> {
    let all = payloads("tier", 0, expected).into_iter();
    all.map(|payload| (payload, 1)).collect()
}

fn packed(site: &Site) -> u64 {
    let described = json(site.cloud.http, &["topic", "describe", STREAM]).ok();
    let described = described.json();
    let partitions = described["partitions"].as_array().unwrap().clone();
    let of = |name: &str| {
        let counts = partitions.iter().map(|one| one[name].as_u64().unwrap());
        counts.sum::<u64>()
    };
    match of("tail_batches") {
        0 => of("segments"),
        _ => 0,
    }
}

#[track_caller]
fn wait_packed(site: &Site, within: Duration) {
    wait::until("all is packed", within, || (packed(site) > 0).then_some(()));
}

fn publish_tier(site: &Site, from: usize, to: usize) {
    let batch = payloads("tier", from, to);
    publish(Publisher::Paho, site.edge.mqtt, "tiers/a", &batch);
}

#[test]
fn killed_while_it_packs_snapshots_and_deletes_it_loses_nothing() {
    let scratch = Scratch::new("tiers");
    let mut random = Random::from_environment();
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.reconnect_soon();
    site.cloud.configure(HASTY);
    site.start();
    let mut published = 0;
    for _ in 0..KILLS {
        publish_tier(&site, published, published + BETWEEN_KILLS);
        published += BETWEEN_KILLS;
        // The housekeeping looks each second: somewhere in one and a half of its rounds.
        let until = Instant::now() + Duration::from_millis(random.below(1_500));
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        site.cloud.kill();
        if random.below(2) == 0 {
            let _ = fs::remove_dir_all(site.cloud.data.join("cache"));
        }
        site.cloud.start();
        site.cloud.wait_ready();
    }
    site.edge.wait_landed(published as u64);
    wait_packed(&site, wait::SOON);
    assert_eq!(consumed(&site, &scratch), each_once(published));
    let verified = tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
    assert!(
        verified.out.contains("all as they were written"),
        "{verified:?}"
    );
    tidegate(site.cloud.http, &["offsets", "verify"]).ok();
    wait::until("what nobody knows is deleted", wait::SOON, || {
        (segments(&site).len() as u64 == packed(&site)).then_some(())
    });
}

#[test]
fn a_flipped_byte_in_a_segment_is_found_and_told() {
    let scratch = Scratch::new("tiers-damage");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.cloud.configure("pack: {max_age: 0}\n");
    site.start();
    publish_tier(&site, 0, 100);
    site.edge.wait_landed(100);
    wait_packed(&site, wait::SOON);
    tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
    let segment = segments(&site).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let damaged = tidegate(site.cloud.http, &["topic", "verify", STREAM]).fails(1);
    let name = segment.file_name().unwrap().to_str().unwrap();
    let says_where = damaged.out.contains("offsets ") && damaged.out.contains(name);
    assert!(says_where, "{damaged:?}");
}

#[test]
fn a_kafka_client_deletes_records() {
    let scratch = Scratch::new("tiers-delete");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.start();
    publish_tier(&site, 0, 30);
    site.edge.wait_landed(30);
    let records = kafka::read_all(site.cloud.kafka, STREAM, &scratch.path().join("before"));
    let partition = records[0].partition;
    let delete = |offset: i64| kafka::delete(site.cloud.kafka, STREAM, partition, offset);
    assert_eq!(delete(12), Ok(12));
    assert_eq!(
        delete(5),
        Ok(12),
        "what begins later begins no earlier again"
    );
    let beyond = delete(31).unwrap_err();
    assert!(beyond.contains("OFFSET_OUT_OF_RANGE"), "{beyond}");
    let left = kafka::read_all(site.cloud.kafka, STREAM, &scratch.path().join("after"));
    let offsets: Vec<_> = left.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (12..30).collect::<Vec<_>>());
    site.cloud.kill();
    site.cloud.start();
    site.cloud.wait_ready();
    assert_eq!(
        kafka::delete(site.cloud.kafka, STREAM, partition, -1),
        Ok(30)
    );
    let left = kafka::read_all(site.cloud.kafka, STREAM, &scratch.path().join("nothing"));
    assert_eq!(left.len(), 0);
}

#[test]
fn with_segments_in_s3_all_is_consumed_after_a_kill_and_without_a_cache() {
    let scratch = Scratch::new("tiers-s3");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.reconnect_soon();
    site.cloud.configure(HASTY);
    let server = S3::start(&scratch);
    server.serve(&mut site.cloud, "plant");
    site.start();
    publish_tier(&site, 0, 200);
    site.edge.wait_landed(200);
    wait_packed(&site, wait::SOON);
    assert_eq!(
        segments(&site),
        Vec::<PathBuf>::new(),
        "nothing of it is here"
    );
    assert_eq!(consumed(&site, &scratch), each_once(200));
    site.cloud.kill();
    fs::remove_dir_all(site.cloud.data.join("cache")).unwrap();
    site.cloud.start();
    site.cloud.wait_ready();
    assert_eq!(consumed(&site, &scratch), each_once(200));
    tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
    // Where each came from is in the store, too.
    let sound = tidegate(site.cloud.http, &["offsets", "verify"]).ok();
    assert!(sound.out.contains("all true both ways"), "{sound:?}");

    // The store does not answer: what lands is taken and served all the same, and packed afterwards.
    server.process.signal("STOP");
    publish_tier(&site, 200, 300);
    site.edge.wait_landed(300);
    server.process.signal("CONT");
    wait_packed(&site, wait::SOON * 4);
    assert_eq!(consumed(&site, &scratch), each_once(300));
    let cost = json(site.cloud.http, &["topic", "cost"]).ok().json();
    let (total, read) = (
        &cost["stores"][0]["since_start"]["usd_total"],
        &cost["stores"][0]["since_start"]["read_bytes"],
    );
    assert!(
        total.as_f64().unwrap() > 0.0 && read.as_u64().unwrap() > 0,
        "{cost}"
    );
}
