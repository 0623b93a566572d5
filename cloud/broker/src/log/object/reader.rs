//! Reads attachments back from the log's objects, through the cache in front of the object store.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tidegate_cloud_protocol::index::LogPlace;
use tokio::runtime::Handle;

use super::place::{Place, key};
use crate::limits::DELETIONS_AT_ONCE_MAX;
use crate::log::LogError;
use crate::store::{Cache, StoreError};

/// The log's frames that are there, also void ones; fences are not read, and stay. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ObjectReader {
    place: Place,
    cache: Cache,
    runtime: Handle,
    numbers: Arc<RwLock<BTreeSet<u64>>>,
}

impl ObjectReader {
    pub(super) fn new(place: Place, cache: Cache, runtime: Handle) -> Self {
        Self {
            place,
            cache,
            runtime,
            numbers: Arc::default(),
        }
    }

    pub(super) fn add(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut known = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(numbers);
    }

    /// See [`super::super::LogReader::read`].
    pub(in crate::log) fn read(&self, place: LogPlace, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.runtime.block_on(self.fetch(place, out.len()))?;
        out.copy_from_slice(&bytes);
        Ok(())
    }

    /// See [`super::super::LogReader::read_stored`].
    pub(in crate::log) fn read_stored(&self, place: LogPlace, out: &mut [u8]) -> io::Result<()> {
        let key = key(place.object);
        let read = self.place.store.read(&key, range(place, out.len()));
        let bytes = self.runtime.block_on(read).map_err(io_error)?;
        out.copy_from_slice(&bytes);
        Ok(())
    }

    /// The bytes at a place.
    pub(in crate::log) async fn fetch(&self, place: LogPlace, bytes: usize) -> io::Result<Bytes> {
        let key = key(place.object);
        let read = self
            .cache
            .read(&self.place.store, &key, range(place, bytes));
        read.await.map_err(io_error)
    }

    pub(in crate::log) fn has(&self, number: u64) -> bool {
        self.numbers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&number)
    }

    pub(in crate::log) fn newest(&self) -> Option<u64> {
        let numbers = self.numbers.read().unwrap_or_else(PoisonError::into_inner);
        numbers.last().copied()
    }

    /// Those before a number; also those that a fence has voided.
    pub(in crate::log) fn before(&self, number: u64) -> Vec<u64> {
        let numbers = self.numbers.read().unwrap_or_else(PoisonError::into_inner);
        numbers.range(..number).copied().collect()
    }

    /// See [`super::super::LogReader::remove`].
    pub(in crate::log) async fn remove(&self, numbers: Vec<u64>) -> (Vec<u64>, Option<LogError>) {
        let deletions = numbers.into_iter().map(|number| async move {
            let deleted = self.place.store.delete(&key(number)).await;
            (number, deleted)
        });
        let mut deletions = stream::iter(deletions).buffer_unordered(DELETIONS_AT_ONCE_MAX);
        let (mut removed, mut failed) = (Vec::new(), None);
        while let Some((number, deleted)) = deletions.next().await {
            match deleted {
                Ok(()) => removed.push(number),
                Err(error) => {
                    // Where the store is away, the rest would only wait for it too.
                    let is_end = error.may_pass();
                    failed = Some(LogError::Object(error.into()));
                    if is_end {
                        break;
                    }
                }
            }
        }
        drop(deletions);
        let mut known = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        for number in &removed {
            known.remove(number);
        }
        (removed, failed)
    }
}

fn range(place: LogPlace, bytes: usize) -> Range<u64> {
    place.position..place.position + bytes as u64
}

fn io_error(error: StoreError) -> io::Error {
    match error.is_not_found() {
        true => io::Error::new(io::ErrorKind::NotFound, error),
        false => io::Error::other(error),
    }
}
