//! Where the log's objects are in an object store, and the few things that are done with them there.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::ObjectLogError;
use super::frame::{Content, FrameError, HEADER_BYTES, Header};
use crate::limits::{LOG_OBJECT_HEAD_BYTES, LOG_RETRY_WAIT_MAX, LOG_RETRY_WAIT_MIN};
use crate::store::limits::LIST_PAGE_MAX;
use crate::store::{Created, ObjectInfo, Store, StoreError};

/// All of a log's objects are below this.
const FOLDER: &str = "log";

/// See the module. A clone is the same place.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) store: Store,
}

/// What an object says, without its attachments.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) crc: u32,
    pub(super) content: Content,
}

pub(super) fn key(number: u64) -> String {
    format!("{FOLDER}/{number:020}")
}

fn number_of(key: &str) -> Option<u64> {
    let digits = key.strip_prefix(FOLDER)?.strip_prefix('/')?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

impl Place {
    /// The numbers of all objects from `from` on, and the objects' lengths.
    pub(super) async fn list(&self, from: u64) -> Result<BTreeMap<u64, u64>, StoreError> {
        let mut numbers = BTreeMap::new();
        let mut after = from.checked_sub(1).map(key);
        loop {
            let listed = self.store.list(FOLDER, after.as_deref(), LIST_PAGE_MAX);
            let page = listed.await?;
            let numbered = |one: &ObjectInfo| Some((number_of(&one.key)?, one.bytes));
            numbers.extend(page.objects.iter().filter_map(numbered));
            after = page.objects.into_iter().next_back().map(|one| one.key);
            if !page.more || after.is_none() {
                return Ok(numbers);
            }
        }
    }

    /// Whether there is a log at all.
    pub(super) async fn is_empty(&self) -> Result<bool, StoreError> {
        let page = self.store.list(FOLDER, None, 1).await?;
        Ok(page.objects.is_empty())
    }

    /// What an object says; `None` where there is none.
    pub(super) async fn head(&self, number: u64) -> Result<Option<Head>, ObjectLogError> {
        let key = key(number);
        let (start, object_bytes) = match self.store.read_start(&key, LOG_OBJECT_HEAD_BYTES).await {
            Ok(read) => read,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let wrong = |error| self.wrong(number, error);
        let (header, crc) = Header::decode(&start).map_err(wrong)?;
        if header.object_bytes() != object_bytes {
            return Err(wrong(FrameError::Damaged(
                "it has another length than it says",
            )));
        }
        let command_end = HEADER_BYTES as u64 + u64::from(header.command_bytes);
        let start = match command_end > start.len() as u64 {
            true => self.store.read(&key, 0..command_end).await?,
            false => start,
        };
        let content = header.content(crc, &start).map_err(wrong)?;
        Ok(Some(Head {
            header,
            crc,
            content,
        }))
    }

    /// Makes an object, unless there is one of its number; says whether it is there and this one. Where the store is
    /// away it waits for that to pass: nobody is answered meanwhile. An error of a disk does not pass.
    pub(super) async fn create(&self, number: u64, bytes: Bytes) -> Result<bool, ObjectLogError> {
        let mut wait = LOG_RETRY_WAIT_MIN;
        loop {
            match self.create_once(number, &bytes).await {
                Err(error) if error.may_pass() && !self.store.is_local() => {
                    tracing::error!(
                        %error,
                        object = key(number),
                        "the log waits for its object store: nothing lands meanwhile"
                    );
                    tokio::time::sleep(wait).await;
                    wait = Duration::min(wait * 2, LOG_RETRY_WAIT_MAX);
                }
                done => return Ok(done?),
            }
        }
    }

    async fn create_once(&self, number: u64, bytes: &Bytes) -> Result<bool, StoreError> {
        let key = key(number);
        match self.store.create(&key, bytes.clone()).await? {
            Created::New => Ok(true),
            // An earlier attempt of this one may have come to something after all.
            Created::Exists => match self.store.read_whole(&key).await {
                Ok(found) => Ok(found == *bytes),
                // Whoever goes on with the log has no need of it any more.
                Err(error) if error.is_not_found() => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    pub(super) fn wrong(&self, number: u64, error: FrameError) -> ObjectLogError {
        let (store, key) = (self.store.url().as_str().to_owned(), key(number));
        match error {
            FrameError::Damaged(reason) => ObjectLogError::Damaged { store, key, reason },
            FrameError::UnknownFormat(found) => ObjectLogError::UnknownFormat { store, key, found },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_back_to_its_number() {
        assert_eq!(key(17), "log/00000000000000000017");
        assert_eq!(number_of(&key(u64::MAX)), Some(u64::MAX));
        for other in [
            "log/17",
            "log",
            "logs/00000000000000000017",
            "log/0000000000000000001x",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
