//! Answers of the API, and what can be wrong with a question. Whatever is wrong is told as
//! `{"error": …}`, also what the framework finds.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tidegate_cloud_protocol::offset_map::Unopened;
use tidegate_shared::id::{ClusterIncarnation, NameError};

use crate::submission::SubmitError;

/// What is wrong, as the status code and one line say.
#[derive(Debug, Error)]
#[error("{why}")]
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

    /// Who asks may not do it.
    pub(super) fn forbidden(why: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, why)
    }

    /// It is not known who asks.
    pub(super) fn unauthorized(why: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, why)
    }

    /// What is stored cannot be read back.
    pub(super) fn unreadable(why: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    }

    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { status, why }
    }
}

/// Why a question of the offset map has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    Wrong(ApiError),
    /// Not yet.
    Unopened(Unopened),
}

impl From<ApiError> for Unanswered {
    fn from(error: ApiError) -> Self {
        Self::Wrong(error)
    }
}

impl From<Unopened> for Unanswered {
    fn from(unopened: Unopened) -> Self {
        Self::Unopened(unopened)
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

/// What the query asks.
#[derive(Debug)]
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::from_request_parts(parts, state).await;
        let Query(asked) = query.map_err(|wrong| ApiError::bad_request(wrong.body_text()))?;
        Ok(Self(asked))
    }
}

/// What the body says, as JSON.
#[derive(Debug)]
pub(super) struct Sent<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Json::from_request(request, state).await;
        let Json(sent) = body.map_err(|wrong| ApiError::new(wrong.status(), wrong.body_text()))?;
        Ok(Self(sent))
    }
}

/// Nothing of the API has this path.
pub(super) async fn unknown_path(uri: axum::http::Uri) -> ApiError {
    ApiError::not_found(format!(
        "there is nothing at {uri}; is the cloud's version older?"
    ))
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
