//! Gives batches back, wherever they lie: from memory, from the log as they landed, or from the segments
//! into which they were packed. A batch that is not as it was written is an error, never an answer.

use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tidegate_cloud_protocol::fetch::Source;
use tidegate_cloud_protocol::index::{Address, IndexEntry, LogPlace};
use tidegate_cloud_protocol::ledger::{Found, Segment, TailBatch, Target};
use tidegate_cloud_protocol::segment::SegmentEntry;
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::record::{BatchHeader, HEADER_BYTES, rewrite_in_place};

use crate::state::Shared;
use crate::store::StoreError;
use crate::stores::NotOpen;

/// A batch cannot be read back as it was written.
#[derive(Debug, Error)]
pub(crate) enum StorageError {
    #[error("cannot read a batch of {bytes} bytes at {place:?}: {source}")]
    Io {
        place: LogPlace,
        bytes: u32,
        source: std::io::Error,
    },
    #[error("the batch at {0:?} is damaged: its CRC does not match its bytes")]
    Damaged(LogPlace),
    #[error("segment {key} is damaged: {reason}")]
    DamagedSegment { key: String, reason: String },
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    NotOpen(#[from] NotOpen),
    #[error("the reading task has ended")]
    Gone,
}

impl StorageError {
    /// What was to be read is no longer there: it was packed, or its segment replaced, since it was looked
    /// up. It is to be looked up again.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Store(error) => error.is_not_found(),
            Self::Damaged(_) | Self::DamagedSegment { .. } | Self::NotOpen(_) | Self::Gone => false,
        }
    }
}

/// What a fetch finds.
#[derive(Debug)]
pub(crate) enum Read {
    /// As many as there was room for.
    Batches(Bytes),
    /// All from the offset that was asked for up to `to` was compacted away.
    Hole { to: KafkaOffset },
}

/// How often something is looked up that is no longer where it was.
pub(crate) const LOOK_UPS_MAX: usize = 4;

/// Looks something up and reads it, and does both again where it was moved in between.
pub(crate) async fn again_if_missing<T, F>(look_up: impl Fn() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    for _ in 1..LOOK_UPS_MAX {
        match look_up().await {
            Err(error) if error.is_missing() => {}
            found => return found,
        }
    }
    look_up().await
}

impl Shared {
    /// What a fetch planned, as one run of bytes; see [`Shared::read`].
    pub(crate) async fn read_source(
        self: &Arc<Self>,
        source: Source,
        leader_epoch: i32,
    ) -> Result<Read, StorageError> {
        match source {
            Source::Tail(entries) => {
                let read = self.read(entries, leader_epoch).await;
                read.map(Read::Batches)
            }
            Source::Segment {
                segment,
                offset,
                room,
                always_one,
            } => {
                let index = self.segments.index(&segment).await?;
                if index.from_offset(offset).is_empty() {
                    return Ok(Read::Hole { to: segment.end });
                }
                let run = index.run_from(offset, room as u64, always_one);
                let batches = self.segments.batches(segment.id, run).await?;
                Ok(Read::Batches(assemble(run.entries, &batches, leader_epoch)))
            }
        }
    }

