//! Reads attachments back, from any thread, beside the one that appends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use tidegate_cloud_protocol::index::Address;

use super::{LogError, file};

/// The log's files, open for reading. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LogReader {
    files: Arc<RwLock<BTreeMap<u64, Arc<File>>>>,
}

impl LogReader {
    pub(super) fn add(&self, sequence: u64, file: &File, directory: &Path) -> Result<(), LogError> {
        let path = file::path(directory, sequence);
        let file = file
            .try_clone()
            .map_err(LogError::io("cannot open", &path))?;
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(sequence, Arc::new(file));
        Ok(())
    }

    /// Fills `out` with the bytes at `address`. Blocks.
    pub fn read(&self, address: Address, out: &mut [u8]) -> io::Result<()> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let file = files.get(&address.file).cloned();
        drop(files);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(out, address.position)
    }
}
