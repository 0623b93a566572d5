//! Which APIs and versions this node serves. What stands here works.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

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

/// From this version on, a client says what it is (KIP-511).
const CLIENT_TELLS_SINCE: i16 = 3;

pub(super) fn handle(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let names = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if version >= CLIENT_TELLS_SINCE && !names.iter().all(|name| is_software_name(name)) {
        return ApiVersionsResponse::default().with_error_code(reply_code::INVALID_REQUEST);
    }
    response(APIS.iter())
}

/// Letters, digits, and between them dashes and full stops. Source: Kafka's `ApiVersionsRequest`.
fn is_software_name(name: &str) -> bool {
    let is_outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    is_outer(bytes.first()) && is_outer(bytes.last()) && bytes.iter().all(is_inner)
}

fn response<'a>(apis: impl Iterator<Item = &'a (ApiKey, i16, i16)>) -> ApiVersionsResponse {
    let keys = apis.map(|(key, first, last)| {
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

/// The answer to a version of `ApiVersions` that is not known, in version 0: those of `ApiVersions` itself.
pub(super) fn unsupported() -> ApiVersionsResponse {
    let itself = APIS.iter().filter(|(key, ..)| *key == ApiKey::ApiVersions);
    response(itself).with_error_code(reply_code::UNSUPPORTED_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_too_new_is_told_of_this_api_alone() {
        let told = unsupported();
        assert_eq!(told.error_code, reply_code::UNSUPPORTED_VERSION);
        let keys: Vec<i16> = told.api_keys.iter().map(|key| key.api_key).collect();
        assert_eq!(keys, [ApiKey::ApiVersions as i16]);
    }

    #[test]
    fn software_has_a_name_as_kafkas_clients_have() {
        for name in ["librdkafka", "apache-kafka-java", "2.3.0", "a"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "ä"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}
