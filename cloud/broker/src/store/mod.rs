//! Object stores: one interface to a folder, memory, S3 and what else a build has, by URL. Each call is
//! bounded in time, tried again where that may help, and counted. It knows nothing of what the objects hold;
//! an object is written whole, never changed, and its key never used again.

mod cache;
mod error;
mod file;
mod folder;
#[cfg(feature = "hdfs")]
mod hdfs;
pub mod limits;
mod open;
mod price;
mod requests;
mod retry;
mod transport;
mod upload;
mod url;
mod usage;

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use uuid::Uuid;

pub use self::cache::{Cache, CacheCounts, CacheLimits, CacheMetrics};
pub use self::error::{Action, StoreError};
pub use self::open::StoreOptions;
pub use self::price::{Cost, Price};
pub use self::retry::Retry;
pub use self::url::{StoreUrl, UrlError};
pub use self::usage::{Operation, StoreMetrics, Usage};

use self::error::{Failure, Kind};
use self::limits::{LIST_PAGE_MAX, PUT_SINGLE_BYTES_MAX};
use self::open::Backend;
use self::requests::{Inner, Piece};
use self::retry::GaveUp;
use self::usage::Meter;

/// An opened store; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What a creation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is there, and this call made it.
    New,
    /// An object was there, or another was faster; it was left as it is.
    Exists,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    pub bytes: u64,
    pub modified: SystemTime,
}

/// A part of a listing, in the order of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<ObjectInfo>,
    /// Whether there are objects after the last of these.
    pub more: bool,
}

