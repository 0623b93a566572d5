//! The support bundle: secrets and payloads are planted wherever they can be, and it has none of them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate_system_tests::certificates::Certificates;
use tidegate_system_tests::mqtt::raw::Peer;
use tidegate_system_tests::mqtt::wire::{Connect, Publish, Version, Will};
use tidegate_system_tests::node::{Edge, STREAM, Site};
use tidegate_system_tests::scratch::{self, Scratch};
use tidegate_system_tests::wait::{self, SOON};
use tidegate_system_tests::workspace;

/// Each is put where a secret or a payload can be, and is nowhere in the bundle.
const SECRETS: [&str; 9] = [
    "Sesame-password",
    "Sesame-typed-as-name",
    "Sesame-wrong",
    "Sesame-jwt-secret",
    "Sesame-url",
    "Sesame-comment",
    "Sesame-payload",
    "Sesame-retained",
    "Sesame-log",
];

#[test]
fn no_secret_and_no_payload_is_in_a_support_bundle() {
    let [
        password,
        typed,
        wrong,
        jwt,
        url,
        comment,
        payload,
        retained,
        logged,
    ] = SECRETS;
    let scratch = Scratch::new("bundle");
    let mut site = Site::new(scratch.path(), scratch.path());
    let certificates = Certificates::new(scratch.path());
    site.edge.listen(&certificates.yaml());
    let users = user("device", password);
    std::fs::write(scratch.path().join("users"), &users).unwrap();
    let secret = format!("{jwt}-{}", "x".repeat(32));
    std::fs::write(scratch.path().join("jwt-secret"), secret).unwrap();
    site.edge.configure_mqtt(&format!(
        "  users: users # {comment}\n  jwt: {{secret: jwt-secret, issuer: 'https://me:{url}@login'}}\n  \
         redirect: {{server: 'me:{url}@elsewhere:1883', when: shutdown}}\n"
    ));
    site.start();
    let connect = |user: &str, password: &str| Connect {
        user: Some(user.into()),
        password: Some(password.into()),
        ..Connect::new(Version::V5, "press-1")
    };
    let (_, refused) = Peer::asked(site.edge.mqtt, &connect("device", wrong));
    assert_ne!(refused.reason(), 0);
    let (_, refused) = Peer::asked(site.edge.mqtt, &connect(typed, "device"));
    assert_ne!(refused.reason(), 0);
    let mut connect = connect("device", password);
    connect.will = Some(Will::new("plant/will", payload));
    let mut peer = Peer::connected(site.edge.mqtt, &connect);
    peer.publish(Publish::new(Version::V5, "plant/1", payload), 1);
    peer.publish(Publish::new(Version::V5, "plant/2", retained).retain(), 1);
    site.edge.wait_landed(2);
    // As something else in the same log might have it.
    let log = scratch.path().join("copied.log");
    let mut text = std::fs::read_to_string(site.edge.log()).unwrap();
    assert!(text.contains(typed), "{text}");
    text += &format!("WARN retry mqtt://me:{logged}@host/ password={logged} Bearer {logged}\n");
    std::fs::write(&log, text).unwrap();

    // The doctor and the bundle give the node seconds to answer, and a machine may stand still for as long.
    let mut at = 0;
    let running = wait::until("a bundle has what the node says", SOON, || {
        at += 1;
        let files = bundle(&site.edge, &scratch, &format!("running-{at}"), &log);
        let doctor = of(&files, "doctor.json");
        println!("{doctor}");
        let is_well = json(doctor)["problems"] == 0
            && !of(&files, "metrics.txt").starts_with("the node does not answer")
            && json(of(&files, "where.json"))["error"].is_null();
        is_well.then_some(files)
    });
    drop(peer);
    let process = site.edge.process();
    process.signal("TERM");
    assert!(process.wait(SOON).success());
    let stopped = bundle(&site.edge, &scratch, "stopped", &log);

    let key = std::fs::read_to_string(scratch.path().join("certificates/edge.key")).unwrap();
    let key = key.lines().nth(1).unwrap();
    let hash = users.trim().rsplit('$').next().unwrap();
    for (name, text) in running.iter().chain(&stopped) {
        let secrets = SECRETS
            .iter()
            .copied()
            .chain(["Sesame", "-----BEGIN", "$argon2", key, hash]);
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {name}:\n{text}");
        }
    }
    // And what helps is there.
    let config = json(of(&running, "config.json"));
    assert_eq!(config["uplink"]["cloud"], site.cloud.bridge.to_string());
    assert_eq!(config["mqtt"]["redirect"]["server"], "elsewhere:1883");
    assert!(of(&running, "metrics.txt").contains("tidegate_journal_commits_total"));
    let standing = json(of(&running, "where.json"));
    assert_eq!(
        (&standing["streams"][0]["stream"], &standing["found"]),
        (&Value::from(STREAM), &Value::Null)
    );
    assert!(of(&running, "log.txt").contains("the edge is ready"));
    assert!(of(&running, "system.txt").contains("MemTotal"));
    assert!(of(&running, "files.txt").contains("journal/index.redb"));
    assert!(json(of(&running, "versions.json"))["kernel"].is_string());
    assert!(json(of(&running, "journal.json"))["error"].is_string());
    let journal = json(of(&stopped, "journal.json"));
    assert!(
        journal["streams"][0]["next"].as_u64() >= Some(2),
        "{journal}"
    );
}

/// The text of a bundle's file.
#[track_caller]
fn of<'a>(files: &'a [(String, String)], name: &str) -> &'a str {
    let found = files.iter().find(|(own, _)| own == name);
    &found.unwrap_or_else(|| panic!("no {name}")).1
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What `tidegate-edge passwd NAME` prints.
fn user(name: &str, password: &str) -> String {
    let mut command = Command::new(workspace::binary("tidegate-edge"));
    command
        .args(["passwd", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    writeln!(process.stdin.take().unwrap(), "{password}").unwrap();
    String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap()
}

/// Makes a bundle, and unpacks it: names and texts.
fn bundle(edge: &Edge, scratch: &Scratch, name: &str, log: &Path) -> Vec<(String, String)> {
    let out = scratch.path().join(format!("{name}.tar.gz"));
    let mut command = edge.command(&["support-bundle"]);
    command.arg("--out").arg(&out).arg("--log-file").arg(log);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let folder = scratch.folder(name);
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(&out).arg("-C").arg(&folder);
    assert!(unpack.status().unwrap().success());
    let files = scratch::files(&folder);
    assert!(files.len() > 8, "{files:?}");
    let read = files.into_iter().map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    });
    read.collect()
}
