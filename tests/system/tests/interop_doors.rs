//! Every way in and every right at an edge, with clients that nobody here wrote, over each transport: who has it, and who has
//! not and is told so. Paho's two clients for Go come (`tests/interop/doors`), with SCRAM, tokens and QUIC of other libraries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "interop_doors/script.rs"]
mod script;

use std::path::Path;
use std::process::{Command, Stdio};

use script::{Door, Script, WITH_TLS, door};
use serde_json::{Value, json};
use tidegate_system_tests::certificates::{ALTERNATIVE_NAMES, Certificates};
use tidegate_system_tests::interop::built;
use tidegate_system_tests::node::Edge;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{http, skip, users};

const TRANSPORTS: [&str; 6] = [
    "tcp",
    "tls",
    "websocket",
    "secure_websocket",
    "unix",
    "quic",
];
const VERSIONS: [u8; 2] = [3, 5];

/// Hundreds fail here from one address, and are not to be slowed.
const MQTT: &str = "  users: users\n  acl: acl.yaml\n  failures_free: 10000\n  jwt: {jwks: jwks.json, secret: secret, issuer: 'https://login.test', audience: edge}\n";

const RULES: &str = "rules:
  - {allow: [publish, subscribe], topics: ['of/%u/#']}
  - {allow: [publish], topics: ['by/%c/#']}
  - {allow: [subscribe], topics: ['open/#']}
  - {users: [ada, pump, gate, press, press.plant.test, press@plant.test, 'urn:plant:press'], deny: [publish, subscribe], topics: ['of/+/secret']}
  - {users: [control], allow: [publish], broadcast: ['alarms/#'], direct: ['+/command/#']}
  - {users: [auditor], allow: [publish, subscribe], topics: ['#'], broadcast: ['#'], direct: ['#']}
";

const WRONG: [u8; 2] = [4, 0x86];
const NOBODY: [u8; 2] = [5, 0x87];

fn password(user: &str, password: &str) -> Value {
    json!({"user": user, "password": password})
}

fn passwords(script: &mut Script, door: &Door, version: u8) {
    script.comes_in_as(door, version, &password("ada", "lovelace"), "ada");
    script.proves_nothing(door, version, &password("ada", "Lovelace"), WRONG);
    script.proves_nothing(door, version, &password("eve", "lovelace"), WRONG);
    script.proves_nothing(door, version, &json!({}), NOBODY);
    // Both kinds of lines serve for a password that is sent.
    script.comes_in_as(door, version, &password("pump", "pencil"), "pump");
}

fn anonymous(script: &mut Script, door: &Door, version: u8) {
    let filters = [("open/#", true), ("of/ada/x", false), ("of/#", false)];
    let topics = [("by/%c/x", true), ("of/ada/x", false), ("of//x", false)];
    script.comes_in(door, version, &json!({}), &filters, &topics);
    // Who says a name must prove it here, too.
    script.proves_nothing(door, version, &password("ada", "Lovelace"), WRONG);
    script.comes_in_as(door, version, &password("ada", "lovelace"), "ada");
}

fn scram(script: &mut Script, door: &Door) {
    let proof = |user: &str, password: &str| json!({"scram": {"user": user, "password": password}});
    let again = |password: &str| json!({"scram": {"user": "pump", "password": "pencil", "again": password}});
    script.comes_in_as(door, 5, &proof("pump", "pencil"), "pump");
    script.proves_nothing(door, 5, &proof("pump", "Pencil"), NOBODY);
    script.proves_nothing(door, 5, &proof("eve", "pencil"), NOBODY);
    script.comes_in_as(door, 5, &again("pencil"), "pump");
    script.comes_in_as(door, 5, &again("Pencil"), "pump");
}

