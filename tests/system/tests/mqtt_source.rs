//! A plant's own broker, a mosquitto, as a source of an edge: what it acknowledged to publishers is in the edge's journal,
//! in each publisher's order, whoever is stopped, killed or restarted meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tidegate_system_tests::account::{Message, Read, faults};
use tidegate_system_tests::certificates::Certificates;
use tidegate_system_tests::load::{Load, Plan};
use tidegate_system_tests::mosquitto::{self, Mosquitto};
use tidegate_system_tests::mqtt::Client;
use tidegate_system_tests::node::{Edge, STREAM};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{skip, wait, workspace};

const PLAN: Plan = Plan {
    devices_per_client: 2,
    messages_per_device: 1_500,
    rate: 150.0,
};

/// How much more is seen before something is done to somebody.
const STEP: f64 = 300.0;

/// More than the smallest journal holds.
const FLOOD_MESSAGES: u64 = 1_300;
const FLOOD_BYTES: u64 = 64 << 10;

/// Of the source in the configurations here.
const LABEL: &str = "{source=\"plant\"}";

fn source(server: &str, more: &str) -> String {
    format!(
        "sources:\n  - name: plant\n    mqtt:\n      server: {server}\n      reconnect_max: 500ms\n{more}      \
         subscribe:\n        - {{filter: 'plant/#', remote_prefix: plant/, local_prefix: far/}}\n"
    )
}

fn figure(edge: &Edge, name: &str) -> f64 {
    edge.metric(&format!("tidegate_source_{name}{LABEL}"))
        .unwrap_or_default()
}

#[track_caller]
fn wait_for(edge: &Edge, name: &str, at_least: f64) {
    let what = format!("source_{name} is {at_least} at least");
    wait::until(&what, wait::SOON, || {
        (figure(edge, name) >= at_least).then_some(())
    });
}

/// All that is in the journal of an edge that does not run, in its order, and under which topics.
fn journal(edge: &Edge, folder: &Path) -> Vec<(String, Message)> {
    let output = Command::new(workspace::binary("tidegate-edge"))
        .args(["journal", "export", "--stream", STREAM, "--config"])
        .arg(folder.join("edge.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said} {}", edge.data.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        let value = record["value"].as_str().unwrap();
        let mut parts = value.split(':');
        let (device, number) = (parts.next().unwrap(), parts.next().unwrap());
        let message = Message {
            device: device.to_owned(),
            number: number.parse().unwrap(),
        };
        (record["key"].as_str().unwrap().to_owned(), message)
    });
    records.collect()
}

fn read(records: Vec<(String, Message)>) -> Vec<Read> {
    let reads = records.into_iter().zip(0..);
    reads
        .map(|((_, message), offset)| Read {
            partition: 0,
            offset,
            message,
        })
        .collect()
}

/// A plant's broker, and an edge that takes from it by that version.
fn plant_and_edge(scratch: &Scratch, keys: &str, version: &str) -> (Mosquitto, Edge) {
    let mut plant = Mosquitto::new(scratch.path(), keys);
    plant.start();
    plant.wait_ready();
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    let server = format!("mqtt://{}", plant.address);
    edge.configure(&source(&server, &format!("      version: {version}\n")));
    edge.start();
    edge.wait_ready();
    (plant, edge)
}

