//! From a URL and the environment to the crate's store for it. Which kinds there are, and what each can do,
//! is decided here only.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, RetryConfig};

use super::error::Kind;
use super::folder::Folders;
use super::retry::Retry;
use super::transport::{Connector, client_options};
use super::url::{Place, StoreUrl};

/// What a store needs to know beside its URL.
#[derive(Clone, Default)]
pub struct StoreOptions {
    /// `AWS_*`, `GOOGLE_*` and `AZURE_*`: credentials, region, endpoint.
    pub environment: BTreeMap<String, String>,
    pub retry: Retry,
}

impl StoreOptions {
    /// As the process was started.
    pub fn from_env() -> Self {
        let known = |name: &str| {
            ["AWS_", "GOOGLE_", "AZURE_"]
                .iter()
                .any(|kind| name.starts_with(kind))
        };
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self {
            environment: variables.filter(|(name, _)| known(name)).collect(),
            retry: Retry::default(),
        }
    }
}

impl fmt::Debug for StoreOptions {
    /// Names only: the values are secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("StoreOptions")
            .field("environment", &self.environment.keys())
            .field("retry", &self.retry)
            .finish()
    }
}

/// A store of the crate underneath, and what it can do.
#[derive(Clone)]
pub(super) struct Backend {
    pub(super) kind: Kind,
    pub(super) objects: Arc<dyn ObjectStore>,
    /// For long objects; without it they are written as all others.
    pub(super) multipart: Option<Arc<dyn MultipartStore>>,
    /// Of a folder on this machine, with the store of its files.
    pub(super) folders: Option<(Arc<Folders>, LocalFileSystem)>,
    /// Whether it lists in the order of keys.
    pub(super) ordered: bool,
    pub(super) writable: bool,
}

impl fmt::Debug for Backend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.objects)
    }
}

impl Backend {
    fn of<S: ObjectStore + MultipartStore>(kind: Kind, store: S) -> Self {
        let store = Arc::new(store);
        Self {
            multipart: Some(store.clone()),
            ..Self::plain(kind, store)
        }
    }

    pub(super) fn plain(kind: Kind, objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            kind,
            objects,
            multipart: None,
            folders: None,
            ordered: true,
            writable: true,
        }
    }

    /// Opens a store; the error is a reason for people.
    pub(super) fn open(url: &StoreUrl, options: &StoreOptions) -> Result<Self, String> {
        let text = |error: object_store::Error| error.to_string();
        match &url.place {
            Place::Memory => Ok(Self::of(Kind::Local, InMemory::new())),
            Place::Folder(path) => {
                let folders = Folders::open(path).map_err(|error| error.to_string())?;
                let files = LocalFileSystem::new_with_prefix(folders.root());
                let files = files.map_err(text)?.with_fsync(true);
                Ok(Self {
                    folders: Some((folders, files.clone())),
                    ordered: false,
                    ..Self::plain(Kind::Local, Arc::new(files))
                })
            }
            Place::S3 { bucket } => {
                // The options go first: the environment adds to them.
                let mut builder = AmazonS3Builder::new()
                    .with_client_options(client_options())
                    // A plain DELETE is free, and every server knows it.
                    .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
                for (key, value) in variables(options, "AWS_") {
                    builder = builder.with_config(key, value);
                }
                let store = builder
                    .with_bucket_name(bucket)
                    .with_http_connector(Connector)
                    .with_retry(once())
                    .build();
                Ok(Self::of(Kind::S3, store.map_err(text)?))
            }
            #[cfg(feature = "gcp")]
            Place::Gcs { bucket } => {
                let mut builder = object_store::gcp::GoogleCloudStorageBuilder::new()
                    .with_client_options(client_options());
                for (key, value) in variables(options, "GOOGLE_") {
                    builder = builder.with_config(key, value);
                }
                let store = builder
                    .with_bucket_name(bucket)
                    .with_http_connector(Connector)
                    .with_retry(once())
                    .build();
                Ok(Self::of(Kind::Remote, store.map_err(text)?))
            }
            #[cfg(feature = "azure")]
            Place::Azure { url } => {
                let mut builder = object_store::azure::MicrosoftAzureBuilder::new()
                    .with_client_options(client_options());
                for (key, value) in variables(options, "AZURE_") {
                    builder = builder.with_config(key, value);
                }
                let store = builder
                    .with_url(url)
                    .with_http_connector(Connector)
                    .with_retry(once())
                    .build();
                Ok(Self::of(Kind::Remote, store.map_err(text)?))
            }
            #[cfg(feature = "http")]
            Place::Http { url } => {
                let store = object_store::http::HttpBuilder::new()
                    .with_client_options(client_options().with_allow_http(true))
                    .with_url(url)
                    .with_http_connector(Connector)
                    .with_retry(once())
                    .build();
                Ok(Self {
                    writable: false,
                    ordered: false,
                    ..Self::plain(Kind::Remote, Arc::new(store.map_err(text)?))
                })
            }
            #[cfg(feature = "hdfs")]
            Place::Hdfs { url } => {
                let store = hdfs_native_object_store::HdfsObjectStoreBuilder::new()
                    .with_url(url)
                    .build();
                Ok(Self {
                    ordered: false,
                    ..Self::plain(Kind::Remote, Arc::new(store.map_err(text)?))
                })
            }
            // Parsing has refused what is not built.
            #[allow(unreachable_patterns, reason = "reachable without one of the features")]
            _ => Err("this build has no such store".into()),
        }
    }
}

/// The crate tries nothing again: attempts are counted and bounded here, for all kinds alike.
fn once() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// The variables of one kind that the crate knows.
fn variables<'a, K: std::str::FromStr>(
    options: &'a StoreOptions,
    prefix: &'static str,
) -> impl Iterator<Item = (K, &'a str)> {
    options.environment.iter().filter_map(move |(name, value)| {
        let name = name
            .starts_with(prefix)
            .then(|| name.to_ascii_lowercase())?;
        Some((name.parse().ok()?, value.as_str()))
    })
}
