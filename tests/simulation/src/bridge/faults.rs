//! What goes wrong in a run, and what an operator does about what nothing else can mend.
//!
//! One combination is left out: the cloud is not restored while two nodes have one identity. Behind a
//! restore, how far the *other* of the two had landed is what tells that the cloud has lost something;
//! what one lands under their common name hides what the other had, and no state that the ledger could
//! keep would bring it back. An operator who restores a cloud stops clones first; quarantine does it
//! for those that fight.

use std::collections::BTreeSet;

use tidegate_cloud_protocol::ledger::Command;
use tidegate_cloud_protocol::ledger::command::{
    Begin, DeleteTopic, Entry, GrowTopic, ReleaseEdge, Tick,
};
use tidegate_edge_journal::media::{FaultyMedium, Survival};
use tidegate_shared::id::StoreId;

use super::cases::Case;
use super::node::{LIMITS, Node};
use super::truth::History;
use super::world::World;
use crate::{Stop, violated};

const DAY_MS: u64 = 24 * 3_600_000;

/// What a journal's index may take beside its log files.
const INDEX_BYTES_MAX: u64 = 512 << 10;

/// An opening writes all anew that lies past the checkpoint, at most twice `checkpoint_log_bytes_max`, and
/// there are two spare log files.
const FILES_BESIDE_MAX: usize = 2 * LIMITS.checkpoint_log_bytes_max / LIMITS.log_file_bytes + 2;

/// An offset and the hash there.
const BOUNDARY_BYTES: usize = 24;

/// What may have been sent is bounded by the window and, after a start, by what the files hold.
const BOUNDARY_BYTES_MAX: usize = 64 << 10;

/// Commits that fill a journal up, of four large messages each.
const FILLING_COMMITS: u64 = 150;

/// Of four large messages each, on one of sixty days: the journal fills up many times over.
const OFFLINE_COMMITS_MAX: u64 = 10;

/// What the ledger may take for three edges with three streams each, forks and all.
const LEDGER_BYTES_MAX: usize = 16 << 10;

impl World {
    /// Now and then something fails: one of the cases of this run.
    pub(super) fn fail_somewhere(&mut self) -> Result<(), Stop> {
        if !self.random.percent(6) || self.enabled.is_empty() {
            return Ok(());
        }
        let case = *self.random.pick(&self.enabled);
        let at = self.random.below(self.nodes.len() as u64) as usize;
        if self.nodes[at].is_removed {
            return Ok(());
        }
        match case {
            Case::LinkCut | Case::LateFrames => self.cut_link(at),
            // While it is sent.
            Case::FramesDoubled => Ok(()),
            Case::EdgePowerCut => self.cut_power(at),
            Case::PowerCutInCommit => self.arm_power_cut(at),
            Case::PowerCutInCheckpoint => self.cut_in_checkpoint(at),
            Case::EdgeRestored => self.restore_node(at),
            Case::EdgeCloned | Case::Quarantined => self.clone_node(at),
            Case::EdgeStoreLost => self.lose_store(at),
            Case::EdgeDiskFull | Case::DroppedInFlight => self.fill_disk(at, case),
            Case::WrongClock => self.shift_clock(at),
            Case::LongOffline => self.go_offline(at),
            Case::CloudPowerCut => self.cut_cloud_power(),
            Case::CloudRestored => self.restore_cloud(),
            Case::LogStalls => self.stall_log(),
            Case::HubFailover | Case::TwoHubs => self.kill_a_hub(),
            Case::TopicDeleted | Case::TopicMadeAgain => self.delete_topic(),
            Case::TopicGrown => self.grow_topic(),
        }
    }

    fn cut_link(&mut self, at: usize) -> Result<(), Stop> {
        if let Some(link) = self.nodes[at].link.and_then(|id| self.links.get_mut(&id))
            && !link.is_cut
        {
            link.cut(&mut self.random);
            self.cases.note(Case::LinkCut);
            self.note(|| format!("the link of node {at} is cut"));
        }
        Ok(())
    }

