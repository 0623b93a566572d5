//! One connection: requests are read, handled and answered one after the other, in order. What a
//! client sends ahead waits in the socket, which bounds it. Only batches to be produced do not wait for those before them
//! to be durable: they have their place in the order once they are read.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::fetch::{Seen, Sending};
use super::produce::{Producing, Told};
use super::sasl::{SaslError, SaslMechanism};
use super::{Context, api_versions, dispatch, fetch, gate, old_produce, produce, shape};
use crate::limits::{
    KAFKA_AUTHENTICATION_MAX, KAFKA_CONNECTION_IDLE_MAX, KAFKA_GOODBYE_MAX, KAFKA_PRODUCES_MAX,
    KAFKA_REQUEST_BYTES_MAX, KAFKA_REQUEST_READ_MAX, KAFKA_SMALL_REQUEST_BYTES_MAX,
    KAFKA_WRITE_MAX,
};
use crate::reading::Chunk;

const CODEC_PANICKED: &str = "the codec panicked";

/// Why a connection has ended.
#[derive(Debug, Error)]
pub(super) enum ConnectionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("no request within {} s", KAFKA_CONNECTION_IDLE_MAX.as_secs())]
    Idle,
    #[error("a request that has begun did not come within {} s", KAFKA_REQUEST_READ_MAX.as_secs())]
    Slow,
    #[error("the client took no response for {} s", KAFKA_WRITE_MAX.as_secs())]
    Stuck,
    #[error(
        "the request says it has {0} bytes, at most {KAFKA_REQUEST_BYTES_MAX} are taken (is this a Kafka client?)"
    )]
    Length(i32),
    #[error("the request ends within its header")]
    Header,
    #[error("API {key} version {version} is not served")]
    Unsupported { key: i16, version: i16 },
    #[error("the {key:?} request (version {version}) cannot be read: {reason}")]
    Malformed {
        key: ApiKey,
        version: i16,
        reason: String,
    },
    #[error("the {key:?} response (version {version}) cannot be written: {reason}")]
    Encode {
        key: ApiKey,
        version: i16,
        reason: String,
    },
    #[error("what was produced without waiting for an answer (acks=0) is refused")]
    RefusedUnasked,
    #[error("the node is stopping")]
    Stopping,
    #[error(
        "{0:?} comes before it is known who the client is: this listener wants SASL (Kafka's security.protocol, sasl.mechanism)"
    )]
    Unauthenticated(ApiKey),
    #[error("it was not known who the client is within {} s", KAFKA_AUTHENTICATION_MAX.as_secs())]
    LateAuthentication,
    #[error("authentication failed ({}): {why}", mechanism.map_or("no mechanism", SaslMechanism::name))]
    Authentication {
        mechanism: Option<SaslMechanism>,
        why: SaslError,
    },
}

impl ConnectionError {
    /// Whether this node is at fault.
    pub(super) fn is_own_failure(&self) -> bool {
        match self {
            Self::Malformed { reason, .. } => reason == CODEC_PANICKED,
            Self::Encode { .. } => true,
            _ => false,
        }
    }

    /// Whether the peer is at fault (or we are, in a way that its operator must see).
    pub(super) fn is_bad_request(&self) -> bool {
        let is_no_request = matches!(
            self,
            Self::Io(_) | Self::Idle | Self::Stopping | Self::Tls(_)
        );
        !is_no_request && !self.is_at_the_gate()
    }

    /// Whether the client is not let in.
    pub(super) fn is_at_the_gate(&self) -> bool {
        match self {
            // Who only looks whether the port answers.
            Self::Tls(error) => error.kind() != io::ErrorKind::UnexpectedEof,
            Self::Unauthenticated(_) | Self::LateAuthentication | Self::Authentication { .. } => {
                true
            }
            _ => false,
        }
    }
}

/// Serves a connection until the client closes it. Where the listener wants to know who the client is, that comes first.
pub(super) async fn serve<R, W>(
    reader: R,
    mut writer: W,
    context: &Context,
) -> Result<(), ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut reader = BufReader::new(reader);
    let served = match &context.gate {
        None => serve_known(&mut reader, &mut writer, context).await,
        Some(wanted) => match gate::pass(wanted, &mut reader, &mut writer, context).await {
            Ok(Some(principal)) => {
                let context = Context {
                    principal,
                    ..context.clone()
                };
                serve_known(&mut reader, &mut writer, &context).await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        },
    };
    // TLS says goodbye; whoever does not take it has left.
    let _ = timeout(KAFKA_GOODBYE_MAX, writer.shutdown()).await;
    served
}

