//! Gives batches back, wherever they lie: from memory, from the log as they landed, or from the segments
//! into which they were packed. A batch that is not as it was written is an error, never an answer.

mod place;
mod run;
mod suspects;

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tidegate_cloud_protocol::fetch::Source;
use tidegate_cloud_protocol::index::{Address, IndexEntry, LogPlace};
use tidegate_cloud_protocol::ledger::{Found, Segment, TailBatch, Target};
use tidegate_cloud_protocol::segment::SegmentEntry;
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::record::{BatchHeader, HEADER_BYTES};

pub(crate) use self::place::Place;
use self::run::{Batch, Lies, Lying};
pub(crate) use self::run::{Chunk, Run};
pub(crate) use self::suspects::Suspects;
use crate::log::OpenedPlace;
use crate::state::Shared;
use crate::store::StoreError;
use crate::stores::NotOpen;

/// A batch cannot be read back as it was written.
#[derive(Debug, Error)]
pub(crate) enum StorageError {
    #[error("cannot read a batch of {bytes} bytes at {place}: {source}")]
    Io {
        place: Place,
        bytes: u32,
        source: std::io::Error,
    },
    #[error("the batch at {0} is damaged: its CRC does not match its bytes")]
    Damaged(Place),
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
    Batches(Run),
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
    /// What a fetch planned, ready to be read; of it, up to `ahead` bytes (which count down) may be in memory, beside what an
    /// object store has given. The first batch is looked at now where `ahead` has room for it.
    pub(crate) async fn open(
        self: &Arc<Self>,
        source: Source,
        leader_epoch: i32,
        ahead: &mut usize,
    ) -> Result<Read, StorageError> {
        let (segment, offset, room, always_one) = match source {
            Source::Tail(entries) => {
                let run = self.open_all(entries, leader_epoch, ahead).await;
                return run.map(Read::Batches);
            }
            Source::Segment {
                segment,
                offset,
                room,
                always_one,
            } => (segment, offset, room, always_one),
        };
        let index = self.segments.index(&segment).await?;
        if index.from_offset(offset).is_empty() {
            return Ok(Read::Hole { to: segment.end });
        }
        let run = index.run_from(offset, room as u64, always_one);
        if let Some(file) = self.segments.file(segment.id, run.bytes).await? {
            let batches = run.entries.iter().map(|entry| Batch {
                base_offset: entry.base_offset,
                bytes: entry.batch_bytes as usize,
                lies: Lies::InFile(Lying {
                    file: Arc::clone(&file),
                    place: Place::Segment {
                        segment: segment.id,
                        position: entry.position,
                    },
                    crc: Some(entry.crc),
                }),
            });
            let run = Run::new(batches.collect(), leader_epoch);
            return self.look_at_first(run, ahead).await.map(Read::Batches);
        }
        let batches = self.segments.batches(segment.id, run).await?;
        let batches = run.entries.iter().zip(batches).map(|(entry, bytes)| Batch {
            base_offset: entry.base_offset,
            bytes: bytes.len(),
            lies: Lies::InMemory(bytes),
        });
        Ok(Read::Batches(Run::new(batches.collect(), leader_epoch)))
    }

    /// Whether what is read of `source` is in memory until it is sent.
    pub(crate) fn is_read_into_memory(&self, source: &Source) -> bool {
        match source {
            Source::Tail(_) => !self.log.has_files(),
            Source::Segment { segment, .. } => !self.segments.has_files(segment.id),
        }
    }

    /// One batch, as it is sent.
    pub(crate) async fn read(
        self: &Arc<Self>,
        entry: IndexEntry,
        leader_epoch: i32,
    ) -> Result<Bytes, StorageError> {
        let mut ahead = entry.batch_bytes as usize;
        let run = self.open_all(vec![entry], leader_epoch, &mut ahead).await?;
        run.read_all().await
    }