fn tokens(script: &mut Script, door: &Door, version: u8, folder: &Path) {
    let key = |name: &str| folder.join(name).display().to_string();
    let claims =
        json!({"sub": "gate", "iss": "https://login.test", "aud": ["edge", "other"], "exp": 600});
    let token = |algorithm: &str, file: &str, key_id: &str, changed: Value| {
        let mut claims = claims.clone();
        let claim_keys = claims.as_object_mut().unwrap();
        claim_keys.extend(changed.as_object().unwrap().clone());
        // The user name counts for nothing.
        json!({"user": "whoever", "token": {"algorithm": algorithm, "key": key(file), "key_id": key_id, "claims": claims}})
    };
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let rsa = rsa.map(|algorithm| (algorithm, "rsa.key", "rsa"));
    let others = [
        ("ES256", "p256.key", "p256"),
        ("ES384", "p384.key", "p384"),
        ("EdDSA", "ed25519.key", "ed25519"),
        // A token may name no key.
        ("ES256", "p256.key", ""),
        ("HS256", "secret", ""),
        ("HS384", "secret", ""),
        ("HS512", "secret", ""),
        // The set has a secret, too.
        ("HS256", "secret_of_set", "secret_of_set"),
    ];
    for (algorithm, file, id) in rsa.into_iter().chain(others) {
        let who = token(algorithm, file, id, json!({}));
        script.comes_in_as(door, version, &who, "gate");
    }
    let none = json!({});
    for who in [
        token("ES256", "p256.key", "p256", json!({"exp": -600})),
        token("ES256", "p256.key", "p256", json!({"nbf": 600})),
        token("ES256", "p256.key", "p256", json!({"aud": "cloud"})),
        token("ES256", "p256.key", "p256", json!({"aud": null})),
        token(
            "ES256",
            "p256.key",
            "p256",
            json!({"iss": "https://evil.test"}),
        ),
        token("ES256", "p256.key", "p256", json!({"sub": null})),
        token("none", "", "", none.clone()),
        // Another key of the kind, with and without the name of one that counts.
        token("ES256", "stranger.key", "p256", none.clone()),
        token("ES256", "stranger.key", "", none.clone()),
        // A key that everybody has, taken for a secret.
        token("HS256", "rsa.pem", "rsa", none.clone()),
        token("HS256", "p256.pem", "", none.clone()),
    ] {
        script.proves_nothing(door, version, &who, WRONG);
    }
}

fn certificates(
    script: &mut Script,
    door: &Door,
    version: u8,
    of: &Certificates,
    kind: &str,
    name: &str,
) {
    let who = |certificate: &Path, key: &Path| json!({"certificate": certificate, "key": key});
    let common = who(&of.client_certificate, &of.client_key);
    let alternative = who(&of.alternative_certificate, &of.alternative_key);
    let (named, nameless) = match kind {
        "common_name" => (common, alternative),
        _ => (alternative, common),
    };
    script.comes_in_as(door, version, &named, name);
    script.proves_nothing(door, version, &nameless, NOBODY);
    script.is_cut(door, version, &json!({}));
    let ended = who(&of.ended_certificate, &of.client_key);
    script.is_cut(door, version, &ended);
}

/// What one may send to every client, and to one; and who may see what is for others.
fn broadcast_and_direct(script: &mut Script, door: &Door, version: u8) {
    let [control, ada, auditor] = [
        ("control", "tower"),
        ("ada", "lovelace"),
        ("auditor", "all"),
    ]
    .map(|(user, its)| password(user, its));
    let transport = door.transport;
    let alarm = format!("$broadcast/alarms/{transport}");
    let command = format!("$direct/listener-{transport}/command/go");
    let topics = [
        (&*alarm, true),
        (&*command, true),
        ("$broadcast/other", false),
        ("$direct/listener-tcp/other", false),
    ];
    let theirs = [("$broadcast/#", false), ("$direct/#", false)];
    script.comes_in(door, version, &control, &theirs, &topics);
    let without = topics.map(|(topic, _)| (topic, false));
    script.comes_in(door, version, &ada, &theirs, &without);
    let all = theirs.map(|(filter, _)| (filter, true));
    script.comes_in(door, version, &auditor, &all, &[]);
}

fn wills(script: &mut Script, door: &Door, version: u8) {
    let will = |topic: &str| {
        let mut who = password("ada", "lovelace");
        who["will"] = json!(topic);
        who
    };
    script.comes_in(door, version, &will("of/ada/x"), &[], &[]);
    for topic in ["of/ada/secret", "of/other/x", "$broadcast/alarms/x"] {
        script.is_refused(door, version, &will(topic), NOBODY);
    }
}

