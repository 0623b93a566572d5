//! One run: clients, network, broker and medium, moved on by random steps; lives that end when the power
//! goes; and at the end a time without faults, in which every promise must be kept.

mod network;
mod plan;
mod rest;

use std::time::{Duration, Instant};

use tidegate_edge_journal::media::{FaultyMedium, Survival};
use tidegate_edge_protocol::mqtt::codec::Qos;

use crate::audit::Audit;
use crate::broker::{Broker, ROUTES};
use crate::client::Client;
use crate::medium::SimulatedMedium;
use crate::power::{CrashPoint, Power};
use crate::promises::{ClientIndex, Promises};
use crate::random::Random;
use crate::rule::Rule;
use crate::trace::Trace;
use crate::{Stop, violated};
use network::Wire;
use plan::End;

/// Steps of a run before it comes to rest.
const STEPS: u64 = 3_000;

/// Openings that one cut may take, since the power can go again while the journal is opened.
const OPENINGS_MAX: usize = 20;

const TOPICS: [&str; 9] = [
    "plant/1/temperature",
    "plant/2/temperature",
    "plant/1",
    "ship/1/position",
    "ship/2/position",
    "well/1/flow",
    "well/2/flow",
    "depot/1",
    "depot/2/stock",
];

const FILTERS: [&str; 9] = [
    "#",
    "plant/#",
    "+/1/#",
    "ship/+/position",
    "+/2/+",
    "well/1/flow",
    "plant/1/temperature",
    "depot/+",
    "+/+/flow",
];

/// How much happened in a run: one in which little does shows little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub published: u64,
    pub delivered: u64,
    pub power_cuts: u64,
    pub commits: u64,
    pub checkpoints: u64,
    /// Publishes, by a full journal.
    pub refused: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.power_cuts += other.power_cuts;
        self.commits += other.commits;
        self.checkpoints += other.checkpoints;
        self.refused += other.refused;
    }
}

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Role {
    publishes: bool,
    subscribes: bool,
    /// It stays away for long.
    is_seldom_there: bool,
}

#[derive(Debug)]
pub struct World {
    random: Random,
    inner: FaultyMedium,
    medium: SimulatedMedium,
    power: Power,
    broken: Option<Rule>,
    broker: Option<Broker>,
    clients: Vec<Client>,
    roles: Vec<Role>,
    /// Few in some runs, so that the journal is full now and then.
    log_files_max: usize,
    wires: Vec<Wire>,
    /// Connections whose client has gone, and the broker does not know.
    half_open: Vec<u64>,
    next_link: u64,
    promises: Promises,
    audit: Audit,
    trace: Trace,
    counts: Counts,
    started_at: Instant,
    passed: Duration,
    opened_at: Duration,
    step: u64,
    /// No faults any more.
    is_resting: bool,
    /// The power goes at this step, if it has not at a named point before.
    cut_at: u64,
}

impl World {
    pub fn new(seed: u64, broken: Option<Rule>, power: Power) -> Self {
        let mut random = Random::new(seed);
        let inner = FaultyMedium::new(random.number());
        if broken == Some(Rule::Fsync) {
            inner.ignore_sync();
        }
        let roles = roles(&mut random);
        let clients = (0..roles.len()).map(|index| Client::new(index, &mut random));
        let clients: Vec<_> = clients.collect();
        let log_files_max = match random.percent(40) {
            true => random.between(8, 24) as usize,
            false => 1_024,
        };
        Self {
            medium: SimulatedMedium::new(inner.clone(), power.clone()),
            inner,
            power,
            broken,
            broker: None,
            wires: roles.iter().map(|_| Wire::default()).collect(),
            half_open: Vec::new(),
            next_link: 0,
            promises: Promises::new(roles.len()),
            audit: Audit::default(),
            trace: Trace::default(),
            counts: Counts::default(),
            started_at: Instant::now(),
            passed: Duration::ZERO,
            opened_at: Duration::ZERO,
            step: 0,
            cut_at: 0,
            is_resting: false,
            clients,
            roles,
            log_files_max,
            random,
        }
    }

    /// The trace, and what the run did.
    pub fn into_outcome(self) -> (Trace, Counts) {
        let (published, delivered) = self.promises.counts();
        let counts = Counts {
            published: published as u64,
            delivered: delivered as u64,
            ..self.counts
        };
        (self.trace, counts)
    }

    pub fn run(&mut self) -> Result<(), Stop> {
        self.make_wishes();
        self.open()?;
        while self.step < STEPS {
            self.step += 1;
            match self.random_step() {
                Err(Stop::PowerGone) => self.end_life()?,
                stepped => stepped?,
            }
        }
        self.rest()?;
        // What nobody waited for is lost, and costs at most a repetition.
        self.end_life_by(End::PowerCut(Survival::Nothing))?;
        self.rest()?;
        let (published, delivered) = self.promises.counts();
        self.note(format!("{published} published, {delivered} delivered"));
        Ok(())
    }

    fn note(&mut self, what: String) {
        let line = format!("{:5} {what}", self.step);
        self.trace.note(line);
    }

    fn now(&self) -> Instant {
        self.started_at + self.passed
    }

    fn broker(&mut self) -> Result<&mut Broker, Stop> {
        self.broker.as_mut().ok_or(Stop::PowerGone)
    }

    /// What subscribers will ask for, some of it at once.
    fn make_wishes(&mut self) {
        for client in 0..self.clients.len() {
            if !self.roles[client].subscribes {
                continue;
            }
            for _ in 0..self.random.between(1, 4) {
                self.wish(client);
            }
        }
    }

