//! What a gateway engineer's first hour is on a clean Debian: install both packages, edit one line, publish, consume,
//! restart, upgrade, remove, purge. `tests/run --full` makes the packages, of two versions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Duration;

use tidegate_system_tests::machine::{Machine, main_process, terminate};
use tidegate_system_tests::packages::{self, NEXT_VERSION, NODES, VERSION};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::service_manager::ServiceManager;
use tidegate_system_tests::wait::SOON;
use tidegate_system_tests::{skip, workspace};

const WATCHDOG: Duration = Duration::from_secs(30);

/// The line of edge.yaml that is edited.
const OFF: &str = "#uplink: {cloud: \"cloud.example.com:7443\",";
const ON: &str = "uplink: {cloud: \"127.0.0.1:7443\",";

#[test]
fn the_first_hour_on_a_clean_debian() {
    for tool in ["mosquitto_pub", "kcat"] {
        if !workspace::has_tool(tool) {
            skip!("{tool} is missing (apt-get install mosquitto-clients kcat)");
        }
    }
    let packages = match packages::all() {
        Ok(packages) => packages,
        Err(reason) => skip!("{reason}"),
    };
    let scratch = Scratch::new("packages");
    let debian = match Machine::debian(&scratch) {
        Ok(debian) => debian,
        Err(reason) => skip!("{reason}"),
    };
    for package in &packages {
        std::fs::copy(
            package,
            debian.path("/tmp").join(package.file_name().unwrap()),
        )
        .unwrap();
    }
    let manager = ServiceManager::below(&debian.path("/run"), WATCHDOG);

    install(&debian, VERSION);
    starts_as_it_stands(&debian, &manager);
    join(&debian);
    let services = start(&debian, &manager);
    debian.publish("1883", "one");
    consume(&debian, &["one"]);
    stop(services);

    let services = start(&debian, &manager);
    debian.publish("1883", "two");
    consume(&debian, &["one", "two"]);

    upgrade(&debian, services);
    let services = start(&debian, &manager);
    debian.publish("1883", "three");
    consume(&debian, &["one", "two", "three"]);
    stop(services);

    remove(&debian);
    purge(&debian);
}

/// For who has no dpkg: installed, upgraded with an edited configuration, taken away.
#[test]
fn the_tarball_installs_itself_and_goes() {
    let scratch = Scratch::new("tarball");
    let debian = match Machine::debian(&scratch) {
        Ok(debian) => debian,
        Err(reason) => skip!("{reason}"),
    };
    let manager = ServiceManager::below(&debian.path("/run"), WATCHDOG);
    let path = "/etc/tidegate/edge.yaml";
    for version in [VERSION, NEXT_VERSION] {
        let name = format!("tidegate-edge-{version}-linux-amd64");
        let tarball = workspace::target().join(format!("dist/{name}.tar.gz"));
        if !tarball.exists() {
            skip!(
                "{} is missing: tests/run --full makes it",
                tarball.display()
            );
        }
        let mut unpack = Command::new("tar");
        unpack
            .arg("-xzf")
            .arg(tarball)
            .arg("-C")
            .arg(debian.path("/tmp"));
        assert!(unpack.status().unwrap().success());
        debian.run(&[&format!("/tmp/{name}/install.sh")]);
        let asked = debian.asked();
        assert!(asked.contains("enable --quiet tidegate-edge"), "{asked}");
        assert!(asked.contains("restart tidegate-edge"), "{asked}");
        let mut service = debian.start("tidegate-edge", &manager);
        debian.publish("1883", version);
        terminate(&mut service);
        let text = debian.read(path) + "# edited\n";
        std::fs::write(debian.path(path), text).unwrap();
    }
    let edits = debian.read(path).matches("# edited").count();
    assert_eq!(edits, 2, "what was edited before the upgrade stays");
    assert!(debian.path(&format!("{path}.dist")).exists());

    let script = format!("/tmp/tidegate-edge-{NEXT_VERSION}-linux-amd64/install.sh");
    debian.run(&[&script, "--uninstall"]);
    let asked = debian.asked();
    assert!(
        asked.contains("disable --now --quiet tidegate-edge"),
        "{asked}"
    );
    for gone in [
        "/usr/local/bin/tidegate-edge",
        "/etc/systemd/system/tidegate-edge.service",
    ] {
        assert!(!debian.path(gone).exists(), "{gone}");
    }
    assert!(
        debian.path("/var/lib/tidegate-edge/journal").exists(),
        "data stays"
    );
}

fn install(debian: &Machine, version: &str) {
    apt(debian, version);
    let asked = debian.asked();
    for node in NODES {
        let user = debian.run(&["id", "--name", "--user", node]);
        assert_eq!(user.trim(), node, "a user of its own");
        let data = debian.run(&["stat", "-c", "%U %G %a", &format!("/var/lib/{node}")]);
        assert_eq!(data.trim(), format!("{node} {node} 750"));
        assert!(is_enabled(debian, node), "{node} starts at boot");
        let started = format!("start {node}.service");
        assert!(asked.contains(&started), "{started}: {asked}");
        let whose = debian.run(&["dpkg", "--search", &format!("/usr/bin/{node}")]);
        assert!(whose.starts_with(node), "{whose}");
        assert_eq!(debian.run(&["dpkg", "--verify", node]), "", "all is whole");
    }
    let commented = debian.read("/etc/tidegate/edge.yaml");
    assert!(
        commented
            .lines()
            .filter(|line| line.starts_with('#'))
            .count()
            > 20
    );
}

