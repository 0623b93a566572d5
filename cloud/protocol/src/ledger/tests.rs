use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_bridge_protocol::landing::{ForkReason, ForkRequest, Head, Offer, RefusedReason};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{
    BoundaryHash, EdgeOffset, Incarnation, PartitionId, SessionEpoch, StoreId, StreamName,
};

use super::command::{
    ForkStream, Land, LandGap, OffsetCommit, OpenSession, OpenStream, Part, ReleaseEdge, strategies,
};
use super::*;

const TOPIC_ID: TopicId = TopicId(7);

const PLACE: LogPlace = LogPlace {
    object: 1,
    position: 52,
};

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
    ledger.apply(Command::Begin(begin), PLACE).unwrap();
    let create = CreateTopic {
        name: topic(),
        topic_id: TOPIC_ID,
        partitions: 3,
        changes: Vec::new(),
    };
    ledger.apply(Command::CreateTopic(create), PLACE).unwrap();
    ledger
}

fn one(ledger: &mut Ledger, entry: Entry) -> Effect {
    let tick = Tick {
        now_ms: 2000,
        entries: vec![entry],
    };
    let mut effects = ledger.apply(Command::Tick(tick), PLACE).unwrap();
    assert_eq!(effects.len(), 1);
    effects.remove(0)
}

fn open_session(ledger: &mut Ledger) -> SessionEpoch {
    let newest = ledger
        .edge(&edge())
        .map_or(SessionEpoch(0), |edge| edge.session_epoch);
    let seen_cluster = ledger.cluster_incarnation().unwrap();
    match one(ledger, hello(1, seen_cluster, newest)) {
        Effect::SessionOpened { session_epoch } => session_epoch,
        other => panic!("{other:?}"),
    }
}

fn hello(store: u128, seen_cluster: ClusterIncarnation, seen_epoch: SessionEpoch) -> Entry {
    Entry::OpenSession(OpenSession {
        edge: edge(),
        store_id: StoreId(store),
        seen_cluster,
        seen_epoch,
    })
}

