//! One run: nodes, links and a cloud, moved on by random steps; and at the end a time without faults,
//! in which everything must come to rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::hub::HubConnection;
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_cloud_protocol::ledger::Command;
use tidegate_cloud_protocol::ledger::command::{Begin, CreateTopic};
use tidegate_edge_journal::media::FaultyMedium;
use tidegate_shared::id::{EdgeId, SessionEpoch, StoreId, TopicId, TopicName};

use super::cases::{Case, CaseCounts};
use super::cloud::{Entry, Hub, HubEnd, OrderedLog};
use super::link::Link;
use super::node::{Node, Report, STREAMS};
use super::truth::{History, Truth};
use super::{Break, Plan};
use crate::random::Random;
use crate::trace::Trace;
use crate::{Stop, violated};

const EDGES: usize = 3;
const HUBS: usize = 2;

/// Steps in which everything must come to rest once nothing fails any more.
const REST_STEPS_MAX: u64 = 6_000;

/// A node that was told to stay away tries again after so long.
const RECONNECT_ALARMED_MS: u64 = 30_000;

/// How much happened: a run in which little does shows little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub landed: u64,
    pub gaps: u64,
    pub forks: u64,
    pub duplicates: u64,
    pub refusals: u64,
    pub quarantines: u64,
    pub begins: u64,
    /// The largest snapshot of the ledger.
    pub ledger_bytes_max: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.landed += other.landed;
        self.gaps += other.gaps;
        self.forks += other.forks;
        self.duplicates += other.duplicates;
        self.refusals += other.refusals;
        self.quarantines += other.quarantines;
        self.begins += other.begins;
        self.ledger_bytes_max = self.ledger_bytes_max.max(other.ledger_bytes_max);
    }
}

#[derive(Debug)]
pub struct World {
    pub(super) random: Random,
    pub(super) trace: Trace,
    pub(super) now_ms: u64,
    start: Instant,
    steps: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) links: BTreeMap<u64, Link>,
    next_link: u64,
    pub(super) log: OrderedLog,
    pub(super) hubs: Vec<Option<Hub>>,
    hub_lives: u64,
    pub(super) log_stalls_until_ms: u64,
    pub(super) truth: Truth,
    pub(super) cases: CaseCounts,
    pub(super) tally: Tally,
    pub(super) is_resting: bool,
    recycles_early: bool,
    next_payload: u64,
    /// What the cloud and the nodes were copied as, to be restored.
    pub(super) cloud_backup: Option<usize>,
    pub(super) backups: BTreeMap<usize, (FaultyMedium, History)>,
    /// Something was restored, cloned or lost: only then may a stream fork.
    pub(super) may_fork: bool,
    pub(super) enabled: Vec<Case>,
    next_topic: u128,
}

impl World {
    pub fn new(plan: &Plan) -> Self {
        Self {
            random: Random::new(plan.seed),
            trace: Trace::of_lines(plan.lines_max),
            now_ms: 1_000,
            start: Instant::now(),
            steps: plan.steps,
            nodes: Vec::new(),
            links: BTreeMap::new(),
            next_link: 1,
            log: OrderedLog::default(),
            hubs: Vec::new(),
            hub_lives: 0,
            log_stalls_until_ms: 0,
            truth: Truth::default(),
            cases: CaseCounts::default(),
            tally: Tally::default(),
            is_resting: false,
            recycles_early: plan.broken == Some(Break::RecycleEarly),
            next_payload: 1,
            cloud_backup: None,
            backups: BTreeMap::new(),
            may_fork: false,
            enabled: plan.cases.clone(),
            next_topic: 1,
        }
    }

    pub fn into_outcome(self) -> (Trace, CaseCounts, Tally) {
        let tally = Tally {
            landed: self.truth.landed,
            gaps: self.truth.gaps,
            forks: self.truth.forks,
            duplicates: self.truth.duplicates,
            refusals: self.truth.refusals,
            ..self.tally
        };
        (self.trace, self.cases, tally)
    }

