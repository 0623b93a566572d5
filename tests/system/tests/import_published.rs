//! `tidegate-edge import` of configurations that others have published, as they are, with their paths and ports: a real mosquitto
//! and an edge with what was made of one run one after the other, and the same client does the same to both. They are
//! not kept here: `tests/interop/build` takes them out of packages that carry them. Keys and certificates are made anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_system_tests::certificates::Certificates;
use tidegate_system_tests::house::House;
use tidegate_system_tests::imported::{self, Imported};
use tidegate_system_tests::interop::built;
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{mosquitto, skip, wait, workspace};

/// Where each is put that is made of one.
const IMPORTED: &str = "/imported";

/// Where mosquitto starts, which counts for relative paths.
const FOLDER: &str = "/mosquitto/config";

/// What a test needs, or why it cannot be had.
fn house(scratch: &Scratch) -> Result<House, String> {
    match mosquitto::missing() {
        Some(missing) => Err(missing.to_owned()),
        None => House::new(scratch),
    }
}

fn published(file: &str) -> Result<PathBuf, String> {
    built(&format!("configurations/{file}"), "import_published")
}

fn import(house: &House, folder: &str, config: &str) -> Imported {
    let mut command = house.command(folder, &workspace::binary("tidegate-edge"));
    command.args(["import", config, "--out-dir", IMPORTED]);
    Imported::by(command, house.path(IMPORTED))
}

/// What the client saw of the one and of the other is the same.
fn compare(house: &House, config: &str, imported: &Imported, ports: &[u16], plan: &Value) -> Value {
    let see = |mut broker: Process| {
        let client = house.beside(&workspace::python("same_client.py"));
        let saw = imported::saw(client, plan);
        broker.signal("TERM");
        broker.wait(wait::SOON);
        saw
    };
    let mut command = house.command(FOLDER, Path::new("mosquitto"));
    command.args(["-c", config]);
    let there = see(house.serve("mosquitto", command, ports));
    let mut command = house.command("/", &workspace::binary("tidegate-edge"));
    command.args(["--config", &format!("{IMPORTED}/edge.yaml")]);
    command.args(["--data", &format!("{IMPORTED}/data")]);
    let here = see(house.serve("tidegate-edge", command, ports));
    assert_eq!(there, here, "mosquitto is on the left");
    assert!(imported.folder.join("data").exists());
    here
}

/// Anybody comes in, and may do everything.
fn of_anybody(port: u16, doors: &Value) -> Value {
    json!({
        "port": port, "doors": doors,
        "identities": [{"name": "anybody"}, {"name": "named", "user": "ada", "password": "x"}],
        "topics": ["a/b", "c", "plant/line 1/temperature"], "writer": "anybody", "observer": "named",
        "ends": {"anybody": "a/b", "named": "a/b"},
    })
}

fn anybody_comes_in(saw: &Value) {
    let all = json!({"anybody": true, "named": true});
    for version in ["3.1.1", "5"] {
        assert_eq!(saw[version]["comes in"], all);
        assert_eq!(
            saw[version]["reads"]["named"].as_array().map(Vec::len),
            Some(3)
        );
    }
}

/// Without users, and on 1883.
fn is_the_same(house: &House, config: &str, ports: &[u16], doors: &Value) -> Value {
    let imported = import(house, FOLDER, config);
    assert_eq!(imported.code, 0, "{}", imported.said);
    let saw = compare(house, config, &imported, ports, &of_anybody(1883, doors));
    anybody_comes_in(&saw);
    saw
}

#[test]
fn debians() {
    let scratch = Scratch::new("import-debian");
    let house = match house(&scratch) {
        Ok(house) => house,
        Err(missing) => skip!("{missing}"),
    };
    let config = "/etc/mosquitto/mosquitto.conf";
    if !house.path(config).exists() {
        skip!("there is no {config}");
    }
    std::fs::create_dir_all(house.path(FOLDER)).unwrap();
    // Its unit does so before the start.
    let mut unit = house.command("/", Path::new("install"));
    unit.args(["-d", "-o", "mosquitto", "/run/mosquitto"]);
    assert!(unit.status().unwrap().success());
    is_the_same(&house, config, &[1883], &json!({}));
}

#[test]
fn mosquittos_own_sample_and_that_of_its_container() {
    for sample in ["mosquitto.conf", "mosquitto-no-auth.conf"] {
        let scratch = Scratch::new("import-own");
        let (house, file) = match (house(&scratch), published(&format!("mosquitto/{sample}"))) {
            (Ok(house), Ok(file)) => (house, file),
            (Err(missing), _) | (_, Err(missing)) => skip!("{missing}"),
        };
        let config = format!("{FOLDER}/{sample}");
        house.put(&file, &config);
        is_the_same(&house, &config, &[1883], &json!({}));
    }
}

