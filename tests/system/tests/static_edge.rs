//! The tarball's edge on a machine that has no C library: it installs itself, and finds its cloud by `/etc/hosts` and by
//! DNS, which glibc does with files that it loads where it is not static. `tests/run --full` makes the tarball.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use tidegate_system_tests::machine::{Machine, terminate};
use tidegate_system_tests::node::{Cloud, EDGE_ID, STREAM};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait::SOON;
use tidegate_system_tests::{skip, workspace};

/// What `tests/run` has the tarballs made as.
const VERSION: &str = "0.0.1~static";

const USER: &str = "tidegate-edge";
const USER_NUMBER: u32 = 990;

const CONFIGURATION: &str = "/etc/tidegate/edge.yaml";

/// The beginning of the line that is edited, and the address in it.
const OFF: &str = "#uplink: {cloud: \"cloud.example.com:7443\",";

/// Names of the cloud: one that only a file knows, one that only DNS does.
const BY_FILE: &str = "cloud-by-file.example.com";
const BY_DNS: &str = "cloud-by-dns.example.com";

/// What a program of another architecture is run by.
const EMULATOR: &str = "qemu-aarch64-static";

#[test]
fn a_static_edge_needs_no_library_and_finds_its_cloud_by_name() {
    by_name("amd64", None);
}

#[test]
fn a_static_arm64_edge_needs_no_library_and_finds_its_cloud_by_name() {
    by_name("arm64", Some(EMULATOR));
}

fn by_name(architecture: &str, emulator: Option<&str>) {
    let name = format!("tidegate-edge-{VERSION}-linux-{architecture}");
    let tarball = workspace::target().join(format!("dist/{name}.tar.gz"));
    if !tarball.exists() {
        skip!(
            "{} is missing: images/build tarball --arch {architecture} --profile quick --version {VERSION} edge",
            tarball.display()
        );
    }
    let tools = [
        ("mosquitto_pub", "mosquitto-clients"),
        ("kcat", "kcat"),
        ("dnsmasq", "dnsmasq-base"),
    ];
    let emulators = emulator.map(|emulator| (emulator, "qemu-user-static"));
    for (tool, package) in tools.into_iter().chain(emulators) {
        if !workspace::has_tool(tool) {
            skip!("{tool} is missing (apt-get install {package})");
        }
    }
    let scratch = Scratch::new("static");
    let machine = match Machine::bare(&scratch, USER, USER_NUMBER) {
        Ok(machine) => machine,
        Err(reason) => skip!("{reason}"),
    };
    let hosts = format!("127.0.0.1 localhost\n127.0.0.1 {BY_FILE}\n");
    std::fs::write(machine.path("/etc/hosts"), hosts).unwrap();
    std::fs::write(machine.path("/etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let dns = serve_names(&machine, &scratch);
    let cloud = Cloud::new(scratch.path(), scratch.path());
    let _cloud = start(&machine, &cloud, &scratch);

    install(&machine, &tarball, &name);
    if let Some(emulator) = emulator {
        let there = machine.path("/bin").join(emulator);
        std::fs::copy(workspace::tool(emulator).unwrap(), there).unwrap();
    }
    join(&machine, &cloud, &scratch);
    let mut sent = Vec::new();
    for name in [BY_FILE, BY_DNS] {
        let text = machine.read(CONFIGURATION);
        let line = format!("uplink: {{cloud: \"{name}:{}\",", cloud.bridge.port());
        let before = text.lines().find(|line| line.contains("uplink: {cloud: "));
        let before = before.unwrap().split_inclusive(',').next().unwrap();
        std::fs::write(machine.path(CONFIGURATION), text.replacen(before, &line, 1)).unwrap();
        let mut edge = run(&machine, emulator, &scratch);
        sent.push(name);
        machine.publish("1883", name);
        machine.wait_consumed(&cloud.kafka.to_string(), STREAM, &sent);
        terminate(&mut edge);
    }
    let log = dns.log();
    assert!(log.contains(&format!("query[A] {BY_DNS}")), "{log}");
    assert!(!log.contains(BY_FILE), "the file is read first: {log}");
}

/// A DNS server that knows one name.
fn serve_names(machine: &Machine, scratch: &Scratch) -> Process {
    let mut server = machine.beside("dnsmasq");
    server.args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
    ]);
    server.args([
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--user=root",
    ]);
    server.args(["--log-queries", "--log-facility=-", "--pid-file"]);
    server.arg(format!("--address=/{BY_DNS}/127.0.0.1"));
    let server = Process::start("dnsmasq", server, &scratch.path().join("dnsmasq.log"));
    server.wait_for_log("started", SOON);
    server
}

/// The cloud, built for this machine, in the network of that one.
fn start(machine: &Machine, cloud: &Cloud, scratch: &Scratch) -> Process {
    let command = cloud.command();
    let mut there = machine.beside(command.get_program().to_str().unwrap());
    there.args(command.get_args());
    let log = scratch.path().join("cloud.log");
    let process = Process::start("tidegate-cloud", there, &log);
    process.wait_for_log("the cloud is ready", SOON);
    process
}

fn install(machine: &Machine, tarball: &Path, name: &str) {
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(tarball).arg("-C");
    unpack.arg(machine.path("/tmp"));
    assert!(unpack.status().unwrap().success());
    let said = machine.run(&[&format!("/tmp/{name}/install.sh")]);
    assert!(said.contains("no systemd here"), "{said}");
}

/// A certificate, and the line of the configuration that names it.
fn join(machine: &Machine, cloud: &Cloud, scratch: &Scratch) {
    let made = scratch.path().join("certificates");
    cloud.certificate(EDGE_ID, &made);
    std::fs::create_dir_all(machine.path("/etc/tidegate/tls")).unwrap();
    for file in ["edge.crt", "edge.key", "ca.crt"] {
        let there = format!("/etc/tidegate/tls/{file}");
        std::fs::copy(made.join(file), machine.path(&there)).unwrap();
        machine.run(&["chown", &format!("root:{USER}"), &there]);
        machine.run(&["chmod", "640", &there]);
    }
    let text = machine.read(CONFIGURATION);
    assert!(text.contains(OFF), "{text}");
    let on = text.replacen(OFF, &OFF[1..], 1);
    std::fs::write(machine.path(CONFIGURATION), on).unwrap();
}

/// As its own user, by what BusyBox has for it.
fn run(machine: &Machine, emulator: Option<&str>, scratch: &Scratch) -> Process {
    let program = format!("/usr/local/bin/{USER}");
    let emulator = emulator.map(|emulator| format!("/bin/{emulator}"));
    let first = emulator.as_ref().unwrap_or(&program);
    let user = format!("{USER}:{USER}");
    let mut words = vec!["start-stop-daemon", "--start", "--chuid", &user];
    words.extend(["--exec", first, "--"]);
    words.extend(emulator.is_some().then_some(program.as_str()));
    words.extend(["--config", CONFIGURATION]);
    let command = machine.command(&words);
    let log = tempfile::NamedTempFile::new_in(scratch.path()).unwrap();
    let edge = Process::start(
        "tidegate-edge",
        command,
        &log.into_temp_path().keep().unwrap(),
    );
    edge.wait_for_log("the edge is ready", SOON);
    edge
}
