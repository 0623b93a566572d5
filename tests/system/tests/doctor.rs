//! `tidegate-edge doctor`, `doctor disk` and `support-bundle` as whole processes: what is wrong is found and named, what is
//! well is left in peace, cards that lie are found out, and no secret leaves the machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate_system_tests::card::{Card, Flush};
use tidegate_system_tests::certificates::Certificates;
use tidegate_system_tests::mqtt::Client;
use tidegate_system_tests::mqtt::raw::Peer;
use tidegate_system_tests::mqtt::wire::{Connect, Publish, Version, Will};
use tidegate_system_tests::node::{Cloud, EDGE_ID, Edge, STREAM, Site};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait::SOON;
use tidegate_system_tests::{skip, workspace};

/// What the doctor says, and with which code it ends.
struct Said {
    code: i32,
    findings: Vec<Value>,
}

impl Said {
    /// The findings of a check, one line each.
    fn of(&self, check: &str) -> String {
        let of_check = self
            .findings
            .iter()
            .filter(|finding| finding["check"] == check);
        let lines = of_check.map(|finding| {
            format!(
                "{} {} -> {}\n",
                finding["level"], finding["found"], finding["advice"]
            )
        });
        lines.collect()
    }

    fn problems(&self) -> Vec<&Value> {
        let problems = self
            .findings
            .iter()
            .filter(|finding| finding["level"] == "problem");
        problems.collect()
    }

    /// A problem of this check says `text`, and the doctor ends with 1.
    #[track_caller]
    fn has_problem(&self, check: &str, text: &str) {
        let of_check = self.of(check);
        let has = of_check
            .lines()
            .any(|line| line.starts_with("\"problem\"") && line.contains(text));
        assert!(has, "{check} {text:?} in {of_check}");
        assert_eq!(self.code, 1);
    }

    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.problems(), Vec::<&Value>::new());
        assert_eq!(self.code, 0);
    }
}

fn examined(mut command: Command) -> Said {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "", "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let findings = report["findings"].as_array().unwrap().clone();
    let said = Said {
        code: output.status.code().unwrap(),
        findings,
    };
    assert_eq!(report["problems"], said.problems().len());
    for finding in &said.findings {
        assert_eq!(
            finding["level"] != "ok",
            finding["advice"].is_string(),
            "{finding}"
        );
    }
    said
}

fn doctor(edge: &Edge) -> Said {
    examined(edge.command(&["doctor", "--json"]))
}

#[test]
fn a_healthy_edge_is_well_and_is_not_disturbed() {
    let scratch = Scratch::new("doctor");
    let mut site = Site::started(scratch.path());
    let mut client = Client::connect(site.edge.mqtt, "device").unwrap();
    client.publish(1, "plant/1", b"before").unwrap();
    site.edge.wait_landed(1);

    for _ in 0..3 {
        let said = doctor(&site.edge);
        said.is_well();
        assert!(
            said.of("node").contains("says that it is ready"),
            "{}",
            said.of("node")
        );
        assert!(said.of("udp").contains("QUIC is answered"));
        assert!(
            said.of("tls").contains("hub.tidegate"),
            "{}",
            said.of("tls")
        );
        assert!(
            said.of("clock").contains("as in the cloud"),
            "{}",
            said.of("clock")
        );
        assert!(said.of("certificate").contains(EDGE_ID));
        assert!(said.of("listeners").contains("a node runs"));
    }

    client.publish(2, "plant/1", b"after").unwrap();
    site.edge.wait_landed(2);
    assert_eq!(site.edge.metric("tidegate_uplink_connected"), Some(1.0));
    assert_eq!(
        site.edge.metric("tidegate_uplink_connect_failures_total"),
        Some(0.0)
    );
    let fenced = site
        .cloud
        .metric("tidegate_bridge_closed_connections_total{code=\"fenced\"}");
    assert_eq!(fenced.unwrap_or_default(), 0.0);

    // For people, one line each, and what to do below.
    let output = site.edge.command(&["doctor"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| {
        ["ok  ", "warning", "problem", "     "]
            .iter()
            .any(|begin| line.starts_with(begin))
    }));
    let stopped = site.edge.process();
    stopped.signal("TERM");
    assert!(stopped.wait(SOON).success());
    let said = doctor(&site.edge);
    said.is_well();
    assert!(said.of("node").contains("no node runs"));
    assert!(said.of("listeners").contains("is free"));
}

