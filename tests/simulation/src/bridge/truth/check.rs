//! Single questions to the truth: of what an edge was told, of its forks, and of the end of a run.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::landing::ForkReason;
use tidegate_cloud_protocol::ledger::{Command, Ledger};
use tidegate_edge_journal::StreamStatus;
use tidegate_shared::id::{EdgeId, EdgeOffset, Incarnation, StreamName};

use super::super::cloud::{OrderedLog, Replica};
use super::{History, Numbering, Truth};
use crate::{Stop, violated};

impl Truth {
    /// What an edge is told to have landed is durable, and lies where it is told: the same, however
    /// often it is told.
    pub fn check_told(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        (incarnation, landed): (Incarnation, EdgeOffset),
        facts: &[Fact],
    ) -> Result<(), Stop> {
        let numbering = (edge.clone(), stream.clone(), incarnation);
        let next = self.next.get(&numbering).copied();
        if next.is_none_or(|next| next < landed.0) {
            let what =
                format!("{edge} {stream} incarnation {incarnation}: told {landed}, {next:?} is");
            return violated("Landed is durable and applied", what);
        }
        let told = facts.iter().try_for_each(|fact| {
            let numbering = (edge.clone(), stream.clone(), fact.incarnation);
            self.plain.holds(&numbering, fact)
        });
        told.or_else(|what| violated("a fact is true", what))
    }

    /// A fork begins where it must: nothing goes again that is known to have landed, and nothing is
    /// left out. And it was needed: what the hub had is not what the journal has.
    pub fn check_fork(
        &self,
        edge: &EdgeId,
        status: &StreamStatus,
        history: &History,
        (incarnation, from, reason): (Incarnation, EdgeOffset, ForkReason),
    ) -> Result<(), Stop> {
        let name = &status.name;
        let what = || {
            let (first, landed) = (status.first, status.landed);
            format!(
                "{edge} {name} incarnation {incarnation} from {from} ({reason}): the journal begins at {first}, {landed} has landed"
            )
        };
        let begins_right = match reason {
            ForkReason::CloudRestored => from <= status.landed,
            ForkReason::Unproved | ForkReason::NewStore => from == status.landed,
        };
        if !begins_right {
            return violated("a fork begins where it must", what());
        }
        let numbering = (edge.clone(), name.clone(), incarnation);
        let Some(fork) = self.begun.get(&numbering) else {
            return violated("a fork was granted", what());
        };
        let lost = fork.gap().map(|(_, lost_from, to)| (lost_from, to));
        if lost.is_some_and(|(lost_from, to)| to > lost_from.max(status.first)) {
            return violated("a fork declares nothing lost that is kept", what());
        }
        // Nor does it go back behind what it knows to be there.
        let goes_back = fork.ended > status.incarnation
            && fork.ended_at < status.landed
            && status.landed_life == self.life();
        let could_go_on =
            fork.ended >= status.incarnation && fork.ended_at > status.first && !goes_back;
        let last = fork.ended_at.0.checked_sub(1);
        let last = last.filter(|_| could_go_on && fork.ended_at <= status.next);
        let ended = (edge.clone(), name.clone(), fork.ended);
        let landed = last.and_then(|last| self.payload_at(&ended, last, self.life()));
        if landed.is_some() && landed == last.and_then(|last| history.at(name, last)) {
            return violated("a stream forks only where it must", what());
        }
        Ok(())
    }

    /// What landed at an offset of an incarnation, in some life of the cloud; `None` also for a gap.
    fn payload_at(
        &self,
        (edge, stream, incarnation): &Numbering,
        offset: u64,
        life_max: u32,
    ) -> Option<u64> {
        let of = |interval: &&super::Interval| {
            (&interval.edge, &interval.stream) == (edge, stream)
                && interval.incarnation == *incarnation
                && interval.life <= life_max
                && !interval.is_gap
        };
        let mut intervals = self.intervals.iter().filter(of);
        intervals.find_map(|interval| {
            let at = offset.checked_sub(interval.from)?;
            *interval.payloads.get(usize::try_from(at).ok()?)?
        })
    }

    /// What a fork declares lost had not landed, before this life of the cloud, in the incarnation that it
    /// says it of. (In this life another copy of the same journal may have landed it, unknown to this one.)
    pub(super) fn check_lost(
        &self,
        ended: &Numbering,
        from: u64,
        held: &[Option<u64>],
    ) -> Result<(), Stop> {
        let before = self.life().saturating_sub(1);
        for (offset, held) in (from..).zip(held) {
            let landed = self.payload_at(ended, offset, before);
            if landed.is_some() && landed == *held {
                let what = format!("{ended:?} offset {offset}: {landed:?}");
                return violated("a fork declares nothing lost that has landed", what);
            }
        }
        Ok(())
    }

