use std::os::unix::fs::FileExt;

use tidegate_cloud_protocol::index::LogPlace;

use super::*;

const STORE_ID: u128 = 77;

type Frames = Vec<(Appended, Bytes)>;

fn open(directory: &Path) -> Result<(LocalLog, Frames), LogError> {
    open_after(directory, None)
}

fn open_after(directory: &Path, after: Option<LogEnd>) -> Result<(LocalLog, Frames), LogError> {
    let mut frames = Frames::new();
    let log = recovery::open(directory, STORE_ID, after, 4_096, |appended, command| {
        frames.push((appended, command));
        Ok::<(), LogError>(())
    })?;
    Ok((log, frames))
}

/// A log of `count` frames, each with an attachment of 100 bytes.
fn written(directory: &Path, count: u8) -> Vec<Appended> {
    let (mut log, _) = open(directory).unwrap();
    (0..count)
        .map(|n| {
            let attachments = [
                Bytes::from(vec![n; 60]),
                Bytes::new(),
                Bytes::from(vec![n; 40]),
            ];
            log.append(&[n; 20], &attachments).unwrap()
        })
        .collect()
}

fn last_file(directory: &Path) -> File {
    let sequence = std::fs::read_dir(directory)
        .unwrap()
        .filter_map(|entry| file::sequence_of(entry.unwrap().file_name().to_str().unwrap()))
        .max()
        .unwrap();
    let path = file::path(directory, sequence);
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn what_was_appended_is_replayed_across_files() {
    let directory = tempfile::tempdir().unwrap();
    let appended = written(directory.path(), 100);
    assert!(appended.last().unwrap().object > 2);
    let (log, frames) = open(directory.path()).unwrap();
    assert_eq!(log.store_id(), STORE_ID);
    assert_eq!(frames.len(), 100);
    for (n, (at, command)) in frames.iter().enumerate() {
        assert_eq!((at, &command[..]), (&appended[n], &[n as u8; 20][..]));
        let place = LogPlace {
            object: at.object,
            position: at.attachments_position,
        };
        let mut bytes = [0; 100];
        log.reader().read(place, &mut bytes).unwrap();
        assert_eq!(bytes, [n as u8; 100]);
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let appended = written(directory.path(), 3);
    let end = last_file(directory.path()).metadata().unwrap().len();
    let start = end - appended[2].frame_bytes;
    for length in (start..end).rev() {
        last_file(directory.path()).set_len(length).unwrap();
        let (mut log, frames) = open(directory.path()).unwrap();
        assert_eq!(frames.len(), 2, "torn at {length}");
        log.append(&[2; 20], &[Bytes::from(vec![2; 100])]).unwrap();
        assert_eq!(open(directory.path()).unwrap().1.len(), 3);
    }
}

#[test]
fn a_torn_attachment_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let appended = written(directory.path(), 3);
    let file = last_file(directory.path());
    file.write_all_at(b"x", appended[2].attachments_position + 50)
        .unwrap();
    assert_eq!(open(directory.path()).unwrap().1.len(), 2);
}

#[test]
fn damage_before_a_valid_frame_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let appended = written(directory.path(), 3);
    let file = last_file(directory.path());
    file.write_all_at(b"x", appended[1].attachments_position - 5)
        .unwrap();
    let length = file.metadata().unwrap().len();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    assert_eq!(file.metadata().unwrap().len(), length, "nothing was cut");
}

#[test]
fn damage_in_a_file_that_is_not_the_last_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let appended = written(directory.path(), 100);
    let in_first = appended.iter().rfind(|frame| frame.object == 1).unwrap();
    let path = file::path(directory.path(), 1);
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(in_first.attachments_position).unwrap();
    assert!(matches!(
        open(directory.path()),
        Err(LogError::Damaged { .. })
    ));
    std::fs::remove_file(file::path(directory.path(), 2)).unwrap();
    assert!(matches!(
        open(directory.path()),
        Err(LogError::Missing { .. })
    ));
}

