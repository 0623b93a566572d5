//! `wal: object`: the log, its snapshots and the CA are in the object store, and no disk of the cloud's holds anything.
//! It is killed and loses its data folder again and again; the store fails in every way while messages land; another
//! cloud takes the log over while the first one runs. All that landed is consumed, once, in its order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{Cloud, STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::s3::S3;
use tidegate_system_tests::s3_relay::{BY_CHANCE, Fault};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// What lands is packed in the next second; what is replaced goes as soon as snapshots allow.
const HASTY: &str = "wal: object\nwal_linger: 20ms\npack: {max_age: 0}\nrestore_window: 1s\n";

/// As long as all of this is there, there is nothing on a disk that is needed.
const ON_DISK: [&str; 4] = ["cache", "tls", "lock", "admin-token"];

const KAFKA_STORAGE_ERROR: i16 = 56;

const KILLS: usize = 8;
const BETWEEN_KILLS: usize = 40;

/// How often each of what goes wrong by chance is to be seen at least.
const HITS_MIN: u32 = 3;
const ROUNDS_MAX: usize = 60;

fn site(scratch: &Scratch, server: &S3) -> Site {
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.reconnect_soon();
    site.cloud.configure(HASTY);
    server.serve(&mut site.cloud, "plant");
    site
}

fn publish_lines(site: &Site, from: usize, to: usize) {
    let batch = payloads("line", from, to);
    publish(Publisher::Paho, site.edge.mqtt, "lines/a", &batch);
}

/// Each message is there once, in its order, and no offset is missing.
#[track_caller]
fn check(site: &Site, scratch: &Scratch, published: usize) {
    let records = kafka::read_all(site.cloud.kafka, STREAM, &scratch.path().join("consumed"));
    let offsets = records.iter().map(|record| record.offset);
    assert!(offsets.eq(0..published as i64), "{} records", records.len());
    let values = records.into_iter().map(|record| record.value);
    assert!(
        values.eq(payloads("line", 0, published)),
        "not in their order"
    );
}

fn described(cloud: &Cloud, what: &str) -> u64 {
    let described = json(cloud.http, &["topic", "describe", STREAM]).ok().json();
    let partitions = described["partitions"].as_array().unwrap().iter();
    partitions.map(|one| one[what].as_u64().unwrap()).sum()
}

#[track_caller]
fn wait_packed(cloud: &Cloud) {
    wait::until("all is packed", wait::SOON * 2, || {
        (described(cloud, "tail_batches") == 0).then_some(())
    });
}

#[test]
fn it_loses_its_disk_with_each_kill_and_nothing_else() {
    let scratch = Scratch::new("wal-object");
    let server = S3::start(&scratch);
    let mut random = Random::from_environment();
    let mut site = site(&scratch, &server);
    site.start();
    let mut published = 0;
    for _ in 0..KILLS {
        publish_lines(&site, published, published + BETWEEN_KILLS);
        published += BETWEEN_KILLS;
        // Somewhere in one and a half rounds of its housekeeping.
        let until = Instant::now() + Duration::from_millis(random.below(1_500));
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        site.cloud.kill();
        let here = fs::read_dir(&site.cloud.data).unwrap();
        let here: BTreeSet<String> = here
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let other: Vec<_> = here
            .iter()
            .filter(|name| !ON_DISK.contains(&&***name))
            .collect();
        assert!(other.is_empty(), "{other:?}");
        fs::remove_dir_all(&site.cloud.data).unwrap();
        site.cloud.start();
        site.cloud.wait_ready();
    }
    site.edge.wait_landed(published as u64);
    check(&site, &scratch, published);
    wait_packed(&site.cloud);
    check(&site, &scratch, published);
    tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
    tidegate(site.cloud.http, &["offsets", "verify"]).ok();
    wait::until("what nobody needs is deleted", wait::SOON * 4, || {
        let is_known = server.count("plant/segments/") as u64 == described(&site.cloud, "segments");
        // The last snapshots need what is behind them, and each start has left its fence.
        let few = server.count("plant/log/") < KILLS + 1 + 20;
        (is_known && few).then_some(())
    });
}

