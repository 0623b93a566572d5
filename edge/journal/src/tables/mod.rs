//! The rows of redb: one file a table, each with encode, decode and a round-trip test. Table names
//! carry their number, which is never used again for something else.
//!
//! | table | key | value |
//! |---|---|---|
//! | `1-meta` | 0 | store id, format version, the log's tail, newest cluster incarnation and session epoch |
//! | `2-streams` | stream | name, topic, offsets, hashes |
//! | `3-runs` | (stream, log file) | which offsets lie there |
//! | `4-files` | log file's sequence | slot and fill |
//! | `5-gaps` | (stream, first offset) | what is lost there |
//! | `6-boundaries` | (stream, offset) | a hash kept of what was dropped |
//! | `7-copies` | (stream, next offset) | which offsets the cleaner copied to which log file |
//! | `8-rows` | (table, key) | a row of the node's own, and its changes |

mod file;
mod gap;
mod meta;
mod run;
mod stream;

pub use meta::FORMAT_VERSION;

use bytes::{Bytes, BytesMut};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
};
use thiserror::Error;
use tidegate_shared::id::{EdgeOffset, NameError, StreamId};
use tidegate_shared::wire::WireError;

use crate::rows::{self, PendingRows, Row, RowTable};
use crate::state::{Meta, RowKey, Run, State};

const META: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("1-meta");
const STREAMS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("2-streams");
const RUNS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("3-runs");
const FILES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("4-files");
const GAPS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("5-gaps");
const BOUNDARIES: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("6-boundaries");
const COPIES: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("7-copies");
const ROWS: TableDefinition<'_, (u8, &[u8]), &[u8]> = TableDefinition::new("8-rows");

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
    pub(crate) fn write(&self, database: &Database) -> Result<(), TableError> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut streams = transaction.open_table(STREAMS)?;
            let mut runs = transaction.open_table(RUNS)?;
            let mut files = transaction.open_table(FILES)?;
            let mut gaps = transaction.open_table(GAPS)?;
            let mut boundaries = transaction.open_table(BOUNDARIES)?;
            let mut copies = transaction.open_table(COPIES)?;
            for (key, row) in &self.rows {
                match (*key, row.as_deref()) {
                    (RowKey::Stream(id), Some(row)) => drop(streams.insert(id.0, row)?),
                    (RowKey::Stream(id), None) => drop(streams.remove(id.0)?),
                    (RowKey::Run(id, file), Some(row)) => drop(runs.insert((id.0, file), row)?),
                    (RowKey::Run(id, file), None) => drop(runs.remove((id.0, file))?),
                    (RowKey::File(file), Some(row)) => drop(files.insert(file, row)?),
                    (RowKey::File(file), None) => drop(files.remove(file)?),
                    (RowKey::Gap(id, at), Some(row)) => drop(gaps.insert((id.0, at.0), row)?),
                    (RowKey::Gap(id, at), None) => drop(gaps.remove((id.0, at.0))?),
                    (RowKey::Boundary(id, at), Some(row)) => {
                        drop(boundaries.insert((id.0, at.0), row)?);
                    }
                    (RowKey::Boundary(id, at), None) => drop(boundaries.remove((id.0, at.0))?),
                    (RowKey::Copy(id, at), Some(row)) => drop(copies.insert((id.0, at.0), row)?),
                    (RowKey::Copy(id, at), None) => drop(copies.remove((id.0, at.0))?),
                }
            }
            write_pending(&mut transaction.open_table(ROWS)?, &self.pending)?;
            transaction.open_table(META)?.insert(0, &self.meta[..])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// All that a checkpoint which failed had to write is due another time.
    pub(crate) fn put_back(self, state: &mut State) {
        state
            .dirty
            .extend(self.rows.into_iter().map(|(key, _)| key));
        rows::put_back(&mut state.rows, self.pending);
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
            let mut runs = state.streams.get(&id)?.runs.iter();
            let own = |run: &&Run| run.file == file && !run.copied;
            runs.find(own).map(run::encode)
        }
        RowKey::Copy(id, next) => {
            let runs = &state.streams.get(&id)?.runs;
            let at = runs.binary_search_by_key(&next, |run| run.next).ok()?;
            Some(run::encode_copy(&runs[at])).filter(|_| runs[at].copied)
        }
        RowKey::File(sequence) => state.files.get(&sequence).map(file::encode),
        RowKey::Gap(id, from) => {
            let gaps = &state.streams.get(&id)?.gaps;
            let at = gaps.binary_search_by_key(&from, |gap| gap.from).ok()?;
            Some(gap::encode(&gaps[at]))
        }
        RowKey::Boundary(id, offset) => {
            let hash = state.streams.get(&id)?.boundaries.get(&offset)?;
            Some(gap::encode_boundary(*hash))
        }
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
        state.gap_records += stream.gap_records;
        state.gap_records_landed += stream.gap_records_landed;
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
    load_copies(&transaction, &mut state)?;
    load_gaps(&transaction, &mut state)?;
    Ok(Some(state))
}

/// Format 1 has no such table.
fn load_copies(transaction: &ReadTransaction, state: &mut State) -> Result<(), TableError> {
    let table = match transaction.open_table(COPIES) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        table => table?,
    };
    for row in table.iter()? {
        let (key, row) = row?;
        let (id, next) = key.value();
        let row = Bytes::copy_from_slice(row.value());
        let run = run::decode_copy(EdgeOffset(next), row)?;
        if let Some(file) = state.files.get_mut(&run.file) {
            file.runs += 1;
        }
        if let Some(stream) = state.streams.get_mut(&StreamId(id)) {
            let at = stream.runs.partition_point(|other| other.next <= run.first);
            stream.runs.insert(at, run);
        }
    }
    Ok(())
}

/// Format 1 has no such tables.
fn load_gaps(transaction: &ReadTransaction, state: &mut State) -> Result<(), TableError> {
    let missing =
        |error: &redb::TableError| matches!(error, redb::TableError::TableDoesNotExist(_));
    match transaction.open_table(GAPS) {
        Err(error) if missing(&error) => return Ok(()),
        table => {
            for row in table?.iter()? {
                let (key, row) = row?;
                let (id, from) = key.value();
                let row = Bytes::copy_from_slice(row.value());
                if let Some(stream) = state.streams.get_mut(&StreamId(id)) {
                    stream.gaps.push(gap::decode(EdgeOffset(from), row)?);
                }
            }
        }
    }
    for row in transaction.open_table(BOUNDARIES)?.iter()? {
        let (key, row) = row?;
        let (id, offset) = key.value();
        let hash = gap::decode_boundary(Bytes::copy_from_slice(row.value()))?;
        if let Some(stream) = state.streams.get_mut(&StreamId(id)) {
            stream.boundaries.insert(EdgeOffset(offset), hash);
        }
    }
    Ok(())
}
