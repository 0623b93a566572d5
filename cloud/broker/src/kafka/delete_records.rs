//! DeleteRecords: gives up the beginning of partitions (KIP-107). The answer comes once the ledger's decision is
//! durable; the space is free after `restore_window`.

use std::collections::BTreeMap;

use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::command::{Entry, Trim};
use tidegate_cloud_protocol::ledger::{Effect, Ledger, Target};
use tidegate_shared::id::{KafkaOffset, TopicId};
use uuid::Uuid;

use super::{Context, reply_code, target};

/// All that is there now. Source: `DeleteRecordsRequest` of Kafka.
const HIGH_WATERMARK: i64 = -1;

/// The low watermark where there is an error.
const NO_WATERMARK: i64 = -1;

/// `None` when the node stops meanwhile.
pub(super) async fn handle(
    context: &Context,
    request: DeleteRecordsRequest,
) -> Option<DeleteRecordsResponse> {
    // One for each partition, whatever is said of it: each costs the ledger a walk.
    let mut starts = BTreeMap::<Target, KafkaOffset>::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let id = context.topic_id(&topic.name, Uuid::nil());
        let may = context.check(Operation::Delete, Resource::Topic(&topic.name));
        let may = may.map_err(i16::from);
        let asked = topic.partitions.into_iter().map(|wanted| {
            let start = || context.broker.ledger(|ledger| start(ledger, id, &wanted));
            let start = may.and_then(|()| start());
            if let (Ok(start), Some(id)) = (start, id) {
                let newest = starts.entry(target(id, wanted.partition_index));
                let newest = newest.or_insert(start);
                *newest = start.max(*newest);
            }
            (wanted.partition_index, start)
        });
        topics.push((topic.name, id, asked.collect::<Vec<_>>()));
    }
    let trims = starts.iter().map(|(target, start)| {
        let (target, start) = (*target, *start);
        (Entry::Trim(Trim { target, start }), None)
    });
    let effects = context.broker.submit(trims.collect()).await.ok()?;
    let started: BTreeMap<Target, i64> = effects.iter().filter_map(started_at).collect();
    let answered = topics.into_iter().map(|(name, id, asked)| {
        let partitions = asked.into_iter().map(|(partition, start)| {
            let started = id.and_then(|id| started.get(&target(id, partition)));
            let (low_watermark, code) = match (start, started) {
                (Ok(_), Some(start)) => (*start, reply_code::NONE),
                // The topic was deleted meanwhile.
                (Ok(_), None) => (NO_WATERMARK, reply_code::UNKNOWN_TOPIC_OR_PARTITION),
                (Err(code), _) => (NO_WATERMARK, code),
            };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition)
                .with_low_watermark(low_watermark)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    let topics = answered.collect();
    Some(DeleteRecordsResponse::default().with_topics(topics))
}

fn started_at(effect: &Effect) -> Option<(Target, i64)> {
    match effect {
        Effect::Trimmed { target, start } => Some((*target, start.0)),
        _ => None,
    }
}

/// Where a partition is to begin, or why it cannot.
fn start(
    ledger: &Ledger,
    topic_id: Option<TopicId>,
    wanted: &DeleteRecordsPartition,
) -> Result<KafkaOffset, i16> {
    let known = topic_id.and_then(|id| {
        let settings = ledger.topic(id)?.settings;
        let partition = ledger.partition(target(id, wanted.partition_index))?;
        Some((settings, partition.next))
    });
    let (settings, next) = known.ok_or(reply_code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let start = match wanted.offset {
        HIGH_WATERMARK => next,
        offset => KafkaOffset(offset),
    };
    // As Kafka: of a topic that is compacted, and nothing else, nobody takes the beginning away.
    if settings.compacts && !settings.deletes {
        return Err(reply_code::POLICY_VIOLATION);
    }
    if start < KafkaOffset(0) || start > next {
        return Err(reply_code::OFFSET_OUT_OF_RANGE);
    }
    Ok(start)
}
