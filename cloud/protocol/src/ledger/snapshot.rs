//! The ledger as bytes. A snapshot and the commands after it give the same state as the whole log.

mod users;

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_bridge_protocol::landing::{ForkReason, Head};
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeId, EdgeOffset, GroupName, Incarnation, KafkaOffset,
    SessionEpoch, StoreId, StreamName, TopicId, TopicName,
};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use crate::acls::{Rule, Rules};
use crate::index::LogPlace;

use super::command::{
    OffsetCommit, put_changes, put_generation, put_rules, put_segment, put_segment_id, put_target,
    take_changes, take_generation, take_name, take_rules, take_segment, take_segment_id,
    take_store_url, take_target,
};
use super::epochs::{EpochEnd, EpochEnds};
use super::generations::Generations;
use super::producers::{Producer, Producers, Taken};
use super::storage::{Garbage, Living};
use super::stores::Stores;
use super::users::Users;
use super::{
    Behind, Committed, DecodeError, Edge, Fights, Fork, Ledger, Partition, PartitionLog, Segment,
    Stream, TailBatch, Target, Topic, TopicSettings,
};

/// Counts up when the format changes; older ones stay readable. 2: streams' gap records. 3: who fights
/// over an edge, streams' forks and lives, and whether the cloud is behind. 4: topics' settings, what lies
/// where, what is to be deleted, and the broker's epoch. 5: object stores beside the cluster's. 6: Kafka producers. 7: where leader
/// epochs ended. 8: users, and who may do what. 9: groups' generations.
const VERSION: u8 = 9;

impl Ledger {
    /// The whole state; equal states give equal bytes.
    pub fn snapshot(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_i64_le(self.now_ms);
        let life = self.cluster_incarnation.unwrap_or_default();
        out.put_u32_le(life.counter);
        out.put_u128_le(life.id);
        put_map(&mut out, &self.topics, |out, id, topic| {
            out.put_u128_le(id.0);
            put_topic(out, topic);
        });
        put_map(&mut out, &self.edges, |out, id, edge| {
            put_bytes(out, id.as_str().as_bytes());
            put_edge(out, edge);
        });
        put_map(&mut out, &self.groups, |out, name, offsets| {
            put_bytes(out, name.as_str().as_bytes());
            put_map(out, offsets, put_committed);
        });
        put_behind(&mut out, self.behind.as_ref());
        out.put_u64_le(self.broker_epoch);
        put_map(&mut out, &self.logs, put_log);
        put_map(&mut out, &self.garbage.segments, |out, id, freed_ms| {
            put_segment_id(out, id);
            out.put_i64_le(*freed_ms);
        });
        put_map(
            &mut out,
            &self.garbage.log_objects,
            |out, object, freed_ms| {
                out.put_u64_le(*object);
                out.put_i64_le(*freed_ms);
            },
        );
        put_map(&mut out, &self.stores.0, |out, number, url| {
            out.put_u32_le(*number);
            put_bytes(out, url.as_bytes());
        });
        put_map(&mut out, &self.producers, |out, target, producers| {
            put_target(out, target);
            put_producers(out, producers);
        });
        out.put_i64_le(self.next_producer_id);
        put_map(&mut out, &self.epoch_ends, |out, target, ends| {
            put_target(out, target);
            put_epoch_ends(out, ends);
        });
        users::put(&mut out, &self.users);
        let rules: Vec<Rule> = self.rules.iter().collect();
        put_rules(&mut out, rules.iter());
        out.put_i32_le(self.generations.floor);
        put_map(&mut out, &self.generations.of_groups, |out, name, kept| {
            put_bytes(out, name.as_str().as_bytes());
            put_generation(out, kept);
        });
        out.freeze()
    }

