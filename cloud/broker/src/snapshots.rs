//! Snapshots on disk: what the commands before a place in the log have made, so that a start replays
//! only those behind it, and older log files can go.
//!
//! A snapshot is written whole under another name, synced, and then named; the two newest are kept, so
//! that one that the medium damaged is not the end. It knows nothing of what the state means.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidegate_shared::wire::{Reader, WireError};

use crate::folders::sync_folder;
use crate::log::LogEnd;

/// The state at one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub end: LogEnd,
    /// The ledger's time then, in milliseconds since the Unix epoch.
    pub ledger_ms: i64,
    pub ledger: Bytes,
    pub offset_map: Bytes,
}

/// Why a snapshot cannot be written or the folder not be read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("{action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "snapshot {} has format version {found}; this build reads {FORMAT_VERSION}: run the build that wrote it or newer",
        path.display()
    )]
    UnknownFormat { path: PathBuf, found: u32 },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io {
        action,
        path,
        source,
    }
}

const MAGIC: u64 = u64::from_le_bytes(*b"TGCLDSNP");
const FORMAT_VERSION: u32 = 1;

/// Snapshots that are kept.
pub const KEPT: usize = 2;

/// Fields, in the order in which they lie: magic, format version, store id, next frame, previous CRC, the
/// ledger's time, the ledger's bytes and the offset map's with their lengths (64 bits), CRC32C of all before.
fn encode(snapshot: &Snapshot) -> BytesMut {
    let length = snapshot.ledger.len() + snapshot.offset_map.len() + 80;
    let mut out = BytesMut::with_capacity(length);
    out.put_u64_le(MAGIC);
    out.put_u32_le(FORMAT_VERSION);
    out.put_u128_le(snapshot.end.store_id);
    out.put_u64_le(snapshot.end.next_frame);
    out.put_u32_le(snapshot.end.previous_crc);
    out.put_i64_le(snapshot.ledger_ms);
    for part in [&snapshot.ledger, &snapshot.offset_map] {
        out.put_u64_le(part.len() as u64);
        out.put_slice(part);
    }
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out
}

/// `None` where the bytes are not a whole snapshot.
fn decode(path: &Path, bytes: Bytes) -> Result<Option<Snapshot>, SnapshotError> {
    let Some(covered) = bytes.len().checked_sub(size_of::<u32>()) else {
        return Ok(None);
    };
    let mut crc = Reader::new(bytes.slice(covered..));
    if crc.u32("crc") != Ok(crc32c::crc32c(&bytes[..covered])) {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes.slice(..covered));
    let head = reader.u64("magic").ok().zip(reader.u32("version").ok());
    match head {
        Some((MAGIC, FORMAT_VERSION)) => Ok(take(&mut reader).ok()),
        Some((MAGIC, found)) => Err(SnapshotError::UnknownFormat {
            path: path.to_owned(),
            found,
        }),
        _ => Ok(None),
    }
}

fn take(reader: &mut Reader) -> Result<Snapshot, WireError> {
    let end = LogEnd {
        store_id: reader.u128("store id")?,
        next_frame: reader.u64("next frame")?,
        previous_crc: reader.u32("previous crc")?,
    };
    let ledger_ms = reader.i64("ledger's time")?;
    let mut part = |field| {
        let length = usize::try_from(reader.u64(field)?);
        reader.take(field, length.unwrap_or(usize::MAX))
    };
    let (ledger, offset_map) = (part("ledger")?, part("offset map")?);
    Ok(Snapshot {
        end,
        ledger_ms,
        ledger,
        offset_map,
    })
}

fn path_of(directory: &Path, next_frame: u64) -> PathBuf {
    directory.join(format!("{next_frame:020}.snapshot"))
}

/// The frames at which the snapshots in a folder end, newest first. A name that is no snapshot's is passed
/// over.
fn list(directory: &Path) -> Result<Vec<u64>, SnapshotError> {
    let failed = || io_error("cannot list", directory);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_suffix(".snapshot"));
        found.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok(found)
}

/// The newest snapshot that is whole. Damaged ones are told of and set aside, so that none of them is taken
/// for one that can be fallen back to. Blocks.
///
/// # Errors
/// The folder or a file cannot be read, or a snapshot is of a newer build.
pub fn load(directory: &Path) -> Result<Option<Snapshot>, SnapshotError> {
    fs::create_dir_all(directory).map_err(io_error("cannot create the folder", directory))?;
    remove_unfinished(directory)?;
    for next_frame in list(directory)? {
        let path = path_of(directory, next_frame);
        let bytes = fs::read(&path).map_err(io_error("cannot read", &path))?;
        match decode(&path, bytes.into())? {
            Some(snapshot) => return Ok(Some(snapshot)),
            None => {
                tracing::warn!(
                    snapshot = %path.display(),
                    "the snapshot is damaged, and set aside; an older one is used, and more of the log replayed"
                );
                let aside = path.with_extension("damaged");
                fs::rename(&path, &aside).map_err(io_error("cannot rename", &path))?;
            }
        }
    }
    Ok(None)
}

