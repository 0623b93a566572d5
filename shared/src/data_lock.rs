//! A data folder's lock: two processes over one log would write it to pieces. The one thing here that
//! touches a disk, since both nodes must do it in the same way.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The folder cannot be used.
#[derive(Debug, Error)]
pub enum DataLockError {
    #[error("the data folder {0} is in use by another process: stop it, or choose another folder")]
    InUse(PathBuf),
    #[error("the data folder {path} cannot be used: {error}")]
    Io { path: PathBuf, error: io::Error },
}

/// Held for as long as the process uses the folder; the system releases it with the process.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the folder where it is missing, and locks it.
    pub fn take(folder: &Path) -> Result<Self, DataLockError> {
        let failed = |error| DataLockError::Io {
            path: folder.to_owned(),
            error,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let file = options.open(folder.join("lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataLockError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
