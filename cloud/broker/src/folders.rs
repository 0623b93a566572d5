//! What makes names on a disk durable: a file's name is in its folder, which is synced on its own.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes the names in a folder durable as they are now. Blocks.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder, named by its whole path, and all above it that are missing, each synced into the one above
/// it. Blocks.
pub(crate) fn make_durable(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent() else {
        return Ok(());
    };
    make_durable(parent)?;
    make_if_missing(folder)?;
    sync_folder(parent)
}

pub(crate) fn make_if_missing(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    }
}
