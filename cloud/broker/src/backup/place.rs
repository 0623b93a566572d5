//! Where backups are: a folder, or whatever else an object store's URL names. Each backup has its files in a folder
//! of its own; copies of segments, which never change, are shared by all of them, and carry their CRC in their
//! names: what is there already is known by a listing.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

use bytes::Bytes;
use uuid::Uuid;

use super::manifest::{Manifest, ManifestError};
use super::names::{BackupName, Crc, FilePath};
use crate::segments;
use crate::store::limits::LIST_PAGE_MAX;
use crate::store::{Created, ObjectInfo, Store, StoreError};

const BACKUPS: &str = "backups";
const OBJECTS: &str = "objects";
const MANIFEST: &str = "manifest.json";

/// Its bytes mean nothing.
const TAKEN: &str = "begun";

/// See the module.
#[derive(Clone, Debug)]
pub struct Place {
    store: Store,
}

/// A backup, or what one has left that did not come to its end.
#[derive(Clone, Debug)]
pub struct Listed {
    pub name: String,
    pub state: BackupState,
}

/// What became of a backup.
#[derive(Clone, Debug)]
pub enum BackupState {
    Whole(Box<Manifest>),
    /// It has no manifest: it is being made, or its making was cut short.
    Unfinished,
    /// Its manifest cannot be used.
    Wrong(ManifestError),
}

/// A copy of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) bytes: u64,
    pub(super) crc32c: Crc,
}

impl Place {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Where it is, as a URL.
    pub fn url(&self) -> &str {
        self.store.url().as_str()
    }