/// Without an edit both are ready, and say that they live.
fn starts_as_it_stands(debian: &Machine, manager: &ServiceManager) {
    for node in NODES {
        let mut service = debian.start(node, manager);
        manager.wait_for("WATCHDOG=1", SOON);
        let user = std::fs::metadata(format!("/proc/{}", main_process(&service))).unwrap();
        assert_ne!(user.uid(), 0, "{node} is not root");
        terminate(&mut service);
    }
}

/// A certificate for the edge, and one line of its configuration.
fn join(debian: &Machine) {
    let own = [
        "setpriv",
        "--init-groups",
        "--reuid",
        "tidegate-cloud",
        "--regid",
        "tidegate-cloud",
    ];
    let made = [
        "tidegate-cloud",
        "certificate",
        "plant-7",
        "--config",
        "/etc/tidegate/cloud.yaml",
        "--out",
        "/tmp/plant-7",
    ];
    debian.run(&[&own[..], &made].concat());
    debian.run(&[
        "install",
        "-d",
        "-m",
        "750",
        "-g",
        "tidegate-edge",
        "/etc/tidegate/tls",
    ]);
    for file in ["edge.crt", "edge.key", "ca.crt"] {
        let from = format!("/tmp/plant-7/{file}");
        debian.run(&[
            "install",
            "-m",
            "640",
            "-g",
            "tidegate-edge",
            &from,
            "/etc/tidegate/tls/",
        ]);
    }
    let path = debian.path("/etc/tidegate/edge.yaml");
    let before = std::fs::read_to_string(&path).unwrap();
    let after = before.replacen(OFF, ON, 1);
    let edited = before.lines().zip(after.lines()).filter(|(a, b)| a != b);
    assert_eq!(edited.count(), 1, "one line is edited");
    std::fs::write(&path, after).unwrap();
}

fn upgrade(debian: &Machine, services: [Process; 2]) {
    debian.asked();
    apt(debian, NEXT_VERSION);
    let asked = debian.asked();
    for node in NODES {
        let version = debian.run(&["dpkg-query", "--show", "--showformat=${Version}", node]);
        assert_eq!(version, NEXT_VERSION);
        let restarted = format!("restart {node}.service");
        assert!(asked.contains(&restarted), "{restarted}: {asked}");
        assert!(!asked.contains(&format!("stop {node}")), "{asked}");
        assert!(is_enabled(debian, node));
    }
    assert!(
        debian.read("/etc/tidegate/edge.yaml").contains(ON),
        "the edit is kept"
    );
    stop(services);
}

fn remove(debian: &Machine) {
    debian.asked();
    debian.run(&["apt-get", "-y", "remove", NODES[0], NODES[1]]);
    let asked = debian.asked();
    for node in NODES {
        let stopped = format!("stop {node}.service");
        assert!(asked.contains(&stopped), "{stopped}: {asked}");
        assert!(!debian.path(&format!("/usr/bin/{node}")).exists());
        let data = debian.path(&format!("/var/lib/{node}"));
        assert!(data.read_dir().unwrap().next().is_some(), "data stays");
    }
    assert!(
        debian.read("/etc/tidegate/edge.yaml").contains(ON),
        "configuration stays"
    );
}

fn purge(debian: &Machine) {
    debian.run(&["apt-get", "-y", "purge", NODES[0], NODES[1]]);
    for node in NODES {
        assert!(
            !debian.path(&format!("/var/lib/{node}")).exists(),
            "no data"
        );
        let passwd = debian.read("/etc/passwd");
        assert!(!passwd.contains(node), "no user: {passwd}");
        assert!(!is_enabled(debian, node));
    }
    let left = std::fs::read_dir(debian.path("/etc/tidegate")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tls"], "what a person has put there stays");
}

fn apt(debian: &Machine, version: &str) {
    let files = NODES.map(|node| format!("/tmp/{node}_{version}_amd64.deb"));
    debian.run(&["apt-get", "-y", "install", &files[0], &files[1]]);
}

fn is_enabled(debian: &Machine, node: &str) -> bool {
    let wanted = format!("/etc/systemd/system/multi-user.target.wants/{node}.service");
    debian.path(&wanted).symlink_metadata().is_ok()
}

fn start(debian: &Machine, manager: &ServiceManager) -> [Process; 2] {
    NODES.map(|node| debian.start(node, manager))
}

fn stop(services: [Process; 2]) {
    // The edge first: the cloud need not wait for it.
    for mut service in services.into_iter().rev() {
        terminate(&mut service);
    }
}

/// As a Kafka client, and by the package's own command.
fn consume(debian: &Machine, payloads: &[&str]) {
    debian.wait_consumed("127.0.0.1:9092", "telemetry", payloads);
    let said = debian.run(&[
        "tidegate",
        "topic",
        "consume",
        "telemetry",
        "--format",
        "%s\\n",
    ]);
    assert_eq!(said.lines().collect::<Vec<_>>(), payloads);
}
