//! Opening the log: every frame is read in order, a torn tail is cut, damage is refused.
//!
//! Only the last file can have a torn tail, since a file is begun after the one before it is synced.
//! In it, a bad frame with nothing valid behind it is a write that was cut short and acknowledged to
//! nobody; with a valid frame behind it, it is damage to what was acknowledged.
//!
//! With a snapshot, frames before its end are read but not handed out, and files that hold no others are
//! only opened: some of them may be missing, as they are removed once nothing in them is read.
//!
//! The last frame is written and synced again before anything is served: where its sync failed, the
//! page cache shows what the medium never got. Those before it were synced before it was written.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::file::{self, FileHeader};
use super::walk::{Chain, NOT_OF_SNAPSHOT, check_store, damaged, length_of, walk_file};
use super::{Appended, LocalLog, LocalReader, LogEnd, LogError};

pub(super) fn open<E: From<LogError>>(
    directory: &Path,
    new_store_id: u128,
    after: Option<LogEnd>,
    file_bytes_max: u64,
    mut replay: impl FnMut(Appended, Bytes) -> Result<(), E>,
) -> Result<LocalLog, E> {
    fs::create_dir_all(directory).map_err(LogError::io("cannot create the folder", directory))?;
    let sequences = list(directory)?;
    let mut chain = Chain::new(new_store_id, after, None);
    let first = first_to_read(directory, &sequences, after)?;
    let reader = LocalReader::default();
    for sequence in &sequences[..first] {
        let (file, header) = open_old(directory, *sequence, chain.store_id)?;
        reader.add(*sequence, header.first_frame, &file, directory)?;
    }
    let mut tail = None;
    for (index, sequence) in sequences.iter().enumerate().skip(first) {
        let last = index + 1 == sequences.len();
        let is_first = index == first;
        let opened = open_file(directory, *sequence, &mut chain, is_first, last)?;
        let Some((file, header)) = opened else {
            break;
        };
        reader.add(*sequence, header.first_frame, &file, directory)?;
        let length = replay_file(directory, *sequence, &file, &mut chain, last, &mut replay)?;
        tail = Some((*sequence, file, length));
    }
    check_end(directory, &chain)?;
    let (sequence, mut file, length) = match tail {
        Some(tail) => tail,
        None => first_file(directory, &chain, &reader)?,
    };
    let path = file::path(directory, sequence);
    file.seek(SeekFrom::Start(length))
        .map_err(LogError::io("cannot seek in", &path))?;
    Ok(LocalLog {
        directory: directory.to_owned(),
        store_id: chain.store_id,
        sequence,
        file,
        length,
        next_frame: chain.next_frame,
        previous_crc: chain.previous_crc,
        file_bytes_max,
        failed: false,
        untold: 0,
        reader,
    })
}

fn first_file(
    directory: &Path,
    chain: &Chain,
    reader: &LocalReader,
) -> Result<(u64, File, u64), LogError> {
    let header = FileHeader {
        store_id: chain.store_id,
        sequence: 1,
        first_frame: 0,
        previous_crc: 0,
    };
    let file = file::create(directory, &header)?;
    reader.add(1, 0, &file, directory)?;
    Ok((1, file, file::HEADER_BYTES))
}

