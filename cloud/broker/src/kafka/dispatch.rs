//! From a decoded request to the handler of its API. (Produce has a way of its own: see `connection`.)

use kafka_protocol::messages::{
    RequestKind, ResponseKind, SaslAuthenticateResponse, SaslHandshakeResponse,
};

use kafka_protocol::protocol::StrBytes;

use super::{
    Context, acls, alter_configs, alter_user_scram_credentials, api_versions, create_partitions,
    create_topics, delete_groups, delete_records, delete_topics, describe_cluster,
    describe_configs, describe_groups, describe_log_dirs, describe_producers,
    describe_user_scram_credentials, fetch, find_coordinator, groups, incremental_alter_configs,
    init_producer_id, list_groups, list_offsets, metadata, offset_delete, offset_for_leader_epoch,
    offsets, reply_code,
};

/// `None` when the node stops meanwhile, or for an API that `api_versions` does not serve.
pub(super) async fn handle(
    context: &Context,
    version: i16,
    client_id: &str,
    request: RequestKind,
) -> Option<ResponseKind> {
    Some(match request {
        // Who a client is does not change once it is known, nor on a listener that does not want to know.
        RequestKind::SaslHandshake(_) => ResponseKind::SaslHandshake(
            SaslHandshakeResponse::default().with_error_code(reply_code::ILLEGAL_SASL_STATE),
        ),
        RequestKind::SaslAuthenticate(_) => ResponseKind::SaslAuthenticate(
            SaslAuthenticateResponse::default()
                .with_error_code(reply_code::ILLEGAL_SASL_STATE)
                .with_error_message(Some(StrBytes::from_static_str(
                    "Nobody says who they are here, or has said it already.",
                ))),
        ),
        RequestKind::ApiVersions(request) => {
            ResponseKind::ApiVersions(api_versions::handle(version, &request))
        }
        RequestKind::Metadata(request) => {
            ResponseKind::Metadata(metadata::handle(context, version, &request).await?)
        }
        RequestKind::Fetch(request) => {
            let fetched = fetch::handle(context, version, request).await;
            ResponseKind::Fetch(fetched.whole(fetch::seen(context)).await)
        }
        RequestKind::ListOffsets(request) => {
            ResponseKind::ListOffsets(list_offsets::handle(context, version, request).await)
        }
        RequestKind::DeleteRecords(request) => {
            ResponseKind::DeleteRecords(delete_records::handle(context, request).await?)
        }
        RequestKind::InitProducerId(request) => {
            ResponseKind::InitProducerId(init_producer_id::handle(context, &request).await?)
        }
        RequestKind::FindCoordinator(request) => {
            ResponseKind::FindCoordinator(find_coordinator::handle(context, version, request))
        }
        RequestKind::JoinGroup(request) => {
            let response = groups::join(context, version, client_id, request).await?;
            ResponseKind::JoinGroup(response)
        }
        RequestKind::SyncGroup(request) => {
            ResponseKind::SyncGroup(groups::sync(context, version, request).await?)
        }
        RequestKind::Heartbeat(request) => {
            ResponseKind::Heartbeat(groups::heartbeat(context, &request))
        }
        RequestKind::LeaveGroup(request) => {
            ResponseKind::LeaveGroup(groups::leave(context, version, request))
        }
        RequestKind::OffsetCommit(request) => {
            ResponseKind::OffsetCommit(offsets::commit(context, version, request).await)
        }
        RequestKind::OffsetFetch(request) => {
            ResponseKind::OffsetFetch(offsets::fetch(context, version, request))
        }
        request => return administer(context, version, request).await,
    })
}

/// The APIs by which people look after topics and groups.
async fn administer(context: &Context, version: i16, request: RequestKind) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::CreateTopics(request) => {
            ResponseKind::CreateTopics(create_topics::handle(context, request).await)
        }
        RequestKind::DeleteTopics(request) => {
            ResponseKind::DeleteTopics(delete_topics::handle(context, request).await)
        }
        RequestKind::CreatePartitions(request) => {
            ResponseKind::CreatePartitions(create_partitions::handle(context, request).await)
        }
        RequestKind::DescribeConfigs(request) => {
            ResponseKind::DescribeConfigs(describe_configs::handle(context, request))
        }
        RequestKind::AlterConfigs(request) => {
            ResponseKind::AlterConfigs(alter_configs::handle(context, request).await)
        }
        RequestKind::IncrementalAlterConfigs(request) => {
            let response = incremental_alter_configs::handle(context, request).await;
            ResponseKind::IncrementalAlterConfigs(response)
        }
        RequestKind::ListGroups(request) => {
            ResponseKind::ListGroups(list_groups::handle(context, &request))
        }
        RequestKind::DescribeGroups(request) => {
            ResponseKind::DescribeGroups(describe_groups::handle(context, version, request))
        }
        RequestKind::DeleteGroups(request) => {
            ResponseKind::DeleteGroups(delete_groups::handle(context, request).await)
        }
        RequestKind::OffsetDelete(request) => {
            ResponseKind::OffsetDelete(offset_delete::handle(context, request).await)
        }
        RequestKind::OffsetForLeaderEpoch(request) => {
            let response = offset_for_leader_epoch::handle(context, request);
            ResponseKind::OffsetForLeaderEpoch(response)
        }
        RequestKind::DescribeCluster(request) => {
            ResponseKind::DescribeCluster(describe_cluster::handle(context, &request))
        }
        RequestKind::DescribeLogDirs(request) => {
            ResponseKind::DescribeLogDirs(describe_log_dirs::handle(context, request))
        }
        RequestKind::DescribeProducers(request) => {
            ResponseKind::DescribeProducers(describe_producers::handle(context, request))
        }
        RequestKind::DescribeUserScramCredentials(request) => {
            let response = describe_user_scram_credentials::handle(context, request);
            ResponseKind::DescribeUserScramCredentials(response)
        }
        RequestKind::AlterUserScramCredentials(request) => {
            let response = alter_user_scram_credentials::handle(context, request).await;
            ResponseKind::AlterUserScramCredentials(response)
        }
        RequestKind::DescribeAcls(request) => {
            ResponseKind::DescribeAcls(acls::describe(context, &request))
        }
        RequestKind::CreateAcls(request) => {
            ResponseKind::CreateAcls(acls::create(context, request).await)
        }
        RequestKind::DeleteAcls(request) => {
            ResponseKind::DeleteAcls(acls::delete(context, request).await)
        }
        _ => return None,
    })
}
