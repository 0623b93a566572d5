//! TLS of a listener: certificates from PEM files, read again when they change, so that a renewed
//! certificate needs no restart. Who is connected stays connected.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::SystemTime;

use anyhow::Context as _;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tidegate_shared::fleet::{TlsSpec, Transport};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::quic;
use super::socket::Wrapped;

/// One listener's certificates.
pub(crate) struct Tls {
    files: TlsSpec,
    transport: Transport,
    config: RwLock<Arc<ServerConfig>>,
    /// There once the QUIC listener is.
    endpoint: Mutex<Option<quinn::Endpoint>>,
    /// Of the files when they were last read, whatever came of it.
    read: Mutex<Vec<Option<SystemTime>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tls({})", self.files.certificate.display())
    }
}

/// What came of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// They are as they were.
    Unchanged,
    Renewed,
    /// They changed, and cannot be used: the old ones stay.
    Refused,
}

impl Tls {
    /// # Errors
    /// With the file that is at fault.
    pub(crate) fn load(files: &TlsSpec, transport: Transport) -> anyhow::Result<Self> {
        let read = modified(files);
        Ok(Self {
            config: RwLock::new(Arc::new(configure(files, transport)?)),
            endpoint: Mutex::default(),
            read: Mutex::new(read),
            files: files.clone(),
            transport,
        })
    }

    /// Reads the files again, if they changed or `anyway`.
    pub(crate) fn reload(&self, anyway: bool) -> Reloaded {
        let now = modified(&self.files);
        {
            let mut read = self.read.lock().expect("nobody panics with it");
            if *read == now && !anyway {
                return Reloaded::Unchanged;
            }
            *read = now;
        }
        let path = self.files.certificate.display();
        match configure(&self.files, self.transport) {
            Ok(config) => {
                self.renew(config);
                tracing::info!(certificate = %path, "mqtt: the listener's certificates were read anew");
                Reloaded::Renewed
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::warn!(certificate = %path, why, "mqtt: the listener keeps its old certificates");
                Reloaded::Refused
            }
        }
    }

    fn renew(&self, config: ServerConfig) {
        let config = Arc::new(config);
        if let Some(endpoint) = &*self.endpoint.lock().expect("nobody panics with it") {
            endpoint.set_server_config(Some(quic_config(&config)));
        }
        *self.config.write().expect("nobody panics with it") = config;
    }

    /// The endpoint gets what is renewed.
    pub(super) fn serve_quic(&self, endpoint: quinn::Endpoint) {
        *self.endpoint.lock().expect("nobody panics with it") = Some(endpoint);
    }

    pub(super) fn quic_config(&self) -> quinn::ServerConfig {
        quic_config(&self.config())
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().expect("nobody panics with it"))
    }

    pub(super) async fn accept<S: Wrapped>(&self, stream: S) -> io::Result<TlsStream<S>> {
        TlsAcceptor::from(self.config()).accept(stream).await
    }
}

fn quic_config(config: &Arc<ServerConfig>) -> quinn::ServerConfig {
    let crypto = QuicServerConfig::try_from(Arc::clone(config));
    let crypto = crypto.expect("TLS 1.3 with ring has an initial suite");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(quic::transport());
    config
}

fn configure(files: &TlsSpec, transport: Transport) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[_] = match transport {
        Transport::Quic => &[&rustls::version::TLS13],
        Transport::Tcp | Transport::Websocket => {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        }
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?;
    let builder = match &files.client_ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots
                    .add(root)
                    .with_context(|| path.display().to_string())?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("{} is no private key in PEM", files.key.display()))?;
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .with_context(|| {
            let (certificate, key) = (files.certificate.display(), files.key.display());
            format!("{certificate} and {key} do not belong together")
        })?;
    if transport == Transport::Quic {
        config.alpn_protocols = vec![quic::ALPN.to_vec()];
    }
    Ok(config)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.with_context(|| format!("{shown} cannot be read as PEM"))?;
    anyhow::ensure!(!chain.is_empty(), "{shown} holds no certificate");
    Ok(chain)
}

fn modified(files: &TlsSpec) -> Vec<Option<SystemTime>> {
    let of = |path: &PathBuf| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let paths = [
        Some(&files.certificate),
        Some(&files.key),
        files.client_ca.as_ref(),
    ];
    paths.into_iter().flatten().map(of).collect()
}
