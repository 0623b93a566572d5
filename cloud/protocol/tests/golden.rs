//! Every command, entry, snapshot, offset map and segment in every version that was ever written, as it lies on disk: each
//! must be read for ever as what it was, and the newest be written as it is here.
//!
//! A file holds hexadecimal digits. One that is missing is a new format: `TIDEGATE_GOLDEN_WRITE=1` writes
//! it. One that is there is never changed.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use tidegate_bridge_protocol::fact::{Fact, NamedFact};
use tidegate_bridge_protocol::landing::{ForkReason, ForkRequest, Head, Offer};
use tidegate_cloud_protocol::acls::{
    Operation, PatternFilter, PatternKind, Permission, ResourceKind, Rule, RuleFilter,
};
use tidegate_cloud_protocol::groups::{Client, Generation, GenerationMember};
use tidegate_cloud_protocol::index::{LogPlace, SegmentId};
use tidegate_cloud_protocol::ledger::command::*;
use tidegate_cloud_protocol::ledger::producers::Sequence;
use tidegate_cloud_protocol::ledger::{
    Command, Effect, GapLanded, Ledger, Segment, Target, TokenName, UserName,
};
use tidegate_cloud_protocol::offset_map::{AllFacts, FactsMark, InCloud, OffsetMap, Opened};
use tidegate_cloud_protocol::segment::{
    PackedBatch, SegmentHeader, SegmentIndex, SegmentSummary, SegmentWriter,
};
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::*;
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};
use tidegate_shared::scram::{Mechanism, Verifier};

const LIFE: ClusterIncarnation = ClusterIncarnation { counter: 1, id: 7 };
const TOPIC: TopicId = TopicId(3);
/// No snapshot here has them: they lie in it as the others.
const SETTINGS_OF_KAFKA: &str = "entry-11-alter-topic-v1-kafka";
const STORE_URL: &str = "s3://tidegate/archive";
const PLACE: LogPlace = LogPlace {
    object: 1,
    position: 52,
};

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(format!("{name}.hex"))
}

