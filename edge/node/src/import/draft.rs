//! One listener, as its lines say it, until it is an entry of the result or it is said why not.

use std::net::IpAddr;

use super::lines::{Line, Problem};
use super::listeners::Security;
use super::report::{Fate, Report};
use super::yaml::quoted;

#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Of the default listener: its first option.
    pub(super) opened: Option<Line>,
    is_default: bool,
    pub(super) port: Option<u16>,
    pub(super) host: Option<String>,
    unix: Option<String>,
    is_v6: bool,
    has_interface: bool,
    is_websocket: bool,
    proxy_protocol: bool,
    connections_max: Option<i64>,
    certificate: Option<String>,
    key: Option<String>,
    ca: Option<Line>,
    needs_certificate: bool,
    pub(super) names_user: bool,
    pub(super) anonymous: Option<bool>,
    pub(super) security: Security,
    /// By this line it would let in who may not come, or nobody.
    pub(super) barred: Option<(Line, &'static str)>,
}

const SHARED_KEY: &str =
    "there is no TLS by a shared key: the listener would be an open one, and is left out";

impl Draft {
    /// The default one, which is there only if it is asked for.
    pub(super) fn of_default() -> Self {
        Self {
            is_default: true,
            ..Self::default()
        }
    }

    /// `listener PORT [ADDRESS]`, or `listener 0 PATH`.
    pub(super) fn open(line: &Line) -> Result<Self, Problem> {
        let mut words = line.value.split_whitespace();
        let port = words.next().and_then(|port| port.parse::<u16>().ok());
        let port = port.ok_or_else(|| line.problem("it begins with a port"))?;
        let place = words
            .next()
            .filter(|word| !word.starts_with('#'))
            .map(str::to_owned);
        let mut draft = Self {
            opened: Some(line.clone()),
            ..Self::default()
        };
        match (port, place) {
            (0, None) => return Err(line.problem("port 0 needs the path of a socket")),
            (0, path) => draft.unix = path,
            (port, host) => {
                draft.port = Some(port);
                draft.host = host;
            }
        }
        Ok(draft)
    }

    pub(super) fn take(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        if self.opened.is_none() {
            self.opened = Some(line.clone());
        }
        let mapped = |report: &mut Report, why: &str| report.add(line, Fate::Mapped, why);
        match line.option.as_str() {
            "port" => {
                let port = u16::try_from(line.number()?).ok().filter(|port| *port > 0);
                self.port = Some(port.ok_or_else(|| line.problem("it is no port"))?);
                mapped(report, "a listener");
            }
            "bind_address" => {
                self.host = Some(line.text()?);
                mapped(report, "the listener's address");
            }
            "bind_interface" => {
                self.has_interface = true;
                report.not_carried(line, "an address of the interface is needed: until you write one, the listener is on loopback");
            }
            "socket_domain" => match line.word() {
                "ipv4" => mapped(report, "the listener's address"),
                "ipv6" => {
                    self.is_v6 = true;
                    mapped(report, "the listener's address");
                }
                other => return Err(line.problem(format!("{other:?} is neither ipv4 nor ipv6"))),
            },
            "protocol" => self.protocol(line, report)?,
            "enable_proxy_protocol" => match line.number()? {
                2 => {
                    self.proxy_protocol = true;
                    mapped(report, "proxy_protocol");
                }
                1 => {
                    self.barred = Some((
                        line.clone(),
                        "only version 2 of the PROXY protocol is spoken: left out",
                    ))
                }
                _ => return Err(line.problem("it is 1 or 2")),
            },
            "max_connections" => match line.number()? {
                ..=0 => report.add(line, Fate::IsSo, "a listener has no bound of its own"),
                most => {
                    self.connections_max = Some(most);
                    mapped(report, "limits.connections_max");
                }
            },
            "max_qos" | "maximum_qos" => match line.number()? {
                2 => report.add(line, Fate::IsSo, "QoS 0, 1 and 2"),
                _ => report.not_carried(line, "each listener takes QoS 0, 1 and 2"),
            },
            "mount_point" => {
                self.barred = Some((
                    line.clone(),
                    "a listener has no prefix of its own: its clients would see all topics, and it is left out",
                ))
            }
            "listener_allow_anonymous" => {
                self.anonymous = Some(line.boolean()?);
                mapped(report, "anonymous");
            }
            _ => self.secure(line, report)?,
        }
        Ok(())
    }

    fn protocol(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        match line.word() {
            "mqtt" => report.add(line, Fate::IsSo, "tcp"),
            "websockets" => {
                self.is_websocket = true;
                report.add(
                    line,
                    Fate::Differs,
                    "transport: websocket; its path is /mqtt (path), and mosquitto takes any",
                );
            }
            "http_api" => {
                self.barred = Some((
                    line.clone(),
                    "the node's own HTTP is http.address: left out",
                ))
            }
            other => return Err(line.problem(format!("{other:?} is no protocol"))),
        }
        Ok(())
    }

