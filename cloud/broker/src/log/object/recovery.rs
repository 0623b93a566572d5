//! Opening the log: its objects are read in their order from a snapshot's end on, and then the log is taken over.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;

use super::chain::{Chain, ChainError, VOID_NUMBERS};
use super::frame::{Content, FENCE_BYTES, FrameError};
use super::place::{Head, Place, key};
use super::{ObjectLog, ObjectLogError, ObjectLogPlace, ObjectReader};
use crate::limits::{LOG_HEADS_AT_ONCE_MAX, LOG_TAKE_OVERS_MAX};
use crate::log::{Appended, LogEnd, LogError};

/// See [`ObjectLog::open`].
pub(super) async fn open<E: From<LogError>>(
    place: ObjectLogPlace,
    (new_store_id, writer): (u128, u128),
    after: Option<LogEnd>,
    mut replay: impl FnMut(Appended, Bytes) -> Result<(), E>,
) -> Result<ObjectLog, E> {
    let ObjectLogPlace {
        store,
        cache,
        linger,
    } = place;
    let place = Place { store };
    let reader = ObjectReader::new(place.clone(), cache.of_life(writer), Handle::current());
    let mut chain = Chain::after(after);
    let (mut from, mut missed) = (0, None);
    for _ in 0..LOG_TAKE_OVERS_MAX {
        let listed = place.list(from).await.map_err(of_log)?;
        walk(&place, &mut chain, &listed, &mut replay).await?;
        let at = chain.next();
        let checked = check_end(&place, &chain, &listed).await;
        let frames = listed.iter().filter(|(_, bytes)| **bytes != FENCE_BYTES);
        reader.add(frames.map(|(number, _)| *number));
        match checked {
            // Where somebody still writes, a listing can have what came later and not what came before.
            Err(ObjectLogError::Missing { .. }) if missed != Some(at.number) => {
                (from, missed) = (at.number, Some(at.number));
                continue;
            }
            checked => checked.map_err(of_log)?,
        }
        let store_id = chain.store_id().unwrap_or(new_store_id);
        let (fence, next) = chain.fence((store_id, writer));
        if place.create(at.number, fence).await.map_err(of_log)? {
            return Ok(ObjectLog {
                place,
                reader,
                linger,
                store_id,
                writer,
                next,
                in_flight: VecDeque::new(),
                failed: false,
            });
        }
        // Something came at last that was on its way, or somebody else has been faster.
        from = at.number;
    }
    let store = place.store.url().as_str().to_owned();
    Err(of_log(ObjectLogError::Contested { store }).into())
}

fn of_log(error: impl Into<ObjectLogError>) -> LogError {
    LogError::Object(error.into())
}

/// Hands out what is in the log, as far as it goes on.
async fn walk<E: From<LogError>>(
    place: &Place,
    chain: &mut Chain,
    listed: &BTreeMap<u64, u64>,
    replay: &mut impl FnMut(Appended, Bytes) -> Result<(), E>,
) -> Result<(), E> {
    let numbers: Vec<u64> = listed
        .range(chain.next().number..)
        .map(|(number, _)| *number)
        .collect();
    let heads = numbers.into_iter().map(|number| async move {
        let head = place.head(number).await;
        (number, head)
    });
    let mut heads = stream::iter(heads).buffered(LOG_HEADS_AT_ONCE_MAX);
    while let Some((number, head)) = heads.next().await {
        let next = chain.next().number;
        if number < next {
            // A fence has voided it.
            continue;
        }
        if number > next {
            break;
        }
        let Some(head) = head.map_err(of_log)? else {
            break;
        };
        follow(place, chain, &head).map_err(of_log)?;
        if let Content::Command(command) = head.content {
            let appended = Appended {
                object: number,
                attachments_position: head.header.attachments_position(),
                frame_bytes: head.header.object_bytes(),
            };
            replay(appended, command)?;
        }
    }
    Ok(())
}

fn follow(place: &Place, chain: &mut Chain, head: &Head) -> Result<(), ObjectLogError> {
    let number = chain.next().number;
    let expected = chain.store_id().unwrap_or_default();
    let followed = chain.follow(&head.header, head.crc, &head.content);
    followed.map_err(|error| match error {
        ChainError::ForeignStore(found) => ObjectLogError::ForeignStore {
            store: place.store.url().as_str().to_owned(),
            key: key(number),
            found,
            expected,
        },
        ChainError::NotNext => {
            let reason = "it does not follow the one before it";
            place.wrong(number, FrameError::Damaged(reason))
        }
    })
}

/// Whether what lies behind the end can have been on its way when its writer ended.
async fn check_end(
    place: &Place,
    chain: &Chain,
    listed: &BTreeMap<u64, u64>,
) -> Result<(), ObjectLogError> {
    let end = chain.next().number;
    let missing = || ObjectLogError::Missing {
        store: place.store.url().as_str().to_owned(),
        key: key(end),
    };
    for (number, _) in listed.range(end + 1..) {
        if *number >= end + VOID_NUMBERS {
            return Err(missing());
        }
        if let Some(head) = place.head(*number).await?
            && chain.is_missed_by(&head.header)
        {
            return Err(missing());
        }
    }
    Ok(())
}
