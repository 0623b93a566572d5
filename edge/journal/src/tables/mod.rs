//! The rows of redb: one file a table, each with encode, decode and a round-trip test. Table names
//! carry their number, which is never used again for something else.
//!
//! | table | key | value |
//! |---|---|---|
//! | `1-meta` | 0 | store id, format version, the log's tail, newest cluster incarnation and session epoch |
//! | `2-streams` | stream | name, topic, offsets, hashes |
//! | `3-runs` | (stream, log file) | which offsets lie there |
//! | `4-files` | log file's sequence | slot and fill |
//! | `5-rows` | (table, key) | a row of the node's own, and its changes |

mod file;
mod meta;
mod run;
mod stream;

use bytes::{Bytes, BytesMut};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;
use tidegate_shared::id::{NameError, StreamId};
use tidegate_shared::wire::WireError;

use crate::rows::{PendingRows, Row, RowTable};
use crate::state::{Meta, RowKey, State};

const META: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("1-meta");
const STREAMS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("2-streams");
const RUNS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("3-runs");
const FILES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("4-files");
const ROWS: TableDefinition<'_, (u8, &[u8]), &[u8]> = TableDefinition::new("5-rows");

/// redb, or a row in it, cannot be read or written.
#[derive(Debug, Error)]
pub enum TableError {
    #[error(transparent)]
    Redb(Box<redb::Error>),
    #[error("a row of the index is damaged: {0}")]
    Row(#[from] WireError),
    #[error("a row of the index is damaged: {0}")]
    Name(#[from] NameError),
    #[error("the journal has format {found}, this build reads {known}: use a newer tidegate-edge")]
    Format { found: u32, known: u32 },
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for TableError {
            fn from(error: $error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(
    redb::CommitError,
    redb::SetDurabilityError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);

/// The rows that one checkpoint writes, as they were at its frame boundary.
#[derive(Debug)]
pub(crate) struct Rows {
    meta: BytesMut,
    rows: Vec<(RowKey, Option<BytesMut>)>,
    pending: PendingRows,
}

impl Rows {
    /// Freezes what changed.
    pub(crate) fn freeze(state: &mut State) -> Self {
        let dirty = std::mem::take(&mut state.dirty);
        let rows = dirty
            .into_iter()
            .map(|key| (key, encode_row(state, key)))
            .collect();
        Self {
            meta: meta::encode(&state.meta),
            rows,
            pending: std::mem::take(&mut state.rows),
        }
    }

    /// Writes them in one durable transaction.
    pub(crate) fn write(self, database: &Database) -> Result<(), TableError> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut streams = transaction.open_table(STREAMS)?;
            let mut runs = transaction.open_table(RUNS)?;
            let mut files = transaction.open_table(FILES)?;
            for (key, row) in self.rows {
                match (key, row.as_deref()) {
                    (RowKey::Stream(id), Some(row)) => drop(streams.insert(id.0, row)?),
                    (RowKey::Stream(id), None) => drop(streams.remove(id.0)?),
                    (RowKey::Run(id, file), Some(row)) => drop(runs.insert((id.0, file), row)?),
                    (RowKey::Run(id, file), None) => drop(runs.remove((id.0, file))?),
                    (RowKey::File(file), Some(row)) => drop(files.insert(file, row)?),
                    (RowKey::File(file), None) => drop(files.remove(file)?),
                }
            }
            write_pending(&mut transaction.open_table(ROWS)?, &self.pending)?;
            transaction.open_table(META)?.insert(0, &self.meta[..])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn write_pending(
    table: &mut redb::Table<'_, (u8, &[u8]), &[u8]>,
    pending: &PendingRows,
) -> Result<(), TableError> {
    for ((number, key), row) in pending {
        let key = (*number as u8, &key[..]);
        let stored = table
            .get(key)?
            .map(|row| Bytes::copy_from_slice(row.value()));
        match row.over(stored)? {
            Some(row) => drop(table.insert(key, &row[..])?),
            None => drop(table.remove(key)?),
        }
    }
    Ok(())
}

/// The node's own rows of one table, as the last checkpoint left them, by key.
pub(crate) fn load_rows(
    database: &Database,
    table: RowTable,
) -> Result<Vec<(Bytes, Row)>, TableError> {
    let transaction = database.begin_read()?;
    let rows = match transaction.open_table(ROWS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        rows => rows?,
    };
    let (first, next) = ((table as u8, &[][..]), (table as u8 + 1, &[][..]));
    let mut found = Vec::new();
    for entry in rows.range(first..next)? {
        let (key, row) = entry?;
        let key = Bytes::copy_from_slice(key.value().1);
        found.push((key, Row::decode(Bytes::copy_from_slice(row.value()))?));
    }
    Ok(found)
}

fn encode_row(state: &State, key: RowKey) -> Option<BytesMut> {
    match key {
        RowKey::Stream(id) => state.streams.get(&id).map(stream::encode),
        RowKey::Run(id, file) => {
            let stream = state.streams.get(&id)?;
            let at = stream
                .runs
                .binary_search_by_key(&file, |run| run.file)
                .ok()?;
            Some(run::encode(&stream.runs[at]))
        }
        RowKey::File(sequence) => state.files.get(&sequence).map(file::encode),
    }
}

/// Reads everything; `None` for a database in which no checkpoint was ever written.
pub(crate) fn load(database: &Database) -> Result<Option<State>, TableError> {
    let transaction = database.begin_read()?;
    let meta: Meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => match table?.get(0)? {
            None => return Ok(None),
            Some(row) => meta::decode(Bytes::copy_from_slice(row.value()))?,
        },
    };
    let mut state = State {
        meta,
        ..State::default()
    };
    for row in transaction.open_table(FILES)?.iter()? {
        let (sequence, row) = row?;
        let file = file::decode(Bytes::copy_from_slice(row.value()))?;
        state.files.insert(sequence.value(), file);
    }
    for row in transaction.open_table(STREAMS)?.iter()? {
        let (id, row) = row?;
        let stream = stream::decode(Bytes::copy_from_slice(row.value()))?;
        state
            .names
            .insert(stream.name.clone(), StreamId(id.value()));
        state.streams.insert(StreamId(id.value()), stream);
    }
    // Keys come in order: a stream's runs by file, which is also by offset.
    for row in transaction.open_table(RUNS)?.iter()? {
        let (key, row) = row?;
        let (id, file) = key.value();
        let run = run::decode(file, Bytes::copy_from_slice(row.value()))?;
        if let Some(stream) = state.streams.get_mut(&StreamId(id)) {
            stream.runs.push_back(run);
        }
        if let Some(file) = state.files.get_mut(&file) {
            file.runs += 1;
        }
    }
    Ok(Some(state))
}
