//! DescribeGroups: a group's state and members. Source: Kafka's `GroupMetadataManager`.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::groups::{GroupDescription, GroupState, MemberDescription};
use tidegate_shared::id::GroupName;

use super::groups::group_for;
use super::{Context, reply_code};

/// The state of a group that there is not.
const DEAD: &str = "Dead";

/// From this version on, a group that there is not is an error (KIP-1043).
const TELLS_UNKNOWN_SINCE: i16 = 6;

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let may = request.include_authorized_operations;
    // Once each, however often it is asked for: a group can be large.
    let ids: BTreeSet<GroupId> = request.groups.into_iter().collect();
    let groups = ids.into_iter().map(|id| {
        let mut group = match group_for(context, Operation::Describe, &id) {
            Ok(name) => describe(context, version, &name),
            Err(code) => DescribedGroup::default().with_error_code(code),
        };
        if may && group.error_code == reply_code::NONE {
            group.authorized_operations = context.operations(Resource::Group(&id));
        }
        group.with_group_id(id)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe(context: &Context, version: i16, name: &GroupName) -> DescribedGroup {
    if let Some(group) = context.coordinator.describe(name) {
        return described(group);
    }
    let group = DescribedGroup::default();
    let has_committed = context
        .broker
        .ledger(|l| l.committed(name).next().is_some());
    if has_committed {
        let state = GroupState::Empty.name();
        return group.with_group_state(StrBytes::from_static_str(state));
    }
    let group = group.with_group_state(StrBytes::from_static_str(DEAD));
    if version < TELLS_UNKNOWN_SINCE {
        return group;
    }
    let why = format!("Group {name} not found.");
    group
        .with_error_code(reply_code::GROUP_ID_NOT_FOUND)
        .with_error_message(Some(StrBytes::from_string(why)))
}

fn described(group: GroupDescription) -> DescribedGroup {
    let is_stable = group.state == GroupState::Stable;
    // While members come and go there is no one way of assigning, and no metadata for it.
    let protocol = if is_stable {
        group.protocol
    } else {
        String::new()
    };
    let members = group.members.into_iter();
    let members = members.map(|one| member(one, is_stable));
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_protocol_type(StrBytes::from_string(group.protocol_type))
        .with_protocol_data(StrBytes::from_string(protocol))
        .with_members(members.collect())
}

fn member(one: MemberDescription, with_metadata: bool) -> DescribedGroupMember {
    let member = DescribedGroupMember::default()
        .with_member_id(StrBytes::from_string(one.member_id))
        .with_group_instance_id(one.instance.map(StrBytes::from_string))
        .with_client_id(StrBytes::from_string(one.client.id))
        .with_client_host(StrBytes::from_string(one.client.host))
        .with_member_assignment(one.assignment);
    match with_metadata {
        true => member.with_member_metadata(one.metadata),
        false => member,
    }
}

/// Whether there is such a group: somebody is in it, or it has committed offsets.
pub(super) fn is_there(context: &Context, name: &GroupName) -> bool {
    let has_members = context.coordinator.has_members(name);
    has_members
        || context
            .broker
            .ledger(|l| l.committed(name).next().is_some())
}

/// A group that there is, by its id, for who may do something with it.
pub(super) fn find(
    context: &Context,
    operation: Operation,
    id: &GroupId,
) -> Result<GroupName, i16> {
    let name = group_for(context, operation, id)?;
    match is_there(context, &name) {
        true => Ok(name),
        false => Err(reply_code::GROUP_ID_NOT_FOUND),
    }
}
