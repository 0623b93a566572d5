//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: from Kafka's frames to the coordinator and back.

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::groups::{Answer, Client, GroupError, Identity, Join, Joined, Sync};
use tidegate_shared::id::GroupName;
use uuid::Uuid;

use super::{Context, reply_code};

/// Of the name that a member's id begins with: with a UUID it is a string that every version can carry.
const MEMBER_PREFIX_CHARS_MAX: usize = 1_000;

/// From this version of SyncGroup on, both sides say which protocol it is about (KIP-559).
const PROTOCOL_TOLD_SINCE: i16 = 5;

/// A group by its id, as a request has it, for who may do something with it.
pub(super) fn group_for(
    context: &Context,
    operation: Operation,
    group: &GroupId,
) -> Result<GroupName, i16> {
    context.check(operation, Resource::Group(group))?;
    GroupName::new(group.as_str()).map_err(|_| reply_code::INVALID_GROUP_ID)
}

fn text(value: &StrBytes) -> String {
    value.as_str().to_owned()
}

fn optional(value: Option<&StrBytes>) -> Option<String> {
    value.map(text)
}

fn str_bytes(value: String) -> StrBytes {
    StrBytes::from_string(value)
}

/// `None` when the node stops meanwhile.
pub(super) async fn join(
    context: &Context,
    version: i16,
    client_id: &str,
    request: JoinGroupRequest,
) -> Option<JoinGroupResponse> {
    let group = match group_for(context, Operation::Read, &request.group_id) {
        Ok(group) => group,
        Err(code) => return Some(join_failed(version, text(&request.member_id), code)),
    };
    let client = Client {
        id: client_id.to_owned(),
        host: context.client_host.clone(),
    };
    let join = join_of(version, client, group, request);
    let Answer::Join { member_id, result } = context.coordinator.join(join).await? else {
        return None;
    };
    Some(match result {
        Ok(joined) => join_done(version, joined),
        Err(error) => join_failed(version, member_id, reply_code::group(error)),
    })
}

fn join_of(version: i16, client: Client, group: GroupName, request: JoinGroupRequest) -> Join {
    let milliseconds = |value| u64::try_from(value).unwrap_or(0);
    let session_timeout_ms = milliseconds(request.session_timeout_ms);
    // Before version 1 there is one timeout for both.
    let rebalance_timeout_ms = match version {
        0 => session_timeout_ms,
        _ => milliseconds(request.rebalance_timeout_ms),
    };
    // Whoever describes the group sees which member is which.
    let named = request.group_instance_id.as_deref().unwrap_or(&client.id);
    let named: String = named.chars().take(MEMBER_PREFIX_CHARS_MAX).collect();
    let protocols = request.protocols.into_iter();
    Join {
        group,
        member_id: text(&request.member_id),
        new_member_id: format!("{named}-{}", Uuid::new_v4()),
        client,
        instance: optional(request.group_instance_id.as_ref()),
        member_id_required: version >= 4,
        can_skip_assignment: version >= 9,
        session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: text(&request.protocol_type),
        protocols: protocols
            .map(|protocol| {
                // Without a share in the request's bytes: it stays.
                let metadata = Bytes::copy_from_slice(&protocol.metadata);
                (text(&protocol.name), metadata)
            })
            .collect(),
    }
}

fn join_done(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance, metadata)| {
        let mut member = JoinGroupResponseMember::default()
            .with_member_id(str_bytes(id))
            .with_metadata(metadata);
        if version >= 5 {
            member.group_instance_id = instance.map(str_bytes);
        }
        member
    });
    let mut response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(str_bytes(joined.protocol)))
        .with_leader(str_bytes(joined.leader))
        .with_member_id(str_bytes(joined.member_id))
        .with_members(members.collect());
    if version >= 7 {
        response.protocol_type = Some(str_bytes(joined.protocol_type));
    }
    if version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    response
}

fn join_failed(version: i16, member_id: String, code: i16) -> JoinGroupResponse {
    let protocol = (version < 7).then(StrBytes::new);
    JoinGroupResponse::default()
        .with_error_code(code)
        .with_generation_id(-1)
        .with_protocol_name(protocol)
        .with_member_id(str_bytes(member_id))
}

/// `None` when the node stops meanwhile.
pub(super) async fn sync(
    context: &Context,
    version: i16,
    request: SyncGroupRequest,
) -> Option<SyncGroupResponse> {
    let group = match group_for(context, Operation::Read, &request.group_id) {
        Ok(group) => group,
        Err(code) => return Some(SyncGroupResponse::default().with_error_code(code)),
    };
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if version >= PROTOCOL_TOLD_SINCE && !says_protocol {
        let code = reply_code::group(GroupError::InconsistentProtocol);
        let response = SyncGroupResponse::default().with_error_code(code);
        return Some(response);
    }
    let assignments = request.assignments.into_iter();
    let sync = Sync {
        identity: Identity {
            group,
            member_id: text(&request.member_id),
            instance: optional(request.group_instance_id.as_ref()),
            generation: request.generation_id,
        },
        protocol_type: optional(request.protocol_type.as_ref()),
        protocol: optional(request.protocol_name.as_ref()),
        assignments: assignments
            .map(|one| {
                let assignment = Bytes::copy_from_slice(&one.assignment);
                (text(&one.member_id), assignment)
            })
            .collect(),
    };
    let Answer::Sync(result) = context.coordinator.sync(sync).await? else {
        return None;
    };
    let synced = match result {
        Ok(synced) => synced,
        Err(error) => {
            let code = reply_code::group(error);
            return Some(SyncGroupResponse::default().with_error_code(code));
        }
    };
    let mut response = SyncGroupResponse::default().with_assignment(synced.assignment);
    if version >= PROTOCOL_TOLD_SINCE {
        response.protocol_type = Some(str_bytes(synced.protocol_type));
        response.protocol_name = Some(str_bytes(synced.protocol));
    }
    Some(response)
}

pub(super) fn heartbeat(context: &Context, request: &HeartbeatRequest) -> HeartbeatResponse {
    let code = match group_for(context, Operation::Read, &request.group_id) {
        Ok(group) => reply_code::of(context.coordinator.heartbeat(&Identity {
            group,
            member_id: text(&request.member_id),
            instance: optional(request.group_instance_id.as_ref()),
            generation: request.generation_id,
        })),
        Err(code) => code,
    };
    HeartbeatResponse::default().with_error_code(code)
}

pub(super) fn leave(
    context: &Context,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group = match group_for(context, Operation::Read, &request.group_id) {
        Ok(group) => group,
        Err(code) => return LeaveGroupResponse::default().with_error_code(code),
    };
    let leave = |id: &str, instance: Option<&str>| {
        reply_code::of(context.coordinator.leave(&group, id, instance))
    };
    if version < 3 {
        let code = leave(&request.member_id, None);
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let members = request.members.into_iter().map(|member| {
        let instance = member.group_instance_id.as_deref();
        let code = leave(&member.member_id, instance);
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code)
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
