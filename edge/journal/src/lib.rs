//! The edge's store: a commit log in recycled log files, and redb over it.
//!
//! A [`Journal`] is owned by one committer. Records are staged ([`Journal::append`]) and made durable
//! together ([`Journal::commit`]): one frame, one fdatasync. What is looked up lies in redb, which is
//! written only at a checkpoint; after a crash the frames past the checkpoint are replayed. A
//! [`JournalReader`] reads what is durable, from any thread.
//!
//! Walk: `staged` gathers → `frame` and `entry` give the bytes → `writer` puts them into a `log_file`
//! and syncs → `state` takes them up → `checkpoint` writes `tables` → `reader` hands out `chunk`s.
//! `open` puts it all together again after any crash: `index` loads the tables, `replay` finds the
//! frames past the checkpoint. `retention`, `expiry`, `overflow` and `dropping` let data go, `cleaner` moves what
//! stays, `gap` says what was lost, `damage` what the medium lost. `media` is what lies below.
//!
//! Architecture invariants: no tokio and no clock in here, so that simulations run the real thing;
//! nothing enters `state` before its frame is durable; what is dropped before it landed, or lost, is a
//! gap before it is gone; a log file is used again only after the
//! checkpoint that records that nothing lives in it.

mod checkpoint;
mod chunk;
mod cleaner;
mod clock;
mod damage;
mod dropping;
mod entry;
mod expiry;
mod frame;
mod gap;
mod index;
mod journal;
pub mod limits;
mod log_file;
mod log_reader;
#[cfg(test)]
mod log_reader_tests;
pub mod media;
mod merging;
mod open;
mod overflow;
mod pool;
mod reader;
mod replay;
mod retention;
mod rows;
mod sending;
mod staged;
mod state;
mod survey;
mod tables;
#[cfg(test)]
mod tests;
mod topics;
mod writer;

pub use checkpoint::{CheckpointDone, CheckpointJob};
pub use chunk::{Chunk, hash_after};
pub use clock::{JournalTime, PLAUSIBLE_WALL_MS_MIN, Tick, is_plausible};
pub use entry::EntryError;
pub use gap::Gap;
pub use journal::{AppendRefused, CommitError, Committed, Journal, JournalStats, record_bytes};
pub use log_reader::LogRead;
pub use merging::{Sealed, merge};
pub use open::{OpenError, OpenReport};
pub use reader::{JournalReader, ReadError, StreamStatus};
pub use retention::{Overflow, Retention, StreamPolicy};
pub use rows::{ROW_KEY_BYTES_MAX, Row, RowEntry, RowOperation, RowTable};
pub use sending::ToSend;
pub use staged::RowCommit;
pub use state::ApplyError;
pub use survey::{FileSurvey, Survey, Verification, survey, verify};
pub use tables::{FORMAT_VERSION, TableError};
pub use topics::{TOPIC_HEADER, TopicProbe};
