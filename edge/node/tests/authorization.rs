//! Who may do what, by the rules of `mqtt.acl`: what each version's client sees of it, and that what is changed in the
//! file counts for who is connected.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::path::Path;

use support::{Client, Connect, metric, wait_until};
use tidegate_edge::Edge;

const JOURNAL: &str = "journal: {commit_linger: 0, bytes_max: 64MiB, free_disk_min: 0}\n";

const RULES: &str = "rules:
  - {allow: [publish, subscribe], topics: ['own/%c/#']}
  - {allow: [publish, subscribe], topics: ['open/#']}
  - {deny: [publish, subscribe], topics: ['open/+/secret']}
  - {allow: [publish], broadcast: ['alarms/#'], direct: ['d/#']}
  - {allow: [subscribe], direct: ['%c/#']}
  - {client_ids: [watcher], allow: [subscribe], topics: ['#', '$SYS/#'], broadcast: ['#'], direct: ['#']}
  - {client_ids: [watcher], allow: [publish], topics: ['open/+/end']}
";

async fn edge(folder: &Path, rules: &str) -> Edge {
    let acl = folder.join("acl.yaml");
    std::fs::write(&acl, rules).unwrap();
    let mut spec = support::spec(folder, JOURNAL);
    spec.mqtt.acl = Some(acl);
    Edge::start(spec).await.unwrap()
}

fn client(level: u8, client_id: &str) -> Connect<'_> {
    Connect {
        level,
        client_id,
        clean: true,
        ..Connect::default()
    }
}

/// What `watcher` has had of it, when it has had a last message.
fn topics(watcher: &mut Client, publisher: &mut Client, end: &[u8]) -> Vec<String> {
    publisher.send(end);
    let mut topics = Vec::new();
    loop {
        let (first, body) = watcher.packet();
        assert_eq!(first >> 4, 3);
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        if topic.ends_with("/end") {
            return topics;
        }
        topics.push(topic);
    }
}

