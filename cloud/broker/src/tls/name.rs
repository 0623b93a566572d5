//! The subject of a certificate as Kafka's default principal builder writes it: Java's `X500Principal.getName()`, which is
//! RFC 2253: the last part first, a comma without a space between parts.

use std::fmt::Write as _;

use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, ToDer};
use x509_parser::der_parser::oid::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

/// The keywords of RFC 2253; other types are written as their numbers, with the value's encoding.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// `None` where it cannot be read, or is empty.
pub(super) fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut parts = Vec::new();
    for part in certificate.subject().iter_rdn() {
        let written: Option<Vec<_>> = part.iter().map(written).collect();
        parts.push(written?.join("+"));
    }
    parts.reverse();
    Some(parts.join(",")).filter(|name| !name.is_empty())
}

fn written(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let oid = attribute.attr_type();
    let text = attribute.as_str().ok();
    match (keyword(oid), text) {
        (Some(keyword), Some(text)) => Some(format!("{keyword}={}", escaped(text))),
        (keyword, _) => {
            let name = keyword.map_or_else(|| oid.to_id_string(), str::to_owned);
            Some(format!("{name}=#{}", encoding(attribute.attr_value())?))
        }
    }
}

fn keyword(oid: &Oid<'_>) -> Option<&'static str> {
    let number = oid.to_id_string();
    let mut known = KEYWORDS.iter();
    known.find_map(|(known, keyword)| (*known == number).then_some(*keyword))
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    let last = text.chars().count().saturating_sub(1);
    for (at, letter) in text.chars().enumerate() {
        let at_the_edge = (at == 0 && matches!(letter, ' ' | '#')) || (at == last && letter == ' ');
        if at_the_edge || ",+\"\\<>;".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// The value's DER, in hexadecimal digits.
fn encoding(value: &Any<'_>) -> Option<String> {
    let bytes = value.to_der_vec().ok()?;
    let mut out = String::new();
    for byte in bytes {
        write!(out, "{byte:02x}").ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn name(parts: &[(DnType, DnValue)]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        subject(certificate.der())
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn as_java_writes_it() {
        let found = name(&[
            (DnType::CountryName, utf8("DE")),
            (DnType::OrganizationName, utf8("Tide, Gate")),
            (DnType::OrganizationalUnitName, utf8("#1 + \"2\"")),
            (DnType::CommonName, utf8(" ada <a>;\\ ")),
        ]);
        let expected = r#"CN=\ ada \<a\>\;\\\ ,OU=\#1 \+ \"2\",O=Tide\, Gate,C=DE"#;
        assert_eq!(found.as_deref(), Some(expected));
    }

    #[test]
    fn a_type_without_a_keyword_is_its_number() {
        let serial = DnType::CustomDnType(vec![2, 5, 4, 5]);
        let found = name(&[(DnType::CommonName, utf8("press")), (serial, utf8("7"))]);
        assert_eq!(found.as_deref(), Some("2.5.4.5=#0c0137,CN=press"));
        assert_eq!(name(&[]), None);
        assert_eq!(subject(b"no certificate"), None);
    }
}
