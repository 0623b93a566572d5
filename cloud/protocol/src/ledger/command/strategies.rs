//! Random commands for property tests: few names and small numbers, so that they meet.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_bridge_protocol::landing::{ForkReason, ForkRequest, Offer};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::*;
use tidegate_shared::scram::{Mechanism, Verifier};

use super::*;
use crate::acls::strategies::{filter, rule};
use crate::groups::{Client, Generation, GenerationMember};
use crate::index::SegmentId;
use crate::ledger::producers::Sequence;
use crate::ledger::{Segment, TokenName, UserName};
use crate::offset_map::FactsMark;

pub(in super::super) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => (any::<u16>(), any::<u128>()).prop_map(|(now_ms, cluster_incarnation_id)| {
            Command::Begin(Begin { now_ms: i64::from(now_ms), cluster_incarnation_id })
        }),
        2 => (topic(), 0u128..6, 1u32..5, vec(change(), 0..2)).prop_map(|(name, id, partitions, changes)| {
            Command::CreateTopic(CreateTopic { name, topic_id: TopicId(id), partitions, changes })
        }),
        1 => (0u128..6).prop_map(|id| Command::DeleteTopic(DeleteTopic { topic_id: TopicId(id) })),
        1 => (0u128..6, 1u32..7).prop_map(|(id, partitions)| {
            Command::GrowTopic(GrowTopic { topic_id: TopicId(id), partitions })
        }),
        20 => (any::<u16>(), vec(entry(), 0..6)).prop_map(|(now_ms, entries)| {
            Command::Tick(Tick { now_ms: i64::from(now_ms), entries })
        }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => (target(), 1u64..4, sequence()).prop_map(|(target, count, sequence)| {
            let part = Part { batch_bytes: 10, ..Part::default() };
            Entry::Produce(Produce { target, count, part, sequence })
        }),
        1 => Just(Entry::AllotProducer(AllotProducer)),
        2 => vec(rule(), 0..4).prop_map(|rules| Entry::AddRules(AddRules { rules })),
        1 => vec(filter(), 0..3).prop_map(|filters| Entry::RemoveRules(RemoveRules { filters })),
        1 => (0..2u8, prop::option::of(vec(target(), 0..3))).prop_map(|(group, targets)| {
            let group = GroupName::new(format!("group-{group}")).unwrap();
            Entry::ForgetOffsets(ForgetOffsets { group, targets })
        }),
        1 => (edge(), 0u128..3, 0u32..3, 0u64..3).prop_map(|(edge, id, counter, epoch)| {
            Entry::OpenSession(OpenSession {
                edge,
                store_id: StoreId(id),
                seen_cluster: ClusterIncarnation { counter, id: u128::from(counter) },
                seen_epoch: SessionEpoch(epoch),
            })
        }),
        3 => (edge(), 0u64..3, stream(), 0u64..3, topic(), 0u64..4, 0u32..3).prop_map(
            |(edge, epoch, stream, incarnation, topic, landed, landed_life)| Entry::OpenStream(OpenStream {
                edge,
                session_epoch: SessionEpoch(epoch),
                stream,
                incarnation: Incarnation(incarnation),
                topic,
                landed: EdgeOffset(landed),
                landed_life,
            })
        ),
        1 => (edge(), stream(), 0u64..3, 0u64..3, 0u64..8, prop::sample::select(&ForkReason::ALL[..]))
            .prop_map(|(edge, stream, epoch, ends, from, reason)| {
                let request = ForkRequest {
                    session_epoch: SessionEpoch(epoch),
                    ends: Incarnation(ends),
                    edge_incarnation: Incarnation(epoch),
                    from: EdgeOffset(from),
                    hash: BoundaryHash(u128::from(from)),
                    reason,
                    is_proved: from % 2 == 0,
                };
                Entry::ForkStream(ForkStream { edge, stream, request })
            }),
        1 => edge().prop_map(|edge| Entry::ReleaseEdge(ReleaseEdge { edge })),
        1 => vec((edge(), stream(), 0u64..9, 1u64..5), 0..4).prop_map(|facts| {
            let facts = facts.into_iter().map(|(edge, stream, offset, count)| {
                let fact = Fact {
                    incarnation: Incarnation(1),
                    edge_offset: EdgeOffset(offset),
                    count,
                    cluster_incarnation: ClusterIncarnation { counter: 9, id: 1 },
                    topic_id: TopicId(3),
                    partition: PartitionId(0),
                    kafka_offset: KafkaOffset(offset as i64),
                };
                NamedFact { edge, stream, fact }
            });
            Entry::ImportFacts(ImportFacts { facts: facts.collect() })
        }),
        1 => any::<u8>().prop_map(|id| Entry::OpenBroker(OpenBroker { id: u128::from(id) })),
        3 => alter_user(),
        2 => (0..2u8, generation()).prop_map(|(group, generation)| {
            let group = GroupName::new(format!("group-{group}")).unwrap();
            Entry::KeepGeneration(KeepGeneration { group, generation })
        }),
        1 => (0..3u8).prop_map(|n| Entry::AddStore(AddStore { url: format!("s3://bucket-{n}") })),
        6 => (target(), segment(), vec(segment_id(), 0..4), prop::option::of((0..9_u32, any::<u32>())))
            .prop_map(|(target, segment, replaces, facts)| {
                let facts = facts.map(|(count, crc)| FactsMark { count, crc });
                Entry::Pack(Pack { target, segment, replaces, facts })
            }),
        2 => (target(), 0i64..20).prop_map(|(target, start)| {
            Entry::Trim(Trim { target, start: KafkaOffset(start) })
        }),
        1 => (0u128..6, vec(change(), 0..3)).prop_map(|(id, changes)| {
            Entry::AlterTopic(AlterTopic { topic_id: TopicId(id), changes })
        }),
        1 => (vec(segment_id(), 0..3), vec(0u64..3, 0..3)).prop_map(|(segments, log_objects)| {
            Entry::Swept(Swept { segments, log_objects })
        }),
        10 => land().prop_map(Entry::Land),
        3 => (land(), prop::sample::select(&GapReason::ALL[..])).prop_map(|(land, reason)| {
            let Land { edge, stream, offer, .. } = land;
            Entry::LandGap(LandGap { edge, stream, offer, reason })
        }),
        2 => (0..2u8, vec(offset_commit(), 0..4)).prop_map(|(group, offsets)| {
            let group = GroupName::new(format!("group-{group}")).unwrap();
            Entry::CommitOffsets(CommitOffsets { group, offsets })
        }),
    ]
}

