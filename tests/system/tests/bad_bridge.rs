//! What an edge of no good will can say to the hub: each is refused with its own reason, counted, and kept
//! within bounds; the honest edge beside it goes on landing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Instant;

use tidegate_system_tests::bridge::{self, Bridge, REFUSED, REFUSED_REASON_AT};
use tidegate_system_tests::cli::json;
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{EDGE_ID, STREAM, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// "Bounded memory": so much above idle at most.
const MEMORY_MAX: u64 = 64 << 20;

/// Codes and reasons of the bridge's protocol.
const PROTOCOL: u64 = 1;
const FRAME_TOO_LARGE: u64 = 2;
const FENCED: u64 = 5;
const HELLO_STORM: u64 = 10;
/// So many Hellos an edge may say at once, and each so long another one.
const HELLO_BURST_MAX: u64 = 10;
const HELLO_INTERVAL_S: u64 = 2;
const WRONG_OFFSET: u8 = 3;
const WRONG_HASH: u8 = 4;

#[test]
fn each_lie_is_refused_by_name_and_counted() {
    let scratch = Scratch::new("bad-bridge");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.cloud
        .configure(&format!("topics:\n  - name: {STREAM}\n  - name: spare\n"));
    site.start();
    honest(&site, 0, 50);
    let batch = first_batch(&site, &scratch);
    let idle = resident_bytes(site.cloud.process().id());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let attacker = |name: &str| {
            let certificates = scratch.folder(name);
            site.cloud.certificate(name, &certificates);
            certificates
        };
        forged_offset(&site, attacker("forger"), &batch).await;
        anothers_epoch(&site, attacker("borrower"), &batch).await;
        four_gib(&site, attacker("large")).await;
        replayed_hello(&site, attacker("replayer")).await;
        hello_storm(&site, &attacker("storm")).await;
    });
    let now = resident_bytes(site.cloud.process().id());
    println!(
        "resident: {} KiB before, {} KiB after",
        idle >> 10,
        now >> 10
    );
    assert!(now < idle + MEMORY_MAX, "{idle} bytes before, {now} after");
    honest(&site, 50, 100);
    let shown = json(site.cloud.http, &["edge", "show", EDGE_ID])
        .ok()
        .json();
    assert_eq!(
        (&shown["landed"], &shown["fights"]),
        (&100.into(), &0.into())
    );
}

fn honest(site: &Site, from: usize, to: usize) {
    publish(
        Publisher::Paho,
        site.edge.mqtt,
        "plant/a",
        &payloads("a", from, to),
    );
    site.edge.wait_landed(to as u64);
}

/// A batch that is right, and its number of records.
fn first_batch(site: &Site, scratch: &Scratch) -> (Vec<u8>, u64) {
    let out = scratch.path().join("records.jsonl");
    let partition = kafka::read_all(site.cloud.kafka, STREAM, &out)[0].partition;
    let set = kafka::fetch(site.cloud.kafka, STREAM, partition, 0);
    let length = u32::from_be_bytes(set[8..12].try_into().unwrap()) as usize;
    let count = u64::from(u32::from_be_bytes(set[57..61].try_into().unwrap()));
    (set[..12 + length].to_vec(), count)
}

fn counted(site: &Site, sample: &str) {
    wait::until(&format!("{sample} is counted"), wait::SOON, || {
        (site.cloud.metric(sample)? >= 1.0).then_some(())
    });
}

fn closed(site: &Site, code: &str) {
    let name = "tidegate_bridge_closed_connections_total";
    counted(site, &format!("{name}{{code=\"{code}\"}}"));
}

/// An offset that is not the next, then the next one behind a hash that is not the hub's.
async fn forged_offset(site: &Site, certificates: PathBuf, (batch, count): &(Vec<u8>, u64)) {
    let mut edge = Bridge::connect(site.cloud.bridge, &certificates, "spare").await;
    edge.offer(batch, 5, *count).await;
    assert_eq!(edge.expect(REFUSED).await[REFUSED_REASON_AT], WRONG_OFFSET);
    // The first offer has moved the hash on.
    edge.offer(batch, 0, *count).await;
    assert_eq!(edge.expect(REFUSED).await[REFUSED_REASON_AT], WRONG_HASH);
    counted(
        site,
        "tidegate_refused_offers_total{reason=\"wrong_offset\"}",
    );
    counted(site, "tidegate_refused_offers_total{reason=\"wrong_hash\"}");
}

/// Who it is says its certificate: another edge's stream cannot be named, and another edge's session does
/// not count.
async fn anothers_epoch(site: &Site, certificates: PathBuf, (batch, count): &(Vec<u8>, u64)) {
    let mut edge = Bridge::connect(site.cloud.bridge, &certificates, STREAM).await;
    let landed = |edge: &str| {
        let shown = json(site.cloud.http, &["edge", "show", edge]).ok();
        shown.json()["landed"].as_u64().unwrap()
    };
    let before = landed(EDGE_ID);
    edge.offer(batch, 0, *count).await;
    edge.expect(bridge::LANDED).await;
    assert_eq!((landed(EDGE_ID), landed("borrower")), (before, *count));
    edge.speak_under(edge.session_epoch() + 7);
    edge.offer(batch, *count, *count).await;
    assert_eq!(edge.close_code().await, FENCED);
    closed(site, "fenced");
    counted(
        site,
        "tidegate_refused_offers_total{reason=\"stale_session_epoch\"}",
    );
    assert_eq!((landed(EDGE_ID), landed("borrower")), (before, *count));
}

async fn four_gib(site: &Site, certificates: PathBuf) {
    let mut edge = Bridge::connect(site.cloud.bridge, &certificates, "spare").await;
    edge.send_raw(&[0xff; 4]).await;
    edge.send_raw(&vec![5; 1 << 20]).await;
    assert_eq!(edge.close_code().await, FRAME_TOO_LARGE);
    closed(site, "frame_too_large");
}

async fn replayed_hello(site: &Site, certificates: PathBuf) {
    let mut edge = Bridge::connect(site.cloud.bridge, &certificates, "spare").await;
    edge.hello_again().await;
    assert_eq!(edge.close_code().await, PROTOCOL);
    closed(site, "protocol");
}

/// Ten may come at once; of a hundred the others are turned away before anything is decided, but for who comes
/// when it is time for another one: on a slow machine those are more.
async fn hello_storm(site: &Site, certificates: &std::path::Path) {
    let start = Instant::now();
    let mut admitted = 0;
    for _ in 0..100 {
        match bridge::knock(site.cloud.bridge, certificates).await {
            Ok(()) => admitted += 1,
            Err(code) => assert_eq!(code, HELLO_STORM),
        }
    }
    let elapsed = start.elapsed();
    println!("{admitted} of 100 connections were admitted within {elapsed:?}");
    let admitted_max = HELLO_BURST_MAX + elapsed.as_secs() / HELLO_INTERVAL_S;
    assert!(
        (1..=admitted_max).contains(&admitted),
        "{admitted}, not 1 to {admitted_max}"
    );
    closed(site, "hello_storm");
}

fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap();
    kib.parse::<u64>().unwrap() << 10
}
