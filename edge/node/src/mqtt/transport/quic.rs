//! MQTT over QUIC: the client opens one two-way stream, and MQTT is spoken on that as over TCP. (More
//! than one stream a connection, as some brokers have it, is not offered.)

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::{IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls::Tls;

/// What is spoken inside QUIC.
pub(super) const ALPN: &[u8] = b"mqtt";

/// A client that is gone without a word is noticed then at the latest; MQTT's own keep alive may be
/// shorter.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Often enough that an idle client with a long keep alive stays.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Bytes under way to the server on a connection.
const WINDOW_BYTES: u32 = 256 << 10;

/// One stream is all that is spoken on.
const STREAMS_MAX: u32 = 1;

/// Of what comes after the end, at once.
const LATE_BYTES: usize = 16 << 10;

/// A connection and its stream.
#[derive(Debug)]
pub(crate) struct QuicSocket {
    receive: RecvStream,
    send: SendStream,
}

pub(super) fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("a minute fits a QUIC integer");
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    Arc::new(transport)
}

pub(super) fn listen(address: SocketAddr, tls: &Tls) -> io::Result<quinn::Endpoint> {
    let endpoint = quinn::Endpoint::server(tls.quic_config(), address)?;
    tls.serve_quic(endpoint.clone());
    Ok(endpoint)
}

/// With the client's certificates, if it has shown any.
pub(super) async fn accept(
    incoming: quinn::Incoming,
) -> io::Result<(QuicSocket, Option<Vec<CertificateDer<'static>>>)> {
    let connection = incoming.accept()?.await?;
    let chain = connection.peer_identity();
    let chain = chain
        .and_then(|chain| chain.downcast().ok())
        .map(|chain| *chain);
    // The streams keep the connection.
    let (send, receive) = connection.accept_bi().await?;
    Ok((QuicSocket { receive, send }, chain))
}

impl QuicSocket {
    /// Returns once the client has all that was sent, and has ended its half: it acknowledges bytes before it has read
    /// them, and what it has not read when the connection ends may be lost (so does quic-go: a CONNACK that refuses).
    pub(super) async fn delivered(&mut self) -> io::Result<()> {
        let stopped = self.send.stopped().await;
        stopped.map_err(io::Error::other)?;
        // What still comes is too late to count.
        while self.receive.read_chunk(LATE_BYTES, true).await?.is_some() {}
        Ok(())
    }
}

impl AsyncRead for QuicSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), context, buffer)
    }
}

impl AsyncWrite for QuicSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), context)
    }
}
