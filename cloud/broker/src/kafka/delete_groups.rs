//! DeleteGroups (KIP-229): groups in which nobody is go, with what they have committed. Source: Kafka's
//! `GroupCoordinatorService`.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use tidegate_cloud_protocol::acls::Operation;
use tidegate_cloud_protocol::groups::GroupState;
use tidegate_cloud_protocol::ledger::Effect;
use tidegate_cloud_protocol::ledger::command::{Entry, ForgetOffsets};

use super::describe_groups::find;
use super::{Context, reply_code};

pub(super) async fn handle(
    context: &Context,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in request.groups_names {
        let code = delete(context, &id).await.err();
        let result = DeletableGroupResult::default()
            .with_group_id(id)
            .with_error_code(code.unwrap_or(reply_code::NONE));
        results.push(result);
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete(context: &Context, id: &GroupId) -> Result<(), i16> {
    let group = find(context, Operation::Delete, id)?;
    let state = context.coordinator.describe(&group).map(|now| now.state);
    if state.is_some_and(|state| state != GroupState::Empty) {
        return Err(reply_code::NON_EMPTY_GROUP);
    }
    let forget = Entry::ForgetOffsets(ForgetOffsets {
        group,
        targets: None,
    });
    match context.broker.submit(vec![(forget, None)]).await.as_deref() {
        // Another request has deleted it meanwhile.
        Ok([Effect::OffsetsForgotten { count: 0 }]) if state.is_none() => {
            Err(reply_code::GROUP_ID_NOT_FOUND)
        }
        Ok(_) => Ok(()),
        Err(_) => Err(reply_code::COORDINATOR_NOT_AVAILABLE),
    }
}
