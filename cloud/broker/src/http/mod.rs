//! HTTP: health, metrics, and under `/api/v1` what people ask and decide about edges, offsets and
//! topics. Answers are JSON; what is wrong is told as `{"error": …}` with what to do.

mod acls;
mod answer;
mod backup;
mod door;
mod edges;
mod facts;
mod groups;
mod kafka;
mod lines;
mod listener;
mod offsets;
mod openapi;
mod records;
mod rights;
mod storage;
mod topics;
mod users;
mod whereabouts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use tidegate_cloud_protocol::offset_map::AllFacts;
use tokio::sync::{Mutex, Semaphore, watch};

use crate::broker::Broker;
use crate::config::HttpAuthentication;
use crate::coordinator::Coordinator;
use crate::credentials::Credentials;
use crate::reading::StorageError;
use answer::{ApiError, Unanswered};
use door::Door;
pub(crate) use listener::HttpListener;
use listener::Peer;

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
    pub credentials: Arc<Credentials>,
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

/// Serves until `stopping` changes.
pub(crate) async fn serve(
    listener: HttpListener,
    context: Context,
    mut stopping: watch::Receiver<bool>,
) {
    let broker = context.broker.clone();
    let router = router(context, listener.authentication);
    let serving = async {
        let accepted = listener.accepted(broker)?;
        axum::serve(
            accepted,
            router.into_make_service_with_connect_info::<Peer>(),
        )
        .await
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(%error, "http: the listener has failed");
            }
        }
        _ = stopping.changed() => {}
    }
}

/// `/healthz`: the process lives. `/readyz`: submissions are decided. Both are for anybody. `/metrics`: Prometheus.
fn router(context: Context, authentication: HttpAuthentication) -> Router {
    let door = Door {
        context: context.clone(),
        authentication,
    };
    let guarded = guarded()
        .route_layer(middleware::from_fn_with_state(
            context.clone(),
            rights::check,
        ))
        .layer(middleware::from_fn_with_state(door, door::check));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(guarded)
        .with_state(context)
}

fn guarded() -> Router<Context> {
    Router::new().route("/metrics", get(metrics)).nest(
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
            .merge(users::routes())
            .fallback(answer::unknown_path),
    )
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
