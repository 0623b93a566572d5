//! Health and metrics over HTTP, and where a message is.

use std::sync::Arc;

use axum::Router as HttpRouter;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tidegate_shared::id::{EdgeId, StreamId};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::delayed::Delayed;
use crate::metrics::Metrics;
use crate::retained::Retained;
use crate::sessions::Sessions;
use crate::whereabouts;

/// What Prometheus expects of OpenMetrics text.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the handlers look at.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub sessions: Arc<Sessions>,
    pub retained: Arc<Retained>,
    pub delayed: Arc<Delayed>,
    pub metrics: Arc<Metrics>,
    /// By its certificate; `None` without an uplink.
    pub edge: Option<EdgeId>,
    /// Stays here.
    pub unrouted: StreamId,
}

pub(crate) fn router(context: Context) -> HttpRouter {
    HttpRouter::new()
        .route("/healthz", get(health))
        .route("/readyz", get(health))
        .route("/metrics", get(metrics_text))
        .route("/api/v1/where", get(whereabouts::handle))
        .with_state(context)
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
    let Context {
        sessions,
        retained,
        delayed,
        metrics,
        ..
    } = context;
    let text = metrics.encode(&sessions, &retained, &delayed);
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

/// Answers until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    service: HttpRouter,
    mut stopping: watch::Receiver<bool>,
) {
    tokio::select! {
        served = axum::serve(listener, service).into_future() => {
            if let Err(error) = served {
                tracing::error!(%error, "http: the listener has failed");
            }
        }
        _ = stopping.changed() => {}
    }
}
