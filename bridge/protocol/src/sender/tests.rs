//! Sender and hub joined by a virtual network that drops, delays, duplicates and cuts, over a journal
//! and a ledger in memory. The ledger's rule is the real one. Every run prints its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use tidegate_shared::id::{StreamName, TopicName};
use tidegate_shared::record::{self, BatchBuilder, Compression, Compressor, Record};

use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{BoundaryHash, Incarnation};

use super::*;
use crate::frame::{GrantedStream, Landed, Refused};
use crate::hub::{HubConnection, HubError, HubEvent};
use crate::landing::{self, ForkReason, Head, Offer, RefusedReason, Verdict};

const STREAMS: u32 = 3;
const CLUSTER: ClusterIncarnation = ClusterIncarnation { counter: 1, id: 7 };

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// A journal in memory: what is in it survives a crash of the sender.
#[derive(Default)]
struct Journal {
    streams: BTreeMap<StreamId, JournalStream>,
    session_epoch: SessionEpoch,
    cluster: ClusterIncarnation,
}

struct JournalStream {
    chunks: Vec<SealedBatch>,
    local: LocalStream,
    /// Boundaries that were read to be sent: they stay provable.
    sent: BTreeMap<EdgeOffset, BoundaryHash>,
    /// Offsets that were dropped before the journal knew them to have landed.
    declared: BTreeSet<u64>,
}

impl JournalStream {
    fn next_hash(&self) -> BoundaryHash {
        let last = self.chunks.last();
        last.map_or(BoundaryHash::START, |chunk| chunk.hash_after)
    }

    /// Loses the oldest chunks, as a full journal does.
    fn drop_oldest(&mut self, chunks: usize) {
        let living = self
            .chunks
            .iter()
            .filter(|chunk| chunk.base_offset >= self.local.first.max(self.local.landed));
        let Some(last) = living.take(chunks).last() else {
            return;
        };
        let to = last.base_offset.plus(last.count);
        let from = self.local.first.max(self.local.landed);
        self.declared.extend(from.0..to.0);
        self.local.first = to;
    }
}

impl Journal {
    fn append(&mut self, id: StreamId, count: u64, next_payload: &mut u64) {
        let stream = self.streams.get_mut(&id).unwrap();
        let mut builder = BatchBuilder::new();
        for _ in 0..count {
            let value = next_payload.to_le_bytes().to_vec();
            builder.push(&Record {
                value: Some(value.into()),
                ..Record::default()
            });
            *next_payload += 1;
        }
        let base_offset = stream.local.next;
        let batch = builder.seal(
            base_offset.0 as i64,
            Compression::None,
            &mut Compressor::new(),
        );
        let hash_before = stream.next_hash();
        // Any mixing will do here: the real chain is the journal's.
        let mixed = crc(&batch) ^ hash_before.0.rotate_left(17) ^ u128::from(base_offset.0) << 64;
        let hash_after = BoundaryHash(mixed | 1);
        stream.chunks.push(SealedBatch {
            base_offset,
            count,
            hash_before,
            hash_after,
            batch,
        });
        stream.local.next = base_offset.plus(count);
    }

    fn hash_at(&self, id: StreamId, offset: EdgeOffset) -> Option<BoundaryHash> {
        let stream = &self.streams[&id];
        if offset == stream.local.next {
            return Some(stream.next_hash());
        }
        if offset == stream.local.landed {
            return Some(stream.local.landed_hash);
        }
        if offset < stream.local.first {
            return stream.sent.get(&offset).copied();
        }
        let mut chunks = stream.chunks.iter();
        let chunk = chunks.find(|chunk| chunk.base_offset == offset);
        chunk.map(|chunk| chunk.hash_before)
    }

    /// What there is to send from `from` on; what was dropped is a gap.
    fn outcome(&mut self, id: StreamId, from: EdgeOffset, random: &mut Random) -> ReadOutcome {
        let first = self.streams[&id].local.first;
        let (batches, gap) = if from < first {
            let gap = SealedGap {
                base_offset: from,
                count: first.0 - from.0,
                hash_before: self.hash_at(id, from).expect("what was sent is provable"),
                hash_after: self.hash_at(id, first).unwrap(),
                reason: GapReason::Overflow,
            };
            (Vec::new(), Some(gap))
        } else {
            (self.read(id, from, random), None)
        };
        let stream = self.streams.get_mut(&id).unwrap();
        let ends = batches
            .iter()
            .map(|batch| (batch.base_offset.plus(batch.count), batch.hash_after));
        let gap_end = gap.map(|gap| (gap.base_offset.plus(gap.count), gap.hash_after));
        stream.sent.extend(ends.chain(gap_end));
        match gap {
            Some(gap) => ReadOutcome::Gap(gap),
            None if batches.is_empty() => ReadOutcome::Failed,
            None => ReadOutcome::Batches(batches),
        }
    }

