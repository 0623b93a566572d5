//! Putting a backup back, into an empty folder only. Each file and each copy of a segment is checked by its length
//! and CRC, each segment that was not copied is looked for where it should be, and at last the folder is read as a
//! start would read it. Until all that is done a mark in the folder keeps a cloud from starting there.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use tidegate_cloud_protocol::ledger::CLUSTER_STORE;

use super::check;
use super::contents::Contents;
use super::errors::{FileError, RestoreError};
use super::manifest::{FileEntry, Manifest, ObjectEntry, StoreState};
use super::names::{BackupName, Crc};
use super::place::{BackupState, Listed, Place, segments_in};
use super::{Progress, Report};
use crate::folders::{make_durable, sync_folder};
use crate::limits::SEGMENT_COPIES_AT_ONCE_MAX;
use crate::segments;
use crate::store::{Store, StoreMetrics, StoreOptions, StoreUrl};

/// What is to be restored, and to where.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The newest where there is none.
    pub backup: Option<BackupName>,
    /// Empty, or not there yet.
    pub data: PathBuf,
    /// Where the segments are to be; where there is none, as before. Not where topics have stores of their own: the
    /// ledger says where these are.
    pub object_store: Option<StoreUrl>,
    pub options: StoreOptions,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    pub manifest: Manifest,
    /// The `object_store` that the cloud needs in its configuration; `None`: it lies in its data folder.
    pub object_store: Option<String>,
    /// Segments that were copied back, and those that were there.
    pub copied: u64,
    pub kept: u64,
}

/// The file in a data folder that keeps a cloud from starting there.
const MARK: &str = "restoring";

/// Not of anybody's making.
const IGNORED: &str = "lost+found";

/// Refuses a data folder in which a restore did not come to its end.
///
/// # Errors
/// That is so.
pub(crate) fn check_ended(data: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !data.join(MARK).exists(),
        "a restore into {} is under way, or did not come to its end: empty the folder, and restore again",
        data.display()
    );
    Ok(())
}

/// Restores a backup. Blocks while it writes the data folder: it is for a process of its own.
///
/// # Errors
/// The folder is as it was, but for what could not be removed.
pub async fn restore(
    place: &Place,
    wish: &Wish,
    report: Report<'_>,
) -> Result<Restored, RestoreError> {
    let manifest = choose(place, wish.backup.as_ref()).await?;
    if wish.object_store.is_some() && !manifest.stores.is_empty() {
        let urls: Vec<&str> = manifest.stores.iter().map(|one| &*one.url).collect();
        let urls = urls.join(", ");
        return Err(RestoreError::OtherStores { urls });
    }
    let data = &wish.data;
    check_empty(data)?;
    begin(data)?;
    let mut restoring = Restoring {
        place,
        data,
        manifest: &manifest,
        progress: Progress {
            total: (manifest.files.len() + manifest.objects.len()) as u64,
            ..Progress::default()
        },
        report,
    };
    let restored = restoring.all(wish).await;
    let (object_store, copied, kept) = match restored {
        Ok(restored) => restored,
        Err(error) => {
            clear(data);
            return Err(error);
        }
    };
    Ok(Restored {
        manifest,
        object_store,
        copied,
        kept,
    })
}

/// The backup that is asked for, or the newest. One whose manifest is damaged may be the newest.
async fn choose(place: &Place, name: Option<&BackupName>) -> Result<Manifest, RestoreError> {
    let listed = place.list().await?;
    let url = || place.url().to_owned();
    let names: Vec<&str> = listed.iter().map(|one| one.name.as_str()).collect();
    let unknown = |name: &BackupName| RestoreError::Unknown {
        place: url(),
        name: name.as_str().to_owned(),
        names: names.join(", "),
    };
    if let Some(name) = name {
        let mut named = listed.iter().filter(|one| one.name == name.as_str());
        return whole(place, named.next().ok_or_else(|| unknown(name))?);
    }
    let mut newest: Option<Manifest> = None;
    let finished = |one: &&Listed| !matches!(one.state, BackupState::Unfinished);
    for one in listed.iter().filter(finished) {
        let manifest = whole(place, one)?;
        let found = newest.as_ref();
        if found.is_some_and(|found| found.store_id != manifest.store_id) {
            return Err(RestoreError::SeveralClouds { place: url() });
        }
        if found.is_none_or(|found| found.made_ms <= manifest.made_ms) {
            newest = Some(manifest);
        }
    }
    newest.ok_or_else(|| RestoreError::NoBackup { place: url() })
}