/// The files' sequences, in order.
pub(super) fn list(directory: &Path) -> Result<Vec<u64>, LogError> {
    let mut sequences = Vec::new();
    let failed = || LogError::io("cannot list", directory);
    for entry in fs::read_dir(directory).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        sequences.extend(name.to_str().and_then(file::sequence_of));
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// The first file with frames behind the snapshot, as an index; from there on none may be missing.
pub(super) fn first_to_read(
    directory: &Path,
    sequences: &[u64],
    after: Option<LogEnd>,
) -> Result<usize, LogError> {
    let mut first = 0;
    if let Some(end) = after {
        for (index, sequence) in sequences.iter().enumerate().rev() {
            let (_, header) = match open_old(directory, *sequence, end.store_id) {
                // The last file's creation may have been cut short.
                Err(LogError::Damaged { .. }) if index + 1 == sequences.len() => continue,
                opened => opened?,
            };
            if header.first_frame <= end.next_frame {
                first = index;
                break;
            }
        }
    }
    let missing = |before, after| LogError::Missing {
        path: file::path(directory, before + 1),
        before,
        after,
    };
    let hole = |pair: &&[u64]| pair[0] + 1 != pair[1];
    if let Some(pair) = sequences[first..].windows(2).find(hole) {
        return Err(missing(pair[0], pair[1]));
    }
    match sequences.first() {
        Some(found) if after.is_none() && *found != 1 => Err(missing(0, *found)),
        _ => Ok(first),
    }
}

/// Opens a file of which no frame is read here; what is in it is checked when it is read.
pub(super) fn open_old(
    directory: &Path,
    sequence: u64,
    store_id: u128,
) -> Result<(File, FileHeader), LogError> {
    let path = file::path(directory, sequence);
    let file = OpenOptions::new()
        .read(true)
        .open(&path)
        .map_err(LogError::io("cannot open", &path))?;
    let header = read_header(&file, &path)?;
    let header = header.ok_or_else(|| damaged(&path, 0, "its header is not valid"))?;
    check_store(&path, &header, store_id)?;
    Ok((file, header))
}

pub(super) fn read_header(file: &File, path: &Path) -> Result<Option<FileHeader>, LogError> {
    let mut bytes = Vec::new();
    let mut file = file;
    Read::by_ref(&mut file)
        .take(file::HEADER_BYTES)
        .read_to_end(&mut bytes)
        .map_err(LogError::io("cannot read", path))?;
    FileHeader::decode(path, &bytes)
}

/// The log must reach to where the snapshot ends, and be the one of which that was made.
pub(super) fn check_end(directory: &Path, chain: &Chain) -> Result<(), LogError> {
    match chain.after {
        Some(end) if chain.next_frame < end.next_frame => Err(LogError::EndsBeforeSnapshot {
            path: directory.to_owned(),
            found: chain.next_frame,
            expected: end.next_frame,
        }),
        _ if chain.differs_from_snapshot() => Err(damaged(directory, 0, NOT_OF_SNAPSHOT)),
        _ => Ok(()),
    }
}

/// Opens a file and checks its header. `None` where the last file's creation was cut short: it is
/// removed, for no frame was ever written to it.
fn open_file(
    directory: &Path,
    sequence: u64,
    chain: &mut Chain,
    first: bool,
    last: bool,
) -> Result<Option<(File, FileHeader)>, LogError> {
    let path = file::path(directory, sequence);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(LogError::io("cannot open", &path))?;
    let length = length_of(&file, &path)?;
    let Some(header) = read_header(&file, &path)? else {
        if !last || length > file::HEADER_BYTES {
            return Err(damaged(&path, 0, "its header is not valid"));
        }
        fs::remove_file(&path).map_err(LogError::io("cannot remove", &path))?;
        file::sync_directory(directory)?;
        return Ok(None);
    };
    chain.enter(directory, sequence, &header, first)?;
    Ok(Some((file, header)))
}

/// Hands out the frames of a file, and cuts off what is no frame behind them; returns where the next one goes.
fn replay_file<E: From<LogError>>(
    directory: &Path,
    sequence: u64,
    file: &File,
    chain: &mut Chain,
    last: bool,
    replay: &mut impl FnMut(Appended, Bytes) -> Result<(), E>,
) -> Result<u64, E> {
    let path = file::path(directory, sequence);
    let walked = walk_file(&path, sequence, file, chain, last, replay)?;
    if last {
        let length = length_of(file, &path)?;
        if walked.end < length {
            cut(file, &path, walked.end, length)?;
        }
        write_again(file, &path, walked.last_frame, walked.end)?;
    }
    Ok(walked.end)
}

/// Makes the bytes between two places durable, whatever became of an earlier sync of theirs.
fn write_again(file: &File, path: &Path, from: u64, to: u64) -> Result<(), LogError> {
    let mut bytes = vec![0; (to - from) as usize];
    file.read_exact_at(&mut bytes, from)
        .and_then(|()| file.write_all_at(&bytes, from))
        .and_then(|()| file.sync_all())
        .map_err(LogError::io("cannot write and sync", path))
}

fn cut(file: &File, path: &Path, position: u64, length: u64) -> Result<(), LogError> {
    tracing::warn!(
        file = %path.display(),
        position,
        bytes = length - position,
        "the log ends in a frame that was cut short and never acknowledged; it is removed"
    );
    file.set_len(position)
        .and_then(|()| file.sync_all())
        .map_err(LogError::io("cannot truncate", path))
}