/// A snapshot's file as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    pub name: String,
    pub bytes: Bytes,
    pub snapshot: Snapshot,
}

/// As [`load`], but nothing in the folder is changed: somebody else may be writing there. Blocks.
///
/// # Errors
/// As [`load`].
pub fn read_newest(directory: &Path) -> Result<Option<SnapshotFile>, SnapshotError> {
    if !directory.is_dir() {
        return Ok(None);
    }
    'again: loop {
        for next_frame in list(directory)? {
            let path = path_of(directory, next_frame);
            let bytes: Bytes = match fs::read(&path) {
                Ok(bytes) => bytes.into(),
                // There are newer ones by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue 'again,
                Err(error) => return Err(io_error("cannot read", &path)(error)),
            };
            if let Some(snapshot) = decode(&path, bytes.clone())? {
                let name = path.file_name().unwrap_or_default();
                return Ok(Some(SnapshotFile {
                    name: name.to_string_lossy().into_owned(),
                    bytes,
                    snapshot,
                }));
            }
        }
        return Ok(None);
    }
}

/// Those whose writing was cut short would take room for ever.
fn remove_unfinished(directory: &Path) -> Result<(), SnapshotError> {
    let failed = || io_error("cannot list", directory);
    for entry in fs::read_dir(directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == UNFINISHED)
        {
            fs::remove_file(&path).map_err(io_error("cannot remove", &path))?;
        }
    }
    Ok(())
}

const UNFINISHED: &str = "new";

/// Writes a snapshot, durable when it returns, and removes all but the newest [`KEPT`]. Returns the frame
/// at which the oldest one ends that is kept, once there are so many: what lies before it nothing will
/// replay. Blocks.
///
/// # Errors
/// The snapshot is not there; those before it are.
pub fn save(directory: &Path, snapshot: &Snapshot) -> Result<Option<u64>, SnapshotError> {
    let path = path_of(directory, snapshot.end.next_frame);
    let unnamed = path.with_extension(UNFINISHED);
    let written = File::create(&unnamed).and_then(|mut file| {
        file.write_all(&encode(snapshot))?;
        file.sync_all()
    });
    written.map_err(|error| {
        // On a full disk, the room is needed for the log.
        let _ = fs::remove_file(&unnamed);
        io_error("cannot write and sync", &unnamed)(error)
    })?;
    fs::rename(&unnamed, &path).map_err(io_error("cannot rename", &unnamed))?;
    sync_folder(directory).map_err(io_error("cannot sync the folder", directory))?;
    let found = list(directory)?;
    for older in found.iter().skip(KEPT) {
        let path = path_of(directory, *older);
        fs::remove_file(&path).map_err(io_error("cannot remove", &path))?;
    }
    Ok(found.get(KEPT - 1).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(next_frame: u64) -> Snapshot {
        Snapshot {
            end: LogEnd {
                store_id: 77,
                next_frame,
                previous_crc: 5,
            },
            ledger_ms: 5,
            ledger: Bytes::from(vec![next_frame as u8; 100]),
            offset_map: Bytes::from_static(b"map"),
        }
    }

    #[test]
    fn the_newest_that_is_whole_is_loaded_and_two_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(load(folder).unwrap(), None);
        assert_eq!(save(folder, &snapshot(3)).unwrap(), None);
        assert_eq!(save(folder, &snapshot(20)).unwrap(), Some(3));
        assert_eq!(save(folder, &snapshot(100)).unwrap(), Some(20));
        assert_eq!(load(folder).unwrap(), Some(snapshot(100)));
        assert_eq!(fs::read_dir(folder).unwrap().count(), KEPT);
        fs::write(folder.join("00000000000000000200.new"), b"half").unwrap();
        assert_eq!(load(folder).unwrap(), Some(snapshot(100)));
        assert_eq!(
            fs::read_dir(folder).unwrap().count(),
            KEPT,
            "no half one is left"
        );
    }

    #[test]
    fn damage_at_any_byte_or_length_is_found_and_the_older_one_serves() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        save(folder, &snapshot(3)).unwrap();
        save(folder, &snapshot(4)).unwrap();
        let path = path_of(folder, 4);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert_eq!(load(folder).unwrap(), Some(snapshot(3)), "flipped at {at}");
            assert!(!path.exists(), "it is set aside");
            fs::write(&path, &flipped).unwrap();
            let read = read_newest(folder).unwrap().unwrap();
            assert_eq!(read.snapshot, snapshot(3));
            assert!(path.exists(), "nothing is changed");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(load(folder).unwrap(), Some(snapshot(3)), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = encode(&snapshot(3));
        bytes[8] = 9;
        let covered = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..covered]);
        bytes[covered..].copy_from_slice(&crc.to_le_bytes());
        fs::write(path_of(folder.path(), 3), bytes).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }
}
