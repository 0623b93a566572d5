//! Making a backup: the files of one moment, then the segments that they rely on, then the manifest.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Segment};

use super::contents::Contents;
use super::errors::{BackupError, FileError};
use super::manifest::{FileEntry, Manifest, ObjectEntry, ObjectStoreState};
use super::names::{BackupName, Crc, FilePath, LogStoreId};
use super::place::{Copied, Place, segments_in};
use super::{Progress, Report};
use crate::limits::SEGMENT_COPIES_AT_ONCE_MAX;
use crate::segments;
use crate::store::{Store, StoreMetrics, StoreOptions, StoreUrl};

/// A cloud of which a backup is made.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its data folder.
    pub data: PathBuf,
    /// Where its segments are, but for those of topics with a store of their own.
    pub store: Store,
    /// By which those stores are opened.
    pub options: StoreOptions,
    pub restore_window_ms: Option<u64>,
    /// Of a cloud that runs: its store id, and the frame before which all is durable. It must hold what that
    /// state needs. Without this, no cloud may be running there.
    pub running: Option<(u128, u64)>,
}

/// A backup that is there.
#[derive(Clone, Debug)]
pub struct Made {
    pub manifest: Manifest,
    /// Segments that were copied by this one, and their bytes.
    pub copied: u64,
    pub copied_bytes: u64,
    /// Copies that were there before.
    pub kept: u64,
}

/// Makes a backup. Segments in a folder are copied, others only `with_objects`. Those of topics with an object store
/// of their own are copied or named as well: without that store there is no backup. Blocks while it reads the
/// data folder: it is for a process of its own.
///
/// # Errors
/// There is no backup then.
pub async fn make(
    source: &Source,
    place: &Place,
    (name, made_ms): (BackupName, i64),
    with_objects: bool,
    report: Report<'_>,
) -> Result<Made, BackupError> {
    let store_url = source.store.url();
    if store_url.is_memory() {
        return Err(BackupError::InMemory);
    }
    if !source.data.join("log").is_dir() {
        return Err(BackupError::NoData(source.data.clone()));
    }
    let contents = Contents::read(&source.data, source.running.map(|(_, frame)| frame))?;
    if let Some((expected, _)) = source.running
        && contents.store_id() != expected
    {
        return Err(BackupError::OtherCloud {
            path: source.data.clone(),
            found: contents.store_id(),
            expected,
        });
    }
    if !place.take_name(&name).await? {
        return Err(BackupError::Exists {
            name: name.as_str().to_owned(),
            place: place.url().to_owned(),
        });
    }
    let mut making = Making {
        source,
        place,
        name: &name,
        files: Vec::new(),
        progress: Progress::default(),
        report,
        copied: (0, 0),
    };
    let made = making.all(contents, made_ms, with_objects).await;
    if made.is_err()
        && let Err(error) = place.discard(&name).await
    {
        tracing::warn!(%error, "cannot remove what was written of the backup that failed");
    }
    made
}

struct Making<'a> {
    source: &'a Source,
    place: &'a Place,
    name: &'a BackupName,
    files: Vec<FileEntry>,
    progress: Progress,
    report: Report<'a>,
    /// Segments, and their bytes.
    copied: (u64, u64),
}

