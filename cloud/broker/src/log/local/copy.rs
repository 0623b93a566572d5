//! Reading a log for a copy of it, also beside the process that appends to it. Every frame that a start would
//! replay is read and checked, so that a copy is known to open; nothing is changed.

use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::recovery::{check_end, first_to_read, list, open_old, read_header};
use super::walk::{Chain, damaged, length_of, walk_file};
use super::{Appended, LogEnd, LogError, file};

/// A file of the log, and how much of it a copy takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    pub bytes: u64,
}

/// What a copy of a log is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCopy {
    /// Where the copy ends.
    pub end: LogEnd,
    /// The files that a start reads, oldest first.
    pub files: Vec<LogFile>,
    /// The sequence of the first of them.
    pub first: u64,
}

/// Hands out the commands in a log behind a snapshot that ended at `after`, up to but without frame `until`;
/// without that, up to where the log ends: then nobody may be appending. Blocks.
///
/// # Errors
/// The log cannot be read, is damaged, or does not go so far.
pub fn read_for_copy<E: From<LogError>>(
    directory: &Path,
    after: Option<LogEnd>,
    until: Option<u64>,
    mut replay: impl FnMut(Appended, Bytes) -> Result<(), E>,
) -> Result<LogCopy, E> {
    let sequences = list(directory)?;
    let first = first_to_read(directory, &sequences, after)?;
    let mut chain = Chain::new(0, after, until);
    let mut files = Vec::new();
    for (index, sequence) in sequences.iter().enumerate().skip(first) {
        if index > first && chain.is_at_end() {
            break;
        }
        let last = index + 1 == sequences.len();
        let path = file::path(directory, *sequence);
        let file = File::open(&path).map_err(LogError::io("cannot open", &path))?;
        let Some(header) = read_header(&file, &path)? else {
            if last && length_of(&file, &path)? <= file::HEADER_BYTES {
                // Its creation was cut short, or is under way: there is no frame in it.
                break;
            }
            return Err(damaged(&path, 0, "its header is not valid").into());
        };
        chain.enter(directory, *sequence, &header, index == first)?;
        let walked = walk_file(&path, *sequence, &file, &mut chain, last, &mut replay)?;
        files.push(LogFile {
            path,
            bytes: walked.end,
        });
    }
    check_end(directory, &chain)?;
    if let Some(expected) = until.filter(|until| chain.next_frame < *until) {
        return Err(LogError::EndsEarly {
            path: directory.to_owned(),
            found: chain.next_frame,
            expected,
        }
        .into());
    }
    Ok(LogCopy {
        end: LogEnd {
            store_id: chain.store_id,
            next_frame: chain.next_frame,
            previous_crc: chain.previous_crc,
        },
        files,
        first: sequences.get(first).copied().unwrap_or(1),
    })
}

/// Files before those that a start reads, in which batches lie that are still needed. Blocks.
///
/// # Errors
/// One is missing, or is none of this log.
pub fn older_files(
    directory: &Path,
    copy: &LogCopy,
    needed: impl Iterator<Item = u64>,
) -> Result<Vec<LogFile>, LogError> {
    let older = needed.take_while(|sequence| *sequence < copy.first);
    let files = older.map(|sequence| {
        let (file, _) = open_old(directory, sequence, copy.end.store_id)?;
        let path = file::path(directory, sequence);
        let bytes = length_of(&file, &path)?;
        Ok(LogFile { path, bytes })
    });
    files.collect()
}