fn whole(place: &Place, listed: &Listed) -> Result<Manifest, RestoreError> {
    let name = listed.name.clone();
    match &listed.state {
        BackupState::Whole(manifest) => Ok((**manifest).clone()),
        BackupState::Unfinished => Err(RestoreError::Unfinished {
            place: place.url().to_owned(),
            name,
        }),
        BackupState::Wrong(error) => Err(RestoreError::Manifest {
            place: place.url().to_owned(),
            key: format!("the manifest of backup {name:?}"),
            source: error.clone(),
        }),
    }
}

fn check_empty(data: &Path) -> Result<(), RestoreError> {
    let entries = match fs::read_dir(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FileError::at("list", data))?,
    };
    for entry in entries {
        if entry.map_err(FileError::at("list", data))?.file_name() != IGNORED {
            return Err(RestoreError::NotEmpty(data.to_owned()));
        }
    }
    Ok(())
}

/// Makes the folder with its mark, durable before anything else is in it.
fn begin(data: &Path) -> Result<(), RestoreError> {
    let made = std::path::absolute(data).and_then(|data| make_durable(&data));
    made.map_err(FileError::at("make", data))?;
    let mark = data.join(MARK);
    let made = File::create_new(&mark).and_then(|file| file.sync_all());
    made.map_err(FileError::at("write", &mark))?;
    Ok(sync_folder(data).map_err(FileError::at("sync", data))?)
}

/// Removes all but the folder; the mark goes last, as nothing can be started beside it.
fn clear(data: &Path) {
    let folders = ["log", "snapshots", "tls", "objects"].map(|name| data.join(name));
    let removed = folders.iter().map(fs::remove_dir_all);
    let failed = |error: &io::Error| error.kind() != io::ErrorKind::NotFound;
    if removed.filter_map(Result::err).any(|error| failed(&error)) {
        return;
    }
    let _ = fs::remove_file(data.join(MARK));
}

struct Restoring<'a> {
    place: &'a Place,
    data: &'a Path,
    manifest: &'a Manifest,
    progress: Progress,
    report: Report<'a>,
}

