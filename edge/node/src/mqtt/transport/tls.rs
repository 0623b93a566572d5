//! TLS of a listener: certificates from PEM files, read again when they change, so that a renewed
//! certificate needs no restart. Who is connected stays connected.

use std::io;
use std::sync::{Arc, Mutex};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use tidegate_bridge::Reloaded;
use tidegate_bridge::{ServerTls, TlsFileError, TlsOptions};
use tidegate_shared::fleet::{TlsSpec, Transport};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::quic;
use super::socket::Wrapped;

/// One listener's certificates.
#[derive(Debug)]
pub(crate) struct Tls {
    files: ServerTls,
    /// There once the QUIC listener is.
    endpoint: Mutex<Option<quinn::Endpoint>>,
}

impl Tls {
    /// # Errors
    /// With the file that is at fault.
    pub(crate) fn load(files: &TlsSpec, transport: Transport) -> Result<Self, TlsFileError> {
        let is_quic = transport == Transport::Quic;
        let options = TlsOptions {
            listener: "mqtt",
            only_tls13: is_quic,
            alpn: match is_quic {
                true => vec![quic::ALPN.to_vec()],
                false => Vec::new(),
            },
        };
        Ok(Self {
            files: ServerTls::load(files, options)?,
            endpoint: Mutex::default(),
        })
    }

    /// Reads the files again, if they changed or `anyway`.
    pub(crate) fn reload(&self, anyway: bool) -> Reloaded {
        let reloaded = self.files.reload(anyway);
        let endpoint = self.endpoint.lock().expect("nobody panics with it");
        if let (Reloaded::Renewed, Some(endpoint)) = (reloaded, &*endpoint) {
            endpoint.set_server_config(Some(quic_config(&self.files.config())));
        }
        reloaded
    }

    /// The endpoint gets what is renewed.
    pub(super) fn serve_quic(&self, endpoint: quinn::Endpoint) {
        *self.endpoint.lock().expect("nobody panics with it") = Some(endpoint);
    }

    pub(super) fn quic_config(&self) -> quinn::ServerConfig {
        quic_config(&self.files.config())
    }

    pub(super) async fn accept<S: Wrapped>(&self, stream: S) -> io::Result<TlsStream<S>> {
        TlsAcceptor::from(self.files.config()).accept(stream).await
    }
}

fn quic_config(config: &Arc<ServerConfig>) -> quinn::ServerConfig {
    let crypto = QuicServerConfig::try_from(Arc::clone(config));
    let crypto = crypto.expect("TLS 1.3 with ring has an initial suite");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(quic::transport());
    config
}
