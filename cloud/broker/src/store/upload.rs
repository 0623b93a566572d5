//! A long object goes up in parts, each tried again by itself. What does not come to its end is aborted, also
//! when nobody waits for it any more: parts without an end are paid for and seen by nobody.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::multipart::MultipartStore;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartId, PutPayload};

use super::error::Failure;
use super::limits::{PART_BYTES, PARTS_AT_ONCE_MAX, PARTS_MAX};
use super::requests::Inner;
use super::total;
use super::usage::Operation;

/// Writes a long object once; the answer to its last request may be lost with the object there, so whoever
/// tries again writes it anew.
pub(super) async fn put_long(
    inner: &Arc<Inner>,
    store: &Arc<dyn MultipartStore>,
    path: &ObjectPath,
    pieces: &[Bytes],
) -> Result<(), Failure> {
    let parts = split(pieces, PART_BYTES as usize);
    if parts.len() as u64 > PARTS_MAX {
        let bytes = total(pieces);
        let reason = format!("it has {bytes} bytes: more than {PARTS_MAX} parts of {PART_BYTES}");
        return Err(Failure::Refused(reason));
    }
    let id = inner
        .request(Operation::Multipart, 0, store.create_multipart(path))
        .await?;
    let mut upload = Upload {
        inner: Arc::clone(inner),
        store: Arc::clone(store),
        path: path.clone(),
        id,
        open: true,
    };
    let written = upload.write(parts).await;
    if written.is_ok() {
        upload.open = false;
    } else {
        upload.abort().await;
    }
    written
}

/// An upload under way.
struct Upload {
    inner: Arc<Inner>,
    store: Arc<dyn MultipartStore>,
    path: ObjectPath,
    id: MultipartId,
    open: bool,
}

impl Upload {
    async fn write(&self, parts: Vec<Vec<Bytes>>) -> Result<(), Failure> {
        let retry = &self.inner.retry;
        let put = |(index, part): (usize, Vec<Bytes>)| async move {
            let bytes = total(&part);
            let part = PutPayload::from_iter(part);
            let put = retry.persist(|_| {
                self.inner.meter.wrote(bytes);
                let put = self
                    .store
                    .put_part(&self.path, &self.id, index, part.clone());
                self.inner.request(Operation::Part, bytes, put)
            });
            put.await.map_err(|gave_up| gave_up.failure)
        };
        let ids = stream::iter(parts.into_iter().enumerate())
            .map(put)
            .buffered(PARTS_AT_ONCE_MAX)
            .try_collect()
            .await?;
        let complete = self.store.complete_multipart(&self.path, &self.id, ids);
        let completed = self.inner.request(Operation::Multipart, 0, complete).await;
        match completed {
            Ok(_) => Ok(()),
            // No such upload: the server has forgotten it. Another may succeed.
            Err(Failure::NotFound) => {
                let reason = "the server does not know the upload any more";
                Err(Failure::passing(reason.into()))
            }
            // Said in the body of an answer that began as a success.
            Err(Failure::Refused(reason)) if is_not_now(&reason) => Err(Failure::passing(reason)),
            Err(failure) => Err(failure),
        }
    }

    /// As well as can be: what is left of it a rule of the bucket must remove.
    async fn abort(&mut self) {
        self.open = false;
        let abort = self.store.abort_multipart(&self.path, &self.id);
        if let Err(failure) = self.inner.request(Operation::Abort, 0, abort).await
            && !matches!(failure, Failure::NotFound)
        {
            let (store, path) = (&self.inner.name, &self.path);
            tracing::warn!(%store, %path, ?failure, "an upload could not be aborted: parts of it are left");
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let mut left = Self {
            inner: Arc::clone(&self.inner),
            store: Arc::clone(&self.store),
            path: self.path.clone(),
            id: self.id.clone(),
            open: false,
        };
        runtime.spawn(async move { left.abort().await });
    }
}

/// S3 begins to answer a completion before it has done it.
fn is_not_now(reason: &str) -> bool {
    reason.contains("InternalError") || reason.contains("SlowDown")
}

/// Cuts pieces into parts of one length, the last as long as what is left. Copies nothing.
fn split(pieces: &[Bytes], part_bytes: usize) -> Vec<Vec<Bytes>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut room = part_bytes;
    for piece in pieces {
        let mut piece = piece.clone();
        while piece.len() >= room {
            part.push(piece.split_to(room));
            parts.push(std::mem::take(&mut part));
            room = part_bytes;
        }
        if !piece.is_empty() {
            room -= piece.len();
            part.push(piece);
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_the_pieces(lengths in prop::collection::vec(0_usize..40, 0..12), part in 1_usize..30) {
            let mut next = 0_u8;
            let pieces: Vec<Bytes> = lengths
                .iter()
                .map(|length| (0..*length).map(|_| { next = next.wrapping_add(1); next }).collect())
                .collect();
            let parts = split(&pieces, part);
            let joined: Vec<u8> = parts.iter().flatten().flatten().copied().collect();
            prop_assert_eq!(joined, pieces.iter().flatten().copied().collect::<Vec<_>>());
            for (index, found) in parts.iter().enumerate() {
                let bytes = total(found) as usize;
                prop_assert!(bytes == part || index + 1 == parts.len() && (1..part).contains(&bytes));
            }
        }
    }
}
