//! `tidegate-edge import`: a real mosquitto and an edge with what was made of its configuration, one after the other at the
//! same ports, and the same client does the same to both. These configurations are made here; those that others have
//! published: `import_published.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tidegate_system_tests::certificates::Certificates;
use tidegate_system_tests::imported::{self, Imported};
use tidegate_system_tests::mosquitto::{self, Mosquitto};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{http, ports, skip, wait, workspace};

/// Debian's package has them here.
const EXAMPLES: &str = "/usr/share/doc/mosquitto/examples";

fn import(config: &Path) -> Imported {
    let folder = config.with_extension("imported");
    let mut command = Command::new(workspace::binary("tidegate-edge"));
    command.arg("import").arg(config);
    command.arg("--out-dir").arg(&folder);
    Imported::by(command, folder)
}

/// The edge, ready.
fn start(imported: &Imported) -> (Process, SocketAddr) {
    let http = ports::free();
    let config = imported.folder.join("run.yaml");
    let text = format!("http: {{address: '{http}'}}\n{}", imported.edge());
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(workspace::binary("tidegate-edge"));
    command.arg("--config").arg(&config);
    command.arg("--data").arg(imported.folder.join("data"));
    let mut edge = Process::start("tidegate-edge", command, &imported.folder.join("edge.log"));
    wait::until("the edge is healthy", wait::SOON, || {
        assert_eq!(edge.exited(), None, "{}", edge.log());
        matches!(http::get(http, "/healthz"), Some((200, _))).then_some(())
    });
    (edge, http)
}

/// What the client saw.
fn saw(plan: &Value) -> Value {
    imported::saw(workspace::python("same_client.py"), plan)
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// mosquitto's own tool makes it.
fn password_file(folder: &Path, users: &[(&str, &str)]) -> PathBuf {
    let path = write(folder, "passwd", "");
    for (name, password) in users {
        let mut command = Command::new("mosquitto_passwd");
        let status = command.arg("-b").arg(&path).args([name, password]).status();
        assert!(status.unwrap().success());
    }
    path
}

fn store(folder: &Path) -> String {
    let store = folder.join("store");
    std::fs::create_dir_all(&store).unwrap();
    format!(
        "user root\npersistence true\npersistence_location {}/\n",
        store.display()
    )
}

/// Both see the same, and it is what is expected where that is said.
fn compare(plan: &Value, mut mosquitto: Mosquitto, imported: &Imported) -> Value {
    mosquitto.start();
    mosquitto.wait_ready();
    let there = saw(plan);
    mosquitto.stop();
    let (mut edge, _) = start(imported);
    let here = saw(plan);
    edge.signal("TERM");
    assert!(edge.wait(wait::SOON).success());
    assert_eq!(there, here, "mosquitto is on the left");
    here
}

fn came_in<'a>(saw: &'a Value, name: &str) -> &'a Value {
    &saw["5"]["comes in"][name]
}

#[test]
fn mosquittos_example_with_its_rules_and_users() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    let Ok(text) = std::fs::read_to_string(format!("{EXAMPLES}/mosquitto.conf")) else {
        skip!("there is no {EXAMPLES}/mosquitto.conf");
    };
    let scratch = Scratch::new("import-example");
    let address = ports::free();
    // The example is all comments: these are switched on as it says.
    let text = format!(
        "{text}\nlistener {} 127.0.0.1\nallow_anonymous true\npassword_file {EXAMPLES}/pwfile.example\nacl_file {EXAMPLES}/aclfile.example\n{}",
        address.port(),
        store(scratch.path())
    );
    let config = write(scratch.path(), "mosquitto.conf", &text);
    let imported = import(&config);
    assert_eq!(imported.code, 1, "{}", imported.said);
    for named in [
        "user roger: NOT",
        "user sub_client: NOT",
        "pattern write $SYS/broker/connection/%c/state: NOT",
    ] {
        assert!(imported.said.contains(named), "{named}: {}", imported.said);
    }
    imported.give_passwords(&[("roger", "password"), ("sub_client", "password")]);
    let plan = json!({
        "port": address.port(),
        "identities": [
            {"name": "anonymous"},
            {"name": "roger", "user": "roger", "password": "password"},
            {"name": "sub_client", "user": "sub_client", "password": "password"},
            {"name": "wrong", "user": "roger", "password": "passwort"},
            {"name": "stranger", "user": "nobody", "password": "password"},
        ],
        "topics": ["foo/bar", "foo/baz"], "writer": "roger", "observer": "roger",
        "ends": {"roger": "foo/bar"},
    });
    let saw = compare(&plan, Mosquitto::of(&config, address), &imported);
    let came = [
        ("anonymous", true),
        ("roger", true),
        ("sub_client", true),
        ("wrong", false),
        ("stranger", false),
    ];
    for (name, is_in) in came {
        assert_eq!(*came_in(&saw, name), json!(is_in), "{name}");
    }
    assert_eq!(saw["5"]["writes"]["anonymous"], json!([]));
    assert_eq!(
        saw["5"]["writes"]["roger"],
        json!([["foo/bar", "of roger", false]])
    );
}

