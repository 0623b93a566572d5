//! Who asks: a bearer token's user, a name and a password (Basic), or a certificate's subject. Handlers find the
//! [`Principal`] in the request; what it may do is decided in `rights`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Context;
use super::answer::ApiError;
use super::listener::Peer;
use crate::config::HttpAuthentication;
use crate::credentials::{Credentials, principal_of};
use crate::kafka::ANONYMOUS;
use crate::limits::KAFKA_AUTHENTICATION_DELAY;
use crate::metrics::Door as Through;

/// Who asks, as Kafka writes it: `User:ada`.
#[derive(Clone, Debug)]
pub(crate) struct Principal(pub(crate) Arc<str>);

/// The context of one request: what it asks of Kafka's handlers, it asks as who it is.
pub(super) struct Asking(pub(crate) Context);

impl FromRequestParts<Context> for Asking {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Infallible> {
        let mut context = context.clone();
        if let Some(Principal(principal)) = parts.extensions.get() {
            context.kafka.principal = Arc::clone(principal);
        }
        if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<Peer>>() {
            context.kafka.client_host = format!("/{}", peer.address.ip().to_canonical());
        }
        Ok(Self(context))
    }
}

/// What the door looks at.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) context: Context,
    pub(super) authentication: HttpAuthentication,
}

/// Lets in whom is known, or anybody where that is not asked. What is sent must be right in either case.
pub(super) async fn check(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    if is_of_another_page(&request) {
        let why = "a page of another origin may not change anything here";
        return ApiError::forbidden(why).into_response();
    }
    let shown = request.headers().get(AUTHORIZATION).cloned();
    let principal = match &shown {
        Some(shown) => known(&door.context.credentials, shown).await,
        None => by_connection(&peer, door.authentication),
    };
    match principal {
        Some(principal) => {
            request.extensions_mut().insert(Principal(principal));
            next.run(request).await
        }
        None => refuse(&door.context, &peer, shown.is_some()).await,
    }
}

/// Whether a browser sends it for a page that came from elsewhere: with what it knows of the person, or past a firewall.
fn is_of_another_page(request: &Request) -> bool {
    let header = |name| request.headers().get(name)?.to_str().ok();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let Some(origin) = header(ORIGIN).filter(|_| !is_read) else {
        return false;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != header(HOST)
}

fn by_connection(peer: &Peer, authentication: HttpAuthentication) -> Option<Arc<str>> {
    match (&peer.principal, authentication) {
        (Some(principal), _) => Some(Arc::clone(principal)),
        (None, HttpAuthentication::None) => Some(ANONYMOUS.into()),
        (None, HttpAuthentication::Users) => None,
    }
}

async fn known(credentials: &Credentials, shown: &HeaderValue) -> Option<Arc<str>> {
    let (scheme, rest) = shown.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return credentials.token(rest);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    let user = credentials.check(name, password).await?;
    Some(principal_of(user.as_str()))
}

async fn refuse(context: &Context, peer: &Peer, was_shown: bool) -> Response {
    let why = match was_shown {
        true => "the token, or the name and password, is not a user's of this cloud",
        false => {
            "say who you are: a token (Authorization: Bearer …; tidegate --token), or a user's name and password (Basic)"
        }
    };
    context.broker.metrics().refused_at(Through::Http);
    let peer = peer.address;
    tracing::warn!(%peer, was_shown, "http: not let in");
    if was_shown {
        tokio::time::sleep(KAFKA_AUTHENTICATION_DELAY).await;
    }
    let mut response = ApiError::unauthorized(why).into_response();
    for scheme in ["Bearer realm=\"tidegate\"", "Basic realm=\"tidegate\""] {
        let scheme = HeaderValue::from_static(scheme);
        response.headers_mut().append(WWW_AUTHENTICATE, scheme);
    }
    response
}
