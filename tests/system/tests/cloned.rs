//! A cloned card: two nodes with one certificate and one data folder's copy. The older session is fenced;
//! who fights again and again is put into quarantine, until an operator has stopped one of the two.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{self, Publisher, payloads, publish};
use tidegate_system_tests::mqtt::Client;
use tidegate_system_tests::node::{EDGE_ID, Edge, STREAM, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

#[test]
fn two_nodes_of_one_identity_are_held_until_one_is_stopped() {
    let scratch = Scratch::new("cloned");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.reconnect_soon();
    site.start();
    publish(
        Publisher::Paho,
        site.edge.mqtt,
        "plant/a",
        &payloads("both", 0, 50),
    );
    site.edge.wait_landed(50);
    let early = tidegate(site.cloud.http, &["edge", "release", EDGE_ID]).fails(1);
    assert!(early.error.contains("is not in quarantine"), "{early:?}");
    let mut clone = cloned(&scratch, &mut site);

    let fought = fight(&site, &clone);
    let listed = tidegate(site.cloud.http, &["edge", "list"]).ok();
    assert!(listed.out.contains("quarantine"), "{listed:?}");
    let status = tidegate(site.cloud.http, &["cloud", "status"]).ok();
    assert!(
        status.out.contains("tidegate edge release edge-1"),
        "{status:?}"
    );
    // Whether or not they have anything to say.
    are_told(&site, &clone, "quarantined");
    // What each takes in meanwhile is kept, and nothing of it lands.
    let landed = landed_of(&site);
    publish(
        Publisher::Paho,
        site.edge.mqtt,
        "plant/a",
        &payloads("held", 0, 20),
    );
    let clones = payloads("clone", 0, 20);
    publish(Publisher::Paho, clone.mqtt, "plant/a", &clones);
    assert_eq!(landed_of(&site), landed);
    let held = json(site.cloud.http, &where_newest(&site.edge)).ok();
    assert_eq!(held.json()["cloud"]["quarantined"], true);

    clone.kill();
    tidegate(site.cloud.http, &["edge", "release", EDGE_ID]).ok();
    publish(
        Publisher::Paho,
        site.edge.mqtt,
        "plant/a",
        &payloads("after", 0, 20),
    );
    site.edge.wait_landed((90 + fought) as u64);
    assert_eq!(site.cloud.metric("tidegate_quarantined_edges"), Some(0.0));
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(site.cloud.kafka, STREAM, &out);
    let read: BTreeSet<_> = records.iter().map(|record| record.value.clone()).collect();
    for (name, count) in [
        ("both", 50),
        ("original", fought),
        ("held", 20),
        ("after", 20),
    ] {
        let missing: Vec<_> = payloads(name, 0, count)
            .into_iter()
            .filter(|payload| !read.contains(payload))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

/// Two nodes to which nobody publishes anything, so that neither speaks of its own accord.
#[test]
fn nodes_that_have_nothing_to_say_are_told_that_they_are_two() {
    let scratch = Scratch::new("cloned-idle");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.reconnect_soon();
    site.start();
    let before = payloads("both", 0, 20);
    publish(Publisher::Paho, site.edge.mqtt, "plant/a", &before);
    site.edge.wait_landed(20);
    let clone = cloned(&scratch, &mut site);
    are_told(&site, &clone, "fenced");
    are_told(&site, &clone, "quarantined");
    let listed = tidegate(site.cloud.http, &["edge", "list"]).ok();
    assert!(listed.out.contains("quarantine"), "{listed:?}");
    assert_eq!(landed_of(&site), 20);
}

fn are_told(site: &Site, clone: &Edge, code: &str) {
    for (edge, what) in [(&site.edge, "original"), (clone, "clone")] {
        wait::until(&format!("the {what} is told: {code}"), wait::SOON, || {
            (edge.alarms(code) >= 1).then_some(())
        });
    }
}

/// Devices publish to both, so that both have something to say; ends when the ledger has had enough.
/// Returns how many the original took.
fn fight(site: &Site, clone: &Edge) -> usize {
    let mut original = Client::connect(site.edge.mqtt, "device").unwrap();
    let mut other = Client::connect(clone.mqtt, "device").unwrap();
    let mut count = 0;
    wait::until("the edge is in quarantine", wait::SOON * 2, || {
        let id = count as u16 + 1;
        let payload = format!("original:{count}");
        original.publish(id, "plant/a", payload.as_bytes()).unwrap();
        other.publish(id, "plant/a", b"clone").unwrap();
        count += 1;
        (site.cloud.metric("tidegate_quarantined_edges") == Some(1.0)).then_some(())
    });
    let fenced = "tidegate_bridge_closed_connections_total{code=\"fenced\"}";
    assert!(
        site.cloud.metric(fenced) >= Some(1.0),
        "the older of two is fenced"
    );
    count
}

/// The other node, with a copy of the first one's folder; both run when it returns.
fn cloned(scratch: &Scratch, site: &mut Site) -> Edge {
    site.edge.kill();
    let folder = scratch.folder("clone");
    let certificates = scratch.path().join("certificates");
    let mut clone = Edge::new(&folder, &folder, &certificates, site.cloud.bridge);
    clone.reconnect_soon();
    lines::copy_folder(&site.edge.data, &clone.data);
    site.edge.start();
    clone.start();
    site.edge.wait_ready();
    clone.wait_ready();
    clone
}

fn landed_of(site: &Site) -> u64 {
    let shown = json(site.cloud.http, &["edge", "show", EDGE_ID]).ok();
    shown.json()["streams"][0]["landed"].as_u64().unwrap()
}

fn where_newest(edge: &Edge) -> [&'static str; 4] {
    let url: &'static str = Box::leak(format!("http://{}", edge.http).into_boxed_str());
    ["where", EDGE_ID, "--edge-url", url]
}
