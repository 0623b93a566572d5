//! Kafka's error codes for our errors. Source: Kafka protocol guide, "Error Codes".

use kafka_protocol::error::ResponseError;
use tidegate_cloud_protocol::acls::ResourceKind;
use tidegate_cloud_protocol::groups::GroupError;

pub(super) const UNKNOWN_SERVER_ERROR: i16 = -1;
pub(super) const NONE: i16 = 0;
pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
pub(super) const CORRUPT_MESSAGE: i16 = 2;
pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub(super) const MESSAGE_TOO_LARGE: i16 = 10;
pub(super) const OFFSET_METADATA_TOO_LARGE: i16 = 12;
pub(super) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub(super) const INVALID_TOPIC: i16 = 17;
pub(super) const INVALID_REQUIRED_ACKS: i16 = 21;
pub(super) const UNKNOWN_MEMBER_ID: i16 = 25;
pub(super) const INVALID_GROUP_ID: i16 = 24;
pub(super) const INVALID_TIMESTAMP: i16 = 32;
pub(super) const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
pub(super) const ILLEGAL_SASL_STATE: i16 = 34;
pub(super) const UNSUPPORTED_VERSION: i16 = 35;
pub(super) const TOPIC_ALREADY_EXISTS: i16 = 36;
pub(super) const INVALID_PARTITIONS: i16 = 37;
pub(super) const INVALID_REPLICATION_FACTOR: i16 = 38;
pub(super) const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
pub(super) const INVALID_CONFIG: i16 = 40;
pub(super) const INVALID_REQUEST: i16 = 42;
pub(super) const POLICY_VIOLATION: i16 = 44;
pub(super) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
pub(super) const INVALID_PRODUCER_EPOCH: i16 = 47;
pub(super) const INVALID_TXN_STATE: i16 = 48;
pub(super) const KAFKA_STORAGE_ERROR: i16 = 56;
pub(super) const SASL_AUTHENTICATION_FAILED: i16 = 58;
pub(super) const NON_EMPTY_GROUP: i16 = 68;
pub(super) const GROUP_ID_NOT_FOUND: i16 = 69;
pub(super) const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
pub(super) const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
pub(super) const FENCED_LEADER_EPOCH: i16 = 74;
pub(super) const UNKNOWN_LEADER_EPOCH: i16 = 75;
pub(super) const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
pub(super) const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
pub(super) const INVALID_RECORD: i16 = 87;
pub(super) const RESOURCE_NOT_FOUND: i16 = 91;
pub(super) const DUPLICATE_RESOURCE: i16 = 92;
pub(super) const UNACCEPTABLE_CREDENTIAL: i16 = 93;
pub(super) const UNKNOWN_TOPIC_ID: i16 = 100;
pub(super) const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;
pub(super) const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
pub(super) const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;

pub(super) fn group(error: GroupError) -> i16 {
    match error {
        GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
        GroupError::UnknownMember => ResponseError::UnknownMemberId,
        GroupError::FencedInstance => ResponseError::FencedInstanceId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::GroupFull => ResponseError::GroupMaxSizeReached,
        GroupError::TooLarge => ResponseError::UnknownServerError,
        GroupError::NotKept | GroupError::TooManyGroups => ResponseError::CoordinatorNotAvailable,
    }
    .code()
}

/// The code, and Kafka's message, for who may not do something with a resource.
pub(super) fn not_authorized(kind: ResourceKind) -> (i16, &'static str) {
    let (error, message) = match kind {
        ResourceKind::Topic => (
            ResponseError::TopicAuthorizationFailed,
            "Topic authorization failed.",
        ),
        ResourceKind::Group => (
            ResponseError::GroupAuthorizationFailed,
            "Group authorization failed.",
        ),
        ResourceKind::Cluster => (
            ResponseError::ClusterAuthorizationFailed,
            "Cluster authorization failed.",
        ),
        ResourceKind::TransactionalId => (
            ResponseError::TransactionalIdAuthorizationFailed,
            "Transactional Id authorization failed.",
        ),
        ResourceKind::DelegationToken | ResourceKind::User => (
            ResponseError::DelegationTokenAuthorizationFailed,
            "Delegation Token authorization failed.",
        ),
    };
    (error.code(), message)
}

/// The code of a result that carries nothing else.
pub(super) fn of(result: Result<(), GroupError>) -> i16 {
    result.map_or_else(group, |()| NONE)
}

/// Checks the leader epoch that a client believes in (KIP-320); -1 is none.
pub(super) fn leader_epoch(said: i32, is: i32) -> i16 {
    match said {
        ..0 => NONE,
        _ if said < is => FENCED_LEADER_EPOCH,
        _ if said > is => UNKNOWN_LEADER_EPOCH,
        _ => NONE,
    }
}
