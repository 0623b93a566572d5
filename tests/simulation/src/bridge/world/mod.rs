//! One run: nodes, links and a cloud, moved on by random steps; and at the end a time without faults,
//! in which everything must come to rest.

mod hubs;
mod links;
mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::hub::HubConnection;
use tidegate_bridge_protocol::sender::Alarm;
use tidegate_cloud_protocol::ledger::Command;
use tidegate_cloud_protocol::ledger::command::{Begin, CreateTopic};
use tidegate_edge_journal::media::FaultyMedium;
use tidegate_shared::id::{EdgeId, SessionEpoch, StoreId, TopicId, TopicName};

use super::cases::{Case, CaseCounts};
use super::cloud::{Entry, Hub, HubEnd, OrderedLog};
use super::described::described;
use super::link::Link;
use super::node::{Node, Report, STREAMS};
use super::truth::{History, Truth};
use super::{Break, EDGES, Plan, Step};
use crate::random::Random;
use crate::trace::Trace;
use crate::{Stop, violated};
use links::is_alarming;

const HUBS: usize = 2;

/// The number of the first step after faults have ended.
const REST_FIRST: u64 = 1 << 32;

/// What chance is asked for: each part of each step has its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::bridge) enum Part {
    Begin,
    Time,
    Links,
    Hubs,
    Faults,
    Operator,
    Order,
    End,
    Node(usize),
}

impl Part {
    fn number(self) -> u64 {
        match self {
            Self::Begin => 0,
            Self::Time => 1,
            Self::Links => 2,
            Self::Hubs => 3,
            Self::Faults => 4,
            Self::Operator => 5,
            Self::Order => 6,
            Self::End => 7,
            Self::Node(at) => 8 + at as u64,
        }
    }
}

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
    /// The largest index of a journal, and its largest tables of boundaries, in sixty days offline.
    pub index_bytes_max: u64,
    pub boundary_bytes_max: u64,
    /// Log files of a journal that may have twelve.
    pub log_files_max: u64,
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
        self.log_files_max = self.log_files_max.max(other.log_files_max);
        self.index_bytes_max = self.index_bytes_max.max(other.index_bytes_max);
        self.boundary_bytes_max = self.boundary_bytes_max.max(other.boundary_bytes_max);
    }
}

#[derive(Debug)]
pub struct World {
    pub(in crate::bridge) random: Random,
    pub(in crate::bridge) trace: Trace,
    pub(in crate::bridge) now_ms: u64,
    start: Instant,
    seed: u64,
    steps: Vec<Step>,
    edges: [bool; EDGES],
    /// Under way.
    current: Step,
    pub(in crate::bridge) nodes: Vec<Node>,
    pub(in crate::bridge) links: BTreeMap<u64, Link>,
    next_link: u64,
    pub(in crate::bridge) log: OrderedLog,
    pub(in crate::bridge) hubs: Vec<Option<Hub>>,
    hub_lives: u64,
    pub(in crate::bridge) log_stalls_until_ms: u64,
    pub(in crate::bridge) truth: Truth,
    pub(in crate::bridge) cases: CaseCounts,
    pub(in crate::bridge) tally: Tally,
    pub(in crate::bridge) is_resting: bool,
    recycles_early: bool,
    next_payload: u64,
    /// What the cloud and the nodes were copied as, to be restored.
    pub(in crate::bridge) cloud_backup: Option<usize>,
    pub(in crate::bridge) backups: BTreeMap<usize, (FaultyMedium, History)>,
    /// Edges that were restored or cloned, or whose store was lost: only their streams may fork, as
    /// long as the cloud itself is not restored.
    pub(in crate::bridge) restored: BTreeSet<EdgeId>,
    pub(in crate::bridge) cloud_was_restored: bool,
    pub(in crate::bridge) enabled: Vec<Case>,
    next_topic: u128,
}

