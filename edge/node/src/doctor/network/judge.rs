//! What the way to the cloud says, and what to do about it.

use tidegate_bridge::Trouble;
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_shared::fleet::{EdgeSpec, UplinkSpec};

use super::udp::Answer;
use super::{Link, Tls};
use crate::doctor::Finding;
use crate::doctor::certificates::Described;

/// Alerts of TLS that say something of the certificate (RFC 8446, 6).
const BAD_CERTIFICATE: u8 = 42;
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
/// Also of a CA with the right name and another key.
const DECRYPT_ERROR: u8 = 51;
const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// DNS, UDP and TLS.
pub(crate) fn judge(spec: &EdgeSpec, link: &Link) -> Vec<Finding> {
    let Some(uplink) = &spec.uplink else {
        let found = "no uplink is configured: what is published stays here";
        return vec![Finding::ok("uplink", found)];
    };
    let mut findings = vec![dns(uplink, link)];
    findings.extend(link.udp.as_ref().map(|answer| udp(uplink, answer)));
    findings.extend(link.tls.as_ref().map(|seen| tls(uplink, link, seen)));
    findings
}

/// Without what might stand before an @.
fn shown(uplink: &UplinkSpec) -> &str {
    uplink.cloud.rsplit('@').next().unwrap_or_default()
}

fn dns(uplink: &UplinkSpec, link: &Link) -> Finding {
    let cloud = shown(uplink);
    match (&link.name, link.address) {
        (None, _) => Finding::ok(
            "dns",
            format!("{cloud} is an address: there is no name to resolve"),
        ),
        (Some(Ok(addresses)), Some(address)) => {
            let more = match addresses.len() {
                1 => String::new(),
                count => format!(", the first of {count}"),
            };
            Finding::ok("dns", format!("{cloud} is {}{more}", address.ip()))
        }
        (Some(Ok(_)), None) => Finding::problem(
            "dns",
            format!("{cloud} has no address"),
            "correct uplink.cloud, or the name's A or AAAA record",
        ),
        (Some(Err(why)), _) => Finding::problem(
            "dns",
            format!("{cloud} is not resolved: {why}"),
            "try `getent hosts NAME`. If no name is resolved: /etc/resolv.conf and the network. If others are: correct uplink.cloud, or put the name into /etc/hosts",
        ),
    }
}

fn udp(uplink: &UplinkSpec, answer: &Answer) -> Finding {
    let cloud = shown(uplink);
    match answer {
        Answer::Quic => Finding::ok("udp", format!("QUIC is answered at {cloud}")),
        Answer::Refused => Finding::problem(
            "udp",
            format!("{cloud} refuses UDP: the machine is there, and nobody listens at that port"),
            "start the cloud, or correct the port: uplink.cloud here, bridge.address there. Messages are kept meanwhile",
        ),
        Answer::Nothing { host_answers: true } => Finding::problem(
            "udp",
            format!(
                "no answer by UDP from {cloud}, and the machine answers by TCP: UDP seems to be blocked"
            ),
            "let UDP to that port pass, both ways, in each firewall between (QUIC needs datagrams of 1200 bytes). There is no way over TCP yet. Messages are kept meanwhile",
        ),
        Answer::Nothing {
            host_answers: false,
        } => Finding::problem(
            "udp",
            format!("no answer from {cloud}, neither by UDP nor by TCP"),
            "the machine is off, the address is wrong, or a firewall drops everything: try ping and traceroute. Messages are kept meanwhile",
        ),
        Answer::Unsent(why) => Finding::problem(
            "udp",
            format!("nothing can be sent to {cloud}: {why}"),
            "this machine's own network: a route (`ip route get ADDRESS`), its firewall, an MTU below 1280",
        ),
    }
}

