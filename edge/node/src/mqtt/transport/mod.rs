//! How MQTT's bytes come in: plain TCP, a Unix socket, TLS, WebSocket, QUIC, and what stands before them.
//! Knows nothing of MQTT; a connection's task gets a [`Socket`], whatever is below.

mod certified;
mod proxy;
mod quic;
mod socket;
mod tls;
mod unix;
mod websocket;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use tidegate_shared::fleet::{CertificateUser, ListenerAddress, ListenerSpec, Transport};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

pub(crate) use certified::Certified;
use certified::certified;
pub(crate) use socket::Socket;
use socket::Wrapped;
pub(crate) use tls::Tls;

use crate::limits::LISTEN_BACKLOG;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Ip(SocketAddr),
    /// A process of this machine, by a Unix socket.
    Local,
}

impl Peer {
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Local => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Local => formatter.write_str("unix"),
        }
    }
}

/// A listener that is bound.
#[derive(Debug)]
pub(crate) struct Listener {
    entrance: Entrance,
    layers: Arc<Layers>,
}

#[derive(Debug)]
enum Entrance {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        file: unix::SocketFile,
    },
    Quic(quinn::Endpoint),
}

/// What lies between the socket and MQTT.
#[derive(Debug)]
pub(crate) struct Layers {
    proxy_protocol: bool,
    tls: Option<Arc<Tls>>,
    /// Which name in a client's certificate is the user's.
    certificate_user: Option<CertificateUser>,
    /// The path of the request.
    websocket: Option<String>,
    packet_bytes_max: usize,
}

/// A connection on which MQTT can be spoken.
#[derive(Debug)]
pub(crate) struct Opened {
    pub socket: Socket,
    pub peer: Peer,
    pub certified: Certified,
}

/// Somebody who has come, and has not shown yet that they speak what is spoken here.
#[derive(Debug)]
pub(crate) struct Arrival {
    raw: Raw,
    layers: Arc<Layers>,
    pub peer: Peer,
}

#[derive(Debug)]
enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
    Quic(Box<quinn::Incoming>),
}

impl Listener {
    /// Binds. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// With the key that is at fault, and what to do about it.
    pub(crate) async fn bind(spec: &ListenerSpec, packet_bytes_max: usize) -> anyhow::Result<Self> {
        let tls = match &spec.tls {
            Some(files) => {
                let tls = Tls::load(files, spec.transport);
                Some(Arc::new(tls.with_context(|| {
                    format!("mqtt.listeners {}: tls", spec.address)
                })?))
            }
            None => None,
        };
        let entrance = match (&spec.address, spec.transport, &tls) {
            (ListenerAddress::Unix(path), ..) => {
                let (listener, file) = unix::listen(path).await?;
                Entrance::Unix { listener, file }
            }
            (ListenerAddress::Ip(address), Transport::Quic, Some(tls)) => {
                let endpoint = quic::listen(*address, tls);
                Entrance::Quic(endpoint.map_err(|error| in_use(*address, &error))?)
            }
            (ListenerAddress::Ip(address), ..) => {
                let listener = listen(*address);
                Entrance::Tcp(listener.map_err(|error| in_use(*address, &error))?)
            }
        };
        let layers = Layers {
            proxy_protocol: spec.proxy_protocol,
            tls,
            certificate_user: spec.certificate_user,
            websocket: spec.websocket_path().map(str::to_owned),
            packet_bytes_max,
        };
        Ok(Self {
            entrance,
            layers: Arc::new(layers),
        })
    }

