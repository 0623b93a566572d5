//! The ordered log: the ledger's commands in their one order, and beside each the batches that it names, so that one
//! step makes both durable: never a command whose batch is missing. It knows nothing of what commands mean.
//!
//! [`OrderedLog`] is what the sequencer appends to. Where it lies is said by the setting `wal`: in files of this
//! machine ([`LocalLog`]) or in an object store ([`ObjectLog`]). A log elsewhere that gives one order (etcd) can
//! stand behind the same trait later; how it is read back is said by [`LogReader`], which knows these two.
//!
//! A snapshot of what the commands made shortens the log: frames before it are not handed out again, and an object
//! (a file is one too) of such frames can be removed once nothing lies in it that is still read.

mod local;
mod object;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tidegate_cloud_protocol::index::LogPlace;

pub use local::{LocalLog, LocalReader, LogCopy, LogFile, older_files, read_for_copy};
pub use object::{ObjectLog, ObjectLogError, ObjectLogPlace, ObjectReader};

/// A log that one appends to. Frames become durable in the order in which they were appended.
#[expect(
    async_fn_in_trait,
    reason = "the sequencer has a thread of its own, and no future leaves it"
)]
pub trait OrderedLog {
    /// Takes a frame; where it will lie is known at once. To be called where there [is room](Self::has_room).
    ///
    /// # Errors
    /// Nothing of this frame may be acknowledged, and nothing more can be appended: what is durable is not known.
    fn append(&mut self, command: &[u8], attachments: &[Bytes]) -> Result<Appended, LogError>;

    /// Returns once the oldest frame is durable that was appended and not told of here; never where there is none. Who
    /// stops waiting for it misses nothing.
    ///
    /// # Errors
    /// As [`Self::append`]; it is so of all frames that were appended since, too.
    async fn durable(&mut self) -> Result<(), LogError>;

    /// Whether another frame can be taken before an older one is durable.
    fn has_room(&self) -> bool;

    /// How long what has come may wait for more to come, since the last frame.
    fn linger(&self) -> Duration;

    /// Where the log ends, behind all that was appended.
    fn end(&self) -> LogEnd;
}

/// Why the log cannot be opened or appended to.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("{action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "log file {} is damaged at byte {position}: {reason}. Restore the file from a copy; to go on without it would lose what was acknowledged",
        path.display()
    )]
    Damaged {
        path: PathBuf,
        position: u64,
        reason: &'static str,
    },
    #[error("log file {} is missing: the log goes from file {before} to file {after}", path.display())]
    Missing {
        path: PathBuf,
        before: u64,
        after: u64,
    },
    #[error("log file {} belongs to another store ({found:032x}, this one is {expected:032x})", path.display())]
    ForeignStore {
        path: PathBuf,
        found: u128,
        expected: u128,
    },
    #[error("log file {} has format version {found}; this build reads {known}", path.display())]
    UnknownFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "the log in {} ends at frame {found}, before frame {expected} at which the newest snapshot ends: its newest files are missing. Restore them from a copy",
        path.display()
    )]
    EndsBeforeSnapshot {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error(
        "the log in {} ends at frame {found}, and the cloud says that it has come to {expected}: it is another one's folder, or files are missing",
        path.display()
    )]
    EndsEarly {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error(transparent)]
    Object(#[from] ObjectLogError),
    #[error("the log has failed before; it is read anew at the next start")]
    Failed,
}

impl LogError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// A frame found or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The log object in which it lies: the number of a log file, or of an object in the store.
    pub object: u64,
    /// Where the frame's attachments begin in the object.
    pub attachments_position: u64,
    /// Bytes that the frame takes.
    pub frame_bytes: u64,
}

/// Where a snapshot of what the frames before it made ends, and the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    pub store_id: u128,
    pub next_frame: u64,
    /// Of the frame before it.
    pub previous_crc: u32,
}

/// Reads attachments back, from any thread, beside the one that appends. Cheap to clone.
#[derive(Clone, Debug)]
pub enum LogReader {
    Local(LocalReader),
    Object(ObjectReader),
}

/// What lies at a place of the log.
#[derive(Clone, Debug)]
pub enum OpenedPlace {
    /// The file has it at the place's position, for as long as it is open.
    File(Arc<File>),
    /// Read already.
    Bytes(Bytes),
}

impl LogReader {
    /// Fills `out` with the bytes at `place`. Blocks: not to be called on a thread that runs others' tasks.
    ///
    /// # Errors
    /// `NotFound` where the object is not there.
    pub fn read(&self, place: LogPlace, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Local(files) => files.read(place, out),
            Self::Object(objects) => objects.read(place, out),
        }
    }

    /// What lies at `place`, for who can read it when it is wanted.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub async fn open(&self, place: LogPlace, bytes: usize) -> io::Result<OpenedPlace> {
        match self {
            Self::Local(files) => files.file(place).map(OpenedPlace::File),
            Self::Object(objects) => objects.fetch(place, bytes).await.map(OpenedPlace::Bytes),
        }
    }

    /// Whether [`LogReader::open`] gives files.
    pub fn has_files(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// As [`LogReader::read`], but of what is stored, whatever a cache has of it. Blocks as that does.
    ///
    /// # Errors
    /// As that.
    pub fn read_stored(&self, place: LogPlace, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Local(files) => files.read(place, out),
            Self::Object(objects) => objects.read_stored(place, out),
        }
    }

    /// Whether an object is there.
    pub fn has(&self, object: u64) -> bool {
        match self {
            Self::Local(files) => files.has(object),
            Self::Object(objects) => objects.has(object),
        }
    }

    /// The newest object: it is appended to, or what is appended comes behind it.
    pub fn newest(&self) -> Option<u64> {
        match self {
            Self::Local(files) => files.newest(),
            Self::Object(objects) => objects.newest(),
        }
    }

    /// The objects in which all frames lie before `frame`, oldest first.
    pub fn objects_before(&self, frame: u64) -> Vec<u64> {
        match self {
            Self::Local(files) => files.files_before(frame),
            Self::Object(objects) => objects.before(frame),
        }
    }

    /// Removes objects; returns those that are gone, and the last error. Who still reads a file reads on.
    pub async fn remove(&self, objects: Vec<u64>) -> (Vec<u64>, Option<LogError>) {
        match self {
            Self::Local(files) => {
                let files = files.clone();
                let remove = move || files.remove_all(objects);
                let removed = tokio::task::spawn_blocking(remove).await;
                removed.unwrap_or((Vec::new(), Some(LogError::Failed)))
            }
            Self::Object(objects_there) => objects_there.remove(objects).await,
        }
    }
}
