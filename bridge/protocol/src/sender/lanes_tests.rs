//! A keyed stream whose topic grows again and again, over links that break and an edge that starts
//! anew: each key's messages land in the order in which they came.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use tidegate_shared::id::{BoundaryHash, Incarnation, StreamName, TopicName};
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

use super::*;
use crate::frame::{GrantedStream, Landed};
use crate::hub::{HubConnection, HubEvent};
use crate::landing::{self, Head, Verdict};
use crate::lanes::{LaneEnd, Lanes};

const CLUSTER: ClusterIncarnation = ClusterIncarnation { counter: 1, id: 7 };
const KEYS: u8 = 12;

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Grow(usize),
    /// The link breaks.
    Cut,
    /// The edge starts anew with what is stored.
    Restart,
    /// So many things of the link and the journal happen, which of them by chance.
    Exchange(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..KEYS).prop_map(Step::Publish),
        1 => (1..4_usize).prop_map(Step::Grow),
        1 => Just(Step::Cut),
        1 => Just(Step::Restart),
        8 => prop::collection::vec(any::<u8>(), 1..12).prop_map(Step::Exchange),
    ]
}

/// A lane: its messages (key and number), each a chunk of its own.
#[derive(Clone, Debug, Default)]
struct Lane {
    messages: Vec<(u8, u32)>,
    landed: u64,
    incarnation: Incarnation,
}

struct Site {
    sender: Sender,
    hub: HubConnection,
    lanes: Lanes,
    streams: BTreeMap<StreamId, Lane>,
    heads: BTreeMap<StreamName, Head>,
    epoch: SessionEpoch,
    stored_epoch: SessionEpoch,
    up: VecDeque<Frame>,
    down: VecDeque<Frame>,
    reads: Vec<Vec<ReadRequest>>,
    published: BTreeMap<u8, u32>,
    landed: Vec<(u8, u32)>,
    start: Instant,
    breaks_holds: bool,
}

fn name(stream: StreamId) -> StreamName {
    StreamName::new(format!("telemetry#{stream}")).unwrap()
}

fn hash(offset: u64) -> BoundaryHash {
    BoundaryHash(u128::from(offset))
}

impl Site {
    fn new(breaks_holds: bool) -> Self {
        let streams: BTreeMap<_, _> = (0..2).map(|id| (StreamId(id), Lane::default())).collect();
        let limits = SenderLimits {
            parked_retry: Duration::from_millis(1),
            ..SenderLimits::default()
        };
        let mut site = Self {
            sender: Sender::new(limits, StoreId(1), CLUSTER, SessionEpoch(0)),
            hub: HubConnection::new(),
            lanes: Lanes::new(streams.keys().copied().collect()),
            streams,
            heads: BTreeMap::new(),
            epoch: SessionEpoch(0),
            stored_epoch: SessionEpoch(0),
            up: VecDeque::new(),
            down: VecDeque::new(),
            reads: Vec::new(),
            published: BTreeMap::new(),
            landed: Vec::new(),
            start: Instant::now(),
            breaks_holds,
        };
        site.restart();
        site
    }

    fn restart(&mut self) {
        let limits = SenderLimits::default();
        self.sender = Sender::new(limits, StoreId(1), CLUSTER, self.stored_epoch);
        self.reads.clear();
        // As a node does: what is stored, and what had landed.
        let (count, barriers) = Lanes::decode(self.lanes.encode()).unwrap();
        let targets = (0..count).map(StreamId).collect();
        self.lanes = Lanes::restore(targets, barriers);
        for (id, lane) in &self.streams {
            self.lanes.note_landed(*id, EdgeOffset(lane.landed));
        }
        self.connect();
        self.tell();
    }

    fn connect(&mut self) {
        (self.up, self.down) = Default::default();
        self.hub = HubConnection::new();
        self.sender.handle_connected();
    }

