//! Answers of the API, and what can be wrong with a question.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidegate_shared::id::{ClusterIncarnation, NameError};

use crate::submission::SubmitError;

/// What is wrong, as the status code and one line say.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    why: String,
}

impl ApiError {
    pub(super) fn not_found(why: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, why)
    }

    pub(super) fn bad_request(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    pub(super) fn conflict(why: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, why)
    }

    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { status, why }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}

/// What a handler gives.
pub(super) type Answer = Result<Json<Value>, ApiError>;

/// A cluster incarnation as JSON has it: `1-00…`, its counter and its id.
pub(super) fn life(cluster_incarnation: ClusterIncarnation) -> String {
    cluster_incarnation.to_string()
}

/// The other way round.
pub(super) fn parse_life(text: &str) -> Option<ClusterIncarnation> {
    let (counter, id) = text.split_once('-')?;
    Some(ClusterIncarnation {
        counter: counter.parse().ok()?,
        id: u128::from_str_radix(id, 16).ok()?,
    })
}