impl Store {
    /// Opens a store; a folder that is missing is made. A store elsewhere is not asked anything yet.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: the settings do not fit together, or the folder cannot be made.
    pub fn open(
        url: &StoreUrl,
        options: &StoreOptions,
        metrics: &StoreMetrics,
    ) -> Result<Self, StoreError> {
        let name: Arc<str> = url.as_str().into();
        // What is in memory is another store each time.
        let identity = match url.is_memory() {
            true => format!("{url}{}", Uuid::new_v4()).into(),
            false => Arc::clone(&name),
        };
        let backend = Backend::open(url, options).map_err(|reason| StoreError::Refused {
            store: Arc::clone(&name),
            action: Action::Open,
            key: "the store".into(),
            reason,
        })?;
        let retry = match backend.kind {
            Kind::Local => Retry::never(),
            Kind::Remote | Kind::S3 => options.retry,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                url: url.clone(),
                name,
                identity,
                backend,
                retry,
                meter: Meter::new(metrics),
            }),
        })
    }

    /// A store of a test's own making.
    #[cfg(test)]
    pub(crate) fn over(objects: Arc<dyn object_store::ObjectStore>) -> Self {
        let url: StoreUrl = "memory://".parse().expect("it is one");
        Self {
            inner: Arc::new(Inner {
                name: url.as_str().into(),
                identity: url.as_str().into(),
                url,
                backend: Backend::plain(Kind::Remote, objects),
                retry: Retry::never(),
                meter: Meter::new(&StoreMetrics::default()),
            }),
        }
    }

    pub fn url(&self) -> &StoreUrl {
        &self.inner.url
    }

    /// Whether it is this machine's own, a folder or memory: an error of a disk does not pass, and what is durable
    /// after it is not known.
    pub fn is_local(&self) -> bool {
        self.inner.backend.kind == Kind::Local
    }

    /// Whether anything can be put there.
    pub fn is_writable(&self) -> bool {
        self.inner.backend.writable
    }

    /// Requests and bytes since it was opened.
    pub fn usage(&self) -> Usage {
        self.inner.meter.usage()
    }

    /// Writes an object that lies in pieces; an object of that key is replaced. When it returns, the object
    /// is durable and whole. When it fails or is dropped, the object may be there, whole, or not.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub async fn put(&self, key: &str, pieces: Vec<Bytes>) -> Result<(), StoreError> {
        let path = self.path_to_write(Action::Put, key).await?;
        let inner = &self.inner;
        let long = total(&pieces) > PUT_SINGLE_BYTES_MAX;
        let written = match &inner.backend.multipart {
            Some(store) if long => {
                let put = |_| upload::put_long(inner, store, &path, &pieces);
                inner.retry.persist(put).await
            }
            _ => {
                let payload = PutPayload::from_iter(pieces);
                let put = |_| inner.put_once(&path, payload.clone(), PutMode::Overwrite);
                inner.retry.persist(put).await
            }
        };
        written.map_err(|gave_up| inner.error(Action::Put, key, gave_up))
    }

    /// Writes an object if there is none of that key. Where an answer is lost and the object is found to have
    /// these very bytes, it counts as made by this call: so writers who compete must not write the same.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] (the object may be there) or [`StoreError::Refused`].
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let path = self.path_to_write(Action::Create, key).await?;
        let inner = &self.inner;
        let payload = PutPayload::from_bytes(bytes.clone());
        let create = |before| {
            let put = inner.put_once(&path, payload.clone(), PutMode::Create);
            let path = &path;
            async move {
                match put.await {
                    Ok(()) => Ok((Created::New, before)),
                    Err(Failure::Exists) => Ok((Created::Exists, before)),
                    // The other's write may have come to something or not.
                    Err(Failure::Conflict(reason)) => match inner.head_once(path).await {
                        Ok(_) => Ok((Created::Exists, before)),
                        Err(_) => Err(Failure::passing(reason)),
                    },
                    Err(failure) => Err(failure),
                }
            }
        };
        let created = inner.retry.persist(create).await;
        let (created, doubtful) =
            created.map_err(|gave_up| inner.error(Action::Create, key, gave_up))?;
        if created == Created::New || doubtful == 0 {
            return Ok(created);
        }
        match self.read_whole(key).await {
            Ok(found) if found == bytes => Ok(Created::New),
            Ok(_) => Ok(Created::Exists),
            Err(error) if error.is_not_found() => Ok(Created::Exists),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a range, all of them. The empty range is read from nowhere.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::OutOfRange`] where the object ends before the range does;
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let piece = self.read_piece(key, range.clone()).await?;
        if piece.bytes.len() as u64 == range.end - range.start {
            return Ok(piece.bytes);
        }
        Err(self.inner.out_of_range(key, range, piece.object_bytes))
    }

    /// The bytes of a range that is not empty, as far as the object goes.
    ///
    /// # Errors
    /// As [`Self::read`]; [`StoreError::OutOfRange`] where nothing of the range is there.
    async fn read_piece(&self, key: &str, range: Range<u64>) -> Result<Piece, StoreError> {
        let path = self.path(Action::Read, key)?;
        let inner = &self.inner;
        let read = inner
            .retry
            .persist(|_| inner.get_once(&path, Some(range.clone())));
        let gave_up = match read.await {
            Ok(piece) => return Ok(piece),
            Err(gave_up) => gave_up,
        };
        // A range beyond the end has no error of its own: the object is measured.
        if matches!(gave_up.failure, Failure::NotFound) || range.start == 0 {
            return Err(inner.error(Action::Read, key, gave_up));
        }
        match inner.head_once(&path).await {
            Ok(size) if size <= range.start => Err(inner.out_of_range(key, range, size)),
            _ => Err(inner.error(Action::Read, key, gave_up)),
        }
    }

    /// An object's first bytes: so many, or all that there are; and how many there are.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_start(&self, key: &str, bytes_max: u64) -> Result<(Bytes, u64), StoreError> {
        let piece = self.read_piece(key, 0..bytes_max).await?;
        Ok((piece.bytes, piece.object_bytes))
    }

    /// A whole object.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_whole(&self, key: &str) -> Result<Bytes, StoreError> {
        let path = self.path(Action::Read, key)?;
        let inner = &self.inner;
        let read = inner.retry.persist(|_| inner.get_once(&path, None)).await;
        read.map(|piece| piece.bytes)
            .map_err(|gave_up| inner.error(Action::Read, key, gave_up))
    }

    /// An object's length in bytes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let path = self.path(Action::Size, key)?;
        let inner = &self.inner;
        let size = inner.retry.persist(|_| inner.head_once(&path)).await;
        size.map_err(|gave_up| inner.error(Action::Size, key, gave_up))
    }

    /// Objects below a folder (`a/b` finds `a/b/c`, not `a/bc`; empty: all), in the order of keys, beginning
    /// after a key: at most `max`, and no more than [`LIST_PAGE_MAX`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Page, StoreError> {
        let inner = &self.inner;
        let parse = |text: &str| {
            ObjectPath::parse(text)
                .map_err(|error| inner.refused(Action::List, folder, error.to_string()))
        };
        let folder_path = inner.absolute(&parse(folder)?);
        let after = after
            .map(parse)
            .transpose()?
            .map(|key| inner.absolute(&key));
        let max = max.min(LIST_PAGE_MAX);
        let list = |_| inner.list_once(&folder_path, after.as_ref(), max);
        let listed = inner.retry.persist(list).await;
        listed.map_err(|gave_up| inner.error(Action::List, folder, gave_up))
    }

    /// Deletes an object; one that is not there is no error. In a folder, the deletion itself is not synced:
    /// after a power cut the object may be back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(Action::Delete, key)?;
        let inner = &self.inner;
        if !inner.backend.writable {
            return Err(inner.refused(Action::Delete, key, READ_ONLY.into()));
        }
        let delete = |_| async {
            let delete = inner.backend.objects.delete(&path);
            match inner.request(Operation::Delete, 0, delete).await {
                Err(Failure::NotFound) => Ok(()),
                done => done,
            }
        };
        let deleted = inner.retry.persist(delete).await;
        deleted.map_err(|gave_up| inner.error(Action::Delete, key, gave_up))
    }

    /// Of no other store.
    fn identity(&self) -> &str {
        &self.inner.identity
    }

    /// For a range that the cache was asked for.
    fn out_of_range(&self, key: &str, range: &Range<u64>, size: u64) -> StoreError {
        self.inner.out_of_range(key, range.clone(), size)
    }

    /// For a read that ended with the task that did it.
    fn interrupted(&self, key: &str) -> StoreError {
        let failure = Failure::passing("the read was interrupted".into());
        self.inner
            .error(Action::Read, key, GaveUp::at_once(failure))
    }

    fn path(&self, action: Action, key: &str) -> Result<ObjectPath, StoreError> {
        let inner = &self.inner;
        if key.is_empty() {
            return Err(inner.refused(action, key, "a key is not empty".into()));
        }
        let path = ObjectPath::parse(key)
            .map_err(|error| inner.refused(action, key, error.to_string()))?;
        Ok(inner.absolute(&path))
    }

    /// Of a folder: makes the object's folder, durable before the object is.
    async fn path_to_write(&self, action: Action, key: &str) -> Result<ObjectPath, StoreError> {
        let inner = &self.inner;
        let path = self.path(action, key)?;
        if !inner.backend.writable {
            return Err(inner.refused(action, key, READ_ONLY.into()));
        }
        let Some((folders, files)) = &inner.backend.folders else {
            return Ok(path);
        };
        let file = files
            .path_to_filesystem(&path)
            .map_err(|error| inner.refused(action, key, error.to_string()))?;
        let prepared = folders.prepare(file).await;
        let passing = |error: std::io::Error| {
            let failure = Failure::passing(error.to_string());
            inner.error(action, key, GaveUp::at_once(failure))
        };
        prepared.map(|()| path).map_err(passing)
    }
}

const READ_ONLY: &str = "this store can only be read";

fn total(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}