    /// Chunks from `from`, sometimes merged: boundaries between them then never reach the hub.
    fn read(&self, id: StreamId, from: EdgeOffset, random: &mut Random) -> Vec<SealedBatch> {
        let chunks = self.streams[&id]
            .chunks
            .iter()
            .filter(|c| c.base_offset >= from);
        let chunks: Vec<_> = chunks.take(random.below(4) as usize + 1).cloned().collect();
        if random.chance(500) {
            chunks
        } else {
            chunks.chunks(2).map(merge).collect()
        }
    }
}

fn crc(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u128, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3_0000_0193)
    })
}

fn merge(chunks: &[SealedBatch]) -> SealedBatch {
    let mut builder = BatchBuilder::new();
    for chunk in chunks {
        for record in record::Batch::parse(chunk.batch.clone())
            .unwrap()
            .records()
            .unwrap()
        {
            builder.push(&record.unwrap().1);
        }
    }
    let (first, last) = (&chunks[0], &chunks[chunks.len() - 1]);
    let base = first.base_offset;
    SealedBatch {
        base_offset: base,
        count: last.base_offset.0 + last.count - base.0,
        hash_before: first.hash_before,
        hash_after: last.hash_after,
        batch: builder.seal(base.0 as i64, Compression::None, &mut Compressor::new()),
    }
}

/// The ledger's part in landing, and the log behind it.
#[derive(Default)]
struct Ledger {
    newest_epoch: SessionEpoch,
    heads: BTreeMap<StreamName, Head>,
    /// By edge offset; `None` is a gap.
    logs: BTreeMap<StreamName, Vec<Option<u64>>>,
    gap_records: u64,
    duplicates: u64,
    refusals: u64,
}

impl Ledger {
    fn head(&mut self, name: &StreamName) -> Head {
        let fresh = Head {
            incarnation: Incarnation(1),
            ..Head::default()
        };
        *self.heads.entry(name.clone()).or_insert(fresh)
    }

    fn answer(&mut self, hub: &mut HubConnection, event: HubEvent) -> Result<(), HubError> {
        match event {
            HubEvent::OpenSession(_) => {
                self.newest_epoch.0 += 1;
                hub.handle_session(self.newest_epoch, CLUSTER, 0);
            }
            HubEvent::OpenStreams(streams) => {
                let granted = streams
                    .iter()
                    .map(|stream| granted(stream.stream, self.head(&stream.name)));
                hub.handle_streams(granted.collect())?;
            }
            HubEvent::ForkStream(fork) => {
                let head = Head {
                    incarnation: Incarnation(self.head(&fork.name).incarnation.0 + 1),
                    next: fork.request.from,
                    hash: fork.request.hash,
                };
                self.heads.insert(fork.name, head);
                hub.handle_streams(vec![granted(fork.stream, head)])?;
            }
            HubEvent::Land(land) => {
                let mut payloads = Vec::new();
                for record in land.batch.records().unwrap() {
                    let value = record.unwrap().1.value.unwrap();
                    payloads.push(Some(u64::from_le_bytes(value[..8].try_into().unwrap())));
                }
                let asked = (land.request, land.stream, land.name);
                return self.land(hub, asked, land.offer, payloads);
            }
            HubEvent::LandGap(land) => {
                let lost = vec![None; land.offer.count as usize];
                let asked = (land.request, land.stream, land.name);
                return self.land(hub, asked, land.offer, lost);
            }
        }
        Ok(())
    }