/// What the doctor finds of sources: a level, a colon, what was found.
fn doctor(edge: &Edge) -> String {
    let output = edge.command(&["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    let of_sources = findings.filter(|finding| finding["check"] == "sources");
    let lines = of_sources.map(|finding| format!("{}: {}", finding["level"], finding["found"]));
    lines.collect::<Vec<_>>().join("\n")
}

/// Waits until all that was acknowledged is here, and stops the edge.
fn stop_with(edge: &mut Edge, messages: u64) {
    wait::until("all messages are in the journal", wait::SOON * 4, || {
        (edge.next_of(STREAM)? >= messages && figure(edge, "held_bytes") == 0.0).then_some(())
    });
    stop(edge);
}

fn stop(edge: &mut Edge) {
    edge.process().signal("TERM");
    let status = edge.process().wait(wait::SOON);
    assert!(status.success(), "{status}");
}

#[test]
fn a_source_that_is_stopped_and_started_loses_nothing_and_has_nothing_twice() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    for version in ["5", "3.1.1"] {
        let scratch = Scratch::new("source-stops");
        let (plant, mut edge) = plant_and_edge(&scratch, "allow_anonymous true\n", version);
        // What the session subscribes to, it keeps from now on.
        wait::until("the source has subscribed", wait::SOON, || {
            edge.data.join("sources/plant.json").exists().then_some(())
        });
        assert!(
            doctor(&edge).contains("lets this node in"),
            "MQTT {version}"
        );
        let load = Load::start(plant.address, PLAN, scratch.path());
        let messages = PLAN.messages(load.clients());
        for _ in 0..3 {
            wait_for(&edge, "messages_total", STEP);
            stop(&mut edge);
            edge.start();
            edge.wait_ready();
        }
        let sent = load.finish(PLAN.duration() * 6);
        stop_with(&mut edge, messages);
        let records = journal(&edge, scratch.path());
        let (topic, first) = &records[0];
        assert_eq!(*topic, format!("far/{}", first.device));
        let read = read(records);
        let read_count = read.len() as u64;
        assert_eq!(faults(&sent, &read, read_count), [""; 0], "MQTT {version}");
    }
}

#[test]
fn a_source_or_a_broker_that_dies_in_mid_flow_loses_nothing() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    let scratch = Scratch::new("source-dies");
    let mut plant = Mosquitto::new(scratch.path(), "allow_anonymous true\n");
    plant.start();
    plant.wait_ready();
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    // A long linger: much is read and not yet durable when it dies.
    edge.configure(&source(&format!("mqtt://{}", plant.address), ""));
    edge.configure("journal:\n  commit_linger: 200ms\n");
    edge.start();
    edge.wait_ready();
    wait::until("the source has subscribed", wait::SOON, || {
        edge.data.join("sources/plant.json").exists().then_some(())
    });
    let load = Load::start(plant.address, PLAN, scratch.path());
    let messages = PLAN.messages(load.clients());
    for _ in 0..6 {
        wait_for(&edge, "messages_total", STEP / 2.0);
        edge.kill();
        edge.start();
        edge.wait_ready();
    }
    for _ in 0..2 {
        let before = figure(&edge, "messages_total");
        wait_for(&edge, "messages_total", before + STEP / 2.0);
        plant.stop();
        wait::until("the source has noticed", wait::SOON, || {
            (figure(&edge, "connected") == 0.0).then_some(())
        });
        plant.start();
        plant.wait_ready();
        wait_for(&edge, "connected", 1.0);
    }
    assert!(figure(&edge, "reconnects_total") >= 2.0);
    assert_eq!(figure(&edge, "sessions_lost_total"), 0.0);
    let sent = load.finish(PLAN.duration() * 6);
    stop_with(&mut edge, messages);
    let read = read(journal(&edge, scratch.path()));
    let read_count = read.len() as u64;
    let mut faults = faults(&sent, &read, read_count);
    // Between the commit and the acknowledgement: QoS 1.
    faults.retain(|fault| !fault.contains("more often than they were sent"));
    assert_eq!(faults, [""; 0]);
}

