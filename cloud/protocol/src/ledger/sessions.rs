//! Who speaks for an edge: session epochs that fence, nodes that fight over one identity, and edges
//! that have seen more of this cloud than it knows of itself.

use tidegate_bridge_protocol::landing::RefusedReason;
use tidegate_shared::id::{ClusterIncarnation, EdgeId, SessionEpoch};

use super::command::{OpenSession, ReleaseEdge};
use super::{Behind, Edge, Effect, Ledger};

/// So many fights within [`FIGHT_WINDOW_MS`] put an edge into quarantine.
pub const FIGHTS_MAX: u32 = 3;

/// What an edge says it has seen may be so much newer than what is here, in lives of the cloud. More can't
/// be the truth, and would lead the numbers of lives to their end.
pub const SEEN_LIVES_MAX: u32 = 1_000;

/// The same for session epochs.
pub const SEEN_EPOCHS_MAX: u64 = 1 << 32;

/// A fight is forgotten when none has come for so long.
pub const FIGHT_WINDOW_MS: i64 = 10 * 60_000;

impl Ledger {
    pub(super) fn open_session(
        &mut self,
        open: OpenSession,
        cluster: ClusterIncarnation,
    ) -> Effect {
        let known = self.edges.get(&open.edge);
        let granted = known.map_or(SessionEpoch(0), |edge| edge.session_epoch);
        // Whoever is held tells nothing that others would suffer from.
        if known.is_some_and(|edge| edge.fights.is_quarantined) {
            let reason = RefusedReason::Quarantined;
            return Effect::SessionRefused { reason };
        }
        if !is_plausible(&open, granted, cluster) {
            let reason = RefusedReason::CloudBehind;
            return Effect::SessionRefused { reason };
        }
        if is_ahead(&open, granted, cluster) && self.behind.is_none() {
            self.behind = Some(Behind {
                edge: open.edge.clone(),
                seen: open.seen_cluster,
                seen_epoch: open.seen_epoch,
                stream: None,
            });
        }
        if self.behind.is_some() {
            let reason = RefusedReason::CloudBehind;
            return Effect::SessionRefused { reason };
        }
        let now_ms = self.now_ms;
        // An earlier life may have granted more of them than this ledger knows.
        let newest = granted.0.max(open.seen_epoch.0);
        let Some(next) = newest.checked_add(1) else {
            let reason = RefusedReason::StaleSessionEpoch;
            return Effect::SessionRefused { reason };
        };
        let edge = self.edges.entry(open.edge).or_default();
        edge.note_fight((open.seen_cluster, open.seen_epoch), now_ms);
        if edge.fights.is_quarantined {
            let reason = RefusedReason::Quarantined;
            return Effect::SessionRefused { reason };
        }
        edge.session_epoch = SessionEpoch(next);
        edge.session_life = cluster.counter;
        edge.session_is_used = false;
        edge.store_id = open.store_id;
        Effect::SessionOpened {
            session_epoch: edge.session_epoch,
        }
    }

    /// The edge may connect again; what it fought over is forgotten.
    pub(super) fn release_edge(&mut self, release: &ReleaseEdge) -> Effect {
        let Some(edge) = self.edges.get_mut(&release.edge) else {
            return Effect::EdgeReleased { was_held: false };
        };
        let was_held = std::mem::take(&mut edge.fights).is_quarantined;
        // Whichever node comes first is not measured by what the other one did.
        edge.session_is_used = false;
        Effect::EdgeReleased { was_held }
    }

    /// Why a session is over although nobody has said anything in it, if it is. One that was not granted
    /// (yet) is not.
    pub fn session_end(&self, edge: &EdgeId, session_epoch: SessionEpoch) -> Option<RefusedReason> {
        let edge = self.edges.get(edge)?;
        if session_epoch == SessionEpoch(0) {
            return None;
        }
        if edge.fights.is_quarantined {
            return Some(RefusedReason::Quarantined);
        }
        let is_stale = edge.session_epoch != session_epoch;
        is_stale.then_some(RefusedReason::StaleSessionEpoch)
    }

    /// The edge that `session_epoch` speaks for.
    pub(super) fn speaker(
        &mut self,
        edge: &EdgeId,
        session_epoch: SessionEpoch,
    ) -> Result<&mut Edge, RefusedReason> {
        if self.behind.is_some() {
            return Err(RefusedReason::CloudBehind);
        }
        let life = self.cluster_incarnation.map_or(0, |life| life.counter);
        let edge = self.edges.get_mut(edge);
        let edge = edge.ok_or(RefusedReason::StaleSessionEpoch)?;
        if edge.session_epoch != session_epoch {
            return Err(RefusedReason::StaleSessionEpoch);
        }
        edge.session_is_used = true;
        match edge.session_life == life {
            true => Ok(edge),
            false => Err(RefusedReason::OlderLife),
        }
    }
}

/// Whether what an edge says it has seen can be true; if not, it is refused and nothing else is done.
fn is_plausible(open: &OpenSession, granted: SessionEpoch, cluster: ClusterIncarnation) -> bool {
    let lives = open.seen_cluster.counter.saturating_sub(cluster.counter);
    let epochs = open.seen_epoch.0.saturating_sub(granted.0);
    lives <= SEEN_LIVES_MAX && epochs <= SEEN_EPOCHS_MAX
}

/// Whether an edge has seen what this ledger has not decided (yet, or any more).
fn is_ahead(open: &OpenSession, granted: SessionEpoch, cluster: ClusterIncarnation) -> bool {
    let seen = open.seen_cluster;
    if seen == cluster {
        return open.seen_epoch > granted;
    }
    seen.counter >= cluster.counter
}

impl Edge {
    /// A node that has not stored the epoch under which something came is not the node that sent it.
    fn note_fight(&mut self, (seen, seen_epoch): (ClusterIncarnation, SessionEpoch), now_ms: i64) {
        let is_another = (seen.counter, seen_epoch) < (self.session_life, self.session_epoch);
        if !self.session_is_used || !is_another {
            return;
        }
        let fights = &mut self.fights;
        let is_old = now_ms.saturating_sub(fights.last_ms) > FIGHT_WINDOW_MS;
        fights.count = if is_old { 1 } else { fights.count + 1 };
        fights.last_ms = now_ms;
        if fights.count >= FIGHTS_MAX {
            fights.is_quarantined = true;
            // Whoever is connected now is fenced, too. Nobody was granted this epoch.
            self.session_epoch.0 = self.session_epoch.0.saturating_add(1);
        }
    }
}