impl World {
    pub fn new(plan: &Plan) -> Self {
        Self {
            random: Random::of(plan.seed, 0, Part::Begin.number()),
            trace: Trace::of_lines(plan.lines_max),
            now_ms: 1_000,
            start: Instant::now(),
            seed: plan.seed,
            steps: plan.steps.clone(),
            edges: plan.edges,
            current: Step {
                number: 0,
                fails: false,
                publishes: false,
            },
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
            restored: BTreeSet::new(),
            cloud_was_restored: false,
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
        for step in self.steps.clone() {
            self.step(step)?;
        }
        self.rest()?;
        self.check_end()
    }

    /// From here on chance is that of a part of the current step.
    pub(in crate::bridge) fn chance_of(&mut self, part: Part) {
        self.random = Random::of(self.seed, self.current.number, part.number());
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
            node.is_removed = !self.edges[number];
            self.nodes.push(node);
        }
        Ok(())
    }

    pub(in crate::bridge) fn start_hub(&mut self, number: usize) -> Result<Hub, Stop> {
        self.hub_lives += 1;
        Hub::start(number, self.hub_lives, &self.log)
            .or_else(|what| violated("a hub replays the log", what))
    }

    /// Puts a command of an operator into the log.
    pub(in crate::bridge) fn admin(&mut self, command: Command) {
        let mut encoded = BytesMut::new();
        command.encode(&mut encoded);
        self.log.entries.push(Entry {
            command: encoded.freeze(),
            batches: Vec::new(),
            proposal: None,
        });
    }

    pub(in crate::bridge) fn create_topic(&mut self, name: &str, partitions: u32) {
        let topic_id = TopicId(self.next_topic);
        self.next_topic += 1;
        let name = TopicName::new(name).expect("a name");
        self.admin(Command::CreateTopic(CreateTopic {
            name,
            topic_id,
            partitions,
        }));
    }

    pub(in crate::bridge) fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    pub(in crate::bridge) fn note(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        self.trace.note(format!("{:>9} ms  {line}", self.now_ms));
    }

    fn step(&mut self, step: Step) -> Result<(), Stop> {
        self.current = step;
        self.chance_of(Part::Time);
        self.now_ms += match self.random.below(100) {
            0 => self.random.between(1_000, 40_000),
            1..30 => self.random.below(200),
            _ => self.random.below(10),
        };
        for node in 0..self.nodes.len() {
            self.chance_of(Part::Node(node));
            self.run_node(node)?;
        }
        self.chance_of(Part::Links);
        self.run_links()?;
        self.chance_of(Part::Hubs);
        self.run_hubs()?;
        if step.fails {
            self.chance_of(Part::Faults);
            self.fail_somewhere()?;
        }
        self.chance_of(Part::Operator);
        self.operate()
    }

    fn run_node(&mut self, at: usize) -> Result<(), Stop> {
        if self.nodes[at].is_removed {
            return Ok(());
        }
        if self.random.percent(25) && self.current.publishes {
            self.publish(at);
        }
        let now = self.now();
        let node = &self.nodes[at];
        let wants = node.wants_commit();
        if wants && self.random.percent(60) && !self.commit(at)? {
            return Ok(());
        }
        if self.random.percent(4) {
            let checkpoint = self.random.percent(30);
            if !self.keep_house(at, checkpoint)? {
                return Ok(());
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
        self.transmit(at)?;
        self.check_limits(at)?;
        self.connect(at)
    }

    /// Commits at a node; `false` where the power went in the middle of it.
    pub(in crate::bridge) fn commit(&mut self, at: usize) -> Result<bool, Stop> {
        let (refused, now) = (self.nodes[at].refused, self.now());
        if !self.nodes[at].commit(now)? {
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
        let stream = self.random.below(STREAMS.len() as u64) as usize;
        let (count, first) = (self.random.between(1, 6), self.next_payload);
        let name = STREAMS[stream].0;
        self.note(|| {
            format!("node {at}: devices publish {count} to {name}, from number {first} on")
        });
        for _ in 0..count {
            let bytes = match self.random.percent(10) {
                true => self.random.below(3_000),
                false => self.random.below(200),
            };
            let payload = self.next_payload;
            self.next_payload += 1;
            self.nodes[at].publish(stream, payload, bytes as usize);
        }
    }

    pub(in crate::bridge) fn publish_large(&mut self, at: usize, stream: usize) {
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
