//! What comes out of links at either end, and ends that close.

use tidegate_bridge_protocol::reply_code::CloseCode;

use super::World;
use crate::bridge::cases::Case;
use crate::bridge::described::described;
use crate::{Stop, violated};

impl World {
    pub(super) fn run_links(&mut self) -> Result<(), Stop> {
        let ids: Vec<u64> = self.links.keys().copied().collect();
        for id in ids {
            self.deliver_down(id)?;
            self.deliver_up(id)?;
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            if link.down.has_ended() && !link.node_left {
                let at = link.node;
                if self.nodes[at].link == Some(id) {
                    self.leave(at, false);
                } else {
                    link.node_left = true;
                }
            }
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            if link.control_up.has_ended() && link.bulk_up.has_ended() && !link.hub_left {
                link.hub_left = true;
                if let Some(hub) = &mut self.hubs[link.hub] {
                    hub.ends.remove(&id);
                }
            }
            if link.is_over() {
                self.links.remove(&id);
            }
        }
        Ok(())
    }

    fn deliver_down(&mut self, id: u64) -> Result<(), Stop> {
        let now = self.now();
        while let Some(link) = self.links.get_mut(&id) {
            let at = link.node;
            let is_current = self.nodes[at].link == Some(id);
            let frame = match link.down.receive(self.now_ms) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return violated("a hub's frame can be read", error.to_string()),
            };
            if is_current {
                let line = described(&frame);
                self.note(|| format!("node {at} gets {line}"));
                self.nodes[at].sender.handle_frame(now, frame);
            }
        }
        Ok(())
    }

    fn deliver_up(&mut self, id: u64) -> Result<(), Stop> {
        let time_ms = self.now_ms as i64;
        while let Some(link) = self.links.get_mut(&id) {
            let (hub, at, is_cut) = (link.hub, link.node, link.is_cut);
            let mut received = link.control_up.receive(self.now_ms);
            if matches!(received, Ok(None)) {
                received = link.bulk_up.receive(self.now_ms);
            }
            let frame = match received {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return violated("a node's frame can be read", error.to_string()),
            };
            let Some(hub) = &mut self.hubs[hub] else {
                continue;
            };
            let Some(end) = hub.ends.get_mut(&id) else {
                continue;
            };
            if let Err(error) = end.connection.handle_frame(time_ms, frame) {
                self.close_hub_end(id, error.code, &error.why);
                return Ok(());
            }
            hub.gather(id);
            if is_cut && self.nodes[at].link != Some(id) {
                self.cases.note(Case::LateFrames);
            }
        }
        Ok(())
    }

    pub(super) fn close_hub_end(&mut self, id: u64, code: CloseCode, why: &str) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let (hub, at) = (link.hub, link.node);
        self.send_down(hub, id);
        if let Some(hub) = &mut self.hubs[hub] {
            hub.ends.remove(&id);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.control_up.clear();
            link.bulk_up.clear();
            link.down.cut(0, &mut self.random);
            link.is_cut = true;
            link.hub_left = true;
        }
        let why = why.to_owned();
        self.note(|| format!("hub closes link {id}: {code}: {why}"));
        if self.nodes[at].link == Some(id) && is_alarming(code) {
            self.leave(at, true);
        }
    }

    pub(super) fn send_down(&mut self, hub: usize, id: u64) {
        let Some(process) = &mut self.hubs[hub] else {
            return;
        };
        let Some(end) = process.ends.get_mut(&id) else {
            return;
        };
        while let Some(frame) = end.connection.poll_transmit() {
            if let Some(link) = self.links.get_mut(&id) {
                link.down
                    .send(self.now_ms, link.delay_ms, &frame, &mut self.random);
            }
        }
    }
}

/// Whether the node stays away for a while.
pub(super) fn is_alarming(code: CloseCode) -> bool {
    matches!(
        code,
        CloseCode::Fenced | CloseCode::Quarantined | CloseCode::CloudBehind
    )
}