#[test]
fn in_the_shape_of_home_assistants_add_on() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    let scratch = Scratch::new("import-home");
    let (plain, websocket) = (ports::free(), ports::free());
    let users = [
        ("homeassistant", "one"),
        ("addons", "two"),
        ("sensor", "three"),
    ];
    let passwords = password_file(scratch.path(), &users);
    let acl = "user homeassistant\ntopic readwrite #\n\nuser addons\ntopic readwrite #\n\n\
               user sensor\ntopic write home/sensor/state\ntopic read home/sensor/set\n\npattern readwrite devices/%u/#\n";
    let acl = write(scratch.path(), "acl", acl);
    let text = format!(
        "{}log_dest stdout\nlog_type error\nlog_type warning\nlog_type notice\nlog_type information\nmax_queued_messages 8192\n\
         allow_anonymous false\npassword_file {}\nacl_file {}\nmax_inflight_messages 20\n\n\
         listener {} 0.0.0.0\nprotocol mqtt\n\nlistener {} 0.0.0.0\nprotocol websockets\n",
        store(scratch.path()),
        passwords.display(),
        acl.display(),
        plain.port(),
        websocket.port()
    );
    let config = write(scratch.path(), "mosquitto.conf", &text);
    let imported = import(&config);
    // The users alone.
    assert_eq!(imported.code, 1, "{}", imported.said);
    assert_eq!(imported.not_carried().len(), 3, "{}", imported.said);
    imported.give_passwords(&users);
    let identities = users
        .iter()
        .map(|(name, password)| json!({"name": name, "user": name, "password": password}));
    let mut identities: Vec<_> = identities.collect();
    identities.push(json!({"name": "anonymous"}));
    identities.push(json!({"name": "wrong", "user": "sensor", "password": "four"}));
    let plan = json!({
        "port": plain.port(), "doors": {"websocket": {"transport": "websockets", "port": websocket.port()}},
        "identities": identities,
        "topics": ["home/sensor/state", "home/sensor/set", "home/light", "devices/sensor/a", "devices/other/a"],
        "writer": "homeassistant", "observer": "addons",
        "ends": {"homeassistant": "home/light", "addons": "home/light", "sensor": "home/sensor/set"},
    });
    let saw = compare(&plan, Mosquitto::of(&config, plain), &imported);
    assert_eq!(*came_in(&saw, "anonymous"), json!(false));
    let written = json!([
        ["home/sensor/state", "of sensor", false],
        ["devices/sensor/a", "of sensor", false]
    ]);
    assert_eq!(saw["3.1.1"]["writes"]["sensor"], written);
    let read = json!([
        ["home/sensor/set", "x", false],
        ["devices/sensor/a", "x", false]
    ]);
    assert_eq!(saw["5"]["over websocket"]["reads"]["sensor"], read);
}