    async fn open_all(
        self: &Arc<Self>,
        entries: Vec<IndexEntry>,
        leader_epoch: i32,
        ahead: &mut usize,
    ) -> Result<Run, StorageError> {
        let recent = self.in_memory(&entries, ahead);
        let mut batches = VecDeque::with_capacity(entries.len());
        for (entry, recent) in entries.into_iter().zip(recent) {
            let lies = match (recent, entry.address) {
                (Some(bytes), _) => Lies::InMemory(bytes),
                (None, Address::Log(place)) => self.open_log(place, entry.batch_bytes).await?,
                (None, Address::Segment { segment, position }) => {
                    let end = position + u64::from(entry.batch_bytes);
                    let bytes = self.segments.read(segment, position..end).await?;
                    let damaged = || StorageError::DamagedSegment {
                        key: self.segments.key(segment),
                        reason: format!("the batch at byte {position} does not match its CRC"),
                    };
                    is_whole(&bytes).then_some(()).ok_or_else(damaged)?;
                    Lies::InMemory(bytes)
                }
            };
            batches.push_back(Batch {
                base_offset: entry.base_offset,
                bytes: entry.batch_bytes as usize,
                lies,
            });
        }
        self.look_at_first(Run::new(batches, leader_epoch), ahead)
            .await
    }

    async fn look_at_first(&self, mut run: Run, ahead: &mut usize) -> Result<Run, StorageError> {
        let looked = run
            .look_at_first(ahead, |place| self.suspects.has(place))
            .await;
        self.suspects.note(looked.as_ref().err());
        looked.map(|()| run)
    }

    /// What is in memory anyway, and stays there for us: up to `ahead` bytes, which count down, where the log has files.
    fn in_memory(&self, entries: &[IndexEntry], ahead: &mut usize) -> Vec<Option<Bytes>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().map(|entry| {
            let left = match self.log.has_files() {
                true => ahead.checked_sub(entry.batch_bytes as usize)?,
                // The store would be asked: then they are better taken from here, and count as what it gives.
                false => *ahead,
            };
            let Address::Log(place) = entry.address else {
                return None;
            };
            let bytes = recent.get(place)?;
            *ahead = left;
            Some(bytes)
        });
        found.collect()
    }

    /// A batch of the log, as it landed.
    async fn open_log(&self, place: LogPlace, bytes: u32) -> Result<Lies, StorageError> {
        let opened = self.log.open(place, bytes as usize).await;
        match opened.map_err(io_error(place, bytes as usize))? {
            OpenedPlace::File(file) => Ok(Lies::InFile(Lying {
                file,
                place: place.into(),
                crc: None,
            })),
            OpenedPlace::Bytes(batch) => {
                check_whole(place, &batch)?;
                Ok(Lies::InMemory(batch))
            }
        }
    }

    /// Fills `out` with a batch of the log, as it landed. Blocks.
    pub(crate) fn read_log(&self, place: LogPlace, out: &mut [u8]) -> Result<(), StorageError> {
        let read = self.log.read(place, out);
        read.map_err(io_error(place, out.len()))?;
        check_whole(place, out)
    }

    /// As [`Shared::read_log`], but what is stored, whatever a cache has of it.
    pub(crate) fn read_stored_log(
        &self,
        place: LogPlace,
        out: &mut [u8],
    ) -> Result<(), StorageError> {
        let read = self.log.read_stored(place, out);
        read.map_err(io_error(place, out.len()))?;
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

fn io_error(place: impl Into<Place>, bytes: usize) -> impl FnOnce(std::io::Error) -> StorageError {
    let place = place.into();
    move |source| StorageError::Io {
        place,
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        source,
    }
}

fn check_whole(place: LogPlace, bytes: &[u8]) -> Result<(), StorageError> {
    match is_whole(bytes) {
        true => Ok(()),
        false => Err(StorageError::Damaged(place.into())),
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

#[cfg(test)]
pub(crate) use self::run::testing;
