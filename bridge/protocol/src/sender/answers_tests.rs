//! Answers that do not fit what is under way: none of them moves a stream, or takes room for ever.
//! An honest hub gives most of them never.

use tidegate_shared::id::{BoundaryHash, Incarnation, StreamName, TopicName};

use super::*;
use crate::frame::{Granted, GrantedStream, Landed, Refused};
use crate::landing::RefusedReason;

const CLUSTER: ClusterIncarnation = ClusterIncarnation { counter: 1, id: 7 };
const STREAM: StreamId = StreamId(0);
const BATCH_BYTES: usize = 100;

/// The sender of one stream, with two batches of five messages under way: requests 1 and 2.
fn under_way() -> Sender {
    let limits = SenderLimits::default();
    let mut sender = Sender::new(limits, StoreId(1), CLUSTER, SessionEpoch(0));
    sender.handle_stream(LocalStream {
        stream: STREAM,
        name: StreamName::new("telemetry").unwrap(),
        topic: TopicName::new("telemetry").unwrap(),
        incarnation: Incarnation(1),
        first: EdgeOffset(0),
        next: EdgeOffset(10),
        landed: EdgeOffset(0),
        landed_hash: BoundaryHash(0),
        landed_life: 0,
        priority: 0,
    });
    sender.handle_connected();
    let now = Instant::now();
    let welcome = Welcome {
        protocol_version: PROTOCOL_VERSION,
        session_epoch: SessionEpoch(1),
        cluster_incarnation: CLUSTER,
        time_ms: 0,
    };
    sender.handle_frame(now, Frame::Welcome(welcome));
    sender.handle_session_stored(SessionEpoch(1));
    let streams = vec![GrantedStream {
        stream: STREAM,
        incarnation: Incarnation(1),
        next: EdgeOffset(0),
        hash: BoundaryHash(0),
        refused: None,
        partitions: 0,
    }];
    sender.handle_frame(now, Frame::Granted(Granted { streams }));
    let batch = |from: u64| SealedBatch {
        base_offset: EdgeOffset(from),
        count: 5,
        hash_before: BoundaryHash(from.into()),
        hash_after: BoundaryHash((from + 5).into()),
        batch: vec![0; BATCH_BYTES].into(),
    };
    let read = StreamRead {
        stream: STREAM,
        from: EdgeOffset(0),
        outcome: ReadOutcome::Batches(vec![batch(0), batch(5)]),
    };
    sender.handle_read(now, vec![read]);
    assert_eq!(sender.window_bytes(), 2 * BATCH_BYTES);
    while sender.poll_event().is_some() {}
    sender
}

fn landed(incarnation: u64, landed: u64) -> Frame {
    Frame::Landed(Landed {
        request: 1,
        stream: STREAM,
        incarnation: Incarnation(incarnation),
        landed: EdgeOffset(landed),
        hash: BoundaryHash(landed.into()),
        facts: Vec::new(),
    })
}

fn refused(request: u64, reason: RefusedReason) -> Frame {
    Frame::Refused(Refused {
        request,
        stream: STREAM,
        incarnation: Incarnation(1),
        reason,
        next: EdgeOffset(0),
        hash: BoundaryHash(0),
    })
}

fn answer(sender: &mut Sender, frame: Frame) -> Option<SenderEvent> {
    sender.handle_frame(Instant::now(), frame);
    sender.poll_event()
}

#[test]
fn what_landed_under_another_incarnation_is_not_believed() {
    let mut sender = under_way();
    assert_eq!(answer(&mut sender, landed(2, 5)), None);
    assert_eq!(sender.window_bytes(), 2 * BATCH_BYTES);
    let told = answer(&mut sender, landed(1, 5));
    assert!(matches!(told, Some(SenderEvent::Landed { .. })), "{told:?}");
}

/// The journal is to say whether it is one of its own.
#[test]
fn a_boundary_that_is_not_under_way_is_proved_first() {
    let mut sender = under_way();
    let asked = answer(&mut sender, landed(1, 7));
    let prove = SenderEvent::Prove {
        stream: STREAM,
        offset: EdgeOffset(7),
    };
    assert_eq!(asked, Some(prove));
}

#[test]
fn a_refusal_of_what_was_answered_before_does_not_rewind() {
    let mut sender = under_way();
    assert!(answer(&mut sender, landed(1, 5)).is_some());
    assert_eq!(
        answer(&mut sender, refused(1, RefusedReason::WrongOffset)),
        None
    );
    assert_eq!(sender.window_bytes(), BATCH_BYTES, "the second goes on");
}

#[test]
fn what_is_refused_leaves_the_window_whatever_the_reason() {
    for reason in RefusedReason::ALL {
        if reason.ends_session().is_some() {
            continue;
        }
        let mut sender = under_way();
        answer(&mut sender, refused(1, reason));
        assert_eq!(sender.window_bytes(), 0, "{reason}");
    }
}