/// Serves a client of which it is known who it is, as far as that is asked.
async fn serve_known<R, W>(
    reader: &mut R,
    writer: &mut W,
    context: &Context,
) -> Result<(), ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (answers, mut in_order) = mpsc::channel(KAFKA_PRODUCES_MAX - 2);
    let reading = async move {
        loop {
            let Some((request, room)) = read_request(reader, &context.room).await? else {
                return Ok(());
            };
            let answer = Box::pin(answer(request, context)).await?;
            drop(room);
            // Of long responses there is one at a time, as the client takes them.
            let (taken, is_taken) = oneshot::channel();
            let waits = !matches!(answer, Answer::Producing { .. });
            if answers.send((answer, taken)).await.is_err() {
                return Ok(());
            }
            if waits && is_taken.await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((answer, taken)) = in_order.recv().await {
            let answer: Answer = answer;
            if let Some(response) = answer.response(context).await? {
                response.write(writer, fetch::seen(context)).await?;
            }
            let _ = oneshot::Sender::send(taken, ());
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// What a request comes to.
enum Answer {
    Response(BytesMut),
    Fetched(Sending),
    /// What is to be produced is on its way to the log.
    Producing {
        producing: Producing,
        version: i16,
        correlation_id: i32,
    },
}

/// A whole response, length included.
enum Response {
    Encoded(BytesMut),
    Fetched(Sending),
}

impl Response {
    async fn write(
        self,
        writer: &mut (impl AsyncWrite + Unpin),
        seen: Seen<'_>,
    ) -> Result<(), ConnectionError> {
        match self {
            Self::Encoded(response) => write(writer, &response).await,
            Self::Fetched(mut sending) => {
                let mut chunk = Chunk::default();
                loop {
                    chunk.clear();
                    sending.fill(&mut chunk, seen).await;
                    if chunk.filled().is_empty() {
                        return Ok(());
                    }
                    write(writer, chunk.filled()).await?;
                }
            }
        }
    }
}

/// As much as the client takes in one go.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> Result<(), ConnectionError> {
    let writing = async {
        writer.write_all(bytes).await?;
        writer.flush().await
    };
    let written = timeout(KAFKA_WRITE_MAX, writing).await;
    written.map_err(|_| ConnectionError::Stuck)??;
    Ok(())
}

impl Answer {
    /// `None` where the client waits for none.
    async fn response(self, context: &Context) -> Result<Option<Response>, ConnectionError> {
        let (producing, version, correlation_id) = match self {
            Self::Response(response) => return Ok(Some(Response::Encoded(response))),
            Self::Fetched(sending) => return Ok(Some(Response::Fetched(sending))),
            Self::Producing {
                producing,
                version,
                correlation_id,
            } => (producing, version, correlation_id),
        };
        let told = producing.end(context).await;
        match told.ok_or(ConnectionError::Stopping)? {
            Told::Nothing => Ok(None),
            Told::Refused => Err(ConnectionError::RefusedUnasked),
            Told::Response(response) => {
                let response = ResponseKind::Produce(response);
                let response = encode(ApiKey::Produce, version, correlation_id, &response)?;
                Ok(Some(Response::Encoded(response)))
            }
        }
    }
}

/// One request without its length, with its room among all; `None` at the connection's end. The length is checked before
/// room is made, and room is made as bytes come.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    room: &Arc<Semaphore>,
) -> Result<Option<(Bytes, Option<OwnedSemaphorePermit>)>, ConnectionError> {
    let length = match timeout(KAFKA_CONNECTION_IDLE_MAX, stream.read_i32()).await {
        Ok(Ok(length)) => length,
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => return Err(ConnectionError::Idle),
    };
    let wanted = usize::try_from(length).map_err(|_| ConnectionError::Length(length))?;
    if wanted > KAFKA_REQUEST_BYTES_MAX {
        return Err(ConnectionError::Length(length));
    }
    let permit = match wanted > KAFKA_SMALL_REQUEST_BYTES_MAX {
        false => None,
        true => {
            let kib = u32::try_from(wanted >> 10).map_err(|_| ConnectionError::Length(length))?;
            let permit = Arc::clone(room).acquire_many_owned(kib).await;
            Some(permit.map_err(|_| ConnectionError::Stopping)?)
        }
    };
    let body = timeout(KAFKA_REQUEST_READ_MAX, read_body(stream, wanted)).await;
    let body = body.map_err(|_| ConnectionError::Slow)??;
    Ok(Some((body, permit)))
}

/// As [`read_request`], of a client that is not known yet: it needs no room, since it is short.
pub(super) async fn read_small_request(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Option<Bytes>, ConnectionError> {
    let length = match stream.read_i32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let wanted = usize::try_from(length).ok();
    let wanted = wanted.filter(|wanted| *wanted <= bytes_max);
    let wanted = wanted.ok_or(ConnectionError::Length(length))?;
    read_body(stream, wanted).await.map(Some)
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    wanted: usize,
) -> Result<Bytes, ConnectionError> {
    let mut request = BytesMut::new();
    let mut body = stream.take(wanted as u64);
    while request.len() < wanted {
        let room = (wanted - request.len()).min(request.len().max(8 << 10));
        request.reserve(room);
        if body.read_buf(&mut request).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(request.freeze())
}

/// A request that can be handled, or one that is answered already.
pub(super) enum Incoming {
    Request(Box<Parsed>),
    Answered(ApiKey, BytesMut),
}

pub(super) struct Parsed {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) client_id: String,
    pub(super) body: RequestKind,
}

/// Takes a request apart, if it is one that is served.
pub(super) fn parse(mut request: Bytes) -> Result<Incoming, ConnectionError> {
    let mut start = request.slice(..request.len().min(8));
    if start.len() < 8 {
        return Err(ConnectionError::Header);
    }
    let (number, version) = (start.get_i16(), start.get_i16());
    let correlation_id = start.get_i32();
    let unsupported = ConnectionError::Unsupported {
        key: number,
        version,
    };
    let key = ApiKey::try_from(number).map_err(|()| ConnectionError::Unsupported {
        key: number,
        version,
    })?;
    if !api_versions::serves(key, version) {
        if key == ApiKey::ApiVersions {
            // KIP-511: a client newer than this node is answered in version 0, and comes again.
            let response = ResponseKind::ApiVersions(api_versions::unsupported());
            let response = encode(key, 0, correlation_id, &response)?;
            return Ok(Incoming::Answered(key, response));
        }
        if key == ApiKey::Produce && old_produce::VERSIONS.contains(&version) {
            return match old_produce::answer(version, request) {
                Some(old_produce::Told::Response(response)) => {
                    Ok(Incoming::Answered(key, response))
                }
                Some(old_produce::Told::Refused) => Err(ConnectionError::RefusedUnasked),
                None => Err(ConnectionError::Malformed {
                    key,
                    version,
                    reason: "it ends within a field".to_owned(),
                }),
            };
        }
        return Err(unsupported);
    }
    let malformed = |reason: String| ConnectionError::Malformed {
        key,
        version,
        reason,
    };
    shape::check(key, version, &request).map_err(|error| malformed(error.to_string()))?;
    let (header, body) = decode(key, version, &mut request).map_err(malformed)?;
    let client_id = header.client_id.unwrap_or_default();
    Ok(Incoming::Request(Box::new(Parsed {
        key,
        version,
        correlation_id,
        client_id: client_id.to_string(),
        body,
    })))
}

async fn answer(request: Bytes, context: &Context) -> Result<Answer, ConnectionError> {
    let request_bytes = request.len();
    let parsed = match parse(request)? {
        Incoming::Request(parsed) => *parsed,
        Incoming::Answered(_, response) => return Ok(Answer::Response(response)),
    };
    let Parsed {
        key,
        version,
        correlation_id,
        client_id,
        body,
    } = parsed;
    match body {
        RequestKind::Produce(request) => {
            let producing = produce::begin(context, version, request, request_bytes).await;
            Ok(Answer::Producing {
                producing: producing.ok_or(ConnectionError::Stopping)?,
                version,
                correlation_id,
            })
        }
        RequestKind::Fetch(request) => {
            let fetched = fetch::handle(context, version, request).await;
            let sending = fetched.send(version, correlation_id);
            let sending = sending.map_err(|error| unwritten(key, version, &error))?;
            Ok(Answer::Fetched(sending))
        }
        body => {
            let response = dispatch::handle(context, version, &client_id, body)
                .await
                .ok_or(ConnectionError::Stopping)?;
            encode(key, version, correlation_id, &response).map(Answer::Response)
        }
    }
}

/// The codec reports bad bytes as errors; should it panic all the same, that is an error too.
fn decode(
    key: ApiKey,
    version: i16,
    request: &mut Bytes,
) -> Result<(RequestHeader, RequestKind), String> {
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let header = RequestHeader::decode(request, key.request_header_version(version))?;
        Ok::<_, anyhow::Error>((header, RequestKind::decode(key, request, version)?))
    }));
    match decoded {
        Ok(Ok(decoded)) => Ok(decoded),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(CODEC_PANICKED.to_owned()),
    }
}

pub(super) fn encode(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &ResponseKind,
) -> Result<BytesMut, ConnectionError> {
    let mut out = BytesMut::with_capacity(512);
    out.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header
        .encode(&mut out, key.response_header_version(version))
        .and_then(|()| response.encode(&mut out, version))
        .map_err(|error| unwritten(key, version, &error))?;
    let length = i32::try_from(out.len() - 4).expect("responses are bounded far below 2 GiB");
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

fn unwritten(key: ApiKey, version: i16, error: &anyhow::Error) -> ConnectionError {
    ConnectionError::Encode {
        key,
        version,
        reason: error.to_string(),
    }
}
