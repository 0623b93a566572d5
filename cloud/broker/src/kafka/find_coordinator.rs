//! FindCoordinator: this node coordinates every group.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};

use super::{Context, NODE_ID, reply_code};

/// Source: `CoordinatorType` of Kafka's FindCoordinatorRequest.
const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let (kind, response) = (request.key_type, FindCoordinatorResponse::default());
    if version < 4 {
        let one = find(context, kind, request.key);
        return response
            .with_error_code(one.error_code)
            .with_node_id(one.node_id)
            .with_host(one.host)
            .with_port(one.port);
    }
    let keys = request.coordinator_keys.into_iter();
    response.with_coordinators(keys.map(|key| find(context, kind, key)).collect())
}

fn find(context: &Context, kind: i8, key: StrBytes) -> Coordinator {
    let error_code = check(context, kind, &key).err().unwrap_or(reply_code::NONE);
    let one = Coordinator::default()
        .with_key(key)
        .with_error_code(error_code);
    match error_code {
        reply_code::NONE => one
            .with_node_id(BrokerId(NODE_ID))
            .with_host(StrBytes::from_string(context.advertised_host.clone()))
            .with_port(i32::from(context.advertised_port)),
        _ => one.with_node_id(BrokerId(-1)).with_port(-1),
    }
}

fn check(context: &Context, kind: i8, key: &str) -> Result<(), i16> {
    match kind {
        KEY_TYPE_GROUP => Ok(context.check(Operation::Describe, Resource::Group(key))?),
        // There are no transactions or share groups here.
        KEY_TYPE_TRANSACTION => {
            context.check(Operation::Describe, Resource::TransactionalId(key))?;
            Err(reply_code::INVALID_REQUEST)
        }
        _ => Err(reply_code::INVALID_REQUEST),
    }
}
