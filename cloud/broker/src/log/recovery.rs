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
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::file::{self, FileHeader};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, MAGIC};
use super::{Appended, Log, LogEnd, LogError, LogReader};

const READ_BUFFER_BYTES: usize = 1 << 20;

/// Where the chain of frames stands.
struct Chain {
    store_id: u128,
    next_frame: u64,
    previous_crc: u32,
    /// Frames before the snapshot's end are not handed out.
    after: Option<LogEnd>,
}

impl Chain {
    fn is_behind_snapshot(&self) -> bool {
        self.after
            .is_none_or(|end| self.next_frame >= end.next_frame)
    }

    /// Whether the log is another one than that of which the snapshot was made.
    fn differs_from_snapshot(&self) -> bool {
        self.after.is_some_and(|end| {
            self.next_frame == end.next_frame && self.previous_crc != end.previous_crc
        })
    }
}

pub(super) fn open<E: From<LogError>>(
    directory: &Path,
    new_store_id: u128,
    after: Option<LogEnd>,
    file_bytes_max: u64,
    mut replay: impl FnMut(Appended, Bytes) -> Result<(), E>,
) -> Result<Log, E> {
    fs::create_dir_all(directory).map_err(LogError::io("cannot create the folder", directory))?;
    let sequences = list(directory)?;
    let mut chain = Chain {
        store_id: after.map_or(new_store_id, |end| end.store_id),
        next_frame: 0,
        previous_crc: 0,
        after,
    };
    let first = first_to_read(directory, &sequences, after)?;
    let reader = LogReader::default();
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
    Ok(Log {
        directory: directory.to_owned(),
        store_id: chain.store_id,
        sequence,
        file,
        length,
        next_frame: chain.next_frame,
        previous_crc: chain.previous_crc,
        file_bytes_max,
        failed: false,
        reader,
    })
}

