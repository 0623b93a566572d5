//! Rows of the node's own: client sessions, retained and delayed messages. The journal keeps them beside the
//! messages, in the same frames, and knows nothing of what they mean.
//!
//! A row is a value and the changes made to it since, in their order. Whoever owns the row folds the
//! changes into a new value now and then (a `Put`). Between checkpoints only what changed is in memory.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

/// The longest key: an MQTT string.
pub const ROW_KEY_BYTES_MAX: usize = 65_535;

/// Whose rows. The numbers lie on the medium and are never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RowTable {
    /// By client id.
    ClientSessions = 1,
    /// By topic.
    Retained = 2,
    /// By the filter of the shared subscription, as clients write it.
    SharedGroups = 3,
    /// By the name of the keyed stream.
    Lanes = 4,
    /// By when they are due, and a number.
    Delayed = 5,
}

impl RowTable {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::ClientSessions),
            2 => Some(Self::Retained),
            3 => Some(Self::SharedGroups),
            4 => Some(Self::Lanes),
            5 => Some(Self::Delayed),
            _ => None,
        }
    }
}

/// What a commit does to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOperation {
    /// Replaces value and changes.
    Put(Bytes),
    Delete,
    /// Adds a change behind the others.
    Change(Bytes),
}

/// An operation on one row, as it stands in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowEntry {
    pub table: RowTable,
    pub key: Bytes,
    pub operation: RowOperation,
}

impl RowEntry {
    /// What it takes in a frame, roughly.
    pub fn bytes(&self) -> usize {
        let operation = match &self.operation {
            RowOperation::Put(bytes) | RowOperation::Change(bytes) => bytes.len(),
            RowOperation::Delete => 0,
        };
        self.key.len() + operation + 32
    }

    pub(crate) fn encode(&self) -> (u8, BytesMut) {
        let mut out = BytesMut::with_capacity(self.bytes());
        out.put_u8(self.table as u8);
        put_bytes(&mut out, &self.key);
        let tag = match &self.operation {
            RowOperation::Put(value) => {
                out.put_slice(value);
                ROW_PUT_TAG
            }
            RowOperation::Delete => ROW_DELETE_TAG,
            RowOperation::Change(change) => {
                out.put_slice(change);
                ROW_CHANGE_TAG
            }
        };
        (tag, out)
    }

    pub(crate) fn decode(tag: u8, body: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let field = "row table";
        let table = RowTable::from_number(reader.u8(field)?).ok_or(WireError::Invalid { field })?;
        let key = reader.bytes("row key", ROW_KEY_BYTES_MAX)?;
        let rest = reader.rest().clone();
        let operation = match tag {
            ROW_PUT_TAG => RowOperation::Put(rest),
            ROW_DELETE_TAG => RowOperation::Delete,
            _ => RowOperation::Change(rest),
        };
        Ok(Self {
            table,
            key,
            operation,
        })
    }
}

pub(crate) const ROW_PUT_TAG: u8 = 16;
pub(crate) const ROW_DELETE_TAG: u8 = 17;
pub(crate) const ROW_CHANGE_TAG: u8 = 18;

/// A row as it is found when the journal is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `None` where changes came before any value.
    pub value: Option<Bytes>,
    /// Since the value, oldest first.
    pub changes: Vec<Bytes>,
}

impl Row {
    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u8(u8::from(self.value.is_some()));
        put_bytes(&mut out, self.value.as_deref().unwrap_or_default());
        for change in &self.changes {
            put_bytes(&mut out, change);
        }
        out
    }

    pub(crate) fn decode(row: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(row);
        let has_value = reader.u8("row has a value")? != 0;
        let value = reader.bytes("row value", usize::MAX)?;
        let mut changes = Vec::new();
        while !reader.is_empty() {
            changes.push(reader.bytes("row change", usize::MAX)?);
        }
        let value = has_value.then_some(value);
        Ok(Self { value, changes })
    }
}

/// What became of one row since the last checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingRow {
    /// The row that redb holds is replaced by this; `None` leaves it.
    pub replaced: Option<Option<Bytes>>,
    pub changes: Vec<Bytes>,
}