#[test]
fn a_store_that_fails_holds_up_what_lands_and_loses_nothing() {
    let scratch = Scratch::new("wal-object-faults");
    let mut server = S3::start_real(&scratch);
    let relay = server.relay();
    let mut random = Random::from_environment();
    let mut site = site(&scratch, &server);
    site.start();
    relay.fail_every_second(move |bound| random.below(bound));
    let is_seen = |fault: &Fault| {
        let fault = format!("{fault:?}");
        relay.hits(|on, by| on == "PUT" && by == fault) >= HITS_MIN
    };
    let (mut published, mut rounds) = (0, 0);
    while !BY_CHANCE.iter().all(is_seen) {
        rounds += 1;
        assert!(rounds <= ROUNDS_MAX, "{:?}", relay.histogram());
        publish_lines(&site, published, published + 20);
        published += 20;
        site.edge.wait_landed(published as u64);
        if rounds % 5 == 0 {
            site.cloud.kill();
            site.cloud.start();
            site.cloud.wait_ready();
        }
    }
    relay.heal();
    check(&site, &scratch, published);

    // Away for longer than the store's retries: nothing lands, nobody is told that it did, and nothing breaks.
    let landed = site.cloud.metric("tidegate_landed_records_total");
    relay.fail("P", "", Fault::Answer(503), u32::MAX);
    publish_lines(&site, published, published + 50);
    published += 50;
    let waits = "the log waits for its object store";
    site.cloud.process().wait_for_log(waits, wait::SOON * 8);
    assert_eq!(site.cloud.metric("tidegate_landed_records_total"), landed);
    relay.heal();
    site.edge.wait_landed(published as u64);
    check(&site, &scratch, published);
    println!("{rounds} rounds, {published} messages");
    for ((operation, fault), count) in relay.histogram() {
        println!("{count:6} {operation:13} {fault}");
    }
}

#[test]
fn who_takes_the_log_over_has_all_and_the_other_one_ends() {
    let scratch = Scratch::new("wal-object-two");
    let server = S3::start(&scratch);
    let mut site = site(&scratch, &server);
    site.start();
    publish_lines(&site, 0, 30);
    site.edge.wait_landed(30);
    let elsewhere = scratch.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mut other = Cloud::new(&elsewhere, &elsewhere);
    other.configure(HASTY);
    server.serve(&mut other, "plant");
    other.start();
    other.wait_ready();
    let out = scratch.path().join("from-the-other");
    assert_eq!(kafka::read_all(other.kafka, STREAM, &out).len(), 30);
    // The first one does not know it yet: what an edge offers it now, it cannot take.
    publish_lines(&site, 30, 40);
    let ended = site.cloud.process().wait(wait::SOON);
    assert!(!ended.success());
    site.cloud
        .process()
        .wait_for_log("another cloud has taken over the log", wait::SOON);
    other.kill();
    site.cloud.start();
    site.cloud.wait_ready();
    site.edge.wait_landed(40);
    check(&site, &scratch, 40);
}

#[test]
fn a_flipped_byte_in_the_store_is_found_with_both_wals() {
    for wal in ["local", "object"] {
        let scratch = Scratch::new(&format!("wal-{wal}-damage"));
        let server = S3::start(&scratch);
        let mut site = site(&scratch, &server);
        site.cloud
            .set_variable("TIDEGATE_CLOUD_WAL", wal.to_owned());
        site.start();
        publish_lines(&site, 0, 100);
        site.edge.wait_landed(100);
        wait_packed(&site.cloud);
        tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
        let records = kafka::read_all(site.cloud.kafka, STREAM, &scratch.path().join("whole"));
        let partition = records[0].partition;
        let key = server.damage_first("plant/segments/");
        // Nothing of it is at hand.
        site.cloud.kill();
        let _ = fs::remove_dir_all(site.cloud.data.join("cache"));
        site.cloud.start();
        site.cloud.wait_ready();
        let found = tidegate(site.cloud.http, &["topic", "verify", STREAM]).fails(1);
        let name = key.rsplit('/').next().unwrap();
        let says_where = found.out.contains("offsets ") && found.out.contains(name);
        assert!(says_where, "{wal}: {found:?}");
        let answered = kafka::try_fetch(site.cloud.kafka, STREAM, partition, 0);
        assert_eq!(answered, Err(KAFKA_STORAGE_ERROR), "{wal}");
    }
}

#[test]
fn another_wal_than_before_is_refused() {
    let scratch = Scratch::new("wal-object-changed");
    let server = S3::start(&scratch);
    let mut site = site(&scratch, &server);
    site.start();
    publish_lines(&site, 0, 5);
    site.edge.wait_landed(5);
    site.cloud.kill();
    let refused = |cloud: &Cloud, wal: &str| {
        let mut command = cloud.command();
        let output = command.args(["--wal", wal]).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&site.cloud, "local");
    assert!(said.contains("set wal to object"), "{said}");
    let said = refused(&site.cloud, "tape");
    assert!(said.contains("local and object are possible"), "{said}");
    fs::create_dir(site.cloud.data.join("log")).unwrap();
    fs::write(site.cloud.data.join("log/00000000000000000001.log"), b"").unwrap();
    let said = refused(&site.cloud, "object");
    assert!(said.contains("set wal to local"), "{said}");
}
