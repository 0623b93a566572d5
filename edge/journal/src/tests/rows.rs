//! Rows beside records: however much of them a commit holds, all of it is there after a crash.

use super::*;
use crate::{RowCommit, RowEntry, RowOperation, RowTable};

fn row(key: u32, bytes: usize) -> RowEntry {
    RowEntry {
        table: RowTable::ClientSessions,
        key: Bytes::copy_from_slice(&key.to_le_bytes()),
        operation: RowOperation::Put(vec![key as u8; bytes].into()),
    }
}

#[test]
fn a_commit_that_is_larger_than_a_log_file_is_there_after_a_crash() {
    let medium = FaultyMedium::new(1);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    journal.commit().unwrap();
    // Three files' worth of rows, then a record with a row of its own, then another row.
    let bytes = SMALL.row_bytes_max() - 64;
    let count = (3 * SMALL.log_file_bytes / bytes) as u32;
    for key in 0..count {
        journal
            .stage_row(row(key, bytes), RowCommit::Awaited)
            .unwrap();
    }
    journal.append(stream, &record(7, 3000)).unwrap();
    journal
        .stage_row(row(count, 30), RowCommit::WithRecords)
        .unwrap();
    journal
        .stage_row(row(count + 1, bytes), RowCommit::Rides)
        .unwrap();
    journal.commit().unwrap();
    drop(journal);
    medium.cut_power(Survival::Nothing);
    let (journal, report) = open(&medium, SMALL).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert_eq!(payloads(&journal, stream, EdgeOffset(0)), [7]);
    let rows = journal.rows(RowTable::ClientSessions).unwrap();
    assert_eq!(rows.len() as u32, count + 2);
    for (key, found) in rows {
        let number = u32::from_le_bytes(key[..].try_into().unwrap());
        let value = found.value.unwrap();
        assert!(
            value.iter().all(|byte| *byte == number as u8),
            "row {number}"
        );
    }
}

#[test]
fn a_row_that_no_frame_would_hold_is_refused() {
    let (mut journal, _) = open(&FaultyMedium::new(1), SMALL).unwrap();
    let bytes_max = SMALL.row_bytes_max();
    let refused = journal.stage_row(row(1, bytes_max), RowCommit::Awaited);
    assert!(matches!(refused, Err(CommitError::RowTooLarge { .. })));
    assert!(!journal.wants_commit());
}

/// Whatever slips in: what does not fit a file is never acknowledged.
#[test]
fn a_frame_never_spans_files() {
    let medium = FaultyMedium::new(1);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    journal.commit().unwrap();
    let bytes = SMALL.row_bytes_max() - 64;
    journal.append(stream, &record(0, 100)).unwrap();
    for key in 0..8 {
        journal
            .stage_row(row(key, bytes), RowCommit::WithRecords)
            .unwrap();
    }
    assert!(journal.commit().is_err());
    drop(journal);
    medium.cut_power(Survival::Random);
    let (journal, _) = open(&medium, SMALL).unwrap();
    assert_eq!(payloads(&journal, stream, EdgeOffset(0)), []);
}
