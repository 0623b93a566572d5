//! Single requests to a store: each is counted, and bounded in time unless it is a disk's. Whether one is made
//! again is decided by whoever made it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectStoreExt, PutMode, PutPayload};

use super::error::{Action, Failure, Kind, StoreError, read_failure};
use super::limits::LIST_ANSWER_NAMES;
use super::open::Backend;
use super::retry::{GaveUp, Retry};
use super::url::StoreUrl;
use super::usage::{Meter, Operation, Outcome};
use super::{ObjectInfo, Page};

/// An opened store.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) url: StoreUrl,
    pub(super) name: Arc<str>,
    /// The name, and more where two stores can have one name.
    pub(super) identity: Arc<str>,
    pub(super) backend: Backend,
    pub(super) retry: Retry,
    pub(super) meter: Arc<Meter>,
}

/// A piece of an object, as far as the object goes.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) object_bytes: u64,
}

impl Inner {
    pub(super) async fn request<T>(
        &self,
        operation: Operation,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        let limit = self.retry.request_time(bytes);
        let ended = match self.backend.kind {
            // A write to a disk goes on whether or not somebody waits for it.
            Kind::Local => Ok(request.await),
            Kind::Remote | Kind::S3 => tokio::time::timeout(limit, request).await,
        };
        let result = match ended {
            Ok(result) => result.map_err(|error| read_failure(self.backend.kind, error)),
            Err(_) => {
                self.meter.count(operation, Outcome::TimedOut, 1);
                return Err(Failure::passing(format!("no answer within {limit:?}")));
            }
        };
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(failure) => failure.outcome(),
        };
        self.meter.count(operation, outcome, 1);
        result
    }

    pub(super) async fn put_once(
        &self,
        path: &ObjectPath,
        payload: PutPayload,
        mode: PutMode,
    ) -> Result<(), Failure> {
        let bytes = payload.content_length() as u64;
        self.meter.wrote(bytes);
        let put = self.backend.objects.put_opts(path, payload, mode.into());
        self.request(Operation::Put, bytes, put).await.map(drop)
    }

    pub(super) async fn get_once(
        &self,
        path: &ObjectPath,
        range: Option<Range<u64>>,
    ) -> Result<Piece, Failure> {
        let wanted = range.as_ref().map_or(0, |range| range.end - range.start);
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let get = async {
            let answer = self.backend.objects.get_opts(path, options).await?;
            let object_bytes = answer.meta.size;
            let promised = answer.range.end - answer.range.start;
            let bytes = answer.bytes().await?;
            if bytes.len() as u64 != promised {
                let text = format!("{} of {promised} bytes came", bytes.len());
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                return Err(object_store::Error::Generic {
                    store: "the store",
                    source: Box::new(cut),
                });
            }
            Ok::<_, object_store::Error>(Piece {
                bytes,
                object_bytes,
            })
        };
        let piece = self.request(Operation::Get, wanted, get).await?;
        self.meter.read(piece.bytes.len() as u64);
        Ok(piece)
    }

    pub(super) async fn head_once(&self, path: &ObjectPath) -> Result<u64, Failure> {
        let head = self.backend.objects.head(path);
        self.request(Operation::Head, 0, head)
            .await
            .map(|meta| meta.size)
    }

    pub(super) async fn list_once(
        &self,
        folder: &ObjectPath,
        after: Option<&ObjectPath>,
        max: usize,
    ) -> Result<Page, Failure> {
        let objects = &self.backend.objects;
        let mut seen: u64 = 0;
        let list = async {
            let mut stream = match after {
                Some(after) => objects.list_with_offset(Some(folder), after),
                None => objects.list(Some(folder)),
            };
            // One more than is wanted tells that there are more.
            let mut first = BTreeMap::new();
            while let Some(meta) = stream.try_next().await? {
                seen += 1;
                // Not every server knows where a listing is to begin: it begins at the first again.
                let is_before = after.is_some_and(|after| meta.location <= *after);
                if is_before || !(self.backend.is_object)(&meta.location) {
                    continue;
                }
                first.insert(meta.location.to_string(), meta);
                if first.len() > max {
                    if self.backend.ordered {
                        break;
                    }
                    if first.len() > max + 1 {
                        first.pop_last();
                    }
                }
            }
            Ok::<_, object_store::Error>(first)
        };
        let mut first = self.request(Operation::List, 0, list).await?;
        // Each answer but the first was a request of its own.
        let further = seen.saturating_sub(1) / LIST_ANSWER_NAMES;
        self.meter.count(Operation::List, Outcome::Done, further);
        let more = first.len() > max;
        if more {
            first.pop_last();
        }
        let objects = first.into_values().filter_map(|meta| {
            Some(ObjectInfo {
                key: self.relative(&meta.location)?,
                bytes: meta.size,
                modified: meta.last_modified.into(),
            })
        });
        Ok(Page {
            objects: objects.collect(),
            more,
        })
    }
}

/// Keys and errors.
impl Inner {
    pub(super) fn absolute(&self, key: &ObjectPath) -> ObjectPath {
        self.url.prefix.parts().chain(key.parts()).collect()
    }

    pub(super) fn relative(&self, path: &ObjectPath) -> Option<String> {
        let rest = path.prefix_match(&self.url.prefix)?;
        Some(rest.collect::<ObjectPath>().to_string())
    }

    pub(super) fn refused(&self, action: Action, key: &str, reason: String) -> StoreError {
        StoreError::Refused {
            store: Arc::clone(&self.name),
            action,
            key: key.to_owned(),
            reason,
        }
    }

    pub(super) fn out_of_range(&self, key: &str, range: Range<u64>, size: u64) -> StoreError {
        StoreError::OutOfRange {
            store: Arc::clone(&self.name),
            key: key.to_owned(),
            range,
            size,
        }
    }

    pub(super) fn error(&self, action: Action, key: &str, gave_up: GaveUp) -> StoreError {
        let reason = match gave_up.failure {
            Failure::NotFound if !matches!(action, Action::Put | Action::Create | Action::List) => {
                return StoreError::NotFound {
                    store: Arc::clone(&self.name),
                    key: key.to_owned(),
                };
            }
            Failure::Passing { reason, .. } => {
                return StoreError::Unavailable {
                    store: Arc::clone(&self.name),
                    action,
                    key: key.to_owned(),
                    attempts: gave_up.attempts,
                    elapsed: gave_up.elapsed,
                    reason,
                };
            }
            Failure::NotFound => "there is no such place: is the bucket there?".to_owned(),
            Failure::Exists => "an object is in the way".to_owned(),
            Failure::Refused(reason) | Failure::Conflict(reason) => reason,
        };
        self.refused(action, key, reason)
    }
}
