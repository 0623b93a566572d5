//! Reads segments: their indexes, decoded and kept in memory within a bound, and runs of their batches,
//! through the cache in front of the object store, or of their files, where the store is a folder. Every batch is checked
//! against its segment's index before anybody sees it.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidegate_cloud_protocol::index::SegmentId;
use tidegate_cloud_protocol::ledger::Segment;
use tidegate_cloud_protocol::segment::{Run, SegmentIndex};

use crate::limits::SEGMENT_INDEXES_BYTES_MAX;
use crate::reading::StorageError;
use crate::store::Cache;
use crate::stores::Stores;

/// See the module.
#[derive(Debug)]
pub(crate) struct Segments {
    stores: Stores,
    cache: Cache,
    folder: String,
    indexes: Mutex<Indexes>,
}

impl Segments {
    /// `store_id` is that of the log, which is the cloud's.
    pub(crate) fn new(stores: Stores, cache: Cache, store_id: u128) -> Self {
        Self {
            stores,
            cache,
            folder: folder(store_id),
            indexes: Mutex::default(),
        }
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.stores
    }

    /// A segment's key in its object store: below a folder of the cloud's own, so that several can share a
    /// store and none takes another's for what nobody knows. No two segments have the same one, also in
    /// different stores: two URLs may lead to one store.
    pub(crate) fn key(&self, id: SegmentId) -> String {
        key(&self.folder, id)
    }

    /// The segment of a key in a store; `None` where it is none of this cloud's.
    pub(crate) fn id_of(&self, store: u32, key: &str) -> Option<SegmentId> {
        id_of(&self.folder, store, key)
    }

    /// Where all of this cloud's segments are.
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    /// A segment's index.
    ///
    /// # Errors
    /// The store does not give it, or what it gives is not the segment's.
    pub(crate) async fn index(&self, segment: &Segment) -> Result<Arc<SegmentIndex>, StorageError> {
        if let Some(index) = self.indexes().get(segment.id) {
            return Ok(index);
        }
        let range = segment.index_position..segment.bytes;
        let tail = self.read(segment.id, range).await?;
        let damaged = |reason: String| StorageError::DamagedSegment {
            key: self.key(segment.id),
            reason,
        };
        let index = SegmentIndex::decode(&tail, segment.bytes);
        let index = index.map_err(|error| damaged(error.to_string()))?;
        if (index.base(), index.end()) != (segment.base, segment.end) {
            return Err(damaged("it holds other offsets than it should".to_owned()));
        }
        let index = Arc::new(index);
        self.indexes().insert(segment.id, &index);
        Ok(index)
    }

    /// The batches of a run, each checked.
    ///
    /// # Errors
    /// The store does not give them, or one is not as it was packed.
    pub(crate) async fn batches(
        &self,
        id: SegmentId,
        run: Run<'_>,
    ) -> Result<Vec<Bytes>, StorageError> {
        if run.entries.is_empty() {
            return Ok(Vec::new());
        }
        let range = run.position..run.position + run.bytes;
        let bytes = self.read(id, range).await?;
        let batches = run.batches(&bytes).map(|(_, batch)| batch);
        let batches = batches.collect::<Result<_, _>>();
        batches.map_err(|damaged| StorageError::DamagedSegment {
            key: self.key(id),
            reason: damaged.to_string(),
        })
    }

    /// A segment's file, of which so many bytes are to be read; `None` where its store has no files.
    pub(crate) async fn file(
        &self,
        id: SegmentId,
        bytes: u64,
    ) -> Result<Option<Arc<File>>, StorageError> {
        let store = self.stores.get(id.store)?;
        let file = store.open_file(&self.key(id), bytes).await;
        Ok(file.map_err(StorageError::Store)?.map(Arc::new))
    }

    /// Whether a segment is a file of this machine.
    pub(crate) fn has_files(&self, id: SegmentId) -> bool {
        self.stores
            .get(id.store)
            .is_ok_and(|store| store.has_files())
    }

    /// Bytes of a segment, not checked.
    pub(crate) async fn read(
        &self,
        id: SegmentId,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        let store = self.stores.get(id.store)?;
        let bytes = self.cache.read(&store, &self.key(id), range).await;
        bytes.map_err(StorageError::Store)
    }

    fn indexes(&self) -> MutexGuard<'_, Indexes> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a cloud's segments are in an object store.
pub(crate) fn folder(store_id: u128) -> String {
    format!("segments/{store_id:032x}")
}

pub(crate) fn key(folder: &str, id: SegmentId) -> String {
    format!("{folder}/{}", name(id))
}

/// A segment's name in its store.
pub(crate) fn name(id: SegmentId) -> String {
    format!("{:016x}-{:016x}", id.broker_epoch, id.number)
}

pub(crate) fn id_of(folder: &str, store: u32, key: &str) -> Option<SegmentId> {
    let name = key.strip_prefix(folder)?.strip_prefix('/')?;
    let (epoch, number) = name.split_once('-')?;
    let number_of = |digits: &str| {
        let whole = digits.len() == 16;
        whole
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten()
    };
    Some(SegmentId {
        store,
        broker_epoch: number_of(epoch)?,
        number: number_of(number)?,
    })
}

/// Decoded indexes; those that were used longest ago go first.
#[derive(Debug, Default)]
struct Indexes {
    found: HashMap<SegmentId, (Arc<SegmentIndex>, u64)>,
    bytes: usize,
    uses: u64,
}

impl Indexes {
    fn get(&mut self, id: SegmentId) -> Option<Arc<SegmentIndex>> {
        self.uses += 1;
        let (index, used) = self.found.get_mut(&id)?;
        *used = self.uses;
        Some(Arc::clone(index))
    }

    fn insert(&mut self, id: SegmentId, index: &Arc<SegmentIndex>) {
        self.uses += 1;
        self.bytes += index.bytes();
        let before = self.found.insert(id, (Arc::clone(index), self.uses));
        self.bytes -= before.map_or(0, |(index, _)| index.bytes());
        while self.bytes > SEGMENT_INDEXES_BYTES_MAX && self.found.len() > 1 {
            let oldest = self.found.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            let gone = self.found.remove(&oldest);
            self.bytes -= gone.map_or(0, |(index, _)| index.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_back_to_its_segment() {
        let id = SegmentId {
            store: 3,
            broker_epoch: 17,
            number: u64::MAX,
        };
        let folder = "segments/0a";
        assert_eq!(
            key(folder, id),
            "segments/0a/0000000000000011-ffffffffffffffff"
        );
        assert_eq!(id_of(folder, 3, &key(folder, id)), Some(id));
        for other in [
            "segments/0a/x-y",
            "segments/0a/11-12",
            "segments/0b/0000000000000011-ffffffffffffffff",
            "segments",
        ] {
            assert_eq!(id_of(folder, 0, other), None, "{other}");
        }
    }
}
