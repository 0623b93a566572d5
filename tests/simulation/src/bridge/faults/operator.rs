//! What an operator does about what nothing else can mend.

use tidegate_cloud_protocol::ledger::Command;
use tidegate_cloud_protocol::ledger::command::{Begin, Entry, ReleaseEdge, Tick};
use tidegate_shared::id::EdgeId;

use super::super::cases::Case;
use super::super::node::Node;
use super::super::world::{TOPICS, World};
use crate::Stop;

impl World {
    /// What only an operator can do, some time after it is seen.
    pub(in crate::bridge) fn operate(&mut self) -> Result<(), Stop> {
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
    pub(in crate::bridge) fn stop_clones(&mut self, edge: &EdgeId) {
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
    pub(in crate::bridge) fn restore_order(&mut self) -> Result<(), Stop> {
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
        for (name, partitions) in TOPICS {
            if self.truth.replica.ledger.topic_id(name).is_none() {
                self.create_topic(name, partitions);
            }
        }
        self.log.durable = self.log.entries.len();
        self.truth.follow(&self.log)
    }
}