/// Its examples' containers: Eclipse Paho's client for Go.
#[test]
fn pahos_compose_stack() {
    let scratch = Scratch::new("import-compose");
    let (house, file) = match (house(&scratch), published("paho-golang/mosquitto.conf")) {
        (Ok(house), Ok(file)) => (house, file),
        (Err(missing), _) | (_, Err(missing)) => skip!("{missing}"),
    };
    let config = format!("{FOLDER}/mosquitto.conf");
    house.put(&file, &config);
    let doors = json!({"websocket": {"transport": "websockets", "port": 8080}});
    let saw = is_the_same(&house, &config, &[1883, 8080], &doors);
    let over = &saw["5"]["over websocket"];
    assert_eq!(over["reads"]["anybody"].as_array().map(Vec::len), Some(3));
}

/// All four transports of TCP, with relative paths: a client library's, mqtt-async-client.
#[test]
fn four_transports_on_loopback() {
    let scratch = Scratch::new("import-transports");
    let file = published("mqtt-async-client/mosquitto.conf");
    let (house, file) = match (house(&scratch), file) {
        (Ok(house), Ok(file)) => (house, file),
        (Err(missing), _) | (_, Err(missing)) => skip!("{missing}"),
    };
    let config = format!("{FOLDER}/mosquitto.conf");
    house.put(&file, &config);
    let of = Certificates::new(scratch.path());
    house.put(&of.ca, &format!("{FOLDER}/certs/cacert.pem"));
    house.put(&of.certificate, &format!("{FOLDER}/certs/servercert.pem"));
    house.put(&of.key, &format!("{FOLDER}/certs/serverkey.pem"));
    let doors = json!({
        "tls": {"transport": "tcp", "port": 8883, "ca": of.ca},
        "websocket": {"transport": "websockets", "port": 9001},
        "secure websocket": {"transport": "websockets", "port": 9002, "ca": of.ca},
    });
    let saw = is_the_same(&house, &config, &[8883, 1883, 9001, 9002], &doors);
    for door in ["tls", "websocket", "secure websocket"] {
        let over = &saw["5"][format!("over {door}")];
        assert_eq!(over["reads"]["named"].as_array().map(Vec::len), Some(3));
    }
}

/// A container that is to be had ready. Its users and rules are kept by plugins, which are not carried over: nobody is let in
/// whom they would keep out. Its rules, as mosquitto itself reads them, are.
#[test]
fn plugins_keep_clients_out_and_published_rules_let_them_in() {
    let scratch = Scratch::new("import-container");
    let (house, file) = match (house(&scratch), published("container/mosquitto.conf")) {
        (Ok(house), Ok(file)) => (house, file),
        (Err(missing), _) | (_, Err(missing)) => skip!("{missing}"),
    };
    let config = "/app/etc/mosquitto.conf";
    house.put(&file, config);
    std::fs::create_dir_all(house.path("/app/etc/mosquitto.d")).unwrap();
    let imported = import(&house, "/app/etc", config);
    assert_eq!(imported.code, 1, "{}", imported.said);
    let edge = imported.edge();
    assert!(edge.contains("mqtt:\n  listeners: []\n"), "{edge}");
    for plugin in ["mosquitto-go-auth.so", "password_file.so", "acl_file.so"] {
        let is_named = |line: &&str| line.contains(plugin);
        assert!(imported.not_carried().iter().any(is_named), "{plugin}");
    }
    std::fs::remove_dir_all(house.path(IMPORTED)).unwrap();

    let rules = file.with_file_name("mosquitto-acl.txt");
    house.put(&rules, "/app/etc/mosquitto-acl.txt");
    let text = "listener 1883 0.0.0.0\nlistener 8883 0.0.0.0\nprotocol websockets\nallow_anonymous true\n\
        password_file /app/var/passwords\nacl_file /app/etc/mosquitto-acl.txt\n";
    std::fs::write(house.path("/app/etc/rules.conf"), text).unwrap();
    // Those that the container makes.
    let users = [("admin", "admin"), ("example", "example")];
    std::fs::create_dir_all(house.path("/app/var")).unwrap();
    std::fs::create_dir_all(house.path(FOLDER)).unwrap();
    std::fs::write(house.path("/app/var/passwords"), "").unwrap();
    for (name, password) in users {
        let mut command = house.command("/", Path::new("mosquitto_passwd"));
        command.args(["-b", "/app/var/passwords", name, password]);
        assert!(command.status().unwrap().success());
    }
    let imported = import(&house, "/app/etc", "/app/etc/rules.conf");
    assert_eq!(imported.code, 1, "{}", imported.said);
    imported.give_passwords(&users);
    let plan = json!({
        "port": 1883, "doors": {"websocket": {"transport": "websockets", "port": 8883}},
        "identities": [
            {"name": "anonymous"},
            {"name": "admin", "user": "admin", "password": "admin"},
            {"name": "example", "user": "example", "password": "example"},
        ],
        "topics": ["example/a", "admin/a", "other/a"], "writer": "admin", "observer": "admin",
        "ends": {"admin": "other/a", "example": "example/a"},
    });
    let saw = compare(
        &house,
        "/app/etc/rules.conf",
        &imported,
        &[1883, 8883],
        &plan,
    );
    for version in ["3.1.1", "5"] {
        let saw = &saw[version];
        assert_eq!(saw["writes"]["anonymous"], json!([]));
        let own = json!([["example/a", "of example", false]]);
        assert_eq!(saw["writes"]["example"], own);
        let read = json!([["example/a", "x", false]]);
        assert_eq!(saw["over websocket"]["reads"]["example"], read);
    }
}

