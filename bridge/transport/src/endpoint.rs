//! QUIC endpoints: the hub's listener, the edge's dialer, and the connection that both hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_shared::id::EdgeId;

use crate::certificates::{CertificateError, Credentials, HUB_NAME};
use crate::channel::{ChannelError, FrameReader, FrameWriter};
use crate::identity::{self, IdentityError};
use crate::trouble::Trouble;

/// What is spoken inside QUIC.
const ALPN: &[u8] = b"tidegate-bridge/1";

/// A peer that says nothing for so long is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Often enough that a NAT keeps its mapping, and a dead link is seen within the idle timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Bytes under way on one QUIC stream: 100 Mbit/s over 300 ms and some.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// Bytes under way on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// QUIC streams that a peer may have open: control is two-way, one per priority class is one-way.
const BIDIRECTIONAL_STREAMS_MAX: u32 = 1;
const UNIDIRECTIONAL_STREAMS_MAX: u32 = 4;

/// What is said at a close, beside the code.
const CLOSE_REASON_BYTES_MAX: usize = 200;

/// Connections whose handshake is not done. More are refused.
const HANDSHAKES_MAX: usize = 1024;

/// The listener cannot be set up.
#[derive(Debug, Error)]
pub enum ListenError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("UDP {address} cannot be listened on: {error}")]
    Bind {
        address: SocketAddr,
        error: std::io::Error,
    },
}

/// A connection could not be made, or broke.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("no UDP socket: {0}")]
    Socket(std::io::Error),
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the peer's certificate: {0}")]
    Identity(#[from] IdentityError),
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("15 s fit a QUIC integer");
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDIRECTIONAL_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNIDIRECTIONAL_STREAMS_MAX));
    Arc::new(transport)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The hub's end: takes connections of edges that the CA vouches for.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
}

impl Listener {
    /// Must be called within a tokio runtime.
    pub fn bind(address: SocketAddr, credentials: Credentials) -> Result<Self, ListenError> {
        let config = server_config(credentials)?;
        let endpoint = quinn::Endpoint::server(config, address)
            .map_err(|error| ListenError::Bind { address, error })?;
        Ok(Self { endpoint })
    }

    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next attempt to connect; `None` once closed. Its handshake is done by
    /// [`Attempt::accept`], beside others.
    pub async fn next(&self) -> Option<Attempt> {
        loop {
            let incoming = self.endpoint.accept().await?;
            if self.endpoint.open_connections() < HANDSHAKES_MAX * 64 {
                return Some(Attempt { incoming });
            }
            incoming.refuse();
        }
    }

    /// Closes all connections, and waits until the peers know.
    pub async fn close(&self) {
        self.endpoint
            .close(VarInt::from_u32(CloseCode::Shutdown as u32), b"shutdown");
        self.endpoint.wait_idle().await;
    }
}

/// A peer that wants to connect.
#[derive(Debug)]
pub struct Attempt {
    incoming: quinn::Incoming,
}

impl Attempt {
    pub fn peer(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Does the handshake, learns who the edge is, and takes its streams. Bounded by the idle
    /// timeout.
    pub async fn accept(self) -> Result<(EdgeId, Connection), ConnectError> {
        let connection = self.incoming.accept()?.await?;
        let edge = peer_edge(&connection)?;
        let (control_out, control_in) = connection.accept_bi().await?;
        let bulk_in = Some(FrameReader::awaiting(connection.clone()));
        let connection = Connection {
            handle: Handle { quic: connection },
            control_in: FrameReader::new(control_in),
            control_out: FrameWriter::new(control_out),
            bulk_in,
            bulk_out: None,
        };
        Ok((edge, connection))
    }
}

fn server_config(credentials: Credentials) -> Result<quinn::ServerConfig, CertificateError> {
    let Credentials {
        chain, key, roots, ..
    } = credentials;
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
            .build()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // Hello never travels in 0-RTT: it could be replayed.
    tls.max_early_data_size = 0;
    let quic = QuicServerConfig::try_from(tls).expect("TLS 1.3 with ring has an initial suite");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(quic));
    config.transport_config(transport());
    config.max_incoming(HANDSHAKES_MAX);
    Ok(config)
}

fn peer_edge(connection: &quinn::Connection) -> Result<EdgeId, IdentityError> {
    let identity = connection.peer_identity().ok_or(IdentityError::NoEdge)?;
    let chain = identity
        .downcast::<Vec<CertificateDer<'static>>>()
        .map_err(|_| IdentityError::Malformed)?;
    identity::edge_id(chain.first().ok_or(IdentityError::NoEdge)?)
}

