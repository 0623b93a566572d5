//! Which object comes next in the log, and whether one is it. No I/O: what the store has is handed in.
//!
//! Objects are numbered. A writer has at most [`VOID_NUMBERS`] of them on their way beyond the last one before which
//! all are durable. Who begins to write ends all earlier writers by a fence: it takes the first number that nobody has
//! (the store decides between two who want it), and those behind it that an earlier writer may have used are void. So
//! an object that comes late is either before the fence and part of the log, or void for ever. A fence is never
//! deleted, and so no number can be had that an earlier writer waits for: its owner may have been cut off from the
//! store for so long that all behind the fence is history.

use bytes::Bytes;

use super::frame::{Content, Header};
use crate::log::LogEnd;

/// Numbers that a fence voids: more than a writer may have on their way (see [`super::ObjectLog`]'s bound).
pub(super) const VOID_NUMBERS: u64 = 64;

/// The place of an object in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) number: u64,
    /// Of the object before it.
    pub(super) previous_crc: u32,
}

/// Where the walk through the log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Not known before the first object.
    store_id: Option<u128>,
    /// Of the object before; not known behind a snapshot.
    writer: Option<u128>,
    next: Position,
}

/// Why an object is not the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainError {
    ForeignStore(u128),
    NotNext,
}

impl Chain {
    /// Behind a snapshot that ended at `after`, or at the log's beginning.
    pub(super) fn after(after: Option<LogEnd>) -> Self {
        let Some(end) = after else {
            return Self::default();
        };
        Self {
            store_id: Some(end.store_id),
            writer: None,
            next: Position {
                number: end.next_frame,
                previous_crc: end.previous_crc,
            },
        }
    }

    pub(super) fn next(&self) -> Position {
        self.next
    }

    pub(super) fn store_id(&self) -> Option<u128> {
        self.store_id
    }

    /// Goes over the next object, whose content its header has vouched for.
    pub(super) fn follow(
        &mut self,
        header: &Header,
        crc: u32,
        content: &Content,
    ) -> Result<(), ChainError> {
        let store_id = *self.store_id.get_or_insert(header.store_id);
        if header.store_id != store_id {
            return Err(ChainError::ForeignStore(header.store_id));
        }
        let next_number = match content {
            Content::Fence { next } => *next,
            Content::Command(_) => {
                if self.writer.is_some_and(|writer| writer != header.writer) {
                    return Err(ChainError::NotNext);
                }
                header.at.number + 1
            }
        };
        if header.at != self.next {
            return Err(ChainError::NotNext);
        }
        self.writer = Some(header.writer);
        self.next = Position {
            number: next_number,
            previous_crc: crc,
        };
        Ok(())
    }

    /// A fence that ends the log here for all who wrote to it before, and where the log goes on.
    pub(super) fn fence(&self, ids: (u128, u128)) -> (Bytes, Position) {
        let number = self.next.number + VOID_NUMBERS;
        let (bytes, previous_crc) = Header::fence(ids, self.next, number).encode(&[], &[]);
        let next = Position {
            number,
            previous_crc,
        };
        (bytes, next)
    }

    /// Whether an object behind the log's end shows that the end is none: something before it is missing. It is not so
    /// of a frame that was on its way when its writer ended; who made a fence had read all before it.
    pub(super) fn is_missed_by(&self, header: &Header) -> bool {
        let durable = header.durable();
        header.at.number >= self.next.number + VOID_NUMBERS
            || durable.is_none_or(|durable| durable > self.next.number)
    }
}
