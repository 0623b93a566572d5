//! What all parts of the node look at: the ledger, the offset map, the newest batches. Only the
//! sequencer (and the replay before it) changes them.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use anyhow::Context as _;
use bytes::Bytes;
use thiserror::Error;
use tidegate_cloud_protocol::acls::Policy;
use tidegate_cloud_protocol::fetch::{Plan, Wish, plan};
use tidegate_cloud_protocol::index::LogPlace;
use tidegate_cloud_protocol::ledger::{
    ApplyError, Command, DecodeError, Edge, Effect, Effects, Ledger,
};
use tidegate_cloud_protocol::offset_map::{OffsetMap, RestoreError};
use tidegate_shared::id::EdgeId;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::holds::Holds;
use crate::log::{Appended, LogEnd, LogReader};
use crate::metrics::Metrics;
use crate::opening::Replayed;
use crate::presence::Presence;
use crate::reading::Suspects;
use crate::recent::Recent;
use crate::segments::Segments;
use crate::snapshots::Snapshot;

/// Why a snapshot is not a state of this node.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    #[error("the ledger: {0}")]
    Ledger(#[from] DecodeError),
    #[error("the offset map: {0}")]
    OffsetMap(#[from] RestoreError),
}

/// The ledger and what is derived from it.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) offset_map: OffsetMap,
}

impl State {
    /// What a snapshot holds.
    ///
    /// # Errors
    /// It was written by a newer build, or is none.
    pub(crate) fn restore(snapshot: Snapshot) -> Result<Self, StateError> {
        Ok(Self {
            ledger: Ledger::restore(snapshot.ledger)?,
            offset_map: OffsetMap::restore(snapshot.offset_map)?,
        })
    }

    /// What the commands before `end` have made.
    pub(crate) fn snapshot(&self, end: LogEnd) -> Snapshot {
        Snapshot {
            end,
            ledger_ms: self.ledger.now_ms(),
            ledger: self.ledger.snapshot(),
            offset_map: self.offset_map.snapshot(),
        }
    }

    /// Applies a command whose frame lies at `appended`.
    pub(crate) fn apply(
        &mut self,
        command: Command,
        appended: &Appended,
    ) -> Result<Effects, ApplyError> {
        let effects = self.ledger.apply(command, place_of(appended))?;
        let life = self.ledger.cluster_incarnation().unwrap_or_default();
        for effect in &effects {
            // Only by facts that were imported: the ledger gives each offset once, and what lands outweighs.
            if let Err(error) = self.offset_map.apply(effect, life) {
                tracing::error!(%error, "the offset map contradicts what it is told");
            }
        }
        Ok(effects)
    }

    pub(crate) fn plan(&self, wishes: &[Wish], bytes_max: usize) -> Plan {
        plan(wishes, bytes_max, |target| {
            Some((self.ledger.partition(target)?, self.ledger.log(target)))
        })
    }
}

impl Replayed for State {
    fn begin(snapshot: Option<Snapshot>) -> anyhow::Result<Self> {
        match snapshot {
            None => Ok(Self::default()),
            Some(snapshot) => Self::restore(snapshot).context("cannot read the newest snapshot"),
        }
    }

    fn replay(&mut self, appended: &Appended, command: Bytes) -> anyhow::Result<()> {
        self.apply(Command::decode(command)?, appended)?;
        Ok(())
    }
}

/// Where a frame's batches lie.
pub(crate) fn place_of(appended: &Appended) -> LogPlace {
    LogPlace {
        object: appended.object,
        position: appended.attachments_position,
    }
}

/// Since when the oldest frame waits that is on its way to the log.
#[derive(Debug, Default)]
pub(crate) struct LogWaits(Mutex<Option<Instant>>);

impl LogWaits {
    pub(crate) fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// How long; nothing where none waits.
    pub(crate) fn time(&self) -> Duration {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Shared by the sequencer, the listeners and the hub.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    /// Counts ticks that landed something; waiting fetches plan again when it changes.
    landed: watch::Sender<u64>,
    pub(crate) recent: Mutex<Recent>,
    pub(crate) log: LogReader,
    pub(crate) suspects: Suspects,
    pub(crate) segments: Segments,
    pub(crate) presence: Presence,
    pub(crate) holds: Holds,
    pub(crate) log_waits: LogWaits,
    pub(crate) metrics: Metrics,
    pub(crate) policy: Policy,
}

impl Shared {
    pub(crate) fn new(
        state: State,
        log: LogReader,
        segments: Segments,
        (metrics, policy): (Metrics, Policy),
    ) -> Self {
        let shared = Self {
            state: RwLock::new(state),
            landed: watch::Sender::new(0),
            recent: Mutex::default(),
            log,
            suspects: Suspects::default(),
            segments,
            presence: Presence::default(),
            holds: Holds::default(),
            log_waits: LogWaits::default(),
            metrics,
            policy,
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
            let part = match effect {
                Effect::Landed(landed) => landed.part,
                Effect::Produced(produced) => produced.part,
                _ => continue,
            };
            any = true;
            let offset = part.attachment_offset;
            if let Ok(found) = batches.binary_search_by_key(&offset, |(offset, _)| *offset) {
                let begin = place_of(appended);
                let position = begin.position + u64::from(offset);
                recent.insert(LogPlace { position, ..begin }, batches[found].1.clone());
            }
        }
        any
    }
}
