//! What tells one state of a file from another. Whoever copies a file may keep its time, and its length may be the same:
//! then it is another file, or its inode has changed later.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    bytes: u64,
    inode: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// None where there is no such file.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            bytes: metadata.len(),
            inode: metadata.ino(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
