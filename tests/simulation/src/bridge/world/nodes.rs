//! The nodes' turn: devices publish, journals commit and keep house, senders connect and send.

use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::hub::HubConnection;
use tidegate_bridge_protocol::sender::Alarm;
use tidegate_shared::id::SessionEpoch;

use super::links::is_alarming;
use super::{HUBS, World};
use crate::bridge::cases::Case;
use crate::bridge::cloud::HubEnd;
use crate::bridge::described::described;
use crate::bridge::link::Link;
use crate::bridge::node::{Growth, KEYED, Report, STREAMS, key_of};
use crate::{Stop, violated};

/// A node that was told to stay away tries again after so long.
const RECONNECT_ALARMED_MS: u64 = 30_000;

/// Keys of messages: so few that each comes often.
const KEYS: u64 = 8;

const LARGE_BYTES: usize = 1_500;

/// The number of a message with a key, see [`key_of`].
fn keyed_payload(number: u64, key: u8) -> u64 {
    let payload = number << 8 | u64::from(key);
    debug_assert_eq!(key_of(payload), key);
    payload
}

impl World {
    pub(super) fn run_node(&mut self, at: usize) -> Result<(), Stop> {
        if self.nodes[at].is_removed {
            return Ok(());
        }
        if self.random.percent(25) && self.current.publishes {
            self.publish(at);
        }
        if !self.keep_journal(at)? {
            return Ok(());
        }
        let now = self.now();
        let node = &mut self.nodes[at];
        if node.sender.poll_timeout().is_some_and(|due| due <= now) {
            node.sender.handle_timeout(now);
        }
        self.act(at)?;
        if self.random.percent(70) {
            self.nodes[at].finish_one(now, &mut self.random);
        }
        self.transmit(at)?;
        self.check_limits(at)?;
        self.connect(at)
    }

    /// What a node does with its journal; `false` where the power went in the middle of it.
    fn keep_journal(&mut self, at: usize) -> Result<bool, Stop> {
        let wants = self.nodes[at].wants_commit();
        if wants && self.random.percent(60) && !self.commit(at)? {
            return Ok(false);
        }
        let wants = self.nodes[at].wants_lanes();
        if wants && self.random.percent(60) && !self.grow_lanes(at)? {
            return Ok(false);
        }
        if self.random.percent(4) {
            let checkpoint = self.random.percent(30);
            if !self.keep_house(at, checkpoint)? {
                return Ok(false);
            }
            self.nodes[at].tell_streams();
        }
        if self.nodes[at].is_untold() && self.random.percent(70) {
            self.nodes[at].tell_streams();
        }
        Ok(true)
    }

    /// More lanes, as the topic has grown: what was staged is committed to those that there are, and
    /// only when the new ones are durable does anything go to them. `false` as of [`World::commit`].
    fn grow_lanes(&mut self, at: usize) -> Result<bool, Stop> {
        if !self.commit(at)? {
            return Ok(false);
        }
        let is_cut =
            !self.is_resting && self.enabled.contains(&Case::LanesCut) && self.random.percent(40);
        if is_cut {
            let nth = self.random.between(1, 4);
            self.nodes[at].medium.fail_at_write(nth);
        }
        match self.nodes[at].grow() {
            Growth::Grown { lanes, waits } => {
                self.cases.note(Case::LanesGrown);
                if waits {
                    self.cases.note(Case::LanesHeld);
                }
                let holds = if waits {
                    ", which wait for those before"
                } else {
                    ""
                };
                let names = self.nodes[at].lane_names();
                self.note(|| format!("node {at} has {lanes} lanes{holds}: {names}"));
                Ok(true)
            }
            Growth::NoRoom => {
                self.note(|| format!("node {at} has no room for more lanes"));
                Ok(true)
            }
            Growth::PowerGone => {
                self.cases.note(Case::LanesCut);
                self.cut_power(at)?;
                Ok(false)
            }
        }
    }

