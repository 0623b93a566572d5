//! The medium under the journal: a set of log files, and the backend that redb stores in. The traits
//! are narrow so that a test can lose, tear and refuse writes; everything else uses [`Directory`].

mod directory;
mod faulty;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

pub use directory::Directory;
pub use faulty::{FaultyMedium, Survival};

/// A log file's place on the medium. Its content, not its place, says which file it is: places are
/// used again.
pub type Slot = u32;

/// One log file, of fixed length.
pub trait LogFile: Debug + Send + Sync {
    /// Fills `buffer` from `offset`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`. Durable only after [`LogFile::sync`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was written durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
}

/// Where a journal lives.
pub trait Medium: Debug + Send + Sync {
    /// The slots that exist, in any order.
    fn slots(&self) -> io::Result<Vec<Slot>>;
    fn open(&self, slot: Slot) -> io::Result<Arc<dyn LogFile>>;
    /// Makes a file of `bytes` zeros, durable together with its name. A slot that was left behind
    /// half made is made anew.
    fn create(&self, slot: Slot, bytes: usize) -> io::Result<Arc<dyn LogFile>>;
    /// Deletes a file.
    fn remove(&self, slot: Slot) -> io::Result<()>;
    /// Opens redb, creating it where there is none.
    fn open_database(&self) -> Result<redb::Database, redb::DatabaseError>;
    /// Renames what is damaged, so that it is out of the way and can still be looked at. Returns the
    /// new name.
    fn set_aside(&self, what: Aside) -> io::Result<String>;
    /// Bytes that the file system has left for this process.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Holds `bytes` of space in a file of that purpose, unless it does already.
    fn hold_reserve(&self, bytes: u64) -> io::Result<()>;
    /// Gives the held space back to the file system.
    fn release_reserve(&self) -> io::Result<()>;
}

/// What is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    Database,
    Log(Slot),
}

/// Whether an error says that there is no space, and not that the medium is broken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