#[test]
fn a_full_journal_acknowledges_nothing_to_the_broker_and_goes_on_when_there_is_space() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    let scratch = Scratch::new("source-full");
    let mut plant = Mosquitto::new(scratch.path(), "allow_anonymous true\n");
    plant.start();
    plant.wait_ready();
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    edge.configure(&source(&format!("mqtt://{}", plant.address), ""));
    edge.configure("journal: {bytes_max: 64MiB, free_disk_min: 0}\n");
    edge.start();
    edge.wait_ready();
    wait::until("the source has subscribed", wait::SOON, || {
        edge.data.join("sources/plant.json").exists().then_some(())
    });
    let mut command = workspace::python("plant_flood.py");
    command.args([
        plant.address.port().to_string(),
        FLOOD_MESSAGES.to_string(),
        FLOOD_BYTES.to_string(),
    ]);
    let mut flood = Process::start("flood", command, &scratch.path().join("flood.log"));
    let status = flood.wait(wait::SOON * 4);
    assert!(status.success(), "{status}\n{}", flood.log());
    wait_for(&edge, "refused_total", 1.0);
    edge.process()
        .wait_for_log("the journal is full: messages wait", wait::SOON);
    // What is refused together may fit one by one: full is where nothing comes in while more is refused.
    let (mut last, mut in_vain) = ((0, 0.0), 0);
    let (stuck_at, refused) = wait::until("nothing fits any more", wait::SOON, || {
        let now = (edge.next_of(STREAM)?, figure(&edge, "refused_total"));
        match now.0 == last.0 {
            true => in_vain += usize::from(now.1 > last.1),
            false => in_vain = 0,
        }
        last = now;
        (in_vain >= 4).then_some(now)
    });
    assert!(stuck_at < FLOOD_MESSAGES, "{stuck_at}");
    // It is tried again and again meanwhile, and stays connected.
    wait_for(&edge, "refused_total", refused + 4.0);
    assert_eq!(figure(&edge, "connected"), 1.0);
    assert_eq!(edge.next_of(STREAM), Some(stuck_at));
    stop(&mut edge);
    let config = scratch.path().join("edge.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("64MiB", "256MiB")).unwrap();
    edge.start();
    edge.wait_ready();
    stop_with(&mut edge, FLOOD_MESSAGES);
    let numbers: Vec<_> = journal(&edge, scratch.path())
        .into_iter()
        .map(|(_, message)| message.number)
        .collect();
    assert_eq!(numbers, (0..FLOOD_MESSAGES).collect::<Vec<_>>());
}

#[test]
fn a_password_and_tls_let_a_source_in_and_a_wrong_password_is_no_end() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    let scratch = Scratch::new("source-tls");
    let certificates = Certificates::new(scratch.path());
    let users = scratch.path().join("users.plant");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&users)
        .args(["reader", "right"])
        .status();
    assert!(made.unwrap().success());
    let keys = format!(
        "password_file {}\nallow_anonymous false\ncafile {}\ncertfile {}\nkeyfile {}\n",
        users.display(),
        certificates.ca.display(),
        certificates.certificate.display(),
        certificates.key.display()
    );
    let mut plant = Mosquitto::new(scratch.path(), &keys);
    plant.start();
    plant.wait_ready();
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    let port = plant.address.port();
    let more = format!(
        "      user: reader\n      password_file: plant.password\n      tls: {{ca: {}}}\n",
        certificates.ca.display()
    );
    edge.configure(&source(&format!("mqtts://localhost:{port}"), &more));
    let password = scratch.path().join("plant.password");
    std::fs::write(&password, "wrong\n").unwrap();
    edge.start();
    edge.wait_ready();
    wait_for(&edge, "connect_failures_total", 3.0);
    let log = edge.process().log();
    let told = log.matches("no connection; it is tried again").count();
    assert_eq!(told, 1, "{log}");
    assert!(!log.contains("wrong\n"), "the password is in the log");
    let said = doctor(&edge);
    assert!(
        said.contains("problem") && said.contains("does not let this node in"),
        "{said}"
    );
    assert!(!said.contains("wrong"), "{said}");
    // The node runs on: a device of its own is served.
    let device = Client::connect(edge.mqtt, "device").unwrap();
    drop(device);
    std::fs::write(&password, "right\n").unwrap();
    wait_for(&edge, "connected", 1.0);
    wait::until("the source has subscribed", wait::SOON, || {
        edge.data.join("sources/plant.json").exists().then_some(())
    });
    let said = doctor(&edge);
    assert!(
        said.contains("ok") && said.contains("lets this node in"),
        "{said}"
    );
    let counted = ["connected", "reconnects_total"].map(|name| figure(&edge, name));
    assert_eq!(
        counted,
        [1.0, 0.0],
        "the doctor has not thrown the source out"
    );
    let published = Command::new("mosquitto_pub")
        .args([
            "-h",
            "localhost",
            "-p",
            &port.to_string(),
            "-u",
            "reader",
            "-P",
            "right",
        ])
        .arg("--cafile")
        .arg(&certificates.ca)
        .args(["-q", "1", "-t", "plant/a", "-m", "a:0:"])
        .status();
    assert!(published.unwrap().success());
    stop_with(&mut edge, 1);
    assert_eq!(journal(&edge, scratch.path())[0].0, "far/a");
    std::fs::remove_file(&password).unwrap();
    let said = doctor(&edge);
    assert!(
        said.contains("problem") && said.contains("plant.password"),
        "{said}"
    );
    std::fs::write(&password, "right\n").unwrap();
    plant.stop();
    let said = doctor(&edge);
    assert!(
        said.contains("problem") && said.contains("is not reached by TCP"),
        "{said}"
    );
}

