//! What the server says of itself under `$SYS`, as a real client sees it.

use serde_json::Value;
use tidegate_system_tests::node::Site;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{wait, workspace};

/// Topics that dashboards for mosquitto read, and of our own.
const TOPICS: &[&str] = &[
    "version",
    "uptime",
    "clients/connected",
    "clients/disconnected",
    "clients/maximum",
    "clients/total",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "store/messages/count",
    "publish/messages/received",
    "publish/messages/sent",
    "publish/messages/dropped",
    "bytes/received",
    "bytes/sent",
    "subscriptions/count",
    "retained messages/count",
    "load/messages/received/1min",
    "load/bytes/sent/15min",
    "load/connections/5min",
    "journal/bytes",
    "journal/messages",
    "journal/refused",
    "journal/withheld",
    "journal/gaps",
    "sessions/lost",
    "limits/clients paused",
    "limits/pauses",
    "limits/connections refused",
    "uplink/connected",
];

#[test]
fn the_server_says_how_it_is_to_who_asks() {
    let scratch = Scratch::new("sys");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.configure_mqtt("  sys_interval: 100ms\n");
    site.start();
    let mut command = workspace::python("sys_watch.py");
    command.args(["--port", &site.edge.mqtt.port().to_string()]);
    let output = command.output().expect("python can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    println!("{report}");
    let last = |name: &str| report["last"][format!("$SYS/broker/{name}")].as_str();
    for name in TOPICS {
        assert!(last(name).is_some(), "{name} is missing: {report}");
    }
    assert!(last("version").is_some_and(|version| version.starts_with("tidegate version ")));
    assert_eq!(report["codes"]["plain"], 0);
    assert_eq!(
        report["codes"]["spoof"], 0x87,
        "nobody speaks for the server"
    );
    // The one that came before the subscription is retained; later ones come live.
    let uptime = report["uptime"].as_array().expect("an array");
    assert_eq!(
        (&uptime[0][1], &uptime[1][1]),
        (&Value::from(true), &Value::from(false))
    );
    assert_eq!(
        report["seen_by_all"],
        serde_json::json!(["plant/1"]),
        "# is not $SYS"
    );
    assert_eq!(last("clients/connected"), Some("2"), "{report}");
    // One message was published to a route; nothing of $SYS is in the journal or in the cloud.
    let journalled = site.edge.wait_landed(1);
    assert_eq!(journalled, 1);
    assert_eq!(
        site.edge.metric("tidegate_stored_messages_total"),
        Some(1.0)
    );
    wait::until("both say the same", wait::SOON, || {
        let sent = site.edge.metric("tidegate_mqtt_publishes_sent_total")?;
        (sent > 27.0).then_some(())
    });
}
