//! As a service: what both nodes tell the service manager, and that its watchdog hears nothing of a node whose disk
//! hangs. The units themselves are checked by systemd's own tools.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tidegate_system_tests::image::Image;
use tidegate_system_tests::mqtt::{self, Client};
use tidegate_system_tests::node::{Cloud, Edge, Site};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::service_manager::ServiceManager;
use tidegate_system_tests::wait::SOON;
use tidegate_system_tests::{cli, skip, workspace};

const WATCHDOG: Duration = Duration::from_secs(3);

/// systemd's levels begin above 1 with "OK" and end it at 5.
const EXPOSURE_MAX: &str = "20";

#[test]
fn a_service_manager_is_told_of_an_edge() {
    let scratch = Scratch::new("service");
    let manager = ServiceManager::new(WATCHDOG);
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    supervise(&mut edge, &manager);
    edge.start();
    manager.wait_for("READY=1", SOON);
    // Ready is ready.
    let mut client = Client::connect(edge.mqtt, "device").unwrap();
    client.publish(1, "plant/1", b"21.5").unwrap();
    goes_through_its_life(&manager, edge.process());
}

#[test]
fn a_service_manager_is_told_of_a_cloud() {
    let scratch = Scratch::new("service");
    let manager = ServiceManager::new(WATCHDOG);
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    supervise_cloud(&mut cloud, &manager);
    cloud.start();
    manager.wait_for("READY=1", SOON);
    TcpStream::connect(cloud.kafka).unwrap();
    goes_through_its_life(&manager, cloud.process());
}

fn goes_through_its_life(manager: &ServiceManager, process: &mut Process) {
    for _ in 0..4 {
        manager.wait_for("WATCHDOG=1", SOON);
    }
    process.signal("HUP");
    manager.wait_for("RELOADING=1", SOON);
    manager.wait_for("READY=1", SOON);
    manager.wait_for("WATCHDOG=1", SOON);
    process.signal("TERM");
    manager.wait_for("STOPPING=1", SOON);
    assert!(process.wait(SOON).success());
}

/// A disk that does not answer: the process lives, its timers and connections too, and it acknowledges nothing.
#[test]
fn the_watchdog_hears_nothing_of_an_edge_whose_disk_hangs() {
    let scratch = Scratch::new("service-disk");
    let image = match Image::new(&scratch) {
        Ok(image) => image,
        Err(reason) => skip!("{reason}"),
    };
    let manager = ServiceManager::new(WATCHDOG);
    let mut edge = Edge::alone(scratch.path(), &image.mount);
    supervise(&mut edge, &manager);
    edge.start();
    manager.wait_for("READY=1", SOON);
    let mut client = Client::connect(edge.mqtt, "device").unwrap();
    client.publish(1, "plant/1", b"before").unwrap();

    let frozen = image.freeze();
    let publish = mqtt::publish(2, "plant/1", b"meanwhile");
    client.stream.write_all(&publish).unwrap();
    manager.wait_for_silence(SOON);

    drop(frozen);
    manager.wait_for("WATCHDOG=1", SOON);
    assert_eq!(client.read_puback().unwrap(), 2);
}

#[test]
fn the_watchdog_hears_nothing_of_a_cloud_whose_disk_hangs() {
    let scratch = Scratch::new("service-disk");
    let image = match Image::new(&scratch) {
        Ok(image) => image,
        Err(reason) => skip!("{reason}"),
    };
    let manager = ServiceManager::new(WATCHDOG);
    let mut site = Site::new(scratch.path(), &image.mount);
    let cloud = &mut site.cloud;
    supervise_cloud(cloud, &manager);
    cloud.start();
    manager.wait_for("READY=1", SOON);
    for _ in 0..4 {
        manager.wait_for("WATCHDOG=1", SOON);
    }

    let frozen = image.freeze();
    let mut create = create_topic(cloud, &scratch);
    manager.wait_for_silence(SOON);

    drop(frozen);
    manager.wait_for("WATCHDOG=1", SOON);
    assert!(create.wait(SOON).success());
}

/// Its log is in the object store, and that does not answer: nothing is decided, and to start it anew would not help.
#[test]
fn the_watchdog_hears_of_a_cloud_that_waits_for_its_object_store() {
    let scratch = Scratch::new("service-store");
    let image = match Image::new(&scratch) {
        Ok(image) => image,
        Err(reason) => skip!("{reason}"),
    };
    let manager = ServiceManager::new(WATCHDOG);
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    let store = image.mount.join("objects");
    cloud.configure(&format!(
        "wal: object\nobject_store: file://{}\n",
        store.display()
    ));
    supervise_cloud(&mut cloud, &manager);
    cloud.start();
    manager.wait_for("READY=1", SOON);

    let frozen = image.freeze();
    let mut create = create_topic(&cloud, &scratch);
    // For longer than the watchdog waits.
    for _ in 0..6 {
        manager.wait_for("WATCHDOG=1", SOON);
    }
    assert!(create.exited().is_none(), "nothing is decided");

    drop(frozen);
    assert!(create.wait(SOON).success());
}

fn create_topic(cloud: &Cloud, scratch: &Scratch) -> Process {
    let words = ["topic", "create", "meanwhile", "--partitions", "1"];
    let log = scratch.path().join("create.log");
    Process::start(
        "tidegate topic create",
        cli::command(cloud.http, &words),
        &log,
    )
}

/// As systemd sees them: no key that it does not know, and no more rights than it calls OK.
#[test]
fn the_units_are_whole_and_closed() {
    if !workspace::has_tool("systemd-analyze") {
        skip!("systemd-analyze is missing (apt-get install systemd)");
    }
    let scratch = Scratch::new("units");
    for name in ["tidegate-edge", "tidegate-cloud"] {
        let unit = workspace::root().join(format!("deploy/systemd/{name}.service"));
        // What the unit starts must be there for it to be taken as whole.
        let text = std::fs::read_to_string(&unit).unwrap();
        let program = workspace::binary(name);
        let here = text.replace(&format!("/usr/bin/{name}"), &program.display().to_string());
        assert_ne!(here, text, "{name}.service starts {name}");
        let copy = scratch.path().join(format!("{name}.service"));
        std::fs::write(&copy, here.replacen("Documentation=", "#", 1)).unwrap();
        assert_eq!(analyze(&["verify", "--man=no"], &copy), "");
        let security = ["security", "--offline=true", "--threshold", EXPOSURE_MAX];
        let said = analyze(&security, &unit);
        println!("{}", said.lines().next_back().unwrap_or_default());
    }
}

fn analyze(words: &[&str], unit: &Path) -> String {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(words).arg(unit).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    assert!(output.status.success(), "{}: {said}", unit.display());
    said
}

fn supervise(edge: &mut Edge, manager: &ServiceManager) {
    let told = manager.environment(Path::new("/"));
    let [socket, watchdog] = told.map(|(name, value)| format!("{name}={value}"));
    edge.program.wrap(&["env", &socket, &watchdog]);
}

fn supervise_cloud(cloud: &mut Cloud, manager: &ServiceManager) {
    for (name, value) in manager.environment(Path::new("/")) {
        cloud.set_variable(name, value);
    }
}