    /// Reads batches into one run of bytes, with base offset and leader epoch rewritten; everything
    /// else is as the edge sealed it.
    pub(crate) async fn read(
        self: &Arc<Self>,
        entries: Vec<IndexEntry>,
        leader_epoch: i32,
    ) -> Result<Bytes, StorageError> {
        let mut found = self.in_memory(&entries);
        for (entry, found) in entries.iter().zip(&mut found) {
            if let (Address::Log(place), None) = (entry.address, &found) {
                *found = self.read_log_from_store(place, entry.batch_bytes).await?;
            }
            if let Address::Segment { segment, position } = entry.address {
                let end = position + u64::from(entry.batch_bytes);
                let bytes = self.segments.read(segment, position..end).await?;
                let damaged = || StorageError::DamagedSegment {
                    key: self.segments.key(segment),
                    reason: format!("the batch at byte {position} does not match its CRC"),
                };
                is_whole(&bytes).then_some(()).ok_or_else(damaged)?;
                *found = Some(bytes);
            }
        }
        if found.iter().all(Option::is_some) {
            return self.gather(&entries, &found, leader_epoch);
        }
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || shared.gather(&entries, &found, leader_epoch))
            .await
            .unwrap_or(Err(StorageError::Gone))
    }

    fn in_memory(&self, entries: &[IndexEntry]) -> Vec<Option<Bytes>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().map(|entry| match entry.address {
            Address::Log(place) => recent.get(place),
            Address::Segment { .. } => None,
        });
        found.collect()
    }

    /// What is not in `found` is read from the log. Blocks.
    fn gather(
        &self,
        entries: &[IndexEntry],
        found: &[Option<Bytes>],
        leader_epoch: i32,
    ) -> Result<Bytes, StorageError> {
        let total = entries.iter().map(|entry| entry.batch_bytes as usize).sum();
        let mut out = BytesMut::with_capacity(total);
        for (entry, found) in entries.iter().zip(found) {
            let start = out.len();
            match (found, entry.address) {
                (Some(batch), _) => out.extend_from_slice(batch),
                (None, Address::Log(place)) => {
                    out.resize(start + entry.batch_bytes as usize, 0);
                    self.read_log(place, &mut out[start..])?;
                }
                (None, Address::Segment { .. }) => return Err(StorageError::Gone),
            }
            rewrite_in_place(&mut out[start..], entry.base_offset.0, leader_epoch);
        }
        Ok(out.freeze())
    }

    /// A batch of the log, as it landed, where the log is in an object store.
    async fn read_log_from_store(
        &self,
        place: LogPlace,
        bytes: u32,
    ) -> Result<Option<Bytes>, StorageError> {
        let read = self.log.read_from_store(place, bytes as usize);
        let Some(read) = read.await else {
            return Ok(None);
        };
        let batch = read.map_err(log_error(place, bytes as usize))?;
        check_whole(place, &batch)?;
        Ok(Some(batch))
    }

    /// Fills `out` with a batch of the log, as it landed. Blocks.
    pub(crate) fn read_log(&self, place: LogPlace, out: &mut [u8]) -> Result<(), StorageError> {
        let read = self.log.read(place, out);
        read.map_err(log_error(place, out.len()))?;
        check_whole(place, out)
    }

    /// As [`Shared::read_log`], but what is stored, whatever a cache has of it.
    pub(crate) fn read_stored_log(
        &self,
        place: LogPlace,
        out: &mut [u8],
    ) -> Result<(), StorageError> {
        let read = self.log.read_stored(place, out);
        read.map_err(log_error(place, out.len()))?;
        check_whole(place, out)
    }

    /// The batch that holds `offset`, or the first behind it.
    pub(crate) async fn entry_at(
        &self,
        target: Target,
        offset: KafkaOffset,
    ) -> Result<Option<IndexEntry>, StorageError> {
        let found = self.entries_within(target, offset, offset.plus(1), 1);
        let found = found.await?;
        Ok(found.into_iter().next())
    }

    /// The batches that have offsets of `[from, to)`, in their order; no more than `entries_max` of them,
    /// the newest.
    pub(crate) async fn entries_within(
        &self,
        target: Target,
        from: KafkaOffset,
        to: KafkaOffset,
        entries_max: usize,
    ) -> Result<Vec<IndexEntry>, StorageError> {
        let (segments, mut newest_first) = {
            let state = self.state();
            let log = state.ledger.log(target);
            let segments = log.segments_within(from, to);
            let tail = log
                .tail_from(from)
                .take_while(|batch| batch.base_offset < to);
            let tail: Vec<IndexEntry> = tail.map(TailBatch::entry).collect();
            let newest: Vec<IndexEntry> = tail.into_iter().rev().take(entries_max).collect();
            (segments.copied().collect::<Vec<Segment>>(), newest)
        };
        for segment in segments.into_iter().rev() {
            if newest_first.len() >= entries_max {
                break;
            }
            let index = self.segments.index(&segment).await?;
            let entries = index.run_within(from, to).entries.iter().rev();
            let left = entries_max - newest_first.len();
            let entries = entries.map(|entry| entry_of(&segment, entry));
            newest_first.extend(entries.take(left));
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    /// The first batch that reaches beyond `from` and has a record at `timestamp_ms` or later.
    pub(crate) async fn entry_at_time(
        &self,
        target: Target,
        mut from: KafkaOffset,
        timestamp_ms: i64,
    ) -> Result<Option<IndexEntry>, StorageError> {
        loop {
            let found = self.state().ledger.log(target).at_time(from, timestamp_ms);
            let segment = match found {
                None => return Ok(None),
                Some(Found::Batch(batch)) => return Ok(Some(batch.entry())),
                Some(Found::Segment(segment)) => segment,
            };
            let index = self.segments.index(&segment).await?;
            let mut entries = index.from_offset(from).iter();
            match entries.find(|entry| entry.max_timestamp_ms >= timestamp_ms) {
                Some(entry) => return Ok(Some(entry_of(&segment, entry))),
                // Those that reach it are before `from`.
                None => from = segment.end,
            }
        }
    }
}

fn log_error(place: LogPlace, bytes: usize) -> impl FnOnce(std::io::Error) -> StorageError {
    move |source| StorageError::Io {
        place,
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        source,
    }
}

fn check_whole(place: LogPlace, bytes: &[u8]) -> Result<(), StorageError> {
    match is_whole(bytes) {
        true => Ok(()),
        false => Err(StorageError::Damaged(place)),
    }
}

fn entry_of(segment: &Segment, entry: &SegmentEntry) -> IndexEntry {
    IndexEntry {
        base_offset: entry.base_offset,
        count: u64::from(entry.count),
        batch_bytes: entry.batch_bytes,
        max_timestamp_ms: entry.max_timestamp_ms,
        landed_ms: entry.landed_ms,
        address: Address::Segment {
            segment: segment.id,
            position: entry.position,
        },
    }
}

fn assemble(entries: &[SegmentEntry], batches: &[Bytes], leader_epoch: i32) -> Bytes {
    let mut out = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    for (entry, batch) in entries.iter().zip(batches) {
        let start = out.len();
        out.extend_from_slice(batch);
        rewrite_in_place(&mut out[start..], entry.base_offset.0, leader_epoch);
    }
    out.freeze()
}

/// Whether these bytes are exactly one batch, as its CRC says.
fn is_whole(bytes: &[u8]) -> bool {
    let Ok(header) = BatchHeader::parse(bytes) else {
        return false;
    };
    let whole = header.batch_bytes == bytes.len() && bytes.len() >= HEADER_BYTES;
    whole && crc32c::crc32c(&bytes[CRC_COVERS_FROM..]) == header.crc
}

/// A batch's CRC covers everything from its attributes on.
const CRC_COVERS_FROM: usize = 21;