impl Making<'_> {
    async fn all(
        &mut self,
        mut contents: Contents,
        made_ms: i64,
        with_objects: bool,
    ) -> Result<Made, BackupError> {
        let stores = self.open_stores(&contents)?;
        let is_copied = |segment: &&Segment| {
            with_objects || stores[&segment.id.store].url().as_folder().is_some()
        };
        let (to_copy, to_name): (Vec<_>, Vec<_>) = contents.segments().partition(is_copied);
        let (to_copy, to_name) = (copied(to_copy), copied(to_name));
        self.put_files(&mut contents, to_copy.len()).await?;
        let store_id = contents.store_id();
        let mut objects = self.copy_segments(store_id, &stores, &to_copy).await?;
        objects.extend(name_segments(store_id, &stores, &to_name).await?);
        let manifest = self.manifest(&contents, made_ms, objects);
        self.place.finish(&manifest).await?;
        let (copied, copied_bytes) = self.copied;
        Ok(Made {
            manifest,
            copied,
            copied_bytes,
            kept: to_copy.len() as u64 - copied,
        })
    }

    /// All that segments are in, by their numbers.
    fn open_stores(&self, contents: &Contents) -> Result<BTreeMap<u32, Store>, BackupError> {
        let mut stores = BTreeMap::from([(CLUSTER_STORE, self.source.store.clone())]);
        let segments = contents.segments().map(|segment| segment.id.store);
        for number in segments.collect::<BTreeSet<u32>>() {
            if let Some(url) = contents.ledger.store_url(number) {
                let store = open_there(url, &self.source.options)?;
                stores.insert(number, store);
            } else if number != CLUSTER_STORE {
                return Err(BackupError::StoreUnknown(number));
            }
        }
        Ok(stores)
    }

    async fn put_files(
        &mut self,
        contents: &mut Contents,
        to_copy: usize,
    ) -> Result<(), BackupError> {
        let prepared = self.place.prepare(self.name);
        prepared.map_err(FileError::at(
            "make the folder of",
            Path::new(self.name.as_str()),
        ))?;
        let tls = tls_files(&self.source.data.join("tls"));
        let snapshot = contents.snapshot.take();
        let files = contents.log_files.len() + tls.len() + usize::from(snapshot.is_some());
        self.progress.total = (files + to_copy) as u64;
        if let Some(snapshot) = snapshot {
            let path = format!("snapshots/{}", snapshot.name);
            self.put(path_of(path), snapshot.bytes).await?;
        }
        for file in &contents.log_files {
            let bytes = read_file(&file.path, Some(file.bytes))?;
            self.put(path_in("log", &file.path), bytes).await?;
        }
        for path in &tls {
            let bytes = read_file(path, None)?;
            self.put(path_in("tls", path), bytes).await?;
        }
        Ok(())
    }

    fn manifest(
        &mut self,
        contents: &Contents,
        made_ms: i64,
        objects: Vec<ObjectEntry>,
    ) -> Manifest {
        let ledger = &contents.ledger;
        let life = ledger.cluster_incarnation().unwrap_or_default();
        let url = self.source.store.url();
        let in_data = url.as_folder().is_some_and(|folder| {
            let is = |path: &Path| fs::canonicalize(path).ok();
            is(folder) == is(&self.source.data.join("objects"))
        });
        Manifest {
            name: self.name.clone(),
            made_ms,
            tidegate: env!("CARGO_PKG_VERSION").to_owned(),
            store_id: LogStoreId(contents.store_id()),
            cluster_incarnation: life.to_string(),
            position: contents.position(),
            object_store: ObjectStoreState {
                url: (!in_data).then(|| url.absolute()),
                restore_window_ms: self.source.restore_window_ms,
            },
            stores: contents.stores(),
            topics: contents.topics(),
            edges: ledger.edges().count() as u64,
            groups: ledger.groups().count() as u64,
            files: std::mem::take(&mut self.files),
            objects,
        }
    }

    async fn put(&mut self, path: FilePath, bytes: Bytes) -> Result<(), BackupError> {
        let entry = FileEntry {
            bytes: bytes.len() as u64,
            crc32c: Crc::of(&bytes),
            path,
        };
        self.place.put_file(self.name, &entry.path, bytes).await?;
        if entry.path.is_secret() {
            let protected = self.place.protect(self.name, &entry.path);
            protected.map_err(FileError::at("protect", Path::new(entry.path.as_str())))?;
        }
        (self.report)(self.progress.add(entry.bytes));
        self.files.push(entry);
        Ok(())
    }

    /// Copies what is not there yet, some at once.
    async fn copy_segments(
        &mut self,
        store_id: u128,
        stores: &BTreeMap<u32, Store>,
        segments: &[Segment],
    ) -> Result<Vec<ObjectEntry>, BackupError> {
        if segments.is_empty() {
            return Ok(Vec::new());
        }
        let there = self.place.copies(store_id).await?;
        let folder = segments::folder(store_id);
        let place = self.place;
        let copies = segments.iter().copied().map(|segment| {
            let key = segments::key(&folder, segment.id);
            let there = there.get(&key).copied();
            copy_segment(stores, place, (key, segment), there)
        });
        let mut copies = stream::iter(copies).buffered(SEGMENT_COPIES_AT_ONCE_MAX);
        let mut entries = Vec::with_capacity(segments.len());
        while let Some((entry, is_new)) = copies.try_next().await? {
            if is_new {
                self.copied.0 += 1;
                self.copied.1 += entry.bytes;
            }
            (self.report)(self.progress.add(entry.bytes * u64::from(is_new)));
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn copied(segments: Vec<&Segment>) -> Vec<Segment> {
    segments.into_iter().copied().collect()
}

/// Opens the store of a topic. A folder that is missing is not made.
fn open_there(url: &str, options: &StoreOptions) -> Result<Store, BackupError> {
    let parsed: StoreUrl = url.parse()?;
    if parsed.as_folder().is_some_and(|folder| !folder.is_dir()) {
        return Err(BackupError::StoreMissing(url.to_owned()));
    }
    Ok(Store::open(&parsed, options, &StoreMetrics::default())?)
}

/// Names those that stay where they are; each must be there.
async fn name_segments(
    store_id: u128,
    stores: &BTreeMap<u32, Store>,
    segments: &[Segment],
) -> Result<Vec<ObjectEntry>, BackupError> {
    let folder = segments::folder(store_id);
    let mut there: BTreeMap<u32, BTreeMap<String, u64>> = BTreeMap::new();
    let mut entries = Vec::with_capacity(segments.len());
    for segment in segments {
        let number = segment.id.store;
        let store = &stores[&number];
        if let Entry::Vacant(unknown) = there.entry(number) {
            unknown.insert(segments_in(store, store_id).await?);
        }
        let key = segments::key(&folder, segment.id);
        let store = store.url().as_str();
        let Some(found) = there[&number].get(&key) else {
            let store = store.to_owned();
            return Err(BackupError::SegmentMissing { store, key });
        };
        check_length(store, &key, *found, segment.bytes)?;
        entries.push(ObjectEntry {
            key,
            bytes: segment.bytes,
            crc32c: None,
            store: number,
        });
    }
    Ok(entries)
}

/// The copy of a segment, and whether it was made now.
async fn copy_segment(
    stores: &BTreeMap<u32, Store>,
    place: &Place,
    (key, segment): (String, Segment),
    there: Option<Copied>,
) -> Result<(ObjectEntry, bool), BackupError> {
    let (bytes, number) = (segment.bytes, segment.id.store);
    let source = &stores[&number];
    let entry = |key, crc| ObjectEntry {
        key,
        bytes,
        crc32c: Some(crc),
        store: number,
    };
    if let Some(copied) = there.filter(|copied| copied.bytes == bytes) {
        return Ok((entry(key, copied.crc32c), false));
    }
    let store = source.url().as_str();
    let read = match source.read_whole(&key).await {
        Err(error) if error.is_not_found() => {
            let store = store.to_owned();
            return Err(BackupError::SegmentMissing { store, key });
        }
        read => read?,
    };
    check_length(store, &key, read.len() as u64, bytes)?;
    let crc = place.put_copy(&key, read).await?;
    Ok((entry(key, crc), true))
}

fn check_length(store: &str, key: &str, found: u64, expected: u64) -> Result<(), BackupError> {
    match found == expected {
        true => Ok(()),
        false => Err(BackupError::SegmentLength {
            store: store.to_owned(),
            key: key.to_owned(),
            found,
            expected,
        }),
    }
}

/// Those of the CA's files and the hub's that are there.
fn tls_files(folder: &Path) -> Vec<PathBuf> {
    let names = ["ca.crt", "ca.key", "hub.crt", "hub.key"];
    let paths = names.map(|name| folder.join(name)).into_iter();
    paths.filter(|path| path.exists()).collect()
}

/// A file's bytes: so many, or all.
fn read_file(path: &Path, bytes: Option<u64>) -> Result<Bytes, BackupError> {
    let mut read = Vec::new();
    let file = File::open(path).map_err(FileError::at("open", path))?;
    let done = file.take(bytes.unwrap_or(u64::MAX)).read_to_end(&mut read);
    done.map_err(FileError::at("read", path))?;
    Ok(read.into())
}

fn path_in(folder: &str, path: &Path) -> FilePath {
    let name = path.file_name().unwrap_or_default();
    path_of(format!("{folder}/{}", name.to_string_lossy()))
}

fn path_of(path: String) -> FilePath {
    FilePath::try_from(path).expect("the cloud gives its files such names")
}
