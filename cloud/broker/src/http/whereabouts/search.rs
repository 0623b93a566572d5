//! Finds the newest record of an edge that matches: its facts say which batches are its own, the index
//! tells their times, and only batches that may match are unpacked, newest first, within bounds.

use bytes::Bytes;
use tidegate_bridge_protocol::fact::Fact;
use tidegate_cloud_protocol::index::IndexEntry;
use tidegate_cloud_protocol::ledger::Target;
use tidegate_cloud_protocol::offset_map::Source;
use tidegate_shared::id::{EdgeId, EdgeOffset, KafkaOffset, StreamName};
use tidegate_shared::record::{Batch, Record};
use tidegate_shared::topic::TopicFilter;

use super::super::Context;
use super::super::answer::ApiError;
use super::is_of;
use crate::limits::{WHERE_BATCH_BYTES_MAX, WHERE_BATCHES_MAX, WHERE_ENTRIES_MAX, WHERE_FACTS_MAX};

/// The header in which a record carries its MQTT topic.
const TOPIC_HEADER: &[u8] = b"mqtt.topic";

/// What is looked for.
pub(super) struct Search {
    pub edge: EdgeId,
    pub stream: Option<String>,
    pub topic: Option<TopicFilter>,
    pub at_ms: Option<i64>,
}

pub(super) struct Outcome {
    pub found: Option<Found>,
    /// The search did not end at a bound.
    pub searched_all: bool,
}

/// A record that has landed.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub stream: StreamName,
    pub target: Target,
    pub fact: Fact,
    pub record: FoundRecord,
}

#[derive(Clone, Debug)]
pub(super) struct FoundRecord {
    pub kafka_offset: KafkaOffset,
    /// By the edge's clock.
    pub time_ms: i64,
    pub mqtt_topic: Option<String>,
    /// By the cloud's.
    pub landed_ms: i64,
}

impl Found {
    pub(super) fn edge_offset(&self) -> EdgeOffset {
        let further = self.record.kafka_offset.0 - self.fact.kafka_offset.0;
        self.fact.edge_offset.plus(further.unsigned_abs())
    }
}

/// A batch of the edge's own that may hold it.
struct Candidate {
    stream: StreamName,
    target: Target,
    fact: Fact,
    entry: IndexEntry,
}

impl Search {
    /// # Errors
    /// A batch cannot be read.
    pub(super) async fn run(&self, context: &Context) -> Result<Outcome, ApiError> {
        let (candidates, mut searched_all) = self.candidates(context).await?;
        let mut found: Option<Found> = None;
        let (mut batches, mut bytes) = (0, 0);
        for candidate in candidates {
            // Newest first within a stream: another of the same stream is older.
            if found
                .as_ref()
                .is_some_and(|found| found.stream == candidate.stream)
            {
                continue;
            }
            batches += 1;
            bytes += candidate.entry.batch_bytes as usize;
            if batches > WHERE_BATCHES_MAX || bytes > WHERE_BATCH_BYTES_MAX {
                searched_all = false;
                break;
            }
            let Some(record) = self.newest_in(context, &candidate).await? else {
                continue;
            };
            let is_newer = |other: &Found| other.record.time_ms < record.time_ms;
            if found.as_ref().is_none_or(is_newer) {
                let (stream, target) = (candidate.stream, candidate.target);
                let fact = candidate.fact;
                found = Some(Found {
                    stream,
                    target,
                    fact,
                    record,
                });
            }
        }
        Ok(Outcome {
            found,
            searched_all,
        })
    }

    /// Newest first in each stream; whether that is all there are.
    async fn candidates(&self, context: &Context) -> Result<(Vec<Candidate>, bool), ApiError> {
        let mut candidates = Vec::new();
        let mut entries = 0;
        for source in self.sources(context) {
            let mut before = EdgeOffset(u64::MAX);
            loop {
                let facts = context.look_up(|all| {
                    let facts = all.facts_before(&source, before, WHERE_FACTS_MAX);
                    Ok(facts?)
                });
                let facts = facts.await?;
                let Some(oldest) = facts.last() else {
                    break;
                };
                before = oldest.edge_offset;
                for fact in facts {
                    entries += 1;
                    let left = WHERE_ENTRIES_MAX - entries;
                    let found = entries_of(context, &fact, left).await?;
                    let found = self.newest_of(&found, &mut entries).into_iter();
                    candidates.extend(found.map(|entry| Candidate {
                        stream: source.stream.clone(),
                        target: Target::of(&fact),
                        fact,
                        entry,
                    }));
                    if entries >= WHERE_ENTRIES_MAX || candidates.len() > WHERE_BATCHES_MAX {
                        return Ok((candidates, false));
                    }
                }
            }
        }
        Ok((candidates, true))
    }

