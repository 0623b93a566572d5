//! The object stores in which the cloud's segments lie, opened, by their numbers in the ledger: the cluster's own, and
//! those that topics say. One that cannot be opened, or lacks what the cloud knows, is told and left alone until it
//! is well: who reads from it gets an error, and nothing is written to it or deleted in it meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use futures_util::future::join_all;
use thiserror::Error;
use tidegate_cloud_protocol::index::SegmentId;
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Ledger};
use tokio::time::timeout;

use crate::limits::{STORE_ANSWER_MAX, STORE_SAMPLES_MAX, STORES_MEND_EVERY};
use crate::store::{Store, StoreError, StoreMetrics, StoreOptions, StoreUrl, UrlError};

/// A store is known, and is not open.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "object store {url} cannot be used: {reason}; it is tried again every {} s",
    STORES_MEND_EVERY.as_secs()
)]
pub(crate) struct NotOpen {
    url: String,
    reason: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stores {
    cluster: Store,
    options: StoreOptions,
    metrics: StoreMetrics,
    known: RwLock<BTreeMap<u32, Known>>,
    mended: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Known {
    url: String,
    /// Or why it is not.
    opened: Result<Store, String>,
    /// Why the housekeeping leaves it alone until it answers again.
    away: Option<String>,
}

impl Known {
    fn reason(&self) -> Option<&str> {
        let why_closed = self.opened.as_ref().err();
        why_closed.or(self.away.as_ref()).map(String::as_str)
    }
}

/// A store as the ledger has it.
#[derive(Debug)]
struct Entry {
    number: u32,
    url: String,
    /// Keys of some segments that must be in it.
    samples: Vec<String>,
}

impl Stores {
    /// Others than the cluster's come with [`Self::mend`].
    pub(crate) fn new(cluster: Store, options: StoreOptions, metrics: StoreMetrics) -> Self {
        let known = Known {
            url: cluster.url().as_str().to_owned(),
            opened: Ok(cluster.clone()),
            away: None,
        };
        Self {
            cluster,
            options,
            metrics,
            known: RwLock::new(BTreeMap::from([(CLUSTER_STORE, known)])),
            mended: Mutex::default(),
        }
    }

    /// The cluster's own.
    pub(crate) fn cluster(&self) -> &Store {
        &self.cluster
    }

    pub(crate) fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// # Errors
    /// It is not open now.
    pub(crate) fn get(&self, number: u32) -> Result<Store, NotOpen> {
        let known = self.known();
        let Some(found) = known.get(&number) else {
            return Err(NotOpen {
                url: format!("number {number}"),
                reason: "it was not opened yet".to_owned(),
            });
        };
        found.opened.clone().map_err(|reason| NotOpen {
            url: found.url.clone(),
            reason,
        })
    }

    /// Opens a store, for now or for good.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open(&self, url: &StoreUrl, options: &StoreOptions) -> Result<Store, StoreError> {
        Store::open(url, options, &self.metrics)
    }

    /// A store that was found to be well has a number now.
    pub(crate) fn add(&self, number: u32, store: Store) {
        let mut known = self.known_mut();
        let is_open = known.get(&number).is_some_and(|known| known.opened.is_ok());
        if !is_open {
            let known_now = Known {
                url: store.url().as_str().to_owned(),
                opened: Ok(store),
                away: None,
            };
            known.insert(number, known_now);
        }
    }

    /// Those that are open.
    pub(crate) fn open_now(&self) -> Vec<(u32, Store)> {
        let known = self.known();
        let open = known
            .iter()
            .filter_map(|(number, known)| Some((*number, known.opened.clone().ok()?)));
        open.collect()
    }

    /// Those that the housekeeping can use now.
    pub(crate) fn ready(&self) -> BTreeSet<u32> {
        let known = self.known();
        let ready = known.iter().filter(|(_, known)| known.reason().is_none());
        ready.map(|(number, _)| *number).collect()
    }

    /// Why each store that cannot be used now cannot.
    pub(crate) fn troubles(&self) -> BTreeMap<u32, String> {
        let known = self.known();
        let reasons = known
            .iter()
            .filter_map(|(number, known)| Some((*number, known.reason()?.to_owned())));
        reasons.collect()
    }

    /// Takes note of an error: a store that does not answer is left alone by the housekeeping until it does.
    pub(crate) fn note(&self, error: &StoreError) {
        let StoreError::Unavailable { store, .. } = error else {
            return;
        };
        let mut known = self.known_mut();
        let known = known
            .values_mut()
            .find(|known| known.opened.is_ok() && *known.url == **store);
        if let Some(known) = known
            && known.away.is_none()
        {
            tracing::warn!(%error, "the housekeeping leaves this object store alone until it answers");
            known.away = Some(error.to_string());
        }
    }

    /// Looks after those that are not well, now and then: opens what is not open, asks who did not answer.
    pub(crate) async fn mend(&self, ledger: impl Fn() -> Table) {
        {
            let mut mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
            if mended.is_some_and(|mended| mended.elapsed() < STORES_MEND_EVERY) {
                return;
            }
            *mended = Some(Instant::now());
        }
        self.open_all(ledger()).await;
        self.ask_all().await;
    }

    /// Opens those of the ledger's stores that are not open.
    pub(crate) async fn open_all(&self, table: Table) {
        let closed = |entry: &Entry| self.get(entry.number).is_err();
        let entries = table.0.into_iter().filter(closed);
        join_all(entries.map(|entry| self.open_known(entry))).await;
    }

    async fn open_known(&self, entry: Entry) {
        let (opened, away) = match self.open_checked(&entry).await {
            Ok((store, away)) => (Ok(store), away),
            Err(reason) => (Err(reason), None),
        };
        let known_now = Known {
            url: entry.url,
            opened,
            away,
        };
        let (number, url) = (entry.number, known_now.url.clone());
        let mut known = self.known_mut();
        let before = known.get(&number).and_then(Known::reason);
        match known_now.reason() {
            Some(reason) if before != Some(reason) => tracing::error!(
                number,
                url,
                reason,
                "an object store of topics cannot be used: what they have there cannot be read, and nothing of them is packed"
            ),
            None if before.is_some() => tracing::info!(number, url, "an object store is back"),
            _ => {}
        }
        known.insert(number, known_now);
    }

    /// With another store than the one that has the segments, nothing could be read of them, and what comes would
    /// go elsewhere.
    async fn open_checked(&self, entry: &Entry) -> Result<(Store, Option<String>), String> {
        let url: StoreUrl = entry
            .url
            .parse()
            .map_err(|error: UrlError| error.to_string())?;
        // A folder that is missing would be made, perhaps where a disk is not mounted.
        if let Some(folder) = url.as_folder()
            && !entry.samples.is_empty()
            && !folder.is_dir()
        {
            return Err("there is no such folder: is its disk mounted?".to_owned());
        }
        let opened = self.open(&url, &self.options);
        let store = opened.map_err(|error| error.to_string())?;
        for key in &entry.samples {
            match timeout(STORE_ANSWER_MAX, store.size(key)).await {
                Ok(Ok(_)) => return Ok((store, None)),
                Ok(Err(error)) if error.is_not_found() => {}
                Ok(Err(error)) => return Ok((store, Some(error.to_string()))),
                Err(_) => return Ok((store, Some(no_answer()))),
            }
        }
        match entry.samples.first() {
            None => Ok((store, None)),
            Some(key) => Err(format!(
                "it has no {key}, which the cloud knows: is it the one that was used before, and is its disk mounted?"
            )),
        }
    }

    /// Asks those that did not answer.
    async fn ask_all(&self) {
        let away: Vec<(u32, Store)> = {
            let known = self.known();
            let away = known.iter().filter(|(_, known)| known.away.is_some());
            away.filter_map(|(number, known)| Some((*number, known.opened.clone().ok()?)))
                .collect()
        };
        let asked = away.into_iter().map(|(number, store)| async move {
            let list = store.list("segments", None, 1);
            let answer = match timeout(STORE_ANSWER_MAX, list).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(no_answer()),
            };
            if answer.is_none() {
                tracing::info!(
                    number,
                    url = store.url().as_str(),
                    "an object store answers again"
                );
            }
            if let Some(known) = self.known_mut().get_mut(&number) {
                known.away = answer;
            }
        });
        join_all(asked).await;
    }

    fn known(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_answer() -> String {
    format!(
        "there was no answer within {} s",
        STORE_ANSWER_MAX.as_secs()
    )
}

/// The stores of a ledger beside the cluster's.
#[derive(Debug)]
pub(crate) struct Table(Vec<Entry>);

impl Table {
    /// With the keys of some segments of each, newest first: as many as [`STORE_SAMPLES_MAX`], of as many partitions.
    pub(crate) fn of(ledger: &Ledger, key: impl Fn(SegmentId) -> String) -> Self {
        let entries = ledger.stores().map(|(number, url)| {
            let newest = ledger.logs().filter_map(|(_, log)| {
                let mut newest_first = log.segments().rev();
                newest_first.find(|segment| segment.id.store == number)
            });
            let samples = newest.take(STORE_SAMPLES_MAX);
            Entry {
                number,
                url: url.to_owned(),
                samples: samples.map(|segment| key(segment.id)).collect(),
            }
        });
        Self(entries.collect())
    }
}