fn generation() -> impl Strategy<Value = Generation> {
    let bytes = || vec(any::<u8>(), 0..5).prop_map(Bytes::from);
    let member = (
        prop::option::of("[a-z]{0,3}"),
        vec(("[a-z]{0,3}", bytes()), 0..3),
        bytes(),
    );
    let member = member.prop_map(|(instance, protocols, assignment)| GenerationMember {
        instance,
        client: Client {
            id: "client".to_owned(),
            host: "/192.0.2.7".to_owned(),
        },
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocols,
        assignment,
    });
    let members = prop::collection::btree_map("[a-z]{0,3}", member, 0..4);
    (any::<i32>(), members).prop_map(|(number, members)| Generation {
        number,
        protocol_type: "consumer".to_owned(),
        protocol: "range".to_owned(),
        leader: "a".to_owned(),
        members,
    })
}

fn alter_user() -> impl Strategy<Value = Entry> {
    let changes = vec(user_change(), 0..4);
    (0..4u8, any::<bool>(), any::<[u8; 32]>(), changes).prop_map(|(n, is_new, secret, changes)| {
        Entry::AlterUser(AlterUser {
            name: UserName::new(format!("user-{n}")).unwrap(),
            is_new,
            secret,
            changes,
        })
    })
}

fn user_change() -> impl Strategy<Value = UserChange> {
    let mechanism = || prop::sample::select(&Mechanism::ALL[..]);
    let token = || (0..3u8).prop_map(|n| TokenName::new(format!("token-{n}")).unwrap());
    prop_oneof![
        3 => (mechanism(), 4_096u32..4_100, vec(any::<u8>(), 1..20)).prop_map(|(mechanism, iterations, salt)| {
            let key = vec![7; mechanism.key_bytes()];
            let verifier = Verifier::of_parts(mechanism, iterations, &salt, [&key, &key]);
            UserChange::SetVerifier(verifier.unwrap())
        }),
        1 => mechanism().prop_map(UserChange::RemoveVerifier),
        2 => (token(), 0..6u8).prop_map(|(name, n)| UserChange::AddToken { name, hash: [n; 32] }),
        1 => token().prop_map(UserChange::RemoveToken),
        1 => Just(UserChange::RemoveAll),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    (0u128..6, 0i32..3).prop_map(|(id, partition)| Target {
        topic_id: TopicId(id),
        partition: PartitionId(partition),
    })
}

fn segment_id() -> impl Strategy<Value = SegmentId> {
    (store(), 0u64..3, 0u64..6).prop_map(|(store, broker_epoch, number)| SegmentId {
        store,
        broker_epoch,
        number,
    })
}

fn segment() -> impl Strategy<Value = Segment> {
    (segment_id(), 0i64..6, 1i64..5, any::<i64>()).prop_map(|(id, base, count, time)| Segment {
        id,
        base: KafkaOffset(base),
        end: KafkaOffset(base + count),
        bytes: 150,
        index_position: 100,
        batches: 1,
        max_timestamp_ms: time,
        landed_ms: 5,
    })
}

fn change() -> impl Strategy<Value = TopicChange> {
    prop_oneof![
        any::<i64>().prop_map(TopicChange::RetentionMs),
        any::<i64>().prop_map(TopicChange::RetentionBytes),
        (1u8..4).prop_map(TopicChange::CleanupPolicy),
        any::<i64>().prop_map(TopicChange::DeleteRetentionMs),
        any::<i64>().prop_map(TopicChange::PackMergeBelow),
        store().prop_map(TopicChange::Store),
        any::<u32>().prop_map(TopicChange::MaxMessageBytes),
        any::<bool>().prop_map(TopicChange::LogAppendTime),
        any::<u32>().prop_map(TopicChange::SegmentBytes),
    ]
}

/// The cluster's most often; some that are not known.
fn store() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0u32), 1 => 1u32..4]
}

