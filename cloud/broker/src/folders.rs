//! What makes names on a disk durable: a file's name is in its folder, which is synced on its own.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes the names in a folder durable as they are now. Blocks.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
