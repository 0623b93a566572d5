//! Produce: refused. Records come from edges; but clients look at whether a broker knows Produce before
//! they fetch from it, and one that tries gets an error that says so.

use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::reply_code;

const REFUSAL: &str = "records come from edges: this broker does not take them from Kafka clients";

/// `None` for a producer that waits for no answer (acks 0): its connection is closed, which is how
/// Kafka tells it.
pub(super) fn handle(version: i16, request: ProduceRequest) -> Option<ProduceResponse> {
    if request.acks == 0 {
        return None;
    }
    let topics = request.topic_data.into_iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|partition| {
            let mut refused = PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_error_code(reply_code::POLICY_VIOLATION)
                .with_base_offset(-1);
            if version >= 8 {
                refused.error_message = Some(StrBytes::from_static_str(REFUSAL));
            }
            refused
        });
        TopicProduceResponse::default()
            .with_partition_responses(partitions.collect())
            .with_name(topic.name)
    });
    Some(ProduceResponse::default().with_responses(topics.collect()))
}
