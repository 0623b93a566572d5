//! What all parts of the node look at: the ledger, the indexes, the newest batches. Only the
//! sequencer (and the replay before it) changes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tidegate_cloud_protocol::fetch::{Plan, Wish, plan};
use tidegate_cloud_protocol::index::{Address, IndexEntry, PartitionIndex};
use tidegate_cloud_protocol::ledger::{
    ApplyError, Command, Edge, Effect, Effects, Landed, Ledger, Target,
};
use tidegate_cloud_protocol::offset_map::OffsetMap;
use tidegate_shared::id::EdgeId;
use tidegate_shared::record::{BatchHeader, HEADER_BYTES, rewrite_in_place};
use tokio::sync::watch;

use crate::log::{Appended, LogReader};
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::recent::Recent;

/// The ledger and what is derived from it.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) offset_map: OffsetMap,
    indexes: BTreeMap<Target, PartitionIndex>,
}

static EMPTY: PartitionIndex = PartitionIndex::EMPTY;

impl State {
    /// Applies a command whose frame lies at `appended`.
    pub(crate) fn apply(
        &mut self,
        command: Command,
        appended: &Appended,
    ) -> Result<Effects, ApplyError> {
        let effects = self.ledger.apply(command)?;
        let life = self.ledger.cluster_incarnation().unwrap_or_default();
        let landed_ms = self.ledger.now_ms();
        for effect in &effects {
            // Only a fact that was imported: the ledger gives each offset once, and what lands outweighs.
            if let Err(clash) = self.offset_map.apply(effect, life) {
                tracing::error!(%clash, "the offset map contradicts what has landed");
            }
            if let Effect::TopicDeleted { topic_id } = effect {
                self.indexes
                    .retain(|target, _| target.topic_id != *topic_id);
            }
            if let Effect::Landed(landed) = effect {
                let target = target_of(landed);
                let index = self.indexes.entry(target).or_default();
                index.push(index_entry(landed, appended, landed_ms));
            }
        }
        Ok(effects)
    }

    pub(crate) fn index(&self, target: Target) -> &PartitionIndex {
        self.indexes.get(&target).unwrap_or(&EMPTY)
    }

    pub(crate) fn plan(&self, wishes: &[Wish], bytes_max: usize) -> Plan {
        plan(wishes, bytes_max, |target| {
            Some((self.ledger.partition(target)?, self.index(target)))
        })
    }
}

fn target_of(landed: &Landed) -> Target {
    Target {
        topic_id: landed.fact.topic_id,
        partition: landed.fact.partition,
    }
}

fn index_entry(landed: &Landed, appended: &Appended, landed_ms: i64) -> IndexEntry {
    IndexEntry {
        base_offset: landed.fact.kafka_offset,
        count: landed.fact.count,
        batch_bytes: landed.part.batch_bytes,
        max_timestamp_ms: landed.part.max_timestamp_ms,
        landed_ms,
        address: address_of(landed, appended),
    }
}

fn address_of(landed: &Landed, appended: &Appended) -> Address {
    let offset = u64::from(landed.part.attachment_offset);
    Address {
        file: appended.file,
        position: appended.attachments_position + offset,
    }
}

/// A batch cannot be read back as it was written.
#[derive(Debug, Error)]
pub(crate) enum StorageError {
    #[error("cannot read a batch of {bytes} bytes at {address:?}: {source}")]
    Io {
        address: Address,
        bytes: u32,
        source: std::io::Error,
    },
    #[error("the batch at {0:?} is damaged: its CRC does not match its bytes")]
    Damaged(Address),
    #[error("the reading task has ended")]
    Gone,
}

/// Shared by the sequencer, the listeners and the hub.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    /// Counts ticks that landed something; waiting fetches plan again when it changes.
    landed: watch::Sender<u64>,
    recent: Mutex<Recent>,
    reader: LogReader,
    pub(crate) presence: Presence,
    pub(crate) metrics: Metrics,
}

