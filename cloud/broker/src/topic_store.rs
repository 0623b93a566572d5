//! `storage.url` of a topic: from a URL to the number of an object store that was seen to work. A store is asked
//! before a topic gets it: what it cannot do is told to whoever sets it, not found out when something is packed.

use bytes::Bytes;
use thiserror::Error;
use tidegate_cloud_protocol::ledger::command::{AddStore, Entry, STORE_URL_BYTES_MAX};
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Effect, STORES_MAX};
use uuid::Uuid;

use crate::broker::Broker;
use crate::limits::STORE_PROBE_MAX;
use crate::store::{Retry, Store, StoreError, StoreOptions, StoreUrl, UrlError};
use crate::submission::SubmitError;

/// Why a topic does not get an object store; nothing has changed.
#[derive(Debug, Error)]
pub(crate) enum TopicStoreError {
    #[error("storage.url: {0}")]
    Url(#[from] UrlError),
    #[error("storage.url has {0} bytes; it can have {STORE_URL_BYTES_MAX}: take a shorter prefix")]
    Long(usize),
    #[error(
        "storage.url is memory://, and what a topic has there would be gone with this process: name a folder or a bucket"
    )]
    InMemory,
    #[error(
        "storage.url: an object can't be written to {url}, read and deleted again: {source}. Nothing was changed: see that the store is there, and that the cloud's environment has its credentials (one set for all stores)"
    )]
    Unusable { url: String, source: StoreError },
    #[error(
        "storage.url: {url}, which the cloud knows, cannot be used now: {reason}. Nothing was changed"
    )]
    InTrouble { url: String, reason: String },
    #[error(
        "storage.url: {url} gives back something else than was written there: it cannot be used"
    )]
    Untrue { url: String },
    #[error("there are {STORES_MAX} object stores, as many as there can be: use one of them")]
    TooMany,
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// The number of the store at a URL; the cluster's own where there is none. Asks the store first.
pub(crate) async fn number_of(broker: &Broker, url: Option<&str>) -> Result<u32, TopicStoreError> {
    let Some(url) = ask(broker, url).await? else {
        return Ok(CLUSTER_STORE);
    };
    let stores = broker.shared().segments.stores();
    let opened = stores.open(&url, stores.options());
    let url = url.as_str().to_owned();
    let store = opened.map_err(|source| TopicStoreError::Unusable {
        url: url.clone(),
        source,
    })?;
    let add = Entry::AddStore(AddStore { url });
    match broker.submit(vec![(add, None)]).await?[..] {
        [Effect::StoreAdded { number }] => {
            stores.add(number, store);
            Ok(number)
        }
        _ => Err(TopicStoreError::TooMany),
    }
}

/// Asks the store at a URL, and changes nothing. The URL as the ledger has it; `None`: the cluster's own store.
pub(crate) async fn ask(
    broker: &Broker,
    url: Option<&str>,
) -> Result<Option<StoreUrl>, TopicStoreError> {
    let Some(url) = url else {
        return Ok(None);
    };
    let url: StoreUrl = url.parse()?;
    if url.is_memory() {
        return Err(TopicStoreError::InMemory);
    }
    // The same for whoever reads the ledger, wherever that runs.
    let text = url.absolute();
    let stores = broker.shared().segments.stores();
    if text == stores.cluster().url().absolute() {
        return Ok(None);
    }
    if text.len() > STORE_URL_BYTES_MAX {
        return Err(TopicStoreError::Long(text.len()));
    }
    let url: StoreUrl = text.parse()?;
    // What works now may be another disk than the one that has the segments.
    if let Some(reason) = stores.trouble_at(url.as_str()) {
        let url = url.as_str().to_owned();
        return Err(TopicStoreError::InTrouble { url, reason });
    }
    let unusable = |source| TopicStoreError::Unusable {
        url: url.as_str().to_owned(),
        source,
    };
    let impatient = StoreOptions {
        retry: Retry {
            total_max: STORE_PROBE_MAX,
            request_max: STORE_PROBE_MAX,
            ..Retry::default()
        },
        ..stores.options().clone()
    };
    let asked = stores.open(&url, &impatient).map_err(unusable)?;
    if !probe(&asked).await.map_err(unusable)? {
        let url = url.as_str().to_owned();
        return Err(TopicStoreError::Untrue { url });
    }
    Ok(Some(url))
}

/// Whether what is written is what is read.
async fn probe(store: &Store) -> Result<bool, StoreError> {
    let id = Uuid::new_v4().to_string();
    let key = format!("probes/{id}");
    let bytes = Bytes::from(id);
    store.put(&key, vec![bytes.clone()]).await?;
    let read = store.read_whole(&key).await?;
    store.delete(&key).await?;
    Ok(read == bytes)
}
