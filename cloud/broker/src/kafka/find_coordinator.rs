//! FindCoordinator: this node coordinates every group.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, NODE_ID, reply_code};

const KEY_TYPE_GROUP: i8 = 0;

/// From this version on, one request asks for several.
const BATCHED_SINCE: i16 = 4;

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let found = match request.key_type {
        KEY_TYPE_GROUP => Coordinator::default()
            .with_node_id(BrokerId(NODE_ID))
            .with_host(StrBytes::from_string(context.advertised_host.clone()))
            .with_port(i32::from(context.advertised_port)),
        // There are no transactions or share groups here.
        other => Coordinator::default()
            .with_error_code(reply_code::INVALID_REQUEST)
            .with_error_message(Some(StrBytes::from_string(format!(
                "There are no coordinators of kind {other}, only groups' (0)."
            ))))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    };
    let response = FindCoordinatorResponse::default();
    if version < BATCHED_SINCE {
        let response = response
            .with_error_code(found.error_code)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port);
        return match (version, found.error_code) {
            (0, _) => response,
            // So Kafka calls it when there is none.
            (_, reply_code::NONE) => {
                response.with_error_message(Some(StrBytes::from_static_str("NONE")))
            }
            _ => response.with_error_message(found.error_message),
        };
    }
    let one = |key| found.clone().with_key(key);
    let keys = request.coordinator_keys.into_iter();
    response.with_coordinators(keys.map(one).collect())
}