#[test]
fn a_broker_that_grants_less_than_was_asked_for_is_told_of() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    for version in ["5", "3.1.1"] {
        let scratch = Scratch::new("source-less");
        let (_plant, mut edge) =
            plant_and_edge(&scratch, "allow_anonymous true\nmax_qos 0\n", version);
        wait_for(&edge, "subscriptions_refused_total", 1.0);
        let log = edge.process().log();
        assert!(
            log.contains("with a lower QoS only"),
            "MQTT {version}: {log}"
        );
    }
}

#[test]
fn a_broker_that_forgot_the_session_is_told_of() {
    if let Some(reason) = mosquitto::missing() {
        skip!("{reason}");
    }
    let scratch = Scratch::new("source-forgotten");
    let mut plant = Mosquitto::new(scratch.path(), "allow_anonymous true\n");
    plant.start();
    plant.wait_ready();
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    edge.configure(&source(&format!("mqtt://{}", plant.address), ""));
    edge.start();
    edge.wait_ready();
    wait::until("the source has subscribed", wait::SOON, || {
        edge.data.join("sources/plant.json").exists().then_some(())
    });
    stop(&mut edge);
    plant.stop();
    std::fs::remove_file(scratch.path().join("mosquitto/mosquitto.db")).unwrap();
    plant.start();
    plant.wait_ready();
    edge.start();
    edge.wait_ready();
    wait_for(&edge, "sessions_lost_total", 1.0);
    edge.process()
        .wait_for_log("the broker has lost the session", Duration::from_secs(5));
}

#[test]
fn mistakes_in_a_source_are_located() {
    let scratch = Scratch::new("source-mistakes");
    for (server, more, place, why) in [
        ("broker:1883", "", "line 10", "mqtt://broker.local:1883"),
        (
            "mqtt://b",
            "      versio: 5\n",
            "line 12",
            "did you mean `version`?",
        ),
        ("mqtt://b", "      version: 3\n", "line 12", "5 and 3.1.1"),
        (
            "mqtt://b",
            "      tls: {ca: x}\n",
            "sources plant",
            "mqtts://",
        ),
        (
            "mqtt://b",
            "      password_file: x\n",
            "sources plant",
            "needs user",
        ),
    ] {
        let mut edge = Edge::alone(scratch.path(), scratch.path());
        edge.configure(&source(server, more));
        edge.start();
        let status = edge.process().wait(wait::SOON);
        assert!(!status.success());
        let log = edge.process().log();
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains(place) && last.contains(why), "{last}");
    }
}
