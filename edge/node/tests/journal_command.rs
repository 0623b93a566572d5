//! `tidegate-edge journal …` as a user runs it: on a sound journal, a damaged one, and one in use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_journal::Journal;
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_shared::data_lock::DataLock;
use tidegate_shared::id::{StoreId, StreamName, TopicName};
use tidegate_shared::record::{Compression, Record};

fn fill(data: &Path) {
    let medium = Directory::open(data.join("journal")).unwrap();
    let limits = Limits {
        free_disk_min_bytes: 0,
        ..Limits::default()
    };
    let (mut journal, _) = Journal::open(Arc::new(medium), limits, StoreId(7)).unwrap();
    let name = StreamName::new("telemetry").unwrap();
    let topic = TopicName::new("plant").unwrap();
    let stream = journal
        .open_stream(&name, &topic, Compression::None)
        .unwrap();
    for number in 0..20 {
        let record = Record {
            timestamp_ms: 1_700_000_000_000 + number,
            key: Some(Bytes::from_static(b"plant/7")),
            value: Some(Bytes::from(format!("value {number}"))),
            ..Record::default()
        };
        journal.append(stream, &record).unwrap();
        journal.commit().unwrap();
    }
    journal.checkpoint().unwrap();
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate-edge"))
        .arg("journal")
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_sound_journal_is_shown_verified_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    fill(data);
    let shown = run(data, &["inspect"]);
    assert!(shown.status.success(), "{shown:?}");
    assert!(stdout(&shown).contains("telemetry"), "{shown:?}");
    let shown = run(data, &["inspect", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(json["streams"][0]["next"], 20);
    assert_eq!(json["streams"][0]["topic"], "plant");
    let verified = run(data, &["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert!(stdout(&verified).contains("20 records: sound"));
    let exported = run(data, &["export", "--stream", "telemetry", "--from", "18"]);
    let lines: Vec<serde_json::Value> = stdout(&exported)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let values: Vec<_> = lines.iter().map(|line| line["value"].as_str()).collect();
    assert_eq!(values, [Some("value 18"), Some("value 19")]);
    assert_eq!(lines[0]["offset"], 18);
    let unknown = run(data, &["export", "--stream", "telemetri"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn damage_is_found_and_changes_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    fill(data);
    // A journal has several files; only one of them has frames: hit that one's third frame.
    let mut hit = 0;
    for entry in std::fs::read_dir(data.join("journal/log")).unwrap() {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(entry.unwrap().path())
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 3 * 4096).unwrap();
        if byte[0] != 0 {
            file.write_all_at(b"x", 3 * 4096 + 120).unwrap();
            hit += 1;
        }
    }
    assert_eq!(hit, 1);
    let verified = run(data, &["verify", "--output", "json"]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    let json: serde_json::Value = serde_json::from_str(&stdout(&verified)).unwrap();
    assert_eq!(json["sound"], false);
    assert!(json["damage"].as_array().unwrap().len() >= 2, "{json}");
}

#[test]
fn one_in_use_or_not_there_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let missing = run(data, &["inspect"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(!data.join("journal").exists(), "looking makes nothing");
    fill(data);
    let _lock = DataLock::take(data).unwrap();
    for command in ["inspect", "verify", "export"] {
        let refused = run(data, &[command]);
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("in use"), "{said}");
    }
}
