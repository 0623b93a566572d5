//! Clients that write down all that they ask and are told: producers, idempotent and not, and readers.

mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_system_tests::kafka_client::{Connection, Failure};
use tidegate_system_tests::log_history::{Kind, Operation, Outcome};
use tidegate_system_tests::random::Random;
use values::{Producer, batch, number};

pub const TOPIC: &str = "history";
pub const PARTITIONS: u64 = 3;

/// Longer than the store fails at a time: who gives up sooner only sees less.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two tries to reach a broker that is not there.
const KNOCK_EVERY: Duration = Duration::from_millis(20);

const FETCH_WAIT_MAX_MS: u64 = 20;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const CORRUPT_MESSAGE: i16 = 2;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;

/// One of so many batches of producers without idempotence is broken, and must be refused.
const BROKEN_ONE_IN: u64 = 40;

/// One of so many batches is sent by a client that goes before the answer comes: it may be there, as after a kill.
const UNHEARD_ONE_IN: u64 = 20;

/// In one of so many cases an idempotent producer that got no answer gives up, and begins anew.
const GIVES_UP_ONE_IN: u64 = 6;

/// What all clients share.
pub struct Shared {
    kafka: SocketAddr,
    began: Instant,
    stopped: AtomicBool,
    next_value: AtomicU64,
    operations: AtomicU64,
    acknowledged: AtomicU64,
    /// What a broker that keeps its promises does not say.
    complaints: Mutex<Vec<String>>,
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// All clients, at work.
pub struct Clients {
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Operation>>>,
}

impl Clients {
    /// Of each kind so many.
    pub fn start(kafka: SocketAddr, of_each: u32, random: &mut Random) -> Self {
        let shared = Arc::new(Shared {
            kafka,
            began: Instant::now(),
            stopped: AtomicBool::new(false),
            next_value: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            complaints: Mutex::default(),
        });
        let kinds: [fn(Client) -> Vec<Operation>; 3] = [
            |client| client.produce_until_stopped(true),
            |client| client.produce_until_stopped(false),
            Client::read_until_stopped,
        ];
        let clients = (0..of_each).flat_map(|_| kinds).zip(0..);
        let threads = clients.map(|(run, number)| {
            let client = Client::new(number, Arc::clone(&shared), Random::seeded(random.number()));
            thread::spawn(move || run(client))
        });
        Self {
            threads: threads.collect(),
            shared,
        }
    }

    /// Ends all, and reads each partition to its end; the whole history, and what no broker should have said.
    pub fn stop(self) -> (Vec<Operation>, Vec<String>) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let mut history = Vec::new();
        let count = self.threads.len() as u32;
        for thread in self.threads {
            history.extend(thread.join().expect("a client does not panic"));
        }
        let mut last = Client::new(count, Arc::clone(&self.shared), Random::seeded(0));
        for partition in 0..PARTITIONS as i32 {
            last.read_all(partition);
        }
        history.extend(last.history);
        let complaints = self.shared.complaints.lock().expect("no panic under it");
        (history, complaints.clone())
    }
}

/// One client, with one connection.
struct Client {
    number: u32,
    shared: Arc<Shared>,
    random: Random,
    connection: Option<Connection>,
    history: Vec<Operation>,
}

impl Client {
    fn new(number: u32, shared: Arc<Shared>, random: Random) -> Self {
        Self {
            number,
            shared,
            random,
            connection: None,
            history: Vec::new(),
        }
    }

