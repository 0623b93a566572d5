//! DescribeProducers (KIP-664): the idempotent producers that a partition remembers. There are no transactions here.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::producers::{PRODUCER_EXPIRES_MS, Producer};
use tidegate_cloud_protocol::ledger::{Ledger, Target};
use uuid::Uuid;

use super::{Context, reply_code, target};

/// Of a producer that has no transactional id.
const NO_COORDINATOR_EPOCH: i32 = -1;

pub(super) fn handle(
    context: &Context,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    // Each partition once, however often it is asked for: it can have many producers.
    let mut asked = BTreeMap::<TopicName, BTreeSet<i32>>::new();
    for topic in request.topics {
        let partitions = asked.entry(topic.name).or_default();
        partitions.extend(topic.partition_indexes);
    }
    let topics = asked.into_iter();
    let topics = topics.map(|(name, partitions)| describe(context, name, partitions));
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn describe(context: &Context, name: TopicName, partitions: BTreeSet<i32>) -> TopicResponse {
    let may = context.check(Operation::Read, Resource::Topic(&name));
    let id = context.topic_id(&name, Uuid::nil());
    let partitions = partitions.into_iter().map(|index| {
        let response = PartitionResponse::default().with_partition_index(index);
        if let Err(refusal) = &may {
            let (code, message) = refusal.clone().fields();
            return response.with_error_code(code).with_error_message(message);
        }
        let wanted = id.map(|id| target(id, index));
        let known = context.broker.ledger(|ledger| {
            let wanted = wanted.filter(|wanted| ledger.partition(*wanted).is_some());
            wanted.map(|wanted| producers(ledger, wanted))
        });
        match known {
            Some(producers) => response.with_active_producers(producers),
            None => {
                let is_name = tidegate_shared::id::TopicName::new(name.as_str()).is_ok();
                let code = match is_name {
                    true => reply_code::UNKNOWN_TOPIC_OR_PARTITION,
                    false => reply_code::INVALID_TOPIC,
                };
                let why = format!("There is no partition {index} of {}.", name.as_str());
                response
                    .with_error_code(code)
                    .with_error_message(Some(StrBytes::from_string(why)))
            }
        }
    });
    TopicResponse::default()
        .with_partitions(partitions.collect())
        .with_name(name)
}

fn producers(ledger: &Ledger, target: Target) -> Vec<ProducerState> {
    let now_ms = ledger.now_ms();
    // One that is to be forgotten is not looked for at once.
    let is_active =
        |producer: &Producer| now_ms.saturating_sub(producer.last_ms) < PRODUCER_EXPIRES_MS;
    let known = ledger.producers(target).into_iter();
    let known = known.flat_map(|producers| producers.iter());
    let active = known.filter(|(_, producer)| is_active(producer));
    active
        .map(|(id, producer)| {
            ProducerState::default()
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(i32::from(producer.epoch))
                .with_last_sequence(producer.last_sequence())
                .with_last_timestamp(producer.last_ms)
                .with_coordinator_epoch(NO_COORDINATOR_EPOCH)
        })
        .collect()
}