    /// TLS.
    fn secure(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        match line.option.as_str() {
            "certfile" => self.certificate = Some(line.text()?),
            "keyfile" => self.key = Some(line.text()?),
            "cafile" => {
                line.text()?;
                self.ca = Some(line.clone());
                return Ok(());
            }
            "capath" => {
                report.not_carried(line, "CAs of clients come from one file: tls.client_ca");
                return Ok(());
            }
            "require_certificate" => self.needs_certificate = line.boolean()?,
            "use_identity_as_username" => self.names_user = line.boolean()?,
            "use_subject_as_username" => {
                if line.boolean()? {
                    report.not_carried(line, "a user's name is the CN or an alternative name (certificate_user), not the whole subject");
                }
                return Ok(());
            }
            "crlfile" => {
                let why = "there are no revocation lists, and certificates that were taken back would come in: left out";
                self.barred = Some((line.clone(), why));
                return Ok(());
            }
            "tls_version" => {
                match line.value.as_str() {
                    "tlsv1.2" => report.add(line, Fate::IsSo, "TLS 1.2 and 1.3"),
                    _ => report.not_carried(line, "TLS 1.2 and 1.3 are spoken"),
                }
                return Ok(());
            }
            "psk_hint" => {
                self.barred = Some((line.clone(), SHARED_KEY));
                return Ok(());
            }
            other => unreachable!("{other} is no option of a listener"),
        }
        report.add(line, Fate::Mapped, "tls of the listener");
        Ok(())
    }

    pub(super) fn tell(&self, report: &mut Report, fate: Fate, why: &str) {
        if let Some(line) = &self.opened {
            report.add(line, fate, why);
        }
    }

    /// Its entry below `mqtt.listeners`; `None`: it was said why not.
    pub(super) fn finish(
        &mut self,
        is_local: bool,
        anonymous: bool,
        can_prove: bool,
        knows_users: bool,
        report: &mut Report,
    ) -> Option<String> {
        if let Some((line, why)) = &self.barred {
            report.not_carried(line, *why);
            return None;
        }
        let asks = self.needs_certificate && self.ca.is_some();
        if self.needs_certificate && !asks {
            self.tell(
                report,
                Fate::NotCarried,
                "clients must have certificates, and no cafile says whose: left out",
            );
            return None;
        }
        if self.names_user && !asks {
            self.tell(report, Fate::NotCarried, "use_identity_as_username needs require_certificate and a cafile: certificates name nobody here");
        }
        self.names_user &= asks;
        match (&self.ca, asks) {
            (Some(line), true) => report.add(line, Fate::Mapped, "tls.client_ca"),
            (Some(line), false) => {
                report.add(line, Fate::IsSo, "clients are not asked for certificates")
            }
            (None, _) => {}
        }
        if !anonymous && !can_prove && !self.names_user {
            self.tell(report, Fate::NotCarried, "nobody can come in by it, here as there: give it users, or anonymous: true; left out");
            return None;
        }
        let address = self.address(is_local, report)?;
        let proves = knows_users || self.names_user;
        let mut yaml = format!("    - address: {}\n", quoted(&address));
        let mut put = |key: &str, value: &str| yaml.push_str(&format!("      {key}: {value}\n"));
        if self.is_websocket {
            put("transport", "websocket");
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let ca = self.ca.as_ref().filter(|_| asks);
                let ca = ca.map(|line| format!(", client_ca: {}", quoted(&line.value)));
                let (certificate, key) = (quoted(certificate), quoted(key));
                put(
                    "tls",
                    &format!(
                        "{{certificate: {certificate}, key: {key}{}}}",
                        ca.unwrap_or_default()
                    ),
                );
            }
            (None, None) => {}
            _ => {
                self.tell(
                    report,
                    Fate::NotCarried,
                    "TLS needs certfile and keyfile: left out",
                );
                return None;
            }
        }
        if self.names_user {
            put("certificate_user", "common_name");
        }
        if self.proxy_protocol {
            put("proxy_protocol", "true");
        }
        if anonymous && proves {
            put("anonymous", "true");
        }
        let is_exposed = self.unix.is_none() && !is_loopback(&address);
        if is_exposed && anonymous && !asks {
            put("insecure", "true");
            self.tell(report, Fate::Differs, "clients without a name come in from other machines: insecure: true says that it is meant");
        }
        if let Some(most) = self.connections_max {
            put("limits", &format!("{{connections_max: {most}}}"));
        }
        if !self.is_default {
            self.tell(report, Fate::Mapped, "an entry of mqtt.listeners");
        }
        Some(yaml)
    }

    fn address(&self, is_local: bool, report: &mut Report) -> Option<String> {
        if let Some(path) = &self.unix {
            return Some(format!("unix:{path}"));
        }
        let port = self.port.unwrap_or(1883);
        let loopback = if self.is_v6 { "[::1]" } else { "127.0.0.1" };
        let host = match self.host.as_deref() {
            _ if is_local || self.has_interface => loopback.to_owned(),
            Some("localhost") => loopback.to_owned(),
            Some(host) => match host.parse::<IpAddr>() {
                Ok(IpAddr::V4(ip)) => ip.to_string(),
                Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
                Err(_) => {
                    self.tell(
                        report,
                        Fate::NotCarried,
                        "a listener has an IP address, not a name: left out",
                    );
                    return None;
                }
            },
            None if self.is_v6 => "[::]".to_owned(),
            None => {
                self.tell(
                    report,
                    Fate::Differs,
                    "0.0.0.0 is IPv4 alone: where the machine has IPv6, '[::]' takes both",
                );
                "0.0.0.0".to_owned()
            }
        };
        Some(format!("{host}:{port}"))
    }
}

fn is_loopback(address: &str) -> bool {
    let parsed = address.parse::<std::net::SocketAddr>();
    parsed.is_ok_and(|address| address.ip().is_loopback())
}
