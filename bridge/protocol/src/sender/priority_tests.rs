//! What has priority is read, and so sent, before what waits with less.

use tidegate_shared::id::{BoundaryHash, Incarnation, StreamName, TopicName};

use super::*;
use crate::frame::{Granted, GrantedStream};

const CLUSTER: ClusterIncarnation = ClusterIncarnation { counter: 1, id: 7 };

fn local(stream: u32, priority: u8) -> LocalStream {
    LocalStream {
        stream: StreamId(stream),
        name: StreamName::new(format!("s{stream}")).unwrap(),
        topic: TopicName::new(format!("s{stream}")).unwrap(),
        incarnation: Incarnation(1),
        first: EdgeOffset(0),
        next: EdgeOffset(10),
        landed: EdgeOffset(0),
        landed_hash: BoundaryHash(0),
        landed_life: 0,
        priority,
    }
}

fn granted(stream: u32) -> GrantedStream {
    GrantedStream {
        stream: StreamId(stream),
        incarnation: Incarnation(1),
        next: EdgeOffset(0),
        hash: BoundaryHash(0),
        refused: None,
        partitions: 0,
    }
}

#[test]
fn streams_take_turns_within_a_priority_and_go_before_those_of_a_lower_one() {
    let limits = SenderLimits {
        read_streams_max: 5,
        reads_max: 1,
        ..SenderLimits::default()
    };
    let mut sender = Sender::new(limits, StoreId(1), CLUSTER, SessionEpoch(0));
    for (stream, priority) in (0..).zip([0, 0, 7, 3, 7]) {
        sender.handle_stream(local(stream, priority));
    }
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
    let streams = (0..5).map(granted).collect();
    sender.handle_frame(now, Frame::Granted(Granted { streams }));
    let mut events = std::iter::from_fn(|| sender.poll_event());
    let read = events.find_map(|event| match event {
        SenderEvent::Read { streams, .. } => Some(streams),
        _ => None,
    });
    let order: Vec<u32> = read.unwrap().iter().map(|it| it.stream.0).collect();
    assert_eq!(order, [2, 4, 3, 0, 1]);
}
