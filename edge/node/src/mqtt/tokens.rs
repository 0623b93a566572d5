//! The keys of `mqtt.jwt`, read from their files: whose signature makes a token count as a client's password.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use tidegate_bridge::Reloaded;
use tidegate_edge_protocol::mqtt::authentication::{
    Jwks, Proved, TokenError, TokenKey, TokenRules, Tokens,
};
use tidegate_shared::fleet::JwtSpec;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::limits::JWT_FILE_BYTES_MAX;
use crate::watched::Watched;

#[derive(Debug)]
pub(crate) struct TokenFiles {
    files: Vec<Watched<Vec<TokenKey>>>,
    rules: Arc<TokenRules>,
}

impl TokenFiles {
    /// # Errors
    /// With the file, and what is wrong in it.
    pub(super) fn load(spec: &JwtSpec) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        let mut add = |key, path: &Option<_>, parse: fn(&str) -> anyhow::Result<Vec<TokenKey>>| {
            let path: Option<&Path> = path.as_deref();
            let file = path.map(|path| Watched::load(key, path, JWT_FILE_BYTES_MAX, parse));
            file.transpose().map(|file| files.extend(file))
        };
        add("mqtt.jwt.secret", &spec.secret, secret)?;
        add("mqtt.jwt.public_key", &spec.public_key, public_key)?;
        add("mqtt.jwt.jwks", &spec.jwks, |text| Ok(Jwks::parse(text)?))?;
        let rules = TokenRules {
            user_claim: spec.user_claim.clone(),
            issuer: spec.issuer.clone(),
            audience: spec.audience.clone(),
        };
        Ok(Self {
            files,
            rules: Arc::new(rules),
        })
    }

    /// Keys, of all files.
    pub(super) fn count(&self) -> usize {
        self.files.iter().map(|file| file.now().len()).sum()
    }

    /// Whether other keys count now.
    pub(super) fn reload(&self, anyway: bool) -> bool {
        let reloaded = self.files.iter().map(|file| file.reload(anyway));
        // Each of them.
        reloaded
            .filter(|reloaded| *reloaded == Reloaded::Renewed)
            .count()
            > 0
    }

    fn tokens(&self) -> Tokens {
        Tokens {
            keys: self.files.iter().map(Watched::now).collect(),
            rules: Arc::clone(&self.rules),
        }
    }

    pub(super) fn check(&self, token: &[u8], now_s: Option<u64>) -> Result<Proved, TokenError> {
        self.tokens().check(token, now_s)
    }

    pub(super) fn has_key(&self, fingerprint: u64) -> bool {
        self.tokens().has_key(fingerprint)
    }
}

/// The file's text, without the end of its line.
fn secret(text: &str) -> anyhow::Result<Vec<TokenKey>> {
    let secret = text.trim_end_matches(['\r', '\n']);
    // Known to everybody: whoever has it could sign.
    ensure!(
        !secret.starts_with("-----BEGIN"),
        "it is a key in PEM, no secret: name it by public_key"
    );
    Ok(vec![TokenKey::secret(secret.as_bytes())?])
}

/// `BEGIN PUBLIC KEY`: RSA, P-256, P-384 or Ed25519.
fn public_key(text: &str) -> anyhow::Result<Vec<TokenKey>> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
    let der = der
        .map_err(|error| anyhow!("{error}"))
        .context("it is no public key in PEM (BEGIN PUBLIC KEY)")?;
    let read = SubjectPublicKeyInfo::from_der(&der);
    let (_, info) = read.map_err(|_| anyhow!("its public key cannot be read"))?;
    let bits = &*info.subject_public_key.data;
    let parameters = info.algorithm.parameters.as_ref();
    let curve = parameters.and_then(|curve| Some(curve.as_oid().ok()?.to_id_string()));
    let kind = info.algorithm.algorithm.to_id_string();
    let key = match (kind.as_str(), curve.as_deref()) {
        (RSA, _) => match info.parsed() {
            Ok(PublicKey::RSA(key)) => TokenKey::rsa(key.modulus, key.exponent),
            _ => bail!("its RSA key cannot be read"),
        },
        (EC, Some(P256)) => TokenKey::p256(bits),
        (EC, Some(P384)) => TokenKey::p384(bits),
        (ED25519, _) => TokenKey::ed25519(bits),
        _ => bail!("its public key is none of RSA, P-256, P-384, Ed25519"),
    };
    Ok(vec![key?])
}

/// As X.509 names them.
const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const ED25519: &str = "1.3.101.112";
