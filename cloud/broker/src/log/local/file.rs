//! A log file's name and header. A file is created whole (header synced, directory synced) before a
//! frame is written to it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::LogError;
use crate::folders::sync_folder;

/// The header's length.
pub(super) const HEADER_BYTES: u64 = 52;

const CRC_AT: usize = HEADER_BYTES as usize - 4;

const MAGIC: u64 = u64::from_le_bytes(*b"TGCLDLOG");
const FORMAT_VERSION: u32 = 1;

/// Fields, in the order in which they lie: magic, format version, store id, sequence, first frame,
/// previous CRC (the tail of the file before, so that files chain as frames do), CRC of all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) store_id: u128,
    pub(super) sequence: u64,
    pub(super) first_frame: u64,
    pub(super) previous_crc: u32,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        let mut out = &mut bytes[..];
        out.put_u64_le(MAGIC);
        out.put_u32_le(FORMAT_VERSION);
        out.put_u128_le(self.store_id);
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.first_frame);
        out.put_u32_le(self.previous_crc);
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` where the bytes are no header at all (a file whose creation was cut short).
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Option<Self>, LogError> {
        if bytes.len() < HEADER_BYTES as usize {
            return Ok(None);
        }
        let (mut fields, mut crc) = bytes.split_at(CRC_AT);
        if crc32c::crc32c(fields) != crc.get_u32_le() || fields.get_u64_le() != MAGIC {
            return Ok(None);
        }
        let found = fields.get_u32_le();
        if found != FORMAT_VERSION {
            return Err(LogError::UnknownFormat {
                path: path.to_owned(),
                found,
                known: FORMAT_VERSION,
            });
        }
        Ok(Some(Self {
            store_id: fields.get_u128_le(),
            sequence: fields.get_u64_le(),
            first_frame: fields.get_u64_le(),
            previous_crc: fields.get_u32_le(),
        }))
    }
}

pub(super) fn path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:020}.log"))
}

/// The sequence in a log file's name; `None` for any other file.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Makes a file with its header, durable with its name; the cursor stands after the header.
pub(super) fn create(directory: &Path, header: &FileHeader) -> Result<File, LogError> {
    let path = path(directory, header.sequence);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(LogError::io("cannot create", &path))?;
    file.write_all(&header.encode())
        .and_then(|()| file.sync_all())
        .map_err(LogError::io("cannot write and sync", &path))?;
    sync_directory(directory)?;
    Ok(file)
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), LogError> {
    sync_folder(directory).map_err(LogError::io("cannot sync the folder", directory))
}
