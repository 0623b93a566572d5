//! Reads attachments back, from any thread, beside the one that appends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use tidegate_cloud_protocol::index::LogPlace;

use super::{LogError, file};

/// The log's files, open for reading. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LocalReader {
    files: Arc<RwLock<BTreeMap<u64, OpenFile>>>,
}

#[derive(Clone, Debug)]
struct OpenFile {
    first_frame: u64,
    file: Arc<File>,
    path: Arc<Path>,
}

impl LocalReader {
    pub(super) fn add(
        &self,
        sequence: u64,
        first_frame: u64,
        file: &File,
        directory: &Path,
    ) -> Result<(), LogError> {
        let path = file::path(directory, sequence);
        let file = file
            .try_clone()
            .map_err(LogError::io("cannot open", &path))?;
        let open = OpenFile {
            first_frame,
            file: Arc::new(file),
            path: path.into(),
        };
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(sequence, open);
        Ok(())
    }

    /// Fills `out` with the bytes at `place`. Blocks.
    pub fn read(&self, place: LogPlace, out: &mut [u8]) -> io::Result<()> {
        self.file(place)?.read_exact_at(out, place.position)
    }

    /// The file that has `place`.
    pub fn file(&self, place: LogPlace) -> io::Result<Arc<File>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let file = files.get(&place.object).map(|open| Arc::clone(&open.file));
        file.ok_or(io::ErrorKind::NotFound.into())
    }

    /// Whether a file is there.
    pub fn has(&self, sequence: u64) -> bool {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.contains_key(&sequence)
    }

    /// The file that is appended to.
    pub fn newest(&self) -> Option<u64> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.keys().next_back().copied()
    }

    /// The files in which all frames lie before `frame`, oldest first.
    pub fn files_before(&self, frame: u64) -> Vec<u64> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let next = files.values().skip(1).map(|open| open.first_frame);
        let before = files.keys().zip(next);
        before
            .take_while(|(_, next)| *next <= frame)
            .map(|(sequence, _)| *sequence)
            .collect()
    }

    /// Removes files; returns those that are gone, and the last error. Blocks.
    pub(in crate::log) fn remove_all(&self, sequences: Vec<u64>) -> (Vec<u64>, Option<LogError>) {
        let (mut removed, mut failed) = (Vec::new(), None);
        for sequence in sequences {
            match self.remove(sequence) {
                Ok(()) => removed.push(sequence),
                Err(error) => failed = Some(error),
            }
        }
        (removed, failed)
    }

    /// Removes a file; who still reads from it reads on. Blocks.
    ///
    /// # Errors
    /// It is still there, and is read from as before.
    pub fn remove(&self, sequence: u64) -> Result<(), LogError> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let open = files.get(&sequence).cloned();
        drop(files);
        let Some(open) = open else {
            return Ok(());
        };
        match std::fs::remove_file(&open.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::io("cannot remove", &open.path)(error));
            }
            _ => {}
        }
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.remove(&sequence);
        Ok(())
    }
}
