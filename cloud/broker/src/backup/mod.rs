//! Backups of a cloud: what its ledger, its log and its CA are at one moment, with the segments that they rely on.
//!
//! Made by whoever may read the cloud's data folder, beside the running cloud or without one, and kept where an
//! object store's URL says ([`Place`]). A backup counts once its [`Manifest`] is there, which is written last.
//! [`restore()`] puts one back. It decides nothing about edges that have seen a newer state: the ledger does, when
//! they come.

mod check;
mod contents;
mod errors;
mod make;
mod manifest;
mod names;
mod place;
pub(crate) mod restore;

use std::fmt;

pub use check::verify;
pub use contents::ContentsError;
pub use errors::{BackupError, FileError, RestoreError};
pub use make::{Made, Source, make};
pub use manifest::{
    FileEntry, Manifest, ManifestError, ObjectEntry, ObjectStoreState, Position, StoreState,
    TopicState,
};
pub use names::{BackupName, Crc, FilePath, LogStoreId};
pub use place::{BackupState, Listed, Place};
pub use restore::{Restored, Wish, restore};

/// How far a backup or a restore has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub bytes: u64,
    /// Files and segments in all.
    pub total: u64,
}

/// Who is told of it.
pub type Report<'a> = &'a (dyn Fn(Progress) + Sync);

impl fmt::Display for Progress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes >> 20;
        write!(
            out,
            "{} of {} files and segments, {mib} MiB",
            self.done, self.total
        )
    }
}

impl Progress {
    fn add(&mut self, bytes: u64) -> Self {
        self.done += 1;
        self.bytes += bytes;
        *self
    }
}
