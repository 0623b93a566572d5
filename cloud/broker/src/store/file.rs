//! Objects as files, where a store is a folder of this machine: what is read of them is read by whoever has opened them, and
//! the page cache is the cache.

use std::fs::File;
use std::io;

use super::Store;
use super::error::{Action, Failure, StoreError};
use super::retry::GaveUp;
use super::usage::{Operation, Outcome};

impl Store {
    /// Whether objects are files, which [`Self::open_file`] opens.
    pub fn has_files(&self) -> bool {
        self.inner.backend.folders.is_some()
    }

    /// An object's file, of which so many bytes are to be read, which are counted; `None` where the store is no folder. Who
    /// has it open reads on when the object is deleted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn open_file(&self, key: &str, bytes: u64) -> Result<Option<File>, StoreError> {
        let inner = &self.inner;
        let Some((_, files)) = &inner.backend.folders else {
            return Ok(None);
        };
        let path = files
            .path_to_filesystem(&self.path(Action::Read, key)?)
            .map_err(|error| inner.refused(Action::Read, key, error.to_string()))?;
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        let failure = match opened.map_err(io::Error::other).flatten() {
            Ok(file) => {
                inner.meter.count(Operation::Get, Outcome::Done, 1);
                inner.meter.read(bytes);
                return Ok(Some(file));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Failure::NotFound,
            Err(error) => Failure::passing(error.to_string()),
        };
        inner.meter.count(Operation::Get, failure.outcome(), 1);
        Err(inner.error(Action::Read, key, GaveUp::at_once(failure)))
    }
}
