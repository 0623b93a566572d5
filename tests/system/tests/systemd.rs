//! The packages where systemd is the first process: it starts what they install, keeps the programs to what their units
//! allow, kills one that hangs, and starts both again at boot. `tests/run --full` makes the packages, of two versions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use tidegate_system_tests::interop::pages;
use tidegate_system_tests::machine::Machine;
use tidegate_system_tests::packages::{self, NEXT_VERSION, NODES, VERSION};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait::{self, SOON};
use tidegate_system_tests::{skip, workspace};

/// systemd's levels begin above 1 with "OK" and end it at 5.
const EXPOSURE_MAX: &str = "20";

/// Of the drop-in that the documentation shows: data elsewhere, and a port below 1024.
const ELSEWHERE: &str = "/srv/tidegate";
const LOW_PORT: &str = "883";

const HANGS_FOR: Duration = Duration::from_secs(5);

#[test]
fn systemd_starts_confines_and_revives_what_the_packages_install() {
    if !workspace::has_tool("mosquitto_pub") {
        skip!("mosquitto_pub is missing (apt-get install mosquitto-clients)");
    }
    let packages = match packages::all() {
        Ok(packages) => packages,
        Err(reason) => skip!("{reason}"),
    };
    let scratch = Scratch::new("systemd");
    let mut debian = match Machine::booted_debian(&scratch) {
        Ok(debian) => debian,
        Err(reason) => skip!("{reason}"),
    };
    for package in &packages {
        let there = debian.path("/var/tmp").join(package.file_name().unwrap());
        std::fs::copy(package, there).unwrap();
    }

    install(&debian, VERSION);
    for node in NODES {
        runs(&debian, node);
        is_confined(&debian, node);
        reloads(&debian, node);
    }
    debian.publish("1883", "one");
    are_killed_when_they_hang(&debian);
    debian.publish("1883", "two");

    upgrade(&debian);
    data_and_port_elsewhere(&debian);

    debian.boot_again();
    for node in NODES {
        runs(&debian, node);
    }
    debian.publish(LOW_PORT, "three");
    purge(&debian);
}

fn install(debian: &Machine, version: &str) {
    let files = NODES.map(|node| format!("/var/tmp/{node}_{version}_amd64.deb"));
    debian.run(&["apt-get", "-y", "install", &files[0], &files[1]]);
}

/// It has said that it is ready: with `Type=notify` it is not active before.
#[track_caller]
fn runs(debian: &Machine, node: &str) {
    wait::until(&format!("{node} is active"), SOON, || {
        (debian.property(node, "ActiveState") == "active").then_some(())
    });
    assert_eq!(debian.property(node, "Type"), "notify");
    assert_eq!(debian.property(node, "NRestarts"), "0", "{node}");
}

/// What its unit takes from it, it has not; and the rest of the machine is not there for it to write to.
fn is_confined(debian: &Machine, node: &str) {
    let process = debian.property(node, "MainPID");
    let status = debian.run(&["cat", &format!("/proc/{process}/status")]);
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("{key}: {status}")).trim()
    };
    assert_eq!(value("NoNewPrivs:"), "1", "{node}");
    assert_eq!(value("Seccomp:"), "2", "{node}: system calls are filtered");
    for set in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{node}: {set}");
    }
    let user = debian.run(&["id", "--user", node]);
    assert!(value("Uid:").starts_with(user.trim()), "{node}: {status}");

    // By root with all its rights, where that process sees the machine.
    let there = |script: &str| {
        let mut words = vec!["nsenter", "--target", &process, "--mount"];
        words.extend(["sh", "-c", script]);
        let output = debian.command(&words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.success(), said)
    };
    for path in [
        "/etc/tidegate/new",
        "/usr/bin/new",
        "/var/lib/new",
        "/home/new",
    ] {
        let (done, said) = there(&format!("touch {path}"));
        assert!(!done && said.contains("Read-only"), "{node}: {said}");
    }
    let own = format!("touch /var/lib/{node}/new && rm /var/lib/{node}/new");
    assert_eq!(there(&own), (true, String::new()), "{node}");
    let (_, devices) = there("find /dev -type b");
    assert_eq!(devices, "", "{node} sees no disk");
    let (_, kernel) = there("ls /proc/sys /proc/kallsyms");
    assert!(!kernel.contains("vm"), "{node} sees the kernel: {kernel}");

    let rated = ["systemd-analyze", "security", "--threshold", EXPOSURE_MAX];
    let rated = debian.run(&[&rated[..], &[node]].concat());
    println!("{}", rated.lines().next_back().unwrap_or_default());
}

fn reloads(debian: &Machine, node: &str) {
    let process = debian.property(node, "MainPID");
    debian.run(&["systemctl", "reload", node]);
    let said = || log(debian, node).contains("SIGHUP").then_some(());
    wait::until(&format!("{node} has read it again"), SOON, said);
    assert_eq!(debian.property(node, "ActiveState"), "active");
    assert_eq!(debian.property(node, "MainPID"), process, "no new start");
}

