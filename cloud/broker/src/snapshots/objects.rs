//! Snapshots in an object store. One is an object that is written whole; of two brokers that write the same one, either
//! is right.

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{KEPT, Snapshot, SnapshotError, decode, encode, name_of, next_frame_of, tell_damaged};
use crate::reading::LOOK_UPS_MAX;
use crate::store::limits::LIST_PAGE_MAX;
use crate::store::{Store, StoreError};

/// All of a cloud's snapshots are below this.
const FOLDER: &str = "snapshots";

/// Where those are put that the store gives back damaged.
const ASIDE: &str = "damaged-snapshots";

/// See the module.
#[derive(Clone, Debug)]
pub struct ObjectSnapshots {
    store: Store,
    /// Of whoever blocks on what is done here.
    pub(super) runtime: Handle,
}

impl ObjectSnapshots {
    /// To be called within a runtime.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            runtime: Handle::current(),
        }
    }

    /// Whether a snapshot ends behind a frame.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn any_behind(&self, frame: u64) -> Result<bool, SnapshotError> {
        let newest = self.list().await?.first().copied();
        Ok(newest.is_some_and(|newest| newest > frame))
    }

    /// As [`super::Snapshots::load`], without blocking.
    ///
    /// # Errors
    /// As that.
    pub async fn load(&self) -> Result<Option<Snapshot>, SnapshotError> {
        for _ in 0..LOOK_UPS_MAX {
            match self.load_listed().await {
                // There are newer ones by now.
                Err(SnapshotError::Store(error)) if error.is_not_found() => {}
                loaded => return loaded,
            }
        }
        self.load_listed().await
    }

    async fn load_listed(&self) -> Result<Option<Snapshot>, SnapshotError> {
        for next_frame in self.list().await? {
            let key = key(FOLDER, next_frame);
            if let Some(snapshot) = decode(&key, self.store.read_whole(&key).await?)? {
                return Ok(Some(snapshot));
            }
            // It may have been damaged on its way only.
            let again = self.store.read_whole(&key).await?;
            match decode(&key, again.clone())? {
                Some(snapshot) => return Ok(Some(snapshot)),
                None => self.set_aside(next_frame, again).await?,
            }
        }
        Ok(None)
    }

    async fn set_aside(&self, next_frame: u64, bytes: Bytes) -> Result<(), StoreError> {
        tell_damaged(&key(FOLDER, next_frame));
        self.store.put(&key(ASIDE, next_frame), vec![bytes]).await?;
        self.store.delete(&key(FOLDER, next_frame)).await
    }

    /// As [`super::Snapshots::save`], without blocking.
    ///
    /// # Errors
    /// As that.
    pub async fn save(&self, snapshot: &Snapshot) -> Result<Option<u64>, SnapshotError> {
        let next_frame = snapshot.end.next_frame;
        let bytes = encode(snapshot).freeze();
        self.store
            .put(&key(FOLDER, next_frame), vec![bytes])
            .await?;
        let found = self.list().await?;
        for older in found.iter().skip(KEPT) {
            self.store.delete(&key(FOLDER, *older)).await?;
        }
        Ok(found.get(KEPT - 1).copied())
    }

    /// The frames at which the snapshots end, newest first. There are few: who writes one deletes the older.
    async fn list(&self) -> Result<Vec<u64>, StoreError> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let listed = self.store.list(FOLDER, after.as_deref(), LIST_PAGE_MAX);
            let page = listed.await?;
            let names = page.objects.iter().filter_map(|one| {
                let name = one.key.strip_prefix(FOLDER)?.strip_prefix('/')?;
                next_frame_of(name)
            });
            found.extend(names);
            after = page.objects.into_iter().next_back().map(|one| one.key);
            if !page.more || after.is_none() {
                found.reverse();
                return Ok(found);
            }
        }
    }
}

fn key(folder: &str, next_frame: u64) -> String {
    format!("{folder}/{}", name_of(next_frame))
}
