//! What has not landed only the edge knows: asked without a cloud, it finds the message in its journal and
//! says for what it waits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{EDGE_ID, STREAM, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{http, wait};

#[test]
fn an_edge_without_a_link_says_where_its_messages_are() {
    let scratch = Scratch::new("where-at-edge");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.start();
    site.edge.wait_ready();
    let send = |topic: &str, from, to| {
        publish(
            Publisher::Paho,
            site.edge.mqtt,
            topic,
            &payloads("a", from, to),
        );
    };
    send("plant/a", 0, 10);
    send("plant/b", 0, 5);
    let url = format!("http://{}", site.edge.http);
    let ask = |more: &[&str]| {
        let mut words = vec!["where", EDGE_ID, "--edge-url", &url];
        words.extend(more);
        json(site.cloud.http, &words)
    };
    let found = |more: &[&str]| ask(more).ok().json()["edge"]["found"].clone();
    assert_eq!(found(&[])["edge_offset"], 14);
    let of_a = found(&["--topic", "plant/a"]);
    assert_eq!(
        (&of_a["edge_offset"], &of_a["mqtt_topic"]),
        (&9.into(), &"plant/a".into())
    );
    assert_eq!(found(&["--topic", "+/b"])["edge_offset"], 14);
    assert_eq!(found(&[STREAM, "--offset", "3"])["mqtt_topic"], "plant/a");
    let nothing = ask(&["--topic", "plant/c"]).fails(1).json();
    assert_eq!(nothing["edge"]["searched_all"], true, "{nothing}");
    ask(&[STREAM, "--offset", "15"]).fails(1);
    at_a_time(&site, of_a["time_ms"].as_i64().unwrap());

    wait::until("an attempt to connect has failed", wait::SOON, || {
        let failures = site.edge.metric("tidegate_uplink_connect_failures_total");
        (failures >= Some(1.0)).then_some(())
    });
    let said = tidegate(site.cloud.http, &["where", EDGE_ID, "--edge-url", &url])
        .ok()
        .out;
    assert!(
        said.contains("waiting     no link since the edge's start: "),
        "{said}"
    );
    assert!(
        said.contains("cloud       not asked: no cloud answers"),
        "{said}"
    );
    let other = tidegate(site.cloud.http, &["where", "other", "--edge-url", &url]).fails(1);
    assert!(
        other.error.contains("is edge edge-1, not other"),
        "{other:?}"
    );
}

/// To the millisecond: the last of the first ten, and before it nothing that is later.
fn at_a_time(site: &Site, ms: i64) {
    let at = |ms: i64| {
        let path = format!("/api/v1/where?at_ms={ms}");
        let (status, body) = http::get(site.edge.http, &path).unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["found"].clone()
    };
    let then = at(ms);
    assert!(then["edge_offset"].as_u64() >= Some(9), "{then}");
    assert!(then["time_ms"].as_i64() <= Some(ms), "{then}");
    let before = at(ms - 1);
    assert!(
        before.is_null() || before["time_ms"].as_i64() < Some(ms),
        "{before}"
    );
    assert!(at(1).is_null());
}
