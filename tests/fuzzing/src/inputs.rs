//! Inputs that are right: frames, batches, commands and snapshots, with numbers that meet and
//! some that lie at the ends of what there is.

use bytes::{Bytes, BytesMut};
use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::frame::{
    Announce, AnnouncedStream, Batch, Fork, Frame, Gap, Granted, GrantedStream, Hello, Landed,
    Ping, Refused, Welcome,
};
use tidegate_bridge_protocol::landing::{ForkReason, ForkRequest, Offer, RefusedReason};
use tidegate_cloud_protocol::ledger::command::{
    AddStore, AlterTopic, Begin, CreateTopic, DeleteTopic, Entry, ForkStream, GrowTopic, Land,
    LandGap, OpenSession, OpenStream, Part, ReleaseEdge, Tick, TopicChange,
};
use tidegate_cloud_protocol::ledger::{Command, Effect, Ledger, Segment, Target};
use tidegate_cloud_protocol::offset_map::OffsetMap;
use tidegate_cloud_protocol::segment::SegmentWriter;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::*;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

use crate::mutate::Random;

const EPOCH: SessionEpoch = SessionEpoch(1);

fn edge(random: &mut Random) -> EdgeId {
    EdgeId::new(format!("edge-{}", random.below(2))).expect("a name")
}

fn stream(random: &mut Random) -> StreamName {
    StreamName::new(format!("stream-{}", random.below(2))).expect("a name")
}

fn topic() -> TopicName {
    TopicName::new("telemetry").expect("a name")
}

fn life(random: &mut Random) -> ClusterIncarnation {
    ClusterIncarnation {
        counter: random.below(3) as u32,
        id: u128::from(random.below(2)),
    }
}

fn epoch(random: &mut Random) -> SessionEpoch {
    match random.below(4) {
        0 => SessionEpoch(random.odd_number()),
        _ => EPOCH,
    }
}

fn offer(random: &mut Random) -> Offer {
    Offer {
        session_epoch: epoch(random),
        incarnation: Incarnation(random.odd_number()),
        base_offset: EdgeOffset(random.odd_number()),
        count: random.odd_number(),
        hash_before: BoundaryHash(random.below(2).into()),
        hash_after: BoundaryHash(random.below(2).into()),
    }
}

fn fork(random: &mut Random) -> ForkRequest {
    ForkRequest {
        session_epoch: epoch(random),
        ends: Incarnation(random.below(3)),
        edge_incarnation: Incarnation(random.odd_number()),
        from: EdgeOffset(random.odd_number()),
        hash: BoundaryHash(random.below(2).into()),
        reason: ForkReason::ALL[random.below(3) as usize],
        is_proved: random.below(2) == 0,
    }
}

/// A record batch of some records, compressed or not.
pub fn batch(random: &mut Random) -> Vec<u8> {
    sealed(random).1.to_vec()
}

fn sealed(random: &mut Random) -> (u64, Bytes) {
    let mut builder = BatchBuilder::new();
    let count = 1 + random.below(4);
    for _ in 0..count {
        let length = random.below(40) as usize;
        builder.push(&Record {
            value: (random.below(5) > 0).then(|| vec![0x55; length].into()),
            ..Record::default()
        });
    }
    let compression = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let compression = compression[random.below(5) as usize];
    let base = random.below(4) as i64;
    (
        count,
        builder.seal(base, compression, &mut Compressor::new()),
    )
}