    /// Holds come before what they hold.
    fn tell(&mut self) {
        for (id, lane) in &self.streams {
            let hold = self.lanes.hold(*id).filter(|_| !self.breaks_holds);
            let local = LocalStream {
                stream: *id,
                name: name(*id),
                topic: TopicName::new("telemetry").unwrap(),
                incarnation: lane.incarnation,
                first: EdgeOffset(0),
                next: EdgeOffset(lane.messages.len() as u64),
                landed: EdgeOffset(lane.landed),
                landed_hash: hash(lane.landed),
                landed_life: 1,
                priority: 0,
            };
            self.sender.handle_hold(*id, hold);
            self.sender.handle_stream(local);
            self.sender.handle_hold(*id, hold);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(key) => {
                let number = self.published.entry(key).or_default();
                *number += 1;
                let stream = self.lanes.target(Some(&[key])).unwrap();
                let lane = self.streams.get_mut(&stream).unwrap();
                lane.messages.push((key, *number));
                self.tell();
            }
            Step::Grow(more) => self.grow(more),
            Step::Cut => self.connect(),
            Step::Restart => self.restart(),
            Step::Exchange(choices) => choices.into_iter().for_each(|choice| self.exchange(choice)),
        }
    }

    fn grow(&mut self, more: usize) {
        if self.lanes.is_switching() {
            return;
        }
        let ends: Vec<_> = self
            .lanes
            .targets()
            .iter()
            .map(|id| LaneEnd {
                stream: *id,
                next: EdgeOffset(self.streams[id].messages.len() as u64),
                landed: EdgeOffset(self.streams[id].landed),
            })
            .collect();
        let count = (ends.len() + more) as u32;
        let targets: Vec<_> = (0..count).map(StreamId).collect();
        for id in &targets {
            self.streams.entry(*id).or_default();
        }
        self.lanes.switch(targets, ends);
        self.tell();
    }

    fn exchange(&mut self, choice: u8) {
        self.act();
        while let Some(frame) = self.sender.poll_transmit() {
            self.up.push_back(frame);
        }
        while let Some(frame) = self.hub.poll_transmit() {
            self.down.push_back(frame);
        }
        match choice % 4 {
            0 if !self.reads.is_empty() => {
                let at = usize::from(choice / 4) % self.reads.len();
                let read = self.reads.remove(at);
                self.read(read);
            }
            1 | 2 => {
                if let Some(frame) = self.up.pop_front() {
                    self.hub.handle_frame(0, frame).unwrap();
                    self.decide();
                }
            }
            _ => {
                if let Some(frame) = self.down.pop_front() {
                    self.sender.handle_frame(self.start, frame);
                }
            }
        }
        self.act();
    }