#[test]
fn in_the_shape_of_a_container_for_zigbee2mqtt() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    let scratch = Scratch::new("import-container");
    let (plain, websocket) = (ports::free(), ports::free());
    let text = format!(
        "{}log_dest stdout\nlisten_placeholder\nlistener {}\n\nlistener {}\nprotocol websockets\nallow_anonymous true\n",
        store(scratch.path()),
        plain.port(),
        websocket.port()
    );
    let text = text.replace(
        "listen_placeholder\n",
        "autosave_interval 300\nmax_keepalive 600\nset_tcp_nodelay true\n",
    );
    let config = write(scratch.path(), "mosquitto.conf", &text);
    let imported = import(&config);
    assert_eq!(imported.code, 0, "{}", imported.said);
    assert!(
        imported.edge().contains("insecure: true"),
        "{}",
        imported.edge()
    );
    let plan = json!({
        "port": plain.port(), "doors": {"websocket": {"transport": "websockets", "port": websocket.port()}},
        "identities": [{"name": "anybody"}, {"name": "named", "user": "zigbee", "password": "x"}],
        "topics": ["zigbee2mqtt/bridge/state", "zigbee2mqtt/lamp/set", "homeassistant/light/lamp/config"],
        "writer": "named", "observer": "anybody",
        "ends": {"anybody": "zigbee2mqtt/lamp/set", "named": "zigbee2mqtt/lamp/set"},
    });
    let saw = compare(&plan, Mosquitto::of(&config, plain), &imported);
    assert_eq!(saw["5"]["reads"]["anybody"].as_array().unwrap().len(), 3);
}

#[test]
fn in_the_shape_of_a_bridge_to_a_broker_in_a_cloud() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    let scratch = Scratch::new("import-bridge");
    let certificates = Certificates::new(scratch.path());
    let passwords = password_file(&scratch.folder("cloud"), &[("site7", "secret word")]);
    let keys = format!(
        "password_file {}\ncafile {}\ncertfile {}\nkeyfile {}\n",
        passwords.display(),
        certificates.ca.display(),
        certificates.certificate.display(),
        certificates.key.display()
    );
    let mut cloud = Mosquitto::new(&scratch.folder("cloud"), &keys);
    cloud.start();
    cloud.wait_ready();
    let address = ports::free();
    let text = format!(
        "{}listener {} 127.0.0.1\nallow_anonymous true\n\nconnection cloud\naddress localhost:{}\nbridge_cafile {}\n\
         remote_clientid site7-gateway\nremote_username site7\nremote_password secret word\ntry_private false\nnotifications false\n\
         cleansession false\nbridge_protocol_version mqttv50\nrestart_timeout 1 5\n\
         topic # in 1 from-cloud/ sites/7/commands/\ntopic telemetry/# out 1 \"\" sites/7/\n",
        store(scratch.path()),
        address.port(),
        cloud.address.port(),
        certificates.ca.display()
    );
    let config = write(scratch.path(), "mosquitto.conf", &text);
    let imported = import(&config);
    assert_eq!(imported.code, 1, "{}", imported.said);
    assert_eq!(imported.not_carried().len(), 1, "{}", imported.said);
    assert!(
        imported.said.contains("topic telemetry/# out 1"),
        "{}",
        imported.said
    );
    assert!(!imported.said.contains("secret word") && !imported.edge().contains("secret word"));
    let plan = json!({
        "port": address.port(), "identities": [{"name": "anybody"}], "topics": ["a", "b/c"],
        "writer": "anybody", "observer": "anybody", "ends": {"anybody": "a"},
    });
    compare(&plan, Mosquitto::of(&config, address), &imported);
    // And what the bridge is for: it waits there in the gateway's session while the edge is away.
    let status = Command::new("mosquitto_pub")
        .args(["-h", "localhost", "-p", &cloud.address.port().to_string()])
        .args(["-u", "site7", "-P", "secret word", "--cafile"])
        .arg(&certificates.ca)
        .args([
            "-q",
            "1",
            "-r",
            "-t",
            "sites/7/commands/pump/1",
            "-m",
            "off",
        ])
        .status();
    assert!(status.unwrap().success());
    let (mut edge, _) = start(&imported);
    let output = Command::new("mosquitto_sub")
        .args([
            "-p",
            &address.port().to_string(),
            "-C",
            "1",
            "-W",
            "20",
            "-v",
            "-t",
            "from-cloud/#",
        ])
        .output();
    let seen = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(seen, "from-cloud/pump/1 off\n", "{}", edge.log());
    edge.kill();
}