fn frame(random: &mut Random) -> Frame {
    let stream_id = StreamId(random.below(2) as u32);
    match random.below(11) {
        0 => Frame::Hello(Hello {
            protocol_version: random.below(3) as u16,
            store_id: StoreId(1),
            cluster_incarnation: life(random),
            session_epoch: epoch(random),
        }),
        1 => Frame::Welcome(Welcome {
            protocol_version: 1,
            session_epoch: EPOCH,
            cluster_incarnation: life(random),
            time_ms: 0,
        }),
        2 => Frame::Announce(Announce {
            streams: vec![AnnouncedStream {
                stream: stream_id,
                name: stream(random),
                topic: topic(),
                incarnation: Incarnation(random.odd_number()),
                first: EdgeOffset(random.odd_number()),
                next: EdgeOffset(random.odd_number()),
                landed: EdgeOffset(random.odd_number()),
                landed_life: random.below(3) as u32,
            }],
        }),
        3 => Frame::Granted(Granted {
            streams: vec![GrantedStream {
                stream: stream_id,
                incarnation: Incarnation(random.odd_number()),
                next: EdgeOffset(random.odd_number()),
                hash: BoundaryHash(random.below(2).into()),
                refused: (random.below(5) == 0).then_some(RefusedReason::Parked),
                partitions: random.below(3) as u32,
            }],
        }),
        4 | 5 => {
            let (count, batch) = sealed(random);
            let offer = Offer {
                base_offset: EdgeOffset(random.below(4)),
                count,
                ..offer(random)
            };
            Frame::Batch(Batch {
                request: random.below(4),
                stream: stream_id,
                offer,
                batch,
            })
        }
        6 => Frame::Gap(Gap {
            request: random.below(4),
            stream: stream_id,
            offer: offer(random),
            reason: GapReason::Overflow,
        }),
        7 => Frame::Landed(Landed {
            request: random.below(4),
            stream: stream_id,
            incarnation: Incarnation(random.below(3)),
            landed: EdgeOffset(random.odd_number()),
            hash: BoundaryHash(random.below(2).into()),
            facts: Vec::new(),
        }),
        8 => Frame::Refused(Refused {
            request: random.below(4),
            stream: stream_id,
            reason: RefusedReason::ALL[random.below(11) as usize],
            incarnation: Incarnation(random.below(3)),
            next: EdgeOffset(random.odd_number()),
            hash: BoundaryHash(random.below(2).into()),
        }),
        9 => Frame::Fork(Fork {
            stream: stream_id,
            request: fork(random),
        }),
        _ => Frame::Ping(Ping {
            nonce: random.number(),
        }),
    }
}

/// Frames one after the other; the first byte says how they are cut in pieces, or answered.
pub fn frames(random: &mut Random) -> Vec<u8> {
    let mut out = BytesMut::from(&[random.below(256) as u8][..]);
    let welcome = [
        Frame::Hello(Hello {
            protocol_version: 1,
            store_id: StoreId(1),
            cluster_incarnation: ClusterIncarnation::default(),
            session_epoch: SessionEpoch(0),
        }),
        Frame::Welcome(Welcome {
            protocol_version: 1,
            session_epoch: EPOCH,
            cluster_incarnation: ClusterIncarnation { counter: 1, id: 1 },
            time_ms: 0,
        }),
    ];
    welcome.iter().for_each(|frame| frame.encode(&mut out));
    for _ in 0..random.below(12) {
        frame(random).encode(&mut out);
    }
    out.to_vec()
}

fn entry(random: &mut Random) -> Entry {
    let (edge, stream) = (edge(random), stream(random));
    match random.below(9) {
        0 => Entry::OpenSession(OpenSession {
            edge,
            store_id: StoreId(1),
            seen_cluster: life(random),
            seen_epoch: SessionEpoch(random.odd_number()),
        }),
        1 => Entry::OpenStream(OpenStream {
            edge,
            session_epoch: epoch(random),
            stream,
            incarnation: Incarnation(random.odd_number()),
            topic: topic(),
            landed: EdgeOffset(random.odd_number()),
            landed_life: random.below(3) as u32,
        }),
        2 => Entry::ForkStream(ForkStream {
            edge,
            stream,
            request: fork(random),
        }),
        3 => Entry::LandGap(LandGap {
            edge,
            stream,
            offer: offer(random),
            reason: GapReason::Overflow,
        }),
        4 => Entry::ReleaseEdge(ReleaseEdge { edge }),
        5 => Entry::AddStore(AddStore {
            url: format!("s3://bucket-{}", random.below(3)),
        }),
        6 => Entry::AlterTopic(AlterTopic {
            topic_id: TopicId(random.below(2).into()),
            changes: vec![TopicChange::Store(random.below(4) as u32)],
        }),
        _ => Entry::Land(Land {
            edge,
            stream,
            offer: offer(random),
            part: Part::default(),
        }),
    }
}