    /// The power goes at some write to come.
    fn arm_power_cut(&mut self, at: usize) -> Result<(), Stop> {
        let nth = self.random.between(1, 30);
        self.note(|| format!("the power of node {at} will go at its write {nth} from now"));
        self.nodes[at].medium.fail_at_write(nth);
        Ok(())
    }

    /// The power goes at one of the writes of a checkpoint that begins now.
    fn cut_in_checkpoint(&mut self, at: usize) -> Result<(), Stop> {
        let nth = self.random.between(1, 30);
        self.nodes[at].medium.fail_at_write(nth);
        self.keep_house(at, true).map(drop)
    }

    /// What was not synced is kept, lost or torn; then the node starts again.
    pub(super) fn cut_power(&mut self, at: usize) -> Result<(), Stop> {
        self.cases.note(Case::EdgePowerCut);
        self.note(|| format!("node {at} loses its power"));
        self.nodes[at].medium.cut_power(Survival::Random);
        self.reopen(at)
    }

    fn reopen(&mut self, at: usize) -> Result<(), Stop> {
        if let Some(id) = self.nodes[at].link.take()
            && let Some(link) = self.links.get_mut(&id)
        {
            if !link.is_cut {
                link.cut(&mut self.random);
            }
            link.node_left = true;
        }
        let store = StoreId(self.random.number().into());
        let pause = self.random.between(50, 2_000);
        self.nodes[at].next_connect_ms = self.now_ms + pause;
        self.nodes[at].open(self.now_ms, store)
    }

    /// The card is copied, and an earlier copy is put back.
    fn restore_node(&mut self, at: usize) -> Result<(), Stop> {
        let Some((medium, history)) = self.backups.remove(&at) else {
            let node = &self.nodes[at];
            let copied = (node.medium.copy_durable(), node.history.copy());
            self.backups.insert(at, copied);
            return Ok(());
        };
        self.cases.note(Case::EdgeRestored);
        self.restored.insert(self.nodes[at].edge.clone());
        self.note(|| format!("node {at} is restored from its backup"));
        self.nodes[at].medium = medium;
        self.nodes[at].history = history;
        self.reopen(at)
    }

    /// A second node with the same card.
    fn clone_node(&mut self, at: usize) -> Result<(), Stop> {
        let edge = self.nodes[at].edge.clone();
        let of_edge = |node: &&Node| node.edge == edge && !node.is_removed;
        if self.nodes.iter().filter(of_edge).count() > 1 {
            return Ok(());
        }
        self.cases.note(Case::EdgeCloned);
        self.restored.insert(edge.clone());
        let node = &self.nodes[at];
        let (medium, history) = (node.medium.copy_durable(), node.history.copy());
        let mut clone = Node::new(edge.clone(), medium, history, false);
        clone.open(self.now_ms, StoreId(self.random.number().into()))?;
        let number = self.nodes.len();
        self.nodes.push(clone);
        self.note(|| format!("node {number} is a clone of node {at} ({edge})"));
        Ok(())
    }

    /// Journal and index are gone: the node begins a new store.
    fn lose_store(&mut self, at: usize) -> Result<(), Stop> {
        if !self.random.percent(30) {
            return Ok(());
        }
        self.cases.note(Case::EdgeStoreLost);
        self.restored.insert(self.nodes[at].edge.clone());
        self.backups.remove(&at);
        self.note(|| format!("node {at} loses its store"));
        self.nodes[at].medium = FaultyMedium::new(self.random.number());
        self.nodes[at].history = History::default();
        self.reopen(at)
    }

