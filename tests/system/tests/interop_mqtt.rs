//! Clients nobody here wrote, each over plain TCP, TLS, WebSocket and secure WebSocket: messages of each
//! QoS, retained ones, wills, shared subscriptions, requests, and sessions across a `kill -9` of the edge.
//! The programs, and what they hold the edge to, are in `tests/interop`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_system_tests::interop::{self, Broker, Client, TRANSPORTS, Transport, source};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{skip, workspace};

const BOTH: &[&str] = &["311", "5"];
const WITHOUT_TLS: &[Transport] = &[Transport::Tcp, Transport::WebSocket];
const WITHOUT_WEBSOCKET: &[Transport] = &[Transport::Tcp, Transport::Tls];

const PAHO_PYTHON: Client = Client {
    name: "paho-python",
    transports: &TRANSPORTS,
    versions: BOTH,
    program: || Ok(python("paho_client.py")),
};

/// It has no WebSocket.
const MOSQUITTO: Client = Client {
    name: "mosquitto",
    transports: WITHOUT_WEBSOCKET,
    versions: BOTH,
    program: || {
        let there = ["mosquitto_pub", "mosquitto_sub"].map(workspace::has_tool);
        match there.contains(&false) {
            true => Err("no mosquitto_pub: install mosquitto-clients".to_owned()),
            false => Ok(python("mosquitto_client.py")),
        }
    },
};

const MQTT_JS: Client = Client {
    name: "mqtt-js",
    transports: &TRANSPORTS,
    versions: BOTH,
    program: || {
        let modules = built("node/node_modules")?;
        let mut command = Command::new("node");
        command
            .env("NODE_PATH", modules)
            .arg(source("node/client.js"));
        Ok(command)
    },
};

/// MQTT 3.1.1 is all that it speaks.
const PAHO_GO: Client = Client {
    name: "paho-go",
    transports: &TRANSPORTS,
    versions: &["311"],
    program: || Ok(Command::new(built("go/client")?)),
};

const PAHO_JAVA_3: Client = Client {
    name: "paho-java-mqttv3",
    transports: &TRANSPORTS,
    versions: &["311"],
    program: || java("Mqttv3"),
};

const PAHO_JAVA_5: Client = Client {
    name: "paho-java-mqttv5",
    transports: &TRANSPORTS,
    versions: &["5"],
    program: || java("Mqttv5"),
};

/// Over TLS it is run as what the edge's own sources are: the suite `mqtt_source`.
const RUMQTTC: Client = Client {
    name: "rumqttc",
    transports: WITHOUT_TLS,
    versions: BOTH,
    program: || Ok(Command::new(workspace::binary("tidegate-interop-rumqttc"))),
};

fn built(path: &str) -> Result<PathBuf, String> {
    interop::built(path, "interop_mqtt")
}

fn python(script: &str) -> Command {
    workspace::python_at(&source("python").join(script))
}

fn java(class: &str) -> Result<Command, String> {
    let mut command = interop::java(&[built("java/classes")?, built("java/libs")?.join("*")]);
    command.arg(class);
    Ok(command)
}

#[test]
fn paho_python() {
    interop::run(&PAHO_PYTHON);
}

#[test]
fn mosquitto() {
    interop::run(&MOSQUITTO);
}

#[test]
fn mqtt_js() {
    interop::run(&MQTT_JS);
}

#[test]
fn paho_go() {
    interop::run(&PAHO_GO);
}

#[test]
fn paho_java_mqttv3() {
    interop::run(&PAHO_JAVA_3);
}

#[test]
fn paho_java_mqttv5() {
    interop::run(&PAHO_JAVA_5);
}

#[test]
fn rumqttc() {
    interop::run(&RUMQTTC);
}

fn documentation() -> String {
    std::fs::read_to_string(workspace::root().join("deploy/docs/mqtt-clients.md")).unwrap()
}

#[test]
fn the_documentation_has_the_table_of_what_is_run() {
    let clients = [
        PAHO_PYTHON,
        MOSQUITTO,
        MQTT_JS,
        PAHO_GO,
        PAHO_JAVA_3,
        PAHO_JAVA_5,
        RUMQTTC,
    ];
    let table = interop::table(&clients);
    assert!(documentation().contains(&table), "it should have\n{table}");
}

/// What stands between a line with three ticks and `language`, and the next with three ticks.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let open = format!("\n```{language}\n");
    let after = text.split(&open).skip(1);
    after
        .map(|rest| rest.split("\n```").next().unwrap_or(rest).to_owned())
        .collect()
}

/// Runs each block of a language against an edge, whose ports and CA stand in for those that it names.
fn run_blocks(language: &str, command: impl Fn() -> Command) {
    let scratch = Scratch::new(&format!("documentation-{language}"));
    let mut broker = Broker::started(scratch.path());
    let blocks = blocks(&documentation(), language);
    assert!(!blocks.is_empty(), "no {language} in the documentation");
    for mut block in blocks {
        for (named, transport) in ["1883", "8883", "8083", "8084"].iter().zip(TRANSPORTS) {
            block = block.replace(named, &broker.address(transport).port().to_string());
        }
        block = block.replace("tls/ca.crt", broker.ca.to_str().unwrap());
        let output = command().arg(&block).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{said}\n{errors}");
        // Each prints what it has received.
        let got = said.lines().filter(|line| line.contains("21.5")).count();
        assert!(got >= 1, "{block}\n{said}\n{errors}");
    }
    assert!(broker.edge.process().exited().is_none());
}

#[test]
fn the_documentations_lines_for_a_shell_work() {
    if !workspace::has_tool("mosquitto_pub") {
        skip!("no mosquitto_pub: install mosquitto-clients");
    }
    run_blocks("sh", || {
        let mut command = Command::new("sh");
        command.arg("-ec");
        command
    });
}

#[test]
fn the_documentations_lines_of_python_work() {
    run_blocks("python", || workspace::python_at(Path::new("-c")));
}

#[test]
fn the_documentations_lines_of_javascript_work() {
    let modules = match built("node/node_modules") {
        Ok(modules) => modules,
        Err(missing) => skip!("MQTT.js: {missing}"),
    };
    run_blocks("js", || {
        let mut command = Command::new("node");
        command.env("NODE_PATH", &modules).arg("-e");
        command
    });
}
