//! Edges that lose their power, are restored from a copy, cloned, or lose their store.

use tidegate_edge_journal::media::{FaultyMedium, Survival};
use tidegate_shared::id::StoreId;

use super::super::cases::Case;
use super::super::node::Node;
use super::super::truth::History;
use super::super::world::World;
use crate::Stop;

impl World {
    /// The power goes at some write to come.
    pub(in crate::bridge) fn arm_power_cut(&mut self, at: usize) -> Result<(), Stop> {
        let nth = self.random.between(1, 30);
        self.note(|| format!("the power of node {at} will go at its write {nth} from now"));
        self.nodes[at].medium.fail_at_write(nth);
        Ok(())
    }

    /// The power goes at one of the writes of a checkpoint that begins now.
    pub(in crate::bridge) fn cut_in_checkpoint(&mut self, at: usize) -> Result<(), Stop> {
        let nth = self.random.between(1, 30);
        self.nodes[at].medium.fail_at_write(nth);
        self.keep_house(at, true).map(drop)
    }

    /// What was not synced is kept, lost or torn; then the node starts again.
    pub(in crate::bridge) fn cut_power(&mut self, at: usize) -> Result<(), Stop> {
        self.cases.note(Case::EdgePowerCut);
        self.note(|| format!("node {at} loses its power"));
        self.nodes[at].medium.cut_power(Survival::Random);
        self.reopen(at)
    }

    pub(in crate::bridge) fn reopen(&mut self, at: usize) -> Result<(), Stop> {
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
        self.nodes[at].open(self.now_ms, store)?;
        if self.nodes[at].is_switching() {
            self.cases.note(Case::LanesStoredHeld);
        }
        Ok(())
    }

    /// The card is copied, and an earlier copy is put back.
    pub(in crate::bridge) fn restore_node(&mut self, at: usize) -> Result<(), Stop> {
        let Some((medium, history)) = self.backups.remove(&at) else {
            let node = &self.nodes[at];
            let copied = (node.medium.copy_durable(), node.history.copy());
            self.backups.insert(at, copied);
            return Ok(());
        };
        self.cases.note(Case::EdgeRestored);
        self.restored.insert(self.nodes[at].edge.clone());
        self.note(|| format!("node {at} is restored from its backup"));
        let lanes = self.nodes[at].lanes();
        self.nodes[at].medium = medium;
        self.nodes[at].history = history;
        self.reopen(at)?;
        if self.nodes[at].lanes() < lanes {
            self.cases.note(Case::LanesEdgeRestored);
        }
        Ok(())
    }

    /// A second node with the same card.
    pub(in crate::bridge) fn clone_node(&mut self, at: usize) -> Result<(), Stop> {
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
    pub(in crate::bridge) fn lose_store(&mut self, at: usize) -> Result<(), Stop> {
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
}