    /// More is published than there is room for.
    fn fill_disk(&mut self, at: usize, case: Case) -> Result<(), Stop> {
        let stream = match case {
            Case::DroppedInFlight => 1,
            _ => 0,
        };
        let (refused, gaps) = (self.nodes[at].refused, self.gap_records(at));
        // Log files are used again meanwhile: what was in them must not be missed if the power goes now.
        let cut_at = self.random.below(2 * FILLING_COMMITS);
        for commit in 0..FILLING_COMMITS {
            if commit == cut_at && self.enabled.contains(&Case::EdgePowerCut) {
                return self.cut_power(at);
            }
            for _ in 0..4 {
                self.publish_large(at, stream);
            }
            if !self.commit(at)? {
                return Ok(());
            }
            if self.nodes[at].refused > refused {
                break;
            }
        }
        if self.nodes[at].refused > refused {
            self.cases.note(Case::EdgeDiskFull);
        }
        if self.gap_records(at) > gaps {
            self.cases.note(Case::DroppedInFlight);
        }
        self.note(|| format!("the disk of node {at} is full"));
        Ok(())
    }

    fn gap_records(&self, at: usize) -> u64 {
        let statuses = self.nodes[at].statuses();
        statuses.iter().map(|status| status.gap_records).sum()
    }

    fn shift_clock(&mut self, at: usize) -> Result<(), Stop> {
        self.cases.note(Case::WrongClock);
        let shifts = [-1_700_000_000_000, -(DAY_MS as i64), 0, 400 * DAY_MS as i64];
        self.nodes[at].wall_shift_ms = *self.random.pick(&shifts);
        Ok(())
    }

    /// Sixty days without a link, in which devices go on.
    fn go_offline(&mut self, at: usize) -> Result<(), Stop> {
        if !self.random.percent(20) {
            return Ok(());
        }
        self.cases.note(Case::LongOffline);
        self.note(|| format!("node {at} is offline for 60 days"));
        self.cut_link(at)?;
        self.nodes[at].offline_until_ms = self.now_ms + 60 * DAY_MS;
        let cut_at = self.random.below(90);
        for day in 0..60 {
            self.now_ms += DAY_MS;
            for _ in 0..self.random.below(OFFLINE_COMMITS_MAX) {
                for _ in 0..4 {
                    let stream = self.random.below(3) as usize;
                    self.publish_large(at, stream);
                }
                if !self.commit(at)? {
                    return Ok(());
                }
            }
            let checkpoint = self.random.percent(50);
            if !self.keep_house(at, checkpoint)? {
                return Ok(());
            }
            self.check_bounds(at)?;
            if day == cut_at && self.enabled.contains(&Case::EdgePowerCut) {
                self.cut_power(at)?;
            }
        }
        self.nodes[at].tell_streams();
        self.check_bounds(at)
    }

    /// What a node has on its disk, in its index and in its tables of boundaries, and the ledger.
    fn check_bounds(&mut self, at: usize) -> Result<(), Stop> {
        let node = &self.nodes[at];
        let (used, index) = (node.medium.used_bytes(), node.medium.index_bytes());
        let files = ((LIMITS.log_files_max + FILES_BESIDE_MAX) * LIMITS.log_file_bytes) as u64;
        let statuses = node.statuses();
        let boundaries: usize = statuses.iter().map(|status| status.boundaries).sum();
        let boundary_bytes = boundaries * BOUNDARY_BYTES;
        let log_files = (used - index) / LIMITS.log_file_bytes as u64;
        self.tally.log_files_max = self.tally.log_files_max.max(log_files);
        self.tally.index_bytes_max = self.tally.index_bytes_max.max(index);
        let boundaries = &mut self.tally.boundary_bytes_max;
        *boundaries = (*boundaries).max(boundary_bytes as u64);
        if used - index > files || index > INDEX_BYTES_MAX {
            let what = format!("{used} bytes, {index} of them the index");
            return violated("the edge's disk stays bounded", what);
        }
        if boundary_bytes > BOUNDARY_BYTES_MAX {
            let what = format!("{boundary_bytes} bytes");
            return violated("the boundaries that may have been sent stay bounded", what);
        }
        let bytes = self.truth.replica.ledger.snapshot().len();
        self.tally.ledger_bytes_max = self.tally.ledger_bytes_max.max(bytes as u64);
        match bytes > LEDGER_BYTES_MAX {
            true => violated("the ledger stays bounded", format!("{bytes} bytes")),
            false => Ok(()),
        }
    }