    /// Commits at a node; `false` where the power went in the middle of it.
    pub(in crate::bridge) fn commit(&mut self, at: usize) -> Result<bool, Stop> {
        let refused = self.nodes[at].refused;
        if !self.nodes[at].commit() {
            self.cases.note(Case::PowerCutInCommit);
            self.cut_power(at)?;
            return Ok(false);
        }
        let refused = self.nodes[at].refused - refused;
        self.note(|| match refused {
            0 => format!("node {at} commits, and acknowledges"),
            _ => format!("node {at} is full: {refused} are refused"),
        });
        Ok(true)
    }

    /// A node's housekeeping, with or without a checkpoint; `false` as of [`World::commit`].
    pub(in crate::bridge) fn keep_house(
        &mut self,
        at: usize,
        checkpoint: bool,
    ) -> Result<bool, Stop> {
        if self.nodes[at].keep_house(self.now_ms, checkpoint) {
            return Ok(true);
        }
        if checkpoint {
            self.cases.note(Case::PowerCutInCheckpoint);
        }
        self.cut_power(at)?;
        Ok(false)
    }

    /// Does what a node's sender asks for.
    pub(in crate::bridge) fn act(&mut self, at: usize) -> Result<(), Stop> {
        let mut reports = Vec::new();
        self.nodes[at].act(&mut reports);
        for report in reports {
            self.take_report(at, report)?;
        }
        Ok(())
    }

    fn publish(&mut self, at: usize) {
        let stream = self.random.below(STREAMS.len() as u64 + 2) as usize;
        let (count, first) = (self.random.between(1, 6), self.next_payload);
        let mut keys = Vec::new();
        for _ in 0..count {
            let bytes = match self.random.percent(10) {
                true => self.random.below(3_000),
                false => self.random.below(200),
            };
            match stream < STREAMS.len() {
                true => self.publish_one(at, stream, bytes as usize),
                false => keys.push(self.publish_keyed(at, bytes as usize)),
            }
        }
        self.note(|| match STREAMS.get(stream) {
            Some((name, ..)) => {
                format!("node {at}: devices publish {count} to {name}, from number {first} on")
            }
            None => format!(
                "node {at}: devices publish to {}, from number {first} on, with keys {keys:?}",
                KEYED.0
            ),
        });
    }

    fn publish_one(&mut self, at: usize, stream: usize, bytes: usize) {
        let payload = self.next_payload;
        self.next_payload += 1;
        self.nodes[at].publish(stream, payload, bytes);
    }

    /// A message of one of a few keys; returns which.
    fn publish_keyed(&mut self, at: usize, bytes: usize) -> u8 {
        let key = self.random.below(KEYS) as u8;
        let payload = keyed_payload(self.next_payload, key);
        self.next_payload += 1;
        self.nodes[at].publish_keyed(payload, bytes);
        key
    }

    /// Of a stream, or of the keyed one.
    pub(in crate::bridge) fn publish_large(&mut self, at: usize, stream: usize) {
        match stream < STREAMS.len() {
            true => self.publish_one(at, stream, LARGE_BYTES),
            false => drop(self.publish_keyed(at, LARGE_BYTES)),
        }
    }

    /// A large message for each lane.
    pub(super) fn publish_to_lanes(&mut self, at: usize) {
        let keyed = self.nodes[at].keyed.clone();
        let Some(keyed) = keyed else {
            return;
        };
        for lane in keyed.targets() {
            let mut keys = 0..=u8::MAX;
            if let Some(key) = keys.find(|key| keyed.target(Some(&[*key])) == Some(*lane)) {
                let payload = keyed_payload(self.next_payload, key);
                self.next_payload += 1;
                self.nodes[at].publish_keyed(payload, LARGE_BYTES);
            }
        }
    }

    fn take_report(&mut self, at: usize, report: Report) -> Result<(), Stop> {
        let edge = self.nodes[at].edge.clone();
        match report {
            Report::Landed(stream, incarnation, landed, facts) => {
                self.note(|| format!("node {at} ({edge}): {stream} has landed up to {landed}"));
                let told = (incarnation, landed);
                self.truth.check_told(&edge, &stream, told, &facts)
            }
            Report::LanesLetGo => {
                self.cases.note(Case::LanesLetGo);
                self.note(|| format!("node {at} ({edge}): the lanes of before have landed"));
                Ok(())
            }
            Report::Alarm(alarm) => {
                self.note(|| format!("node {at} ({edge}): alarm: {alarm}"));
                self.check_alarm(at, &alarm)
            }
            Report::Close(code) => {
                self.note(|| format!("node {at} ({edge}) closes: {code}"));
                self.leave(at, is_alarming(code));
                Ok(())
            }
        }
    }

