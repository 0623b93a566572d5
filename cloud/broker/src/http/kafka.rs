//! Records and groups over HTTP go the way of Kafka's requests, as those of a client of this node.

use axum::http::StatusCode;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{RequestKind, ResponseKind};

use super::Context;
use super::answer::ApiError;
use crate::submission::SubmitError;

/// Asks the Kafka listener's handlers; `version` is the request's.
pub(super) async fn ask(
    context: &Context,
    version: i16,
    request: RequestKind,
) -> Result<ResponseKind, ApiError> {
    let answer = context.kafka.ask(version, request).await;
    answer.ok_or_else(|| SubmitError::Closed.into())
}

/// A response that is of another API than its request: the node's own mistake.
pub(super) fn unexpected() -> ApiError {
    ApiError::unreadable("the answer is of another kind")
}

/// What a code of Kafka's says; `what` is what was asked about. Nothing where the code says that all is well.
pub(super) fn check(code: i16, what: &str, why: Option<&str>) -> Result<(), ApiError> {
    let Some(error) = ResponseError::try_from_code(code) else {
        return Ok(());
    };
    let why = why.map_or_else(|| meaning(error), str::to_owned);
    Err(ApiError::new(status(error), format!("{what}: {why}")))
}

fn meaning(error: ResponseError) -> String {
    use ResponseError as E;
    let text = match error {
        E::UnknownTopicOrPartition => "there is no such topic or partition",
        E::TopicAuthorizationFailed
        | E::GroupAuthorizationFailed
        | E::ClusterAuthorizationFailed => "you may not do that",
        E::OffsetOutOfRange => "the offset is none that it has",
        E::GroupIdNotFound => "there is no such group",
        E::NonEmptyGroup | E::UnknownMemberId => "the group has members: stop its consumers first",
        E::InvalidGroupId => "that is no name of a group",
        E::GroupSubscribedToTopic => {
            "a member of the group reads the topic: stop its consumers first"
        }
        E::KafkaStorageError => "what is stored cannot be read now",
        other => return format!("{other:?}"),
    };
    text.to_owned()
}

fn status(error: ResponseError) -> StatusCode {
    use ResponseError as E;
    match error {
        E::UnknownTopicOrPartition | E::UnknownTopicId | E::GroupIdNotFound => {
            StatusCode::NOT_FOUND
        }
        E::TopicAuthorizationFailed
        | E::GroupAuthorizationFailed
        | E::ClusterAuthorizationFailed => StatusCode::FORBIDDEN,
        E::NonEmptyGroup | E::GroupSubscribedToTopic | E::UnknownMemberId => StatusCode::CONFLICT,
        E::KafkaStorageError | E::UnknownServerError => StatusCode::INTERNAL_SERVER_ERROR,
        E::CoordinatorNotAvailable | E::CoordinatorLoadInProgress => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::BAD_REQUEST,
    }
}
