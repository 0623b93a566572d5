//! The user that a client's certificate names. TLS has checked by now that it is one of the listener's CA.

use rustls::pki_types::CertificateDer;
use tidegate_edge_protocol::mqtt::codec::Text;
use tidegate_shared::fleet::CertificateUser;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What a certificate says of who has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Certified {
    /// There is none, or its names count for nothing here.
    #[default]
    Nobody,
    User(Text),
    /// It has no such name.
    Nameless,
}

/// `chain` begins with the client's own.
pub(super) fn certified(
    which: Option<CertificateUser>,
    chain: Option<&[CertificateDer<'_>]>,
) -> Certified {
    let (Some(which), Some(own)) = (which, chain.and_then(<[_]>::first)) else {
        return Certified::Nobody;
    };
    let name = X509Certificate::from_der(own).ok();
    let name = name.and_then(|(_, certificate)| name_of(which, &certificate));
    let name = name.filter(|name| !name.is_empty());
    match name.and_then(|name| Text::try_from(name).ok()) {
        Some(name) => Certified::User(name),
        None => Certified::Nameless,
    }
}

/// Of a common name there must be one only; of alternative names of a kind the first counts.
fn name_of(which: CertificateUser, certificate: &X509Certificate<'_>) -> Option<String> {
    if which == CertificateUser::CommonName {
        let mut names = certificate.subject().iter_common_name();
        let (name, more) = (names.next()?, names.next());
        return Some(name.as_str().ok()?.to_owned()).filter(|_| more.is_none());
    }
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match (which, name) {
            (CertificateUser::DnsName, GeneralName::DNSName(name))
            | (CertificateUser::Email, GeneralName::RFC822Name(name))
            | (CertificateUser::Uri, GeneralName::URI(name)) => Some((*name).to_owned()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_names: &[&str], alternative: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = alternative;
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().into()
    }

    #[test]
    fn each_kind_of_name_is_found_and_no_other() {
        use CertificateUser::{CommonName, DnsName, Email, Uri};
        let alternative = vec![
            SanType::Rfc822Name("pump@plant".try_into().unwrap()),
            SanType::DnsName("pump.plant".try_into().unwrap()),
            SanType::DnsName("other.plant".try_into().unwrap()),
            SanType::URI("urn:pump".try_into().unwrap()),
        ];
        let full = certificate(&["pump 7"], alternative);
        for (which, name) in [
            (CommonName, "pump 7"),
            (DnsName, "pump.plant"),
            (Email, "pump@plant"),
            (Uri, "urn:pump"),
        ] {
            let expected = Certified::User(Text::try_from(name).unwrap());
            assert_eq!(
                certified(Some(which), Some(std::slice::from_ref(&full))),
                expected
            );
        }
        assert_eq!(certified(None, Some(&[full])), Certified::Nobody);
        let bare = certificate(&[], Vec::new());
        for which in [CommonName, DnsName, Email, Uri] {
            assert_eq!(certified(Some(which), None), Certified::Nobody);
            assert_eq!(
                certified(Some(which), Some(std::slice::from_ref(&bare))),
                Certified::Nameless
            );
        }
        let empty = certificate(&[""], Vec::new());
        assert_eq!(
            certified(Some(CommonName), Some(&[empty])),
            Certified::Nameless
        );
        let broken = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!(
            certified(Some(CommonName), Some(&[broken])),
            Certified::Nameless
        );
    }
}