    /// What the log has not synced may be gone; all that was in memory is.
    fn cut_cloud_power(&mut self) -> Result<(), Stop> {
        self.cases.note(Case::CloudPowerCut);
        self.note(|| "the cloud loses its power".to_owned());
        let unsynced = (self.log.entries.len() - self.log.durable) as u64;
        let kept = self.random.below(unsynced + 1) as usize;
        self.log.entries.truncate(self.log.durable + kept);
        self.log.durable = self.log.entries.len();
        self.truth.follow(&self.log)?;
        self.restart_hubs()
    }

    fn restart_hubs(&mut self) -> Result<(), Stop> {
        for link in self.links.values_mut() {
            link.control_up.clear();
            link.bulk_up.clear();
            link.down.clear();
            link.is_cut = true;
            link.hub_left = true;
        }
        for number in 0..self.hubs.len() {
            self.hubs[number] = Some(self.start_hub(number)?);
        }
        Ok(())
    }

    /// The cloud's state is copied, and an earlier copy is put back.
    fn restore_cloud(&mut self) -> Result<(), Stop> {
        let Some(backup) = self.cloud_backup.take() else {
            self.cloud_backup = Some(self.log.durable);
            return Ok(());
        };
        // Of two nodes with one identity, what one lands hides from the ledger what the other one had
        // landed: a restore in the middle of that is not found out.
        if backup > self.log.durable || self.has_clones() {
            return Ok(());
        }
        // What nodes were told before was true before.
        for at in 0..self.nodes.len() {
            self.act(at)?;
            self.leave(at, false);
            self.nodes[at].forget_answers();
        }
        self.cases.note(Case::CloudRestored);
        self.cloud_was_restored = true;
        self.note(|| format!("the cloud is restored: {backup} commands are left"));
        self.log.entries.truncate(backup);
        self.log.durable = backup;
        self.truth.restored(&self.log)?;
        self.restart_hubs()
    }

    fn has_clones(&self) -> bool {
        let alive = || self.nodes.iter().filter(|node| !node.is_removed);
        let edges: BTreeSet<_> = alive().map(|node| &node.edge).collect();
        edges.len() < alive().count()
    }

    fn stall_log(&mut self) -> Result<(), Stop> {
        self.cases.note(Case::LogStalls);
        self.log_stalls_until_ms = self.now_ms + self.random.between(100, 60_000);
        self.note(|| "the order log is down".to_owned());
        Ok(())
    }

    /// A hub dies; another one goes on, and sooner or later it is back.
    fn kill_a_hub(&mut self) -> Result<(), Stop> {
        let number = self.random.below(self.hubs.len() as u64) as usize;
        if self.hubs[number].is_none() {
            self.hubs[number] = Some(self.start_hub(number)?);
            return Ok(());
        }
        self.cases.note(Case::HubFailover);
        self.note(|| format!("hub {number} dies"));
        self.hubs[number] = None;
        for link in self.links.values_mut().filter(|link| link.hub == number) {
            link.control_up.clear();
            link.bulk_up.clear();
            link.down.cut(0, &mut self.random);
            link.is_cut = true;
            link.hub_left = true;
        }
        Ok(())
    }

