//! Health and metrics over HTTP.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::broker::Broker;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/healthz`: the process lives. `/readyz`: submissions are decided. `/metrics`: Prometheus.
pub(crate) fn router(broker: Broker) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(broker)
}

async fn ready(State(broker): State<Broker>) -> impl IntoResponse {
    match broker.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the log is closed\n"),
    }
}

async fn metrics(State(broker): State<Broker>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], broker.metrics().encode())
}
