//! The embedded ordered log (`wal: local`): one append-only run of files. Its frames hold the
//! ledger's commands, and beside each the batches that the command names, so that one write and one
//! fdatasync make both durable: never a command whose batch is missing.
//!
//! A snapshot of what the commands made shortens the log: frames before it are not handed out again, and a
//! file of such frames can be removed once nothing lies in it that is still read.
//!
//! It knows nothing of what commands mean. Assumptions about the medium: a synced byte stays as it
//! was written, or the CRC shows it; an unsynced one may be lost, torn or kept; after a failed sync
//! nothing is known, so the log refuses to go on.

mod copy;
mod file;
mod frame;
mod reader;
mod recovery;
#[cfg(test)]
mod tests;
mod walk;

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;

use crate::limits::LOG_FILE_BYTES_MAX;
pub use copy::{LogCopy, LogFile, older_files, read_for_copy};
use file::FileHeader;
use frame::FrameHeader;
pub use reader::LogReader;

/// Why the log cannot be opened or appended to.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("{action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "log file {} is damaged at byte {position}: {reason}. Restore the file from a copy; to go on without it would lose what was acknowledged",
        path.display()
    )]
    Damaged {
        path: PathBuf,
        position: u64,
        reason: &'static str,
    },
    #[error("log file {} is missing: the log goes from file {before} to file {after}", path.display())]
    Missing {
        path: PathBuf,
        before: u64,
        after: u64,
    },
    #[error("log file {} belongs to another store ({found:032x}, this one is {expected:032x})", path.display())]
    ForeignStore {
        path: PathBuf,
        found: u128,
        expected: u128,
    },
    #[error("log file {} has format version {found}; this build reads {known}", path.display())]
    UnknownFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "the log in {} ends at frame {found}, before frame {expected} at which the newest snapshot ends: its newest files are missing. Restore them from a copy",
        path.display()
    )]
    EndsBeforeSnapshot {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error(
        "the log in {} ends at frame {found}, and the cloud says that it has come to {expected}: it is another one's folder, or files are missing",
        path.display()
    )]
    EndsEarly {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error("the log has failed before; it is read again from its files at the next start")]
    Failed,
}

impl LogError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// A frame found or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub file: u64,
    /// Where the frame's attachments begin in the file.
    pub attachments_position: u64,
    /// Bytes that the frame takes.
    pub frame_bytes: u64,
}

/// Where a snapshot of what the frames before it made ends, and the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    pub store_id: u128,
    pub next_frame: u64,
    /// Of the frame before it.
    pub previous_crc: u32,
}

/// The log, open for appending.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    store_id: u128,
    sequence: u64,
    file: File,
    length: u64,
    next_frame: u64,
    previous_crc: u32,
    file_bytes_max: u64,
    failed: bool,
    reader: LogReader,
}

impl Log {
    /// Opens the log in `directory` (made where it is missing), and hands every command in it to
    /// `replay`, in order: all from the log's beginning, or those behind a snapshot that ended at `after`.
    /// A torn tail is cut off; damage before the tail is an error.
    ///
    /// `new_store_id` is random, and taken where there is no log yet.
    pub fn open<E: From<LogError>>(
        directory: &Path,
        new_store_id: u128,
        after: Option<LogEnd>,
        replay: impl FnMut(Appended, Bytes) -> Result<(), E>,
    ) -> Result<Self, E> {
        recovery::open(directory, new_store_id, after, LOG_FILE_BYTES_MAX, replay)
    }

    /// Where the log ends now.
    pub fn end(&self) -> LogEnd {
        LogEnd {
            store_id: self.store_id,
            next_frame: self.next_frame,
            previous_crc: self.previous_crc,
        }
    }

    /// The store's id: the same for as long as its files live.
    pub fn store_id(&self) -> u128 {
        self.store_id
    }

    /// A handle that reads attachments back.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Appends one frame and makes it durable.
    ///
    /// # Errors
    /// Nothing of this frame may be acknowledged, and nothing more can be appended: after a failed
    /// write or sync the state of the medium is not known.
    pub fn append(&mut self, command: &[u8], attachments: &[Bytes]) -> Result<Appended, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let appended = self.try_append(command, attachments);
        self.failed = appended.is_err();
        appended
    }

    fn try_append(&mut self, command: &[u8], attachments: &[Bytes]) -> Result<Appended, LogError> {
        if self.length >= self.file_bytes_max {
            self.begin_file()?;
        }
        let header = FrameHeader::new(self.next_frame, self.previous_crc, command, attachments);
        let crc = header.crc(self.store_id, command);
        let encoded = header.encode(crc);
        let path = file::path(&self.directory, self.sequence);
        let parts = [&encoded[..], command].into_iter();
        let parts = parts.chain(attachments.iter().map(|bytes| &bytes[..]));
        write_all_vectored(&mut self.file, parts.map(IoSlice::new).collect())
            .and_then(|()| self.file.sync_data())
            .map_err(LogError::io("cannot write and sync", &path))?;
        let appended = Appended {
            file: self.sequence,
            attachments_position: self.length + header.attachments_offset(),
            frame_bytes: header.frame_bytes(),
        };
        self.length += header.frame_bytes();
        self.next_frame += 1;
        self.previous_crc = crc;
        Ok(appended)
    }

    fn begin_file(&mut self) -> Result<(), LogError> {
        let sequence = self.sequence + 1;
        let header = FileHeader {
            store_id: self.store_id,
            sequence,
            first_frame: self.next_frame,
            previous_crc: self.previous_crc,
        };
        self.file = file::create(&self.directory, &header)?;
        self.reader
            .add(sequence, self.next_frame, &self.file, &self.directory)?;
        self.sequence = sequence;
        self.length = file::HEADER_BYTES;
        Ok(())
    }
}

fn write_all_vectored(file: &mut File, mut slices: Vec<IoSlice<'_>>) -> io::Result<()> {
    let mut rest = &mut slices[..];
    // Empty slices at the front would make a write of zero bytes look like a full disk.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
