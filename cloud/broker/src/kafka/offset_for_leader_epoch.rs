//! OffsetForLeaderEpoch (KIP-101, KIP-320): how far a leader epoch goes. A consumer that has read further in an epoch has
//! read what this cloud lost: it was restored from an older copy.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::{Ledger, Target};
use uuid::Uuid;

use super::{Context, reply_code, target};

pub(super) fn handle(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let id = context.topic_id(&topic.topic, Uuid::nil());
        // Kafka's brokers ask this, too.
        let may = context.check_either(
            (Operation::ClusterAction, Resource::Cluster),
            (Operation::Describe, Resource::Topic(&topic.topic)),
        );
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let target = id.map(|id| target(id, wanted.partition));
            match &may {
                Ok(()) => context.broker.ledger(|ledger| one(ledger, target, &wanted)),
                Err(refusal) => EpochEndOffset::default()
                    .with_partition(wanted.partition)
                    .with_error_code(refusal.code),
            }
        });
        OffsetForLeaderTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic(topic.topic)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

/// Without an end, epoch and offset are -1.
fn one(
    ledger: &Ledger,
    target: Option<Target>,
    wanted: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let response = EpochEndOffset::default().with_partition(wanted.partition);
    let found = target.and_then(|target| Some((target, ledger.partition(target)?)));
    let Some((target, partition)) = found else {
        return response.with_error_code(reply_code::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let code = reply_code::leader_epoch(wanted.current_leader_epoch, partition.leader_epoch);
    if code != reply_code::NONE {
        return response.with_error_code(code);
    }
    match ledger.epoch_end(target, wanted.leader_epoch) {
        Some(end) => response
            .with_leader_epoch(wanted.leader_epoch)
            .with_end_offset(end.0),
        None => response,
    }
}