    fn check_alarm(&self, at: usize, alarm: &Alarm) -> Result<(), Stop> {
        let node = &self.nodes[at];
        match alarm {
            Alarm::Forked {
                stream,
                incarnation,
                from,
                reason,
                ..
            } => {
                let statuses = node.statuses();
                let status = statuses.iter().find(|status| status.stream == *stream);
                let fork = (*incarnation, *from, *reason);
                status.map_or(Ok(()), |status| {
                    self.truth
                        .check_fork(&node.edge, status, &node.history, fork)
                })
            }
            Alarm::Diverged { .. } | Alarm::Unreadable { .. } => {
                violated("what is kept can be sent", format!("node {at}: {alarm}"))
            }
            _ => Ok(()),
        }
    }

    /// The node's end of its link is closed.
    pub(in crate::bridge) fn leave(&mut self, at: usize, alarmed: bool) {
        let Some(id) = self.nodes[at].link.take() else {
            return;
        };
        if let Some(link) = self.links.get_mut(&id) {
            if !link.is_cut {
                link.cut(&mut self.random);
            }
            link.node_left = true;
        }
        let pause = match alarmed {
            true => RECONNECT_ALARMED_MS,
            false => self.random.between(50, 2_000),
        };
        let node = &mut self.nodes[at];
        node.next_connect_ms = self.now_ms + pause;
        node.sender.handle_disconnected();
    }

    fn transmit(&mut self, at: usize) -> Result<(), Stop> {
        while let Some(frame) = self.nodes[at].poll_transmit()? {
            let Some(link) = self.nodes[at].link.and_then(|id| self.links.get_mut(&id)) else {
                continue;
            };
            let pipe = match frame {
                Frame::Batch(_) | Frame::Gap(_) => &mut link.bulk_up,
                _ => &mut link.control_up,
            };
            pipe.send(self.now_ms, link.delay_ms, &frame, &mut self.random);
            let is_offer = matches!(frame, Frame::Batch(_) | Frame::Gap(_));
            let is_doubled =
                is_offer && self.enabled.contains(&Case::FramesDoubled) && self.random.percent(5);
            if is_doubled {
                self.cases.note(Case::FramesDoubled);
                pipe.send(self.now_ms, link.delay_ms, &frame, &mut self.random);
            }
            let line = described(&frame);
            let twice = if is_doubled { ", twice" } else { "" };
            self.note(|| format!("node {at} sends {line}{twice}"));
        }
        Ok(())
    }

    fn connect(&mut self, at: usize) -> Result<(), Stop> {
        let node = &self.nodes[at];
        let waits = node.next_connect_ms > self.now_ms || node.offline_until_ms > self.now_ms;
        if node.link.is_some() || node.journal.is_none() || waits {
            return Ok(());
        }
        let alive: Vec<usize> = (0..HUBS).filter(|hub| self.hubs[*hub].is_some()).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let hub = *self.random.pick(&alive);
        let id = self.next_link;
        self.next_link += 1;
        let delay_ms = *self.random.pick(&[0, 5, 50, 500]);
        self.links.insert(id, Link::new(at, hub, delay_ms));
        let edge = self.nodes[at].edge.clone();
        if let Some(hub) = &mut self.hubs[hub] {
            hub.ends.insert(
                id,
                HubEnd {
                    edge: edge.clone(),
                    connection: HubConnection::new(),
                    session_epoch: SessionEpoch(0),
                },
            );
        }
        self.nodes[at].link = Some(id);
        self.nodes[at].sender.handle_connected();
        self.note(|| format!("node {at} ({edge}) connects to hub {hub} (link {id})"));
        Ok(())
    }
}
