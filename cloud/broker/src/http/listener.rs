//! The HTTP listener: TCP, with TLS where that is configured. Handshakes do not hold up who comes after.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::broker::Broker;
use crate::config::HttpAuthentication;
use crate::limits::{HTTP_CONNECTIONS_MAX, HTTP_HANDSHAKES_MAX};
use crate::metrics::Door;
use crate::tls::{Tls, principal_by_certificate};

/// A listener that is bound, and what it is to be.
#[derive(Debug)]
pub(crate) struct HttpListener {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Tls>,
    pub(crate) authentication: HttpAuthentication,
}

/// Who has connected.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// By its certificate.
    pub(super) principal: Option<Arc<str>>,
}

/// Hands over connections whose handshakes are done.
#[derive(Debug)]
pub(super) struct Accepted {
    opened: mpsc::Receiver<(Socket, Peer)>,
    address: SocketAddr,
    /// Ends with this.
    _accepting: JoinSet<()>,
}

/// A connection, with its place among all.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl HttpListener {
    pub(super) fn accepted(self, broker: Broker) -> io::Result<Accepted> {
        let address = self.listener.local_addr()?;
        let (to, opened) = mpsc::channel(1);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(self.listener, self.tls, to, broker));
        Ok(Accepted {
            opened,
            address,
            _accepting: accepting,
        })
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    to: mpsc::Sender<(Socket, Peer)>,
    broker: Broker,
) {
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "http: cannot accept a connection");
                // Out of file descriptors: accepting again at once would spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let place = Arc::clone(&places).try_acquire_owned();
        let Some(place) = place
            .ok()
            .filter(|_| handshakes.len() < HTTP_HANDSHAKES_MAX)
        else {
            tracing::warn!(peer = %address, "http: refused: too many connections are open");
            continue;
        };
        let (tls, to, broker) = (tls.clone(), to.clone(), broker.clone());
        handshakes.spawn(async move {
            match open(stream, address, tls).await {
                Ok((stream, peer)) => {
                    let socket = Socket {
                        stream,
                        _place: place,
                    };
                    drop(to.send((socket, peer)).await);
                }
                // Who only looks whether the port answers.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => {
                    broker.metrics().refused_at(Door::Http);
                    tracing::warn!(peer = %address, %error, "http: the TLS handshake failed");
                }
            }
        });
    }
}

async fn open(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Tls>,
) -> io::Result<(Stream, Peer)> {
    let Some(tls) = tls else {
        let principal = None;
        return Ok((Stream::Plain(stream), Peer { address, principal }));
    };
    let stream = Box::new(tls.accept(stream).await?);
    let principal = principal_by_certificate(&stream);
    Ok((Stream::Tls(stream), Peer { address, principal }))
}

impl Listener for Accepted {
    type Io = Socket;
    type Addr = Peer;

    async fn accept(&mut self) -> (Socket, Peer) {
        match self.opened.recv().await {
            Some(opened) => opened,
            // Nobody accepts any more: the node stops.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        let (address, principal) = (self.address, None);
        Ok(Peer { address, principal })
    }
}

impl Connected<IncomingStream<'_, Accepted>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Accepted>) -> Self {
        stream.remote_addr().clone()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
