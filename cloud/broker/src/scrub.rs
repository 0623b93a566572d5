//! Reads all that a topic has where it lies, past every cache, and tells what is not as it was written: the
//! segments in their store, each byte of them, and the tail in the log. It changes nothing.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Segment, TailBatch, Target};
use tidegate_cloud_protocol::segment::{HEADER_BYTES, SegmentHeader, SegmentIndex};
use tidegate_shared::id::TopicId;
use tokio::sync::mpsc;

use crate::state::Shared;
use crate::store::StoreError;

/// What was found out about one object, or about the tail of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) partition: i32,
    /// The segment's key; `None`: the tail, in the log.
    pub(crate) object: Option<String>,
    /// The number of the object store in which that is.
    pub(crate) store: u32,
    /// `[from, to)`.
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) bytes: u64,
    /// `None` where all is well.
    pub(crate) wrong: Option<String>,
}

/// Scrubs a topic, and sends one finding after the other. Ends early where nobody listens.
pub(crate) async fn topic(shared: Arc<Shared>, topic_id: TopicId, findings: mpsc::Sender<Finding>) {
    let targets: Vec<Target> = {
        let state = shared.state();
        let logs = state.ledger.logs().map(|(target, _)| target);
        logs.filter(|target| target.topic_id == topic_id).collect()
    };
    for target in targets {
        let (parts, tail) = {
            let state = shared.state();
            let log = state.ledger.log(target);
            let segments: Vec<Segment> = log.segments().copied().collect();
            let tail: Vec<TailBatch> = log.tail().iter().copied().collect();
            (segments, tail)
        };
        for part in parts {
            let wrong = segment(&shared, target, &part).await;
            // It was replaced or given up since: what took its place is not of this scrub.
            if wrong.is_some()
                && !shared
                    .state()
                    .ledger
                    .log(target)
                    .segments()
                    .any(|one| one.id == part.id)
            {
                continue;
            }
            let finding = Finding {
                partition: target.partition.0,
                object: Some(shared.segments.key(part.id)),
                store: part.id.store,
                from: part.base.0,
                to: part.end.0,
                bytes: part.bytes,
                wrong,
            };
            if findings.send(finding).await.is_err() {
                return;
            }
        }
        if let Some(finding) = in_log(&shared, target, tail).await
            && findings.send(finding).await.is_err()
        {
            return;
        }
    }
}

/// What is wrong with a segment as its store has it.
async fn segment(shared: &Shared, target: Target, segment: &Segment) -> Option<String> {
    let key = shared.segments.key(segment.id);
    let store = match shared.segments.stores().get(segment.id.store) {
        Ok(store) => store,
        Err(error) => return Some(error.to_string()),
    };
    match store.read_whole(&key).await {
        Ok(bytes) => check_whole(&bytes, target, segment).err(),
        Err(error) => Some(missing_or(&error)),
    }
}

/// The index of a segment whose bytes these all are; else what is wrong with them.
pub(crate) fn check_whole(
    bytes: &Bytes,
    target: Target,
    segment: &Segment,
) -> Result<SegmentIndex, String> {
    if bytes.len() as u64 != segment.bytes {
        return Err(format!(
            "it has {} bytes and should have {}",
            bytes.len(),
            segment.bytes
        ));
    }
    let header = bytes.get(..HEADER_BYTES).map(SegmentHeader::decode);
    match header {
        Some(Ok(header)) if header.target == target && header.base == segment.base => {}
        Some(Err(error)) => return Err(format!("header: {error}")),
        _ => return Err("its header names another partition or offset".to_owned()),
    }
    let index = SegmentIndex::decode(bytes, segment.bytes);
    let index = index.map_err(|error| format!("index: {error}"))?;
    if (index.base(), index.end()) != (segment.base, segment.end) {
        return Err("its index covers other offsets than it should".to_owned());
    }
    let run = index.run_within(index.base(), index.end());
    let of_run = bytes.slice(run.position as usize..(run.position + run.bytes) as usize);
    let damaged = run.batches(&of_run).find_map(|(_, batch)| batch.err());
    match damaged.map(|damaged| damaged.to_string()) {
        Some(damaged) => Err(damaged),
        None => Ok(index),
    }
}

fn missing_or(error: &StoreError) -> String {
    match error.is_not_found() {
        true => "it is missing".to_owned(),
        false => format!("it cannot be read: {error}"),
    }
}

fn is_in_tail(shared: &Shared, target: Target, batch: &TailBatch) -> bool {
    let state = shared.state();
    let mut found = state.ledger.log(target).tail_from(batch.base_offset);
    found.next().is_some_and(|found| found.place == batch.place)
}

/// The tail of a partition; `None` where there is none.
async fn in_log(shared: &Arc<Shared>, target: Target, tail: Vec<TailBatch>) -> Option<Finding> {
    let (from, to) = (tail.first()?.base_offset.0, tail.last()?.end().0);
    let bytes = tail.iter().map(|batch| u64::from(batch.batch_bytes)).sum();
    let reading = Arc::clone(shared);
    let read = tokio::task::spawn_blocking(move || {
        tail.iter().find_map(|batch| {
            let mut bytes = BytesMut::zeroed(batch.batch_bytes as usize);
            let error = reading.read_stored_log(batch.place, &mut bytes).err()?;
            // What was packed since may have left the log.
            let is_gone = error.is_missing() && !is_in_tail(&reading, target, batch);
            (!is_gone).then_some((batch.base_offset, batch.end(), error))
        })
    });
    let wrong = match read.await {
        Ok(None) => None,
        Ok(Some((from, to, error))) => Some(format!("offsets {from}..{to}: {error}")),
        Err(error) => Some(error.to_string()),
    };
    Some(Finding {
        partition: target.partition.0,
        object: None,
        store: CLUSTER_STORE,
        from,
        to,
        bytes,
        wrong,
    })
}