    fn delete_topic(&mut self) -> Result<(), Stop> {
        let name = *self.random.pick(&["telemetry", "logs"]);
        match self.truth.replica.ledger.topic_id(name) {
            Some(topic_id) => {
                self.cases.note(Case::TopicDeleted);
                self.note(|| format!("topic {name} is deleted"));
                self.admin(Command::DeleteTopic(DeleteTopic { topic_id }));
            }
            None => {
                self.cases.note(Case::TopicMadeAgain);
                self.note(|| format!("topic {name} is made again"));
                self.create_topic(name, 2);
            }
        }
        Ok(())
    }

    fn grow_topic(&mut self) -> Result<(), Stop> {
        if let Some(topic_id) = self.truth.replica.ledger.topic_id("telemetry") {
            self.cases.note(Case::TopicGrown);
            let partitions = self.random.between(2, 9) as u32;
            self.admin(Command::GrowTopic(GrowTopic {
                topic_id,
                partitions,
            }));
        }
        Ok(())
    }

    /// What only an operator can do, some time after it is seen.
    pub(super) fn operate(&mut self) -> Result<(), Stop> {
        if !self.random.percent(5) {
            return Ok(());
        }
        let ledger = &self.truth.replica.ledger;
        let is_behind = ledger.behind().is_some();
        let held = ledger.edges().find(|(_, edge)| edge.fights.is_quarantined);
        let held = held.map(|(edge, _)| edge.clone());
        if is_behind {
            self.tally.begins += 1;
            self.note(|| "the operator begins a new cluster incarnation".to_owned());
            let begin = Begin {
                now_ms: self.now_ms as i64,
                cluster_incarnation_id: self.random.number().into(),
            };
            self.admin(Command::Begin(begin));
        }
        if let Some(edge) = held {
            self.tally.quarantines += 1;
            self.cases.note(Case::Quarantined);
            self.note(|| format!("the operator stops one of the nodes of {edge}, and releases it"));
            self.stop_clones(&edge);
            let entries = vec![Entry::ReleaseEdge(ReleaseEdge { edge })];
            let now_ms = self.now_ms as i64;
            self.admin(Command::Tick(Tick { now_ms, entries }));
        }
        if is_behind || self.is_resting {
            self.sync_log()?;
        }
        Ok(())
    }

    /// One node of an edge is left.
    fn stop_clones(&mut self, edge: &tidegate_shared::id::EdgeId) {
        let of_edge = |(_, node): &(usize, &Node)| node.edge == *edge && !node.is_removed;
        let mut nodes: Vec<usize> = self
            .nodes
            .iter()
            .enumerate()
            .filter(of_edge)
            .map(|(at, _)| at)
            .collect();
        while nodes.len() > 1 {
            let gone = nodes.remove(self.random.below(nodes.len() as u64) as usize);
            let node = &mut self.nodes[gone];
            node.is_removed = true;
            node.journal = None;
            if let Some(link) = node.link.take().and_then(|id| self.links.get_mut(&id)) {
                link.cut(&mut self.random);
                link.node_left = true;
            }
        }
    }

    /// All that must be so before a run can come to rest.
    pub(super) fn restore_order(&mut self) -> Result<(), Stop> {
        for number in 0..self.hubs.len() {
            if self.hubs[number].is_none() {
                self.hubs[number] = Some(self.start_hub(number)?);
            }
        }
        let edges: Vec<_> = self.nodes.iter().map(|node| node.edge.clone()).collect();
        for edge in edges {
            self.stop_clones(&edge);
        }
        for at in 0..self.nodes.len() {
            self.nodes[at].offline_until_ms = 0;
            self.nodes[at].medium.free_space();
            if !self.nodes[at].is_removed && self.nodes[at].medium.is_failing() {
                self.cut_power(at)?;
            }
        }
        self.log.durable = self.log.entries.len();
        self.truth.follow(&self.log)?;
        for (name, partitions) in [("telemetry", 3), ("logs", 2)] {
            if self.truth.replica.ledger.topic_id(name).is_none() {
                self.create_topic(name, partitions);
            }
        }
        self.log.durable = self.log.entries.len();
        self.truth.follow(&self.log)
    }
}
