//! Health and metrics over HTTP.

use std::sync::Arc;

use axum::Router as HttpRouter;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;
use crate::retained::Retained;
use crate::sessions::Sessions;

/// What Prometheus expects of OpenMetrics text.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug)]
struct Context {
    sessions: Arc<Sessions>,
    retained: Arc<Retained>,
    metrics: Arc<Metrics>,
}

pub(crate) fn router(
    sessions: Arc<Sessions>,
    retained: Arc<Retained>,
    metrics: Arc<Metrics>,
) -> HttpRouter {
    HttpRouter::new()
        .route("/healthz", get(health))
        .route("/readyz", get(health))
        .route("/metrics", get(metrics_text))
        .with_state(Context {
            sessions,
            retained,
            metrics,
        })
}

/// Ready is the same as alive here: an edge without its hub does its work.
async fn health(State(context): State<Context>) -> Response {
    if context.sessions.committer.is_ready() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the journal has failed\n").into_response()
    }
}

async fn metrics_text(State(context): State<Context>) -> Response {
    let text = context.metrics.encode(&context.sessions, &context.retained);
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}