fn land() -> impl Strategy<Value = Land> {
    (
        edge(),
        stream(),
        0u64..3,
        0u64..3,
        0u64..6,
        0u64..4,
        any::<i64>(),
    )
        .prop_map(
            |(edge, stream, epoch, incarnation, base, count, max_timestamp_ms)| Land {
                edge,
                stream,
                offer: Offer {
                    session_epoch: SessionEpoch(epoch),
                    incarnation: Incarnation(incarnation),
                    base_offset: EdgeOffset(base),
                    count,
                    // A hash that is a function of the offset matches often enough to land.
                    hash_before: BoundaryHash(u128::from(base)),
                    hash_after: BoundaryHash(u128::from(base + count)),
                },
                part: Part {
                    attachment_offset: 0,
                    batch_bytes: 100,
                    max_timestamp_ms,
                },
            },
        )
}

fn offset_commit() -> impl Strategy<Value = OffsetCommit> {
    (0u128..6, 0i32..5, 0i64..100, -1i32..3, "[a-z]{0,5}").prop_map(
        |(topic_id, partition, offset, leader_epoch, metadata)| OffsetCommit {
            topic_id: TopicId(topic_id),
            partition: PartitionId(partition),
            offset: KafkaOffset(offset),
            leader_epoch,
            metadata,
        },
    )
}

fn edge() -> impl Strategy<Value = EdgeId> {
    (0..3u8).prop_map(|n| EdgeId::new(format!("edge-{n}")).unwrap())
}

fn stream() -> impl Strategy<Value = StreamName> {
    const NAMES: [&str; 4] = ["stream-0", "stream-1", "keyed#0", "keyed#3"];
    prop::sample::select(&NAMES[..]).prop_map(|name| StreamName::new(name).unwrap())
}

fn topic() -> impl Strategy<Value = TopicName> {
    (0..3u8).prop_map(|n| TopicName::new(format!("topic-{n}")).unwrap())
}

fn sequence() -> impl Strategy<Value = Option<Sequence>> {
    prop::option::of((0i64..3, 0i16..2, 0i32..6).prop_map(
        |(producer_id, producer_epoch, first)| Sequence {
            producer_id,
            producer_epoch,
            first,
        },
    ))
}
