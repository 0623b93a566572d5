//! Data folders of each format that was ever released: they open and drain. The newest is also written
//! anew and compared, so that the format cannot change without its number.
//!
//! For a new format: raise `FORMAT_VERSION`, run `TIDEGATE_GOLDEN=make cargo test -p
//! tidegate-edge-journal --test golden`, and add the folder. The old ones stay as long as they are read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_journal::{
    FORMAT_VERSION, Journal, Overflow, Row, RowCommit, RowEntry, RowOperation, RowTable,
    StreamPolicy, TOPIC_HEADER, Tick, TopicProbe,
};
use tidegate_shared::id::{
    ClusterIncarnation, EdgeOffset, Incarnation, Position, SessionEpoch, StoreId, StreamId,
    StreamName, TopicName,
};
use tidegate_shared::record::{Batch, Compression, Header, Record};
use tidegate_shared::topic::TopicFilter;

const LIMITS: Limits = Limits {
    log_file_bytes: 64 << 10,
    commit_bytes_max: 8 << 10,
    record_bytes_max: 4 << 10,
    checkpoint_log_bytes_max: 128 << 10,
    log_files_max: 32,
    free_disk_min_bytes: 0,
    reserve_bytes: 0,
};
const MESSAGES: u64 = 60;
const LANDED: u64 = 20;

fn golden(version: u32) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(version.to_string())
}

fn open(folder: &Path) -> Journal {
    let medium = Directory::open(folder).unwrap();
    let (journal, report) = Journal::open(Arc::new(medium), LIMITS, StoreId(7)).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
    journal
}

fn topic(number: u64) -> String {
    format!("plant/{}/value", number % 3)
}

fn append(journal: &mut Journal, stream: StreamId, number: u64) {
    let topic = Bytes::from(topic(number));
    let record = Record {
        timestamp_ms: 1_790_000_000_000 + number as i64,
        key: Some(topic.clone()),
        value: Some(Bytes::from(format!("{number:1000}"))),
        headers: vec![Header::new(TOPIC_HEADER, topic)],
    };
    journal
        .append_marked(stream, &record, (number % 3) as u8)
        .unwrap();
}

fn row(key: &'static str, operation: RowOperation) -> RowEntry {
    RowEntry {
        table: RowTable::ClientSessions,
        key: Bytes::from_static(key.as_bytes()),
        operation,
    }
}

/// Everything that a journal can hold, part of it past the checkpoint.
fn write(folder: &Path) {
    let mut journal = open(folder);
    let (name, to) = (StreamName::new("telemetry"), TopicName::new("telemetry"));
    let stream = journal.open_stream(&name.unwrap(), &to.unwrap(), Compression::None);
    let stream = stream.unwrap();
    journal.tick(Tick {
        monotonic_ms_since_open: 5_000,
        wall_ms: 1_790_000_000_000,
    });
    journal.grant(stream, Incarnation(3));
    journal.see_session(ClusterIncarnation { counter: 1, id: 2 }, SessionEpoch(4));
    journal
        .stage_row(
            row("kept", RowOperation::Put(Bytes::from_static(b"value"))),
            RowCommit::Awaited,
        )
        .unwrap();
    journal
        .stage_row(
            row("gone", RowOperation::Put(Bytes::new())),
            RowCommit::Awaited,
        )
        .unwrap();
    journal.set_needed_from(Position(0));
    for number in 0..MESSAGES {
        append(&mut journal, stream, number);
        if number % 3 == 2 {
            journal.commit().unwrap();
        }
        if number == 40 {
            journal.set_policy(
                stream,
                StreamPolicy {
                    overflow: Overflow::DropOldest,
                    ..StreamPolicy::default()
                },
            );
            journal.checkpoint().unwrap();
        }
    }
    let chunks = journal
        .reader()
        .read(stream, EdgeOffset(0), usize::MAX)
        .unwrap();
    let landed = chunks.iter().find(|chunk| chunk.end().0 > LANDED).unwrap();
    journal.advance_landed(stream, landed.base_offset, landed.hash_before);
    journal
        .stage_row(
            row("kept", RowOperation::Change(Bytes::from_static(b"one"))),
            RowCommit::Awaited,
        )
        .unwrap();
    journal
        .stage_row(
            row("kept", RowOperation::Change(Bytes::from_static(b"two"))),
            RowCommit::Rides,
        )
        .unwrap();
    journal
        .stage_row(row("gone", RowOperation::Delete), RowCommit::Rides)
        .unwrap();
    journal.commit().unwrap();
}

fn log_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder.join("log"))
        .unwrap()
        .map(Result::unwrap);
    files
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn every_golden_folder_opens_and_drains() {
    let mut versions = 0;
    for entry in fs::read_dir(golden(0).parent().unwrap()).unwrap() {
        let scratch = tempfile::tempdir().unwrap();
        copy(&entry.unwrap().path(), scratch.path());
        let mut journal = open(scratch.path());
        let reader = journal.reader();
        let stream = reader.find(&StreamName::new("telemetry").unwrap()).unwrap();
        let status = reader.stream(stream).unwrap();
        assert_eq!((status.next.0, status.incarnation.0), (MESSAGES, 3));
        assert!((LANDED - 3..=LANDED).contains(&status.landed.0));
        assert_eq!(status.policy.overflow, Overflow::DropOldest);
        assert_eq!(reader.session().1, SessionEpoch(4));
        assert!(reader.time().0 >= 5_000);
        let rows = journal.rows(RowTable::ClientSessions).unwrap();
        let kept = Row {
            value: Some(Bytes::from_static(b"value")),
            changes: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
        };
        assert_eq!(rows, [(Bytes::from_static(b"kept"), kept)]);
        let filter = TopicFilter::new("plant/1/#").unwrap();
        let read = reader
            .read_log(Position(0), &TopicProbe::new([&filter]), usize::MAX)
            .unwrap();
        let mut numbers = Vec::new();
        for chunk in &read.chunks {
            let records = Batch::parse(chunk.batch.clone())
                .unwrap()
                .records()
                .unwrap();
            for (index, record) in records.enumerate() {
                let value = record.unwrap().1.value.unwrap();
                let number: u64 = std::str::from_utf8(&value).unwrap().trim().parse().unwrap();
                assert_eq!(u64::from(chunk.mark(index)), number % 3);
                numbers.push(number);
            }
        }
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
        // It goes on, and all of it lands.
        append(&mut journal, stream, MESSAGES);
        journal.commit().unwrap();
        let status = journal.reader().stream(stream).unwrap();
        journal.advance_landed(stream, status.next, status.hash);
        journal.checkpoint().unwrap();
        versions += 1;
    }
    assert!(versions > 0);
}

#[test]
fn the_format_is_that_of_its_golden_folder() {
    let golden = golden(FORMAT_VERSION);
    if !golden.exists() && std::env::var("TIDEGATE_GOLDEN").as_deref() == Ok("make") {
        write(&golden);
    }
    assert!(
        golden.is_dir(),
        "format {FORMAT_VERSION} has no golden folder"
    );
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path());
    let (found, expected) = (log_files(scratch.path()), log_files(&golden));
    assert!(
        found == expected,
        "the same messages are other bytes: this is another format, and needs another number"
    );
}
