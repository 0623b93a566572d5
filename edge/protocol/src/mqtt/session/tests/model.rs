//! Server, network and client as one, moved on by steps: packets arrive or are lost, commits
//! happen or are lost, and at the end both sides must come to rest with every promise kept.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::BytesMut;
use proptest::{prelude::*, sample::select};

use super::{
    client::{Client, Violated, message, number},
    server::{Server, Wait},
    *,
};
use crate::mqtt::codec::{Decoder, Packet, Version};

/// Rounds in which server and client must come to rest.
const ROUNDS_MAX: usize = 1_000;

/// More than are ever under way at once.
const PACKETS_MAX: usize = 1_000;

/// Of those messages that expire.
const MESSAGE_EXPIRY_S: u64 = 8;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Another client's message, for ours or not.
    Append(Qos, bool),
    /// Our client publishes.
    Publish(Qos),
    /// So many packets arrive.
    ToServer(usize),
    ToClient(usize),
    /// The server reads its log.
    Read,
    Commit,
    Cut,
    /// So many of the frames that are not durable survive.
    Crash(usize),
    /// With this receive maximum.
    Connect(u16),
    /// The subscription is replaced by one of this QoS.
    Subscribe(Qos),
    /// So many seconds go by.
    Pass(u64),
    /// All that can move moves once.
    Round,
    /// The client's application becomes slow, and is done with so many messages.
    Slow(usize),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let qos = || select(vec![Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce]);
    prop_oneof![
        6 => (qos(), prop::bool::weighted(0.8)).prop_map(|(qos, ours)| Step::Append(qos, ours)),
        1 => Just(Step::Append(Qos::AtMostOnce, true)),
        3 => qos().prop_map(Step::Publish),
        8 => (1..5_usize).prop_map(Step::ToServer),
        8 => (1..5_usize).prop_map(Step::ToClient),
        6 => Just(Step::Read),
        6 => Just(Step::Commit),
        2 => Just(Step::Cut),
        2 => (0..4_usize).prop_map(Step::Crash),
        4 => (1..5_u16).prop_map(Step::Connect),
        1 => qos().prop_map(Step::Subscribe),
        1 => (1..MESSAGE_EXPIRY_S).prop_map(Step::Pass),
        4 => (0..3_usize).prop_map(Step::Slow),
        4 => Just(Step::Round),
    ]
}

pub(super) struct Model {
    server: Server,
    client: Client,
    to_server: VecDeque<Packet>,
    to_client: VecDeque<Packet>,
    decoder: Decoder,
    appended: u64,
}

impl Model {
    pub(super) fn new(version: Version, broken: Option<Wait>) -> Self {
        Self {
            server: Server::new(broken),
            client: Client::new(version),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            decoder: Decoder::client(version, u32::MAX),
            appended: 0,
        }
    }

    pub(super) fn run(mut self, steps: Vec<Step>) -> Result<(), Violated> {
        for step in steps {
            self.step(step)?;
        }
        self.rest()?;
        // What nobody waited for is lost, and costs at most a repetition.
        self.step(Step::Crash(0))?;
        self.rest()
    }

    fn step(&mut self, step: Step) -> Result<(), Violated> {
        match step {
            Step::Append(qos, ours) => {
                let topic = if ours { "out/a" } else { "elsewhere" };
                let mut message = message(topic, self.appended);
                if self.appended % 7 == 6 {
                    message.properties.message_expiry_interval_s = Some(MESSAGE_EXPIRY_S as u32);
                }
                self.server.append(qos, message);
                self.appended += 1;
            }
            Step::Publish(qos) => {
                let packets = self.client.publish(qos);
                self.to_server.extend(packets);
            }
            Step::ToServer(packets) => self.reach_server(packets),
            Step::ToClient(packets) => self.reach_client(packets)?,
            Step::Read => self.server.read(),
            Step::Commit => self.server.commit(),
            Step::Cut => {
                self.server.cut();
                self.disconnected();
            }
            Step::Crash(lucky) => {
                self.server.crash(lucky);
                self.disconnected();
            }
            Step::Connect(window) => self.connect(window),
            Step::Subscribe(qos) => self.server.subscribe(qos),
            Step::Slow(done) => {
                self.client.slow = true;
                self.to_server.extend(self.client.acknowledge(done));
            }
            Step::Round => self.round()?,
            Step::Pass(seconds) => self.server.pass(Duration::from_secs(seconds)),
        }
        self.server.check()
    }

