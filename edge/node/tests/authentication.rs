//! Who comes in: by user name and password, in each version; that a listener lets in anonymous clients only where it says
//! so; that who guesses is slowed; and that a changed file of users counts for who is connected.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::path::Path;

use support::{Connect, metric, wait_until};
use tidegate_edge::Edge;
use tidegate_edge_protocol::mqtt::authentication::{PasswordHash, SCRAM, Verifier};
use tidegate_shared::fleet::ListenerSpec;

const JOURNAL: &str = "journal: {commit_linger: 0, bytes_max: 64MiB, free_disk_min: 0}\n";

fn by_password(name: &str, password: &str) -> String {
    let hash = PasswordHash::derive(password.as_bytes(), b"salt of 16 bytes", 64, 1).unwrap();
    format!("{name}:{hash}\n")
}

fn by_scram(name: &str, password: &str) -> String {
    let verifier = Verifier::derive(SCRAM, password, b"salt of 16 bytes", 4_096).unwrap();
    format!("{name}:{verifier}\n")
}

/// With two listeners: one for users alone, and one where others may come too.
async fn edge(folder: &Path, users: &str, acl: Option<&str>) -> Edge {
    let mut spec = support::spec(folder, JOURNAL);
    let path = folder.join("users");
    std::fs::write(&path, users).unwrap();
    spec.mqtt.users = Some(path);
    spec.mqtt.acl = acl.map(|rules| {
        let path = folder.join("acl.yaml");
        std::fs::write(&path, rules).unwrap();
        path
    });
    let open = ListenerSpec {
        anonymous: Some(true),
        ..spec.mqtt.listeners[0].clone()
    };
    spec.mqtt.listeners.push(open);
    Edge::start(spec).await.unwrap()
}

fn client<'a>(level: u8, user: Option<&'a str>, password: Option<&'a str>) -> Connect<'a> {
    Connect {
        level,
        client_id: "device",
        clean: true,
        user,
        password: password.map(str::as_bytes),
        ..Connect::default()
    }
}

