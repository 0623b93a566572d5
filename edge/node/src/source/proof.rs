//! What a source proves itself with, and by what it knows the broker: files that are read anew for each attempt to connect,
//! so that a new password or a renewed certificate needs no restart.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tidegate_shared::fleet::{MqttSourceSpec, SourceTlsSpec};

use super::link::Proof;
use crate::limits::SOURCE_FILE_BYTES_MAX;

/// # Errors
/// With the file that is at fault.
pub(super) fn load(spec: &MqttSourceSpec) -> anyhow::Result<Proof> {
    let password = spec.password_file.as_deref().map(password).transpose()?;
    let tls = spec.server.is_secure.then(|| tls(&spec.tls)).transpose()?;
    Ok(Proof { password, tls })
}

/// The first line: editors end it with a newline.
fn password(path: &Path) -> anyhow::Result<String> {
    let text = String::from_utf8(read(path)?)
        .map_err(|_| anyhow!("{}: the password is not UTF-8", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    anyhow::ensure!(!line.is_empty(), "{}: there is no password", path.display());
    Ok(line.to_owned())
}

fn tls(files: &SourceTlsSpec) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                let shown = path.display();
                roots.add(certificate).with_context(|| shown.to_string())?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            anyhow::ensure!(
                !roots.is_empty(),
                "the system has no certificate authorities: name the broker's as tls.ca"
            );
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key_path)) = (&files.certificate, &files.key) else {
        return Ok(Arc::new(config.with_no_client_auth()));
    };
    let shown = key_path.display();
    let key = PrivateKeyDer::from_pem_slice(&read(key_path)?)
        .map_err(|error| anyhow!("{shown}: no private key: {error}"))?;
    let config = config.with_client_auth_cert(certificates(certificate)?, key);
    Ok(Arc::new(config.with_context(|| {
        format!("{} with {shown}", certificate.display())
    })?))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let read = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read).collect();
    let all = all.map_err(|error| anyhow!("{shown}: {error}"))?;
    anyhow::ensure!(!all.is_empty(), "{shown}: no certificate is in it");
    Ok(all)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let length = fs::metadata(path).with_context(|| shown.to_string())?.len();
    anyhow::ensure!(
        length <= SOURCE_FILE_BYTES_MAX,
        "{shown}: it has more than {SOURCE_FILE_BYTES_MAX} bytes"
    );
    fs::read(path).with_context(|| shown.to_string())
}