    /// Every backup, in the order of their names.
    ///
    /// # Errors
    /// The place cannot be read.
    pub async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut names: BTreeMap<String, bool> = BTreeMap::new();
        for object in list_all(&self.store, BACKUPS).await? {
            let parts = object.key.split('/').collect::<Vec<_>>();
            if let [_, name, file @ ..] = &parts[..] {
                *names.entry((*name).to_owned()).or_default() |= *file == [MANIFEST];
            }
        }
        let mut listed = Vec::new();
        for (name, has_manifest) in names {
            let state = match has_manifest {
                true => self.state(&name).await?,
                false => BackupState::Unfinished,
            };
            listed.push(Listed { name, state });
        }
        Ok(listed)
    }

    async fn state(&self, name: &str) -> Result<BackupState, StoreError> {
        let bytes = self.store.read_whole(&manifest_key(name)).await?;
        Ok(match Manifest::decode(&bytes) {
            Ok(manifest) if manifest.name.as_str() == name => {
                BackupState::Whole(Box::new(manifest))
            }
            Ok(manifest) => BackupState::Wrong(ManifestError::Malformed(format!(
                "it is the one of {:?}",
                manifest.name.as_str()
            ))),
            Err(error) => BackupState::Wrong(error),
        })
    }

    /// Takes a name; `false` where another backup has it, whole or not.
    pub(super) async fn take_name(&self, name: &BackupName) -> Result<bool, StoreError> {
        let folder = format!("{BACKUPS}/{}", name.as_str());
        if !self.store.list(&folder, None, 1).await?.objects.is_empty() {
            return Ok(false);
        }
        // Whoever takes it at the same time writes something else.
        let taker = Uuid::new_v4().to_string().into_bytes();
        let key = format!("{folder}/{TAKEN}");
        let taken = self.store.create(&key, taker.into()).await?;
        Ok(taken == Created::New)
    }

    /// Makes room for a backup's files. In a folder, nobody else can look into the one that gets the keys.
    pub(super) fn prepare(&self, name: &BackupName) -> io::Result<()> {
        let Some(folder) = self.folder(name) else {
            return Ok(());
        };
        fs::create_dir_all(&folder)?;
        DirBuilder::new().mode(0o700).create(folder.join("tls"))
    }

    fn folder(&self, name: &BackupName) -> Option<PathBuf> {
        let folder = self.store.url().as_folder()?;
        Some(folder.join(BACKUPS).join(name.as_str()))
    }

    pub(super) async fn put_file(
        &self,
        name: &BackupName,
        path: &FilePath,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        self.store.put(&file_key(name, path), vec![bytes]).await
    }

    /// In a folder, lets only the owner read a file.
    pub(super) fn protect(&self, name: &BackupName, path: &FilePath) -> io::Result<()> {
        let Some(folder) = self.folder(name) else {
            return Ok(());
        };
        fs::set_permissions(folder.join(path.as_str()), Permissions::from_mode(0o600))
    }

    pub(super) async fn read_file(
        &self,
        name: &BackupName,
        path: &FilePath,
    ) -> Result<Bytes, StoreError> {
        self.store.read_whole(&file_key(name, path)).await
    }

    /// Ends a backup: from now on it is one.
    pub(super) async fn finish(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let key = manifest_key(manifest.name.as_str());
        // The name is this one's: nobody else has made one.
        self.store.create(&key, manifest.encode()).await.map(drop)
    }

    /// Removes what a backup that failed has written, but for segments: the next one can use them.
    pub(super) async fn discard(&self, name: &BackupName) -> Result<(), StoreError> {
        for object in list_all(&self.store, &format!("{BACKUPS}/{}", name.as_str())).await? {
            self.store.delete(&object.key).await?;
        }
        if let Some(folder) = self.folder(name) {
            // What else may be in there is not ours.
            let _ = fs::remove_dir(folder.join("tls"));
            let _ = fs::remove_dir(folder.join("log"));
            let _ = fs::remove_dir(folder.join("snapshots"));
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    /// The copies of a cloud's segments that are here, by the segments' keys.
    pub(super) async fn copies(
        &self,
        store_id: u128,
    ) -> Result<BTreeMap<String, Copied>, StoreError> {
        let folder = format!("{OBJECTS}/{}", segments::folder(store_id));
        let mut copies = BTreeMap::new();
        for object in list_all(&self.store, &folder).await? {
            let named = object.key.rsplit_once('.');
            let parsed = named.and_then(|(key, crc)| {
                let key = key.strip_prefix(OBJECTS)?.strip_prefix('/')?;
                Some((key.to_owned(), Crc::try_from(crc.to_owned()).ok()?))
            });
            if let Some((key, crc32c)) = parsed {
                let bytes = object.bytes;
                copies.insert(key, Copied { bytes, crc32c });
            }
        }
        Ok(copies)
    }

    pub(super) async fn put_copy(&self, key: &str, bytes: Bytes) -> Result<Crc, StoreError> {
        let crc = Crc::of(&bytes);
        self.store.put(&copy_key(key, crc), vec![bytes]).await?;
        Ok(crc)
    }

    pub(super) async fn read_copy(&self, key: &str, crc: Crc) -> Result<Bytes, StoreError> {
        self.store.read_whole(&copy_key(key, crc)).await
    }
}

fn manifest_key(name: &str) -> String {
    format!("{BACKUPS}/{name}/{MANIFEST}")
}

pub(super) fn file_key(name: &BackupName, path: &FilePath) -> String {
    format!("{BACKUPS}/{}/{}", name.as_str(), path.as_str())
}

pub(super) fn copy_key(key: &str, crc: Crc) -> String {
    format!("{OBJECTS}/{key}.{}", String::from(crc))
}

/// Lengths of a cloud's segments in its object store, by their keys.
pub(super) async fn segments_in(
    store: &Store,
    store_id: u128,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let found = list_all(store, &segments::folder(store_id)).await?;
    let found = found.into_iter().map(|object| (object.key, object.bytes));
    Ok(found.collect())
}

async fn list_all(store: &Store, folder: &str) -> Result<Vec<ObjectInfo>, StoreError> {
    let mut all: Vec<ObjectInfo> = Vec::new();
    loop {
        let after = all.last().map(|object| object.key.clone());
        let page = store.list(folder, after.as_deref(), LIST_PAGE_MAX).await?;
        let is_last = !page.more || page.objects.is_empty();
        all.extend(page.objects);
        if is_last {
            return Ok(all);
        }
    }
}