#[test]
fn the_way_to_the_cloud_is_looked_at_step_by_step() {
    let scratch = Scratch::new("doctor-way");
    // It is not started: nobody listens.
    let site = Site::new(scratch.path(), scratch.path());
    let said = doctor(&site.edge);
    said.has_problem("udp", "nobody listens at that port");
    said.has_problem("tls", "see udp");

    // As where a firewall drops it.
    let silent = UdpSocket::bind(site.cloud.bridge).unwrap();
    let said = doctor(&site.edge);
    said.has_problem("udp", "UDP seems to be blocked");
    drop(silent);

    let text = std::fs::read_to_string(scratch.path().join("edge.yaml")).unwrap();
    let port = site.cloud.bridge.port();
    let named = text.replace(
        &site.cloud.bridge.to_string(),
        &format!("no.such.name.invalid:{port}"),
    );
    std::fs::write(scratch.path().join("edge.yaml"), named).unwrap();
    let said = doctor(&site.edge);
    said.has_problem("dns", "is not resolved");
    assert_eq!(said.of("udp"), "");
}

#[test]
fn certificates_of_two_clouds_are_told_apart_from_both_ends() {
    let scratch = Scratch::new("doctor-ca");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    let mine = scratch.folder("mine");
    cloud.certificate(EDGE_ID, &mine);
    let other = scratch.folder("other");
    let others = scratch.folder("others");
    Cloud::new(&other, &other).certificate(EDGE_ID, &others);
    cloud.start();
    cloud.wait_ready();
    let edge_with = |name: &str, own: &Path, ca: &Path| {
        let files = scratch.folder(name);
        for file in ["edge.crt", "edge.key"] {
            std::fs::copy(own.join(file), files.join(file)).unwrap();
        }
        std::fs::copy(ca.join("ca.crt"), files.join("ca.crt")).unwrap();
        Edge::new(&files, &files, &files, cloud.bridge)
    };
    // The cloud is not of the CA that the edge has.
    let said = doctor(&edge_with("wrong-ca", &others, &others));
    said.has_problem("tls", "not of the CA in");
    assert!(said.of("udp").contains("QUIC is answered"));
    // The cloud does not know the edge's.
    let said = doctor(&edge_with("stranger", &others, &mine));
    said.has_problem("tls", "this edge's certificate is not of the cloud's CA");
    said.has_problem("certificate", "is not of the CA in");
    doctor(&edge_with("right", &mine, &mine)).is_well();
}

#[test]
fn what_this_machine_and_its_files_have_wrong_is_named() {
    let scratch = Scratch::new("doctor-files");
    let edge = Edge::alone(scratch.path(), scratch.path());
    let certificates = Certificates::new(scratch.path());
    edge.listen(&format!(
        "tls: {{certificate: {}, key: {}}}",
        certificates.ended_certificate.display(),
        certificates.client_key.display()
    ));
    edge.listen(&format!(
        "tls: {{certificate: {}, key: {}}}",
        certificates.certificate.display(),
        certificates.client_key.display()
    ));
    edge.configure_mqtt("  acl: acl.yaml\n");
    std::fs::write(
        scratch.path().join("acl.yaml"),
        "rules:\n  - {alow: [publish]}\n",
    )
    .unwrap();
    let _taken = TcpListener::bind(edge.mqtt).unwrap();
    let said = doctor(&edge);
    said.has_problem("certificate", "ended on 2020-01-01");
    said.has_problem("certificate", "do not belong together");
    said.has_problem("doors", "did you mean `allow`");
    said.has_problem(
        "listeners",
        "is taken, and not by a node on this data folder",
    );

    let mut low = Command::new("sh");
    let program = workspace::binary("tidegate-edge");
    low.args([
        "-c",
        "ulimit -n 600 && exec \"$0\" doctor --json --config \"$1\"",
    ]);
    low.arg(program).arg(scratch.path().join("edge.yaml"));
    examined(low).has_problem("files", "600 files open");

    edge.configure("jornal: {}\n");
    let said = doctor(&edge);
    said.has_problem("config", "did you mean `journal`");
    assert_eq!(said.findings.len(), 1);
    let usage = edge.command(&["doctor", "--jsn"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_disk_that_is_full_or_read_only_is_a_problem() {
    let scratch = Scratch::new("doctor-disk");
    if std::env::var("TIDEGATE_TEST_FULL").as_deref() != Ok("1") || !workspace::is_root() {
        skip!("this mounts a tmpfs: tests/run --full does it, as root");
    }
    let disk = scratch.folder("disk");
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&disk);
        assert!(command.status().unwrap().success(), "{options}");
    };
    mount("size=4m");
    let edge = Edge::alone(scratch.path(), &disk);
    let said = doctor(&edge);
    let remounted = {
        mount("remount,ro");
        doctor(&edge)
    };
    assert!(
        Command::new("umount")
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    );
    said.has_problem("disk", "the journal (0B) does not grow");
    assert!(
        said.of("disk").contains("tmpfs: everything is gone"),
        "{}",
        said.of("disk")
    );
    remounted.has_problem("disk", "is mounted read-only");
}

/// The plug is pulled from a machine with this card. Returns the last number that was shown, and the machine's folder.
fn pull_the_plug(card: &mut Card, scratch: &Scratch) -> (Edge, u64) {
    let edge = Edge::alone(scratch.path(), &card.mount);
    edge.configure("journal: {free_disk_min: 0, bytes_max: 64MiB}\n");
    std::fs::create_dir_all(&edge.data).unwrap();
    let log = scratch.path().join("disk.log");
    let command = edge.command(&[
        "doctor",
        "disk",
        "--rated-writes",
        "30TB",
        "--load",
        "20KiB/s",
    ]);
    let mut test = Process::start("doctor disk", command, &log);
    test.wait_for_log("pull the plug\n", SOON * 2);
    card.cut_power(|| test.kill());
    let said = test.log();
    assert!(said.contains("commit    median"), "{said}");
    assert!(said.contains("the rated writes last 46 years"), "{said}");
    let shown = said
        .lines()
        .filter_map(|line| line.strip_prefix("block ")?.split(' ').next()?.parse().ok());
    (edge, shown.max().unwrap())
}

/// What `doctor disk --check` says, and its code.
fn checked(edge: &Edge, last: Option<u64>) -> (i32, String) {
    let mut command = edge.command(&["doctor", "disk", "--check"]);
    command.args(last.map(|last| format!("--last={last}")));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), text)
}