    pub fn run(&mut self) -> Result<(), Stop> {
        self.begin()?;
        for _ in 0..self.steps {
            self.step()?;
        }
        self.rest()?;
        self.check_end()
    }

    fn begin(&mut self) -> Result<(), Stop> {
        self.admin(Command::Begin(Begin {
            now_ms: self.now_ms as i64,
            cluster_incarnation_id: 1,
        }));
        for (topic, partitions) in [("telemetry", 3), ("logs", 2)] {
            self.create_topic(topic, partitions);
        }
        self.log.durable = self.log.entries.len();
        self.truth.follow(&self.log)?;
        for number in 0..HUBS {
            let hub = self.start_hub(number)?;
            self.hubs.push(Some(hub));
        }
        for number in 0..EDGES {
            let edge = EdgeId::new(format!("edge-{number}")).expect("a name");
            let medium = FaultyMedium::new(self.random.number());
            let mut node = Node::new(edge, medium, History::default(), self.recycles_early);
            node.open(self.now_ms, StoreId(self.random.number().into()))?;
            self.nodes.push(node);
        }
        Ok(())
    }

    pub(super) fn start_hub(&mut self, number: usize) -> Result<Hub, Stop> {
        self.hub_lives += 1;
        Hub::start(number, self.hub_lives, &self.log)
            .or_else(|what| violated("a hub replays the log", what))
    }

    /// Puts a command of an operator into the log.
    pub(super) fn admin(&mut self, command: Command) {
        let mut encoded = BytesMut::new();
        command.encode(&mut encoded);
        self.log.entries.push(Entry {
            command: encoded.freeze(),
            batches: Vec::new(),
            proposal: None,
        });
    }

    pub(super) fn create_topic(&mut self, name: &str, partitions: u32) {
        let topic_id = TopicId(self.next_topic);
        self.next_topic += 1;
        let name = TopicName::new(name).expect("a name");
        self.admin(Command::CreateTopic(CreateTopic {
            name,
            topic_id,
            partitions,
        }));
    }

