//! A clock that lies: the edge boots in 1970, is set to today, is set back, and boots in 1970 again. No
//! message, session, will or retained message comes to its end by that, and none is kept alive either.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidegate_system_tests::kafka;
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{skip, workspace};

/// Where Debian's package has the library that fakes a process's clock.
fn faketime() -> Option<PathBuf> {
    let parents = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let candidates = parents.map(|parent| parent.path().join("faketime/libfaketime.so.1"));
    candidates.into_iter().find(|path| path.is_file())
}

/// Sets the edge's clock: an offset to the true one, in seconds.
fn set_clock(clock: &Path, offset_s: i64) {
    std::fs::write(clock, format!("{offset_s:+}\n")).unwrap();
}

/// The offset at which it is ten minutes past the epoch.
fn boot_in_1970() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    600 - now.as_secs() as i64
}

fn steps(site: &Site, clock: &Path, phase: &str) -> Output {
    let mut command = workspace::python("clock_steps.py");
    command
        .args([phase, "--port", &site.edge.mqtt.port().to_string()])
        .arg("--clock")
        .arg(clock);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{phase}: {said}");
    output
}

/// An edge with that clock, whose streams keep nothing for longer than an hour.
fn site_with_clock(scratch: &Scratch, library: &Path, clock: &Path) -> Site {
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.configure(&format!(
        "streams:\n  {STREAM}:\n    retention:\n      age: 1h\n"
    ));
    let preload = format!("LD_PRELOAD={}", library.display());
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", clock.display());
    site.edge.program.wrap(&[
        "env",
        &preload,
        &file,
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ]);
    site
}

#[test]
fn a_clock_that_steps_ends_nothing() {
    let Some(library) = faketime() else {
        skip!("libfaketime is missing (apt-get install faketime; tests/run --full does it)");
    };
    let scratch = Scratch::new("clock");
    let clock = scratch.path().join("clock");
    let mut site = site_with_clock(&scratch, &library, &clock);
    set_clock(&clock, boot_in_1970());
    site.edge.start();
    site.edge.wait_ready();
    steps(&site, &clock, "before");
    site.edge.kill();
    set_clock(&clock, boot_in_1970());
    site.edge.start();
    site.edge.wait_ready();
    let output = steps(&site, &clock, "after");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{report}");
    let present = json!({"away": true, "brief": false, "clock-will": true});
    assert_eq!(report["present"], present);
    let expected = [
        "clock/1970/long",
        "clock/brief-will",
        "clock/today",
        "clock/yesterday",
        "clock/end",
    ];
    assert_eq!(report["away"], json!(expected));
    assert_eq!(
        report["retained"],
        json!(["retained/1970/long", "retained/end"])
    );
    let left = report["expiry_min"].as_u64().unwrap();
    assert!((3_500..=3_600).contains(&left), "{left} s are left");
    assert_eq!(
        site.edge.metric("tidegate_journal_gap_records_total"),
        Some(0.0)
    );
    site.cloud.start();
    site.cloud.wait_ready();
    all_has_landed_and_is_flagged(&site, &scratch);
}

/// Kafka has all, in order, and knows which timestamps cannot be true.
fn all_has_landed_and_is_flagged(site: &Site, scratch: &Scratch) {
    site.edge.wait_landed(1);
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(site.cloud.kafka, STREAM, &out);
    let flagged = |record: &kafka::Record| {
        let flag = ("tidegate.clock".to_owned(), "unsynchronised".to_owned());
        record.headers.contains(&flag)
    };
    let seen: Vec<_> = records
        .iter()
        .map(|record| (record.key.as_deref().unwrap_or_default(), flagged(record)))
        .collect();
    let expected = [
        ("clock/1970/long", true),
        ("retained/1970/long", true),
        ("clock/1970/brief", true),
        ("retained/1970/brief", true),
        ("clock/brief-will", false),
        ("clock/today", false),
        ("clock/yesterday", false),
        ("clock/end", true),
        ("retained/end", true),
    ];
    let without_will = |rows: &[(&str, bool)]| -> Vec<(String, bool)> {
        let rows = rows.iter().filter(|(key, _)| *key != "clock/brief-will");
        rows.map(|(key, flag)| ((*key).to_owned(), *flag)).collect()
    };
    // The clock may be set while the brief will is due.
    assert_eq!(without_will(&seen), without_will(&expected));
    assert_eq!(seen.len(), expected.len());
}