    /// Asks over its connection, or over a new one.
    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(self.shared.kafka, PATIENCE)?);
        }
        let connection = self.connection.as_mut().expect("just opened");
        let answer = ask(connection);
        if matches!(answer, Err(Failure::NoAnswer(_))) {
            self.connection = None;
        }
        answer
    }

    /// Asks until there is an answer without an error; `None` where all are stopped before.
    fn insist<T>(
        &mut self,
        ask: impl Fn(&mut Connection) -> Result<T, Failure> + Copy,
    ) -> Option<T> {
        while !self.shared.is_stopped() {
            match self.ask(ask) {
                Ok(found) => return Some(found),
                Err(_) => thread::sleep(KNOCK_EVERY),
            }
        }
        None
    }

    fn record(&mut self, partition: i32, began_ns: u64, kind: Kind) {
        self.history.push(Operation {
            client: self.number,
            partition,
            began_ns,
            ended_ns: self.shared.now_ns(),
            kind,
        });
        self.shared.operations.fetch_add(1, Ordering::Relaxed);
    }

    fn produce_until_stopped(mut self, is_idempotent: bool) -> Vec<Operation> {
        let mut producer = None;
        while !self.shared.is_stopped() {
            let partition = self.random.below(PARTITIONS) as i32;
            if is_idempotent && producer.is_none() {
                producer = self.insist(Connection::producer_id).map(Producer::new);
                continue;
            }
            let value = self.shared.next_value.fetch_add(1, Ordering::Relaxed);
            let began_ns = self.shared.now_ns();
            let outcome = match &mut producer {
                Some(known) => {
                    let (outcome, goes_on) = self.produce_once(known, partition, value);
                    if !goes_on {
                        producer = None;
                    }
                    outcome
                }
                None => self.produce_plain(partition, value),
            };
            if let Outcome::Acknowledged(_) = outcome {
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            self.record(partition, began_ns, Kind::Produce { value, outcome });
        }
        self.history
    }

    /// Sends a value, and again where no answer came, as the same batch; and whether the producer's numbers can go on.
    fn produce_once(
        &mut self,
        producer: &mut Producer,
        partition: i32,
        value: u64,
    ) -> (Outcome, bool) {
        let batch = batch(value, Some(producer.sequence(partition)));
        self.go_unheard(partition, &batch);
        loop {
            let answer = self.ask(|broker| broker.produce(TOPIC, partition, batch.clone()));
            match answer {
                Ok(offset) => {
                    producer.count(partition);
                    return (Outcome::Acknowledged(offset), true);
                }
                Err(Failure::Refused(OUT_OF_ORDER_SEQUENCE_NUMBER)) => {
                    let said = format!("partition {partition}, {value}: a sequence is missing");
                    let complaints = self.shared.complaints.lock();
                    complaints.expect("no panic under it").push(said);
                    return (Outcome::Unknown, false);
                }
                Err(_) => thread::sleep(KNOCK_EVERY),
            }
            if self.shared.is_stopped() || self.random.below(GIVES_UP_ONE_IN) == 0 {
                return (Outcome::Unknown, false);
            }
        }
    }

    /// Sends a value once, whatever comes of it.
    fn produce_plain(&mut self, partition: i32, value: u64) -> Outcome {
        let mut batch = batch(value, None);
        let is_broken = self.random.below(BROKEN_ONE_IN) == 0;
        if is_broken {
            let mut bytes = batch.to_vec();
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
            batch = bytes.into();
        }
        if !is_broken && self.go_unheard(partition, &batch) {
            return Outcome::Unknown;
        }
        let answer = self.ask(|broker| broker.produce(TOPIC, partition, batch));
        match answer {
            Ok(offset) => Outcome::Acknowledged(offset),
            Err(Failure::Refused(CORRUPT_MESSAGE)) => Outcome::Refused,
            Err(_) => {
                thread::sleep(KNOCK_EVERY);
                // What is broken must never be there, whether or not that was said.
                match is_broken {
                    true => Outcome::Refused,
                    false => Outcome::Unknown,
                }
            }
        }
    }

    /// By chance sends a batch, and goes; whether it did.
    fn go_unheard(&mut self, partition: i32, batch: &Bytes) -> bool {
        if self.random.below(UNHEARD_ONE_IN) != 0 {
            return false;
        }
        let Some(connection) = self.connection.take() else {
            return false;
        };
        connection.produce_and_go(TOPIC, partition, batch.clone());
        true
    }

    fn read_until_stopped(mut self) -> Vec<Operation> {
        let mut next: BTreeMap<i32, i64> = BTreeMap::new();
        while !self.shared.is_stopped() {
            let partition = self.random.below(PARTITIONS) as i32;
            let position = next.get(&partition).copied().unwrap_or(0);
            let read = match self.random.below(8) {
                0 => self.look_at_end(partition),
                1 => {
                    let from = self.random.below(position as u64 + 1) as i64;
                    self.fetch(partition, from)
                }
                _ => self.fetch(partition, position),
            };
            match read {
                Ok(to) => drop(next.insert(partition, position.max(to))),
                Err(Failure::Refused(OFFSET_OUT_OF_RANGE)) => {
                    // The log ends before: where it does is an observation, too.
                    if let Ok(end) = self.look_at_end(partition) {
                        next.insert(partition, end.min(position));
                    }
                }
                Err(_) => thread::sleep(KNOCK_EVERY),
            }
        }
        self.history
    }

    /// Fetches once; where it has read to.
    fn fetch(&mut self, partition: i32, from: i64) -> Result<i64, Failure> {
        let wait = Duration::from_millis(self.random.below(FETCH_WAIT_MAX_MS));
        let began_ns = self.shared.now_ns();
        let fetched = self.ask(|broker| broker.fetch(TOPIC, partition, from, wait))?;
        let records: Vec<_> = fetched
            .records
            .iter()
            .map(|(offset, value)| (*offset, number(value)))
            .collect();
        let to = records.last().map_or(from, |(last, _)| last + 1);
        let kind = Kind::Fetch {
            from,
            records,
            end: fetched.high_watermark,
        };
        self.record(partition, began_ns, kind);
        Ok(to)
    }

    /// Asks where a partition ends: a fetch without records.
    fn look_at_end(&mut self, partition: i32) -> Result<i64, Failure> {
        let began_ns = self.shared.now_ns();
        let end = self.ask(|broker| broker.end(TOPIC, partition))?;
        let kind = Kind::Fetch {
            from: end,
            records: Vec::new(),
            end,
        };
        self.record(partition, began_ns, kind);
        Ok(0)
    }

    /// Reads a partition from its beginning to its end, as one operation, of a broker that nothing is done to any more.
    fn read_all(&mut self, partition: i32) {
        let deadline = Instant::now() + PATIENCE * 3;
        let began_ns = self.shared.now_ns();
        let (mut all, mut next) = (Vec::new(), 0);
        loop {
            let fetched = self.ask(|broker| broker.fetch(TOPIC, partition, next, KNOCK_EVERY));
            match fetched {
                Ok(fetched) if next >= fetched.high_watermark => {
                    let (records, end) = (all, fetched.high_watermark);
                    let from = 0;
                    return self.record(partition, began_ns, Kind::Fetch { from, records, end });
                }
                Ok(fetched) => {
                    let found = fetched.records.iter();
                    all.extend(found.map(|(offset, value)| (*offset, number(value))));
                    next = all.last().map_or(0, |(last, _)| last + 1);
                }
                Err(error) => {
                    assert!(Instant::now() < deadline, "partition {partition}: {error}");
                    thread::sleep(KNOCK_EVERY);
                }
            }
            assert!(
                Instant::now() < deadline,
                "partition {partition} has no end"
            );
        }
    }
}