    pub(super) fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        self.trace.note(format!("{:>9} ms  {line}", self.now_ms));
    }

    fn step(&mut self) -> Result<(), Stop> {
        self.now_ms += match self.random.below(100) {
            0 => self.random.between(1_000, 40_000),
            1..30 => self.random.below(200),
            _ => self.random.below(10),
        };
        for node in 0..self.nodes.len() {
            self.run_node(node)?;
        }
        self.run_links()?;
        self.run_hubs()?;
        if !self.is_resting {
            self.fail_somewhere()?;
        }
        self.operate()
    }

    fn run_node(&mut self, at: usize) -> Result<(), Stop> {
        if self.nodes[at].is_removed {
            return Ok(());
        }
        if !self.is_resting && self.random.percent(25) {
            self.publish(at);
        }
        let now = self.now();
        let node = &mut self.nodes[at];
        let wants = node.wants_commit();
        if wants && self.random.percent(60) && !self.nodes[at].commit(now)? {
            return self.cut_power(at);
        }
        if self.random.percent(4) {
            let (now_ms, checkpoint) = (self.now_ms, self.random.percent(30));
            if !self.nodes[at].keep_house(now_ms, checkpoint) {
                return self.cut_power(at);
            }
            self.nodes[at].tell_streams();
        }
        let node = &mut self.nodes[at];
        if node.sender.poll_timeout().is_some_and(|due| due <= now) {
            node.sender.handle_timeout(now);
        }
        self.act(at)?;
        if self.random.percent(70) {
            self.nodes[at].finish_one(now, &mut self.random);
        }
        self.transmit(at);
        self.connect(at)
    }

    /// Does what a node's sender asks for.
    pub(super) fn act(&mut self, at: usize) -> Result<(), Stop> {
        let mut reports = Vec::new();
        self.nodes[at].act(&mut reports);
        for report in reports {
            self.take_report(at, report)?;
        }
        Ok(())
    }

    fn publish(&mut self, at: usize) {
        let stream = self.random.below(STREAMS.len() as u64) as usize;
        for _ in 0..self.random.between(1, 6) {
            let bytes = match self.random.percent(10) {
                true => self.random.below(3_000),
                false => self.random.below(200),
            };
            let payload = self.next_payload;
            self.next_payload += 1;
            self.nodes[at].publish(stream, payload, bytes as usize);
        }
    }

    pub(super) fn publish_large(&mut self, at: usize, stream: usize) {
        let payload = self.next_payload;
        self.next_payload += 1;
        self.nodes[at].publish(stream, payload, 1_500);
    }

    fn take_report(&mut self, at: usize, report: Report) -> Result<(), Stop> {
        let edge = self.nodes[at].edge.clone();
        match report {
            Report::Landed(stream, incarnation, landed, facts) => {
                self.note(|| format!("node {at} ({edge}): {stream} has landed up to {landed}"));
                let told = (incarnation, landed);
                self.truth.check_told(&edge, &stream, told, &facts)
            }
            Report::Alarm(alarm) => {
                self.note(|| format!("node {at} ({edge}): alarm: {alarm}"));
                Ok(())
            }
            Report::Close(code) => {
                self.note(|| format!("node {at} ({edge}) closes: {code}"));
                self.leave(at, is_alarming(code));
                Ok(())
            }
        }
    }

    /// The node's end of its link is closed.
    pub(super) fn leave(&mut self, at: usize, alarmed: bool) {
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

    fn transmit(&mut self, at: usize) {
        while let Some(frame) = self.nodes[at].poll_transmit() {
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

    fn run_links(&mut self) -> Result<(), Stop> {
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

    fn close_hub_end(&mut self, id: u64, code: CloseCode, why: &str) {
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

    fn send_down(&mut self, hub: usize, id: u64) {
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

    fn run_hubs(&mut self) -> Result<(), Stop> {
        for number in 0..HUBS {
            if self.random.percent(50)
                && let Some(hub) = &mut self.hubs[number]
            {
                hub.propose(&mut self.log, self.now_ms as i64);
                let early = hub.take_early();
                self.answer(number, early)?;
            }
        }
        if self.now_ms >= self.log_stalls_until_ms && self.random.percent(60) {
            self.sync_log()?;
        }
        for number in 0..HUBS {
            while let Some(hub) = &mut self.hubs[number] {
                match hub.apply_next(&self.log) {
                    Ok(Some(answers)) => self.answer(number, answers)?,
                    Ok(None) => break,
                    Err(what) => return violated("the ledger does not contradict itself", what),
                }
            }
            let ids: Vec<u64> = self.hubs[number]
                .iter()
                .flat_map(|hub| hub.ends.keys().copied())
                .collect();
            for id in ids {
                self.send_down(number, id);
            }
        }
        Ok(())
    }

    /// Some of what is in the log becomes durable.
    pub(super) fn sync_log(&mut self) -> Result<(), Stop> {
        let unsynced = (self.log.entries.len() - self.log.durable) as u64;
        if unsynced == 0 {
            return Ok(());
        }
        let from = self.log.durable;
        self.log.durable += self.random.between(1, unsynced + 1) as usize;
        let proposers = self.log.entries[from..self.log.durable].iter();
        let mut hubs: Vec<usize> = proposers
            .filter_map(|entry| entry.proposal.map(|(hub, ..)| hub))
            .collect();
        hubs.dedup();
        if hubs.len() > 1 {
            self.cases.note(Case::TwoHubs);
        }
        self.truth.follow(&self.log)
    }

    fn answer(
        &mut self,
        number: usize,
        answers: Vec<(
            super::cloud::Ticket,
            tidegate_cloud_protocol::ledger::Effects,
        )>,
    ) -> Result<(), Stop> {
        for (ticket, effects) in answers {
            let (id, edge) = (ticket.link, ticket.edge.clone());
            let Some(hub) = &mut self.hubs[number] else {
                continue;
            };
            match hub.tell(ticket, effects, self.now_ms as i64) {
                Ok(Some(epoch)) => {
                    if let Some(link) = self.links.get(&id) {
                        let history = self.nodes[link.node].history.clone();
                        self.truth.session_granted(&edge, epoch, &history);
                    }
                }
                Ok(None) => {}
                Err(error) => self.close_hub_end(id, error.code, &error.why),
            }
        }
        Ok(())
    }

    /// Faults end, and everything must come to rest.
    fn rest(&mut self) -> Result<(), Stop> {
        self.note(|| "faults end".to_owned());
        self.is_resting = true;
        self.log_stalls_until_ms = 0;
        self.restore_order()?;
        for _ in 0..REST_STEPS_MAX {
            self.step()?;
            let is_behind = self.truth.replica.ledger.behind().is_some();
            let mut nodes = self.nodes.iter().filter(|node| !node.is_removed);
            if !is_behind && nodes.all(|node| node.has_landed_all() && !node.wants_commit()) {
                return Ok(());
            }
        }
        let waiting = self.nodes.iter().enumerate().flat_map(|(at, node)| {
            let statuses = node.statuses().into_iter();
            let behind = statuses.filter(|status| status.landed != status.next);
            behind.map(move |status| {
                format!(
                    "node {at} {}: {} of {} have landed (incarnation {})",
                    status.name, status.landed, status.next, status.incarnation
                )
            })
        });
        let waiting: Vec<_> = waiting.collect();
        violated("everything comes to rest", waiting.join("; "))
    }

    fn check_end(&mut self) -> Result<(), Stop> {
        self.sync_log()?;
        for node in self.nodes.iter().filter(|node| !node.is_removed) {
            for status in node.statuses() {
                self.truth
                    .check_complete(&node.edge, &status.name, &node.history, status.next)?;
            }
        }
        if self.truth.forks > 0 && !self.may_fork {
            return violated(
                "a stream forks for a reason",
                format!("{} did", self.truth.forks),
            );
        }
        let cut = self.random.below(self.log.durable as u64 + 1) as usize;
        let bytes = self.truth.replica.ledger.snapshot().len() as u64;
        self.tally.ledger_bytes_max = self.tally.ledger_bytes_max.max(bytes);
        self.truth.check_state(&self.log, cut)
    }
}

/// Whether the node stays away for a while.
fn is_alarming(code: CloseCode) -> bool {
    matches!(
        code,
        CloseCode::Fenced | CloseCode::Quarantined | CloseCode::CloudBehind
    )
}

/// A frame in a line.
fn described(frame: &Frame) -> String {
    match frame {
        Frame::Hello(hello) => format!(
            "Hello (seen {}.{})",
            hello.cluster_incarnation.counter, hello.session_epoch
        ),
        Frame::Welcome(welcome) => format!(
            "Welcome ({}.{})",
            welcome.cluster_incarnation.counter, welcome.session_epoch
        ),
        Frame::Batch(batch) => format!(
            "Batch {} of stream {}: {} from {}",
            batch.request, batch.stream, batch.offer.count, batch.offer.base_offset
        ),
        Frame::Gap(gap) => format!(
            "Gap {} of stream {}: {} from {}",
            gap.request, gap.stream, gap.offer.count, gap.offer.base_offset
        ),
        Frame::Landed(landed) => format!(
            "Landed {} of stream {} up to {}",
            landed.request, landed.stream, landed.landed
        ),
        Frame::Refused(refused) => format!(
            "Refused {} of stream {}: {}; E is {}",
            refused.request, refused.stream, refused.reason, refused.next
        ),
        Frame::Fork(fork) => format!(
            "Fork of stream {} from {} ({})",
            fork.stream, fork.request.from, fork.request.reason
        ),
        Frame::Granted(granted) => {
            let streams = granted.streams.iter().map(|stream| {
                let refused = stream.refused.map_or("", |_| " refused");
                let (stream, next) = (stream.stream, stream.next);
                format!("stream {stream} at {next}{refused}")
            });
            format!("Granted ({})", streams.collect::<Vec<_>>().join(", "))
        }
        other => other.name().to_owned(),
    }
}