fn tls(uplink: &UplinkSpec, link: &Link, seen: &Tls) -> Finding {
    let ca = uplink.ca.display();
    match seen {
        Tls::NoCredentials(why) => Finding::problem(
            "tls",
            format!("no handshake was tried: {why}"),
            "uplink.certificate, key and ca are the three files that `tidegate-cloud certificate` makes; the service's user must be able to read them",
        ),
        Tls::Accepted(accepted) => {
            let certificate = accepted.certificate.as_deref();
            let cloud = match certificate.and_then(Described::of) {
                Some(cloud) => format!(
                    "the cloud's certificate is for {}, of {}",
                    cloud.names, cloud.issuer
                ),
                None => "the cloud's certificate is of the CA".to_owned(),
            };
            Finding::ok("tls", format!("{cloud}; the cloud takes this edge's"))
        }
        Tls::Failed(Trouble::NoAnswer) if link.udp == Some(Answer::Quic) => Finding::problem(
            "tls",
            "QUIC is answered, and the handshake does not end",
            "datagrams of 1200 bytes and more may be dropped on the way (MTU), or something else than a Tidegate cloud answers at that port",
        ),
        Tls::Failed(Trouble::NoAnswer) => {
            Finding::problem("tls", "no handshake, since there is no answer", "see udp")
        }
        Tls::Failed(Trouble::NotTaken { why, .. }) => not_taken(why, &ca.to_string()),
        Tls::Failed(Trouble::Refused { alert, why }) => refused(*alert, why),
        Tls::Failed(Trouble::Closed(Some(CloseCode::HelloStorm), why)) => Finding::warning(
            "tls",
            format!("certificates fit, and the cloud turns this edge away: {why}"),
            "wait half a minute and look again. If it stays: another node has this certificate, and connects again and again",
        ),
        Tls::Failed(Trouble::Closed(code, why)) => {
            let code = code.map_or("unknown", CloseCode::name);
            Finding::warning(
                "tls",
                format!("certificates fit, and the cloud closes the connection: {code} {why}"),
                "the cloud's log says more; it may be stopping",
            )
        }
        Tls::Failed(Trouble::Other(why)) => Finding::problem(
            "tls",
            format!("no handshake: {why}"),
            "something else than a Tidegate cloud may answer at that port: compare uplink.cloud with the cloud's bridge.address",
        ),
    }
}

/// rustls says what it does not like of the cloud's certificate.
fn not_taken(why: &str, ca: &str) -> Finding {
    let (found, advice) = if why.contains("UnknownIssuer") || why.contains("BadSignature") {
        (
            format!("the cloud's certificate is not of the CA in {ca}"),
            "take ca.crt of this very cloud (`tidegate-cloud certificate` writes it beside edge.crt and edge.key): it is another cloud, or its CA was made anew",
        )
    } else if why.contains("NotValidForName") {
        (
            "the certificate that answers is not a Tidegate hub's, by its name".to_owned(),
            "something else answers at that address: correct uplink.cloud",
        )
    } else if why.contains("Expired") || why.contains("NotValidYet") {
        (
            format!("the cloud's certificate is not valid at this time: {why}"),
            "look at clock first: where it is right, the cloud's operator has to renew hub.crt",
        )
    } else {
        (
            format!("this edge does not take the cloud's TLS: {why}"),
            "compare uplink.cloud and uplink.ca with what the cloud's operator gave you",
        )
    };
    Finding::problem("tls", found, advice)
}

