//! The cloud's own CA and what it signs, as files. Keys are readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tidegate_shared::id::EdgeId;

use crate::identity::{self, IdentityError, edge_uri};

/// The name in the hub's certificate. Edges check it and not the address: the CA is the cloud's own.
pub(crate) const HUB_NAME: &str = "hub.tidegate";

/// Certificates made here are valid up to the first day of this year. There is no renewal yet.
const VALID_UNTIL_YEAR: i32 = 2046;

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE_BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Certificates or keys cannot be read, written or made.
#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("cannot read {path}: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
    #[error("{path} is not PEM of a certificate or key: {error}")]
    Pem {
        path: PathBuf,
        error: rustls::pki_types::pem::Error,
    },
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    #[error("the key in {path} cannot be used: {error}")]
    Key { path: PathBuf, error: rcgen::Error },
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{path}: {error}")]
    Identity { path: PathBuf, error: IdentityError },
    #[error("the certificates do not fit together: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the certificates do not fit together: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What one end needs: its chain, its key, and the CA that it trusts.
#[derive(Debug)]
pub struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) roots: rustls::RootCertStore,
    leaf_path: PathBuf,
}

impl Credentials {
    /// Reads PEM files.
    pub fn load(certificate: &Path, key: &Path, ca: &Path) -> Result<Self, CertificateError> {
        let pem = |path: &Path, error| CertificateError::Pem {
            path: path.to_owned(),
            error,
        };
        let chain = read_certificates(certificate)?;
        let key_bytes = read(key)?;
        let key = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|error| pem(key, error))?;
        let mut roots = rustls::RootCertStore::empty();
        for root in read_certificates(ca)? {
            roots.add(root)?;
        }
        Ok(Self {
            chain,
            key,
            roots,
            leaf_path: certificate.to_owned(),
        })
    }

    /// The edge that this certificate makes its holder.
    pub fn edge_id(&self) -> Result<EdgeId, CertificateError> {
        identity::edge_id(&self.chain[0]).map_err(|error| CertificateError::Identity {
            path: self.leaf_path.clone(),
            error,
        })
    }
}

/// Where an edge's files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// The cloud's CA, and its hub's certificate.
#[derive(Debug)]
pub struct HubAuthority {
    folder: PathBuf,
}

impl HubAuthority {
    /// Opens the CA in `folder`, making it and the hub's certificate where they are missing.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, CertificateError> {
        let authority = Self {
            folder: folder.into(),
        };
        let made = fs::create_dir_all(&authority.folder);
        made.map_err(|error| write_error(&authority.folder, error))?;
        if !Self::is_in(&authority.folder) {
            let key = KeyPair::generate()?;
            // The key first: a certificate without its key would be of no use for ever.
            write_key(&authority.path(CA_KEY), &key.serialize_pem())?;
            let certificate = ca_params()?.self_signed(&key)?;
            write(&authority.path(CA_CERTIFICATE), &certificate.pem(), 0o644)?;
        }
        if !authority.path("hub.crt").exists() {
            let mut params = leaf_params("Tidegate hub", ExtendedKeyUsagePurpose::ServerAuth)?;
            params
                .subject_alt_names
                .push(SanType::DnsName(HUB_NAME.try_into()?));
            authority.sign(
                params,
                &authority.path("hub.crt"),
                &authority.path("hub.key"),
            )?;
        }
        Ok(authority)
    }

    /// Whether there is a CA in a folder.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(CA_CERTIFICATE).exists()
    }

    /// The CA's key and certificate in one, to be kept elsewhere: whoever has it can make himself any edge.
    pub fn ca_pem(&self) -> Result<String, CertificateError> {
        let mut pem = read(&self.path(CA_KEY))?;
        pem.extend(read(&self.path(CA_CERTIFICATE))?);
        Ok(String::from_utf8_lossy(&pem).into_owned())
    }

    /// Puts what [`HubAuthority::ca_pem`] gave into a folder in which there is no CA.
    pub fn put_back(folder: &Path, ca_pem: &str) -> Result<(), CertificateError> {
        fs::create_dir_all(folder).map_err(|error| write_error(folder, error))?;
        let certificate_at = ca_pem.find(CERTIFICATE_BEGIN).unwrap_or(ca_pem.len());
        let (key, certificate) = ca_pem.split_at(certificate_at);
        let key_path = folder.join(CA_KEY);
        KeyPair::from_pem(key).map_err(|error| CertificateError::Key {
            path: key_path.clone(),
            error,
        })?;
        write_key(&key_path, key)?;
        write(&folder.join(CA_CERTIFICATE), certificate, 0o644)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The hub's own credentials.
    pub fn hub_credentials(&self) -> Result<Credentials, CertificateError> {
        Credentials::load(
            &self.path("hub.crt"),
            &self.path("hub.key"),
            &self.path(CA_CERTIFICATE),
        )
    }

    /// Signs a certificate for `edge` and writes `edge.crt`, `edge.key` and `ca.crt` into `folder`.
    pub fn issue_edge(&self, edge: &EdgeId, folder: &Path) -> Result<EdgeFiles, CertificateError> {
        fs::create_dir_all(folder).map_err(|error| write_error(folder, error))?;
        let files = EdgeFiles {
            certificate: folder.join("edge.crt"),
            key: folder.join("edge.key"),
            ca: folder.join(CA_CERTIFICATE),
        };
        let mut params = leaf_params(edge.as_str(), ExtendedKeyUsagePurpose::ClientAuth)?;
        params
            .subject_alt_names
            .push(SanType::URI(edge_uri(edge).as_str().try_into()?));
        self.sign(params, &files.certificate, &files.key)?;
        let ca = read(&self.path(CA_CERTIFICATE))?;
        write(&files.ca, &String::from_utf8_lossy(&ca), 0o644)?;
        Ok(files)
    }

    fn sign(
        &self,
        params: CertificateParams,
        certificate: &Path,
        key: &Path,
    ) -> Result<(), CertificateError> {
        let ca_key_path = self.path(CA_KEY);
        let ca_key = String::from_utf8_lossy(&read(&ca_key_path)?).into_owned();
        let ca_key = KeyPair::from_pem(&ca_key).map_err(|error| CertificateError::Key {
            path: ca_key_path,
            error,
        })?;
        let issuer = Issuer::new(ca_params()?, ca_key);
        let leaf_key = KeyPair::generate()?;
        let signed = params.signed_by(&leaf_key, &issuer)?;
        write_key(key, &leaf_key.serialize_pem())?;
        write(certificate, &signed.pem(), 0o644)
    }
}

