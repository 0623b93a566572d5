//! The edge's store: a commit log in recycled log files, and redb over it.
//!
//! A [`Journal`] is owned by one committer. Records are staged ([`Journal::append`]) and made durable
//! together ([`Journal::commit`]): one frame, one fdatasync. What is looked up lies in redb, which is
//! written only at a checkpoint; after a crash the frames past the checkpoint are replayed. A
//! [`JournalReader`] reads what is durable, from any thread.
//!
//! Walk: `staged` gathers → `frame` and `entry` give the bytes → `writer` puts them into a `log_file`
//! and syncs → `state` takes them up → `checkpoint` writes `tables` → `reader` hands out `chunk`s.
//! `open` puts it all together again after any crash. `media` is what lies below.
//!
//! Architecture invariants: no tokio and no clock in here, so that simulations run the real thing;
//! nothing enters `state` before its frame is durable; a log file is used again only after the
//! checkpoint that records that nothing lives in it.

mod checkpoint;
mod chunk;
mod entry;
mod frame;
mod journal;
pub mod limits;
mod log_file;
mod log_reader;
#[cfg(test)]
mod log_reader_tests;
pub mod media;
mod open;
mod pool;
mod reader;
mod rows;
mod staged;
mod state;
mod tables;
#[cfg(test)]
mod tests;
mod topics;
mod writer;

pub use checkpoint::{CheckpointDone, CheckpointJob};
pub use chunk::{Chunk, hash_after};
pub use entry::EntryError;
pub use journal::{AppendRefused, CommitError, Committed, Journal, JournalStats};
pub use log_reader::LogRead;
pub use open::{OpenError, OpenReport};
pub use reader::{JournalReader, ReadError, StreamStatus};
pub use rows::{ROW_KEY_BYTES_MAX, Row, RowEntry, RowOperation, RowTable};
pub use staged::RowCommit;
pub use state::ApplyError;
pub use tables::TableError;
pub use topics::{TOPIC_HEADER, TopicProbe};
