//! A listener's gate: what is served before it is known who the client is, which is ApiVersions, SaslHandshake and
//! SaslAuthenticate. What comes of tokens is decided in `sasl`; here they are moved, and passwords are checked.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, RequestKind, ResponseKind, SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout, timeout_at};

use super::connection::{self, ConnectionError, Incoming, Parsed};
use super::sasl::{Authenticated, Sasl, SaslError, SaslMechanism, Step};
use super::{Context, api_versions, reply_code};
use crate::credentials::{Credentials, principal_of};
use crate::limits::{
    KAFKA_AUTHENTICATION_DELAY, KAFKA_AUTHENTICATION_MAX, KAFKA_SASL_REQUEST_BYTES_MAX,
    KAFKA_WRITE_MAX,
};

/// What a listener wants of clients.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) mechanisms: Arc<[SaslMechanism]>,
}

/// Serves a client until it is known who it is: its principal. `None` where it has left.
pub(super) async fn pass<R, W>(
    gate: &Gate,
    reader: &mut R,
    writer: &mut W,
    context: &Context,
) -> Result<Option<Arc<str>>, ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut passing = Passing {
        sasl: Sasl::new(&gate.mechanisms),
        credentials: &context.credentials,
        writer,
    };
    let until = Instant::now() + KAFKA_AUTHENTICATION_MAX;
    loop {
        let request = connection::read_small_request(reader, KAFKA_SASL_REQUEST_BYTES_MAX);
        let request = timeout_at(until.into(), request).await;
        let Some(request) = request.map_err(|_| ConnectionError::LateAuthentication)?? else {
            return Ok(None);
        };
        let passed = async {
            match passing.sasl.is_raw() {
                true => passing.on_raw_token(&request).await,
                false => passing.on_request(request).await,
            }
        };
        let passed = timeout_at(until.into(), passed).await;
        let name = passed.map_err(|_| ConnectionError::LateAuthentication)??;
        if let Some(name) = name {
            return Ok(Some(principal_of(&name)));
        }
    }
}

struct Passing<'a, W> {
    sasl: Sasl<'a>,
    credentials: &'a Credentials,
    writer: &'a mut W,
}

