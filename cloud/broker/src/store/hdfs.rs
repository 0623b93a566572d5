//! Hadoop's file system. The crate for it reads, lists and deletes; an object is written here, so that what is given up
//! leaves no file. And what of its errors may pass: its client tells them by kind, and a name node's by the name of a Java
//! exception.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};
use hdfs_native_object_store::HdfsObjectStore;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use uuid::Uuid;

/// See the module.
#[derive(Debug)]
pub(super) struct Hdfs {
    client: Client,
    objects: HdfsObjectStore,
}

impl Hdfs {
    /// Asks for nothing yet.
    pub(super) fn open(url: &str) -> Result<Self, HdfsError> {
        let client = ClientBuilder::new().with_url(url).build()?;
        Ok(Self {
            objects: HdfsObjectStore::new(client.clone()),
            client,
        })
    }

    /// Writes a file beside its place, and moves it there once it is on the disks.
    async fn write(
        &self,
        file: &str,
        payload: PutPayload,
        overwrite: bool,
    ) -> Result<(), HdfsError> {
        // Most who come too late need not write it.
        if !overwrite && self.client.get_file_info(file).await.is_ok() {
            return Err(HdfsError::AlreadyExists(file.to_owned()));
        }
        let wanted = Arc::new(());
        let staged = Staged {
            client: self.client.clone(),
            path: beside(file),
            wanted: Arc::downgrade(&wanted),
        };
        let file = file.to_owned();
        let writing = tokio::spawn(async move { staged.write(&file, payload, overwrite).await });
        let written = writing.await;
        drop(wanted);
        written.unwrap_or_else(|error| Err(HdfsError::IOError(std::io::Error::other(error))))
    }
}

/// A name beside a file's that no other write has.
fn beside(file: &str) -> String {
    let (folder, name) = file.rsplit_once('/').unwrap_or_default();
    let (number, _) = Uuid::new_v4().as_u64_pair();
    format!("{folder}/.{name}.tmp.{number}")
}

/// A file that is being written; what does not come to its end is deleted. That is a task of its own, since nobody may
/// wait for it any more: what was asked of the name node before is carried out before the file is deleted.
struct Staged {
    client: Client,
    path: String,
    /// Nobody holds it any more where the write was given up.
    wanted: Weak<()>,
}

impl Staged {
    async fn write(
        self,
        file: &str,
        payload: PutPayload,
        overwrite: bool,
    ) -> Result<(), HdfsError> {
        let written = Box::pin(self.write_beside(payload)).await;
        let moved = match written {
            Ok(()) => self.client.rename(&self.path, file, overwrite).await,
            Err(error) => Err(error),
        };
        if moved.is_err()
            && let Err(error) = self.client.delete(&self.path, false).await
        {
            tracing::warn!(%error, path = self.path, "what was not written to its end could not be deleted");
        }
        moved
    }

    async fn write_beside(&self, payload: PutPayload) -> Result<(), HdfsError> {
        let options = WriteOptions::default();
        let mut writer = Box::pin(self.client.create(&self.path, options)).await?;
        for piece in payload {
            self.check_wanted()?;
            Box::pin(writer.write_bytes(piece)).await?;
        }
        self.check_wanted()?;
        // With the last of each block its client asks for a sync.
        Box::pin(writer.close()).await?;
        self.check_wanted()
    }

    fn check_wanted(&self) -> Result<(), HdfsError> {
        match self.wanted.strong_count() {
            0 => Err(HdfsError::IOError(std::io::ErrorKind::Interrupted.into())),
            _ => Ok(()),
        }
    }
}

/// Whether a file is an object, and not what a write left that ended with its process.
pub(super) fn is_object(path: &ObjectPath) -> bool {
    let name = path.filename().unwrap_or_default();
    let unfinished = name
        .strip_prefix('.')
        .and_then(|name| name.rsplit_once(".tmp."));
    unfinished.is_none_or(|(_, number)| number.parse::<u64>().is_err())
}

impl fmt::Display for Hdfs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(out)
    }
}

/// Of the crate but for writing.
#[async_trait]
impl ObjectStore for Hdfs {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let overwrite = match options.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => {
                return Err(object_store::Error::NotImplemented {
                    operation: "a conditional update".into(),
                    implementer: "HDFS".into(),
                });
            }
        };
        let file = format!("/{location}");
        let written = Box::pin(self.write(&file, payload, overwrite)).await;
        written.map_err(|error| read_error(location, error))?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// As the crate reads them.
fn read_error(location: &ObjectPath, error: HdfsError) -> object_store::Error {
    let (path, source) = (location.to_string(), Box::new(error));
    match *source {
        HdfsError::FileNotFound(_) => object_store::Error::NotFound { path, source },
        HdfsError::AlreadyExists(_) => object_store::Error::AlreadyExists { path, source },
        _ => object_store::Error::Generic {
            store: "HDFS",
            source,
        },
    }
}

/// Exceptions of a name node that is starting, is another's deputy or has too much to do, or that misses data
/// nodes (a plain `IOException`).
const PASSING: [&str; 7] = [
    "IOException",
    "LeaseExpiredException",
    "NotReplicatedYetException",
    "RecoveryInProgressException",
    "RetriableException",
    "SafeModeException",
    "StandbyException",
];

/// Whether it is one of these errors, and the same may succeed at another time.
pub(super) fn may_pass(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<HdfsError>() {
        Some(HdfsError::RPCError(exception, _)) => {
            let name = exception.rsplit(['.', '$']).next().unwrap_or_default();
            PASSING.contains(&name)
        }
        Some(
            HdfsError::IOError(_)
            | HdfsError::DataTransferError(_)
            | HdfsError::ChecksumError
            | HdfsError::BlocksNotFound(_)
            | HdfsError::InvalidRPCResponse(_),
        ) => true,
        _ => false,
    }
}