    /// Reads what [`Ledger::snapshot`] wrote.
    pub fn restore(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("snapshot version")?;
        if !(1..=VERSION).contains(&version) {
            return Err(DecodeError::UnknownVersion {
                what: "snapshot",
                number: 0,
                version,
                version_max: VERSION,
            });
        }
        let now_ms = reader.i64("time")?;
        let life = ClusterIncarnation {
            counter: reader.u32("counter")?,
            id: reader.u128("cluster incarnation id")?,
        };
        let topics = take_map(&mut reader, "topics", |reader| take_topic(reader, version))?;
        let edges = take_map(&mut reader, "edges", |reader| take_edge(reader, version))?;
        let groups = take_map(&mut reader, "groups", take_group)?;
        let behind = match version {
            1 | 2 => None,
            _ => take_behind(&mut reader)?,
        };
        let mut storage = Storage::default();
        if version > 3 {
            storage = take_storage(&mut reader)?;
        }
        let mut stores = Stores::default();
        if version > 4 {
            stores.0 = take_map(&mut reader, "object stores", |reader| {
                Ok((reader.u32("object store")?, take_store_url(reader)?))
            })?;
        }
        let (mut producers, mut next_producer_id) = (BTreeMap::new(), 0);
        if version > 5 {
            producers = take_map(&mut reader, "producers", |reader| {
                Ok((take_target(reader)?, take_producers(reader)?))
            })?;
            next_producer_id = reader.i64("next producer id")?;
        }
        let mut epoch_ends = BTreeMap::new();
        if version > 6 {
            epoch_ends = take_map(&mut reader, "ended epochs", |reader| {
                Ok((take_target(reader)?, take_epoch_ends(reader)?))
            })?;
        }
        let (mut users, mut rules) = (Users::default(), Rules::default());
        if version > 7 {
            users = users::take(&mut reader)?;
            for rule in take_rules(&mut reader)? {
                rules.add(rule);
            }
        }
        let mut generations = Generations::default();
        if version > 8 {
            generations.floor = reader.i32("generation floor")?;
            generations.of_groups = take_map(&mut reader, "groups' generations", |reader| {
                Ok((take_group_name(reader)?, take_generation(reader)?))
            })?;
        }
        if !reader.is_empty() {
            return Err(DecodeError::LeftOver(reader.rest().len()));
        }
        Ok(Self {
            now_ms,
            cluster_incarnation: (life.counter > 0).then_some(life),
            topic_ids: topics
                .iter()
                .map(|(id, topic): (&TopicId, &Topic)| (topic.name.clone(), *id))
                .collect(),
            topics,
            edges,
            groups,
            behind,
            broker_epoch: storage.broker_epoch,
            living: Living::of(storage.logs.values()),
            logs: storage.logs,
            garbage: storage.garbage,
            stores,
            producers,
            next_producer_id,
            epoch_ends,
            users,
            rules,
            generations,
        })
    }
}

fn put_producers(out: &mut BytesMut, producers: &Producers) {
    out.put_i64_le(producers.looked_ms);
    put_map(out, &producers.known, |out, id, producer| {
        out.put_i64_le(*id);
        out.put_i16_le(producer.epoch);
        out.put_i64_le(producer.last_ms);
        out.put_u32_le(producer.batches.len() as u32);
        for taken in &producer.batches {
            out.put_i32_le(taken.first);
            out.put_i32_le(taken.last);
            out.put_i64_le(taken.base_offset.0);
        }
    });
}

const TAKEN_BYTES: usize = 16;

fn take_producers(reader: &mut Reader) -> Result<Producers, DecodeError> {
    let looked_ms = reader.i64("looked at")?;
    let known = take_map(reader, "producers of a partition", |reader| {
        let id = reader.i64("producer id")?;
        let (epoch, last_ms) = (reader.i16("producer epoch")?, reader.i64("last batch at")?);
        let mut batches = VecDeque::new();
        for _ in 0..reader.count("batches of a producer", TAKEN_BYTES)? {
            batches.push_back(Taken {
                first: reader.i32("first sequence")?,
                last: reader.i32("last sequence")?,
                base_offset: KafkaOffset(reader.i64("base offset")?),
            });
        }
        let producer = Producer {
            epoch,
            batches,
            last_ms,
        };
        Ok((id, producer))
    })?;
    Ok(Producers { known, looked_ms })
}

fn put_epoch_ends(out: &mut BytesMut, ends: &EpochEnds) {
    out.put_u32_le(ends.len() as u32);
    for ended in ends {
        out.put_i32_le(ended.epoch);
        out.put_i64_le(ended.end.0);
    }
}

const EPOCH_END_BYTES: usize = 12;

fn take_epoch_ends(reader: &mut Reader) -> Result<EpochEnds, DecodeError> {
    let count = reader.count("ended epochs of a partition", EPOCH_END_BYTES)?;
    let mut ends = EpochEnds::new();
    for _ in 0..count {
        ends.push_back(EpochEnd {
            epoch: reader.i32("epoch")?,
            end: KafkaOffset(reader.i64("epoch's end")?),
        });
    }
    Ok(ends)
}

