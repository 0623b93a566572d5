//! What goes wrong in the cloud, and topics that are deleted, made again, and grow.

use std::collections::BTreeSet;

use tidegate_cloud_protocol::ledger::Command;
use tidegate_cloud_protocol::ledger::command::{DeleteTopic, GrowTopic};

use super::super::cases::Case;
use super::super::node::{KEYED, LANES_FIRST, Node};
use super::super::world::{TOPICS, World};
use crate::Stop;

/// Topics grow so far.
const PARTITIONS_MAX: usize = 12;

impl World {
    /// What the log has not synced may be gone; all that was in memory is.
    pub(in crate::bridge) fn cut_cloud_power(&mut self) -> Result<(), Stop> {
        self.cases.note(Case::CloudPowerCut);
        self.note(|| "the cloud loses its power".to_owned());
        let unsynced = (self.log.entries.len() - self.log.durable) as u64;
        let kept = self.random.below(unsynced + 1) as usize;
        self.log.entries.truncate(self.log.durable + kept);
        self.log.durable = self.log.entries.len();
        self.truth.follow(&self.log)?;
        self.restart_hubs()
    }

    pub(in crate::bridge) fn restart_hubs(&mut self) -> Result<(), Stop> {
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
    pub(in crate::bridge) fn restore_cloud(&mut self) -> Result<(), Stop> {
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
        let partitions = self.partitions(KEYED.1);
        self.truth.restored(&self.log)?;
        let is_narrower = self.partitions(KEYED.1) < partitions;
        if is_narrower
            && self
                .nodes
                .iter()
                .any(|node| node.lanes() > LANES_FIRST as usize)
        {
            self.cases.note(Case::LanesCloudRestored);
        }
        self.restart_hubs()
    }

    pub(in crate::bridge) fn has_clones(&self) -> bool {
        let alive = || self.nodes.iter().filter(|node| !node.is_removed);
        let edges: BTreeSet<_> = alive().map(|node| &node.edge).collect();
        edges.len() < alive().count()
    }

    pub(in crate::bridge) fn stall_log(&mut self) -> Result<(), Stop> {
        self.cases.note(Case::LogStalls);
        self.log_stalls_until_ms = self.now_ms + self.random.between(100, 60_000);
        self.note(|| "the order log is down".to_owned());
        Ok(())
    }

    /// A hub dies; another one goes on, and sooner or later it is back.
    pub(in crate::bridge) fn kill_a_hub(&mut self) -> Result<(), Stop> {
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

    /// One that was deleted is made again, with another number of partitions.
    pub(in crate::bridge) fn delete_topic(&mut self) -> Result<(), Stop> {
        let (name, _) = *self.random.pick(&TOPICS);
        match self.truth.replica.ledger.topic_id(name) {
            Some(topic_id) => {
                self.cases.note(Case::TopicDeleted);
                self.note(|| format!("topic {name} is deleted"));
                self.admin(Command::DeleteTopic(DeleteTopic { topic_id }));
            }
            None => {
                let partitions = self.random.between(1, 5) as usize;
                self.cases.note(Case::TopicMadeAgain);
                self.note(|| format!("topic {name} is made again, with {partitions} partitions"));
                self.create_topic(name, partitions as u32);
                let has_more = |node: &Node| node.lanes() > partitions;
                if name == KEYED.1 && self.nodes.iter().any(has_more) {
                    self.cases.note(Case::LanesTopicNarrower);
                }
            }
        }
        Ok(())
    }

    pub(in crate::bridge) fn grow_topic(&mut self, name: &str) -> Result<(), Stop> {
        if let Some(topic_id) = self.truth.replica.ledger.topic_id(name) {
            self.cases.note(Case::TopicGrown);
            let more = self.random.between(1, 4) as usize;
            let partitions = (self.partitions(name) + more).min(PARTITIONS_MAX) as u32;
            self.note(|| format!("topic {name} grows to {partitions} partitions"));
            self.admin(Command::GrowTopic(GrowTopic {
                topic_id,
                partitions,
            }));
        }
        Ok(())
    }

    /// Of a topic, by what is durable; 0: there is none.
    fn partitions(&self, name: &str) -> usize {
        let ledger = &self.truth.replica.ledger;
        let topic = ledger.topic_id(name).and_then(|id| ledger.topic(id));
        topic.map_or(0, |topic| topic.partitions().len())
    }
}