impl Restoring<'_> {
    async fn all(&mut self, wish: &Wish) -> Result<(Option<String>, u64, u64), RestoreError> {
        for file in &self.manifest.files {
            self.file(file).await?;
        }
        let url = self.object_store(wish)?;
        let store = Store::open(&url, &wish.options, &StoreMetrics::default())?;
        let (mut copied, mut kept) = self.segments(&store, CLUSTER_STORE).await?;
        for other in &self.manifest.stores {
            let of_store = self.of_store(other, &wish.options).await?;
            copied += of_store.0;
            kept += of_store.1;
        }
        for folder in ["log", "snapshots", "tls"].map(|name| self.data.join(name)) {
            if folder.is_dir() {
                sync_folder(&folder).map_err(FileError::at("sync", &folder))?;
            }
        }
        self.check()?;
        let mark = self.data.join(MARK);
        fs::remove_file(&mark).map_err(FileError::at("remove", &mark))?;
        sync_folder(self.data).map_err(FileError::at("sync", self.data))?;
        let in_data = url.as_folder() == Some(&self.objects()?);
        Ok(((!in_data).then(|| url.absolute()), copied, kept))
    }

    async fn file(&mut self, file: &FileEntry) -> Result<(), RestoreError> {
        let bytes = check::read_file(self.place, &self.manifest.name, file).await?;
        let path = self.data.join(file.path.as_str());
        let mode = if file.path.is_secret() { 0o600 } else { 0o644 };
        let folder = path.parent().unwrap_or(self.data);
        fs::create_dir_all(folder).map_err(FileError::at("make", folder))?;
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(mode).open(&path);
        let written = opened.and_then(|mut opened| {
            opened.write_all(&bytes)?;
            opened.sync_all()
        });
        written.map_err(FileError::at("write", &path))?;
        (self.report)(self.progress.add(file.bytes));
        Ok(())
    }

    /// The folder that is the object store where none is named.
    fn objects(&self) -> Result<PathBuf, RestoreError> {
        let folder = self.data.join("objects");
        Ok(std::path::absolute(&folder).map_err(FileError::at("name", &folder))?)
    }

    fn object_store(&self, wish: &Wish) -> Result<StoreUrl, RestoreError> {
        let url = match (&wish.object_store, &self.manifest.object_store.url) {
            (Some(url), _) => url.clone(),
            (None, Some(url)) => url.parse()?,
            (None, None) => StoreUrl::folder(&self.objects()?),
        };
        match url.is_memory() {
            true => Err(RestoreError::InMemory),
            false => Ok(url),
        }
    }

    /// The same for the store of a topic.
    async fn of_store(
        &mut self,
        other: &StoreState,
        options: &StoreOptions,
    ) -> Result<(u64, u64), RestoreError> {
        let mut objects = self.manifest.objects.iter();
        if !objects.any(|object| object.store == other.number) {
            return Ok((0, 0));
        }
        let store = Store::open(&other.url.parse()?, options, &StoreMetrics::default())?;
        self.segments(&store, other.number).await
    }

    /// Copies the segments that are not there; returns how many these were, and the others.
    async fn segments(&mut self, store: &Store, number: u32) -> Result<(u64, u64), RestoreError> {
        let objects = self.manifest.objects.iter();
        let objects: Vec<_> = objects.filter(|one| one.store == number).collect();
        if objects.is_empty() {
            return Ok((0, 0));
        }
        let there = segments_in(store, self.manifest.store_id.0).await?;
        let is_there = |object: &&ObjectEntry| there.get(&object.key) == Some(&object.bytes);
        let (kept, wanted): (Vec<_>, Vec<_>) = objects.iter().copied().partition(is_there);
        let mut missing = wanted.iter().filter(|object| object.crc32c.is_none());
        if let Some(first) = missing.next() {
            return Err(RestoreError::SegmentsMissing {
                store: store.url().as_str().to_owned(),
                count: 1 + missing.count(),
                of: objects.len(),
                first: first.key.clone(),
            });
        }
        self.progress.done += kept.len() as u64;
        let (progress, report) = (&mut self.progress.clone(), self.report);
        let copies = wanted
            .iter()
            .filter_map(|object| Some((object, object.crc32c?)));
        let copies = copies.map(|(object, crc)| self.copy_back(store, object, crc));
        let mut copies = stream::iter(copies).buffered(SEGMENT_COPIES_AT_ONCE_MAX);
        while let Some(bytes) = copies.try_next().await? {
            report(progress.add(bytes));
        }
        Ok((wanted.len() as u64, kept.len() as u64))
    }

    async fn copy_back(
        &self,
        store: &Store,
        object: &ObjectEntry,
        crc: Crc,
    ) -> Result<u64, RestoreError> {
        let bytes = check::read_copy(self.place, object, crc).await?;
        store.put(&object.key, vec![bytes]).await?;
        Ok(object.bytes)
    }

    /// Reads what is there now as a start would.
    fn check(&self) -> Result<(), RestoreError> {
        let contents = Contents::read(self.data, None)?;
        let manifest = self.manifest;
        if contents.store_id() != manifest.store_id.0 || contents.position() != manifest.position {
            return Err(RestoreError::NotAsTold("its log ends elsewhere"));
        }
        let folder = segments::folder(manifest.store_id.0);
        let needed = contents.segments();
        let needed: BTreeMap<(u32, String), u64> = needed
            .map(|segment| {
                let place = (segment.id.store, segments::key(&folder, segment.id));
                (place, segment.bytes)
            })
            .collect();
        let named = manifest.objects.iter();
        let named: BTreeMap<(u32, String), u64> = named
            .map(|object| ((object.store, object.key.clone()), object.bytes))
            .collect();
        if contents.stores() != manifest.stores {
            return Err(RestoreError::NotAsTold("its ledger knows other stores"));
        }
        match needed == named {
            true => Ok(()),
            false => Err(RestoreError::NotAsTold("its ledger knows other segments")),
        }
    }
}