fn command(random: &mut Random) -> Command {
    let topic_id = TopicId(random.below(2).into());
    match random.below(10) {
        0 => Command::Begin(Begin {
            now_ms: random.odd_number() as i64,
            cluster_incarnation_id: random.below(2).into(),
        }),
        1 => Command::CreateTopic(CreateTopic {
            name: topic(),
            topic_id,
            partitions: random.below(4) as u32,
            changes: Vec::new(),
        }),
        2 => Command::DeleteTopic(DeleteTopic { topic_id }),
        3 => Command::GrowTopic(GrowTopic {
            topic_id,
            partitions: random.below(9) as u32,
        }),
        _ => Command::Tick(Tick {
            now_ms: random.odd_number() as i64,
            entries: (0..random.below(5)).map(|_| entry(random)).collect(),
        }),
    }
}

/// Commands of a ledger that has begun, each behind its length.
pub fn commands(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let (edge, topic_id) = (edge(random), TopicId(1));
    let open = OpenSession {
        edge,
        store_id: StoreId(1),
        seen_cluster: ClusterIncarnation::default(),
        seen_epoch: SessionEpoch(0),
    };
    let first = [
        Command::Begin(Begin {
            now_ms: 1,
            cluster_incarnation_id: 1,
        }),
        Command::CreateTopic(CreateTopic {
            name: topic(),
            topic_id,
            partitions: 2,
            changes: Vec::new(),
        }),
        Command::Tick(Tick {
            now_ms: 2,
            entries: vec![Entry::OpenSession(open)],
        }),
    ];
    let more = (0..random.below(12)).map(|_| command(random));
    for command in first.into_iter().chain(more.collect::<Vec<_>>()) {
        let mut encoded = BytesMut::new();
        command.encode(&mut encoded);
        out.extend((encoded.len() as u16).to_le_bytes());
        out.extend(encoded);
    }
    out
}

/// A ledger that some commands have made.
pub fn snapshot(random: &mut Random) -> Vec<u8> {
    let mut ledger = Ledger::new();
    crate::targets::apply_all(&mut ledger, &commands(random));
    ledger.snapshot().to_vec()
}

/// A map of some facts.
pub fn offset_map(random: &mut Random) -> Vec<u8> {
    let mut map = OffsetMap::new();
    for _ in 0..random.below(8) {
        let fact = Fact {
            incarnation: Incarnation(random.below(2)),
            edge_offset: EdgeOffset(random.below(20)),
            count: 1 + random.below(5),
            cluster_incarnation: life(random),
            topic_id: TopicId(random.below(2).into()),
            partition: PartitionId(random.below(2) as i32),
            kafka_offset: KafkaOffset(random.below(40) as i64),
        };
        // Some contradict others.
        let _ = map.add(&edge(random), &stream(random), &fact);
        if random.below(4) == 0 {
            pack(&mut map, &fact);
        }
    }
    map.snapshot().to_vec()
}

/// Facts about a fact's partition go into a segment.
fn pack(map: &mut OffsetMap, fact: &Fact) {
    let target = Target {
        topic_id: fact.topic_id,
        partition: fact.partition,
    };
    let (base, end) = (KafkaOffset(0), KafkaOffset(100));
    let mut writer = SegmentWriter::new(target, base);
    let facts = map.facts_in(target, base, end);
    let pushed = writer.push_facts(&facts);
    if let (Ok(()), Ok((_, summary))) = (pushed, writer.finish_at(end)) {
        let segment = Segment {
            base,
            end,
            ..Segment::default()
        };
        let facts = Some(summary.facts);
        let packed = Effect::Packed {
            target,
            segment,
            facts,
        };
        let _ = map.apply(&packed, fact.cluster_incarnation);
    }
}

/// `user`, whose password nobody here knows.
pub const SCRAM_USER: &str = "user:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
    $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// The server's part of the nonce.
pub const SCRAM_NONCE: &str = "server";

/// A client's two messages, right in form.
pub fn scram(random: &mut Random) -> Vec<u8> {
    let header = ["n,,", "y,,", "n,a=user,"][random.below(3) as usize];
    let channel_binding = ["biws", "eSws", "bixhPXVzZXIs"][random.below(3) as usize];
    let name = ["user", "nobody", "us=2Cer", ""][random.below(4) as usize];
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let first = format!("{header}n={name},r=abc");
    format!("{first}\nc={channel_binding},r=abc{SCRAM_NONCE},p={proof}").into_bytes()
}