impl<W: AsyncWrite + Unpin> Passing<'_, W> {
    /// The client's name, once it is known.
    async fn on_request(&mut self, request: Bytes) -> Result<Option<String>, ConnectionError> {
        let parsed = match connection::parse(request)? {
            Incoming::Request(parsed) => parsed,
            Incoming::Answered(ApiKey::ApiVersions, response) => {
                self.write(&response).await?;
                return Ok(None);
            }
            Incoming::Answered(key, _) => return Err(ConnectionError::Unauthenticated(key)),
        };
        let Parsed { key, version, .. } = *parsed;
        let about = (key, version, parsed.correlation_id);
        match parsed.body {
            RequestKind::ApiVersions(asked) => {
                let response = api_versions::handle(version, &asked);
                let response = ResponseKind::ApiVersions(response);
                self.answer(about, &response).await?;
                Ok(None)
            }
            RequestKind::SaslHandshake(asked) => {
                self.on_handshake(about, &asked.mechanism).await?;
                Ok(None)
            }
            // Before a mechanism is chosen a token is like any other request.
            RequestKind::SaslAuthenticate(asked) if self.sasl.mechanism().is_some() => {
                let came = self.on_token(&asked.auth_bytes).await;
                self.on_authenticate(about, came).await
            }
            _ => {
                sleep(KAFKA_AUTHENTICATION_DELAY).await;
                Err(ConnectionError::Unauthenticated(key))
            }
        }
    }

    async fn on_handshake(&mut self, about: About, name: &str) -> Result<(), ConnectionError> {
        let chosen = self.sasl.handshake(about.1, name);
        let error_code = match &chosen {
            Ok(()) => reply_code::NONE,
            Err(SaslError::NotOffered(_)) => reply_code::UNSUPPORTED_SASL_MECHANISM,
            Err(_) => reply_code::ILLEGAL_SASL_STATE,
        };
        // Who has chosen already is not told what there is.
        let offered = match error_code {
            reply_code::ILLEGAL_SASL_STATE => [].iter(),
            _ => self.sasl.offered().iter(),
        };
        let offered = offered.map(|one| StrBytes::from_static_str(one.name()));
        let response = SaslHandshakeResponse::default()
            .with_error_code(error_code)
            .with_mechanisms(offered.collect());
        if chosen.is_err() {
            sleep(KAFKA_AUTHENTICATION_DELAY).await;
        }
        let response = ResponseKind::SaslHandshake(response);
        self.answer(about, &response).await?;
        chosen.map_err(|why| self.failed(why))
    }

    /// Answers what a token came to: the client's name, once it is known.
    async fn on_authenticate(
        &mut self,
        about: About,
        came: Result<Came, SaslError>,
    ) -> Result<Option<String>, ConnectionError> {
        let response = SaslAuthenticateResponse::default();
        let (response, end) = match came {
            Ok(Came::Challenge(token)) => (response.with_auth_bytes(token.into()), Ok(None)),
            Ok(Came::Done(done)) => (
                response.with_auth_bytes(done.token.into()),
                Ok(Some(done.name)),
            ),
            Err(why) => {
                sleep(KAFKA_AUTHENTICATION_DELAY).await;
                let code = match why {
                    SaslError::OutOfTurn(_) => reply_code::ILLEGAL_SASL_STATE,
                    _ => reply_code::SASL_AUTHENTICATION_FAILED,
                };
                let told = StrBytes::from_string(why.told(self.sasl.mechanism()));
                let response = response
                    .with_error_code(code)
                    .with_error_message(Some(told));
                (response, Err(self.failed(why)))
            }
        };
        let response = ResponseKind::SaslAuthenticate(response);
        self.answer(about, &response).await?;
        end
    }

    /// A token without a request around it is answered with one. A failure has no form there: the connection is closed.
    async fn on_raw_token(&mut self, token: &[u8]) -> Result<Option<String>, ConnectionError> {
        let (token, name) = match self.on_token(token).await {
            Ok(Came::Challenge(token)) => (token, None),
            Ok(Came::Done(done)) => (done.token, Some(done.name)),
            Err(why) => {
                sleep(KAFKA_AUTHENTICATION_DELAY).await;
                return Err(self.failed(why));
            }
        };
        let mut out = BytesMut::new();
        out.put_i32(i32::try_from(token.len()).expect("a token is short"));
        out.put_slice(&token);
        self.write(&out).await?;
        Ok(name)
    }

    async fn on_token(&mut self, token: &[u8]) -> Result<Came, SaslError> {
        let credentials = self.credentials;
        let verifier_of = |mechanism, name: &str| credentials.verifier(mechanism, name);
        match self.sasl.token(token, verifier_of, &credentials.nonce())? {
            Step::Challenge(token) => Ok(Came::Challenge(token)),
            Step::Done(done) => Ok(Came::Done(done)),
            Step::Check(asked) => {
                let name = credentials.check(&asked.name, &asked.password).await;
                let name = name.map(|name| name.as_str().to_owned());
                self.sasl.checked(name).map(Came::Done)
            }
        }
    }

    fn failed(&self, why: SaslError) -> ConnectionError {
        let mechanism = self.sasl.mechanism();
        ConnectionError::Authentication { mechanism, why }
    }

    async fn answer(
        &mut self,
        about: About,
        response: &ResponseKind,
    ) -> Result<(), ConnectionError> {
        let (key, version, correlation_id) = about;
        let response = connection::encode(key, version, correlation_id, response)?;
        self.write(&response).await
    }

    async fn write(&mut self, response: &[u8]) -> Result<(), ConnectionError> {
        let writing = async {
            self.writer.write_all(response).await?;
            self.writer.flush().await
        };
        let written = timeout(KAFKA_WRITE_MAX, writing).await;
        Ok(written.map_err(|_| ConnectionError::Stuck)??)
    }
}

/// A request's API, version and correlation id.
type About = (ApiKey, i16, i32);

/// What a token came to, checks and all.
enum Came {
    Challenge(Vec<u8>),
    Done(Authenticated),
}
