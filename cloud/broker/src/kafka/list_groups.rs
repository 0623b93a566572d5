//! ListGroups (KIP-518, KIP-848): groups in which somebody is, and those that have committed offsets. What kind the
//! latter were is not kept: they are listed without one, as Kafka lists those that never had members.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::groups::GroupState;
use tidegate_shared::id::GroupName;

use super::Context;

/// Groups whose clients do the assigning: there are no others here.
const CLASSIC: &str = "classic";

pub(super) fn handle(context: &Context, request: &ListGroupsRequest) -> ListGroupsResponse {
    // No filter lets all through; Kafka does not look at the case of either.
    let lets = |filter: &[StrBytes], what: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(what))
    };
    if !lets(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    let sees_all = context.may(Operation::Describe, Resource::Cluster);
    let sees = |name: &GroupName| {
        sees_all || context.may(Operation::Describe, Resource::Group(name.as_str()))
    };
    let groups = all(context).into_iter().filter(|(name, _)| sees(name));
    let groups = groups.filter(|(_, (state, _))| lets(&request.states_filter, state.name()));
    let groups = groups.map(|(name, (state, kind))| {
        ListedGroup::default()
            .with_group_id(GroupId(StrBytes::from_string(name.to_string())))
            .with_protocol_type(StrBytes::from_string(kind))
            .with_group_state(StrBytes::from_static_str(state.name()))
            .with_group_type(StrBytes::from_static_str(CLASSIC))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

fn all(context: &Context) -> BTreeMap<GroupName, (GroupState, String)> {
    let committed = context.broker.ledger(|ledger| {
        let groups = ledger.groups().cloned();
        groups.collect::<Vec<_>>()
    });
    let committed = committed.into_iter();
    let empty = committed.map(|name| (name, (GroupState::Empty, String::new())));
    let mut groups: BTreeMap<_, _> = empty.collect();
    for (name, state, kind) in context.coordinator.list() {
        groups.insert(name, (state, kind));
    }
    groups
}
