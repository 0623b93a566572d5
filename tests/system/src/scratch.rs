//! A folder for one test, under the target folder. It stays for a look when the test fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::workspace;

#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub fn new(name: &str) -> Self {
        let parent = workspace::target().join("tests/scratch");
        std::fs::create_dir_all(&parent).expect("the target folder can be written");
        let folder = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&parent);
        let path = folder.expect("the target folder can be written").keep();
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder within, made where it is missing.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).expect("the scratch folder can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("kept for a look: {}", self.path.display());
        } else {
            // What can't be removed is under the target folder, and goes with it.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// All files below a folder; none where it is not there, and whatever goes meanwhile is left out.
pub fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => drop(found.insert(entry.path())),
            }
        }
    }
    found
}

/// The same, without what an object store is writing, or was when a kill came: that has a `#` in its name.
pub fn objects(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| !path.to_string_lossy().contains('#'));
    found
}