    fn land(
        &mut self,
        hub: &mut HubConnection,
        (request, stream, name): (u64, StreamId, StreamName),
        offer: Offer,
        payloads: Vec<Option<u64>>,
    ) -> Result<(), HubError> {
        let head = self.head(&name);
        let head = match landing::judge(&head, self.newest_epoch, &offer) {
            Verdict::Refused(reason) => {
                self.refusals += 1;
                let Head {
                    incarnation,
                    next,
                    hash,
                } = head;
                return hub.handle_refused(Refused {
                    request,
                    stream,
                    incarnation,
                    reason,
                    next,
                    hash,
                });
            }
            Verdict::Duplicate => {
                self.duplicates += 1;
                head
            }
            Verdict::Accept(after) => {
                let lost = payloads.iter().filter(|payload| payload.is_none());
                self.gap_records += lost.count() as u64;
                self.logs.entry(name.clone()).or_default().extend(payloads);
                self.heads.insert(name, after);
                after
            }
        };
        let Head {
            incarnation,
            next: landed,
            hash,
        } = head;
        let facts = Vec::new();
        let landed = Landed {
            request,
            stream,
            incarnation,
            landed,
            hash,
            facts,
        };
        hub.handle_landed(landed, 1);
        Ok(())
    }
}

fn granted(stream: StreamId, head: Head) -> GrantedStream {
    GrantedStream {
        stream,
        incarnation: head.incarnation,
        next: head.next,
        hash: head.hash,
        refused: None,
        partitions: 1,
    }
}

/// One direction: frames with the time at which each arrives.
type Wire = VecDeque<(u64, Frame)>;

struct World {
    random: Random,
    start: Instant,
    now_ms: u64,
    journal: Journal,
    sender: Sender,
    hub: Option<HubConnection>,
    ledger: Ledger,
    up: Wire,
    down: Wire,
    faulty: bool,
    payloads: BTreeMap<StreamId, Vec<u64>>,
    next_payload: u64,
    cuts: u64,
    closes: u64,
    alarms: Vec<Alarm>,
}

