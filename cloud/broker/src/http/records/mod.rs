//! Records over HTTP: produce and consume, as JSON. Text stands as a string; bytes that are no UTF-8 as `{"base64": …}`.

mod consume;
mod json;
mod produce;

pub(super) use consume::{offsets_at, partitions};

use axum::Router;
use axum::routing::get;

use super::Context;

pub(super) fn routes() -> Router<Context> {
    Router::new().route(
        "/topics/{topic}/records",
        get(consume::consume).post(produce::produce),
    )
}
