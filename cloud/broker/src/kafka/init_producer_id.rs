//! InitProducerId: gives an idempotent producer an id that no other has (KIP-98). Transactions are not served.
//!
//! The ledger counts; beside its count an id holds 31 bits by chance of this start. A cloud that was restored from a copy
//! counts once more what it had given already, and a producer may come from another cluster with an id of that.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use tidegate_cloud_protocol::acls::{Operation, Resource, ResourceKind};
use tidegate_cloud_protocol::ledger::Effect;
use tidegate_cloud_protocol::ledger::command::{AllotProducer, Entry};

use super::refusal::Refusal;
use super::{Context, reply_code};

/// Where there is an error.
const NO_PRODUCER: (i64, i16) = (-1, -1);

/// `None` when the node stops meanwhile.
pub(super) async fn handle(
    context: &Context,
    request: &InitProducerIdRequest,
) -> Option<InitProducerIdResponse> {
    // Who has an id already says it with its epoch (KIP-360).
    let is_half_known = (request.producer_id.0 == -1) != (request.producer_epoch == -1);
    let (code, (id, epoch)) = match (check(context, request), &request.transactional_id) {
        (Err(refusal), _) => (refusal.code, NO_PRODUCER),
        (Ok(()), Some(_)) => (reply_code::INVALID_REQUEST, NO_PRODUCER),
        (Ok(()), None) if is_half_known => (reply_code::INVALID_REQUEST, NO_PRODUCER),
        (Ok(()), None) => {
            let allot = Entry::AllotProducer(AllotProducer);
            let effects = context.broker.submit(vec![(allot, None)]).await.ok()?;
            match effects[..] {
                [Effect::ProducerAllotted { producer_id }] => {
                    let count = producer_id & i64::from(u32::MAX);
                    let id = (i64::from(context.start) << 32) | count;
                    (reply_code::NONE, (id, 0))
                }
                _ => (reply_code::UNKNOWN_SERVER_ERROR, NO_PRODUCER),
            }
        }
    };
    Some(
        InitProducerIdResponse::default()
            .with_error_code(code)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch),
    )
}

/// Who may write to any topic may do it idempotently (KIP-679).
fn check(context: &Context, request: &InitProducerIdRequest) -> Result<(), Refusal> {
    if let Some(id) = &request.transactional_id {
        return context.check(Operation::Write, Resource::TransactionalId(id));
    }
    match context.may_with_any(Operation::Write, ResourceKind::Topic) {
        true => Ok(()),
        false => context.check(Operation::IdempotentWrite, Resource::Cluster),
    }
}