fn put_behind(out: &mut BytesMut, behind: Option<&Behind>) {
    out.put_u8(u8::from(behind.is_some()));
    if let Some(behind) = behind {
        put_bytes(out, behind.edge.as_str().as_bytes());
        out.put_u32_le(behind.seen.counter);
        out.put_u128_le(behind.seen.id);
        out.put_u64_le(behind.seen_epoch.0);
        let stream = behind.stream.as_ref().map_or("", StreamName::as_str);
        put_bytes(out, stream.as_bytes());
    }
}

fn take_behind(reader: &mut Reader) -> Result<Option<Behind>, DecodeError> {
    if reader.u8("behind")? == 0 {
        return Ok(None);
    }
    let edge = take_name(reader, "edge id", EdgeId::LENGTH_MAX, |value| {
        EdgeId::new(value)
    })?;
    let seen = ClusterIncarnation {
        counter: reader.u32("seen counter")?,
        id: reader.u128("seen id")?,
    };
    let seen_epoch = SessionEpoch(reader.u64("seen epoch")?);
    let stream = reader.string("stream name", StreamName::LENGTH_MAX)?;
    let stream = (!stream.is_empty()).then(|| StreamName::new(stream));
    Ok(Some(Behind {
        edge,
        seen,
        seen_epoch,
        stream: stream.transpose()?,
    }))
}

fn put_map<K, V>(
    out: &mut BytesMut,
    map: &BTreeMap<K, V>,
    mut put: impl FnMut(&mut BytesMut, &K, &V),
) {
    out.put_u32_le(u32::try_from(map.len()).expect("a map of the ledger has fewer than 2^32"));
    for (key, value) in map {
        put(out, key, value);
    }
}

fn take_map<K: Ord, V>(
    reader: &mut Reader,
    field: &'static str,
    take: impl Fn(&mut Reader) -> Result<(K, V), DecodeError>,
) -> Result<BTreeMap<K, V>, DecodeError> {
    let count = reader.count(field, 1)?;
    let mut map = BTreeMap::new();
    for _ in 0..count {
        let (key, value) = take(reader)?;
        if map.insert(key, value).is_some() {
            return Err(WireError::Invalid { field }.into());
        }
    }
    Ok(map)
}

fn put_topic(out: &mut BytesMut, topic: &Topic) {
    put_bytes(out, topic.name.as_str().as_bytes());
    put_changes(out, &topic.settings.changes());
    out.put_u32_le(u32::try_from(topic.partitions.len()).expect("made from a u32"));
    for partition in &topic.partitions {
        out.put_i64_le(partition.log_start.0);
        out.put_i64_le(partition.next.0);
        out.put_i32_le(partition.leader_epoch);
    }
}

fn take_topic(reader: &mut Reader, version: u8) -> Result<(TopicId, Topic), DecodeError> {
    let id = TopicId(reader.u128("topic id")?);
    let name = take_name(reader, "topic name", TopicName::LENGTH_MAX, |value| {
        TopicName::new(value)
    })?;
    let mut settings = TopicSettings::default();
    if version > 3 {
        for change in take_changes(reader)? {
            settings.change(change);
        }
    }
    let count = reader.count("partitions", 20)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        partitions.push(Partition {
            log_start: KafkaOffset(reader.i64("log start")?),
            next: KafkaOffset(reader.i64("next")?),
            leader_epoch: reader.i32("leader epoch")?,
        });
    }
    let topic = Topic {
        name,
        settings,
        partitions,
    };
    Ok((id, topic))
}

fn put_edge(out: &mut BytesMut, edge: &Edge) {
    out.put_u64_le(edge.session_epoch.0);
    out.put_u32_le(edge.session_life);
    out.put_u8(u8::from(edge.session_is_used));
    out.put_u128_le(edge.store_id.0);
    out.put_u32_le(edge.fights.count);
    out.put_i64_le(edge.fights.last_ms);
    out.put_u8(u8::from(edge.fights.is_quarantined));
    put_map(out, &edge.streams, |out, name, stream| {
        put_bytes(out, name.as_str().as_bytes());
        put_stream(out, stream);
    });
}