    fn connect(&mut self, window: u16) {
        self.server.cut();
        self.disconnected();
        self.server.connect();
        self.to_server.push_back(self.client.connect(window));
    }

    fn disconnected(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        self.client.disconnected();
    }

    fn reach_server(&mut self, packets: usize) {
        for _ in 0..packets {
            if !self.server.can_read() {
                break;
            }
            if let Some(packet) = self.to_server.pop_front() {
                self.server.handle_packet(packet);
            }
        }
    }

    fn reach_client(&mut self, packets: usize) -> Result<(), Violated> {
        let mut bytes = BytesMut::new();
        self.server.transmit(&mut bytes);
        while let Some(packet) = self.decoder.decode(&mut bytes).unwrap() {
            self.to_client.push_back(packet);
        }
        for _ in 0..packets {
            if let Some(packet) = self.to_client.pop_front() {
                let answers = self.client.handle_packet(packet)?;
                self.to_server.extend(answers);
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<(), Violated> {
        self.reach_server(PACKETS_MAX);
        self.server.commit();
        self.server.read();
        self.reach_client(PACKETS_MAX)?;
        self.server.check()
    }

    /// Goes on without faults until nobody has anything to do, and then checks all.
    fn rest(&mut self) -> Result<(), Violated> {
        self.client.slow = false;
        self.to_server.extend(self.client.acknowledge(usize::MAX));
        for _ in 0..ROUNDS_MAX {
            if self.server.connection.is_none() {
                self.connect(4);
            }
            self.round()?;
            let idle = self.to_server.is_empty() && self.client.is_idle();
            if idle && self.server.is_idle() {
                return self.check();
            }
        }
        Err("it does not come to rest".to_owned())
    }

    fn check(&self) -> Result<(), Violated> {
        self.check_deliveries()?;
        self.check_publishes()
    }

    /// What is in the log for our client has reached it.
    fn check_deliveries(&self) -> Result<(), Violated> {
        let mut times: BTreeMap<u64, Vec<Qos>> = BTreeMap::new();
        let mut firsts = Vec::new();
        for (number, qos) in &self.client.delivered {
            let times = times.entry(*number).or_default();
            times.push(*qos);
            if times.len() == 1 && *qos > Qos::AtMostOnce {
                firsts.push(*number);
            }
        }
        if !firsts.is_sorted() {
            return Err(format!("out of order: {firsts:?}"));
        }
        let log = self.server.log.iter();
        for logged in log.filter(|logged| logged.message.topic == "out/a") {
            let number = number(&logged.message);
            let times = times.remove(&number).unwrap_or_default();
            let refused = self.client.refused.contains(&number);
            let may_miss = refused || logged.expires_at.is_some();
            if !kept(logged.qos, &times, may_miss) {
                return Err(format!("{:?} {number} was delivered {times:?}", logged.qos));
            }
        }
        match times.keys().next() {
            Some(number) => Err(format!("{number} was delivered and is not in the log")),
            None => Ok(()),
        }
    }

    /// What our client published is in the log.
    fn check_publishes(&self) -> Result<(), Violated> {
        let mut times = BTreeMap::new();
        let mut firsts = Vec::new();
        let own = self.server.log.iter();
        for logged in own.filter(|logged| logged.message.topic == "in") {
            let number = number(&logged.message);
            let times = times.entry(number).or_insert(0);
            *times += 1;
            if *times == 1 {
                firsts.push(number);
            } else if logged.qos == Qos::ExactlyOnce {
                return Err(format!("QoS 2 {number} is in the log again"));
            }
        }
        match firsts.into_iter().eq(0..self.client.published) {
            true => Ok(()),
            false => Err(format!(
                "of {} published the log has {times:?}",
                self.client.published
            )),
        }
    }
}

/// Whether the times that a message reached the application are what its QoS allows. Under a
/// subscription of QoS 1 it may come more than once, but after QoS 2 nothing more may come.
fn kept(qos: Qos, times: &[Qos], may_miss: bool) -> bool {
    if qos == Qos::AtMostOnce {
        return true;
    }
    let (before, last) = match times {
        [] => return may_miss,
        [before @ .., last] => (before, last),
    };
    let at_least_once = before.iter().all(|qos| *qos == Qos::AtLeastOnce);
    at_least_once && *last <= qos
}
