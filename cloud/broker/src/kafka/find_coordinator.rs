//! FindCoordinator: this node coordinates every group.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};

use super::refusal::Refusal;
use super::{Context, NODE_ID, reply_code};

/// Source: `CoordinatorType` of Kafka's FindCoordinatorRequest.
const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;

/// From this version on, one request asks for several.
const BATCHED_SINCE: i16 = 4;

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let (kind, response) = (request.key_type, FindCoordinatorResponse::default());
    if version < BATCHED_SINCE {
        let one = find(context, kind, request.key);
        let response = response
            .with_error_code(one.error_code)
            .with_node_id(one.node_id)
            .with_host(one.host)
            .with_port(one.port);
        return match (version, one.error_code) {
            (0, _) => response,
            // So Kafka calls it when there is none.
            (_, reply_code::NONE) => {
                response.with_error_message(Some(StrBytes::from_static_str("NONE")))
            }
            _ => response.with_error_message(one.error_message),
        };
    }
    let keys = request.coordinator_keys.into_iter();
    response.with_coordinators(keys.map(|key| find(context, kind, key)).collect())
}

fn find(context: &Context, kind: i8, key: StrBytes) -> Coordinator {
    let checked = check(context, kind, &key);
    let one = Coordinator::default().with_key(key);
    match checked {
        Ok(()) => one
            .with_node_id(BrokerId(NODE_ID))
            .with_host(StrBytes::from_string(context.advertised_host.clone()))
            .with_port(i32::from(context.advertised_port)),
        Err(refusal) => {
            let (code, message) = refusal.fields();
            one.with_error_code(code)
                .with_error_message(message)
                .with_node_id(BrokerId(-1))
                .with_port(-1)
        }
    }
}

fn check(context: &Context, kind: i8, key: &str) -> Result<(), Refusal> {
    match kind {
        KEY_TYPE_GROUP => return context.check(Operation::Describe, Resource::Group(key)),
        KEY_TYPE_TRANSACTION => {
            context.check(Operation::Describe, Resource::TransactionalId(key))?;
        }
        _ => {}
    }
    // There are no transactions or share groups here.
    let why = format!("There are no coordinators of kind {kind}, only groups' (0).");
    Err(Refusal::new(reply_code::INVALID_REQUEST, why))
}
