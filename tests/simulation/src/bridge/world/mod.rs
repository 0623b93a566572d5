//! One run: nodes, links and a cloud, moved on by random steps; and at the end a time without faults,
//! in which everything must come to rest.

mod hubs;
mod links;
mod nodes;
mod part;
mod rest;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidegate_cloud_protocol::ledger::Command;
use tidegate_cloud_protocol::ledger::command::{Begin, CreateTopic};
use tidegate_edge_journal::media::FaultyMedium;
use tidegate_shared::id::{EdgeId, StoreId, TopicId, TopicName};

use super::cases::{Case, CaseCounts};
use super::cloud::{Entry, Hub, OrderedLog};
use super::link::Link;
use super::node::Node;
use super::truth::{History, Truth};
use super::{Break, EDGES, Plan, Step};
use crate::random::Random;
use crate::trace::Trace;
use crate::{Stop, violated};
pub(in crate::bridge) use part::Part;
pub use tally::Tally;

const HUBS: usize = 2;

/// Topics that there are from the start, and their partitions.
pub(in crate::bridge) const TOPICS: [(&str, u32); 3] =
    [("telemetry", 3), ("logs", 2), ("readings", 2)];

/// The number of the first step after faults have ended.
const REST_FIRST: u64 = 1 << 32;

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
        for (topic, partitions) in TOPICS {
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
            changes: Vec::new(),
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
}
