//! What can be wrong with making a backup and with putting one back, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::contents::ContentsError;
use super::manifest::ManifestError;
use crate::store::{StoreError, UrlError};

/// What could not be done with a file or a folder.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// What an error means while this is done.
    pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }
}

/// Why there is no backup. What was written of it is removed again, where that can be done.
#[derive(Debug, Error)]
pub enum BackupError {
    #[error("{place} has a backup {name:?} already, whole or not: give another name")]
    Exists { name: String, place: String },
    #[error(transparent)]
    Contents(#[from] ContentsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} holds no cloud's data: there is no log", _0.display())]
    NoData(PathBuf),
    #[error(
        "the data in {} is that of cloud {found:032x}, and the one that runs is {expected:032x}: give the folder of that one",
        path.display()
    )]
    OtherCloud {
        path: PathBuf,
        found: u128,
        expected: u128,
    },
    #[error(
        "the cloud's segments are in the memory of its process: they cannot be copied. Give it an object_store"
    )]
    InMemory,
    #[error(
        "{0}, where a topic has its segments, is not there: a backup without them would have a hole. See that it is mounted"
    )]
    StoreMissing(String),
    #[error("the ledger names segments in object store {0}, and does not know where that is")]
    StoreUnknown(u32),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("{store} lacks segment {key}, which the cloud relies on: see `tidegate topic verify`")]
    SegmentMissing { store: String, key: String },
    #[error(
        "segment {key} in {store} has {found} bytes and should have {expected}: see `tidegate topic verify`"
    )]
    SegmentLength {
        store: String,
        key: String,
        found: u64,
        expected: u64,
    },
}

/// Why nothing was restored; what was written into the folder is removed again.
#[derive(Debug, Error)]
pub enum RestoreError {
    #[error("{place} holds no backup")]
    NoBackup { place: String },
    #[error("{place} has no backup {name:?}; there are: {names}")]
    Unknown {
        place: String,
        name: String,
        names: String,
    },
    #[error(
        "{place}: the making of backup {name:?} did not come to its end: take another (`tidegate cloud backups`)"
    )]
    Unfinished { place: String, name: String },
    #[error("{place}: {key} cannot be used: {source}. Another backup is taken with --backup NAME")]
    Manifest {
        place: String,
        key: String,
        source: ManifestError,
    },
    #[error("{place} holds backups of several clouds: say which one by --backup NAME")]
    SeveralClouds { place: String },
    #[error(
        "{} is not empty, and a restore never mixes with what is there: name a new folder, or move that one away",
        _0.display()
    )]
    NotEmpty(PathBuf),
    #[error("{place}: {key} is damaged ({what}): take another backup (`tidegate cloud backups`)")]
    Damaged {
        place: String,
        key: String,
        what: String,
    },
    #[error(
        "{count} of the {of} segments that the backup relies on are missing in {store}, such as {first}, and it has no copies of them: were they replaced longer ago than restore_window? Backups made with --with-objects do not depend on that; --object-store names another store"
    )]
    SegmentsMissing {
        store: String,
        count: usize,
        of: usize,
        first: String,
    },
    #[error("segments cannot be kept in memory:// beyond this process")]
    InMemory,
    #[error(
        "the cloud of this backup has topics with an object store of their own ({urls}), and would go on there: to put it beside the original is not possible. Without --object-store it is put back to where it was"
    )]
    OtherStores { urls: String },
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("what was restored does not open: {0}")]
    Contents(#[from] ContentsError),
    #[error("what was restored is not what the manifest tells: {0}")]
    NotAsTold(&'static str),
}
