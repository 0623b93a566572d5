//! A topic that is deleted under a stream: that stream is parked, with an alarm, and no other waits. Made
//! again, it goes on, and nothing that was taken meanwhile is missing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{EDGE_ID, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// A parked stream is tried again each 30 s.
const TRIED_AGAIN: std::time::Duration = std::time::Duration::from_secs(90);

#[test]
fn a_deleted_topic_parks_its_stream_and_no_other() {
    let scratch = Scratch::new("topics");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.configure(
        "routes:\n  - {filter: 'alpha/#', stream: alpha}\n  - {filter: 'beta/#', stream: beta}\n",
    );
    site.cloud.configure("topics:\n  - name: beta\n");
    site.cloud.start();
    site.cloud.wait_ready();
    let http = site.cloud.http;
    tidegate(http, &["topic", "create", "alpha", "--partitions", "3"]).ok();
    tidegate(http, &["topic", "create", "alpha", "--partitions", "3"]).fails(1);
    site.edge.start();
    site.edge.wait_ready();
    let publish = |name: &str, from, to| {
        let topic = format!("{name}/x");
        publish(
            Publisher::Paho,
            site.edge.mqtt,
            &topic,
            &payloads(name, from, to),
        );
    };
    for name in ["alpha", "beta"] {
        publish(name, 0, 30);
        site.edge.wait_landed_of(name, 30);
    }
    tidegate(http, &["topic", "delete", "alpha"]).ok();
    for name in ["alpha", "beta"] {
        publish(name, 30, 60);
    }
    site.edge.wait_landed_of("beta", 60);
    wait::until("the edge raises the alarm", wait::SOON, || {
        (site.edge.alarms("parked") >= 1).then_some(())
    });
    assert_eq!(site.edge.landed_of("alpha"), Some(30));
    let url = format!("http://{}", site.edge.http);
    let told = tidegate(http, &["where", EDGE_ID, "alpha", "--edge-url", &url]).ok();
    assert!(
        told.out.contains("offset 59") && told.out.contains("is parked"),
        "{told:?}"
    );
    let shown = json(http, &["edge", "show", EDGE_ID]).ok().json();
    assert_eq!(shown["streams"][0]["parked"], true, "{shown}");

    tidegate(http, &["topic", "create", "alpha", "--partitions", "5"]).ok();
    wait::until("the parked stream goes on", TRIED_AGAIN, || {
        (site.edge.landed_of("alpha") == Some(60)).then_some(())
    });
    let out = scratch.path().join("alpha.jsonl");
    let records = kafka::read_all(site.cloud.kafka, "alpha", &out);
    let read: Vec<_> = records.iter().map(|record| record.value.clone()).collect();
    assert_eq!(
        read,
        payloads("alpha", 30, 60),
        "what was taken since, in order, once"
    );
}