/// The edge's end: connects to the hub, again and again.
#[derive(Debug)]
pub struct Dialer {
    config: quinn::ClientConfig,
    endpoints: Endpoints,
}

/// One UDP socket per address family, made when it is first needed.
#[derive(Debug, Default)]
struct Endpoints {
    v4: Option<quinn::Endpoint>,
    v6: Option<quinn::Endpoint>,
}

impl Dialer {
    pub fn new(credentials: Credentials) -> Result<Self, CertificateError> {
        let Credentials {
            chain, key, roots, ..
        } = credentials;
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let quic = QuicClientConfig::try_from(tls).expect("TLS 1.3 with ring has an initial suite");
        let mut config = quinn::ClientConfig::new(Arc::new(quic));
        config.transport_config(transport());
        Ok(Self {
            config,
            endpoints: Endpoints::default(),
        })
    }

    fn endpoint(&mut self, peer: SocketAddr) -> Result<&quinn::Endpoint, ConnectError> {
        let (slot, any): (_, SocketAddr) = if peer.is_ipv4() {
            (&mut self.endpoints.v4, ([0, 0, 0, 0], 0).into())
        } else {
            (&mut self.endpoints.v6, ([0_u16; 8], 0).into())
        };
        if slot.is_none() {
            *slot = Some(quinn::Endpoint::client(any).map_err(ConnectError::Socket)?);
        }
        Ok(slot.as_ref().expect("it was just made"))
    }

    /// Connects, and opens the control stream and one for batches.
    pub async fn connect(&mut self, peer: SocketAddr) -> Result<Connection, ConnectError> {
        let config = self.config.clone();
        let connection = self
            .endpoint(peer)?
            .connect_with(config, peer, HUB_NAME)?
            .await?;
        let (control_out, control_in) = connection.open_bi().await?;
        let bulk = connection.open_uni().await?;
        Ok(Connection {
            handle: Handle { quic: connection },
            control_in: FrameReader::new(control_in),
            control_out: FrameWriter::new(control_out),
            bulk_in: None,
            bulk_out: Some(FrameWriter::new(bulk)),
        })
    }
}

/// One edge's connection, seen from either end. The fields are taken apart by the driver, which
/// reads and writes them from tasks of their own.
#[derive(Debug)]
pub struct Connection {
    pub handle: Handle,
    pub control_in: FrameReader,
    pub control_out: FrameWriter,
    /// The hub's end has it.
    pub bulk_in: Option<FrameReader>,
    /// The edge's end has it.
    pub bulk_out: Option<FrameWriter>,
}

/// The connection itself, for as long as its streams are elsewhere. Clones mean the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    quic: quinn::Connection,
}

impl Handle {
    pub fn peer(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// Closes at once with a code that the peer sees.
    pub fn close(&self, code: CloseCode, why: &str) {
        let why = &why.as_bytes()[..why.len().min(CLOSE_REASON_BYTES_MAX)];
        self.quic.close(VarInt::from_u32(code as u32), why);
    }

    /// Returns once the connection is closed, by whichever end.
    pub async fn closed(&self) {
        self.quic.closed().await;
    }

    /// With which code the peer closed the connection, if it did.
    pub fn peer_code(&self) -> Option<CloseCode> {
        match self.quic.close_reason()? {
            quinn::ConnectionError::ApplicationClosed(closed) => {
                CloseCode::from_number(closed.error_code.into_inner())
            }
            _ => None,
        }
    }

    /// The peer's certificate, and those that vouch for it; none where it showed none.
    pub fn peer_chain(&self) -> Vec<CertificateDer<'static>> {
        let identity = self.quic.peer_identity();
        let chain = identity.and_then(|identity| identity.downcast().ok());
        chain.map_or_else(Vec::new, |chain| *chain)
    }

    /// Why the connection ended, if it has, for whoever has to do something about it.
    pub fn trouble(&self) -> Option<Trouble> {
        self.quic.close_reason().as_ref().map(Trouble::from)
    }

    /// Why the connection ended, in words: what the peer said when it closed, if it did.
    pub fn end_reason(&self) -> Option<String> {
        Some(match self.quic.close_reason()? {
            quinn::ConnectionError::ApplicationClosed(closed) => {
                let code = CloseCode::from_number(closed.error_code.into_inner());
                let code = code.map_or("unknown", CloseCode::name);
                format!(
                    "closed by the peer: {code} {}",
                    String::from_utf8_lossy(&closed.reason)
                )
            }
            other => other.to_string(),
        })
    }
}