fn golden(name: &str) -> Bytes {
    let text = std::fs::read_to_string(path(name));
    let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
    let digits: Vec<char> = text
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .collect();
    let byte = |pair: &[char]| {
        let pair: String = pair.iter().collect();
        u8::from_str_radix(&pair, 16).expect("hexadecimal digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// What is written today is what lies there.
fn is_written(name: &str, bytes: &[u8]) {
    if std::env::var_os("TIDEGATE_GOLDEN_WRITE").is_some() && !path(name).exists() {
        let lines = bytes.chunks(32).map(|line| {
            let digits: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            digits + "\n"
        });
        std::fs::write(path(name), lines.collect::<String>()).expect("the folder is there");
    }
    assert_eq!(golden(name), bytes, "{name} is written otherwise");
}

fn edge() -> EdgeId {
    EdgeId::new("press-4").expect("a name")
}

fn stream() -> StreamName {
    StreamName::new("telemetry").expect("a name")
}

fn topic() -> TopicName {
    TopicName::new("telemetry").expect("a name")
}

fn offer(base_offset: u64, hash: u128) -> Offer {
    Offer {
        session_epoch: SessionEpoch(1),
        incarnation: Incarnation(1),
        base_offset: EdgeOffset(base_offset),
        count: 5,
        hash_before: BoundaryHash(hash),
        hash_after: BoundaryHash(hash + 1),
    }
}

fn open_session() -> OpenSession {
    OpenSession {
        edge: edge(),
        store_id: StoreId(11),
        seen_cluster: ClusterIncarnation::default(),
        seen_epoch: SessionEpoch(0),
    }
}

fn open_stream() -> OpenStream {
    OpenStream {
        edge: edge(),
        session_epoch: SessionEpoch(1),
        stream: stream(),
        incarnation: Incarnation(0),
        topic: topic(),
        landed: EdgeOffset(0),
        landed_life: 0,
    }
}

fn fork_stream() -> ForkStream {
    let request = ForkRequest {
        session_epoch: SessionEpoch(1),
        ends: Incarnation(1),
        edge_incarnation: Incarnation(1),
        from: EdgeOffset(12),
        hash: BoundaryHash(9),
        reason: ForkReason::CloudRestored,
        is_proved: true,
    };
    ForkStream {
        edge: edge(),
        stream: stream(),
        request,
    }
}

fn fact() -> NamedFact {
    NamedFact {
        edge: edge(),
        stream: stream(),
        fact: Fact {
            incarnation: Incarnation(1),
            edge_offset: EdgeOffset(0),
            count: 5,
            cluster_incarnation: LIFE,
            topic_id: TOPIC,
            partition: PartitionId(1),
            kafka_offset: KafkaOffset(100),
        },
    }
}

fn pack_of_all() -> Pack {
    Pack {
        target: target(),
        segment: packed(),
        replaces: Vec::new(),
        facts: Some(FactsMark {
            count: 2,
            crc: 0x1234_5678,
        }),
    }
}

/// Each entry that there is, by its name, in an order in which a ledger can take them.
fn entries() -> Vec<(&'static str, Entry)> {
    let part = Part {
        attachment_offset: 64,
        batch_bytes: 200,
        max_timestamp_ms: 1_700_000_000_000,
    };
    let commit = OffsetCommit {
        topic_id: TOPIC,
        partition: PartitionId(0),
        offset: KafkaOffset(4),
        leader_epoch: -1,
        metadata: "here".to_owned(),
    };
    let (edge, stream) = (edge(), stream());
    vec![
        (
            "entry-1-open-session-v2",
            Entry::OpenSession(open_session()),
        ),
        ("entry-2-open-stream-v2", Entry::OpenStream(open_stream())),
        (
            "entry-3-land-v1",
            Entry::Land(Land {
                edge: edge.clone(),
                stream: stream.clone(),
                offer: offer(0, 0),
                part,
            }),
        ),
        (
            "entry-4-commit-offsets-v1",
            Entry::CommitOffsets(CommitOffsets {
                group: GroupName::new("analytics").expect("a name"),
                offsets: vec![commit],
            }),
        ),
        (
            "entry-5-land-gap-v1",
            Entry::LandGap(LandGap {
                edge: edge.clone(),
                stream,
                offer: offer(5, 1),
                reason: GapReason::Overflow,
            }),
        ),
        ("entry-6-fork-stream-v1", Entry::ForkStream(fork_stream())),
        (
            "entry-7-release-edge-v1",
            Entry::ReleaseEdge(ReleaseEdge { edge }),
        ),
        (
            "entry-8-import-facts-v1",
            Entry::ImportFacts(ImportFacts {
                facts: vec![fact()],
            }),
        ),
        (
            "entry-13-open-broker-v1",
            Entry::OpenBroker(OpenBroker { id: 21 }),
        ),
        ("entry-9-pack-v2", Entry::Pack(pack_of_all())),
        (
            "entry-10-trim-v1",
            Entry::Trim(Trim {
                target: target(),
                start: KafkaOffset(3),
            }),
        ),
        (
            "entry-11-alter-topic-v1",
            Entry::AlterTopic(AlterTopic {
                topic_id: TOPIC,
                changes: vec![
                    TopicChange::RetentionMs(-1),
                    TopicChange::RetentionBytes(1 << 30),
                    TopicChange::CleanupPolicy(3),
                    TopicChange::DeleteRetentionMs(1000),
                    TopicChange::PackMergeBelow(4096),
                ],
            }),
        ),
        (
            "entry-12-swept-v1",
            Entry::Swept(Swept {
                segments: vec![SegmentId {
                    number: 8,
                    ..packed().id
                }],
                log_objects: vec![9],
            }),
        ),
        (
            "entry-14-add-store-v1",
            Entry::AddStore(AddStore {
                url: STORE_URL.to_owned(),
            }),
        ),
        (
            "entry-11-alter-topic-v1-store",
            Entry::AlterTopic(AlterTopic {
                topic_id: TOPIC,
                changes: vec![TopicChange::Store(1)],
            }),
        ),
        (
            SETTINGS_OF_KAFKA,
            Entry::AlterTopic(AlterTopic {
                topic_id: TOPIC,
                changes: vec![
                    TopicChange::MaxMessageBytes(2 << 20),
                    TopicChange::LogAppendTime(true),
                    TopicChange::SegmentBytes(50 << 20),
                ],
            }),
        ),
        (
            "entry-15-produce-v1",
            Entry::Produce(Produce {
                target: Target {
                    topic_id: TOPIC,
                    partition: PartitionId(0),
                },
                count: 3,
                part,
                sequence: Some(Sequence {
                    producer_id: 0,
                    producer_epoch: 2,
                    first: 40,
                }),
            }),
        ),
        (
            "entry-16-allot-producer-v1",
            Entry::AllotProducer(AllotProducer),
        ),
        (
            "entry-17-forget-offsets-v1",
            Entry::ForgetOffsets(ForgetOffsets {
                // One that has none: the snapshot is as it was before there was this entry.
                group: GroupName::new("gone").expect("a name"),
                targets: Some(vec![target()]),
            }),
        ),
        (
            "entry-17-forget-offsets-v1-all",
            Entry::ForgetOffsets(ForgetOffsets {
                group: GroupName::new("gone").expect("a name"),
                targets: None,
            }),
        ),
        ("entry-18-alter-user-v1", Entry::AlterUser(alter_user())),
        (
            "entry-18-alter-user-v1-removals",
            Entry::AlterUser(AlterUser {
                name: UserName::new("bob").expect("a name"),
                is_new: false,
                secret: [6; 32],
                changes: vec![
                    UserChange::SetVerifier(verifier(Mechanism::Sha256)),
                    UserChange::RemoveVerifier(Mechanism::Sha256),
                    UserChange::RemoveToken(TokenName::new("ci").expect("a name")),
                    UserChange::RemoveAll,
                ],
            }),
        ),
        (
            "entry-19-keep-generation-v1",
            Entry::KeepGeneration(keep_generation()),
        ),
        (
            "entry-19-keep-generation-v1-over",
            Entry::KeepGeneration(KeepGeneration {
                group: GroupName::new("gone").expect("a name"),
                generation: Generation {
                    number: 12,
                    ..Generation::default()
                },
            }),
        ),
        ("entry-20-add-rules-v1", Entry::AddRules(add_rules())),
        (
            "entry-21-remove-rules-v1",
            Entry::RemoveRules(remove_rules()),
        ),
    ]
}

fn keep_generation() -> KeepGeneration {
    let member = GenerationMember {
        instance: Some("rack-1".to_owned()),
        client: Client {
            id: "rdkafka".to_owned(),
            host: "/192.0.2.7".to_owned(),
        },
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocols: vec![("range".to_owned(), Bytes::from_static(b"topics"))],
        assignment: Bytes::from_static(b"partitions"),
    };
    let other = GenerationMember {
        instance: None,
        protocols: Vec::new(),
        ..member.clone()
    };
    KeepGeneration {
        group: GroupName::new("analytics").expect("a name"),
        generation: Generation {
            number: 3,
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            leader: "a".to_owned(),
            members: [("a".to_owned(), member), ("b".to_owned(), other)].into(),
        },
    }
}

fn verifier(mechanism: Mechanism) -> Verifier {
    let keys = [
        vec![3; mechanism.key_bytes()],
        vec![4; mechanism.key_bytes()],
    ];
    let verifier = Verifier::of_parts(mechanism, 8_192, b"salt", [&keys[0], &keys[1]]);
    verifier.expect("a verifier")
}

fn alter_user() -> AlterUser {
    AlterUser {
        name: UserName::new("ada").expect("a name"),
        is_new: true,
        secret: [5; 32],
        changes: vec![
            UserChange::SetVerifier(verifier(Mechanism::Sha256)),
            UserChange::SetVerifier(verifier(Mechanism::Sha512)),
            UserChange::AddToken {
                name: TokenName::new("ci").expect("a name"),
                hash: [9; 32],
            },
        ],
    }
}

fn rule() -> Rule {
    Rule {
        resource: ResourceKind::Topic,
        pattern: PatternKind::Prefixed,
        name: "tele".to_owned(),
        principal: "User:ada".to_owned(),
        host: "192.0.2.7".to_owned(),
        operation: Operation::Read,
        permission: Permission::Allow,
    }
}

fn add_rules() -> AddRules {
    let cluster = Rule {
        resource: ResourceKind::Cluster,
        pattern: PatternKind::Literal,
        name: "kafka-cluster".to_owned(),
        principal: "User:*".to_owned(),
        host: "*".to_owned(),
        operation: Operation::All,
        permission: Permission::Deny,
    };
    AddRules {
        rules: vec![rule(), cluster],
    }
}

/// What is of everybody; and every word and string.
fn remove_rules() -> RemoveRules {
    let of_cluster = RuleFilter {
        principal: Some("User:*".to_owned()),
        ..RuleFilter::default()
    };
    let other = RuleFilter {
        resource: Some(ResourceKind::Group),
        pattern: PatternFilter::Match,
        name: Some("analytics".to_owned()),
        principal: Some("User:ada".to_owned()),
        host: Some("*".to_owned()),
        operation: Some(Operation::Describe),
        permission: Some(Permission::Allow),
    };
    let literal = RuleFilter {
        pattern: PatternFilter::Only(PatternKind::Literal),
        ..other.clone()
    };
    RemoveRules {
        filters: vec![of_cluster, other, literal],
    }
}

/// Where the stream's batch lands.
fn target() -> Target {
    Target {
        topic_id: TOPIC,
        partition: PartitionId(1),
    }
}

fn packed() -> Segment {
    Segment {
        id: SegmentId {
            store: 0,
            broker_epoch: 1,
            number: 7,
        },
        base: KafkaOffset(0),
        end: KafkaOffset(5),
        bytes: 300,
        index_position: 200,
        batches: 1,
        max_timestamp_ms: 1_700_000_000_000,
        landed_ms: 1_700_000_000_000,
    }
}

fn create_topic() -> CreateTopic {
    CreateTopic {
        name: topic(),
        topic_id: TOPIC,
        partitions: 3,
        changes: vec![TopicChange::DeleteRetentionMs(500)],
    }
}

fn tick(entries: Vec<Entry>) -> Command {
    let now_ms = 1_700_000_000_000;
    Command::Tick(Tick { now_ms, entries })
}

fn commands() -> Vec<(&'static str, Command)> {
    let begin = Begin {
        now_ms: 1_600_000_000_000,
        cluster_incarnation_id: LIFE.id,
    };
    let grow = GrowTopic {
        topic_id: TOPIC,
        partitions: 6,
    };
    let delete = DeleteTopic { topic_id: TOPIC };
    let entries = entries().into_iter();
    let ticks = entries.map(|(name, entry)| (name, tick(vec![entry])));
    let mut commands = vec![
        ("command-1-begin-v1", Command::Begin(begin)),
        (
            "command-2-create-topic-v2",
            Command::CreateTopic(create_topic()),
        ),
        ("command-3-tick-v1", tick(Vec::new())),
        ("command-5-grow-topic-v1", Command::GrowTopic(grow)),
    ];
    commands.extend(ticks);
    commands.push(("command-4-delete-topic-v1", Command::DeleteTopic(delete)));
    commands
}

#[test]
fn commands_and_entries_are_read_as_what_they_were() {
    for (name, command) in commands() {
        let mut written = BytesMut::new();
        command.encode(&mut written);
        is_written(name, &written);
        assert_eq!(Command::decode(golden(name)), Ok(command), "{name}");
    }
}

#[test]
fn older_entries_are_read_as_what_they_were() {
    let session = Command::decode(golden("entry-1-open-session-v1"));
    let opened = OpenSession {
        store_id: StoreId::default(),
        ..open_session()
    };
    assert_eq!(session, Ok(tick(vec![Entry::OpenSession(opened)])));
    let stream = Command::decode(golden("entry-2-open-stream-v1"));
    assert_eq!(stream, Ok(tick(vec![Entry::OpenStream(open_stream())])));
    let create = Command::decode(golden("command-2-create-topic-v1"));
    let created = CreateTopic {
        changes: Vec::new(),
        ..create_topic()
    };
    assert_eq!(create, Ok(Command::CreateTopic(created)));
    let pack = Command::decode(golden("entry-9-pack-v1"));
    let packed = Pack {
        facts: None,
        ..pack_of_all()
    };
    assert_eq!(pack, Ok(tick(vec![Entry::Pack(packed)])));
}

/// A ledger that all commands have made but the last one, which deletes the topic, and those of which `is_meant`
/// does not hold.
fn ledger(is_meant: impl Fn(&str) -> bool) -> Ledger {
    let mut ledger = Ledger::new();
    let mut commands = commands();
    commands.pop();
    let is_meant = |name: &str| name != SETTINGS_OF_KAFKA && is_meant(name);
    for (name, command) in commands.into_iter().filter(|(name, _)| is_meant(name)) {
        let applied = ledger.apply(command, PLACE);
        assert!(applied.is_ok(), "{name}: {applied:?}");
    }
    // A segment that waits to be deleted, and a batch that is not packed.
    let replacing = Segment {
        id: SegmentId {
            store: ledger.topic(TOPIC).expect("it is there").settings.store,
            number: 8,
            ..packed().id
        },
        ..packed()
    };
    let pack = Entry::Pack(Pack {
        target: target(),
        segment: replacing,
        replaces: vec![packed().id],
        facts: None,
    });
    let land = Entry::Land(Land {
        edge: edge(),
        stream: stream(),
        offer: Offer {
            incarnation: Incarnation(2),
            ..offer(12, 9)
        },
        part: Part {
            attachment_offset: 10,
            batch_bytes: 120,
            max_timestamp_ms: 1_700_000_000_001,
        },
    });
    let place = LogPlace {
        object: 2,
        position: 84,
    };
    let effects = ledger.apply(tick(vec![pack, land]), place);
    let effects = effects.expect("it has begun");
    assert!(matches!(
        effects[..],
        [Effect::Packed { .. }, Effect::Landed(_)]
    ));
    ledger
}

#[test]
fn a_snapshot_is_read_as_what_it_was() {
    let later = [OF_RULES, OF_GENERATIONS].concat();
    let mut today = ledger(|name| !later.contains(&name));
    let later = [OF_USERS, OF_RULES, OF_GENERATIONS].concat();
    let ledger = ledger(|name| !later.contains(&name));
    let known = ledger.stream(&edge(), &stream()).expect("it was opened");
    assert_eq!((known.gap_records, known.forks.len()), (7, 1));
    let log = ledger.log(target());
    assert_eq!((log.segments().len(), log.tail().len()), (1, 1));
    assert_eq!(ledger.free_segments(i64::MAX).count(), 1);
    assert_eq!(ledger.stores().collect::<Vec<_>>(), [(1, STORE_URL)]);
    assert_eq!(
        Ledger::restore(golden("snapshot-v6")),
        Ok(ledger.clone()),
        "of before ended epochs were kept: none has ended"
    );
    let mut restored = ledger;
    let begin = Begin {
        now_ms: 1_700_000_000_002,
        cluster_incarnation_id: 8,
    };
    let next = restored.partition(target()).expect("it is there").next;
    let begun = restored.apply(Command::Begin(begin), PLACE);
    assert!(begun.is_ok(), "{begun:?}");
    assert_eq!(restored.epoch_end(target(), 0), Some(next));
    assert_eq!(
        Ledger::restore(golden("snapshot-v7")),
        Ok(restored),
        "of before there were users and rules"
    );
    let name = UserName::new("ada").expect("a name");
    let user = today.user(&name).expect("it is there");
    assert_eq!((user.verifiers().count(), user.tokens().count()), (2, 1));
    assert_eq!(today.user_of_token(&[9; 32]), Some(&name));
    let rules = [
        Entry::AddRules(add_rules()),
        Entry::RemoveRules(remove_rules()),
    ];
    let ruled = today.apply(tick(rules.into()), PLACE);
    assert!(ruled.is_ok(), "{ruled:?}");
    assert_eq!(today.rules().iter().collect::<Vec<_>>(), [rule()]);
    assert_eq!(
        Ledger::restore(golden("snapshot-v8")),
        Ok(today.clone()),
        "of before generations were kept"
    );
    let over = KeepGeneration {
        group: GroupName::new("gone").expect("a name"),
        generation: Generation {
            number: 12,
            ..Generation::default()
        },
    };
    let kept = [keep_generation(), over].map(Entry::KeepGeneration);
    let kept = today.apply(tick(kept.into()), PLACE);
    assert!(kept.is_ok(), "{kept:?}");
    assert_eq!(today.generation_floor(), 12);
    let KeepGeneration { group, generation } = keep_generation();
    let known: Vec<_> = today.generations().collect();
    assert_eq!(known, [(&group, &generation)]);
    is_written("snapshot-v9", &today.snapshot());
    assert_eq!(Ledger::restore(golden("snapshot-v9")), Ok(today));
}

const OF_GENERATIONS: [&str; 2] = [
    "entry-19-keep-generation-v1",
    "entry-19-keep-generation-v1-over",
];

const OF_RULES: [&str; 2] = ["entry-20-add-rules-v1", "entry-21-remove-rules-v1"];
const OF_USERS: [&str; 2] = ["entry-18-alter-user-v1", "entry-18-alter-user-v1-removals"];

const OF_PRODUCERS: [&str; 2] = ["entry-15-produce-v1", "entry-16-allot-producer-v1"];

#[test]
fn a_snapshot_of_before_there_were_producers_is_read_as_what_it_was() {
    let later = [OF_PRODUCERS, OF_USERS, OF_RULES, OF_GENERATIONS].concat();
    let ledger = ledger(|name| !later.contains(&name));
    assert_eq!(Ledger::restore(golden("snapshot-v5")), Ok(ledger));
}

#[test]
fn a_snapshot_of_before_there_were_stores_is_read_as_what_it_was() {
    let of_stores = ["entry-14-add-store-v1", "entry-11-alter-topic-v1-store"];
    let later = [
        &of_stores[..],
        &OF_PRODUCERS,
        &OF_USERS,
        &OF_RULES,
        &OF_GENERATIONS,
    ]
    .concat();
    let ledger = ledger(|name| !later.contains(&name));
    assert_eq!(Ledger::restore(golden("snapshot-v4")), Ok(ledger));
}

#[test]
fn older_snapshots_are_read_as_what_they_were() {
    for (name, gap_records) in [("snapshot-v1", 0), ("snapshot-v2", 5)] {
        let ledger = Ledger::restore(golden(name));
        let ledger = ledger.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(ledger.cluster_incarnation(), Some(LIFE), "{name}");
        assert_eq!(ledger.topic_id("telemetry"), Some(TOPIC), "{name}");
        let known = ledger.stream(&edge(), &stream()).expect("it was there");
        assert_eq!(known.head.incarnation, Incarnation(1), "{name}");
        assert_eq!(known.head.next, EdgeOffset(10), "{name}");
        assert_eq!(known.head.hash, BoundaryHash(2), "{name}");
        assert_eq!(known.gap_records, gap_records, "{name}");
        assert!(known.forks.is_empty(), "{name}");
        let group = GroupName::new("analytics").expect("a name");
        let committed = ledger.committed(&group).next().expect("it was there").1;
        assert_eq!(committed.offset, KafkaOffset(4), "{name}");
        // From here on it is one of today's.
        let today = Ledger::restore(ledger.snapshot());
        assert_eq!(today, Ok(ledger), "{name}");
    }
}

/// Two edges' batches, one of them compacted away, and the segment's summary.
fn segment() -> (Bytes, SegmentSummary) {
    let target = Target {
        topic_id: TOPIC,
        partition: PartitionId(1),
    };
    let mut writer = SegmentWriter::new(target, KafkaOffset(100));
    let mut other = fact();
    other.edge = EdgeId::new("press-5").expect("a name");
    other.fact.kafka_offset = KafkaOffset(105);
    let mut next = fact();
    next.fact.edge_offset = EdgeOffset(5);
    next.fact.kafka_offset = KafkaOffset(110);
    for (facts, landed_ms) in [(vec![fact()], 1_000), (vec![other, next], 999)] {
        let mut builder = BatchBuilder::new();
        let newest = facts.last().expect("there is one");
        for number in 0..newest.fact.count as i64 {
            builder.push(&Record {
                timestamp_ms: 1_700_000_000_000 - 7 * number,
                value: Some(Bytes::from_static(b"21.5")),
                ..Record::default()
            });
        }
        let base_offset = newest.fact.kafka_offset.0;
        let batch = PackedBatch {
            bytes: builder.seal(base_offset, Compression::None, &mut Compressor::new()),
            landed_ms,
            min_timestamp_ms: (landed_ms == 999).then_some(1_699_999_999_972),
        };
        let (newest, gone) = facts.split_last().expect("there is one");
        writer.push_facts(gone).expect("in order");
        writer
            .push(batch, std::slice::from_ref(newest))
            .expect("in order");
    }
    let (parts, summary) = writer.finish_at(KafkaOffset(120)).expect("no clash");
    (Bytes::from(parts.concat()), summary)
}

#[test]
fn a_segment_is_read_as_what_it_was() {
    let (written, summary) = segment();
    is_written("segment-v1", &written);
    let segment = golden("segment-v1");
    let header = SegmentHeader::decode(&segment).expect("it is one");
    assert_eq!((header.target, header.base), (summary.target, summary.base));
    let index = SegmentIndex::decode(&segment, segment.len() as u64).expect("it is one");
    assert_eq!(
        (index.base(), index.end()),
        (KafkaOffset(100), KafkaOffset(120))
    );
    let run = index.run_from(KafkaOffset(100), u64::MAX, true);
    let bytes = segment.slice(run.position as usize..(run.position + run.bytes) as usize);
    let found: Vec<_> = run
        .batches(&bytes)
        .map(|(entry, batch)| {
            let is_whole = batch.is_ok();
            (
                entry.base_offset.0,
                entry.count,
                entry.landed_ms,
                entry.min_timestamp_ms,
                is_whole,
            )
        })
        .collect();
    let told = Some(1_699_999_999_972);
    assert_eq!(
        found,
        [(100, 5, 1_000, None, true), (110, 5, 999, told, true)]
    );
    let facts: Vec<_> = index.facts().within(index.base(), index.end()).collect();
    let edges: Vec<_> = facts.iter().map(|named| named.edge.as_str()).collect();
    assert_eq!(edges, ["press-4", "press-5", "press-4"]);
    assert_eq!(facts[0], fact());
}

/// Two edges' facts, a gap, an offset that has expired, and one of another life.
fn offset_map() -> OffsetMap {
    let mut map = OffsetMap::new();
    let add = |map: &mut OffsetMap, named: &NamedFact| {
        let added = map.add(&named.edge, &named.stream, &named.fact);
        added.expect("no clash");
    };
    add(&mut map, &fact());
    let gap = GapLanded {
        edge: edge(),
        stream: stream(),
        incarnation: Incarnation(1),
        from: EdgeOffset(5),
        count: 7,
        reason: GapReason::Overflow,
        head: Head::default(),
    };
    map.apply(&Effect::GapLanded(gap), LIFE).expect("no clash");
    let mut next = fact();
    next.fact.edge_offset = EdgeOffset(12);
    next.fact.kafka_offset = KafkaOffset(200);
    add(&mut map, &next);
    let mut other = fact();
    other.edge = EdgeId::new("press-5").expect("a name");
    other.fact.kafka_offset = KafkaOffset(105);
    other.fact.cluster_incarnation.counter = 2;
    add(&mut map, &other);
    let (topic_id, partition) = (TOPIC, PartitionId(1));
    let target = Target {
        topic_id,
        partition,
    };
    map.expire_below(target, KafkaOffset(103));
    map
}

/// The same, with some of it packed.
fn packed_offset_map() -> OffsetMap {
    let mut map = offset_map();
    let summary = segment().1;
    let segment = Segment {
        base: KafkaOffset(103),
        end: KafkaOffset(106),
        ..packed()
    };
    let mut writer = SegmentWriter::new(summary.target, segment.base);
    let facts = map.facts_in(summary.target, segment.base, segment.end);
    writer.push_facts(&facts).expect("they are in order");
    let (_, summary) = writer.finish_at(segment.end).expect("they fit");
    let packed = Effect::Packed {
        target: summary.target,
        segment,
        facts: Some(summary.facts),
    };
    map.apply(&packed, LIFE).expect("no clash");
    map
}

#[test]
fn an_offset_map_is_read_as_what_it_was() {
    let map = packed_offset_map();
    assert_eq!(map.facts().count(), 2, "some is not packed");
    is_written("offset-map-v2", &map.snapshot());
    let read = OffsetMap::restore(golden("offset-map-v2")).expect("it is one");
    assert_eq!(read.snapshot(), map.snapshot());
}

#[test]
fn an_older_offset_map_is_read_as_what_it_was() {
    let map = offset_map();
    let read = OffsetMap::restore(golden("offset-map-v1")).expect("it is one");
    assert_eq!(read.snapshot(), map.snapshot());
    let (ledger, opened) = (Ledger::new(), Opened::new());
    let at = |offset| {
        let all = AllFacts::new(&ledger, &read, &opened);
        let found = all.in_cloud(&edge(), &stream(), Incarnation(1), EdgeOffset(offset));
        found.expect("nothing is packed")
    };
    assert_eq!(at(2), Some(InCloud::Expired));
    assert!(matches!(
        at(3),
        Some(InCloud::Landed {
            kafka_offset: KafkaOffset(103),
            ..
        })
    ));
    let (from, to) = (EdgeOffset(5), EdgeOffset(12));
    let reason = GapReason::Overflow;
    assert_eq!(at(6), Some(InCloud::Lost { reason, from, to }));
    assert!(matches!(
        at(16),
        Some(InCloud::Landed {
            kafka_offset: KafkaOffset(204),
            ..
        })
    ));
    let known_up_to = EdgeOffset(17);
    assert_eq!(at(17), Some(InCloud::NotYet { known_up_to }));
    assert_eq!(read.check(), Vec::<String>::new());
}
