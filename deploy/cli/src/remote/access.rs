//! What a node is shown (a token), and by what it is known (its CA), where it wants TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use ureq::http::HeaderValue;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// `--token` and `--ca`.
#[derive(Clone, Default)]
pub(crate) struct Access {
    /// Of the Authorization header.
    pub(super) header: Option<HeaderValue>,
    roots: Option<Arc<Vec<Certificate<'static>>>>,
}

/// Without the token.
impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Access");
        shown
            .field("has_token", &self.header.is_some())
            .finish_non_exhaustive()
    }
}

impl Access {
    /// `token` is one, or `@` and the file that it is in.
    pub(crate) fn new(token: Option<&str>, ca: Option<&Path>) -> anyhow::Result<Self> {
        let header = token.map(header).transpose()?;
        let roots = ca.map(roots).transpose()?;
        Ok(Self { header, roots })
    }

    /// Who is trusted: the CA that was named, or those of this system.
    pub(super) fn tls(&self) -> TlsConfig {
        let roots = match &self.roots {
            Some(roots) => RootCerts::Specific(Arc::clone(roots)),
            None => RootCerts::PlatformVerifier,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(roots)
            .build()
    }
}

fn header(token: &str) -> anyhow::Result<HeaderValue> {
    let read;
    let token = match token.strip_prefix('@') {
        None => token,
        Some(path) => {
            let text = std::fs::read_to_string(path);
            read = text.with_context(|| format!("cannot read the token in {path}"))?;
            &read
        }
    };
    let header = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
    let mut header = header
        .ok()
        .context("the token has a character that no token has")?;
    header.set_sensitive(true);
    Ok(header)
}

fn roots(path: &Path) -> anyhow::Result<Arc<Vec<Certificate<'static>>>> {
    let shown = path.display();
    let pem = std::fs::read(path).with_context(|| format!("cannot read --ca {shown}"))?;
    let mut roots = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) =
            item.with_context(|| format!("{shown} is no PEM"))?
        {
            roots.push(certificate);
        }
    }
    ensure!(!roots.is_empty(), "{shown} holds no certificate");
    Ok(Arc::new(roots))
}

/// The options, for every command that asks a cloud.
#[derive(Clone, PartialEq, Eq, clap::Args)]
pub(crate) struct AccessArguments {
    /// What says who you are: a token, or @FILE for one in a file, such as @tidegate-cloud/admin-token
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "TIDEGATE_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// The CA of the cloud's certificate (PEM), where it is none that this system knows
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_CA")]
    ca: Option<PathBuf>,
}

/// Without the token.
impl std::fmt::Debug for AccessArguments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("AccessArguments");
        shown.field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl AccessArguments {
    #[cfg(test)]
    pub(super) fn shows(&self, token: &str) -> bool {
        self.token.as_deref() == Some(token)
    }

    pub(super) fn access(&self) -> anyhow::Result<Access> {
        Access::new(self.token.as_deref(), self.ca.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_said_or_read_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "tidegate_abc\n").unwrap();
        let in_file = format!("@{}", path.display());
        for token in ["tidegate_abc", &in_file] {
            let access = Access::new(Some(token), None).unwrap();
            assert_eq!(access.header.as_ref().unwrap(), "Bearer tidegate_abc");
            assert!(!format!("{access:?}").contains("tidegate_abc"));
        }
        let missing = Access::new(Some("@nowhere"), None).unwrap_err();
        assert!(format!("{missing:#}").contains("nowhere"));
        let no_ca = Access::new(None, Some(&path)).unwrap_err();
        assert!(format!("{no_ca:#}").contains("holds no certificate"));
    }
}