fn take_edge(reader: &mut Reader, version: u8) -> Result<(EdgeId, Edge), DecodeError> {
    let id = take_name(reader, "edge id", EdgeId::LENGTH_MAX, |value| {
        EdgeId::new(value)
    })?;
    let mut edge = Edge {
        session_epoch: SessionEpoch(reader.u64("session epoch")?),
        ..Edge::default()
    };
    if version > 2 {
        edge.session_life = reader.u32("session's life")?;
        edge.session_is_used = reader.u8("session used")? != 0;
        edge.store_id = StoreId(reader.u128("store id")?);
        edge.fights = Fights {
            count: reader.u32("fights")?,
            last_ms: reader.i64("last fight")?,
            is_quarantined: reader.u8("quarantined")? != 0,
        };
    }
    edge.streams = take_map(reader, "streams", |reader| take_stream(reader, version))?;
    Ok((id, edge))
}

fn put_stream(out: &mut BytesMut, stream: &Stream) {
    out.put_u64_le(stream.head.incarnation.0);
    out.put_u64_le(stream.head.next.0);
    out.put_u128_le(stream.head.hash.0);
    put_target(out, &stream.target);
    out.put_u64_le(stream.gap_records);
    out.put_u32_le(stream.life);
    out.put_u64_le(stream.older.0.0);
    out.put_u64_le(stream.older.1.0);
    out.put_u32_le(stream.forks.len() as u32);
    for fork in &stream.forks {
        out.put_u64_le(fork.incarnation.0);
        out.put_u64_le(fork.from.0);
        out.put_u64_le(fork.ended.0);
        out.put_u64_le(fork.ended_at.0);
        let nothing = (Incarnation(0), EdgeOffset(u64::MAX));
        let (incarnation, lost_from) = fork.lost.unwrap_or(nothing);
        out.put_u64_le(incarnation.0);
        out.put_u64_le(lost_from.0);
        out.put_u8(fork.reason as u8);
        out.put_i64_le(fork.at_ms);
    }
}

fn take_stream(reader: &mut Reader, version: u8) -> Result<(StreamName, Stream), DecodeError> {
    let name = take_name(reader, "stream name", StreamName::LENGTH_MAX, |value| {
        StreamName::new(value)
    })?;
    let head = Head {
        incarnation: Incarnation(reader.u64("incarnation")?),
        next: EdgeOffset(reader.u64("next")?),
        hash: BoundaryHash(reader.u128("hash")?),
    };
    let mut stream = Stream::new(head, take_target(reader)?);
    if version > 1 {
        stream.gap_records = reader.u64("gap records")?;
    }
    if version > 2 {
        stream.life = reader.u32("life")?;
        stream.older = (
            Incarnation(reader.u64("older incarnation")?),
            EdgeOffset(reader.u64("older end")?),
        );
        for _ in 0..reader.count("forks", FORK_BYTES)? {
            stream.forks.push_back(take_fork(reader)?);
        }
    }
    Ok((name, stream))
}

const FORK_BYTES: usize = 57;

fn take_fork(reader: &mut Reader) -> Result<Fork, DecodeError> {
    Ok(Fork {
        incarnation: Incarnation(reader.u64("incarnation")?),
        from: EdgeOffset(reader.u64("from")?),
        ended: Incarnation(reader.u64("ended")?),
        ended_at: EdgeOffset(reader.u64("ended at")?),
        lost: take_lost(reader)?,
        reason: ForkReason::take(reader, None)?,
        at_ms: reader.i64("at")?,
    })
}

/// The end of all offsets stands for "nothing is".
fn take_lost(reader: &mut Reader) -> Result<Option<(Incarnation, EdgeOffset)>, DecodeError> {
    let incarnation = Incarnation(reader.u64("lost incarnation")?);
    let lost_from = EdgeOffset(reader.u64("lost from")?);
    Ok((lost_from.0 != u64::MAX).then_some((incarnation, lost_from)))
}

fn take_group(
    reader: &mut Reader,
) -> Result<(GroupName, BTreeMap<Target, Committed>), DecodeError> {
    let name = take_group_name(reader)?;
    Ok((name, take_map(reader, "offsets", take_committed)?))
}

fn take_group_name(reader: &mut Reader) -> Result<GroupName, DecodeError> {
    take_name(reader, "group id", GroupName::LENGTH_MAX, |value| {
        GroupName::new(value)
    })
}

