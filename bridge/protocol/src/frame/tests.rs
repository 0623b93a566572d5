//! Frames round-trip, strangers' bytes do no harm, and the extension rule holds.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::*;

use super::*;
use crate::fact::Fact;
use crate::landing::{ForkReason, ForkRequest, Offer, RefusedReason};

fn frame() -> impl Strategy<Value = Frame> {
    let hello = (any::<u128>(), any::<u64>()).prop_map(|(id, epoch)| {
        Frame::Hello(Hello {
            protocol_version: 1,
            store_id: StoreId(id),
            cluster_incarnation: ClusterIncarnation { counter: 3, id },
            session_epoch: SessionEpoch(epoch),
        })
    });
    let streams = prop::collection::vec(("[a-z]{1,20}", any::<u64>()), 0..20);
    let announce = streams.prop_map(|streams| {
        let streams = (0..)
            .zip(streams)
            .map(|(number, (name, next))| AnnouncedStream {
                stream: StreamId(number),
                name: StreamName::new(name.clone()).unwrap(),
                topic: TopicName::new(name).unwrap(),
                incarnation: Incarnation(1),
                first: EdgeOffset(0),
                next: EdgeOffset(next),
                landed: EdgeOffset(0),
                landed_life: 7,
            });
        Frame::Announce(Announce {
            streams: streams.collect(),
        })
    });
    let granted = prop::collection::vec((any::<u32>(), 0..9_u8), 0..20).prop_map(|streams| {
        let streams = streams.into_iter().map(|(stream, refused)| GrantedStream {
            stream: StreamId(stream),
            incarnation: Incarnation(1),
            next: EdgeOffset(2),
            hash: BoundaryHash(3),
            refused: RefusedReason::from_number(refused),
            partitions: stream % 7,
        });
        Frame::Granted(Granted {
            streams: streams.collect(),
        })
    });
    let batch = (any::<u64>(), prop::collection::vec(any::<u8>(), 0..500));
    let batch = batch.prop_map(|(number, bytes)| {
        let offer = Offer {
            session_epoch: SessionEpoch(number),
            incarnation: Incarnation(2),
            base_offset: EdgeOffset(number),
            count: 7,
            hash_before: BoundaryHash(1),
            hash_after: BoundaryHash(2),
        };
        let stream = StreamId(4);
        Frame::Batch(Batch {
            request: number,
            stream,
            offer,
            batch: Bytes::from(bytes),
        })
    });
    let gap = (any::<u64>(), prop::sample::select(&GapReason::ALL[..]));
    let gap = gap.prop_map(|(number, reason)| {
        let offer = Offer {
            session_epoch: SessionEpoch(1),
            incarnation: Incarnation(2),
            base_offset: EdgeOffset(number),
            count: number,
            hash_before: BoundaryHash(3),
            hash_after: BoundaryHash(4),
        };
        Frame::Gap(Gap {
            request: number,
            stream: StreamId(5),
            offer,
            reason,
        })
    });
    let landed = (any::<u64>(), 0..5_usize).prop_map(|(landed, facts)| {
        let fact = Fact {
            incarnation: Incarnation(1),
            edge_offset: EdgeOffset(2),
            count: 3,
            cluster_incarnation: ClusterIncarnation { counter: 4, id: 5 },
            topic_id: TopicId(6),
            partition: PartitionId(7),
            kafka_offset: KafkaOffset(8),
        };
        Frame::Landed(Landed {
            request: 1,
            stream: StreamId(2),
            incarnation: Incarnation(3),
            landed: EdgeOffset(landed),
            hash: BoundaryHash(9),
            facts: vec![fact; facts],
        })
    });
    let refused = prop::sample::select(&RefusedReason::ALL[..]).prop_map(|reason| {
        Frame::Refused(Refused {
            request: 1,
            stream: StreamId(2),
            incarnation: Incarnation(3),
            reason,
            next: EdgeOffset(4),
            hash: BoundaryHash(5),
        })
    });
    let fork = (any::<u64>(), prop::sample::select(&ForkReason::ALL[..]));
    let fork = fork.prop_map(|(number, reason)| {
        let request = ForkRequest {
            session_epoch: SessionEpoch(1),
            ends: Incarnation(number),
            edge_incarnation: Incarnation(2),
            from: EdgeOffset(number),
            hash: BoundaryHash(u128::from(number)),
            reason,
            is_proved: number % 2 == 0,
        };
        let stream = StreamId(3);
        Frame::Fork(Fork { stream, request })
    });
    let other = any::<u64>().prop_flat_map(|nonce| {
        prop_oneof![
            Just(Frame::Ping(Ping { nonce })),
            Just(Frame::Pong(Pong { nonce, time_ms: 5 })),
            Just(Frame::Welcome(Welcome {
                protocol_version: 1,
                session_epoch: SessionEpoch(nonce),
                cluster_incarnation: ClusterIncarnation { counter: 1, id: 2 },
                time_ms: -3,
            })),
        ]
    });
    prop_oneof![
        hello, announce, granted, batch, gap, landed, refused, fork, other
    ]
}

