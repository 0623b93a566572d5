use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_bridge_protocol::landing::Offer;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{BoundaryHash, EdgeOffset, PartitionId, StreamName};

use super::command::{OffsetCommit, Part, strategies};
use super::*;

const TOPIC_ID: TopicId = TopicId(7);

fn edge() -> EdgeId {
    EdgeId::new("press-4").unwrap()
}

fn stream() -> StreamName {
    StreamName::new("telemetry").unwrap()
}

fn topic() -> TopicName {
    TopicName::new("telemetry").unwrap()
}

fn begun() -> Ledger {
    let mut ledger = Ledger::new();
    let begin = Begin {
        now_ms: 1000,
        cluster_incarnation_id: 5,
    };
    ledger.apply(Command::Begin(begin)).unwrap();
    let create = CreateTopic {
        name: topic(),
        topic_id: TOPIC_ID,
        partitions: 3,
    };
    ledger.apply(Command::CreateTopic(create)).unwrap();
    ledger
}

fn one(ledger: &mut Ledger, entry: Entry) -> Effect {
    let tick = Tick {
        now_ms: 2000,
        entries: vec![entry],
    };
    let mut effects = ledger.apply(Command::Tick(tick)).unwrap();
    assert_eq!(effects.len(), 1);
    effects.remove(0)
}

fn open_session(ledger: &mut Ledger) -> SessionEpoch {
    match one(ledger, Entry::OpenSession(OpenSession { edge: edge() })) {
        Effect::SessionOpened { session_epoch } => session_epoch,
        other => panic!("{other:?}"),
    }
}

fn open_stream(session_epoch: SessionEpoch, topic: TopicName) -> Entry {
    Entry::OpenStream(OpenStream {
        edge: edge(),
        session_epoch,
        stream: stream(),
        incarnation: Incarnation(0),
        topic,
    })
}

fn land(session_epoch: SessionEpoch, base: u64, count: u64) -> Entry {
    Entry::Land(Land {
        edge: edge(),
        stream: stream(),
        offer: Offer {
            session_epoch,
            incarnation: Incarnation(1),
            base_offset: EdgeOffset(base),
            count,
            hash_before: BoundaryHash(u128::from(base)),
            hash_after: BoundaryHash(u128::from(base + count)),
        },
        part: Part::default(),
    })
}

#[test]
fn a_stream_lands_once_and_in_order() {
    let mut ledger = begun();
    let epoch = open_session(&mut ledger);
    assert_eq!(epoch, SessionEpoch(1));
    let opened = one(&mut ledger, open_stream(epoch, topic()));
    let Effect::StreamOpened { head, target } = opened else {
        panic!("{opened:?}")
    };
    assert_eq!(head.incarnation, Incarnation(1));

    let landed = one(&mut ledger, land(epoch, 0, 10));
    let Effect::Landed(landed) = landed else {
        panic!("{landed:?}")
    };
    assert_eq!(landed.fact.kafka_offset, KafkaOffset(0));
    let again = one(&mut ledger, land(epoch, 0, 10));
    assert_eq!(again, Effect::Duplicate { head: landed.head });
    let straddles = one(&mut ledger, land(epoch, 5, 10));
    assert_eq!(
        straddles,
        Effect::Refused {
            reason: RefusedReason::WrongOffset,
            head: landed.head
        }
    );
    let next = one(&mut ledger, land(epoch, 10, 5));
    assert!(matches!(next, Effect::Landed(landed) if landed.fact.kafka_offset == KafkaOffset(10)));
    assert_eq!(ledger.partition(target).unwrap().next, KafkaOffset(15));
}

#[test]
fn a_gap_moves_the_head_and_leaves_no_record() {
    let mut ledger = begun();
    let epoch = open_session(&mut ledger);
    let opened = one(&mut ledger, open_stream(epoch, topic()));
    let Effect::StreamOpened { target, .. } = opened else {
        panic!("{opened:?}")
    };
    one(&mut ledger, land(epoch, 0, 10));
    let gap = |base, count| {
        let Entry::Land(land) = land(epoch, base, count) else {
            unreachable!()
        };
        Entry::LandGap(LandGap {
            edge: land.edge,
            stream: land.stream,
            offer: land.offer,
            reason: GapReason::Overflow,
        })
    };
    let landed = one(&mut ledger, gap(10, 5));
    assert!(matches!(landed, Effect::GapLanded { count: 5, head, .. } if head.next.0 == 15));
    let again = one(&mut ledger, gap(10, 5));
    assert!(matches!(again, Effect::Duplicate { head } if head.next.0 == 15));
    let straddles = one(&mut ledger, gap(12, 5));
    assert!(matches!(straddles, Effect::Refused { .. }));
    let next = one(&mut ledger, land(epoch, 15, 5));
    assert!(matches!(next, Effect::Landed(landed) if landed.fact.kafka_offset == KafkaOffset(10)));
    assert_eq!(ledger.partition(target).unwrap().next, KafkaOffset(15));
    assert_eq!(ledger.stream(&edge(), &stream()).unwrap().gap_records, 5);
}

#[test]
fn a_newer_session_fences_the_older() {
    let mut ledger = begun();
    let old = open_session(&mut ledger);
    one(&mut ledger, open_stream(old, topic()));
    let new = open_session(&mut ledger);
    let stale = one(&mut ledger, land(old, 0, 1));
    assert!(matches!(
        stale,
        Effect::Refused {
            reason: RefusedReason::StaleSessionEpoch,
            ..
        }
    ));
    assert!(matches!(
        one(&mut ledger, land(new, 0, 1)),
        Effect::Landed(_)
    ));
}

