//! `tidegate up`, and how all binaries refuse what can't work: one clear line and a non-zero exit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tidegate_system_tests::node::Cloud;
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{http, kafka, mqtt, ports, skip, wait, workspace};

/// Where one `up` listens.
#[derive(Clone, Copy)]
struct Addresses {
    mqtt: SocketAddr,
    kafka: SocketAddr,
    bridge: SocketAddr,
    http: SocketAddr,
    edge_http: SocketAddr,
}

impl Addresses {
    fn free() -> Self {
        let [mqtt, kafka, bridge, http, edge_http] = [(); 5].map(|()| ports::free());
        Self {
            mqtt,
            kafka,
            bridge,
            http,
            edge_http,
        }
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(workspace::binary("tidegate"));
        command.current_dir(folder).arg("up");
        let flags = [
            ("--mqtt", self.mqtt),
            ("--kafka", self.kafka),
            ("--bridge", self.bridge),
            ("--http", self.http),
            ("--edge-http", self.edge_http),
        ];
        for (flag, address) in flags {
            command.args([flag, &address.to_string()]);
        }
        command
    }

    fn start(&self, folder: &Path, log: &Path) -> Process {
        let process = Process::start("tidegate up", self.command(folder), log);
        for address in [self.http, self.edge_http] {
            wait::until("up is healthy", wait::SOON, || {
                matches!(http::get(address, "/healthz"), Some((200, _))).then_some(())
            });
        }
        process
    }
}

/// The line to paste that begins with a word.
fn line_to_paste(process: &Process, word: &str) -> String {
    wait::until(&format!("a {word} line is printed"), wait::SOON, || {
        let log = process.log();
        let line = log
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(word))?;
        Some(line.to_owned())
    })
}

fn shell(line: &str) -> Output {
    Command::new("timeout")
        .args(["30", "sh", "-c", line])
        .output()
        .unwrap()
}

#[track_caller]
fn interrupted(mut process: Process) {
    process.signal("INT");
    let status = process.wait(wait::SOON);
    assert_eq!(
        status.code(),
        Some(0),
        "Ctrl-C ends it with {status}:\n{}",
        process.log()
    );
}

