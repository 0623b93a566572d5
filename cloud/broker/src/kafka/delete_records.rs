//! DeleteRecords: gives up the beginning of partitions (KIP-107). The answer comes once the ledger's decision is
//! durable; the space is free after `restore_window`.

use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
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
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut trims = Vec::new();
    for topic in request.topics {
        let id = context.topic_id(&topic.name, Uuid::nil());
        let partitions = topic.partitions.iter().map(|wanted| {
            let asked = context.broker.ledger(|ledger| trim(ledger, id, wanted));
            let (trim, code) = match asked {
                Ok(trim) => (Some(trim), reply_code::NONE),
                Err(code) => (None, code),
            };
            trims.extend(trim.map(|trim| (Entry::Trim(trim), None)));
            DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index)
                .with_low_watermark(NO_WATERMARK)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        let result = DeleteRecordsTopicResult::default().with_name(topic.name);
        topics.push(result.with_partitions(partitions));
    }
    let effects = context.broker.submit(trims).await.ok()?;
    let asked = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let asked = asked.filter(|partition| partition.error_code == reply_code::NONE);
    for (partition, effect) in asked.zip(&effects) {
        match effect {
            Effect::Trimmed { start, .. } => partition.low_watermark = start.0,
            // The topic was deleted meanwhile.
            _ => partition.error_code = reply_code::UNKNOWN_TOPIC_OR_PARTITION,
        }
    }
    Some(DeleteRecordsResponse::default().with_topics(topics))
}

/// What is asked of a partition, or why it cannot be.
fn trim(
    ledger: &Ledger,
    topic_id: Option<TopicId>,
    wanted: &DeleteRecordsPartition,
) -> Result<Trim, i16> {
    let target: Option<Target> = topic_id.map(|id| target(id, wanted.partition_index));
    let known = target.and_then(|target| {
        let settings = ledger.topic(target.topic_id)?.settings;
        Some((target, settings, ledger.partition(target)?))
    });
    let (target, settings, partition) = known.ok_or(reply_code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let start = match wanted.offset {
        HIGH_WATERMARK => partition.next,
        offset => KafkaOffset(offset),
    };
    // As Kafka: of a topic that is compacted, and nothing else, nobody takes the beginning away.
    if settings.compacts && !settings.deletes {
        return Err(reply_code::POLICY_VIOLATION);
    }
    if start < KafkaOffset(0) || start > partition.next {
        return Err(reply_code::OFFSET_OUT_OF_RANGE);
    }
    Ok(Trim { target, start })
}