fn decode_all(input: &mut BytesMut) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = Frame::decode(input)? {
        frames.push(frame);
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_round_trip_in_pieces(
        frames in prop::collection::vec(frame(), 1..8),
        piece in 1..200_usize,
    ) {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        let (mut input, mut found) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            found.extend(decode_all(&mut input).unwrap());
        }
        prop_assert_eq!(found, frames);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn bytes_of_a_stranger_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_all(&mut BytesMut::from(&bytes[..]));
    }

    #[test]
    fn a_damaged_frame_never_panics(
        frame in frame(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode_all(&mut bytes);
    }

    /// The extension rule: what a newer node adds behind the known fields is ignored.
    #[test]
    fn fields_of_a_newer_node_are_ignored(frame in frame(), more in 1..50_u32) {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        bytes.put_bytes(0xaa, more as usize);
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        prop_assert_eq!(decode_all(&mut bytes), Ok(vec![frame]));
    }
}

/// The same for the items of lists.
#[test]
fn fields_of_a_newer_node_are_ignored_in_lists() {
    let granted = GrantedStream {
        stream: StreamId(1),
        incarnation: Incarnation(2),
        next: EdgeOffset(3),
        hash: BoundaryHash(4),
        refused: None,
        partitions: 5,
    };
    let frame = Frame::Granted(Granted {
        streams: vec![granted; 2],
    });
    let (mut bytes, mut longer) = (BytesMut::new(), BytesMut::new());
    frame.encode(&mut bytes);
    let item = u16::from_le_bytes([bytes[10], bytes[11]]) as usize;
    longer.put_slice(&bytes[..10]);
    for at in [12, 12 + item + 2] {
        longer.put_u16_le(item as u16 + 3);
        longer.put_slice(&bytes[at..at + item]);
        longer.put_slice(&[1, 2, 3]);
    }
    let length = (longer.len() - 4) as u32;
    longer[..4].copy_from_slice(&length.to_le_bytes());
    assert_eq!(decode_all(&mut longer), Ok(vec![frame]));
}

#[test]
fn a_frame_of_an_unknown_type_is_skipped() {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(7);
    bytes.put_slice(&[200, 1, 1, 2, 3, 4, 5]);
    let ping = Frame::Ping(Ping { nonce: 1 });
    ping.encode(&mut bytes);
    assert_eq!(decode_all(&mut bytes), Ok(vec![ping]));
}

#[test]
fn a_frame_of_4_gib_is_refused_before_it_is_reserved() {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(u32::MAX);
    assert!(matches!(
        Frame::decode(&mut bytes),
        Err(FrameError::TooLarge { .. })
    ));
    assert!(bytes.capacity() < 1 << 20);
}

#[test]
fn a_newer_version_of_a_known_frame_is_refused() {
    let mut bytes = BytesMut::new();
    Frame::Ping(Ping { nonce: 1 }).encode(&mut bytes);
    bytes[5] = 2;
    assert_eq!(
        Frame::decode(&mut bytes),
        Err(FrameError::Version {
            kind: 8,
            version: 2,
            known: 1
        })
    );
}