fn failed(http: SocketAddr) -> u64 {
    metric(http, "tidegate_failed_authentications_total{door=\"mqtt\"}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_is_let_in_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let users = [
        "# users\n".to_owned(),
        by_password("ada", "lovelace"),
        by_scram("pump", "pencil"),
    ]
    .concat();
    let edge = edge(folder.path(), &users, None).await;
    let [closed, open] = edge.mqtt_addresses()[..] else {
        panic!()
    };
    for level in [3, 4, 5] {
        for (user, password) in [("ada", "lovelace"), ("pump", "pencil")] {
            for at in [closed, open] {
                client(level, Some(user), Some(password)).opened(at).ping();
            }
        }
        client(level, None, None).opened(open).ping();
    }
    assert_eq!(
        metric(
            edge.http_address(),
            "tidegate_mqtt_slowed_connections_total"
        ),
        0
    );
    for (level, wrong, unknown) in [(4, 4, 5), (5, 0x86, 0x87)] {
        assert_eq!(client(level, None, None).open(closed).0, unknown);
        for at in [closed, open] {
            assert_eq!(
                client(level, Some("ada"), Some("Lovelace")).open(at).0,
                wrong
            );
        }
    }
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_can_be_its_users_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = support::spec(folder.path(), JOURNAL);
    let path = folder.path().join("users");
    std::fs::write(&path, by_password("ada", "lovelace")).unwrap();
    spec.mqtt.users = Some(path);
    spec.mqtt.client_id_of_user = true;
    spec.mqtt.listeners[0].anonymous = Some(true);
    let edge = Edge::start(spec).await.unwrap();
    let at = edge.mqtt_addresses()[0];
    let answer = |level, client_id, user: Option<&str>| {
        let connect = Connect {
            client_id,
            ..client(level, user, user.map(|_| "lovelace"))
        };
        connect.open(at).0
    };
    for level in [4, 5] {
        let refused = if level == 5 { 0x85 } else { 2 };
        for (client_id, user, code) in [
            ("ada", Some("ada"), 0),
            ("ada/pump", Some("ada"), 0),
            ("", Some("ada"), 0),
            ("", None, 0),
            ("adam", Some("ada"), refused),
            ("bob", Some("ada"), refused),
            ("ada", None, refused),
        ] {
            assert_eq!(
                answer(level, client_id, user),
                code,
                "{level} {client_id:?}"
            );
        }
    }
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_wrong_in_each_way() {
    let ways = [
        (Some("ada"), Some("")),
        (Some("ada"), None),
        (Some("nobody"), Some("lovelace")),
        (Some(""), Some("lovelace")),
        (None, Some("lovelace")),
    ];
    for (user, password) in ways {
        // Each its own node: one that fails often is slowed.
        let folder = tempfile::tempdir().unwrap();
        let edge = edge(folder.path(), &by_password("ada", "lovelace"), None).await;
        for at in edge.mqtt_addresses() {
            assert_eq!(
                client(5, user, password).open(at).0,
                0x86,
                "{user:?} {password:?}"
            );
        }
        assert_eq!(failed(edge.http_address()), 2);
        edge.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_go_by_the_name_that_was_proved() {
    let folder = tempfile::tempdir().unwrap();
    let users = [
        by_password("ada", "lovelace"),
        by_password("bob", "builder"),
    ]
    .concat();
    let rules = "rules: [{allow: [publish], topics: ['of/%u/#']}, {users: [bob], allow: [publish], topics: [more]}]";
    let edge = edge(folder.path(), &users, Some(rules)).await;
    let [closed, open] = edge.mqtt_addresses()[..] else {
        panic!()
    };
    for (user, password, topic, code) in [
        (Some("ada"), Some("lovelace"), "of/ada/x", 0x10),
        (Some("ada"), Some("lovelace"), "of/bob/x", 0x87),
        (Some("ada"), Some("lovelace"), "more", 0x87),
        (Some("bob"), Some("builder"), "more", 0x10),
        (None, None, "of//x", 0x87),
    ] {
        let at = if user.is_some() { closed } else { open };
        let asked = client(5, user, password);
        let (first, got) = asked.opened(at).answer(&asked.publish(1, topic, b"x"));
        assert_eq!(first, 0x40);
        assert_eq!(got >= 0x80, code >= 0x80, "{user:?} {topic} {got:x}");
    }
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_by_the_thousand_is_slowed_and_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let edge = edge(folder.path(), &by_password("ada", "lovelace"), None).await;
    let (at, http) = (edge.mqtt_addresses()[0], edge.http_address());
    let mut here = client(4, Some("ada"), Some("lovelace")).opened(at);
    let guess = client(5, Some("ada"), Some("guess")).bytes();
    let guesses: Vec<_> = (0..1_000)
        .map(|_| support::Client::open(at, &guess))
        .collect();
    let turned_away = || metric(http, "tidegate_mqtt_turned_away_connections_total");
    wait_until("the end of most guesses", || turned_away() > 700);
    here.ping();
    assert!(metric(http, "tidegate_mqtt_slowed_connections_total") > 0);
    assert!(failed(http) < 300, "{}", failed(http));
    drop(guesses);
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_users_count_for_who_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let ada = by_password("ada", "lovelace");
    let users = [
        ada.clone(),
        by_password("bob", "builder"),
        by_password("eve", "apple"),
    ]
    .concat();
    let edge = edge(folder.path(), &users, None).await;
    let at = edge.mqtt_addresses()[0];
    let connect = |user, password, client_id| {
        let asked = Connect {
            client_id,
            ..client(5, Some(user), Some(password))
        };
        asked.open(at)
    };
    let (_, mut stays) = connect("ada", "lovelace", "1");
    let (_, mut changed) = connect("bob", "builder", "2");
    let (_, mut removed) = connect("eve", "apple", "3");
    let path = folder.path().join("users");
    std::fs::write(&path, format!("{ada}eve:apple\n")).unwrap();
    edge.reload().await;
    for client in [&mut stays, &mut changed, &mut removed] {
        client.ping();
    }
    std::fs::write(&path, [ada, by_password("bob", "another")].concat()).unwrap();
    edge.reload().await;
    for gone in [&mut changed, &mut removed] {
        assert_eq!(gone.ends(), [0xe0, 1, 0x87]);
    }
    stays.ping();
    assert_eq!(connect("bob", "builder", "2").0, 0x86);
    assert_eq!(connect("eve", "apple", "3").0, 0x86);
    connect("bob", "another", "2").1.ping();
    edge.shutdown().await;
}
