//! FindCoordinator: this node coordinates every group.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, NODE_ID, reply_code};

const KEY_TYPE_GROUP: i8 = 0;

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let known = request.key_type == KEY_TYPE_GROUP;
    let error_code = match known {
        true => reply_code::NONE,
        // There are no transactions or share groups here.
        false => reply_code::INVALID_REQUEST,
    };
    let node_id = BrokerId(if known { NODE_ID } else { -1 });
    let host = StrBytes::from_string(context.advertised_host.clone());
    let port = i32::from(context.advertised_port);
    let response = FindCoordinatorResponse::default();
    if version < 4 {
        return response
            .with_error_code(error_code)
            .with_node_id(node_id)
            .with_host(host)
            .with_port(port);
    }
    let one = |key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(error_code)
            .with_node_id(node_id)
            .with_host(host.clone())
            .with_port(port)
    };
    let keys = request.coordinator_keys.into_iter();
    response.with_coordinators(keys.map(one).collect())
}