fn open_stream(session_epoch: SessionEpoch, topic: TopicName) -> Entry {
    Entry::OpenStream(OpenStream {
        edge: edge(),
        session_epoch,
        stream: stream(),
        incarnation: Incarnation(0),
        topic,
        landed: EdgeOffset(0),
        landed_life: 1,
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
    let Effect::StreamOpened(Opened { head, target, .. }) = opened else {
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
    let Effect::StreamOpened(Opened { target, .. }) = opened else {
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
    assert!(
        matches!(landed, Effect::GapLanded(GapLanded { count: 5, head, .. }) if head.next.0 == 15)
    );
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
        Ledger::new().apply(Command::Tick(tick), PLACE),
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
fn a_group_forgets_what_it_is_to_and_no_other_does() {
    let mut ledger = begun();
    let groups = ["a", "b"].map(|name| GroupName::new(name).unwrap());
    let targets = [0, 1].map(|partition| Target {
        topic_id: TOPIC_ID,
        partition: PartitionId(partition),
    });
    for group in &groups {
        let offsets = targets.iter().map(|target| OffsetCommit {
            topic_id: target.topic_id,
            partition: target.partition,
            offset: KafkaOffset(4),
            leader_epoch: -1,
            metadata: String::new(),
        });
        let commit = CommitOffsets {
            group: group.clone(),
            offsets: offsets.collect(),
        };
        one(&mut ledger, Entry::CommitOffsets(commit));
    }
    let mut forget = |group: &GroupName, targets: Option<&[Target]>| {
        let forget = ForgetOffsets {
            group: group.clone(),
            targets: targets.map(<[Target]>::to_vec),
        };
        let effect = one(&mut ledger, Entry::ForgetOffsets(forget));
        let Effect::OffsetsForgotten { count } = effect else {
            panic!("{effect:?}");
        };
        let left = groups
            .each_ref()
            .map(|group| ledger.committed(group).count());
        let known: Vec<_> = ledger.groups().cloned().collect();
        (count, left, known)
    };
    let unknown = GroupName::new("c").unwrap();
    let both = groups.to_vec();
    assert_eq!(forget(&unknown, None), (0, [2, 2], both.clone()));
    assert_eq!(
        forget(&groups[0], Some(&targets[..1])),
        (1, [1, 2], both.clone())
    );
    assert_eq!(forget(&groups[0], Some(&targets[..1])), (0, [1, 2], both));
    let other = groups[1..].to_vec();
    assert_eq!(forget(&groups[0], Some(&targets)), (1, [0, 2], other));
    assert_eq!(forget(&groups[1], None), (2, [0, 0], vec![]));
}

#[test]
fn a_new_life_raises_leader_epochs_and_time_never_goes_back() {
    let mut ledger = begun();
    let begin = Begin {
        now_ms: 1,
        cluster_incarnation_id: 6,
    };
    ledger.apply(Command::Begin(begin), PLACE).unwrap();
    assert_eq!(ledger.cluster_incarnation().unwrap().counter, 2);
    assert_eq!(ledger.now_ms(), 1000);
    assert_eq!(
        ledger.topic(TOPIC_ID).unwrap().partitions()[0].leader_epoch,
        1
    );
}

/// Offset 3 was the next when epoch 0 ended, and 5 when epoch 1 did.
#[test]
fn an_epoch_that_is_over_has_an_end_and_the_newest_goes_on() {
    let mut ledger = begun();
    let target = Target {
        topic_id: TOPIC_ID,
        partition: PartitionId(0),
    };
    let produce = |count| {
        let (part, sequence) = (Part::default(), None);
        Entry::Produce(Produce {
            target,
            count,
            part,
            sequence,
        })
    };
    let begin = |id| {
        Command::Begin(Begin {
            now_ms: 1,
            cluster_incarnation_id: id,
        })
    };
    let ends = |ledger: &Ledger| [0, 1, 2, 3, -1].map(|epoch| ledger.epoch_end(target, epoch));
    let at = |offset| Some(KafkaOffset(offset));
    one(&mut ledger, produce(3));
    assert_eq!(ends(&ledger), [at(3), None, None, None, None]);
    ledger.apply(begin(6), PLACE).unwrap();
    assert_eq!(ends(&ledger), [at(3), at(3), None, None, None]);
    one(&mut ledger, produce(2));
    ledger.apply(begin(7), PLACE).unwrap();
    one(&mut ledger, produce(4));
    assert_eq!(ends(&ledger), [at(3), at(5), at(9), None, None]);
    let unknown = Target {
        partition: PartitionId(99),
        ..target
    };
    assert_eq!(ledger.epoch_end(unknown, 0), None);
    // The oldest are forgotten: their end is told too late, never too early.
    for id in 8..8 + EPOCH_ENDS_KEPT_MAX as u128 {
        ledger.apply(begin(id), PLACE).unwrap();
    }
    assert_eq!(ledger.epoch_end(target, 0), at(9));
    let delete = DeleteTopic { topic_id: TOPIC_ID };
    ledger.apply(Command::DeleteTopic(delete), PLACE).unwrap();
    assert!(ledger.epoch_ends.is_empty());
}

fn fork(session_epoch: SessionEpoch, ends: u64, from: u64, reason: ForkReason) -> Entry {
    Entry::ForkStream(ForkStream {
        edge: edge(),
        stream: stream(),
        request: ForkRequest {
            session_epoch,
            ends: Incarnation(ends),
            edge_incarnation: Incarnation(ends),
            from: EdgeOffset(from),
            hash: BoundaryHash(u128::from(from)),
            reason,
            is_proved: false,
        },
    })
}

#[test]
fn a_fork_begins_a_new_incarnation_where_the_edge_says() {
    let mut ledger = begun();
    let epoch = open_session(&mut ledger);
    one(&mut ledger, open_stream(epoch, topic()));
    one(&mut ledger, land(epoch, 0, 10));
    let forked = one(&mut ledger, fork(epoch, 1, 4, ForkReason::Unproved));
    let Effect::StreamForked(forked) = forked else {
        panic!("{forked:?}")
    };
    assert_eq!(
        (forked.fork.ended_at, forked.fork.gap_records()),
        (EdgeOffset(10), 0)
    );
    let head = Head {
        incarnation: Incarnation(2),
        next: EdgeOffset(4),
        hash: BoundaryHash(4),
    };
    assert_eq!(forked.opened.head, head);
    let old = one(&mut ledger, land(epoch, 10, 2));
    assert!(matches!(
        old,
        Effect::Refused {
            reason: RefusedReason::WrongIncarnation,
            ..
        }
    ));
    let again = one(&mut ledger, fork(epoch, 1, 4, ForkReason::Unproved));
    assert!(matches!(
        again,
        Effect::Refused {
            reason: RefusedReason::WrongIncarnation,
            ..
        }
    ));
    // Of the edge's incarnation an earlier life left nothing: all that is not there is declared.
    let lost = one(&mut ledger, fork(epoch, 2, 9, ForkReason::CloudRestored));
    assert!(matches!(lost, Effect::StreamForked(forked) if forked.fork.gap_records() == 9));
    assert_eq!(ledger.stream(&edge(), &stream()).unwrap().gap_records, 9);
}

#[test]
fn two_nodes_with_one_identity_are_held_until_an_operator_decides() {
    let mut ledger = begun();
    let cluster = ledger.cluster_incarnation().unwrap();
    let mut seen = [SessionEpoch(0); 2];
    let mut refused = None;
    for turn in 0..8 {
        match one(&mut ledger, hello(1, cluster, seen[turn % 2])) {
            Effect::SessionOpened { session_epoch } => {
                one(&mut ledger, open_stream(session_epoch, topic()));
                seen[turn % 2] = session_epoch;
            }
            Effect::SessionRefused { reason } => {
                refused = Some((turn, reason));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        refused,
        Some((FIGHTS_MAX as usize, RefusedReason::Quarantined))
    );
    let newest = *seen.iter().max().unwrap();
    let fenced = one(&mut ledger, land(newest, 0, 1));
    assert!(matches!(
        fenced,
        Effect::Refused {
            reason: RefusedReason::StaleSessionEpoch,
            ..
        }
    ));
    let release = ReleaseEdge { edge: edge() };
    let released = one(&mut ledger, Entry::ReleaseEdge(release));
    assert_eq!(released, Effect::EdgeReleased { was_held: true });
    let opened = one(&mut ledger, hello(1, cluster, seen[0]));
    assert!(matches!(opened, Effect::SessionOpened { .. }));
}

#[test]
fn an_edge_that_was_not_welcomed_in_time_fights_with_nobody() {
    let mut ledger = begun();
    let cluster = ledger.cluster_incarnation().unwrap();
    for _ in 0..20 {
        // Its session is granted, and the Welcome is lost each time.
        let opened = one(&mut ledger, hello(1, cluster, SessionEpoch(0)));
        assert!(matches!(opened, Effect::SessionOpened { .. }));
    }
}

#[test]
fn a_cloud_that_is_behind_takes_nothing_until_a_new_life_begins() {
    let mut ledger = begun();
    let cluster = ledger.cluster_incarnation().unwrap();
    let epoch = open_session(&mut ledger);
    one(&mut ledger, open_stream(epoch, topic()));
    one(&mut ledger, land(epoch, 0, 3));
    let backup = ledger.snapshot();
    one(&mut ledger, land(epoch, 3, 3));
    let mut ledger = Ledger::restore(backup).unwrap();
    let epoch = open_session(&mut ledger);
    let announce = |session_epoch| {
        let Entry::OpenStream(mut open) = open_stream(session_epoch, topic()) else {
            unreachable!()
        };
        open.incarnation = Incarnation(1);
        open.landed = EdgeOffset(6);
        Entry::OpenStream(open)
    };
    let behind = RefusedReason::CloudBehind;
    let opened = one(&mut ledger, announce(epoch));
    assert!(matches!(opened, Effect::Refused { reason, .. } if reason == behind));
    let landed = one(&mut ledger, land(epoch, 3, 3));
    assert!(matches!(landed, Effect::Refused { reason, .. } if reason == behind));
    let session = one(&mut ledger, hello(1, cluster, epoch));
    assert_eq!(session, Effect::SessionRefused { reason: behind });
    let begin = Begin {
        now_ms: 1,
        cluster_incarnation_id: 8,
    };
    ledger.apply(Command::Begin(begin), PLACE).unwrap();
    let epoch = open_session(&mut ledger);
    let opened = one(&mut ledger, announce(epoch));
    let Effect::StreamOpened(opened) = opened else {
        panic!("{opened:?}")
    };
    assert_eq!(opened.head.next, EdgeOffset(3));
    one(&mut ledger, land(epoch, 3, 1));
    // Its landed offset is of the earlier life: that is no sign of another restore.
    let opened = one(&mut ledger, announce(epoch));
    assert!(matches!(opened, Effect::StreamOpened(_)));
    // What it had and has no more, from where the earlier life ended: 3 to 5.
    let lost = one(&mut ledger, fork(epoch, 1, 5, ForkReason::CloudRestored));
    assert!(matches!(lost, Effect::StreamForked(forked) if forked.fork.gap_records() == 2));
}

/// The edge's incarnation had been ended by another node before the cloud was restored.
#[test]
fn what_a_fork_declares_lost_begins_where_the_edges_incarnation_ended() {
    let mut ledger = begun();
    let epoch = open_session(&mut ledger);
    one(&mut ledger, open_stream(epoch, topic()));
    one(&mut ledger, land(epoch, 0, 10));
    one(&mut ledger, fork(epoch, 1, 4, ForkReason::Unproved));
    let begin = Begin {
        now_ms: 1,
        cluster_incarnation_id: 8,
    };
    ledger.apply(Command::Begin(begin), PLACE).unwrap();
    let epoch = open_session(&mut ledger);
    one(&mut ledger, open_stream(epoch, topic()));
    let Entry::ForkStream(mut wish) = fork(epoch, 2, 12, ForkReason::CloudRestored) else {
        unreachable!()
    };
    wish.request.edge_incarnation = Incarnation(1);
    let lost = one(&mut ledger, Entry::ForkStream(wish));
    let Effect::StreamForked(forked) = lost else {
        panic!("{lost:?}")
    };
    let gap = (Incarnation(1), EdgeOffset(10), EdgeOffset(12));
    assert_eq!(forked.fork.gap(), Some(gap));
    // No number of an earlier life, whatever that life gave before it was lost.
    assert_eq!(forked.fork.incarnation, Incarnation(1_000_001));
    // Nor an epoch.
    let first = ClusterIncarnation { counter: 1, id: 9 };
    let opened = one(&mut ledger, hello(1, first, SessionEpoch(70)));
    let session_epoch = SessionEpoch(71);
    assert_eq!(opened, Effect::SessionOpened { session_epoch });
}

#[test]
fn an_edge_that_has_seen_a_later_session_tells_that_the_cloud_is_behind() {
    let mut ledger = begun();
    let cluster = ledger.cluster_incarnation().unwrap();
    let refused = one(&mut ledger, hello(1, cluster, SessionEpoch(3)));
    let reason = RefusedReason::CloudBehind;
    assert_eq!(refused, Effect::SessionRefused { reason });
    assert_eq!(ledger.behind().unwrap().seen_epoch, SessionEpoch(3));
    let later = ClusterIncarnation { counter: 7, id: 1 };
    let mut ledger = begun();
    one(&mut ledger, hello(1, later, SessionEpoch(1)));
    let begin = Begin {
        now_ms: 1,
        cluster_incarnation_id: 8,
    };
    ledger.apply(Command::Begin(begin), PLACE).unwrap();
    assert_eq!(ledger.cluster_incarnation().unwrap().counter, 8);
}

#[test]
fn what_cannot_have_been_seen_is_refused_and_holds_up_nobody() {
    let mut ledger = begun();
    let cluster = ledger.cluster_incarnation().unwrap();
    let last = ClusterIncarnation {
        counter: u32::MAX,
        id: 1,
    };
    let reason = RefusedReason::CloudBehind;
    for entry in [
        hello(1, last, SessionEpoch(1)),
        hello(1, cluster, SessionEpoch(u64::MAX - 1)),
    ] {
        assert_eq!(one(&mut ledger, entry), Effect::SessionRefused { reason });
        assert_eq!(ledger.behind(), None);
    }
    let older = ClusterIncarnation { counter: 0, id: 1 };
    let refused = one(&mut ledger, hello(1, older, SessionEpoch(u64::MAX - 1)));
    assert_eq!(refused, Effect::SessionRefused { reason });
    // Nor does the edge itself suffer for good.
    assert_eq!(open_session(&mut ledger), SessionEpoch(1));
}

#[test]
fn who_does_not_speak_for_an_edge_cannot_hold_up_the_others() {
    let mut ledger = begun();
    let cluster = ledger.cluster_incarnation().unwrap();
    let stale = open_session(&mut ledger);
    open_session(&mut ledger);
    let Entry::OpenStream(mut open) = open_stream(stale, topic()) else {
        unreachable!()
    };
    open.landed = EdgeOffset(6);
    let refused = one(&mut ledger, Entry::OpenStream(open));
    let reason = RefusedReason::StaleSessionEpoch;
    assert!(matches!(refused, Effect::Refused { reason: told, .. } if told == reason));
    assert_eq!(ledger.behind(), None);

    let mut seen = [ledger.edge(&edge()).unwrap().session_epoch; 2];
    for turn in 0..8 {
        let opened = one(&mut ledger, hello(1, cluster, seen[turn % 2]));
        if let Effect::SessionOpened { session_epoch } = opened {
            one(&mut ledger, open_stream(session_epoch, topic()));
            seen[turn % 2] = session_epoch;
        }
    }
    let later = ClusterIncarnation { counter: 3, id: 1 };
    let refused = one(&mut ledger, hello(1, later, SessionEpoch(1)));
    let reason = RefusedReason::Quarantined;
    assert_eq!(refused, Effect::SessionRefused { reason });
    assert_eq!(ledger.behind(), None);
}

/// What a hub looks at for connections that say nothing.
#[test]
fn a_session_is_over_once_another_is_granted_or_the_edge_is_held() {
    let mut ledger = begun();
    let cluster = ledger.cluster_incarnation().unwrap();
    let first = open_session(&mut ledger);
    assert_eq!(ledger.session_end(&edge(), first), None);
    one(&mut ledger, open_stream(first, topic()));
    let stale = Some(RefusedReason::StaleSessionEpoch);
    let mut last = first;
    for _ in 1..FIGHTS_MAX {
        let opened = one(&mut ledger, hello(1, cluster, SessionEpoch(0)));
        let Effect::SessionOpened { session_epoch } = opened else {
            panic!("{opened:?}")
        };
        assert_eq!(ledger.session_end(&edge(), last), stale);
        assert_eq!(ledger.session_end(&edge(), session_epoch), None);
        one(&mut ledger, open_stream(session_epoch, topic()));
        last = session_epoch;
    }
    one(&mut ledger, hello(1, cluster, SessionEpoch(0)));
    let held = Some(RefusedReason::Quarantined);
    assert_eq!(ledger.session_end(&edge(), first), held);
    assert_eq!(ledger.session_end(&edge(), last), held);
    assert_eq!(
        ledger.session_end(&edge(), SessionEpoch(0)),
        None,
        "it was granted none"
    );
    one(
        &mut ledger,
        Entry::ReleaseEdge(ReleaseEdge { edge: edge() }),
    );
    assert_eq!(ledger.session_end(&edge(), last), stale);
}

#[test]
fn offsets_past_the_end_are_refused() {
    let mut ledger = begun();
    let epoch = open_session(&mut ledger);
    one(&mut ledger, open_stream(epoch, topic()));
    let reason = RefusedReason::WrongOffset;
    let forked = one(
        &mut ledger,
        fork(epoch, 1, u64::MAX, ForkReason::CloudRestored),
    );
    assert!(matches!(forked, Effect::Refused { reason: told, .. } if told == reason));
    let Entry::Land(land) = land(epoch, 0, 1) else {
        unreachable!()
    };
    let mut offer = land.offer;
    offer.count = u64::MAX;
    let gap = Entry::LandGap(LandGap {
        edge: edge(),
        stream: stream(),
        offer,
        reason: GapReason::Overflow,
    });
    let gap = one(&mut ledger, gap);
    assert!(matches!(gap, Effect::Refused { reason: told, .. } if told == reason));
}

#[test]
fn a_stream_goes_where_its_edge_says_when_that_has_changed() {
    let mut ledger = begun();
    let epoch = open_session(&mut ledger);
    one(&mut ledger, open_stream(epoch, topic()));
    one(&mut ledger, land(epoch, 0, 3));
    let other = TopicName::new("other").unwrap();
    let parked = one(&mut ledger, open_stream(epoch, other.clone()));
    let reason = RefusedReason::Parked;
    assert!(matches!(parked, Effect::Refused { reason: told, .. } if told == reason));
    let create = CreateTopic {
        name: other.clone(),
        topic_id: TopicId(8),
        partitions: 2,
        changes: Vec::new(),
    };
    ledger.apply(Command::CreateTopic(create), PLACE).unwrap();
    one(&mut ledger, open_stream(epoch, other));
    let landed = one(&mut ledger, land(epoch, 3, 1));
    assert!(matches!(landed, Effect::Landed(landed) if landed.fact.topic_id == TopicId(8)));
}

#[test]
fn a_topic_that_is_made_again_takes_its_streams_and_a_lane_has_its_partition() {
    let mut ledger = begun();
    let epoch = open_session(&mut ledger);
    one(&mut ledger, open_stream(epoch, topic()));
    one(&mut ledger, land(epoch, 0, 3));
    let delete = DeleteTopic { topic_id: TOPIC_ID };
    ledger.apply(Command::DeleteTopic(delete), PLACE).unwrap();
    let parked = one(&mut ledger, land(epoch, 3, 1));
    assert!(
        matches!(parked, Effect::Refused { reason: RefusedReason::Parked, head } if head.next.0 == 3)
    );
    let parked = one(&mut ledger, open_stream(epoch, topic()));
    assert!(matches!(
        parked,
        Effect::Refused {
            reason: RefusedReason::Parked,
            ..
        }
    ));
    let create = CreateTopic {
        name: topic(),
        topic_id: TopicId(8),
        partitions: 2,
        changes: Vec::new(),
    };
    ledger.apply(Command::CreateTopic(create), PLACE).unwrap();
    one(&mut ledger, open_stream(epoch, topic()));
    let landed = one(&mut ledger, land(epoch, 3, 1));
    assert!(matches!(landed, Effect::Landed(landed) if landed.fact.topic_id == TopicId(8)));

    let lane = |lane: u32| {
        let Entry::OpenStream(mut open) = open_stream(epoch, topic()) else {
            unreachable!()
        };
        open.stream = stream().with_lane(lane).unwrap();
        Entry::OpenStream(open)
    };
    let opened = one(&mut ledger, lane(1));
    assert!(matches!(opened, Effect::StreamOpened(opened) if opened.target.partition.0 == 1));
    let grow = GrowTopic {
        topic_id: TopicId(8),
        partitions: 4,
    };
    ledger.apply(Command::GrowTopic(grow), PLACE).unwrap();
    // A lane that is there keeps its partition; a new one has its own.
    let opened = one(&mut ledger, lane(3));
    assert!(matches!(opened, Effect::StreamOpened(opened) if opened.target.partition.0 == 3));
    let opened = one(&mut ledger, lane(1));
    let partition = |opened: Opened| (opened.target.partition.0, opened.partitions);
    assert!(matches!(opened, Effect::StreamOpened(opened) if partition(opened) == (1, 4)));
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
            let effects = live.apply(command.clone(), PLACE);
            if index >= cut {
                prop_assert_eq!(restored.apply(command, PLACE), effects);
            }
        }
        prop_assert_eq!(restored.snapshot(), live.snapshot());
    }

    /// Offsets are dense in each partition of a topic's life, and facts and gaps are dense in the
    /// numbers of each incarnation, from where it began.
    #[test]
    fn facts_are_dense_on_both_sides(commands in log()) {
        let mut ledger = Ledger::new();
        let mut next_kafka: BTreeMap<Target, i64> = BTreeMap::new();
        let mut next_edge: BTreeMap<(EdgeId, StreamName, Incarnation), u64> = BTreeMap::new();
        let mut gaps = 0;
        for command in commands {
            for effect in ledger.apply(command, PLACE).unwrap() {
                match effect {
                    Effect::TopicDeleted { topic_id } => {
                        next_kafka.retain(|target, _| target.topic_id != topic_id);
                    }
                    Effect::StreamForked(forked) => {
                        let fork = forked.fork;
                        prop_assert!(fork.incarnation > fork.ended);
                        let key = (forked.edge, forked.stream, fork.incarnation);
                        prop_assert_eq!(next_edge.insert(key, fork.from.0), None);
                        gaps += fork.gap_records();
                    }
                    Effect::GapLanded(gap) => {
                        let next = next_edge.entry((gap.edge, gap.stream, gap.incarnation));
                        let next = next.or_default();
                        prop_assert_eq!(gap.from.0, *next);
                        *next += gap.count;
                        gaps += gap.count;
                    }
                    Effect::Landed(landed) => {
                        let fact = landed.fact;
                        let target = Target { topic_id: fact.topic_id, partition: fact.partition };
                        let kafka = next_kafka.entry(target).or_default();
                        prop_assert_eq!(fact.kafka_offset.0, *kafka);
                        *kafka += fact.count as i64;
                        let next = next_edge.entry((landed.edge, landed.stream, fact.incarnation));
                        let next = next.or_default();
                        prop_assert_eq!(fact.edge_offset.0, *next);
                        *next += fact.count;
                    }
                    _ => {}
                }
            }
        }
        let streams = ledger.edges().flat_map(|(_, edge)| edge.streams.values());
        prop_assert_eq!(streams.map(|stream| stream.gap_records).sum::<u64>(), gaps);
    }

    /// Every store that a topic or a segment names is one that is known, and none has two numbers or loses its own.
    #[test]
    fn stores_are_known_and_keep_their_numbers(commands in log()) {
        let mut ledger = Ledger::new();
        let mut numbers: BTreeMap<u32, String> = BTreeMap::new();
        for command in commands {
            ledger.apply(command, PLACE).unwrap();
            let stores: BTreeMap<u32, String> =
                ledger.stores().map(|(number, url)| (number, url.to_owned())).collect();
            prop_assert!(numbers.iter().all(|(number, url)| stores.get(number) == Some(url)));
            let urls: std::collections::BTreeSet<&String> = stores.values().collect();
            prop_assert_eq!(urls.len(), stores.len());
            numbers = stores;
        }
        let is_known = |number: u32| number == CLUSTER_STORE || numbers.contains_key(&number);
        prop_assert!(ledger.topics().all(|(_, topic)| is_known(topic.settings.store)));
        let segments = ledger.logs().flat_map(|(_, log)| log.segments());
        let ids = segments.map(|segment| segment.id).chain(ledger.free_segments(i64::MAX));
        prop_assert!(ids.into_iter().all(|id| is_known(id.store)));
    }

    #[test]
    fn hostile_snapshots_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Ledger::restore(bytes.into());
    }
}

mod users;
