//! Snapshots in a folder. One is written whole under another name, synced, and then named.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{KEPT, Snapshot, SnapshotError, decode, encode, name_of, next_frame_of, tell_damaged};
use crate::folders::sync_folder;

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io {
        action,
        path,
        source,
    }
}

fn path_of(directory: &Path, next_frame: u64) -> PathBuf {
    directory.join(name_of(next_frame))
}

/// The frames at which the snapshots in a folder end, newest first. A name that is no snapshot's is passed
/// over.
fn list(directory: &Path) -> Result<Vec<u64>, SnapshotError> {
    let failed = || io_error("cannot list", directory);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        found.extend(name.to_str().and_then(next_frame_of));
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok(found)
}

/// See [`super::Snapshots::load`].
pub(super) fn load(directory: &Path) -> Result<Option<Snapshot>, SnapshotError> {
    fs::create_dir_all(directory).map_err(io_error("cannot create the folder", directory))?;
    remove_unfinished(directory)?;
    for next_frame in list(directory)? {
        let path = path_of(directory, next_frame);
        let bytes = fs::read(&path).map_err(io_error("cannot read", &path))?;
        match decode(&path.display().to_string(), bytes.into())? {
            Some(snapshot) => return Ok(Some(snapshot)),
            None => {
                tell_damaged(&path.display().to_string());
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

/// The newest that is whole, but nothing in the folder is changed: somebody else may be writing there. Blocks.
///
/// # Errors
/// As [`super::Snapshots::load`].
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
            if let Some(snapshot) = decode(&path.display().to_string(), bytes.clone())? {
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

/// See [`super::Snapshots::save`].
pub(super) fn save(directory: &Path, snapshot: &Snapshot) -> Result<Option<u64>, SnapshotError> {
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
    use crate::log::LogEnd;

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