#[test]
fn an_honest_card_is_called_honest() {
    let scratch = Scratch::new("card-honest");
    let mut card = match Card::new(&scratch, Flush::Honest) {
        Ok(card) => card,
        Err(reason) => skip!("{reason}"),
    };
    let (mut edge, last) = pull_the_plug(&mut card, &scratch);
    // The node says so by itself.
    edge.start();
    edge.wait_ready();
    edge.process()
        .wait_for_log("the card kept its word over this power cut", SOON);
    edge.kill();
    let (code, text) = checked(&edge, Some(last));
    println!("{text}");
    assert_eq!(code, 0, "{text}");
    assert!(doctor(&edge).of("disk").contains("kept its word"));
    assert_eq!(
        checked(&edge, Some(last + 1_000)).0,
        1,
        "that was not shown"
    );
}

#[test]
fn a_card_that_reorders_over_a_flush_is_found_out() {
    let scratch = Scratch::new("card-reorders");
    let mut card = match Card::new(&scratch, Flush::Reorders) {
        Ok(card) => card,
        Err(reason) => skip!("{reason}"),
    };
    let (mut edge, _) = pull_the_plug(&mut card, &scratch);
    edge.start();
    edge.wait_ready();
    edge.process()
        .wait_for_log("the card did not keep its word", SOON);
    edge.kill();
    let (code, text) = checked(&edge, None);
    println!("{text}");
    assert_eq!(code, 1, "{text}");
    doctor(&edge).has_problem("disk", "did not keep its word");
}

/// All is consistent, only too old: nothing on the card shows that.
#[test]
fn a_card_that_delays_is_found_out_by_the_number_that_was_shown() {
    let scratch = Scratch::new("card-delays");
    let mut card = match Card::new(&scratch, Flush::Delays) {
        Ok(card) => card,
        Err(reason) => skip!("{reason}"),
    };
    let (edge, last) = pull_the_plug(&mut card, &scratch);
    let (code, text) = checked(&edge, None);
    assert_ne!(code, 1, "{text}");
    let (code, text) = checked(&edge, Some(last));
    println!("{text}");
    assert_eq!(code, 1, "{text}");
}

#[test]
fn a_test_that_is_stopped_leaves_nothing() {
    let scratch = Scratch::new("card-stopped");
    let edge = Edge::alone(scratch.path(), scratch.path());
    std::fs::create_dir_all(&edge.data).unwrap();
    let log = scratch.path().join("disk.log");
    let mut test = Process::start("doctor disk", edge.command(&["doctor", "disk"]), &log);
    test.wait_for_log("block 1 is on the disk", SOON);
    test.signal("INT");
    assert!(test.wait(SOON).success(), "{}", test.log());
    assert!(!edge.data.join("doctor/plug-test").exists());
    let output = edge
        .command(&["doctor", "disk", "--check"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no test to judge"), "{said}");
}

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

    let running = bundle(&site.edge, &scratch, "running", &log);
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
    let of = |files: &[(String, String)], name: &str| {
        let found = files.iter().find(|(own, _)| own == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.clone()
    };
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let config = json(of(&running, "config.json"));
    assert_eq!(config["uplink"]["cloud"], site.cloud.bridge.to_string());
    assert_eq!(config["mqtt"]["redirect"]["server"], "elsewhere:1883");
    assert_eq!(json(of(&running, "doctor.json"))["problems"], 0);
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
    let files = tidegate_system_tests::scratch::files(&folder);
    assert!(files.len() > 8, "{files:?}");
    let read = files.into_iter().map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    });
    read.collect()
}
