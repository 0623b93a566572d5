//! The embedded ordered log (`wal: local`): one append-only run of files, in which one write and one fdatasync make a
//! frame durable.
//!
//! Assumptions about the medium: a synced byte stays as it was written, or the CRC shows it; an unsynced one may be
//! lost, torn or kept; after a failed sync nothing is known, so the log refuses to go on.

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
use std::time::Duration;

use bytes::Bytes;

use super::{Appended, LogEnd, LogError, OrderedLog};
use crate::limits::LOG_FILE_BYTES_MAX;
pub use copy::{LogCopy, LogFile, older_files, read_for_copy};
use file::FileHeader;
use frame::FrameHeader;
pub use reader::LocalReader;

/// The log, open for appending.
#[derive(Debug)]
pub struct LocalLog {
    directory: PathBuf,
    store_id: u128,
    sequence: u64,
    file: File,
    length: u64,
    next_frame: u64,
    previous_crc: u32,
    file_bytes_max: u64,
    failed: bool,
    /// Frames that are durable, which nobody was told.
    untold: usize,
    reader: LocalReader,
}

impl LocalLog {
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

    /// The store's id: the same for as long as its files live.
    pub fn store_id(&self) -> u128 {
        self.store_id
    }

    /// A handle that reads attachments back.
    pub fn reader(&self) -> LocalReader {
        self.reader.clone()
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
            object: self.sequence,
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

impl OrderedLog for LocalLog {
    /// Makes the frame durable before it returns.
    fn append(&mut self, command: &[u8], attachments: &[Bytes]) -> Result<Appended, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let appended = self.try_append(command, attachments);
        self.failed = appended.is_err();
        self.untold += usize::from(appended.is_ok());
        appended
    }

    async fn durable(&mut self) -> Result<(), LogError> {
        if self.untold == 0 {
            return std::future::pending().await;
        }
        self.untold -= 1;
        Ok(())
    }

    /// What comes waits until it is told of what is durable.
    fn has_room(&self) -> bool {
        self.untold == 0
    }

    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    fn end(&self) -> LogEnd {
        LogEnd {
            store_id: self.store_id,
            next_frame: self.next_frame,
            previous_crc: self.previous_crc,
        }
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