    /// Only nodes that share an identity with another, or are older copies of themselves, are held.
    pub fn check_held(&self, may_be_held: &BTreeSet<EdgeId>) -> Result<(), Stop> {
        let edges = self.replica.ledger.edges();
        let mut held = edges.filter(|(_, edge)| edge.fights.is_quarantined);
        match held.find(|(edge, _)| !may_be_held.contains(*edge)) {
            Some((edge, _)) => violated("an edge is held for a reason", format!("{edge} is")),
            None => Ok(()),
        }
    }

    /// Only a cloud that was restored knows less than an edge has seen.
    pub fn check_behind(&self, cloud_was_restored: bool) -> Result<(), Stop> {
        match self.replica.ledger.behind() {
            Some(behind) if !cloud_was_restored => {
                violated("a cloud is behind for a reason", format!("{behind:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Only streams of edges that were restored, cloned or lost have forked, and all if the cloud was.
    pub fn check_forks(
        &self,
        may_fork: &BTreeSet<EdgeId>,
        cloud_was_restored: bool,
    ) -> Result<(), Stop> {
        let mut without = self.forked.difference(may_fork);
        match without.next().filter(|_| !cloud_was_restored) {
            Some(edge) => violated("a stream forks for a reason", format!("{edge}'s did")),
            None => Ok(()),
        }
    }

    /// Records of a stream that landed as gaps.
    pub fn gap_records(&self, edge: &EdgeId, stream: &StreamName) -> u64 {
        let of = |interval: &&super::Interval| {
            interval.is_gap && (&interval.edge, &interval.stream) == (edge, stream)
        };
        let gaps = self.intervals.iter().filter(of);
        gaps.map(|gap| gap.payloads.len() as u64).sum()
    }

    /// Everything that a journal holds has landed, or is declared lost.
    pub fn check_complete(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        history: &History,
        next: EdgeOffset,
    ) -> Result<(), Stop> {
        let mut missing: BTreeMap<u64, u64> = (0..next.0)
            .filter_map(|offset| Some((offset, history.at(stream, offset)?)))
            .collect();
        if missing.len() as u64 != next.0 {
            let what = format!("{edge} {stream}: {} of {next}", missing.len());
            return violated("a journal holds what was put into it", what);
        }
        let of_stream = self
            .intervals
            .iter()
            .filter(|interval| (&interval.edge, &interval.stream) == (edge, stream));
        for interval in of_stream {
            for (offset, payload) in (interval.from..).zip(&interval.payloads) {
                if payload.is_some() && missing.get(&offset) == payload.as_ref() {
                    missing.remove(&offset);
                }
            }
        }
        match missing.iter().next() {
            None => Ok(()),
            Some((offset, payload)) => {
                let what = format!(
                    "{edge} {stream}: {} of {next} are missing, the first at {offset} ({payload})",
                    missing.len()
                );
                violated("journalled = landed + declared gaps", what)
            }
        }
    }

    /// The map leads back, and snapshot and replay give the live state.
    pub fn check_state(&self, log: &OrderedLog, cut: usize) -> Result<(), Stop> {
        if let Some(wrong) = self.replica.map.check().into_iter().next() {
            return violated("every fact is true both ways", wrong);
        }
        let entries = &log.entries[..log.durable];
        let replayed = Replica::replay(&entries[..cut.min(entries.len())]);
        let restored = replayed.and_then(|half| {
            let snapshot = half.ledger.snapshot();
            let ledger = Ledger::restore(snapshot);
            let mut whole = Replica {
                ledger: ledger.map_err(|error| error.to_string())?,
                ..half
            };
            for entry in &entries[cut.min(entries.len())..] {
                let command = Command::decode(entry.command.clone());
                whole.apply(command.map_err(|error| error.to_string())?)?;
            }
            Ok(whole.ledger.snapshot())
        });
        match restored {
            Ok(bytes) if bytes == self.replica.ledger.snapshot() => Ok(()),
            Ok(_) => violated("snapshot and replay give the live state", String::new()),
            Err(what) => violated("snapshot and replay give the live state", what),
        }
    }
}
