//! MQTT over WebSocket: binary frames, whose limits mean nothing to MQTT `[MQTT-6.0.0-2]`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request, Response,
};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::socket::Wrapped;

/// What is offered, by name `[MQTT-6.0.0-3]`; the second is what clients of MQTT 3.1 say.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Small: most of what devices send is.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// One frame to the client at most.
const FRAME_OUT_BYTES_MAX: usize = 64 << 10;

/// A frame from the client may be so much larger than a packet: some clients gather packets.
const FRAME_ROOM_BYTES: usize = 16 << 10;

/// Frames without a byte of MQTT (pings, pongs, empty ones) that a client may send in a second. The limits of
/// MQTT do not see them.
const IDLE_FRAMES_MAX: u32 = 100;
const IDLE_FRAMES_SPAN: Duration = Duration::from_secs(1);

/// A WebSocket as a stream of bytes.
#[derive(Debug)]
pub(super) struct Frames<S> {
    frames: WebSocketStream<S>,
    /// Of a frame that is read in part.
    rest: Bytes,
    idle: IdleFrames,
}

/// Counts frames that carry nothing.
#[derive(Debug)]
struct IdleFrames {
    since: Instant,
    count: u32,
}

impl IdleFrames {
    fn new() -> Self {
        let (since, count) = (Instant::now(), 0);
        Self { since, count }
    }

    fn count(&mut self) -> io::Result<()> {
        if self.since.elapsed() >= IDLE_FRAMES_SPAN {
            *self = Self::new();
        }
        self.count += 1;
        if self.count > IDLE_FRAMES_MAX {
            let why = "too many WebSocket frames that carry nothing";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(())
    }
}

pub(super) async fn accept<S: Wrapped>(
    stream: S,
    path: &str,
    packet_bytes_max: usize,
) -> io::Result<Frames<S>> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * FRAME_OUT_BYTES_MAX)
        .max_frame_size(Some(packet_bytes_max + FRAME_ROOM_BYTES))
        .max_message_size(Some(packet_bytes_max + FRAME_ROOM_BYTES));
    let frames = accept_hdr_async_with_config(stream, Offer { path }, Some(config)).await;
    Ok(Frames {
        frames: frames.map_err(io::Error::other)?,
        rest: Bytes::new(),
        idle: IdleFrames::new(),
    })
}

struct Offer<'a> {
    path: &'a str,
}

impl Callback for Offer<'_> {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if request.uri().path() != self.path {
            return Err(refusal(
                StatusCode::NOT_FOUND,
                "MQTT is not served at this path\n",
            ));
        }
        let asked = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let asked = asked.iter().filter_map(|value| value.to_str().ok());
        let asked = asked.flat_map(|value| value.split(',')).map(str::trim);
        let asked: Vec<_> = asked.collect();
        // In our order, not in the client's: mqtt wherever it is among them.
        let chosen = SUBPROTOCOLS.into_iter().find(|known| asked.contains(known));
        let Some(chosen) = chosen else {
            let why = "the subprotocol mqtt is not among those that are asked for\n";
            return Err(refusal(StatusCode::BAD_REQUEST, why));
        };
        // [MQTT-6.0.0-4]
        let chosen = HeaderValue::from_static(chosen);
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        Ok(response)
    }
}

fn refusal(status: StatusCode, why: &str) -> ErrorResponse {
    let mut refusal = ErrorResponse::new(Some(why.to_owned()));
    *refusal.status_mut() = status;
    refusal
}

impl<S: Wrapped> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.frames).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) if !bytes.is_empty() => self.rest = bytes,
                // Pings are answered below.
                Some(Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                )) => self.idle.count()?,
                Some(Ok(Message::Text(_))) => {
                    // [MQTT-6.0.0-1]
                    let why = "a text frame, where MQTT takes binary ones";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let bytes = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..bytes]);
        self.rest.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: Wrapped> AsyncWrite for Frames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.frames).poll_ready(context)).map_err(io_error)?;
        let bytes = &bytes[..bytes.len().min(FRAME_OUT_BYTES_MAX)];
        let frame = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.frames)
            .start_send(frame)
            .map_err(io_error)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames)
            .poll_flush(context)
            .map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames)
            .poll_close(context)
            .map_err(io_error)
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
