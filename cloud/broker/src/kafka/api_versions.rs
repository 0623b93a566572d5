//! Which APIs and versions this node serves. What stands here works.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use super::reply_code;

/// API, first and last version. The first versions are as low as the codec has them: librdkafka
/// takes a broker for one without groups unless the oldest versions of the group APIs are there.
pub(super) const APIS: [(ApiKey, i16, i16); 35] = [
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeAcls, 1, 3),
    (ApiKey::CreateAcls, 1, 3),
    (ApiKey::DeleteAcls, 1, 3),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::SaslAuthenticate, 0, 2),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeUserScramCredentials, 0, 0),
    (ApiKey::AlterUserScramCredentials, 0, 0),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DescribeProducers, 0, 0),
];

pub(super) fn serves(key: ApiKey, version: i16) -> bool {
    let mut apis = APIS.iter();
    apis.any(|(served, first, last)| *served == key && (*first..=*last).contains(&version))
}

pub(super) fn response() -> ApiVersionsResponse {
    let keys = APIS.iter().map(|(key, first, last)| {
        // librdkafka compresses only for a broker that knows Produce from its oldest version on; see `old_produce`.
        let first = match key {
            ApiKey::Produce => 0,
            _ => *first,
        };
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(first)
            .with_max_version(*last)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

/// The answer to a version of `ApiVersions` that is not known, in version 0.
pub(super) fn unsupported() -> ApiVersionsResponse {
    response().with_error_code(reply_code::UNSUPPORTED_VERSION)
}
