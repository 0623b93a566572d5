//! Media that lose what they had, and disks that are full: the journal opens, says what is lost, and
//! goes on.

use tidegate_shared::gap::GapReason;

use super::*;
use crate::media::Aside;
use crate::{Overflow, ReadError, StreamPolicy, ToSend};

/// Commits of one record each; several files long.
fn filled(medium: &FaultyMedium, records: u64, bytes: usize) -> (Journal, StreamId) {
    let (mut journal, _) = open(medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    for payload in 0..records {
        journal.append(stream, &record(payload, bytes)).unwrap();
        journal.commit().unwrap();
    }
    (journal, stream)
}

/// Everything that can be read, with gaps between; and how many records those are.
fn readable(journal: &Journal, stream: StreamId) -> (Vec<u64>, u64) {
    let reader = journal.reader();
    let status = reader.stream(stream).unwrap();
    let (mut found, mut lost, mut at) = (Vec::new(), 0, status.landed);
    while at < status.next {
        match reader.read_to_send(stream, at, 1 << 20).unwrap() {
            ToSend::Gap(gap) => {
                assert_eq!(gap.reason, GapReason::Damaged);
                lost += gap.records();
                at = gap.to;
            }
            ToSend::Chunks(chunks) => {
                for chunk in chunks {
                    let batch = Batch::parse(chunk.batch.clone()).unwrap();
                    for found_record in batch.records().unwrap() {
                        let value = found_record.unwrap().1.value.unwrap();
                        found.push(u64::from_le_bytes(value[..8].try_into().unwrap()));
                    }
                    at = chunk.end();
                }
            }
            ToSend::Later | ToSend::Gone { .. } => panic!("nothing is being dropped"),
        }
    }
    (found, lost)
}

/// The hashes chain over gaps and chunks alike, from the start to the end.
fn assert_chain(journal: &Journal, stream: StreamId) {
    let reader = journal.reader();
    let status = reader.stream(stream).unwrap();
    let (mut at, mut hash) = (status.landed, status.landed_hash);
    while at < status.next {
        let pieces = match reader.read_to_send(stream, at, 1 << 20).unwrap() {
            ToSend::Gap(gap) => vec![(gap.from, gap.hash_before, gap.to, gap.hash_after)],
            ToSend::Chunks(chunks) => chunks
                .iter()
                .map(|chunk| {
                    (
                        chunk.base_offset,
                        chunk.hash_before,
                        chunk.end(),
                        chunk.hash_after,
                    )
                })
                .collect(),
            ToSend::Later | ToSend::Gone { .. } => panic!("nothing is being dropped"),
        };
        for (from, before, to, after) in pieces {
            assert_eq!((from, before), (at, hash));
            (at, hash) = (to, after);
        }
    }
    assert_eq!((at, hash), (status.next, status.hash));
}

#[test]
fn a_missing_log_file_becomes_a_gap() {
    let medium = FaultyMedium::new(1);
    let (mut journal, stream) = filled(&medium, 60, 1000);
    journal.checkpoint().unwrap();
    let slot = {
        let shared = journal.shared();
        shared.state.files.values().nth(1).unwrap().slot
    };
    drop(journal);
    medium.lose(Aside::Log(slot));
    let (mut journal, report) = open(&medium, SMALL).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    let (found, lost) = readable(&journal, stream);
    assert!(lost > 5 && lost == report.gap_records);
    assert_eq!(found.len() as u64 + lost, 60);
    assert_chain(&journal, stream);
    // It is said once: the next opening finds a whole journal, with the gap.
    journal.append(stream, &record(60, 10)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let (journal, report) = open(&medium, SMALL).unwrap();
    assert_eq!((report.damage.len(), report.gap_records), (0, 0));
    assert_eq!(readable(&journal, stream).1, lost);
    assert_eq!(readable(&journal, stream).0.last(), Some(&60));
}

#[test]
fn damage_past_the_checkpoint_is_set_aside_and_the_rest_is_kept() {
    for block in [1, 2, 5] {
        let medium = FaultyMedium::new(2);
        let (mut journal, stream) = filled(&medium, 3, 100);
        journal.checkpoint().unwrap();
        // So that the file that is damaged is none that the index needs.
        for payload in 3..40 {
            journal.append(stream, &record(payload, 1000)).unwrap();
            journal.commit().unwrap();
        }
        let slots: Vec<_> = journal
            .shared()
            .files
            .values()
            .map(|file| file.slot)
            .collect();
        drop(journal);
        medium.cut_power(Survival::Nothing);
        assert!(slots.len() >= 3);
        medium.damage(Aside::Log(slots[1]), block * 4096 + 100);
        let (journal, report) = open(&medium, SMALL).unwrap();
        assert!(!report.damage.is_empty());
        assert_eq!((report.gap_records, report.records_lost), (1, 0));
        assert_eq!(report.set_aside.len(), 1);
        assert_eq!(medium.set_aside_files(), 1);
        let (found, lost) = readable(&journal, stream);
        assert_eq!((found.len(), lost), (39, 1));
        assert_chain(&journal, stream);
        drop(journal);
        let (journal, report) = open(&medium, SMALL).unwrap();
        assert_eq!(report.damage, Vec::<String>::new());
        assert_eq!(readable(&journal, stream), (found, 1));
    }
}

#[test]
fn the_last_frame_of_a_file_is_missed_when_the_next_file_does_not_continue_it() {
    let medium = FaultyMedium::new(3);
    let (journal, stream) = filled(&medium, 40, 1000);
    let (slot, used) = {
        let shared = journal.shared();
        let file = shared.state.files.values().next().unwrap();
        (file.slot, file.used as usize)
    };
    drop(journal);
    medium.damage(Aside::Log(slot), used - 4096 + 60);
    let (journal, report) = open(&medium, SMALL).unwrap();
    assert_eq!(report.gap_records, 1, "{report:?}");
    assert_eq!(readable(&journal, stream).0.len(), 39);
    assert_chain(&journal, stream);
}

#[test]
fn a_bad_table_or_header_costs_nothing() {
    let medium = FaultyMedium::new(4);
    let (mut journal, stream) = filled(&medium, 40, 1000);
    journal.checkpoint().unwrap();
    let (slot, used) = {
        let shared = journal.shared();
        let file = shared.state.files.values().next().unwrap();
        (file.slot, file.used as usize)
    };
    drop(journal);
    medium.damage(Aside::Log(slot), used + 40);
    medium.damage(Aside::Log(slot), 20);
    let (journal, report) = open(&medium, SMALL).unwrap();
    assert_eq!(
        (report.damage.len(), report.gap_records),
        (1, 0),
        "{report:?}"
    );
    assert_eq!(payloads(&journal, stream, EdgeOffset(0)).len(), 40);
}

/// A reader finds it, the committer declares it, and what is good around it stays.
#[test]
fn damage_that_is_found_when_it_is_read_becomes_a_gap() {
    // In each field of the chunk, in its mark, and in its batch, CRC or not.
    for byte in (62..160).chain([900]) {
        read_over_damage(byte);
    }
}

fn read_over_damage(byte: usize) {
    let medium = FaultyMedium::new(5);
    let (mut journal, stream) = filled(&medium, 60, 1000);
    journal.checkpoint().unwrap();
    let slot = journal.shared().state.files.values().next().unwrap().slot;
    // Frames 4 and 5 of the first file: a block of header, then a frame a block.
    medium.damage(Aside::Log(slot), 4 * 4096 + byte);
    medium.damage(Aside::Log(slot), 5 * 4096 + byte);
    let reader = journal.reader();
    let chunks = reader.read(stream, EdgeOffset(0), 1 << 20).unwrap();
    let from = chunks.last().unwrap().end();
    assert!(matches!(
        reader.read(stream, from, 1),
        Err(ReadError::Damaged { .. })
    ));
    let gap = journal.declare_damage(stream, from).unwrap().unwrap();
    assert_eq!((gap.from, gap.records()), (from, 2));
    assert_eq!(journal.declare_damage(stream, gap.to).unwrap(), None);
    assert_eq!(readable(&journal, stream).0.len(), 58);
    assert_chain(&journal, stream);
    drop(journal);
    medium.cut_power(Survival::Nothing);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    assert_eq!(readable(&journal, stream).1, 2);
    // Once nothing lives in the file it is set aside, not used again.
    let status = journal.reader().stream(stream).unwrap();
    journal.advance_landed(stream, status.next, status.hash);
    journal.checkpoint().unwrap();
    assert_eq!(medium.set_aside_files(), 1);
    assert_eq!(journal.reader().stream(stream).unwrap().gaps, []);
}

#[test]
fn a_lost_index_begins_a_new_store_and_keeps_the_old_one_aside() {
    for whole in [true, false] {
        let medium = FaultyMedium::new(6);
        let (mut journal, _) = filled(&medium, 60, 1000);
        journal.checkpoint().unwrap();
        let files = journal.shared().files.len();
        drop(journal);
        if whole {
            medium.lose(Aside::Database);
        } else {
            medium.damage(Aside::Database, 0);
            medium.damage(Aside::Database, 5);
        }
        let new = StoreId(43);
        let (mut journal, report) = Journal::open(Arc::new(medium.clone()), SMALL, new).unwrap();
        assert!(report.index_lost && !report.created, "{report:?}");
        assert_eq!(report.set_aside.len(), files + usize::from(!whole));
        assert_eq!(journal.reader().store_id(), new);
        let stream = open_stream(&mut journal, "telemetry");
        journal.append(stream, &record(7, 10)).unwrap();
        journal.commit().unwrap();
        drop(journal);
        let (journal, report) = open(&medium, SMALL).unwrap();
        assert!(!report.index_lost && !report.created);
        assert_eq!(payloads(&journal, stream, EdgeOffset(0)), [7]);
    }
}

#[test]
fn a_real_folder_loses_a_file_and_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("journal");
    let open = || {
        let medium = Arc::new(Directory::open(&root).unwrap());
        Journal::open(medium, SMALL, STORE).unwrap()
    };
    let (mut journal, _) = open();
    let stream = open_stream(&mut journal, "telemetry");
    for payload in 0..60 {
        journal.append(stream, &record(payload, 1000)).unwrap();
        journal.commit().unwrap();
    }
    journal.checkpoint().unwrap();
    let slot = journal.shared().state.files.values().next().unwrap().slot;
    drop(journal);
    assert!(root.join("reserve").exists());
    std::fs::remove_file(root.join(format!("log/{slot:05}.log"))).unwrap();
    let (journal, report) = open();
    assert!(report.gap_records > 5, "{report:?}");
    let (found, lost) = readable(&journal, stream);
    assert_eq!(found.len() as u64 + lost, 60);
    drop(journal);
    std::fs::write(root.join("index.redb"), b"nothing that was ever an index").unwrap();
    let (mut journal, report) = open();
    assert!(report.index_lost, "{report:?}");
    assert!(root.join("index.redb.damaged-1").exists());
    for name in &report.set_aside {
        assert!(root.join(name).exists(), "{name}");
    }
    let stream = open_stream(&mut journal, "telemetry");
    journal.append(stream, &record(1, 10)).unwrap();
    journal.commit().unwrap();
    assert_eq!(payloads(&journal, stream, EdgeOffset(0)), [1]);
}

/// Appends, commits, landings and checkpoints, a drop_oldest stream among them. Returns how many
/// records were acknowledged, and whether the journal has failed.
fn script(journal: &mut Journal, stream: StreamId, acknowledged: &mut Vec<u64>) -> bool {
    for payload in 0..80 {
        journal.append(stream, &record(payload, 1500)).unwrap();
        match journal.commit() {
            Ok(_) => acknowledged.push(payload),
            Err(CommitError::Full) => {}
            Err(_) => return true,
        }
        if payload % 9 == 8 {
            match journal.checkpoint() {
                Ok(()) | Err(CommitError::Full) => {}
                Err(_) => return true,
            }
        }
        if payload % 16 == 15 && journal.retain().is_err() {
            return true;
        }
    }
    false
}

/// The disk is full from each changing call on: commits are refused or taken, the journal goes on
/// when there is space again, and what was acknowledged is there, before and after a power cut.
#[test]
fn a_full_disk_at_any_write_loses_nothing_acknowledged() {
    let mut postponed = 0;
    for nth in 1.. {
        let medium = FaultyMedium::new(nth);
        let (mut journal, _) = open(&medium, SMALL).unwrap();
        let stream = open_stream(&mut journal, "telemetry");
        journal.commit().unwrap();
        medium.fill_up_at_write(nth);
        let mut acknowledged = Vec::new();
        let failed = script(&mut journal, stream, &mut acknowledged);
        let is_full = medium.is_failing();
        postponed += u64::from(journal.stats().checkpoint_needs_space);
        medium.free_space();
        if !failed {
            // The journal itself goes on.
            journal.checkpoint().unwrap();
            journal.append(stream, &record(1000, 10)).unwrap();
            journal.commit().unwrap();
            acknowledged.push(1000);
            assert_eq!(payloads(&journal, stream, EdgeOffset(0)), acknowledged);
        }
        drop(journal);
        medium.cut_power(Survival::Random);
        let (journal, report) = open(&medium, SMALL).unwrap();
        assert_eq!(report.damage, Vec::<String>::new(), "at write {nth}");
        let found = payloads(&journal, stream, EdgeOffset(0));
        let mut rest = found.iter();
        let all_there = acknowledged
            .iter()
            .all(|payload| rest.any(|found| found == payload));
        assert!(all_there, "at write {nth}");
        assert!(found.len() <= acknowledged.len() + 1, "at write {nth}");
        if !is_full {
            assert!(nth > 100 && postponed > 10, "{nth} {postponed}");
            return;
        }
    }
}

/// A tight journal that drops its oldest, with EIO or ENOSPC from each changing call on: what was
/// acknowledged is there or declared lost.
#[test]
fn errors_at_any_write_of_a_journal_that_drops_leave_nothing_uncounted() {
    let tight = Limits {
        log_files_max: 5,
        ..SMALL
    };
    for full in [false, true] {
        let mut dropped = 0;
        for nth in 1.. {
            let medium = FaultyMedium::new(nth);
            let (mut journal, _) = open(&medium, tight).unwrap();
            let stream = open_stream(&mut journal, "telemetry");
            journal.commit().unwrap();
            let policy = StreamPolicy {
                overflow: Overflow::DropOldest,
                ..StreamPolicy::default()
            };
            journal.set_policy(stream, policy);
            match full {
                true => medium.fill_up_at_write(nth),
                false => medium.fail_at_write(nth),
            }
            let mut acknowledged = Vec::new();
            script(&mut journal, stream, &mut acknowledged);
            let has_failed = medium.is_failing();
            drop(journal);
            medium.cut_power(Survival::Random);
            let (journal, _) = open(&medium, tight).unwrap();
            let status = journal.reader().stream(stream).unwrap();
            assert_eq!(status.gap_records, status.first.0, "at write {nth}");
            let found = payloads(&journal, stream, status.first);
            let first = status.first.0 as usize;
            let kept = acknowledged.get(first..).unwrap_or_default();
            assert!(
                found.starts_with(kept),
                "at write {nth}: {found:?} {kept:?}"
            );
            dropped += status.gap_records;
            if !has_failed {
                assert!(nth > 100 && dropped > 100, "{nth} {dropped}");
                break;
            }
        }
    }
}

/// A disk that is full for the index only: the log goes on up to its bound, then refuses.
#[test]
fn an_index_without_space_waits_for_it_and_the_log_stays_bounded() {
    let medium = FaultyMedium::new(9);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    journal.commit().unwrap();
    medium.fill_up_database();
    let mut refused = None;
    for payload in 0..400 {
        journal.append(stream, &record(payload, 1500)).unwrap();
        if matches!(journal.commit(), Err(CommitError::Full)) {
            refused = Some(payload);
            break;
        }
        if payload % 8 == 7 {
            assert!(matches!(journal.checkpoint(), Err(CommitError::Full)));
        }
    }
    let refused = refused.expect("the log is bounded");
    assert!(journal.stats().checkpoint_needs_space);
    medium.free_space();
    journal.checkpoint().unwrap();
    assert!(!journal.stats().checkpoint_needs_space);
    journal.append(stream, &record(refused, 10)).unwrap();
    journal.commit().unwrap();
    let expected: Vec<u64> = (0..=refused).collect();
    assert_eq!(payloads(&journal, stream, EdgeOffset(0)), expected);
}

/// Space is so short that only what is held in reserve lets the index be written.
#[test]
fn the_reserve_is_given_up_for_a_checkpoint() {
    let medium = FaultyMedium::new(10);
    let limits = Limits {
        reserve_bytes: 1 << 20,
        ..SMALL
    };
    let (mut journal, _) = open(&medium, limits).unwrap();
    assert!(journal.reserve_is_held);
    medium.limit_space(medium.used_bytes() + 1000);
    let mut needed = 0;
    for stream in 0..2000 {
        let stream = open_stream(&mut journal, &format!("stream-{stream}"));
        let policy = StreamPolicy {
            overflow: Overflow::DropOldest,
            ..StreamPolicy::default()
        };
        journal.set_policy(stream, policy);
        if stream.0 % 50 == 49 {
            match journal.commit() {
                Ok(_) | Err(CommitError::Full) => {}
                Err(error) => panic!("{error}"),
            }
            match journal.checkpoint() {
                Ok(()) => {}
                Err(CommitError::Full) => needed += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(!journal.reserve_is_held, "it was needed");
    assert_eq!(needed, 0, "and enough");
    medium.free_space();
    journal.checkpoint().unwrap();
    assert!(journal.reserve_is_held, "it is held again");
}