#[test]
fn it_runs_stops_and_goes_on() {
    let scratch = Scratch::new("up");
    let log = scratch.path().join("up.log");
    let addresses = Addresses::free();
    let up = addresses.start(scratch.path(), &log);
    for address in [
        addresses.mqtt,
        addresses.kafka,
        addresses.bridge,
        addresses.http,
        addresses.edge_http,
    ] {
        up.wait_for_log(&address.to_string(), wait::SOON);
    }
    publish(addresses, "before");
    wait_landed(addresses, 1.0);
    interrupted(up);
    assert_keys_are_private(&scratch.path().join("tidegate-data"));

    let up = addresses.start(scratch.path(), &log);
    publish(addresses, "after");
    wait_landed(addresses, 2.0);
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(addresses.kafka, "telemetry", &out);
    let read: Vec<_> = records
        .iter()
        .map(|record| (record.offset, &*record.value))
        .collect();
    assert_eq!(read, [(0, "before"), (1, "after")]);
    assert_eq!(records[0].partition, records[1].partition);
    assert_eq!(records[0].key.as_deref(), Some("plant/up"));
    assert_eq!(
        records[0].headers,
        [("mqtt.topic".to_owned(), "plant/up".to_owned())]
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let age_ms = now.as_millis() as i64 - records[0].timestamp_ms;
    assert!(
        (0..120_000).contains(&age_ms),
        "the timestamp is the arrival at the edge: {age_ms}"
    );
    interrupted(up);
}

fn publish(addresses: Addresses, payload: &str) {
    let mut client = mqtt::Client::connect(addresses.mqtt, "up").unwrap();
    client.publish(1, "plant/up", payload.as_bytes()).unwrap();
}

fn wait_landed(addresses: Addresses, count: f64) {
    let sample = "tidegate_uplink_stream_landed_offset{stream=\"telemetry\"}";
    wait::until("it has landed", wait::SOON, || {
        (http::metric(addresses.edge_http, sample)? >= count).then_some(())
    });
}

#[test]
fn its_lines_to_paste_work() {
    for tool in ["mosquitto_pub", "kcat"] {
        if !workspace::has_tool(tool) {
            skip!("{tool} is missing (apt-get install mosquitto-clients kcat)");
        }
    }
    let scratch = Scratch::new("up-paste");
    let addresses = Addresses::free();
    let up = addresses.start(scratch.path(), &scratch.path().join("up.log"));
    let published = shell(&line_to_paste(&up, "mosquitto_pub"));
    assert!(published.status.success(), "{published:?}");
    wait_landed(addresses, 1.0);
    // -e: it ends at the partitions' ends.
    let consumed = shell(&format!("{} -e", line_to_paste(&up, "kcat")));
    let text = String::from_utf8_lossy(&consumed.stdout);
    assert!(consumed.status.success(), "{consumed:?}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("plant/"), "the key is the MQTT topic: {text}");
    interrupted(up);
}

#[test]
fn the_demo_brings_real_readings() {
    let scratch = Scratch::new("up-demo");
    let addresses = Addresses::free();
    let mut command = addresses.command(scratch.path());
    command.arg("--demo");
    let up = Process::start(
        "tidegate up --demo",
        command,
        &scratch.path().join("up.log"),
    );
    wait_landed(addresses, 3.0);
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(addresses.kafka, "telemetry", &out);
    for record in &records {
        let topic = record.key.clone().unwrap();
        assert!(
            record.headers.contains(&("mqtt.topic".to_owned(), topic)),
            "{record:?}"
        );
        assert!(!record.value.is_empty(), "{record:?}");
    }
    interrupted(up);
}

fn assert_keys_are_private(folder: &Path) {
    let keys: Vec<_> = files(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "key"))
        .collect();
    assert!(!keys.is_empty(), "no key in {}", folder.display());
    for key in keys {
        let mode = key.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{} has mode {mode:o}", key.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found
}

/// Runs what must refuse: one line on stderr that has all of `words`, and a non-zero exit.
#[track_caller]
fn refuses(command: Command, words: &[&str]) {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=2", "20"])
        .arg(command.get_program())
        .args(command.get_args());
    limited
        .current_dir(command.get_current_dir().unwrap_or(Path::new(".")))
        .env("NO_COLOR", "1");
    let output = limited.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{}", said.trim());
    let code = output.status.code();
    assert!(
        code.is_some_and(|code| code != 0 && code != 124),
        "{command:?}: {code:?} {said}"
    );
    assert_eq!(said.trim().lines().count(), 1, "one line: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let scratch = Scratch::new("up-port");
    let mut held = Vec::new();
    let mut cases = Vec::new();
    for which in 0..4 {
        let mut addresses = Addresses::free();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        held.push(listener);
        match which {
            0 => addresses.mqtt = taken,
            1 => addresses.kafka = taken,
            2 => addresses.http = taken,
            _ => addresses.edge_http = taken,
        }
        cases.push((addresses, taken));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut addresses = Addresses::free();
    addresses.bridge = socket.local_addr().unwrap();
    cases.push((addresses, addresses.bridge));
    for (addresses, taken) in cases {
        let port = taken.port().to_string();
        refuses(addresses.command(scratch.path()), &[&port, "in use"]);
    }
}

#[test]
fn an_unwritable_folder_is_named() {
    let scratch = Scratch::new("up-folder");
    // Below a file no folder can be made, not even by root.
    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    let data = file.join("data");
    let named = data.display().to_string();
    let mut command = Addresses::free().command(scratch.path());
    command.arg("--data").arg(&data);
    refuses(command, &[&named]);

    let cloud = Cloud::new(scratch.path(), &file);
    refuses(cloud.command(), &[&file.display().to_string()]);
}

#[test]
fn a_bad_yaml_file_is_named_with_its_line() {
    let scratch = Scratch::new("bad-yaml");
    let cases = [
        (
            "tidegate-edge",
            "edge.yaml",
            "data: x\njournal:\n  commit_lingr: 10ms\n",
            "commit_lingr",
            3,
        ),
        (
            "tidegate-edge",
            "edge.yaml",
            "data: x\nmqtt: [1, 2\n",
            "",
            2,
        ),
        (
            "tidegate-cloud",
            "cloud.yaml",
            "data: x\nkafka:\n  adress: 127.0.0.1:9\n",
            "adress",
            3,
        ),
        (
            "tidegate-cloud",
            "cloud.yaml",
            "data: x\n\nkafka:\n  address: nowhere\n",
            "",
            4,
        ),
    ];
    for (binary, name, yaml, word, line) in cases {
        let file = scratch.path().join(name);
        std::fs::write(&file, yaml).unwrap();
        let mut command = Command::new(workspace::binary(binary));
        command
            .current_dir(scratch.path())
            .arg("--config")
            .arg(&file);
        refuses(command, &[name, word, &line.to_string()]);
    }
}

#[test]
fn a_missing_configuration_is_named() {
    for binary in ["tidegate-edge", "tidegate-cloud"] {
        let mut command = Command::new(workspace::binary(binary));
        command.args(["--config", "/nowhere/node.yaml"]);
        refuses(command, &["/nowhere/node.yaml"]);
    }
}

#[test]
fn certificates_are_private() {
    let scratch = Scratch::new("certificate");
    let cloud = Cloud::new(scratch.path(), scratch.path());
    let out = scratch.path().join("out");
    cloud.certificate("edge-9", &out);
    assert_keys_are_private(&out);
    assert_keys_are_private(&cloud.data);
    for name in ["ca.crt", "edge.crt"] {
        assert!(out.join(name).exists(), "{name}");
    }
}
