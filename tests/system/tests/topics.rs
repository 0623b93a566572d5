//! A topic that is deleted under a stream: that stream is parked, with an alarm, and no other waits. Made
//! again, it goes on, and nothing that was taken meanwhile is missing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::Stdio;

use tidegate_system_tests::cli::{self, json, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{Cloud, EDGE_ID, Site};
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

/// `tidegate topic` and `tidegate group`, as people type them.
#[test]
fn records_go_in_and_out_and_groups_are_put_elsewhere_by_the_command() {
    let scratch = Scratch::new("topic-records");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    cloud.start();
    cloud.wait_ready();
    let http = cloud.http;
    tidegate(http, &["topic", "create", "orders", "--partitions", "1"]).ok();
    let produce = |words: &[&str], lines: &str| {
        let mut command = cli::command(http, words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        process
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let keyed = [
        "topic",
        "produce",
        "orders",
        "--key-separator",
        ":",
        "--header",
        "unit=C",
    ];
    let said = produce(&keyed, "press-1:21.5\npress-2:22\n");
    assert_eq!(said, "2 records in topic orders\n");
    produce(&["topic", "produce", "orders"], "plain\n");
    let format = ["topic", "consume", "orders", "--format", "%o %k=%s [%h]\\n"];
    let expected = "0 press-1=21.5 [unit=C]\n1 press-2=22 [unit=C]\n2 =plain []";
    assert_eq!(tidegate(http, &format).ok().out.trim_end(), expected);
    let copied = tidegate(http, &["topic", "consume", "orders", "--format", "json"])
        .ok()
        .out;
    produce(&["topic", "produce", "orders", "--json"], &copied);
    let last = [
        "topic",
        "consume",
        "orders",
        "--partition",
        "0",
        "--offset",
        "3",
        "--count",
        "1",
    ];
    assert!(
        tidegate(http, &last)
            .ok()
            .out
            .contains("0 3 press-1 = 21.5")
    );
    tidegate(http, &["topic", "grow", "orders", "--partitions", "4"]).ok();
    tidegate(http, &["topic", "consume", "nosuch"]).fails(1);

    let reset = [
        "group",
        "reset",
        "readers",
        "--topic",
        "orders",
        "--partition",
        "0",
        "--to",
    ];
    let to = |place: &'static str| tidegate(http, &[&reset[..], &[place]].concat());
    to("offset:4").ok();
    to("nowhere").fails(2);
    let shown = json(http, &["group", "lag", "readers"]).ok().json();
    assert_eq!(
        (&shown["lag"], &shown["state"]),
        (&2.into(), &"Empty".into()),
        "{shown}"
    );
    to("beginning").ok();
    let shown = json(http, &["group", "describe", "readers"]).ok().json();
    assert_eq!(shown["offsets"][0]["committed"], 0, "{shown}");
    assert!(
        tidegate(http, &["group", "list"])
            .ok()
            .out
            .contains("readers")
    );
    tidegate(http, &["group", "delete", "readers"]).ok();
    tidegate(http, &["group", "describe", "readers"]).fails(1);
}