#[test]
fn a_stream_without_a_topic_is_parked() {
    let mut ledger = begun();
    let epoch = open_session(&mut ledger);
    let unknown = TopicName::new("no-such").unwrap();
    let parked = one(&mut ledger, open_stream(epoch, unknown));
    assert!(matches!(
        parked,
        Effect::Refused {
            reason: RefusedReason::Parked,
            ..
        }
    ));
    let landed = one(&mut ledger, land(epoch, 0, 1));
    assert!(matches!(
        landed,
        Effect::Refused {
            reason: RefusedReason::UnknownStream,
            ..
        }
    ));
}

#[test]
fn a_log_must_begin() {
    let tick = Tick {
        now_ms: 0,
        entries: vec![],
    };
    assert_eq!(
        Ledger::new().apply(Command::Tick(tick)),
        Err(ApplyError::NotBegun)
    );
}

#[test]
fn commits_are_kept_and_unknown_partitions_are_named() {
    let mut ledger = begun();
    let group = GroupName::new("dashboards").unwrap();
    let at = |partition, offset| OffsetCommit {
        topic_id: TOPIC_ID,
        partition: PartitionId(partition),
        offset: KafkaOffset(offset),
        leader_epoch: -1,
        metadata: String::new(),
    };
    let commit = CommitOffsets {
        group: group.clone(),
        offsets: vec![at(0, 4), at(9, 4)],
    };
    let effect = one(&mut ledger, Entry::CommitOffsets(commit));
    let unknown = vec![(TOPIC_ID, PartitionId(9))];
    assert_eq!(effect, Effect::OffsetsCommitted { unknown });
    let target = Target {
        topic_id: TOPIC_ID,
        partition: PartitionId(0),
    };
    let committed = ledger.committed_at(&group, target).unwrap();
    assert_eq!(
        (committed.offset, committed.commit_time_ms),
        (KafkaOffset(4), 2000)
    );
}

#[test]
fn a_new_life_raises_leader_epochs_and_time_never_goes_back() {
    let mut ledger = begun();
    let begin = Begin {
        now_ms: 1,
        cluster_incarnation_id: 6,
    };
    ledger.apply(Command::Begin(begin)).unwrap();
    assert_eq!(ledger.cluster_incarnation().unwrap().counter, 2);
    assert_eq!(ledger.now_ms(), 1000);
    assert_eq!(
        ledger.topic(TOPIC_ID).unwrap().partitions()[0].leader_epoch,
        1
    );
}

fn log() -> impl Strategy<Value = Vec<Command>> {
    vec(strategies::command(), 0..60).prop_map(|rest| {
        let begin = Begin {
            now_ms: 1,
            cluster_incarnation_id: 1,
        };
        std::iter::once(Command::Begin(begin)).chain(rest).collect()
    })
}

proptest! {
    #[test]
    fn snapshot_and_replay_give_the_live_state(commands in log(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(commands.len());
        let mut live = Ledger::new();
        let mut restored = Ledger::new();
        for (index, command) in commands.into_iter().enumerate() {
            if index == cut {
                restored = Ledger::restore(live.snapshot()).unwrap();
                prop_assert_eq!(&restored, &live);
            }
            let effects = live.apply(command.clone());
            if index >= cut {
                prop_assert_eq!(restored.apply(command), effects);
            }
        }
        prop_assert_eq!(restored.snapshot(), live.snapshot());
    }

    /// Offsets are dense in each partition, and a stream's facts are dense in its own numbers.
    #[test]
    fn facts_are_dense_on_both_sides(commands in log()) {
        let mut ledger = Ledger::new();
        let mut next_kafka: BTreeMap<Target, i64> = BTreeMap::new();
        let mut gaps = 0;
        let mut next_edge: BTreeMap<(EdgeId, StreamName), u64> = BTreeMap::new();
        for command in commands {
            let entries = match &command {
                Command::Tick(tick) => tick.entries.clone(),
                _ => Vec::new(),
            };
            let effects = ledger.apply(command).unwrap();
            for (entry, effect) in entries.into_iter().zip(effects) {
                if let (Entry::LandGap(land), Effect::GapLanded { count, .. }) = (&entry, &effect) {
                    let key = (land.edge.clone(), land.stream.clone());
                    let edge = next_edge.entry(key).or_default();
                    prop_assert_eq!(land.offer.base_offset.0, *edge);
                    *edge += count;
                    gaps += count;
                    continue;
                }
                let (Entry::Land(land), Effect::Landed(landed)) = (entry, effect) else { continue };
                let fact = landed.fact;
                let target = Target { topic_id: fact.topic_id, partition: fact.partition };
                let kafka = next_kafka.entry(target).or_default();
                prop_assert_eq!(fact.kafka_offset.0, *kafka);
                *kafka += fact.count as i64;
                let edge = next_edge.entry((land.edge, land.stream)).or_default();
                prop_assert_eq!(fact.edge_offset.0, *edge);
                *edge += fact.count;
            }
        }
        let streams = ledger.edges().flat_map(|(_, edge)| edge.streams.values());
        prop_assert_eq!(streams.map(|stream| stream.gap_records).sum::<u64>(), gaps);
    }

    #[test]
    fn hostile_snapshots_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Ledger::restore(bytes.into());
    }
}
