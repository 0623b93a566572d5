//! Who a peer is: the URI `tidegate://edge/ID` among its certificate's subject alternative names.

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tidegate_shared::id::{EdgeId, NameError};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const EDGE_PREFIX: &str = "tidegate://edge/";

/// A certificate that names no edge.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("the certificate cannot be read")]
    Malformed,
    #[error("the certificate names no edge: it has no {EDGE_PREFIX}… among its alternative names")]
    NoEdge,
    #[error(transparent)]
    Name(#[from] NameError),
}

/// An edge's identity as its certificate carries it.
pub fn edge_uri(edge: &EdgeId) -> String {
    format!("{EDGE_PREFIX}{edge}")
}

/// The edge that a certificate, already verified against the CA, belongs to.
pub(crate) fn edge_id(certificate: &CertificateDer<'_>) -> Result<EdgeId, IdentityError> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| IdentityError::Malformed)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::Malformed)?;
    let names = names.map(|extension| &extension.value.general_names);
    let edge = names.into_iter().flatten().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(EDGE_PREFIX),
        _ => None,
    });
    Ok(EdgeId::new(edge.ok_or(IdentityError::NoEdge)?)?)
}
