//! The doors of the edge, with a client that somebody else wrote, over each transport: who has a right and who has not, by
//! password and by certificate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Stdio;

use serde_json::{Value, json};
use tidegate_system_tests::certificates::Certificates;
use tidegate_system_tests::node::Edge;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{users, workspace};

const RULES: &str = "rules: [{allow: [publish, subscribe], topics: ['of/%u/#']}]\n";

/// What became of each case.
fn attempts(cases: &[Value]) -> Vec<Value> {
    let mut command = workspace::python("edge_doors.py");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let input = process.stdin.take().unwrap();
    serde_json::to_writer(input, cases).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn with(case: &Value, more: Value) -> Value {
    let mut case = case.clone();
    let (case_keys, Value::Object(more)) = (case.as_object_mut().unwrap(), more) else {
        panic!("{case}")
    };
    case_keys.extend(more);
    case
}

#[test]
fn who_has_a_right_has_it_over_each_transport_and_who_has_not_is_told() {
    let scratch = Scratch::new("edge-doors");
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    let certificates = Certificates::new(scratch.path());
    let tls = certificates.yaml();
    std::fs::write(
        scratch.path().join("users"),
        users::line("passwd", "ada", "lovelace"),
    )
    .unwrap();
    std::fs::write(scratch.path().join("acl.yaml"), RULES).unwrap();
    let secure = edge.listen(&tls);
    let websocket = edge.listen("transport: websocket");
    let secure_websocket = edge.listen(&format!("transport: websocket, {tls}"));
    let mutual = certificates.mutual_yaml();
    let by_certificate = edge.listen(&format!("{mutual}, certificate_user: common_name"));
    let socket = scratch.path().join("mqtt.sock");
    edge.listen_at(&format!("unix:{}", socket.display()), "");
    edge.configure_mqtt("  users: users\n  acl: acl.yaml\n  failures_free: 1000\n");
    edge.start();
    edge.wait_ready();
    let at = |transport: &str, port: u16| json!({ "transport": transport, "host": "127.0.0.1", "port": port });
    let ca = json!({ "ca": certificates.ca });
    let doors = [
        at("tcp", edge.mqtt.port()),
        with(&at("tcp", secure.port()), ca.clone()),
        at("websockets", websocket.port()),
        with(&at("websockets", secure_websocket.port()), ca.clone()),
        json!({ "transport": "unix", "host": socket }),
    ];
    let certified = with(
        &with(&at("tcp", by_certificate.port()), ca.clone()),
        json!({ "certificate": certificates.client_certificate, "key": certificates.client_key }),
    );
    let (mut cases, mut expected) = (Vec::new(), Vec::new());
    for version in [4, 5] {
        let common = json!({ "version": version, "client_id": "device", "filters": ["of/ada/#", "of/#"], "topic": "of/ada/x" });
        let (no_suback, no_puback) = if version == 5 {
            (0x87, 0x87)
        } else {
            (0x80, 0)
        };
        for door in &doors {
            let case = with(door, common.clone());
            let ada = with(&case, json!({ "user": "ada", "password": "lovelace" }));
            cases.push(ada.clone());
            expected.push(json!({ "connack": 0, "suback": [0, no_suback], "puback": 0 }));
            cases.push(with(&ada, json!({ "topic": "of/bob/x" })));
            expected.push(json!({ "connack": 0, "suback": [0, no_suback], "puback": no_puback }));
            cases.push(with(&ada, json!({ "password": "Lovelace" })));
            expected.push(json!({ "connack": 0x86 }));
            cases.push(case);
            expected.push(json!({ "connack": 0x87 }));
        }
        let press = json!({ "filters": ["of/press/#", "of/ada/#"], "topic": "of/press/x" });
        cases.push(with(&with(&certified, common.clone()), press));
        expected.push(json!({ "connack": 0, "suback": [0, no_suback], "puback": 0 }));
    }
    let ended = json!({ "version": 5, "client_id": "device", "filters": ["a"], "topic": "a", "certificate": certificates.ended_certificate });
    cases.push(with(&certified, ended));
    // TLS ends the connection, with an alert that the client may see or not.
    expected.push(json!({}));
    for ((case, became), expected) in cases.iter().zip(attempts(&cases)).zip(expected) {
        match became.get("refused") {
            Some(_) => assert_eq!(expected, json!({}), "{case}"),
            None => assert_eq!(became, expected, "{case}"),
        }
    }
    assert_eq!(edge_metric(&edge), 2.0 * 2.0 * doors.len() as f64);
}

fn edge_metric(edge: &Edge) -> f64 {
    let sample = "tidegate_failed_authentications_total{door=\"mqtt\"}";
    tidegate_system_tests::http::metric(edge.http, sample).unwrap_or_default()
}