/// The CA's parameters, the same each time: with its key they make it again as an issuer.
fn ca_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Tidegate CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params);
    Ok(params)
}

fn leaf_params(
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    validity(&mut params);
    Ok(params)
}

/// From 1970 on: a board without a battery wakes up there, and must still be let in.
fn validity(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(VALID_UNTIL_YEAR, 1, 1);
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|error| CertificateError::Read {
        path: path.to_owned(),
        error,
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| CertificateError::Pem {
        path: path.to_owned(),
        error,
    })?;
    if certificates.is_empty() {
        return Err(CertificateError::Empty(path.to_owned()));
    }
    Ok(certificates)
}

fn write_error(path: &Path, error: io::Error) -> CertificateError {
    CertificateError::Write {
        path: path.to_owned(),
        error,
    }
}

fn write_key(path: &Path, pem: &str) -> Result<(), CertificateError> {
    write(path, pem, 0o600)
}

/// Writes beside the file and renames: a crash leaves the old file or the new one, never half.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    })();
    written.map_err(|error| write_error(path, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_edge_is_who_its_certificate_says() {
        let folder = tempfile::tempdir().unwrap();
        let authority = HubAuthority::open(folder.path().join("cloud")).unwrap();
        let edge = EdgeId::new("plant-7").unwrap();
        let files = authority
            .issue_edge(&edge, &folder.path().join("edge"))
            .unwrap();
        let credentials = Credentials::load(&files.certificate, &files.key, &files.ca).unwrap();
        assert_eq!(credentials.edge_id().unwrap(), edge);
        assert!(authority.hub_credentials().unwrap().edge_id().is_err());
        for key in [files.key, folder.path().join("cloud/ca.key")] {
            assert_eq!(
                fs::metadata(key).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn a_ca_that_was_kept_elsewhere_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (folder.path().join("before"), folder.path().join("after"));
        let pem = HubAuthority::open(&before).unwrap().ca_pem().unwrap();
        assert!(!HubAuthority::is_in(&after));
        HubAuthority::put_back(&after, &pem).unwrap();
        let authority = HubAuthority::open(&after).unwrap();
        assert_eq!(authority.ca_pem().unwrap(), pem);
        authority.hub_credentials().unwrap();
        let (_, certificate) = pem.split_at(pem.find(CERTIFICATE_BEGIN).unwrap());
        let nowhere = folder.path().join("nowhere");
        assert!(HubAuthority::put_back(&nowhere, certificate).is_err());
        assert!(!HubAuthority::is_in(&nowhere));
    }

    #[test]
    fn the_ca_stays_the_same_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        drop(HubAuthority::open(folder.path()).unwrap());
        let before = fs::read(folder.path().join("ca.crt")).unwrap();
        let authority = HubAuthority::open(folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("ca.crt")).unwrap(), before);
        authority.hub_credentials().unwrap();
    }
}