/// The watchdog waits less long here than the units say, so that the test does, too.
fn are_killed_when_they_hang(debian: &Machine) {
    let text = format!("[Service]\nWatchdogSec={}s\n", HANGS_FOR.as_secs());
    for node in NODES {
        drop_in(debian, node, "watchdog", &text);
    }
    debian.run(&["systemctl", "restart", NODES[0], NODES[1]]);
    let before = NODES.map(|node| debian.property(node, "MainPID"));
    for node in NODES {
        // Told each third of it: for longer than it waits.
        for _ in 0..4 {
            let told = debian.property(node, "WatchdogTimestampMonotonic");
            wait::until(&format!("{node} says that it lives"), SOON, || {
                let now = debian.property(node, "WatchdogTimestampMonotonic");
                (now != told).then_some(())
            });
        }
        assert_eq!(debian.property(node, "NRestarts"), "0", "{node} is well");
    }
    debian.run(&["sh", "-c", &format!("kill -s STOP {}", before.join(" "))]);
    for (node, before) in NODES.into_iter().zip(before) {
        wait::until(&format!("{node} is started anew"), SOON, || {
            let now = debian.property(node, "MainPID");
            let active = debian.property(node, "ActiveState") == "active";
            (active && now != before && now != "0").then_some(())
        });
        assert_eq!(debian.property(node, "NRestarts"), "1", "{node}");
        let said = log(debian, node);
        assert!(said.contains("Watchdog timeout"), "{node}: {said}");
    }
    // From the next start on they may be held up longer.
    for node in NODES {
        std::fs::remove_file(place_of(debian, node, "watchdog")).unwrap();
    }
    debian.run(&["systemctl", "daemon-reload"]);
}

fn upgrade(debian: &Machine) {
    let before = NODES.map(|node| debian.property(node, "MainPID"));
    install(debian, NEXT_VERSION);
    for (node, before) in NODES.into_iter().zip(before) {
        runs(debian, node);
        assert_ne!(debian.property(node, "MainPID"), before, "started anew");
        let version = debian.run(&["dpkg-query", "--show", "--showformat=${Version}", node]);
        assert_eq!(version, NEXT_VERSION);
    }
}

/// Not without leave; with what the documentation says, it may.
fn data_and_port_elsewhere(debian: &Machine) {
    let node = "tidegate-edge";
    let folder = ["install", "-d", "-o", node, "-g", node, ELSEWHERE];
    debian.run(&folder);
    let path = debian.path("/etc/tidegate/edge.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let edited = text
        .replacen(
            "data: /var/lib/tidegate-edge",
            &format!("data: {ELSEWHERE}"),
            1,
        )
        .replacen("127.0.0.1:1883", &format!("127.0.0.1:{LOW_PORT}"), 1);
    assert!(edited.contains(ELSEWHERE) && edited.contains(LOW_PORT));
    std::fs::write(&path, edited).unwrap();
    debian.run(&["systemctl", "restart", "--no-block", node]);
    wait::until("it may not", SOON, || {
        log(debian, node)
            .contains("Read-only file system")
            .then_some(())
    });

    let page = pages::read("deploy/docs/packages.md");
    let shown = pages::blocks(&page);
    let shown = shown.iter().find(|block| block.language == "ini").unwrap();
    assert!(shown.text.contains(ELSEWHERE), "{}", shown.text);
    drop_in(debian, node, "override", &shown.text);
    debian.run(&["systemctl", "restart", node]);
    runs(debian, node);
    debian.publish(LOW_PORT, "elsewhere");
    assert!(debian.path(ELSEWHERE).join("journal").exists());
}

fn purge(debian: &Machine) {
    debian.run(&["apt-get", "-y", "purge", NODES[0], NODES[1]]);
    for node in NODES {
        assert_ne!(debian.property(node, "ActiveState"), "active");
        assert_eq!(debian.property(node, "MainPID"), "0");
        assert!(!debian.path(&format!("/var/lib/{node}")).exists());
        let passwd = debian.read("/etc/passwd");
        assert!(!passwd.contains(node), "no user: {passwd}");
    }
    assert!(debian.path(ELSEWHERE).join("journal").exists());
}

/// As `systemctl edit` writes it.
fn drop_in(debian: &Machine, node: &str, name: &str, text: &str) {
    let place = place_of(debian, node, name);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(place, text).unwrap();
    debian.run(&["systemctl", "daemon-reload"]);
}

fn place_of(debian: &Machine, node: &str, name: &str) -> PathBuf {
    debian.path(&format!("/etc/systemd/system/{node}.service.d/{name}.conf"))
}

fn log(debian: &Machine, node: &str) -> String {
    debian.run(&[
        "journalctl",
        "--no-pager",
        "--quiet",
        "--boot",
        "--unit",
        node,
    ])
}