impl PendingRow {
    fn apply(&mut self, operation: &RowOperation) {
        match operation {
            RowOperation::Put(value) => {
                self.replaced = Some(Some(value.clone()));
                self.changes.clear();
            }
            RowOperation::Delete => {
                self.replaced = Some(None);
                self.changes.clear();
            }
            RowOperation::Change(change) => self.changes.push(change.clone()),
        }
    }

    /// What came after this is `later`.
    fn followed_by(mut self, later: Self) -> Self {
        if later.replaced.is_some() {
            return later;
        }
        self.changes.extend(later.changes);
        self
    }

    /// The row's next value in redb, given the one that is there; `None` deletes it.
    pub(crate) fn over(&self, stored: Option<Bytes>) -> Result<Option<BytesMut>, WireError> {
        let mut row = match (&self.replaced, stored) {
            (Some(value), _) => Row {
                value: value.clone(),
                changes: Vec::new(),
            },
            (None, Some(stored)) => Row::decode(stored)?,
            (None, None) => Row::default(),
        };
        row.changes.extend(self.changes.iter().cloned());
        let living = row.value.is_some() || !row.changes.is_empty();
        Ok(living.then(|| row.encode()))
    }
}

pub(crate) type PendingRows = BTreeMap<(RowTable, Bytes), PendingRow>;

/// Takes a durable operation up.
pub(crate) fn apply(rows: &mut PendingRows, entry: &RowEntry) {
    let key = (entry.table, entry.key.clone());
    rows.entry(key).or_default().apply(&entry.operation);
}

/// Puts back what a checkpoint could not write, before what came since.
pub(crate) fn put_back(rows: &mut PendingRows, frozen: PendingRows) {
    for (key, before) in frozen {
        let since = rows.remove(&key).unwrap_or_default();
        rows.insert(key, before.followed_by(since));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn operation() -> impl Strategy<Value = RowOperation> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from);
        prop_oneof![
            bytes().prop_map(RowOperation::Put),
            Just(RowOperation::Delete),
            bytes().prop_map(RowOperation::Change),
            bytes().prop_map(RowOperation::Change),
        ]
    }

    proptest! {
        #[test]
        fn an_entry_round_trips(operation in operation(), key in proptest::collection::vec(any::<u8>(), 0..9)) {
            let entry = RowEntry { table: RowTable::Retained, key: key.into(), operation };
            let (tag, body) = entry.encode();
            prop_assert_eq!(RowEntry::decode(tag, body.freeze()), Ok(entry));
        }

        /// Wherever checkpoints fall between the operations, the same row comes out.
        #[test]
        fn checkpoints_change_nothing(operations in proptest::collection::vec((operation(), 0..4_u8), 0..12)) {
            let mut model = Row::default();
            let (mut stored, mut pending) = (None, PendingRow::default());
            let mut frozen: Option<PendingRow> = None;
            for (operation, checkpoint) in operations {
                match &operation {
                    RowOperation::Put(value) => model = Row { value: Some(value.clone()), changes: Vec::new() },
                    RowOperation::Delete => model = Row::default(),
                    RowOperation::Change(change) => model.changes.push(change.clone()),
                }
                pending.apply(&operation);
                // 1: a checkpoint begins; 2: it succeeds; 3: it finds no space.
                match (checkpoint, frozen.take()) {
                    (1, None) => frozen = Some(std::mem::take(&mut pending)),
                    (2, Some(written)) => stored = written.over(stored).unwrap().map(BytesMut::freeze),
                    (3, Some(unwritten)) => pending = unwritten.followed_by(std::mem::take(&mut pending)),
                    (_, running) => frozen = running,
                }
            }
            if let Some(unwritten) = frozen {
                pending = unwritten.followed_by(pending);
            }
            let row = pending.over(stored).unwrap().map(|row| Row::decode(row.freeze()).unwrap());
            prop_assert_eq!(row.unwrap_or_default(), model);
        }
    }
}