    fn act(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::StoreSession { session_epoch, .. } => {
                    self.stored_epoch = session_epoch;
                    self.sender.handle_session_stored(session_epoch);
                }
                SenderEvent::StoreGrant {
                    stream,
                    incarnation,
                } => {
                    self.streams.get_mut(&stream).unwrap().incarnation = incarnation;
                    self.sender.handle_grant_stored(stream, incarnation);
                }
                SenderEvent::Prove { stream, offset } => {
                    self.sender
                        .handle_proof(stream, offset, Some(hash(offset.0)));
                }
                SenderEvent::Read { streams, .. } => self.reads.push(streams),
                SenderEvent::Landed { stream, landed, .. } => {
                    self.streams.get_mut(&stream).unwrap().landed = landed.0;
                    if self.lanes.note_landed(stream, landed) {
                        let ids: Vec<_> = self.streams.keys().copied().collect();
                        for id in ids {
                            self.sender.handle_hold(id, None);
                        }
                    }
                }
                SenderEvent::Close(_) => self.connect(),
                SenderEvent::Partitions { .. } | SenderEvent::Alarm(_) => {}
            }
        }
    }

    fn read(&mut self, requests: Vec<ReadRequest>) {
        let reads = requests.into_iter().map(|request| {
            let lane = &self.streams[&request.stream];
            let end = lane.messages.len() as u64;
            let hold = self.lanes.hold(request.stream);
            let hold = hold.filter(|_| !self.breaks_holds);
            let end = hold.map_or(end, |hold| hold.0.min(end));
            let end = end.min(request.from.0 + 3);
            let batches: Vec<_> = (request.from.0..end).map(|at| sealed(lane, at)).collect();
            let outcome = match batches.is_empty() {
                true => ReadOutcome::NoRoom,
                false => ReadOutcome::Batches(batches),
            };
            StreamRead {
                stream: request.stream,
                from: request.from,
                outcome,
            }
        });
        let reads = reads.collect();
        self.sender.handle_read(self.start, reads);
    }

    /// The ledger's part.
    fn decide(&mut self) {
        while let Some(event) = self.hub.poll_event() {
            match event {
                HubEvent::OpenSession(_) => {
                    self.epoch.0 += 1;
                    self.hub.handle_session(self.epoch, CLUSTER, 0);
                }
                HubEvent::OpenStreams(streams) => {
                    let granted = streams.iter().map(|announced| {
                        let fresh = Head {
                            incarnation: Incarnation(1),
                            ..Head::default()
                        };
                        let head = *self.heads.entry(announced.name.clone()).or_insert(fresh);
                        GrantedStream {
                            stream: announced.stream,
                            incarnation: head.incarnation,
                            next: head.next,
                            hash: head.hash,
                            refused: None,
                            partitions: 1,
                        }
                    });
                    let granted = granted.collect();
                    self.hub.handle_streams(granted).unwrap();
                }
                HubEvent::Land(land) => {
                    let head = self.heads.get_mut(&land.name).unwrap();
                    match landing::judge(head, self.epoch, &land.offer) {
                        Verdict::Accept(after) => {
                            let at = land.offer.base_offset.0 as usize;
                            self.landed.push(self.streams[&land.stream].messages[at]);
                            *head = after;
                        }
                        Verdict::Duplicate => {}
                        Verdict::Refused(reason) => panic!("{reason}"),
                    }
                    let landed = Landed {
                        request: land.request,
                        stream: land.stream,
                        incarnation: head.incarnation,
                        landed: head.next,
                        hash: head.hash,
                        facts: Vec::new(),
                    };
                    self.hub.handle_landed(landed, 1);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn drain(&mut self) -> bool {
        for round in 0..40_000_u32 {
            self.exchange(round as u8);
            let total: usize = self.streams.values().map(|lane| lane.messages.len()).sum();
            if self.landed.len() == total && !self.lanes.is_switching() {
                return true;
            }
        }
        false
    }

    fn is_in_order(&self) -> bool {
        let mut last: BTreeMap<u8, u32> = BTreeMap::new();
        self.landed
            .iter()
            .all(|(key, number)| last.insert(*key, *number).unwrap_or(0) + 1 == *number)
    }
}

fn sealed(lane: &Lane, at: u64) -> SealedBatch {
    let (key, number) = lane.messages[at as usize];
    let mut builder = BatchBuilder::new();
    builder.push(&Record {
        key: Some(vec![key].into()),
        value: Some(number.to_le_bytes().to_vec().into()),
        ..Record::default()
    });
    SealedBatch {
        base_offset: EdgeOffset(at),
        count: 1,
        hash_before: hash(at),
        hash_after: hash(at + 1),
        batch: builder.seal(at as i64, Compression::None, &mut Compressor::new()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn keys_keep_their_order_while_the_topic_grows(steps in prop::collection::vec(step(), 50..250)) {
        let mut site = Site::new(false);
        for step in steps {
            site.step(step);
            prop_assert!(site.is_in_order(), "{:?}", site.landed);
        }
        prop_assert!(site.drain(), "everything lands, and no lane is held for ever");
        prop_assert!(site.is_in_order(), "{:?}", site.landed);
    }
}

/// Without the holds, keys that moved are overtaken: the test above would notice.
#[test]
fn lanes_that_are_not_held_are_out_of_order() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 50..250);
    let found = (0..200).any(|_| {
        let steps = steps.new_tree(&mut runner).unwrap().current();
        let mut site = Site::new(true);
        steps.into_iter().for_each(|step| site.step(step));
        site.drain();
        !site.is_in_order()
    });
    assert!(found);
}
