//! `tidegate-edge doctor`, `doctor disk` and `support-bundle` as whole processes: what is wrong is found and named, what is
//! well is left in peace, cards that lie are found out, and no secret leaves the machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "doctor/bundle.rs"]
mod bundle;
#[path = "doctor/cards.rs"]
mod cards;

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tidegate_system_tests::certificates::Certificates;
use tidegate_system_tests::mqtt::Client;
use tidegate_system_tests::node::{Cloud, EDGE_ID, Edge, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait::{self, SOON};
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

    /// No problem is found, and each of these checks says this.
    fn is_well(&self, says: &[(&str, &str)]) -> bool {
        let is_all_said = says
            .iter()
            .all(|(check, text)| self.of(check).contains(text));
        is_all_said && self.code == 0 && self.problems().is_empty()
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

/// The doctor gives each check a few seconds, and a machine may stand still for as long: then it is asked again.
#[track_caller]
fn wait_well(edge: &Edge, says: &[(&str, &str)]) {
    wait::until("the doctor finds the edge well", SOON, || {
        let said = doctor(edge);
        let is_well = said.is_well(says);
        if !is_well {
            println!("{:?}", said.findings);
        }
        is_well.then_some(())
    });
}

#[test]
fn a_healthy_edge_is_well_and_is_not_disturbed() {
    let scratch = Scratch::new("doctor");
    let mut site = Site::new(scratch.path(), scratch.path());
    // The cloud first: the edge never fails to connect.
    site.cloud.start();
    site.cloud.wait_ready();
    site.edge.start();
    site.edge.wait_ready();
    let mut client = Client::connect(site.edge.mqtt, "device").unwrap();
    client.publish(1, "plant/1", b"before").unwrap();
    site.edge.wait_landed(1);

    for _ in 0..3 {
        wait_well(
            &site.edge,
            &[
                ("node", "says that it is ready"),
                ("udp", "QUIC is answered"),
                ("tls", "hub.tidegate"),
                ("clock", "as in the cloud"),
                ("certificate", EDGE_ID),
                ("listeners", "a node runs"),
            ],
        );
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
    wait_well(
        &site.edge,
        &[("node", "no node runs"), ("listeners", "is free")],
    );
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
    wait_well(&edge_with("right", &mine, &mine), &[]);
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
