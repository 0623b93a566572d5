//! One connection's bytes, whatever is below. Plain sockets are not behind a pointer: they are what most
//! devices use.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::quic::QuicSocket;

/// What other layers may be put around.
pub(crate) trait Wrapped: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Wrapped for S {}

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Wrapped(Box<dyn Wrapped>),
    Quic(Box<QuicSocket>),
}

impl Socket {
    fn inner(&mut self) -> Pin<&mut dyn Wrapped> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            Self::Unix(stream) => Pin::new(stream),
            Self::Wrapped(stream) => Pin::new(stream),
            Self::Quic(stream) => Pin::new(&mut **stream),
        }
    }

    /// Says that nothing more is sent, and waits until the peer can have it all, where dropping the
    /// socket would take it back.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.shutdown().await?;
        match self {
            Self::Quic(stream) => stream.delivered().await,
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            other => other.inner().poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            other => other.inner().poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().inner().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().inner().poll_shutdown(context)
    }
}
