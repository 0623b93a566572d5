//! HTTP under the stores: reqwest with rustls and ring. An answer that says "not now" becomes an error here,
//! so that whoever decides about trying again finds it among the causes; nothing is tried again here.

use std::future::poll_fn;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::Body as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};

use super::error::NotNow;
use super::limits::{CONNECT_MAX, ERROR_BODY_BYTES_MAX, STALL_MAX};

/// Makes the clients of all stores.
#[derive(Debug)]
pub(super) struct Connector;

/// What all clients have in common. Each whole request has its deadline elsewhere.
pub(super) fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_MAX)
        .with_read_timeout(STALL_MAX)
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // The client asks for the process's provider; who comes second finds the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.execute(request).await?;
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = head_of(body).await;
        let status = status.as_u16();
        // 501 and 505 say "never".
        if matches!(status, 408 | 429 | 500 | 502..=504 | 506..=599) {
            let body = String::from_utf8_lossy(&body).into_owned();
            let not_now = NotNow { status, body };
            return Err(HttpError::new(HttpErrorKind::Unknown, not_now));
        }
        Ok(HttpResponse::from_parts(parts, Bytes::from(body).into()))
    }
}

/// As much of an error's text as anybody will read.
async fn head_of(mut body: HttpResponseBody) -> Vec<u8> {
    let mut head = Vec::new();
    while head.len() < ERROR_BODY_BYTES_MAX {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(Ok(frame)) = frame else { break };
        if let Some(data) = frame.data_ref() {
            head.extend_from_slice(data);
        }
    }
    head.truncate(ERROR_BODY_BYTES_MAX);
    head
}
