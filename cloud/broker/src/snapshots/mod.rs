//! Snapshots: what the commands before a place in the log have made, so that a start replays only those behind it,
//! and older log objects can go. They lie where the log does: in a folder, or in the object store.
//!
//! The two newest are kept, so that one that the medium damaged is not the end. It knows nothing of what the state
//! means.

mod folder;
mod objects;

use std::io;
use std::path::PathBuf;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidegate_shared::wire::{Reader, WireError};

use crate::log::LogEnd;
use crate::store::StoreError;
pub use folder::{SnapshotFile, read_newest};
pub use objects::ObjectSnapshots;

/// The state at one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub end: LogEnd,
    /// The ledger's time then, in milliseconds since the Unix epoch.
    pub ledger_ms: i64,
    pub ledger: Bytes,
    pub offset_map: Bytes,
}

/// Why a snapshot cannot be written or the folder not be read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("{action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "snapshot {name} has format version {found}; this build reads {FORMAT_VERSION}: run the build that wrote it or newer"
    )]
    UnknownFormat { name: String, found: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

const MAGIC: u64 = u64::from_le_bytes(*b"TGCLDSNP");
const FORMAT_VERSION: u32 = 1;

/// Snapshots that are kept.
pub const KEPT: usize = 2;

/// Where a cloud's snapshots are.
#[derive(Clone, Debug)]
pub enum Snapshots {
    Folder(PathBuf),
    Objects(ObjectSnapshots),
}

impl Snapshots {
    /// The newest snapshot that is whole. Damaged ones are told of and set aside, so that none of them is taken
    /// for one that can be fallen back to. Blocks: not to be called on a runtime's own threads.
    ///
    /// # Errors
    /// The place or a snapshot cannot be read, or a snapshot is of a newer build.
    pub fn load(&self) -> Result<Option<Snapshot>, SnapshotError> {
        match self {
            Self::Folder(folder) => folder::load(folder),
            Self::Objects(objects) => objects.runtime.block_on(objects.load()),
        }
    }

    /// Writes a snapshot, durable when it returns, and removes all but the newest [`KEPT`]. Returns the frame
    /// at which the oldest one ends that is kept, once there are so many: what lies before it nothing will
    /// replay. Blocks, as [`Self::load`] does.
    ///
    /// # Errors
    /// The snapshot is not there; those before it are.
    pub fn save(&self, snapshot: &Snapshot) -> Result<Option<u64>, SnapshotError> {
        match self {
            Self::Folder(folder) => folder::save(folder, snapshot),
            Self::Objects(objects) => objects.runtime.block_on(objects.save(snapshot)),
        }
    }
}

/// The frame at which a snapshot of this name ends; `None` where it is no snapshot's name.
fn next_frame_of(name: &str) -> Option<u64> {
    name.strip_suffix(".snapshot")?.parse().ok()
}

fn name_of(next_frame: u64) -> String {
    format!("{next_frame:020}.snapshot")
}

fn tell_damaged(snapshot: &str) {
    tracing::warn!(
        snapshot,
        "the snapshot is damaged, and set aside; an older one is used, and more of the log replayed"
    );
}

/// Fields, in the order in which they lie: magic, format version, store id, next frame, previous CRC, the
/// ledger's time, the ledger's bytes and the offset map's with their lengths (64 bits), CRC32C of all before.
fn encode(snapshot: &Snapshot) -> BytesMut {
    let length = snapshot.ledger.len() + snapshot.offset_map.len() + 80;
    let mut out = BytesMut::with_capacity(length);
    out.put_u64_le(MAGIC);
    out.put_u32_le(FORMAT_VERSION);
    out.put_u128_le(snapshot.end.store_id);
    out.put_u64_le(snapshot.end.next_frame);
    out.put_u32_le(snapshot.end.previous_crc);
    out.put_i64_le(snapshot.ledger_ms);
    for part in [&snapshot.ledger, &snapshot.offset_map] {
        out.put_u64_le(part.len() as u64);
        out.put_slice(part);
    }
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out
}

/// `None` where the bytes are not a whole snapshot.
fn decode(name: &str, bytes: Bytes) -> Result<Option<Snapshot>, SnapshotError> {
    let Some(covered) = bytes.len().checked_sub(size_of::<u32>()) else {
        return Ok(None);
    };
    let mut crc = Reader::new(bytes.slice(covered..));
    if crc.u32("crc") != Ok(crc32c::crc32c(&bytes[..covered])) {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes.slice(..covered));
    let head = reader.u64("magic").ok().zip(reader.u32("version").ok());
    match head {
        Some((MAGIC, FORMAT_VERSION)) => Ok(take(&mut reader).ok()),
        Some((MAGIC, found)) => Err(SnapshotError::UnknownFormat {
            name: name.to_owned(),
            found,
        }),
        _ => Ok(None),
    }
}

fn take(reader: &mut Reader) -> Result<Snapshot, WireError> {
    let end = LogEnd {
        store_id: reader.u128("store id")?,
        next_frame: reader.u64("next frame")?,
        previous_crc: reader.u32("previous crc")?,
    };
    let ledger_ms = reader.i64("ledger's time")?;
    let mut part = |field| {
        let length = usize::try_from(reader.u64(field)?);
        reader.take(field, length.unwrap_or(usize::MAX))
    };
    let (ledger, offset_map) = (part("ledger")?, part("offset map")?);
    Ok(Snapshot {
        end,
        ledger_ms,
        ledger,
        offset_map,
    })
}
