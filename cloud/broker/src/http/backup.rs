//! What a backup needs of a running cloud: where its data is, up to which frame of the log all is durable, and
//! that nothing is deleted meanwhile. The files themselves are read where they lie, by whoever may read them: the
//! CA's key never goes over HTTP.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::json;

use super::Context;
use super::answer::ApiError;
use super::lines::{Lines, NDJSON, line};
use crate::limits::{BACKUP_BEAT_EVERY, BACKUPS_AT_ONCE_MAX};
use crate::log::LogReader;

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/cluster/hold", post(hold))
}

/// The first line says what there is; then comes an empty object now and then. Nothing of what the first line
/// stands for is deleted for as long as the answer is being read.
async fn hold(State(context): State<Context>) -> Result<impl IntoResponse, ApiError> {
    let shared = context.broker.shared();
    if let LogReader::Object(_) = shared.log {
        return Err(ApiError::conflict(
            "the log of this cloud is in its object store (wal: object), as all else that it needs: keep copies or older versions of the bucket instead".to_owned(),
        ));
    }
    // Before the end is asked for: what the state there needs is held from then on.
    let hold = shared.holds.take().ok_or_else(|| {
        ApiError::conflict(format!(
            "{BACKUPS_AT_ONCE_MAX} backups are under way: wait for one to end"
        ))
    })?;
    let end = context.broker.log_end().await?;
    let place = &context.place;
    let first = json!({
        "store_id": format!("{:032x}", end.store_id),
        "next_frame": end.next_frame,
        "data": place.data,
        "object_store": shared.segments.stores().cluster().url().absolute(),
        "restore_window_ms": u64::try_from(place.restore_window.as_millis()).unwrap_or(u64::MAX),
    });
    let (pieces, lines) = Lines::new();
    tokio::spawn(async move {
        tracing::info!(
            frame = end.next_frame,
            "a backup begins: nothing is deleted meanwhile"
        );
        let mut piece = line(&first);
        while pieces.send(Ok(piece)).await.is_ok() {
            tokio::time::sleep(BACKUP_BEAT_EVERY).await;
            piece = Bytes::from_static(b"{}\n");
        }
        drop(hold);
        tracing::info!("the backup has ended, or its connection has");
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::new(lines)))
}