fn limits() -> SenderLimits {
    let parked_retry = Duration::from_millis(100);
    SenderLimits {
        reads_max: 2,
        parked_retry,
        ..SenderLimits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let streams = (0..STREAMS).map(|number| {
            let local = LocalStream {
                stream: StreamId(number),
                name: StreamName::new(format!("stream-{number}")).unwrap(),
                topic: TopicName::new("telemetry").unwrap(),
                incarnation: Incarnation(0),
                first: EdgeOffset(0),
                next: EdgeOffset(0),
                landed: EdgeOffset(0),
                landed_hash: BoundaryHash::START,
                landed_life: 0,
                priority: 0,
            };
            (
                StreamId(number),
                JournalStream {
                    chunks: Vec::new(),
                    local,
                    sent: BTreeMap::new(),
                    declared: BTreeSet::new(),
                },
            )
        });
        let journal = Journal {
            streams: streams.collect(),
            ..Journal::default()
        };
        Self {
            random: Random(seed),
            start: Instant::now(),
            now_ms: 0,
            sender: Sender::new(limits(), StoreId(1), journal.cluster, journal.session_epoch),
            journal,
            hub: None,
            ledger: Ledger::default(),
            up: Wire::new(),
            down: Wire::new(),
            faulty: true,
            payloads: BTreeMap::new(),
            next_payload: 0,
            cuts: 0,
            closes: 0,
            alarms: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn cut(&mut self) {
        self.cuts += 1;
        self.hub = None;
        self.up.clear();
        self.down.clear();
        self.sender.handle_disconnected();
    }

    /// The sender's process dies; the journal keeps what was committed.
    fn crash(&mut self) {
        self.cut();
        let journal = &self.journal;
        self.sender = Sender::new(limits(), StoreId(1), journal.cluster, journal.session_epoch);
        for stream in journal.streams.values() {
            self.sender.handle_stream(stream.local.clone());
        }
    }

    fn send(&mut self, upward: bool, frame: Frame) {
        if self.faulty && self.random.chance(20) {
            return;
        }
        let copies = if self.faulty && self.random.chance(30) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let delay = if self.faulty {
                self.random.below(20)
            } else {
                1
            };
            let at = self.now_ms + delay;
            let wire = if upward { &mut self.up } else { &mut self.down };
            // Mostly in order, as a stream is; sometimes overtaken, as it never should be.
            wire.push_back((at, frame.clone()));
        }
        if self.faulty && self.random.chance(10) {
            let wire = if upward { &mut self.up } else { &mut self.down };
            let last = wire.len() - 1;
            wire.swap(last, last / 2);
        }
    }

    fn step(&mut self) {
        self.now_ms += 1;
        if self.faulty {
            match self.random.below(1000) {
                0..3 => self.cut(),
                3..5 => self.crash(),
                5..105 => self.publish(),
                105..112 => self.drop_oldest(),
                _ => {}
            }
        }
        if self.hub.is_none() {
            self.hub = Some(HubConnection::new());
            self.sender.handle_connected();
        }
        self.sender.handle_timeout(self.now());
        self.exchange();
        self.act();
    }

    fn publish(&mut self) {
        let id = StreamId(self.random.below(u64::from(STREAMS)) as u32);
        let count = self.random.below(5) + 1;
        let first = self.next_payload;
        self.journal.append(id, count, &mut self.next_payload);
        self.payloads
            .entry(id)
            .or_default()
            .extend(first..first + count);
        self.sender
            .handle_stream(self.journal.streams[&id].local.clone());
    }

    fn drop_oldest(&mut self) {
        let id = StreamId(self.random.below(u64::from(STREAMS)) as u32);
        let chunks = self.random.below(6) as usize + 1;
        let stream = self.journal.streams.get_mut(&id).unwrap();
        stream.drop_oldest(chunks);
        self.sender.handle_stream(stream.local.clone());
    }

    fn exchange(&mut self) {
        while let Some(frame) = self.sender.poll_transmit() {
            self.send(true, frame);
        }
        while self.up.front().is_some_and(|(at, _)| *at <= self.now_ms) {
            let (_, frame) = self.up.pop_front().unwrap();
            let Some(hub) = &mut self.hub else { break };
            let mut result = hub.handle_frame(0, frame);
            while let (Ok(()), Some(event)) = (&result, hub.poll_event()) {
                result = self.ledger.answer(hub, event);
            }
            let mut answers = Vec::new();
            while let Some(frame) = hub.poll_transmit() {
                answers.push(frame);
            }
            answers
                .into_iter()
                .for_each(|frame| self.send(false, frame));
            if result.is_err() {
                self.closes += 1;
                self.cut();
            }
        }
        while self.down.front().is_some_and(|(at, _)| *at <= self.now_ms) {
            let (_, frame) = self.down.pop_front().unwrap();
            let now = self.now();
            self.sender.handle_frame(now, frame);
        }
    }

    /// The driver's part.
    fn act(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::StoreSession {
                    cluster_incarnation,
                    session_epoch,
                } => {
                    self.journal.cluster = cluster_incarnation;
                    self.journal.session_epoch = session_epoch;
                    self.sender.handle_session_stored(session_epoch);
                }
                SenderEvent::StoreGrant {
                    stream,
                    incarnation,
                } => {
                    let journal = self.journal.streams.get_mut(&stream).unwrap();
                    journal.local.incarnation = incarnation;
                    self.sender.handle_grant_stored(stream, incarnation);
                }
                SenderEvent::Prove { stream, offset } => {
                    let hash = self.journal.hash_at(stream, offset);
                    self.sender.handle_proof(stream, offset, hash);
                }
                SenderEvent::Read { streams, .. } => {
                    let reads = self.read(streams);
                    let now = self.now();
                    self.sender.handle_read(now, reads);
                }
                SenderEvent::Landed {
                    stream,
                    landed,
                    hash,
                    ..
                } => {
                    let name = &self.journal.streams[&stream].local.name;
                    assert!(landed <= self.ledger.heads[name].next, "Landed is true");
                    let local = &mut self.journal.streams.get_mut(&stream).unwrap().local;
                    (local.landed, local.landed_hash) = (landed, hash);
                    local.landed_life = CLUSTER.counter;
                }
                SenderEvent::Partitions { .. } => {}
                SenderEvent::Alarm(alarm) => self.alarms.push(alarm),
                SenderEvent::Close(_) => self.cut(),
            }
        }
    }

    /// Sometimes a read fails, and sometimes there is room for the first stream only.
    fn read(&mut self, streams: Vec<ReadRequest>) -> Vec<StreamRead> {
        let mut reads = Vec::new();
        for (index, request) in streams.into_iter().enumerate() {
            let (stream, from) = (request.stream, request.from);
            let outcome = if self.faulty && self.random.chance(20) {
                ReadOutcome::Failed
            } else if index > 0 && self.random.chance(300) {
                ReadOutcome::NoRoom
            } else {
                self.journal.outcome(stream, from, &mut self.random)
            };
            reads.push(StreamRead {
                stream,
                from,
                outcome,
            });
        }
        reads
    }

    fn check(&self) {
        for (id, payloads) in &self.payloads {
            let name = &self.journal.streams[id].local.name;
            let landed = self.ledger.logs.get(name).map_or(&[][..], |log| &log[..]);
            let declared = &self.journal.streams[id].declared;
            for (offset, landed) in landed.iter().enumerate() {
                match landed {
                    Some(payload) => assert_eq!(
                        *payload, payloads[offset],
                        "landed exactly once and in order"
                    ),
                    None => assert!(
                        declared.contains(&(offset as u64)),
                        "what is a gap was declared"
                    ),
                }
            }
        }
    }

    /// What was declared lost, and what of it had reached the hub before.
    fn declared(&self) -> (u64, u64) {
        let (mut declared, mut landed) = (0, 0);
        for stream in self.journal.streams.values() {
            declared += stream.declared.len() as u64;
            let log = self.ledger.logs.get(&stream.local.name);
            let reached = |offset: &&u64| log.is_some_and(|log| log[**offset as usize].is_some());
            landed += stream.declared.iter().filter(reached).count() as u64;
        }
        (declared, landed)
    }

    fn all_landed(&self) -> bool {
        self.journal
            .streams
            .values()
            .all(|stream| stream.local.landed == stream.local.next)
    }
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    world.crash();
    for _ in 0..5_000 {
        world.step();
        world.check();
    }
    world.faulty = false;
    world.crash();
    for _ in 0..50_000 {
        if world.all_landed() {
            break;
        }
        world.step();
    }
    world.check();
    assert!(
        world.all_landed(),
        "seed {seed}: all drains once the network is whole"
    );
    world
}