fn first_file(
    directory: &Path,
    chain: &Chain,
    reader: &LogReader,
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
fn list(directory: &Path) -> Result<Vec<u64>, LogError> {
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
fn first_to_read(
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
fn open_old(
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

fn read_header(file: &File, path: &Path) -> Result<Option<FileHeader>, LogError> {
    let mut bytes = Vec::new();
    let mut file = file;
    Read::by_ref(&mut file)
        .take(file::HEADER_BYTES)
        .read_to_end(&mut bytes)
        .map_err(LogError::io("cannot read", path))?;
    FileHeader::decode(path, &bytes)
}

fn check_store(path: &Path, header: &FileHeader, expected: u128) -> Result<(), LogError> {
    match header.store_id == expected {
        true => Ok(()),
        false => Err(LogError::ForeignStore {
            path: path.to_owned(),
            found: header.store_id,
            expected,
        }),
    }
}

const NOT_OF_SNAPSHOT: &str = "it is not the log of which the newest snapshot was made";

/// The log must reach to where the snapshot ends, and be the one of which that was made.
fn check_end(directory: &Path, chain: &Chain) -> Result<(), LogError> {
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
    if first && chain.after.is_none() {
        chain.store_id = header.store_id;
    }
    check_store(&path, &header, chain.store_id)?;
    if first && let Some(end) = chain.after {
        if header.first_frame > end.next_frame {
            return Err(LogError::Missing {
                path: file::path(directory, sequence.saturating_sub(1)),
                before: sequence.saturating_sub(2),
                after: sequence,
            });
        }
        // What came before it is in the snapshot.
        chain.next_frame = header.first_frame;
        chain.previous_crc = header.previous_crc;
    }
    let expected = FileHeader {
        store_id: chain.store_id,
        sequence,
        first_frame: chain.next_frame,
        previous_crc: chain.previous_crc,
    };
    if header != expected {
        return Err(damaged(&path, 0, "it does not follow the file before it"));
    }
    Ok(Some((file, header)))
}

/// Hands out all frames of a file; returns where the next one goes.
fn replay_file<E: From<LogError>>(
    directory: &Path,
    sequence: u64,
    file: &File,
    chain: &mut Chain,
    last: bool,
    replay: &mut impl FnMut(Appended, Bytes) -> Result<(), E>,
) -> Result<u64, E> {
    let path = file::path(directory, sequence);
    let length = length_of(file, &path)?;
    let mut input = BufReader::with_capacity(READ_BUFFER_BYTES, file);
    let mut position = file::HEADER_BYTES;
    let mut last_frame = position;
    input
        .seek(SeekFrom::Start(position))
        .map_err(LogError::io("cannot seek in", &path))?;
    while position < length {
        let found = next_frame(&mut input, length - position, chain, last)
            .map_err(LogError::io("cannot read", &path))?;
        let Some((header, crc, command)) = found else {
            if !last || valid_frame_behind(file, &path, position, length, chain)? {
                return Err(damaged(&path, position, "a frame is not valid").into());
            }
            cut(file, &path, position, length)?;
            break;
        };
        let appended = Appended {
            file: sequence,
            attachments_position: position + header.attachments_offset(),
            frame_bytes: header.frame_bytes(),
        };
        if chain.differs_from_snapshot() {
            return Err(damaged(&path, position, NOT_OF_SNAPSHOT).into());
        }
        if chain.is_behind_snapshot() {
            replay(appended, command)?;
        }
        last_frame = position;
        position += header.frame_bytes();
        chain.next_frame += 1;
        chain.previous_crc = crc;
    }
    if last {
        write_again(file, &path, last_frame, position)?;
    }
    Ok(position)
}

/// Makes the bytes between two places durable, whatever became of an earlier sync of theirs.
fn write_again(file: &File, path: &Path, from: u64, to: u64) -> Result<(), LogError> {
    let mut bytes = vec![0; (to - from) as usize];
    file.read_exact_at(&mut bytes, from)
        .and_then(|()| file.write_all_at(&bytes, from))
        .and_then(|()| file.sync_all())
        .map_err(LogError::io("cannot write and sync", path))
}

/// Reads the frame that must come next; `None` where it does not. Attachments are checked in the
/// last file only: in the others they were synced before the next file was begun, and each batch's
/// own CRC is checked when it is read.
fn next_frame(
    input: &mut BufReader<&File>,
    left: u64,
    chain: &Chain,
    check_attachments: bool,
) -> std::io::Result<Option<(FrameHeader, u32, Bytes)>> {
    if left < FRAME_HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; FRAME_HEADER_BYTES];
    input.read_exact(&mut bytes)?;
    let Some((header, crc)) = FrameHeader::decode(&bytes) else {
        return Ok(None);
    };
    let follows = header.number == chain.next_frame && header.previous_crc == chain.previous_crc;
    if !follows || header.frame_bytes() > left {
        return Ok(None);
    }
    let mut command = BytesMut::zeroed(header.command_bytes as usize);
    input.read_exact(&mut command)?;
    if header.crc(chain.store_id, &command) != crc {
        return Ok(None);
    }
    if !check_attachments {
        input.seek_relative(i64::from(header.attachment_bytes))?;
    } else if attachment_crc(input, header.attachment_bytes as usize)? != header.attachment_crc {
        return Ok(None);
    }
    Ok(Some((header, crc, command.freeze())))
}

fn attachment_crc(input: &mut BufReader<&File>, mut left: usize) -> std::io::Result<u32> {
    let mut buffer = vec![0; left.min(READ_BUFFER_BYTES)];
    let mut crc = 0;
    while left > 0 {
        let part = left.min(READ_BUFFER_BYTES);
        input.read_exact(&mut buffer[..part])?;
        crc = crc32c::crc32c_append(crc, &buffer[..part]);
        left -= part;
    }
    Ok(crc)
}

/// Whether anything behind a bad frame is a frame of this store that was written later.
fn valid_frame_behind(
    file: &File,
    path: &Path,
    position: u64,
    length: u64,
    chain: &Chain,
) -> Result<bool, LogError> {
    let mut rest = vec![0; (length - position) as usize];
    file.read_exact_at(&mut rest, position)
        .map_err(LogError::io("cannot read", path))?;
    let magic = MAGIC.to_le_bytes();
    let starts = (1..rest.len()).filter(|at| rest[*at..].starts_with(&magic));
    Ok(starts.into_iter().any(|at| is_frame(&rest[at..], chain)))
}

fn is_frame(bytes: &[u8], chain: &Chain) -> bool {
    let Some((header, crc)) = FrameHeader::decode(bytes) else {
        return false;
    };
    let command = bytes[FRAME_HEADER_BYTES..].get(..header.command_bytes as usize);
    let valid = command.is_some_and(|command| header.crc(chain.store_id, command) == crc);
    valid && header.number > chain.next_frame
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

fn length_of(file: &File, path: &Path) -> Result<u64, LogError> {
    let metadata = file.metadata();
    Ok(metadata.map_err(LogError::io("cannot stat", path))?.len())
}

fn damaged(path: &Path, position: u64, reason: &'static str) -> LogError {
    LogError::Damaged {
        path: path.to_owned(),
        position,
        reason,
    }
}