/// Users, TLS with and without certificates of clients, a listener that nobody should trust, and one with shared keys: what
/// Eclipse Paho tests its client for C with.
#[test]
fn users_certificates_and_shared_keys() {
    let scratch = Scratch::new("import-users");
    let (house, file) = match (house(&scratch), published("paho-c/mosquitto.conf")) {
        (Ok(house), Ok(file)) => (house, file),
        (Err(missing), _) | (_, Err(missing)) => skip!("{missing}"),
    };
    let config = format!("{FOLDER}/test/tls-testing/mosquitto.conf");
    for name in ["mosquitto.conf", "mosquitto.pw", "mosquitto.psk"] {
        let to = format!("{FOLDER}/test/tls-testing/{name}");
        house.put(&file.with_file_name(name), &to);
    }
    let of = Certificates::new(scratch.path());
    for (file, names) in [
        (
            &of.ca,
            &["test/ssl/all-ca.crt", "test/tls-testing/keys/all-ca.crt"][..],
        ),
        (
            &of.certificate,
            &[
                "test/ssl/server.crt",
                "test/tls-testing/keys/server/server.crt",
                "test/tls-testing/keys/server/server-mitm.crt",
            ],
        ),
        (
            &of.key,
            &[
                "test/ssl/server.key",
                "test/tls-testing/keys/server/server-mitm.key",
            ],
        ),
    ] {
        for name in names {
            house.put(file, &format!("{FOLDER}/{name}"));
        }
    }
    let imported = import(&house, FOLDER, &config);
    assert_eq!(imported.code, 1, "{}", imported.said);
    let (edge, not_carried) = (imported.edge(), imported.not_carried());
    // The users, and the listener with shared keys.
    assert_eq!(not_carried.len(), 3 + 2, "{}", imported.said);
    assert!(!edge.contains(":18888\""), "{edge}");
    imported.give_passwords(&[("testuser", "testpassword")]);
    let mutual = |port: u16| json!({"transport": "tcp", "port": port, "ca": of.ca, "certificate": of.client_certificate, "key": of.client_key});
    let plan = json!({
        "port": 1883,
        "doors": {
            "another": {"transport": "tcp", "port": 18883},
            "certificates": mutual(18884),
            "none": {"transport": "tcp", "port": 18884, "ca": of.ca},
            "secure websocket": {"transport": "websockets", "port": 18885, "ca": of.ca},
            "tls": {"transport": "tcp", "port": 18886, "ca": of.ca},
            "impostor": mutual(18887),
        },
        "identities": [
            {"name": "anonymous"},
            {"name": "user", "user": "testuser", "password": "testpassword"},
            {"name": "wrong", "user": "testuser", "password": "Testpassword", "once": true},
            {"name": "stranger", "user": "nobody", "password": "testpassword", "once": true},
        ],
        "topics": ["a/b", "c"], "writer": "user", "observer": "anonymous",
        "ends": {"anonymous": "a/b", "user": "a/b"},
    });
    let ports = [1883, 18883, 18884, 18885, 18886, 18887];
    let saw = compare(&house, &config, &imported, &ports, &plan);
    let first = json!({"anonymous": true, "user": true, "wrong": false, "stranger": false});
    let both = json!({"anonymous": true, "user": true});
    let nobody = json!({"anonymous": false, "user": false});
    for version in ["3.1.1", "5"] {
        assert_eq!(saw[version]["comes in"], first);
        for (door, who) in [
            ("another", &both),
            ("certificates", &both),
            ("none", &nobody),
            ("secure websocket", &both),
            ("tls", &both),
            ("impostor", &nobody),
        ] {
            let over = &saw[version][format!("over {door}")];
            assert_eq!(over["comes in"], *who, "{door}");
        }
    }
}