#[test]
fn everything_lands_exactly_once_whatever_the_network_does() {
    let (mut cuts, mut closes, mut duplicates, mut refusals, mut landed) = (0, 0, 0, 0, 0);
    let mut gaps = 0;
    for seed in 0..60 {
        println!("seed: {seed}");
        let world = run(seed);
        let hard = |alarm: &&Alarm| {
            matches!(
                alarm,
                Alarm::Diverged { .. } | Alarm::Parked { .. } | Alarm::Forked { .. }
            )
        };
        assert_eq!(
            world.alarms.iter().find(hard),
            None,
            "seed {seed}: no position is lost"
        );
        cuts += world.cuts;
        closes += world.closes;
        duplicates += world.ledger.duplicates;
        refusals += world.ledger.refusals;
        landed += world.next_payload;
        let (declared, reached) = world.declared();
        assert_eq!(
            declared,
            world.ledger.gap_records + reached,
            "seed {seed}: both ends' gaps add up"
        );
        gaps += world.ledger.gap_records;
    }
    println!("{gaps} in gaps");
    assert!(gaps > 500);
    println!(
        "{landed} landed, {cuts} cuts, {closes} closes, {duplicates} duplicates, {refusals} refusals"
    );
    assert!(cuts > 500 && closes > 10 && duplicates > 50 && refusals > 50 && landed > 10_000);
}

#[test]
fn a_restored_cloud_is_noticed_and_nothing_is_sent() {
    let mut sender = Sender::new(limits(), StoreId(1), CLUSTER, SessionEpoch(5));
    sender.handle_connected();
    assert!(matches!(sender.poll_transmit(), Some(Frame::Hello(_))));
    let welcome = Welcome {
        protocol_version: 1,
        session_epoch: SessionEpoch(5),
        cluster_incarnation: CLUSTER,
        time_ms: 0,
    };
    sender.handle_frame(Instant::now(), Frame::Welcome(welcome));
    assert!(matches!(
        sender.poll_event(),
        Some(SenderEvent::Alarm(Alarm::CloudRestored { .. }))
    ));
    assert_eq!(
        sender.poll_event(),
        Some(SenderEvent::Close(CloseCode::Protocol))
    );
    assert_eq!(sender.poll_transmit(), None);
}

