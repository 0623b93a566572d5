//! HTTP: health, metrics, and under `/api/v1` what people ask and decide about edges, offsets and
//! topics. Answers are JSON; what is wrong is told as `{"error": …}` with what to do.

mod acls;
mod answer;
mod backup;
mod edges;
mod facts;
mod groups;
mod kafka;
mod lines;
mod offsets;
mod openapi;
mod records;
mod storage;
mod topics;
mod whereabouts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tidegate_cloud_protocol::offset_map::AllFacts;
use tokio::sync::{Mutex, Semaphore};

use crate::broker::Broker;
use crate::coordinator::Coordinator;
use crate::reading::StorageError;
use answer::{ApiError, Unanswered};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the handlers look at.
#[derive(Clone)]
pub(crate) struct Context {
    pub broker: Broker,
    pub coordinator: Arc<Coordinator>,
    /// To ask what Kafka clients ask.
    pub kafka: crate::kafka::Context,
    pub place: Arc<Place>,
    /// One scrub at a time: it holds a whole segment in memory.
    pub scrub: Arc<Semaphore>,
    /// One import of facts at a time: each is held against what the one before it has brought.
    pub imports: Arc<Mutex<()>>,
}

impl Context {
    /// Asks the offset map, also of what is packed; see [`Shared::look_up`](crate::state::Shared).
    async fn look_up<T>(
        &self,
        ask: impl Fn(AllFacts<'_>) -> Result<T, Unanswered>,
    ) -> Result<T, ApiError> {
        let asked = |all: AllFacts<'_>| match ask(all) {
            Ok(answer) => Ok(Ok(answer)),
            Err(Unanswered::Wrong(error)) => Ok(Err(error)),
            Err(Unanswered::Unopened(unopened)) => Err(unopened),
        };
        let answer = self.broker.shared().look_up(asked).await;
        answer.map_err(|error| self.unreadable(&error))?
    }

    fn unreadable(&self, error: &StorageError) -> ApiError {
        self.broker.metrics().storage_errors.inc();
        ApiError::unreadable(error.to_string())
    }
}

/// Where the node keeps what it keeps: for who makes a backup of it.
#[derive(Debug)]
pub(crate) struct Place {
    pub data: PathBuf,
    pub restore_window: Duration,
}

/// `/healthz`: the process lives. `/readyz`: submissions are decided. `/metrics`: Prometheus.
pub(crate) fn router(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .nest(
            "/api/v1",
            Router::new()
                .merge(offsets::routes())
                .merge(facts::routes())
                .merge(whereabouts::routes())
                .merge(edges::routes())
                .merge(backup::routes())
                .merge(topics::routes())
                .merge(records::routes())
                .merge(groups::routes())
                .merge(openapi::routes())
                .merge(storage::routes())
                .merge(acls::routes())
                .fallback(answer::unknown_path),
        )
        .with_state(context)
}

async fn ready(State(context): State<Context>) -> impl IntoResponse {
    match context.broker.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the log is closed\n"),
    }
}

async fn metrics(State(context): State<Context>) -> impl IntoResponse {
    let metrics = context.broker.metrics();
    let waits = context.broker.shared().log_waits.time().as_secs();
    let waits = i64::try_from(waits).unwrap_or(i64::MAX);
    metrics.log_waits_seconds.set(waits);
    let text = metrics.encode();
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}