#[test]
fn a_file_whose_creation_was_cut_short_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 3);
    std::fs::write(file::path(directory.path(), 2), b"TGC").unwrap();
    let (mut log, frames) = open(directory.path()).unwrap();
    assert_eq!(frames.len(), 3);
    for _ in 0..100 {
        log.append(&[0; 20], &[Bytes::from(vec![0; 100])]).unwrap();
    }
    drop(log);
    assert_eq!(open(directory.path()).unwrap().1.len(), 103);
}

#[test]
fn a_file_of_another_store_is_refused() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    written(here.path(), 100);
    let nothing = |_: Appended, _: Bytes| Ok::<(), LogError>(());
    let mut other = recovery::open(there.path(), STORE_ID + 1, None, 4_096, nothing).unwrap();
    for _ in 0..100 {
        other
            .append(&[0; 20], &[Bytes::from(vec![0; 100])])
            .unwrap();
    }
    let second = |directory: &Path| file::path(directory, 2);
    std::fs::copy(second(there.path()), second(here.path())).unwrap();
    assert!(matches!(
        open(here.path()),
        Err(LogError::ForeignStore { .. })
    ));
}

#[test]
fn after_a_failed_write_nothing_more_is_appended() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 3);
    let (mut log, _) = open(directory.path()).unwrap();
    // A handle that cannot be written stands for a medium that fails.
    let good = std::mem::replace(
        &mut log.file,
        File::open(file::path(directory.path(), 1)).unwrap(),
    );
    assert!(matches!(log.append(b"x", &[]), Err(LogError::Io { .. })));
    log.file = good;
    assert!(matches!(log.append(b"x", &[]), Err(LogError::Failed)));
    assert_eq!(open(directory.path()).unwrap().1.len(), 3);
}

/// The end of the log after its first `count` frames.
fn end_after(directory: &Path, count: u8) -> LogEnd {
    let (mut log, frames) = open(directory).unwrap();
    assert!(frames.is_empty());
    for n in 0..count {
        log.append(&[n; 20], &[Bytes::from(vec![n; 100])]).unwrap();
    }
    log.end()
}

#[test]
fn behind_a_snapshot_only_later_frames_are_handed_out_and_older_files_may_be_missing() {
    let directory = tempfile::tempdir().unwrap();
    let end = end_after(directory.path(), 70);
    let (mut log, _) = open(directory.path()).unwrap();
    for n in 70..100 {
        log.append(&[n; 20], &[Bytes::from(vec![n; 100])]).unwrap();
    }
    let whole_end = log.end();
    drop(log);

    let (log, frames) = open_after(directory.path(), Some(end)).unwrap();
    let handed_out: Vec<u8> = frames.iter().map(|(_, command)| command[0]).collect();
    assert_eq!(handed_out, (70..100).collect::<Vec<u8>>());
    assert_eq!(log.end(), whole_end);
    let old = log.reader().files_before(end.next_frame);
    assert!(old.len() >= 2, "{old:?}");
    // Any of them may go, in any order; those that are left can still be read.
    log.reader().remove(old[1]).unwrap();
    drop(log);
    let (log, frames) = open_after(directory.path(), Some(end)).unwrap();
    assert_eq!((frames.len(), log.end()), (30, whole_end));
    let mut bytes = [1; 100];
    let place = LogPlace {
        object: 1,
        position: 52 + 32 + 20,
    };
    log.reader().read(place, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 100]);
    let gone = LogPlace {
        object: old[1],
        ..place
    };
    assert!(log.reader().read(gone, &mut bytes).is_err());
    for sequence in &old {
        log.reader().remove(*sequence).unwrap();
    }
    drop(log);
    let (mut log, frames) = open_after(directory.path(), Some(end)).unwrap();
    assert_eq!(frames.len(), 30);
    log.append(b"on", &[]).unwrap();
    // Without the snapshot, what is missing is told.
    assert!(matches!(
        open(directory.path()),
        Err(LogError::Missing { .. })
    ));
}

