//! The certificates of the uplink and of listeners: that they can be read, that keys fit, how long they last, and that
//! the uplink's is of its own CA.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use tidegate_bridge::{Credentials, Dialer};
use tidegate_shared::fleet::{EdgeSpec, ListenerSpec, UplinkSpec};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::owners::{Owner, public, unreadable};
use super::times::{shown, span};
use super::{Finding, Level};
use crate::mqtt::Tls;

/// Renewal is due by then.
const WARN_BEFORE_MS: i64 = 30 * 86_400_000;

/// A certificate as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// What it is for: its alternative names, or its subject.
    pub names: String,
    pub issuer: String,
    not_before_ms: i64,
    not_after_ms: i64,
    until: String,
    from: String,
}

impl Described {
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let names = alternative
            .iter()
            .flat_map(|names| &names.value.general_names);
        let names: Vec<_> = names.filter_map(name).collect();
        Some(Self {
            names: match names.is_empty() {
                true => certificate.subject().to_string(),
                false => names.join(", "),
            },
            issuer: certificate.issuer().to_string(),
            not_before_ms: validity.not_before.timestamp() * 1_000,
            not_after_ms: validity.not_after.timestamp() * 1_000,
            until: shown(&validity.not_after),
            from: shown(&validity.not_before),
        })
    }

    pub(super) fn not_before_ms(&self) -> i64 {
        self.not_before_ms
    }

    /// `what`: whose it is, such as "the uplink's certificate".
    fn judge(&self, what: &str, renew: &str, now_ms: i64) -> Finding {
        let (names, until) = (&self.names, &self.until);
        let left_ms = self.not_after_ms - now_ms;
        if now_ms < self.not_before_ms {
            let from = &self.from;
            let found = format!("{what} ({names}) is valid from {from} on only");
            return Finding::problem(
                CHECK,
                found,
                "look at clock; where that is right, wait or renew it",
            );
        }
        if left_ms <= 0 {
            let over = span(left_ms);
            let found = format!("{what} ({names}) ended on {until}, {over} ago");
            return Finding::problem(CHECK, found, renew);
        }
        if left_ms < WARN_BEFORE_MS {
            let left = span(left_ms);
            let found = format!("{what} ({names}) ends on {until}, in {left}");
            return Finding::warning(CHECK, found, renew);
        }
        Finding::ok(CHECK, format!("{what} ({names}) is valid until {until}"))
    }
}

const CHECK: &str = "certificate";
const RENEW_UPLINK: &str = "make a new one with the cloud (tidegate-cloud certificate EDGE --out DIR), put its three files in place of these, and restart the node";
const RENEW_LISTENER: &str =
    "put a renewed certificate and key in its place: the node reads them without a restart";
const RENEW_CA: &str = "whoever runs this CA has to make a new one, and certificates of it";

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        },
        _ => None,
    }
}

/// When the uplink's certificate began.
pub(super) fn uplink_not_before_ms(spec: &EdgeSpec) -> Option<i64> {
    let path = &spec.uplink.as_ref()?.certificate;
    let leaf = read(path).ok()?.into_iter().next()?;
    Some(Described::of(&leaf)?.not_before_ms())
}

pub(super) fn look(spec: &EdgeSpec, now_ms: i64) -> Vec<Finding> {
    let owner = Owner::of(&spec.data);
    let mut findings = Vec::new();
    if let Some(uplink) = &spec.uplink {
        findings.extend(of_uplink(uplink, owner.as_ref(), now_ms));
    }
    for listener in &spec.mqtt.listeners {
        findings.extend(of_listener(listener, owner.as_ref(), now_ms));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "none is configured"));
    }
    findings
}

fn of_uplink(uplink: &UplinkSpec, owner: Option<&Owner>, now_ms: i64) -> Vec<Finding> {
    let files = [&uplink.certificate, &uplink.key, &uplink.ca];
    let mut findings = unreadable(CHECK, &files, owner);
    findings.extend(public(CHECK, &uplink.key));
    let loaded = Credentials::load(&uplink.certificate, &uplink.key, &uplink.ca);
    let edge = loaded.as_ref().map(Credentials::edge_id);
    let edge = match edge {
        Ok(Ok(edge)) => edge,
        Ok(Err(error)) => {
            findings.push(Finding::problem(CHECK, error.to_string(), RENEW_UPLINK));
            return findings;
        }
        Err(error) => {
            let advice = "the uplink needs the three files that `tidegate-cloud certificate` makes, readable by the service's user";
            findings.push(Finding::problem(CHECK, error.to_string(), advice));
            return findings;
        }
    };
    if let Err(error) = loaded.and_then(Dialer::new) {
        let (certificate, key) = (uplink.certificate.display(), uplink.key.display());
        let found = format!("{certificate} and {key} do not belong together: {error}");
        findings.push(Finding::problem(CHECK, found, RENEW_UPLINK));
    }
    let chain = read(&uplink.certificate).unwrap_or_default();
    let roots = read(&uplink.ca).unwrap_or_default();
    let leaf = chain.first().and_then(|leaf| Described::of(leaf));
    let what = format!("the uplink's certificate, of edge {edge}");
    findings.extend(
        leaf.iter()
            .map(|leaf| leaf.judge(&what, RENEW_UPLINK, now_ms)),
    );
    findings.extend(authorities(&uplink.ca, &roots, now_ms));
    if let Some(leaf) = &leaf
        && let Err(why) = vouched(&chain, roots, leaf)
    {
        let (certificate, ca) = (uplink.certificate.display(), uplink.ca.display());
        let found = format!(
            "{certificate}, of {}, is not of the CA in {ca}: {why}",
            leaf.issuer
        );
        let advice = "take the three files of one run of `tidegate-cloud certificate`, of the cloud that uplink.cloud names";
        findings.push(Finding::problem(CHECK, found, advice));
    }
    findings
}