/// A journal returns whole chunks, and so sometimes more than it was asked for.
#[test]
fn many_refused_streams_close_one_connection() {
    let mut sender = Sender::new(limits(), StoreId(1), CLUSTER, SessionEpoch(0));
    for stream in 0..5 {
        sender.handle_stream(LocalStream {
            stream: StreamId(stream),
            name: StreamName::new(format!("s{stream}")).unwrap(),
            topic: TopicName::new("t").unwrap(),
            incarnation: Incarnation(1),
            first: EdgeOffset(0),
            next: EdgeOffset(0),
            landed: EdgeOffset(0),
            landed_hash: BoundaryHash::START,
            landed_life: 1,
            priority: 0,
        });
    }
    let now = Instant::now();
    sender.handle_connected();
    let welcome = Welcome {
        protocol_version: 1,
        session_epoch: SessionEpoch(1),
        cluster_incarnation: CLUSTER,
        time_ms: 0,
    };
    sender.handle_frame(now, Frame::Welcome(welcome));
    sender.handle_session_stored(SessionEpoch(1));
    let streams = (0..5).map(|stream| GrantedStream {
        refused: Some(RefusedReason::StaleSessionEpoch),
        ..granted(StreamId(stream), Head::default())
    });
    let streams = streams.collect();
    sender.handle_frame(now, Frame::Granted(crate::frame::Granted { streams }));
    let is_close = |event: &SenderEvent| matches!(event, SenderEvent::Close(_));
    assert!(std::iter::from_fn(|| sender.poll_event()).any(|event| is_close(&event)));
    sender.handle_disconnected();
    sender.handle_connected();
    let left: Vec<_> = std::iter::from_fn(|| sender.poll_event()).collect();
    assert!(!left.iter().any(is_close), "{left:?}");
}

#[test]
fn the_window_holds_whatever_a_read_brings() {
    let limits = SenderLimits {
        window_bytes_max: 2_000,
        batch_bytes_max: 1_000,
        ..limits()
    };
    let mut world = World::new(1);
    world.faulty = false;
    world.sender = Sender::new(limits, StoreId(1), CLUSTER, SessionEpoch(0));
    let locals = world.journal.streams.values();
    locals.for_each(|stream| world.sender.handle_stream(stream.local.clone()));
    for _ in 0..400 {
        (0..5).for_each(|_| world.publish());
        world.step();
        assert!(world.sender.window_bytes() <= limits.window_bytes_max);
    }
    for _ in 0..2_000 {
        world.step();
    }
    assert!(world.all_landed());
    world.check();
}

#[test]
fn a_position_that_cannot_be_proved_forks_the_stream() {
    let mut world = World::new(1);
    world.faulty = false;
    for _ in 0..30 {
        world.publish();
    }
    for _ in 0..200 {
        world.step();
    }
    assert!(world.all_landed());
    // The hub has the same offset with another history: a cloned or restored store.
    let name = StreamName::new("stream-0").unwrap();
    world.ledger.heads.get_mut(&name).unwrap().hash = BoundaryHash(12345);
    let landed = world.ledger.logs[&name].len() as u64;
    world.cut();
    world.publish();
    for _ in 0..200 {
        world.step();
    }
    let forked = Alarm::Forked {
        stream: StreamId(0),
        incarnation: Incarnation(2),
        from: EdgeOffset(landed),
        hub_next: EdgeOffset(landed),
        reason: ForkReason::Unproved,
    };
    assert_eq!(world.alarms, [forked]);
    let local = &world.journal.streams[&StreamId(0)].local;
    assert_eq!(
        local.incarnation,
        Incarnation(2),
        "stored before it is used"
    );
    assert!(world.all_landed());
    world.check();
}

/// Another node of its identity has forked it: a position that can be proved, but lies behind.
#[test]
fn a_stream_does_not_go_back_behind_what_it_knows_to_have_landed() {
    let mut world = World::new(1);
    world.faulty = false;
    for _ in 0..30 {
        world.publish();
    }
    for _ in 0..200 {
        world.step();
    }
    assert!(world.all_landed());
    let id = StreamId(0);
    let landed = world.journal.streams[&id].local.landed;
    assert!(landed > EdgeOffset(0));
    let head = Head {
        incarnation: Incarnation(2),
        ..Head::default()
    };
    world.sender.streams.get_mut(&id).unwrap().phase = StreamPhase::Announced;
    world
        .sender
        .handle_granted(Instant::now(), granted(id, head));
    let Some(Frame::Fork(fork)) = world.sender.poll_transmit() else {
        panic!("no fork");
    };
    let request = fork.request;
    assert_eq!((request.from, request.ends), (landed, Incarnation(2)));
    assert_eq!(request.reason, ForkReason::Unproved);
}

