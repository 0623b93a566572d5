//! The folders in a folder that is a store: each is durable before anything in it is called durable. The
//! objects' files are written and synced by `object_store`; between two writers into one new folder, it would
//! let the second go on before the first has synced the folder's own name.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::folders::{make_durable, make_if_missing, sync_folder};

/// Folders that are known to be durable; with more, all are synced anew.
const FOLDERS_MAX: usize = 65_536;

/// The folders under one root.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl Folders {
    /// Makes the root if it is missing.
    pub(super) fn open(root: &Path) -> io::Result<Arc<Self>> {
        let root = std::path::absolute(root)?;
        make_durable(&root)?;
        Ok(Arc::new(Self {
            root: fs::canonicalize(root)?,
            durable: Mutex::default(),
        }))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folder of an object, durable with all above it up to the root.
    pub(super) async fn prepare(self: &Arc<Self>, object: PathBuf) -> io::Result<()> {
        let Some(folder) = object.parent().map(Path::to_owned) else {
            return Ok(());
        };
        let this = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || this.prepare_folder(&folder));
        prepared.await.map_err(io::Error::other)?
    }

    fn prepare_folder(&self, folder: &Path) -> io::Result<()> {
        // Held while syncing: who comes second must not go on before it is done.
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(folder) && folder.is_dir() {
            return Ok(());
        }
        if durable.len() >= FOLDERS_MAX {
            durable.clear();
        }
        let above: Vec<_> = folder
            .ancestors()
            .take_while(|above| above.starts_with(&self.root) && *above != self.root)
            .collect();
        for folder in above.into_iter().rev() {
            make_if_missing(folder)?;
            if let Some(parent) = folder.parent() {
                sync_folder(parent)?;
            }
            durable.insert(folder.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn folders_are_made_and_made_again() {
        let scratch = tempfile::tempdir().unwrap();
        let folders = Folders::open(&scratch.path().join("a/b")).unwrap();
        let object = folders.root().join("topic/0/segment");
        folders.prepare(object.clone()).await.unwrap();
        assert!(object.parent().unwrap().is_dir());
        fs::remove_dir_all(folders.root().join("topic")).unwrap();
        folders.prepare(object.clone()).await.unwrap();
        assert!(object.parent().unwrap().is_dir());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let folders = Folders::open(scratch.path()).unwrap();
        fs::write(folders.root().join("topic"), b"in the way").unwrap();
        let object = folders.root().join("topic/segment");
        assert!(folders.prepare(object).await.is_err());
        assert!(Folders::open(&folders.root().join("topic")).is_err());
    }
}