fn of_listener(listener: &ListenerSpec, owner: Option<&Owner>, now_ms: i64) -> Vec<Finding> {
    let Some(tls) = &listener.tls else {
        return Vec::new();
    };
    let address = &listener.address;
    let mut files = vec![&tls.certificate, &tls.key];
    files.extend(&tls.client_ca);
    let mut findings = unreadable(CHECK, &files, owner);
    findings.extend(public(CHECK, &tls.key));
    if let Err(error) = Tls::load(tls, listener.transport) {
        let found = format!("mqtt.listeners {address}: {error}");
        let advice = "correct the files that tls names: PEM, certificate and key of one pair, readable by the service's user";
        findings.push(Finding::problem(CHECK, found, advice));
        return findings;
    }
    let chain = read(&tls.certificate).unwrap_or_default();
    let leaf = chain.first().and_then(|leaf| Described::of(leaf));
    let what = format!("the certificate of listener {address}");
    findings.extend(leaf.map(|leaf| leaf.judge(&what, RENEW_LISTENER, now_ms)));
    if let Some(ca) = &tls.client_ca {
        findings.extend(authorities(ca, &read(ca).unwrap_or_default(), now_ms));
    }
    findings
}

/// CAs, of which only that is said that is not ok.
fn authorities(path: &Path, roots: &[CertificateDer<'static>], now_ms: i64) -> Vec<Finding> {
    let what = format!("a CA in {}", path.display());
    let roots = roots.iter().filter_map(|root| Described::of(root));
    let findings = roots.map(|root| root.judge(&what, RENEW_CA, now_ms));
    findings
        .filter(|finding| finding.level != Level::Ok)
        .collect()
}

/// Whether the CA vouches for the chain, at a time at which the certificate is valid: whether it is now is judged beside.
fn vouched(
    chain: &[CertificateDer<'static>],
    roots: Vec<CertificateDer<'static>>,
    leaf: &Described,
) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let at_ms = leaf.not_before_ms.max(0) / 2 + leaf.not_after_ms.max(0) / 2;
    let at = UnixTime::since_unix_epoch(Duration::from_millis(at_ms.unsigned_abs()));
    let (leaf, between) = chain.split_first().ok_or("it is empty")?;
    let verified = verifier.verify_client_cert(leaf, between, at);
    verified.map(drop).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tidegate_bridge::HubAuthority;
    use tidegate_shared::id::EdgeId;

    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn described() -> Described {
        let mut params = CertificateParams::new(vec!["device.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 12, 31);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        Described::of(own.der()).unwrap()
    }

    #[test]
    fn an_end_that_comes_near_is_told() {
        let certificate = described();
        assert_eq!(certificate.names, "device.example");
        let end = certificate.not_after_ms;
        for (now_ms, level, says) in [
            (
                certificate.not_before_ms - 1,
                Level::Problem,
                "from 2026-01-01",
            ),
            (certificate.not_before_ms, Level::Ok, "until 2026-12-31"),
            (end - WARN_BEFORE_MS, Level::Ok, "until"),
            (end - WARN_BEFORE_MS + 1, Level::Warning, "in 29 days"),
            (end - 3 * DAY_MS, Level::Warning, "in 3 days"),
            (end, Level::Problem, "ended on"),
            (end + 40 * DAY_MS, Level::Problem, "40 days ago"),
        ] {
            let finding = certificate.judge("a certificate", "renew", now_ms);
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.found.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn files_of_two_clouds_do_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let issue = |name: &str| {
            let authority = HubAuthority::open(folder.path().join(name)).unwrap();
            let out = folder.path().join(name).join("edge");
            authority
                .issue_edge(&EdgeId::new("plant-7").unwrap(), &out)
                .unwrap()
        };
        let (ours, others) = (issue("ours"), issue("others"));
        let judged = |certificate: &Path, key: &Path, ca: &Path| {
            let uplink = UplinkSpec {
                cloud: "a:1".to_owned(),
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                ca: ca.to_owned(),
                reconnect_max: tidegate_shared::fleet::reconnect_max(),
            };
            let findings = of_uplink(&uplink, None, crate::doctor::clock::now_ms());
            findings
                .into_iter()
                .filter(|finding| finding.level != Level::Ok)
                .collect::<Vec<_>>()
        };
        assert_eq!(judged(&ours.certificate, &ours.key, &ours.ca), []);
        let other_key = judged(&ours.certificate, &others.key, &ours.ca);
        assert!(
            other_key[0].found.contains("belong together"),
            "{other_key:?}"
        );
        // Both CAs have the same name.
        let other_ca = judged(&ours.certificate, &ours.key, &others.ca);
        assert!(other_ca[0].found.contains("not of the CA"), "{other_ca:?}");
        let missing = judged(&folder.path().join("none"), &ours.key, &ours.ca);
        assert_eq!(missing[0].level, Level::Problem);
    }
}