    fn wish(&mut self, client: ClientIndex) {
        // Some have one QoS for all, some have both.
        let qos = match client % 3 {
            0 | 1 => Qos::ExactlyOnce,
            _ if client.is_multiple_of(2) => Qos::AtLeastOnce,
            _ => *self.random.pick(&[Qos::AtLeastOnce, Qos::ExactlyOnce]),
        };
        let filter = *self.random.pick(&FILTERS);
        self.clients[client].wish(filter, qos, &mut self.promises);
    }

    fn random_step(&mut self) -> Result<(), Stop> {
        if self.power.reach(CrashPoint::Anywhere) {
            return Err(Stop::PowerGone);
        }
        if self.step >= self.cut_at {
            self.power.arm(CrashPoint::Anywhere, 1);
        }
        let client = self.random.below(self.clients.len() as u64) as usize;
        match self.random.below(100) {
            0..12 => self.publish(client),
            12..55 => self.turn(client)?,
            55..70 => self.commit()?,
            70..76 => self.checkpoint()?,
            76..81 => self.land()?,
            81..84 => self.application_turn(client),
            84..87 => self.store_cursor(client)?,
            87..95 => self.come_or_go(client)?,
            95..97 => self.close_half_open()?,
            97..98 => self.broker()?.sweep()?,
            98..99 => self.change_subscriptions(client),
            _ => self.pass_time()?,
        }
        Ok(())
    }

    fn publish(&mut self, client: ClientIndex) {
        if !self.roles[client].publishes {
            return;
        }
        for _ in 0..self.random.between(1, 4) {
            let topic = *self.random.pick(&TOPICS);
            let qos = match self.random.below(10) {
                0 => Qos::AtMostOnce,
                1..5 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            };
            let out = &mut self.wires[client].to_server;
            let number = self.clients[client].publish(topic, qos, &mut self.promises, out);
            self.note(format!(
                "client {client} has {number} for {topic} at {qos:?}"
            ));
        }
    }

    fn commit(&mut self) -> Result<(), Stop> {
        self.broker()?.commit()?;
        let next = self.broker()?.store().reader().next_position();
        self.note(format!("committed to {}", next.0));
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Stop> {
        self.broker()?.checkpoint()?;
        let stats = self.broker()?.store().journal().stats();
        let (files, spare) = (stats.log_files, stats.log_files_spare);
        let checkpoints = stats.checkpoints;
        self.note(format!(
            "{checkpoints} checkpoints, {files} files, {spare} spare"
        ));
        Ok(())
    }

    fn land(&mut self) -> Result<(), Stop> {
        let route = self.random.below(ROUTES.len() as u64) as usize;
        let bytes_max = self.random.between(1, 16 << 10) as usize;
        self.broker()?.land(route, bytes_max)
    }

    fn application_turn(&mut self, client: ClientIndex) {
        let is_slow = self.random.percent(40);
        let messages = self.random.below(4) as usize;
        let out = &mut self.wires[client].to_server;
        self.clients[client].set_slow(is_slow);
        self.clients[client].work(messages, out);
    }

    fn change_subscriptions(&mut self, client: ClientIndex) {
        if !self.roles[client].subscribes {
            return;
        }
        let out = &mut self.wires[client].to_server;
        if self.random.percent(40) {
            let filter = *self.random.pick(&FILTERS);
            self.clients[client].unsubscribe(filter, &mut self.promises, out);
            return;
        }
        self.wish(client);
        self.clients[client].subscribe(&mut self.wires[client].to_server);
    }

    fn pass_time(&mut self) -> Result<(), Stop> {
        self.passed += Duration::from_millis(self.random.between(1, 5_000));
        let (now, since_open) = (self.now(), self.passed - self.opened_at);
        let since_open_ms = since_open.as_millis() as u64;
        self.broker()?.set_now(now, since_open_ms);
        Ok(())
    }

    /// Opens the journal, however often the power goes meanwhile.
    fn open(&mut self) -> Result<(), Stop> {
        for _ in 0..OPENINGS_MAX {
            self.arm_opening();
            let now = self.now();
            let files_max = self.log_files_max;
            let opened = Broker::open(&self.medium, &self.power, self.broken, files_max, now);
            self.power.disarm();
            match opened {
                Ok((broker, report)) => {
                    let frames = report.frames_replayed;
                    self.note(format!("opened, {frames} frames replayed"));
                    self.opened_at = self.passed;
                    self.audit.check_report(&report)?;
                    let reader = broker.store().reader();
                    self.broker = Some(broker);
                    self.audit.check_streams(&reader, &self.promises)?;
                    self.arm_life();
                    return Ok(());
                }
                Err(Stop::PowerGone) => self.end_opening(),
                Err(stop) => return Err(stop),
            }
        }
        violated("an opening comes to its end", "it never did".to_owned())
    }
}

/// Publishers, subscribers, and one that is both.
fn roles(random: &mut Random) -> Vec<Role> {
    let mut roles = Vec::new();
    let mut add = |publishes, subscribes, random: &mut Random| {
        roles.push(Role {
            publishes,
            subscribes,
            is_seldom_there: subscribes && random.percent(25),
        });
    };
    for _ in 0..random.between(1, 4) {
        add(true, false, random);
    }
    for _ in 0..random.between(2, 5) {
        add(false, true, random);
    }
    add(true, true, random);
    roles
}