    /// `None` for a Unix socket.
    pub(crate) fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        match &self.entrance {
            Entrance::Tcp(listener) => listener.local_addr().map(Some),
            Entrance::Quic(endpoint) => endpoint.local_addr().map(Some),
            Entrance::Unix { .. } => Ok(None),
        }
    }

    /// As people are told of it: `tcp 127.0.0.1:1883`, `websocket+tls [::1]:8084`, `unix:/run/mqtt.sock`.
    pub(crate) fn described(&self) -> io::Result<String> {
        let (below, address) = match &self.entrance {
            Entrance::Tcp(listener) => (Some("tcp"), listener.local_addr()?.to_string()),
            Entrance::Quic(endpoint) => return Ok(format!("quic {}", endpoint.local_addr()?)),
            Entrance::Unix { file, .. } => (None, format!("unix:{}", file.0.display())),
        };
        let websocket = self.layers.websocket.as_ref().map(|_| "websocket");
        let tls = self.layers.tls.as_ref().map(|_| "tls");
        let layers: Vec<_> = websocket.or(below).into_iter().chain(tls).collect();
        Ok(match layers.is_empty() {
            true => address,
            false => format!("{} {address}", layers.join("+")),
        })
    }

    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.layers.tls.clone()
    }

    /// The next who comes. Safe to cancel.
    pub(crate) async fn accept(&self) -> io::Result<Arrival> {
        let (raw, peer) = match &self.entrance {
            Entrance::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                (Raw::Tcp(stream), Peer::Ip(peer))
            }
            Entrance::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                (Raw::Unix(stream), Peer::Local)
            }
            Entrance::Quic(endpoint) => {
                let incoming = endpoint.accept().await;
                let incoming =
                    incoming.ok_or_else(|| io::Error::other("the endpoint is closed"))?;
                let peer = incoming.remote_address();
                (Raw::Quic(Box::new(incoming)), Peer::Ip(peer))
            }
        };
        let layers = Arc::clone(&self.layers);
        Ok(Arrival { raw, layers, peer })
    }
}

impl Arrival {
    /// Does the handshakes of all layers. Unbounded in time.
    pub(crate) async fn open(self) -> io::Result<Opened> {
        let Self { raw, layers, peer } = self;
        match raw {
            Raw::Quic(incoming) => {
                let (socket, chain) = quic::accept(*incoming).await?;
                let certified = certified(layers.certificate_user, chain.as_deref());
                let socket = Socket::Quic(Box::new(socket));
                Ok(Opened {
                    socket,
                    peer,
                    certified,
                })
            }
            Raw::Tcp(stream) => {
                let _ = stream.set_nodelay(true);
                layers.open(stream, peer, Socket::Tcp).await
            }
            Raw::Unix(stream) => layers.open(stream, peer, Socket::Unix).await,
        }
    }
}

impl Layers {
    async fn open<S: Wrapped + 'static>(
        &self,
        mut stream: S,
        mut peer: Peer,
        plain: impl FnOnce(S) -> Socket,
    ) -> io::Result<Opened> {
        let mut of_client = Certified::Nobody;
        if self.proxy_protocol {
            peer = proxy::read_header(&mut stream)
                .await?
                .map_or(peer, Peer::Ip);
        }
        let socket = match (&self.tls, &self.websocket) {
            (None, None) => plain(stream),
            (Some(tls), None) => {
                let stream = tls.accept(stream).await?;
                of_client = self.certified(&stream);
                Socket::Wrapped(Box::new(stream))
            }
            (None, Some(path)) => {
                let stream = websocket::accept(stream, path, self.packet_bytes_max).await?;
                Socket::Wrapped(Box::new(stream))
            }
            (Some(tls), Some(path)) => {
                let stream = tls.accept(stream).await?;
                of_client = self.certified(&stream);
                let stream = websocket::accept(stream, path, self.packet_bytes_max).await?;
                Socket::Wrapped(Box::new(stream))
            }
        };
        Ok(Opened {
            socket,
            peer,
            certified: of_client,
        })
    }

    fn certified<S>(&self, stream: &TlsStream<S>) -> Certified {
        let (_, tls) = stream.get_ref();
        certified(self.certificate_user, tls.peer_certificates())
    }
}

/// With room for many who come at once: whom the kernel has no room for tries again after a second, and
/// then after three.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

fn in_use(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    crate::edge::bind_error("mqtt.listeners", address, error)
}
