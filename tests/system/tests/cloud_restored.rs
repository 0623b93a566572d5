//! A cloud whose data folder was put back to an older copy, while an edge had landed more. Nothing lands
//! until its operator begins a new incarnation; then the edge sends again what it keeps, and what it no
//! longer keeps is a declared gap.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{self, Publisher, payloads, publish};
use tidegate_system_tests::node::{EDGE_ID, STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// Keeps what has landed; the other stream lets it go.
const KEPT: &str = "kept";

fn site(scratch: &Scratch) -> Site {
    let site = Site::new(scratch.path(), scratch.path());
    site.edge.reconnect_soon();
    site.edge.configure(&format!(
        "routes:\n  - {{filter: 'kept/#', stream: {KEPT}}}\n  - {{filter: '#', stream: {STREAM}}}\n\
         streams:\n  {KEPT}:\n    retention: {{keep_after_landed: 1h}}\n"
    ));
    site.cloud
        .configure(&format!("topics:\n  - name: {STREAM}\n  - name: {KEPT}\n"));
    site
}

/// What has landed goes with the log file that it fills: 100 of these fill more than one, which has 8 MiB.
const PADDING_BYTES: usize = 160 << 10;

/// The same messages, with behind each what cannot be compressed.
fn padded(payloads: Vec<String>) -> Vec<String> {
    let mut random = Random::seeded(7);
    let mut letter = || char::from(b'A' + random.below(26) as u8);
    let pad = |payload| {
        format!(
            "{payload}:{}",
            (0..PADDING_BYTES).map(|_| letter()).collect::<String>()
        )
    };
    payloads.into_iter().map(pad).collect()
}

fn publish_both(site: &Site, from: usize, to: usize) {
    publish(
        Publisher::Paho,
        site.edge.mqtt,
        "kept/a",
        &payloads("kept", from, to),
    );
    publish(
        Publisher::Mosquitto,
        site.edge.mqtt,
        "let/go",
        &padded(payloads("let", from, to)),
    );
}

fn landed_in_cloud(site: &Site) -> u64 {
    let shown = json(site.cloud.http, &["edge", "show", EDGE_ID])
        .ok()
        .json();
    shown["landed"].as_u64().unwrap()
}

#[test]
fn a_restored_cloud_waits_for_its_operator_and_then_declares_what_is_gone() {
    let scratch = Scratch::new("cloud-restored");
    let mut site = site(&scratch);
    site.start();
    publish_both(&site, 0, 100);
    for stream in [STREAM, KEPT] {
        site.edge.wait_landed_of(stream, 100);
    }
    site.cloud.kill();
    let backup = scratch.path().join("backup");
    lines::copy_folder(&site.cloud.data, &backup);
    site.cloud.start();
    site.cloud.wait_ready();
    publish_both(&site, 100, 200);
    for stream in [STREAM, KEPT] {
        site.edge.wait_landed_of(stream, 200);
    }
    site.cloud.kill();
    lines::restore_folder(&backup, &site.cloud.data);
    site.cloud.start();
    site.cloud.wait_ready();

    nothing_lands(&site);
    let before = tidegate(site.cloud.http, &["cloud", "begin-incarnation"]).fails(2);
    assert!(before.error.contains("--yes"), "{before:?}");
    let begun = json(site.cloud.http, &["cloud", "begin-incarnation", "--yes"]).ok();
    let life = begun.json()["cluster_incarnation"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(life.starts_with("2-"), "{life}");
    for stream in [STREAM, KEPT] {
        site.edge.wait_landed_of(stream, 250);
    }
    assert_eq!(site.cloud.metric("tidegate_cloud_behind"), Some(0.0));
    kept_is_there_and_the_rest_is_declared(&site, &scratch);
    tidegate(site.cloud.http, &["offsets", "verify"]).ok();
}

fn nothing_lands(site: &Site) {
    wait::until("the cloud knows that it is behind", wait::SOON, || {
        (site.cloud.metric("tidegate_cloud_behind") == Some(1.0)).then_some(())
    });
    // Devices are served all the same: it is journalled, and stays there.
    publish_both(site, 200, 250);
    wait::until("the edge is told", wait::SOON, || {
        (site.edge.alarms("cloud_behind") >= 1).then_some(())
    });
    assert_eq!(landed_in_cloud(site), 200);
    let status = tidegate(site.cloud.http, &["cloud", "status"]).ok();
    assert!(status.out.contains("landing      NO"), "{status:?}");
    let url = format!("http://{}", site.edge.http);
    let at = tidegate(
        site.cloud.http,
        &["where", EDGE_ID, KEPT, "--edge-url", &url],
    )
    .ok();
    assert!(
        at.out.contains("offset 249") && at.out.contains("begin-incarnation"),
        "{at:?}"
    );
}

fn kept_is_there_and_the_rest_is_declared(site: &Site, scratch: &Scratch) {
    let read = |topic: &str| {
        let out = scratch.path().join(format!("{topic}.jsonl"));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for record in kafka::read_all(site.cloud.kafka, topic, &out) {
            let mut parts = record.value.splitn(3, ':');
            let payload = [parts.next(), parts.next()].map(Option::unwrap_or_default);
            *counts.entry(payload.join(":")).or_default() += 1;
        }
        counts
    };
    let kept = read(KEPT);
    for payload in payloads("kept", 0, 250) {
        assert!(kept.contains_key(&payload), "{payload} is not there");
    }
    let let_go = read(STREAM);
    let at = |offset: usize| {
        let offset = offset.to_string();
        json(
            site.cloud.http,
            &["offsets", "translate", EDGE_ID, STREAM, &offset],
        )
        .json()
    };
    let mut declared = 0_u64;
    for (number, payload) in payloads("let", 0, 250).iter().enumerate() {
        if let_go.contains_key(payload) {
            continue;
        }
        declared += 1;
        assert!((100..200).contains(&number), "{payload} is not there");
        if number % 20 == 0 {
            let said = older_or_newer(&at(number), site, number);
            assert!(
                said,
                "{payload} is neither there nor declared: {}",
                at(number)
            );
        }
    }
    println!("{declared} of 100 are a declared gap");
    assert!(
        declared > 0,
        "the edge has let nothing go: the test shows nothing"
    );
    let shown = json(site.cloud.http, &["edge", "show", EDGE_ID])
        .ok()
        .json();
    let streams = shown["streams"].as_array().unwrap().clone();
    let stream = streams.iter().find(|one| one["stream"] == STREAM).unwrap();
    let lost = &stream["forks"].as_array().unwrap()[0]["lost"];
    assert_eq!(lost.as_u64(), Some(declared), "{stream}");
}

/// The gap is declared in the incarnation that had landed it, which is the one before.
fn older_or_newer(newest: &serde_json::Value, site: &Site, number: usize) -> bool {
    let number = number.to_string();
    let words = [
        "offsets",
        "translate",
        EDGE_ID,
        STREAM,
        &number,
        "--incarnation",
        "1",
    ];
    let older = json(site.cloud.http, &words).json();
    let is_lost =
        |said: &serde_json::Value| said["status"] == "lost" && said["reason"] == "cloud_restored";
    is_lost(newest) || is_lost(&older)
}