#[test]
fn every_way_in_and_every_right_over_each_transport() {
    let client = match built("doors/client", "interop_doors") {
        Ok(client) => client,
        Err(missing) => skip!("{missing}"),
    };
    let scratch = Scratch::new("interop-doors");
    let folder = scratch.path();
    let made = Command::new(&client).arg("keys").arg(folder).status();
    assert!(made.unwrap().success());
    let mut lines = String::new();
    for (name, its) in [
        ("ada", "lovelace"),
        ("control", "tower"),
        ("auditor", "all"),
    ] {
        lines += &users::line("passwd", name, its);
    }
    lines += &users::line("scram", "pump", "pencil");
    std::fs::write(folder.join("users"), lines).unwrap();
    std::fs::write(folder.join("acl.yaml"), RULES).unwrap();
    let of = Certificates::new(folder);
    let mut edge = Edge::alone(folder, folder);
    let named = TRANSPORTS.map(|transport| door(&edge, folder, transport, &of.yaml(), ""));
    let open = "anonymous: true, ";
    let open = TRANSPORTS.map(|transport| door(&edge, folder, transport, &of.yaml(), open));
    let mut certified = Vec::new();
    for (kind, name) in [("common_name", "press")]
        .into_iter()
        .chain(ALTERNATIVE_NAMES)
    {
        let keys = format!("certificate_user: {kind}, ");
        let doors =
            WITH_TLS.map(|transport| door(&edge, folder, transport, &of.mutual_yaml(), &keys));
        certified.push((kind, name, doors));
    }
    edge.configure_mqtt(MQTT);
    edge.start();
    edge.wait_ready();

    let mut script = Script {
        ca: of.ca.display().to_string(),
        ..Script::default()
    };
    for version in VERSIONS {
        for door in &named {
            passwords(&mut script, door, version);
            tokens(&mut script, door, version, folder);
            broadcast_and_direct(&mut script, door, version);
            wills(&mut script, door, version);
        }
        for door in &open {
            anonymous(&mut script, door, version);
        }
        for (kind, name, doors) in &certified {
            for door in doors {
                certificates(&mut script, door, version, &of, kind, name);
            }
        }
    }
    for door in &named {
        scram(&mut script, door);
    }
    let mut watcher = script.visit(&named[0], 5, "watcher", &password("auditor", "all"));
    watcher["filters"] = json!(["#", "$broadcast/#", "$direct/#"]);
    let receivers = named.iter().map(|door| {
        let id = format!("listener-{}", door.transport);
        script.visit(door, 5, &id, &password("ada", "lovelace"))
    });
    let plan = json!({
        "watcher": watcher, "receivers": receivers.collect::<Vec<_>>(), "cases": script.cases, "end": "$broadcast/end",
    });
    let report = run(&client, &plan);

    let told = report["cases"].as_array().unwrap();
    assert_eq!(told.len(), script.cases.len());
    for ((case, told), expected) in script.cases.iter().zip(told).zip(&script.expected) {
        match expected {
            Some(expected) => assert_eq!(told, expected, "{case}"),
            None => assert!(told.get("refused").is_some(), "{case}: {told}"),
        }
    }
    let failures = http::metric(
        edge.http,
        "tidegate_failed_authentications_total{door=\"mqtt\"}",
    );
    assert_eq!(failures, Some(script.failures));
    // What may be published was there, and nothing else.
    script.published.sort();
    assert_eq!(report["watched"], json!(script.published));
    for (at, door) in named.iter().enumerate() {
        let own = format!("$direct/listener-{}/", door.transport);
        let for_it = |topic: &str| topic.starts_with("$broadcast/") || topic.starts_with(&own);
        let for_it: Vec<_> = script
            .published
            .iter()
            .filter(|it| for_it(&it[0]))
            .collect();
        assert_eq!(report["received"][at], json!(for_it), "{}", door.transport);
    }
}

fn run(client: &Path, plan: &Value) -> Value {
    let mut command = Command::new(client);
    command.env("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true");
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(process.stdin.take().unwrap(), plan).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "the clients gave up");
    serde_json::from_slice(&output.stdout).unwrap()
}
