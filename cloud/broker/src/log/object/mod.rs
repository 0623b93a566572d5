//! The ordered log in an object store (`wal: object`): each frame, a command with the batches that it names, is one
//! object, made only where there is none of its number. So no disk of this machine holds anything, one PUT makes
//! command and batches durable together, and whoever takes the log over by a fence ([`chain`]) keeps all earlier
//! writers from adding to it.
//!
//! Several objects are on their way at once; a frame counts as durable when all before it are. What a writer had on
//! its way when it ended is part of the log, up to the first that is missing; the rest is void, and deleted as what
//! nobody needs. Assumptions about the store: an object is there whole or not at all, its creation is decided
//! between two who compete, and a listing shows what was made before it.

mod chain;
mod frame;
mod place;
mod reader;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::task::JoinHandle;

use super::{Appended, LogEnd, LogError, OrderedLog};
use crate::limits::LOG_OBJECTS_IN_FLIGHT_MAX;
use crate::store::{Cache, Store, StoreError};
use chain::{Position, VOID_NUMBERS};
use frame::Header;
use place::Place;
pub use reader::ObjectReader;

const _: () = {
    // A frame may come to another for which there was room.
    assert!((LOG_OBJECTS_IN_FLIGHT_MAX as u64) * 2 < VOID_NUMBERS);
};

/// Why the log in an object store cannot be opened or appended to.
#[derive(Debug, Error)]
pub enum ObjectLogError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{key} in {store} is no whole object of the log: {reason}. Put it back from a copy or an older version; to go on without it would lose what was acknowledged"
    )]
    Damaged {
        store: String,
        key: String,
        reason: &'static str,
    },
    #[error("{key} in {store} has format version {found}: run the build that wrote it or newer")]
    UnknownFormat {
        store: String,
        key: String,
        found: u32,
    },
    #[error(
        "{key} in {store} is missing, and there are objects of the log behind it: put it back; to go on without it would lose what was acknowledged"
    )]
    Missing { store: String, key: String },
    #[error("{key} in {store} is of another log ({found:032x}, this one is {expected:032x})")]
    ForeignStore {
        store: String,
        key: String,
        found: u128,
        expected: u128,
    },
    #[error(
        "another cloud has taken over the log in {store}, by {key}: only one can run with one object store"
    )]
    Fenced { store: String, key: String },
    #[error(
        "another cloud writes to the log in {store} faster than this one can take it over: stop it, and start this one anew"
    )]
    Contested { store: String },
}

/// Where a log in an object store is, and how it is read.
#[derive(Clone, Debug)]
pub struct ObjectLogPlace {
    pub store: Store,
    pub cache: Cache,
    /// What comes is gathered for so long into one object.
    pub linger: Duration,
}

/// The log, open for appending.
#[derive(Debug)]
pub struct ObjectLog {
    place: Place,
    reader: ObjectReader,
    linger: Duration,
    store_id: u128,
    writer: u128,
    next: Position,
    in_flight: VecDeque<InFlight>,
    failed: bool,
}

/// An object on its way to the store.
#[derive(Debug)]
struct InFlight {
    number: u64,
    made: JoinHandle<Result<bool, ObjectLogError>>,
}

impl Drop for InFlight {
    /// Nobody is answered by it any more.
    fn drop(&mut self) {
        self.made.abort();
    }
}

impl ObjectLog {
    /// Opens the log, hands every command behind a snapshot that ended at `after` to `replay`, in order, and takes
    /// the log over from whoever wrote to it before. A log that is not there yet is begun, with `new_store_id`.
    /// `writer` is random too. To be called within a runtime that lives as long as the log.
    ///
    /// # Errors
    /// An object is missing or damaged, or is another log's; another cloud takes the log over at the same time.
    pub async fn open<E: From<LogError>>(
        place: ObjectLogPlace,
        (new_store_id, writer): (u128, u128),
        after: Option<LogEnd>,
        replay: impl FnMut(Appended, Bytes) -> Result<(), E>,
    ) -> Result<Self, E> {
        recovery::open(place, (new_store_id, writer), after, replay).await
    }

    /// Whether there is a log in a store.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn is_there(store: &Store) -> Result<bool, StoreError> {
        let place = Place {
            store: store.clone(),
        };
        Ok(!place.is_empty().await?)
    }

    pub fn store_id(&self) -> u128 {
        self.store_id
    }

    /// A handle that reads attachments back.
    pub fn reader(&self) -> ObjectReader {
        self.reader.clone()
    }

    fn fenced(&self, number: u64) -> ObjectLogError {
        ObjectLogError::Fenced {
            store: self.place.store.url().as_str().to_owned(),
            key: place::key(number),
        }
    }
}

impl OrderedLog for ObjectLog {
    fn append(&mut self, command: &[u8], attachments: &[Bytes]) -> Result<Appended, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let in_flight = self.in_flight.len() as u64;
        assert!(
            in_flight + 1 < VOID_NUMBERS,
            "whoever appends asks for room first"
        );
        let at = self.next;
        let durable = self.in_flight.front().map_or(at.number, |one| one.number);
        let ids = (self.store_id, self.writer);
        let header = Header::frame(ids, at, durable, command, attachments);
        let (bytes, crc) = header.encode(command, attachments);
        let place = self.place.clone();
        let made = tokio::spawn(async move { place.create(at.number, bytes).await });
        self.in_flight.push_back(InFlight {
            number: at.number,
            made,
        });
        self.next = Position {
            number: at.number + 1,
            previous_crc: crc,
        };
        Ok(Appended {
            object: at.number,
            attachments_position: header.attachments_position(),
            frame_bytes: header.object_bytes(),
        })
    }

    async fn durable(&mut self) -> Result<(), LogError> {
        let Some(oldest) = self.in_flight.front_mut() else {
            return std::future::pending().await;
        };
        let (number, made) = (oldest.number, (&mut oldest.made).await);
        self.in_flight.pop_front();
        let failed = match made {
            Ok(Ok(true)) => {
                self.reader.add([number]);
                return Ok(());
            }
            Ok(Ok(false)) => self.fenced(number).into(),
            Ok(Err(error)) => error.into(),
            Err(_) => LogError::Failed,
        };
        self.failed = true;
        Err(failed)
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < LOG_OBJECTS_IN_FLIGHT_MAX
    }

    fn linger(&self) -> Duration {
        self.linger
    }

    fn end(&self) -> LogEnd {
        LogEnd {
            store_id: self.store_id,
            next_frame: self.next.number,
            previous_crc: self.next.previous_crc,
        }
    }
}