#[test]
fn a_snapshot_of_the_whole_log_hands_out_nothing_and_one_beyond_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let end = end_after(directory.path(), 100);
    let (log, frames) = open_after(directory.path(), Some(end)).unwrap();
    assert_eq!((frames.len(), log.end()), (0, end));
    let beyond = LogEnd {
        next_frame: end.next_frame + 1,
        ..end
    };
    assert!(matches!(
        open_after(directory.path(), Some(beyond)),
        Err(LogError::EndsBeforeSnapshot { .. })
    ));
    let foreign = LogEnd {
        store_id: STORE_ID + 1,
        ..end
    };
    assert!(matches!(
        open_after(directory.path(), Some(foreign)),
        Err(LogError::ForeignStore { .. })
    ));
}

/// As a copy of the log reads it: the numbers of its commands, and what it is made of.
fn copied(
    directory: &Path,
    after: Option<LogEnd>,
    until: Option<u64>,
) -> Result<(Vec<u8>, LogCopy), LogError> {
    let mut numbers = Vec::new();
    let copy = read_for_copy(directory, after, until, |_, command| {
        numbers.push(command[0]);
        Ok::<(), LogError>(())
    })?;
    Ok((numbers, copy))
}

/// A copy ends at any frame, and what it takes of the files opens as a log that ends there.
#[test]
fn a_copy_that_ends_at_any_frame_opens_and_ends_there() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 60);
    for until in [0, 1, 20, 21, 22, 23, 59, 60] {
        let (numbers, copy) = copied(directory.path(), None, Some(until)).unwrap();
        assert_eq!(numbers, (0..until as u8).collect::<Vec<_>>());
        let target = tempfile::tempdir().unwrap();
        for file in &copy.files {
            let bytes = std::fs::read(&file.path).unwrap();
            let name = file.path.file_name().unwrap();
            std::fs::write(target.path().join(name), &bytes[..file.bytes as usize]).unwrap();
        }
        let (log, frames) = open(target.path()).unwrap();
        assert_eq!((log.end(), frames.len() as u64), (copy.end, until));
    }
    let error = copied(directory.path(), None, Some(61)).unwrap_err();
    assert!(
        matches!(error, LogError::EndsEarly { found: 60, .. }),
        "{error}"
    );
}

/// Behind a snapshot only the files that a start reads are taken, and older ones where they are asked for.
#[test]
fn a_copy_behind_a_snapshot_leaves_out_what_no_start_reads() {
    let directory = tempfile::tempdir().unwrap();
    let appended = written(directory.path(), 60);
    let (_, copy) = copied(directory.path(), None, Some(40)).unwrap();
    let (numbers, behind) = copied(directory.path(), Some(copy.end), Some(50)).unwrap();
    assert_eq!(numbers, (40..50).collect::<Vec<_>>());
    assert_eq!(behind.first, appended[40].object);
    assert!(behind.first > 1);
    let needed = [1, behind.first].into_iter();
    let older = older_files(directory.path(), &behind, needed).unwrap();
    assert_eq!(older.len(), 1);
    assert_eq!(older[0].path, file::path(directory.path(), 1));
    std::fs::remove_file(&older[0].path).unwrap();
    assert!(older_files(directory.path(), &behind, [1].into_iter()).is_err());
}

/// Nobody appends: what was cut short is left out, and the log is as it was; damage is refused.
#[test]
fn a_copy_leaves_a_torn_tail_out_and_refuses_damage() {
    let directory = tempfile::tempdir().unwrap();
    let appended = written(directory.path(), 5);
    let file = last_file(directory.path());
    let length = file.metadata().unwrap().len();
    file.set_len(length - 1).unwrap();
    let (numbers, copy) = copied(directory.path(), None, None).unwrap();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(copy.files[0].bytes, length - appended[4].frame_bytes);
    assert_eq!(file.metadata().unwrap().len(), length - 1);
    file.write_all_at(b"x", appended[2].attachments_position)
        .unwrap();
    let error = copied(directory.path(), None, None).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
}
