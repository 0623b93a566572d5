//! The object stores in which the cloud's segments lie, opened, by their numbers in the ledger: the cluster's own, and
//! those that topics say. One that cannot be opened, or lacks what the cloud knows, is told and left alone until it
//! is well: who reads from it gets an error, and nothing is written to it or deleted in it meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use futures_util::future::join_all;
use thiserror::Error;
use tidegate_cloud_protocol::index::SegmentId;
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Ledger, Target};
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

    /// A store that was found to work has a number now. One that had it before stays as it is.
    pub(crate) fn add(&self, number: u32, store: Store) {
        let mut known = self.known_mut();
        known.entry(number).or_insert_with(|| Known {
            url: store.url().as_str().to_owned(),
            opened: Ok(store),
            away: None,
        });
    }

    /// Why the store at a URL cannot be used now, where it is known.
    pub(crate) fn trouble_at(&self, url: &str) -> Option<String> {
        let known = self.known();
        let mut found = known.values().filter(|known| known.url == url);
        found.find_map(|known| known.reason().map(str::to_owned))
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

    /// Looks after those that are not well, now and then; `unwell` are those in the ledger, as they are now.
    pub(crate) async fn mend(&self, unwell: impl Fn() -> Unwell) {
        {
            let mut mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
            if mended.is_some_and(|mended| mended.elapsed() < STORES_MEND_EVERY) {
                return;
            }
            *mended = Some(Instant::now());
        }
        self.open_all(unwell()).await;
        if !self.ready().contains(&CLUSTER_STORE) {
            let away = answer(self.cluster.list("segments", None, 1)).await.err();
            let url = self.cluster.url().as_str().to_owned();
            self.set(CLUSTER_STORE, url, (Ok(self.cluster.clone()), away));
        }
    }

    /// Opens those that are not open, and asks those that are.
    pub(crate) async fn open_all(&self, unwell: Unwell) {
        let all = unwell.0.into_iter().map(|entry| async move {
            let found = self.open_checked(&entry).await;
            self.set(entry.number, entry.url, found);
        });
        join_all(all).await;
    }

    /// The store, and why it is to be left alone; or why it is not open.
    async fn open_checked(&self, entry: &Entry) -> (Result<Store, String>, Option<String>) {
        let opened = match self.get(entry.number) {
            Ok(store) => Ok(store),
            Err(_) => self.open_again(&entry.url),
        };
        let store = match opened {
            Ok(store) => store,
            Err(reason) => return (Err(reason), None),
        };
        match look(&store, &entry.samples).await {
            Look::Well => (Ok(store), None),
            Look::Away(reason) => (Ok(store), Some(reason)),
            Look::Wrong(reason) => (Err(reason), None),
        }
    }

    /// What was opened when a topic got it. A folder that is missing now is not made: its disk may not be mounted.
    fn open_again(&self, url: &str) -> Result<Store, String> {
        let parsed = url.parse();
        let url: StoreUrl = parsed.map_err(|error: UrlError| error.to_string())?;
        if url.as_folder().is_some_and(|folder| !folder.is_dir()) {
            let reason = "there is no such folder: is its disk mounted? One that is to be empty is to be made by hand";
            return Err(reason.to_owned());
        }
        let opened = self.open(&url, &self.options);
        opened.map_err(|error| error.to_string())
    }

    fn set(
        &self,
        number: u32,
        url: String,
        (opened, away): (Result<Store, String>, Option<String>),
    ) {
        let now = Known { url, opened, away };
        let mut known = self.known_mut();
        let before = known.get(&number).and_then(Known::reason);
        let url = &now.url;
        match now.reason() {
            Some(reason) if before != Some(reason) => tracing::error!(
                number,
                url,
                reason,
                "an object store cannot be used: nothing of its topics is packed, and what they have there may not be readable"
            ),
            None if before.is_some() => {
                tracing::info!(number, url, "an object store is well again")
            }
            _ => {}
        }
        known.insert(number, now);
    }

    fn known(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look {
    Well,
    Away(String),
    Wrong(String),
}

/// With another store than the one that has the segments, nothing could be read of them, and what comes would go
/// elsewhere.
async fn look(store: &Store, samples: &[String]) -> Look {
    for key in samples {
        match timeout(STORE_ANSWER_MAX, store.size(key)).await {
            Ok(Ok(_)) => return Look::Well,
            Ok(Err(error)) if error.is_not_found() => {}
            Ok(Err(error)) => return Look::Away(error.to_string()),
            Err(_) => return Look::Away(no_answer()),
        }
    }
    match samples.first() {
        None => match answer(store.list("segments", None, 1)).await {
            Ok(()) => Look::Well,
            Err(reason) => Look::Away(reason),
        },
        Some(key) => Look::Wrong(format!(
            "it has no {key}, which the cloud knows: is it the one that was used before, and is its disk mounted?"
        )),
    }
}

async fn answer<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<(), String> {
    match timeout(STORE_ANSWER_MAX, asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> String {
    format!(
        "there was no answer within {} s",
        STORE_ANSWER_MAX.as_secs()
    )
}

/// The stores of a ledger, beside the cluster's, that cannot be used now.
#[derive(Debug)]
pub(crate) struct Unwell(Vec<Entry>);

impl Unwell {
    /// With the keys of some segments of each, of as many partitions.
    pub(crate) fn of(
        ledger: &Ledger,
        ready: &BTreeSet<u32>,
        key: impl Fn(SegmentId) -> String,
    ) -> Self {
        let unwell = ledger
            .stores()
            .filter(|(number, _)| !ready.contains(number));
        let entries = unwell.map(|(number, url)| {
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
/// Whether none of the stores is away in which a partition's segments are, or go to.
pub(crate) fn are_ready(ready: &BTreeSet<u32>, ledger: &Ledger, target: Target) -> bool {
    let topic = ledger.topic(target.topic_id);
    let own = topic.map(|topic| topic.settings.store);
    let segments = ledger.log(target).segments();
    let mut stores = segments.map(|segment| segment.id.store).chain(own);
    stores.all(|store| ready.contains(&store))
}