impl Shared {
    pub(crate) fn new(state: State, reader: LogReader) -> Self {
        let shared = Self {
            state: RwLock::new(state),
            landed: watch::Sender::new(0),
            recent: Mutex::default(),
            reader,
            presence: Presence::default(),
            metrics: Metrics::default(),
        };
        shared.measure();
        shared
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the gauges that tell of what an operator has to decide.
    pub(crate) fn measure(&self) {
        let state = self.state();
        let behind = state.ledger.behind().is_some();
        self.metrics.cloud_behind.set(i64::from(behind));
        let held = |(_, edge): &(&EdgeId, &Edge)| edge.fights.is_quarantined;
        let held = state.ledger.edges().filter(held).count();
        self.metrics.quarantined_edges.set(held as i64);
    }

    pub(crate) fn watch_landed(&self) -> watch::Receiver<u64> {
        self.landed.subscribe()
    }

    /// Applies a durable command, with the batches that lie in its frame, in their order.
    pub(crate) fn apply(
        &self,
        command: Command,
        appended: &Appended,
        batches: &[(u32, Bytes)],
    ) -> Result<Effects, ApplyError> {
        let speakers = command.speakers();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let effects = state.apply(command, appended)?;
        // Before readers can see the entries: so that none of them looks for these on the disk.
        let landed = self.remember(&effects, appended, batches);
        drop(state);
        for edge in speakers {
            self.presence.sessions_changed(&edge);
        }
        if landed {
            self.landed.send_modify(|count| *count += 1);
        }
        Ok(effects)
    }

    fn remember(&self, effects: &Effects, appended: &Appended, batches: &[(u32, Bytes)]) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for effect in effects {
            let Effect::Landed(landed) = effect else {
                continue;
            };
            any = true;
            let offset = landed.part.attachment_offset;
            if let Ok(found) = batches.binary_search_by_key(&offset, |(offset, _)| *offset) {
                let address = address_of(landed, appended);
                recent.insert(address, batches[found].1.clone());
            }
        }
        any
    }

    /// Reads batches into one run of bytes, with base offset and leader epoch rewritten; everything
    /// else is as the edge sealed it.
    pub(crate) async fn read(
        self: &Arc<Self>,
        entries: Vec<IndexEntry>,
        leader_epoch: i32,
    ) -> Result<Bytes, StorageError> {
        let cached: Vec<_> = {
            let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let found = entries.iter().map(|entry| recent.get(entry.address));
            found.collect()
        };
        if cached.iter().all(Option::is_some) {
            return self.assemble(&entries, &cached, leader_epoch);
        }
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || shared.assemble(&entries, &cached, leader_epoch))
            .await
            .unwrap_or(Err(StorageError::Gone))
    }

    fn assemble(
        &self,
        entries: &[IndexEntry],
        cached: &[Option<Bytes>],
        leader_epoch: i32,
    ) -> Result<Bytes, StorageError> {
        let total = entries.iter().map(|entry| entry.batch_bytes as usize).sum();
        let mut out = BytesMut::with_capacity(total);
        for (entry, cached) in entries.iter().zip(cached) {
            let start = out.len();
            match cached {
                Some(batch) => out.extend_from_slice(batch),
                None => {
                    out.resize(start + entry.batch_bytes as usize, 0);
                    self.read_checked(entry, &mut out[start..])?;
                }
            }
            rewrite_in_place(&mut out[start..], entry.base_offset.0, leader_epoch);
        }
        Ok(out.freeze())
    }

    fn read_checked(&self, entry: &IndexEntry, out: &mut [u8]) -> Result<(), StorageError> {
        let address = entry.address;
        let read = self.reader.read(address, out);
        read.map_err(|source| StorageError::Io {
            address,
            bytes: entry.batch_bytes,
            source,
        })?;
        let damaged = StorageError::Damaged(address);
        let Ok(header) = BatchHeader::parse(out) else {
            return Err(damaged);
        };
        let whole = header.batch_bytes == out.len() && out.len() >= HEADER_BYTES;
        match whole && crc32c::crc32c(&out[CRC_COVERS_FROM..]) == header.crc {
            true => Ok(()),
            false => Err(damaged),
        }
    }
}

/// A batch's CRC covers everything from its attributes on.
const CRC_COVERS_FROM: usize = 21;
