//! TLS of a listener for clients that are not ours: certificates from PEM files, read again when they change, so that a
//! renewed certificate needs no restart. Who is connected stays connected.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use thiserror::Error;
use tidegate_shared::fleet::{ClientCertificates, TlsSpec};

use crate::file_state::FileState;

/// Why PEM files are not what a listener needs.
#[derive(Debug, Error)]
pub enum TlsFileError {
    #[error("{0} cannot be read as PEM: {1}")]
    Pem(PathBuf, pem::Error),
    #[error("{0} holds no certificate")]
    NoCertificate(PathBuf),
    #[error("{0} is no private key in PEM: {1}")]
    Key(PathBuf, pem::Error),
    #[error("{0} is no CA for clients: {1}")]
    Ca(PathBuf, rustls::Error),
    #[error("{0} is no CA for clients: {1}")]
    Verifier(PathBuf, VerifierBuilderError),
    #[error("{certificate} and {key} do not belong together: {why}")]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        why: rustls::Error,
    },
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// What differs between listeners.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// In log lines: `mqtt`, `kafka`.
    pub listener: &'static str,
    /// Without TLS 1.2.
    pub only_tls13: bool,
    pub alpn: Vec<Vec<u8>>,
}

/// One listener's certificates.
pub struct ServerTls {
    files: TlsSpec,
    options: TlsOptions,
    config: RwLock<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
}

/// Of each of the files.
type States = Vec<Option<FileState>>;

struct Seen {
    /// As they are used.
    read: States,
    /// As they were told to be of no use.
    refused: Option<States>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ServerTls({})", self.files.certificate.display())
    }
}

/// What came of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They are as they were.
    Unchanged,
    Renewed,
    /// They changed, and cannot be used: the old ones stay.
    Refused,
}

impl ServerTls {
    /// # Errors
    /// With the file that is at fault.
    pub fn load(files: &TlsSpec, options: TlsOptions) -> Result<Self, TlsFileError> {
        let read = states(files);
        Ok(Self {
            config: RwLock::new(Arc::new(configure(files, &options)?)),
            seen: Mutex::new(Seen {
                read,
                refused: None,
            }),
            files: files.clone(),
            options,
        })
    }

    /// Reads the files again, if they changed or `anyway`.
    pub fn reload(&self, anyway: bool) -> Reloaded {
        // One after the other: who read older files does not install them over newer ones.
        let mut seen = self.seen.lock().expect("nobody panics with it");
        let now = states(&self.files);
        if seen.read == now && !anyway {
            return Reloaded::Unchanged;
        }
        let (path, listener) = (self.files.certificate.display(), self.options.listener);
        match configure(&self.files, &self.options) {
            Ok(config) => {
                *self.config.write().expect("nobody panics with it") = Arc::new(config);
                *seen = Seen {
                    read: now,
                    refused: None,
                };
                tracing::info!(certificate = %path, "{listener}: the listener's certificates were read anew");
                Reloaded::Renewed
            }
            // Tried again the next time: their rights may change, and their times not.
            Err(_) if seen.refused.as_ref() == Some(&now) && !anyway => Reloaded::Refused,
            Err(error) => {
                seen.refused = Some(now);
                tracing::warn!(certificate = %path, why = %error, "{listener}: the listener keeps its old certificates");
                Reloaded::Refused
            }
        }
    }

    /// As new connections use it.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().expect("nobody panics with it"))
    }
}

fn configure(files: &TlsSpec, options: &TlsOptions) -> Result<ServerConfig, TlsFileError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match options.only_tls13 {
        true => &[&rustls::version::TLS13],
        false => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?;
    let builder = match &files.client_ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                let added = roots.add(root);
                added.map_err(|why| TlsFileError::Ca(path.clone(), why))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match files.client_certificates {
                ClientCertificates::Required => verifier,
                ClientCertificates::Requested => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build();
            let verifier = verifier.map_err(|why| TlsFileError::Verifier(path.clone(), why))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|why| TlsFileError::Key(files.key.clone(), why))?;
    let config = builder.with_single_cert(certificates(&files.certificate)?, key);
    let mut config = config.map_err(|why| TlsFileError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        why,
    })?;
    config.alpn_protocols.clone_from(&options.alpn);
    if files.client_ca.is_some() {
        // Who resumes a session is not asked for a certificate: one that has ended meanwhile would do.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|why| TlsFileError::Pem(path.to_owned(), why))?;
    match chain.is_empty() {
        true => Err(TlsFileError::NoCertificate(path.to_owned())),
        false => Ok(chain),
    }
}

fn states(files: &TlsSpec) -> States {
    let paths = [
        Some(&files.certificate),
        Some(&files.key),
        files.client_ca.as_ref(),
    ];
    let paths = paths.into_iter().flatten();
    paths.map(|path| FileState::of(path)).collect()
}

#[cfg(test)]
mod tests;