fn put_committed(out: &mut BytesMut, target: &Target, committed: &Committed) {
    put_target(out, target);
    out.put_i64_le(committed.offset.0);
    out.put_i32_le(committed.leader_epoch);
    put_bytes(out, committed.metadata.as_bytes());
    out.put_i64_le(committed.commit_time_ms);
}

fn take_committed(reader: &mut Reader) -> Result<(Target, Committed), DecodeError> {
    let target = take_target(reader)?;
    let committed = Committed {
        offset: KafkaOffset(reader.i64("offset")?),
        leader_epoch: reader.i32("leader epoch")?,
        metadata: reader.string("metadata", OffsetCommit::METADATA_BYTES_MAX)?,
        commit_time_ms: reader.i64("commit time")?,
    };
    Ok((target, committed))
}

#[derive(Default)]
struct Storage {
    broker_epoch: u64,
    logs: BTreeMap<Target, PartitionLog>,
    garbage: Garbage,
}

fn take_storage(reader: &mut Reader) -> Result<Storage, DecodeError> {
    let freed = "freed at";
    Ok(Storage {
        broker_epoch: reader.u64("broker epoch")?,
        logs: take_map(reader, "logs", take_log)?,
        garbage: Garbage {
            segments: take_map(reader, "free segments", |reader| {
                Ok((take_segment_id(reader)?, reader.i64(freed)?))
            })?,
            log_objects: take_map(reader, "free log objects", |reader| {
                Ok((reader.u64("log object")?, reader.i64(freed)?))
            })?,
        },
    })
}

fn put_log(out: &mut BytesMut, target: &Target, log: &PartitionLog) {
    put_target(out, target);
    out.put_u32_le(u32::try_from(log.segments.len()).expect("fewer than 2^32 segments"));
    for segment in &log.segments {
        put_segment(out, segment);
    }
    out.put_u32_le(u32::try_from(log.tail.len()).expect("fewer than 2^32 batches"));
    for batch in &log.tail {
        put_batch(out, batch);
    }
}

const SEGMENT_BYTES: usize = 72;
const BATCH_BYTES: usize = 52;

fn take_log(reader: &mut Reader) -> Result<(Target, PartitionLog), DecodeError> {
    let target = take_target(reader)?;
    let mut segments = VecDeque::new();
    for _ in 0..reader.count("segments", SEGMENT_BYTES)? {
        segments.push_back(take_segment(reader)?);
    }
    let mut tail = VecDeque::new();
    for _ in 0..reader.count("batches", BATCH_BYTES)? {
        tail.push_back(take_batch(reader)?);
    }
    if !is_dense(&segments, &tail) {
        let field = "offsets of a partition";
        return Err(WireError::Invalid { field }.into());
    }
    Ok((target, PartitionLog::of(segments, tail)))
}

/// Whether each begins where the one before it ends.
fn is_dense(segments: &VecDeque<Segment>, tail: &VecDeque<TailBatch>) -> bool {
    let segments = segments.iter().map(|segment| (segment.base, segment.end));
    let batches = tail.iter().map(|batch| (batch.base_offset, batch.end()));
    let mut end = None;
    let mut all = segments.chain(batches);
    all.all(|(base, next)| {
        let follows = base < next && end.is_none_or(|end| end == base);
        end = Some(next);
        follows
    })
}

fn put_batch(out: &mut BytesMut, batch: &TailBatch) {
    out.put_i64_le(batch.base_offset.0);
    out.put_u64_le(batch.count);
    out.put_u32_le(batch.batch_bytes);
    out.put_i64_le(batch.max_timestamp_ms);
    out.put_i64_le(batch.landed_ms);
    out.put_u64_le(batch.place.object);
    out.put_u64_le(batch.place.position);
}

fn take_batch(reader: &mut Reader) -> Result<TailBatch, DecodeError> {
    let base_offset = KafkaOffset(reader.i64("base offset")?);
    let count = reader.u64("count")?;
    let end = i64::try_from(count).ok();
    if end
        .and_then(|count| base_offset.0.checked_add(count))
        .is_none()
    {
        return Err(WireError::Invalid { field: "count" }.into());
    }
    Ok(TailBatch {
        base_offset,
        count,
        batch_bytes: reader.u32("batch bytes")?,
        max_timestamp_ms: reader.i64("max timestamp")?,
        landed_ms: reader.i64("landed at")?,
        place: LogPlace {
            object: reader.u64("log object")?,
            position: reader.u64("position")?,
        },
    })
}
