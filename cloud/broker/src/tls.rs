//! TLS of the Kafka and the HTTP listener: the certificates' files, kept up to date, and who a client is by its own.

mod name;

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tidegate_bridge::{ServerTls, TlsOptions};
use tidegate_shared::fleet::TlsSpec;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::credentials::principal_of;
use crate::limits::{CERTIFICATES_INTERVAL, TLS_HANDSHAKE_MAX};

/// The certificates of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Tls(Arc<ServerTls>);

impl Tls {
    /// # Errors
    /// With the file that is at fault.
    pub(crate) fn load(
        files: Option<&TlsSpec>,
        listener: &'static str,
        alpn: &[&[u8]],
    ) -> anyhow::Result<Option<Self>> {
        let Some(files) = files else {
            return Ok(None);
        };
        let options = TlsOptions {
            listener,
            only_tls13: false,
            alpn: alpn.iter().map(|protocol| protocol.to_vec()).collect(),
        };
        let loaded = ServerTls::load(files, options);
        Ok(Some(Self(Arc::new(loaded.map_err(|error| {
            anyhow::anyhow!("{listener}: tls: {error}")
        })?))))
    }

    /// Does the handshake, in a bounded time.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.0.config());
        let accepted = timeout(TLS_HANDSHAKE_MAX, acceptor.accept(stream)).await;
        accepted.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

/// Who the client is by its certificate, which the handshake has proved: Kafka's principal of it.
pub(crate) fn principal_by_certificate(stream: &TlsStream<TcpStream>) -> Option<Arc<str>> {
    let certificates = stream.get_ref().1.peer_certificates()?;
    principal_of_certificate(certificates.first()?)
}

fn principal_of_certificate(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let name = name::subject(certificate);
    if name.is_none() {
        tracing::warn!("a client's certificate has a subject that cannot be read");
    }
    Some(principal_of(&name?))
}

/// Reads the certificates again when their files change, until told to stop.
pub(crate) async fn renew(certificates: Vec<Tls>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATES_INTERVAL) => {}
            _ = stopping.changed() => return,
        }
        reload(&certificates, false).await;
    }
}

/// Reads the certificates again, where they changed or `anyway`.
pub(crate) async fn reload(certificates: &[Tls], anyway: bool) {
    for Tls(files) in certificates {
        let files = Arc::clone(files);
        // It reads files.
        let reloading = tokio::task::spawn_blocking(move || files.reload(anyway));
        let _ = reloading.await;
    }
}