fn refused(alert: u8, why: &str) -> Finding {
    let (found, advice) = match alert {
        UNKNOWN_CA | BAD_CERTIFICATE | ACCESS_DENIED | DECRYPT_ERROR => (
            "this edge's certificate is not of the cloud's CA".to_owned(),
            "make a certificate with this very cloud: tidegate-cloud certificate EDGE --out DIR",
        ),
        CERTIFICATE_EXPIRED => (
            "to the cloud this edge's certificate is not valid at this time".to_owned(),
            "see certificate; where that is ok, the cloud's clock is wrong",
        ),
        CERTIFICATE_REQUIRED => (
            "the cloud has not seen a certificate of this edge".to_owned(),
            "uplink.certificate must be the edge's own, made by `tidegate-cloud certificate`",
        ),
        NO_APPLICATION_PROTOCOL => (
            "what answers does not speak Tidegate's bridge".to_owned(),
            "correct uplink.cloud: the port is that of bridge.address in the cloud's configuration",
        ),
        _ => (
            format!("the cloud ends the handshake with TLS alert {alert}: {why}"),
            "the cloud's log says why",
        ),
    };
    Finding::problem("tls", found, advice)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::doctor::Level;

    fn uplink(cloud: &str) -> UplinkSpec {
        UplinkSpec {
            cloud: cloud.to_owned(),
            certificate: PathBuf::from("edge.crt"),
            key: PathBuf::from("edge.key"),
            ca: PathBuf::from("ca.crt"),
            reconnect_max: tidegate_shared::fleet::reconnect_max(),
        }
    }

    fn of(link: Link) -> Vec<(Level, &'static str, String)> {
        let spec = EdgeSpec {
            uplink: Some(uplink("me:secret@cloud.example:7443")),
            ..EdgeSpec::default()
        };
        let findings = judge(&spec, &link).into_iter();
        let findings = findings.map(|finding| {
            let found = format!("{} {}", finding.found, finding.advice.unwrap_or_default());
            assert!(!found.contains("secret"), "{found}");
            (finding.level, finding.check, found)
        });
        findings.collect()
    }

    #[test]
    fn silence_refusal_and_alerts_are_told_apart() {
        let failed = |trouble| Some(Tls::Failed(trouble));
        let why = || String::new();
        let cases = [
            (
                Answer::Refused,
                failed(Trouble::NoAnswer),
                "nobody listens",
                "see udp",
            ),
            (
                Answer::Nothing { host_answers: true },
                failed(Trouble::NoAnswer),
                "UDP seems to be blocked",
                "see udp",
            ),
            (
                Answer::Nothing {
                    host_answers: false,
                },
                failed(Trouble::NoAnswer),
                "neither by UDP nor by TCP",
                "see udp",
            ),
            (
                Answer::Unsent("EPERM".to_owned()),
                failed(Trouble::NoAnswer),
                "EPERM",
                "see udp",
            ),
            (
                Answer::Quic,
                failed(Trouble::NoAnswer),
                "is answered",
                "MTU",
            ),
            (
                Answer::Quic,
                failed(Trouble::Refused {
                    alert: UNKNOWN_CA,
                    why: why(),
                }),
                "is answered",
                "not of the cloud's CA",
            ),
            (
                Answer::Quic,
                failed(Trouble::Refused {
                    alert: 80,
                    why: why(),
                }),
                "is answered",
                "TLS alert 80",
            ),
            (
                Answer::Quic,
                failed(Trouble::NotTaken {
                    alert: UNKNOWN_CA,
                    why: "invalid peer certificate: UnknownIssuer".to_owned(),
                }),
                "is answered",
                "not of the CA in ca.crt",
            ),
        ];
        for (answer, tls, udp_says, tls_says) in cases {
            let is_reached = answer == Answer::Quic;
            let findings = of(Link {
                name: Some(Ok(vec![([10, 0, 0, 1], 7443).into()])),
                address: Some(([10, 0, 0, 1], 7443).into()),
                udp: Some(answer),
                tls,
            });
            assert_eq!((findings[0].0, findings[0].1), (Level::Ok, "dns"));
            assert!(findings[1].2.contains(udp_says), "{findings:?}");
            assert_eq!(findings[1].0 == Level::Ok, is_reached, "{findings:?}");
            assert!(findings[2].2.contains(tls_says), "{findings:?}");
            assert_eq!(findings[2].0, Level::Problem);
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_all_that_is_said() {
        let link = Link {
            name: Some(Err("unknown".to_owned())),
            ..Link::default()
        };
        let findings = of(link);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].0, Level::Problem);
        assert!(judge(&EdgeSpec::default(), &Link::default())[0].level == Level::Ok);
    }
}