#[test]
fn a_cloud_that_lost_what_it_had_is_sent_what_is_kept_again() {
    let mut world = World::new(2);
    world.faulty = false;
    for _ in 0..60 {
        world.publish();
    }
    for _ in 0..300 {
        world.step();
    }
    assert!(world.all_landed());
    let id = StreamId(0);
    // The hub is back at a boundary that this journal no longer knows, in an older life.
    let stream = &world.journal.streams[&id];
    let landed = stream.local.landed;
    let kept = &stream.chunks[stream.chunks.len() - 2];
    let (first, hash) = (kept.base_offset, kept.hash_before);
    let stream = world.journal.streams.get_mut(&id).unwrap();
    stream.local.first = first;
    world.sender.handle_stream(stream.local.clone());
    let hub = GrantedStream {
        next: EdgeOffset(1),
        hash: BoundaryHash(9),
        ..granted(id, world.ledger.heads[&stream.local.name])
    };
    let sending = world.sender.streams.get_mut(&id).unwrap();
    sending.phase = StreamPhase::Announced;
    sending.local.landed_life = 0;
    world.sender.handle_granted(Instant::now(), hub);
    let prove = SenderEvent::Prove {
        stream: id,
        offset: EdgeOffset(1),
    };
    assert_eq!(
        world.sender.poll_event(),
        Some(SenderEvent::Partitions {
            stream: id,
            partitions: 1
        })
    );
    assert_eq!(world.sender.poll_event(), Some(prove));
    world.sender.handle_proof(id, EdgeOffset(1), None);
    let prove = SenderEvent::Prove {
        stream: id,
        offset: first,
    };
    assert_eq!(world.sender.poll_event(), Some(prove));
    world.sender.handle_proof(id, first, Some(hash));
    let Some(Frame::Fork(fork)) = world.sender.poll_transmit() else {
        panic!("no fork");
    };
    assert!(first < landed, "what had landed goes again");
    assert_eq!((fork.request.from, fork.request.hash), (first, hash));
    assert_eq!(fork.request.reason, ForkReason::CloudRestored);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Any frames, in any order: no panic, and the window never goes below zero.
    #[test]
    fn frames_of_a_strange_hub_never_panic(
        frames in prop::collection::vec((0..6_u8, 0..4_u32, 0..40_u64, 1..9_u8), 0..60),
    ) {
        let mut world = World::new(3);
        world.faulty = false;
        world.publish();
        world.sender.handle_connected();
        let now = world.now();
        for (kind, stream, number, reason) in frames {
            let (stream, request) = (StreamId(stream), number);
            let (incarnation, hash) = (Incarnation(number % 3), BoundaryHash(u128::from(number % 2)));
            let next = EdgeOffset(number);
            let reason = RefusedReason::from_number(reason).unwrap();
            world.sender.handle_frame(now, match kind {
                0 => Frame::Welcome(Welcome {
                    protocol_version: 1,
                    session_epoch: SessionEpoch(number),
                    cluster_incarnation: CLUSTER,
                    time_ms: 0,
                }),
                1 => {
                    let head = Head { incarnation, next, hash };
                    let granted = granted(stream, head);
                    Frame::Granted(crate::frame::Granted { streams: vec![granted] })
                }
                2 => {
                    let (landed, facts) = (next, vec![]);
                    Frame::Landed(Landed { request, stream, incarnation, landed, hash, facts })
                }
                3 => Frame::Refused(Refused { request, stream, incarnation, reason, next, hash }),
                4 => Frame::Ping(crate::frame::Ping { nonce: number }),
                _ => Frame::Hello(Hello {
                    protocol_version: 1,
                    store_id: StoreId(1),
                    cluster_incarnation: CLUSTER,
                    session_epoch: SessionEpoch(0),
                }),
            });
            while let Some(event) = world.sender.poll_event() {
                match event {
                    SenderEvent::StoreSession { session_epoch, .. } => {
                        world.sender.handle_session_stored(session_epoch);
                    }
                    SenderEvent::StoreGrant { stream, incarnation } => {
                        world.sender.handle_grant_stored(stream, incarnation);
                    }
                    SenderEvent::Prove { stream, offset } => {
                        world.sender.handle_proof(stream, offset, Some(BoundaryHash(1)));
                    }
                    SenderEvent::Read { streams, .. } => {
                        let reads = world.read(streams);
                        world.sender.handle_read(now, reads);
                    }
                    _ => {}
                }
            }
        }
        prop_assert!(world.sender.window_bytes() < 8 << 20);
    }
}