fn not_authorized(edge: SocketAddr, what: &str) -> u64 {
    metric(
        edge,
        &format!("tidegate_mqtt_not_authorized_total{{name=\"{what}\"}}"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_goes_to_nobody_and_each_version_says_so_in_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let edge = edge(folder.path(), RULES).await;
    let at = edge.mqtt_addresses()[0];
    let watching = client(4, "watcher");
    let mut watcher = watching.opened(at);
    let everywhere = watching.subscribe(&["open/#", "own/#", "$broadcast/#", "$direct/#"], 0);
    // A rule that denies overlaps one of them.
    assert_eq!(watcher.granted(&everywhere, 4), [0x80, 0, 0, 0]);
    let rest = watching.subscribe(&["open/+/end", "open/a", "other"], 0);
    assert_eq!(watcher.granted(&rest, 3), [0, 0, 0]);
    for (level, refused, no_suback) in [(4, 0, 0x80), (5, 0x87, 0x87)] {
        let device = client(level, "d");
        let mut peer = device.opened(at);
        for topic in [
            "other",
            "own/e/x",
            "open/a/secret",
            "$broadcast/x",
            "$direct/e/x",
            "$SYS/x",
        ] {
            peer.send(&device.publish(0, topic, b"no"));
            let (first, code) = peer.answer(&device.publish(1, topic, b"no"));
            assert_eq!((first, code), (0x40, refused), "{topic}");
            let (first, code) = peer.answer(&device.publish(2, topic, b"no"));
            assert_eq!((first, code), (0x50, refused), "{topic}");
            if level == 4 {
                peer.send(&[0x62, 2, 0, 7]);
                assert_eq!(peer.packet().0, 0x70);
            }
        }
        for topic in ["own/d/x", "open/a", "$broadcast/alarms/1", "$direct/d/x"] {
            let (first, code) = peer.answer(&device.publish(1, topic, b"yes"));
            assert_eq!(first, 0x40);
            assert!(code < 0x80, "{topic} {code:x}");
        }
        let end = device.publish(0, "open/a/end", b"");
        let allowed = ["own/d/x", "open/a", "$broadcast/alarms/1", "$direct/d/x"];
        assert_eq!(topics(&mut watcher, &mut peer, &end), allowed);
        let filters = [
            "own/d/#",
            "own/+/x",
            "$share/g/own/d/x",
            "$share/g/other",
            "#",
            "$direct/d/#",
            "$direct/e/#",
        ];
        let (yes, no) = (0, no_suback);
        let granted = peer.granted(&device.subscribe(&filters, 0), 7);
        assert_eq!(granted, [yes, no, yes, no, no, yes, no]);
    }
    let http = edge.http_address();
    assert_eq!(not_authorized(http, "publish"), 2 * 3 * 6);
    assert_eq!(not_authorized(http, "subscribe"), 1 + 2 * 4);
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_judged_when_its_client_connects() {
    let folder = tempfile::tempdir().unwrap();
    let edge = edge(folder.path(), RULES).await;
    let at = edge.mqtt_addresses()[0];
    for (level, refused) in [(4, 5), (5, 0x87)] {
        for (will, code) in [
            ("own/d/will", 0),
            ("own/e/will", refused),
            ("$SYS/will", refused),
        ] {
            let asked = Connect {
                will: Some(will),
                ..client(level, "d")
            };
            assert_eq!(asked.open(at).0, code, "{will}");
        }
    }
    // Who may not come does not send the client away that has the name.
    let mut here = client(4, "d").opened(at);
    let intruder = Connect {
        will: Some("other"),
        ..client(5, "d")
    };
    assert_eq!(intruder.open(at).0, 0x87);
    here.ping();
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rules_count_for_who_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let edge = edge(folder.path(), RULES).await;
    let (at, http) = (edge.mqtt_addresses()[0], edge.http_address());
    let lasting = Connect {
        clean: false,
        ..client(5, "lasting")
    };
    let mut sessions = [client(4, "live"), lasting].map(|asked| (asked, asked.opened(at)));
    for (asked, peer) in &mut sessions {
        let filters = ["open/a", "open/b", "$share/g/open/c"];
        assert_eq!(peer.granted(&asked.subscribe(&filters, 0), 3), [0, 0, 0]);
    }
    let with_will = Connect {
        will: Some("open/will"),
        ..client(5, "with-will")
    };
    let mut with_will = with_will.opened(at);
    let publishing = client(4, "publisher");
    let mut publisher = publishing.opened(at);
    // What is wrong changes nothing, and is not half taken.
    let acl = folder.path().join("acl.yaml");
    std::fs::write(
        &acl,
        "rules:\n  - {allow: [publish], topics: ['only/#']}\n  - {alow: []}\n",
    )
    .unwrap();
    edge.reload().await;
    publisher.ping();
    for (asked, peer) in &mut sessions {
        let filters = ["open/d"];
        assert_eq!(peer.granted(&asked.subscribe(&filters, 0), 1), [0]);
    }
    let narrower = "rules:
  - {allow: [publish, subscribe], topics: ['open/b', 'open/end']}
  - {client_ids: [publisher], allow: [publish], topics: ['open/#']}
";
    std::fs::write(&acl, narrower).unwrap();
    edge.reload().await;
    assert_eq!(
        with_will.ends(),
        [0xe0, 1, 0x87],
        "who could not connect as it did"
    );
    wait_until("the end of subscriptions", || {
        not_authorized(http, "subscription_ended") >= 2 * 3
    });
    for topic in ["open/a", "open/c", "open/d", "open/will", "open/b"] {
        publisher.send(&publishing.publish(0, topic, b"x"));
    }
    publisher.ping();
    for (asked, peer) in &mut sessions {
        // It stays, with what it may have.
        let (first, body) = peer.packet();
        assert_eq!((first >> 4, &body[2..8]), (3, &b"open/b"[..]), "{asked:?}");
        let filters = ["open/a", "open/end"];
        let granted = peer.granted(&asked.subscribe(&filters, 0), 2);
        assert!(
            granted[0] >= 0x80 && granted[1] == 0,
            "{asked:?} {granted:x?}"
        );
    }
    // While it is away the rules allow it less still.
    drop(sessions);
    std::fs::write(&acl, "rules: [{allow: [publish], topics: ['open/#']}]").unwrap();
    edge.reload().await;
    let mut back = lasting.opened(at);
    publisher.send(&publishing.publish(0, "open/b", b"x"));
    publisher.ping();
    back.ping();
    assert_eq!(not_authorized(http, "will"), 1);
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_are_wrong_do_not_start_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let acl = folder.path().join("acl.yaml");
    let mut spec = support::spec(folder.path(), JOURNAL);
    spec.mqtt.acl = Some(acl.clone());
    let said = format!("{:#}", Edge::start(spec.clone()).await.unwrap_err());
    assert!(said.contains("mqtt.acl"), "{said}");
    std::fs::write(&acl, "rules:\n  - {allow: [publish], topics: ['a/#/b']}\n").unwrap();
    let said = format!("{:#}", Edge::start(spec.clone()).await.unwrap_err());
    assert!(said.contains("acl.yaml: line 2"), "{said}");
    for emptied in ["", "# rules:\n", "rules: []\n"] {
        std::fs::write(&acl, emptied).unwrap();
        let said = format!("{:#}", Edge::start(spec.clone()).await.unwrap_err());
        assert!(said.contains("has no rule"), "{said}");
    }
}
