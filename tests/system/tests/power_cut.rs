//! A real power cut: both nodes' data on a file system that is shut down under load. `kill -9`
//! keeps the page cache; this does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidegate_system_tests::account::{self, Read};
use tidegate_system_tests::kafka;
use tidegate_system_tests::load::{Load, Plan};
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{skip, workspace};

/// As many messages as in the journey: 50,000 where all three clients are there, in 15 s.
const PLAN: Plan = Plan {
    devices_per_client: 4,
    messages_per_device: 4_170,
    rate: 278.0,
};

/// What is written and not synced before the cut.
const UNSYNCED: &[u8] = b"gone after the cut";

/// An ext4 file system in a file, mounted while this lives.
struct Image {
    file: PathBuf,
    mount: PathBuf,
}

impl Image {
    /// The reason where a file system cannot be mounted here.
    fn new(scratch: &Scratch) -> Result<Self, String> {
        let file = scratch.path().join("image");
        let mount = scratch.folder("mount");
        let image = Self { file, mount };
        run("truncate", &["--size=2G"], &[&image.file])?;
        run("mkfs.ext4", &["-q", "-F"], &[&image.file])?;
        image.mount()?;
        Ok(image)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop"], &[&self.file, &self.mount])
    }

    /// All I/O fails from here on, and what was not synced is lost.
    fn cut_power(&self) {
        let status = workspace::python("shutdown_fs.py")
            .arg(&self.mount)
            .status()
            .unwrap();
        assert!(status.success(), "the shutdown ioctl: {status}");
    }

    fn remount(&self) {
        run("umount", &[], &[&self.mount]).unwrap();
        self.mount().unwrap();
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Processes that still use it are killed by their own guards, which are dropped before.
        if let Err(error) = run("umount", &["--lazy"], &[&self.mount]) {
            println!("{error}");
        }
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<(), String> {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let mut command = Command::new(program);
    let output = command
        .env("PATH", path)
        .args(arguments)
        .args(paths)
        .output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut() {
    if std::env::var("TIDEGATE_TEST_FULL").as_deref() != Ok("1") {
        skip!("a power cut mounts a file system: tests/run --full does it");
    }
    if !workspace::is_root() {
        skip!("a power cut needs root, for mount");
    }
    if !workspace::has_tool("mkfs.ext4") {
        skip!("mkfs.ext4 is missing (apt-get install e2fsprogs)");
    }
    let mut random = Random::from_environment();
    for round in 1..=3 {
        let scratch = Scratch::new("power-cut");
        let image = match Image::new(&scratch) {
            Ok(image) => image,
            Err(reason) => skip!("no loop-mounted ext4 here: {reason}"),
        };
        // Between a quarter and three quarters of the load.
        let share = 0.25 + random.below(500) as f64 / 1_000.0;
        cut_under_load(round, &scratch, &image, PLAN.duration().mul_f64(share));
    }
}

fn cut_under_load(round: u32, scratch: &Scratch, image: &Image, after: Duration) {
    let mut site = Site::new(scratch.path(), &image.mount);
    site.start();
    let mut load = Load::start(site.edge.mqtt, PLAN, scratch.path());
    let messages = PLAN.messages(load.clients());
    // The moment of the cut, not a wait.
    std::thread::sleep(after);
    let unsynced = image.mount.join("unsynced");
    std::fs::write(&unsynced, UNSYNCED).unwrap();
    image.cut_power();
    assert!(load.is_running(), "the load ended before the cut");
    site.edge.kill();
    site.cloud.kill();
    image.remount();
    // Its name may be there: a sync of another file commits the file system's whole transaction.
    let kept = std::fs::read(&unsynced).unwrap_or_default();
    assert_ne!(
        kept, UNSYNCED,
        "the cut kept what was not synced: it proves nothing"
    );

    site.start();
    let sent = load.finish(Duration::from_secs(60));
    assert_eq!(sent.acknowledgements() as u64, messages);
    let landed = site.edge.wait_landed(messages);
    let records = kafka::read_all(
        site.cloud.kafka,
        STREAM,
        &scratch.path().join("records.jsonl"),
    );
    let read: Vec<Read> = records.iter().map(kafka::Record::message).collect();
    let faults = account::faults(&sent, &read, landed);
    assert!(
        faults.is_empty(),
        "round {round}, cut after {after:?}:\n{}",
        faults.join("\n")
    );
    println!(
        "round {round}: cut after {after:?}; {messages} messages, {} transmissions, {} records",
        sent.transmissions(),
        read.len()
    );
}