    /// The numberings of all streams that are asked for, newest first in each.
    fn sources(&self, context: &Context) -> Vec<Source> {
        let state = context.broker.shared().state();
        let Some(known) = state.ledger.edge(&self.edge) else {
            return Vec::new();
        };
        let asked = |name: &&StreamName| {
            self.stream
                .as_deref()
                .is_none_or(|asked| is_of(name, asked))
        };
        let names = known.streams.keys().filter(asked);
        let map = &state.offset_map;
        let sources = names.flat_map(|name| map.sources_of_stream(&self.edge, name));
        sources.collect()
    }

    /// Of the batches of a fact those in which a record may be old enough, newest first.
    fn newest_of(&self, of_fact: &[IndexEntry], looked_at: &mut usize) -> Vec<IndexEntry> {
        let is_late = |entry: &IndexEntry| self.at_ms.is_some_and(|at| entry.max_timestamp_ms > at);
        let mut found = Vec::new();
        for (at, entry) in of_fact.iter().enumerate().rev() {
            *looked_at += 1;
            // All of a batch is too late where the one before it ends too late already: offsets and
            // times of an edge rise together, but for a clock that was set.
            let before_is_late = at > 0 && is_late(&of_fact[at - 1]);
            if !(is_late(entry) && before_is_late) {
                found.push(*entry);
            }
            if *looked_at >= WHERE_ENTRIES_MAX || found.len() > WHERE_BATCHES_MAX {
                break;
            }
        }
        found
    }

    async fn newest_in(
        &self,
        context: &Context,
        candidate: &Candidate,
    ) -> Result<Option<FoundRecord>, ApiError> {
        let (fact, topic, at_ms) = (candidate.fact, self.topic.clone(), self.at_ms);
        let of_fact = fact.kafka_offset.0..fact.kafka_offset.0 + fact.count as i64;
        let fits = move |offset: i64, record: &Record| {
            of_fact.contains(&offset)
                && at_ms.is_none_or(|at| record.timestamp_ms <= at)
                && topic.as_ref().is_none_or(|filter| {
                    topic_of(record).is_some_and(|topic| filter.matches(&topic))
                })
        };
        last_in(context, candidate.entry, fits).await
    }
}

/// The newest batches that have records of a fact.
async fn entries_of(
    context: &Context,
    fact: &Fact,
    entries_max: usize,
) -> Result<Vec<IndexEntry>, ApiError> {
    let (from, to) = (fact.kafka_offset, fact.kafka_offset.plus(fact.count as i64));
    let shared = context.broker.shared();
    let found = shared.entries_within(Target::of(fact), from, to, entries_max);
    found.await.map_err(|error| context.unreadable(&error))
}

/// The record at an offset of a partition; `None` where no batch holds it (any more).
pub(super) async fn record_at(
    context: &Context,
    target: Target,
    offset: KafkaOffset,
) -> Result<Option<FoundRecord>, ApiError> {
    let entry = context.broker.shared().entry_at(target, offset).await;
    let entry = entry.map_err(|error| context.unreadable(&error))?;
    match entry.filter(|entry| entry.base_offset <= offset) {
        Some(entry) => last_in(context, entry, move |at, _| at == offset.0).await,
        None => Ok(None),
    }
}

/// The last record of a batch that fits.
async fn last_in(
    context: &Context,
    entry: IndexEntry,
    fits: impl Fn(i64, &Record) -> bool + Send + 'static,
) -> Result<Option<FoundRecord>, ApiError> {
    let read = context.broker.shared().read(entry, 0).await;
    let bytes = read.map_err(|error| context.unreadable(&error))?;
    let unpacked = tokio::task::spawn_blocking(move || unpack(bytes, fits)).await;
    let found = unpacked.map_err(|error| ApiError::unreadable(error.to_string()))?;
    Ok(found.map(|(offset, record)| FoundRecord {
        kafka_offset: KafkaOffset(offset),
        time_ms: record.timestamp_ms,
        mqtt_topic: topic_of(&record),
        landed_ms: entry.landed_ms,
    }))
}

/// A batch that cannot be unpacked holds nothing that could be told.
fn unpack(bytes: Bytes, fits: impl Fn(i64, &Record) -> bool) -> Option<(i64, Record)> {
    let records = Batch::parse(bytes).ok()?.records().ok()?;
    let fitting = records.map_while(Result::ok);
    fitting
        .filter(|(offset, record)| fits(*offset, record))
        .last()
}

fn topic_of(record: &Record) -> Option<String> {
    let mut headers = record.headers.iter();
    let header = headers.find(|header| header.name == TOPIC_HEADER)?;
    Some(String::from_utf8_lossy(header.value.as_deref()?).into_owned())
}
