//! Where MQTT clients connect: the address, what the bytes are wrapped in, and who may come.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use super::{LimitsSpec, SpecError};

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSpec {
    pub address: ListenerAddress,
    /// What MQTT's bytes travel in. Default: `tcp`, which is the plain socket.
    #[serde(default)]
    pub transport: Transport,
    /// Of WebSocket: the path of the request. Default: `/mqtt`.
    #[serde(default)]
    pub path: Option<String>,
    /// TLS 1.2 and 1.3. Default: none. QUIC has no other way.
    #[serde(default)]
    pub tls: Option<TlsSpec>,
    /// Each connection begins with a PROXY protocol header, version 2, which says who the client is.
    /// Only for a listener that nobody but the proxy reaches. Default: false.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Allows an address beyond loopback although nobody is authenticated. Default: false.
    #[serde(default)]
    pub insecure: bool,
    /// Lets in who has proved no name. Who says one must prove it all the same. Default: only where there is nothing
    /// to prove it by: no `mqtt.users`, `mqtt.jwt` or `certificate_user`.
    #[serde(default)]
    pub anonymous: Option<bool>,
    /// With `tls.client_ca`: the user is who the client's certificate names. Default: a certificate names nobody.
    #[serde(default)]
    pub certificate_user: Option<CertificateUser>,
    /// Where they differ from `mqtt.limits`.
    #[serde(default)]
    pub limits: LimitsSpec,
}

/// An IP address and a port, or `unix:` and a socket's path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ListenerAddress {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// What MQTT's bytes travel in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    #[default]
    Tcp,
    /// RFC 6455, subprotocol `mqtt`.
    Websocket,
    /// One QUIC stream a connection, ALPN `mqtt`.
    Quic,
}

/// The name in a certificate that is the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateUser {
    /// The subject's CN; there must be one only.
    CommonName,
    /// Of the subject's alternative names, the first of the kind.
    DnsName,
    Email,
    Uri,
}

/// PEM files, read again when they change or on SIGHUP. Relative paths start at the configuration file's
/// folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSpec {
    /// The server's certificate and those that vouch for it.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Clients must have a certificate of this CA. Default: none is asked for.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// With `client_ca`. Default: `required`.
    #[serde(default)]
    pub client_certificates: ClientCertificates,
}

/// Whether a client can come without a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    #[default]
    Required,
    /// It can; one that it has must be of the CA.
    Requested,
}

impl TlsSpec {
    /// Whether nobody comes in without a certificate of the CA.
    pub fn authenticates(&self) -> bool {
        self.client_ca.is_some() && self.client_certificates == ClientCertificates::Required
    }

    /// The same with paths that start at `folder`, where they are relative.
    pub fn resolve(&mut self, folder: &Path) {
        self.certificate = folder.join(&self.certificate);
        self.key = folder.join(&self.key);
        self.client_ca = self.client_ca.take().map(|path| folder.join(path));
    }
}

/// Not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not an IP address and a port, such as 127.0.0.1:1883 or [::1]:1883, nor unix: and a path"
)]
pub struct ListenerAddressError(String);

/// The default of [`ListenerSpec::path`].
const WEBSOCKET_PATH: &str = "/mqtt";

impl ListenerSpec {
    /// Plain TCP.
    pub fn tcp(address: SocketAddr, insecure: bool) -> Self {
        Self {
            address: ListenerAddress::Ip(address),
            transport: Transport::Tcp,
            path: None,
            tls: None,
            proxy_protocol: false,
            insecure,
            anonymous: None,
            certificate_user: None,
            limits: LimitsSpec::default(),
        }
    }

    /// The path of the request, for a WebSocket.
    pub fn websocket_path(&self) -> Option<&str> {
        let is_websocket = self.transport == Transport::Websocket;
        is_websocket.then(|| self.path.as_deref().unwrap_or(WEBSOCKET_PATH))
    }

    /// Both would listen at the same place: the kernel lets one of them. A port of 0 is another each time,
    /// and QUIC's ports are UDP's.
    pub(super) fn collides(&self, other: &Self) -> bool {
        let of_system = matches!(self.address, ListenerAddress::Ip(address) if address.port() == 0);
        let is_quic = |spec: &Self| spec.transport == Transport::Quic;
        self.address == other.address && is_quic(self) == is_quic(other) && !of_system
    }

    /// Whether who has proved no name is let in. `knows_users`: names can be proved otherwise than by certificates.
    pub fn lets_anonymous_in(&self, knows_users: bool) -> bool {
        let can_prove = knows_users || self.certificate_user.is_some();
        self.anonymous.unwrap_or(!can_prove)
    }

    /// Whether a password comes over a network as it is.
    pub fn shows_passwords(&self) -> bool {
        let is_remote =
            matches!(self.address, ListenerAddress::Ip(address) if !address.ip().is_loopback());
        is_remote && self.tls.is_none()
    }

    pub(super) fn check(&self, knows_users: bool) -> Result<(), SpecError> {
        let refuse = |why| Err(SpecError::Listener(self.address.clone(), why));
        let is_unix = matches!(self.address, ListenerAddress::Unix(_));
        match self.transport {
            Transport::Quic if is_unix => return refuse("a Unix socket does not carry QUIC"),
            Transport::Quic if self.tls.is_none() => return refuse("QUIC needs tls"),
            Transport::Quic if self.proxy_protocol => {
                return refuse("the PROXY protocol is not spoken before QUIC");
            }
            _ => {}
        }
        match (self.websocket_path(), &self.path) {
            (Some(path), _) if !path.starts_with('/') => {
                return refuse("the path of a WebSocket begins with /");
            }
            (None, Some(_)) => {
                return refuse(
                    "path is for a WebSocket: add transport: websocket, or leave path out",
                );
            }
            _ => {}
        }
        let asks_for_certificates = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if self.certificate_user.is_some() && !asks_for_certificates {
            return refuse("certificate_user needs tls with client_ca");
        }
        let lets_anonymous_in = self.lets_anonymous_in(knows_users);
        if !lets_anonymous_in && !knows_users && self.certificate_user.is_none() {
            return refuse(
                "nobody could come in: anonymous is false, and there is neither mqtt.users, nor mqtt.jwt, nor certificate_user",
            );
        }
        let authenticates =
            self.tls.as_ref().is_some_and(TlsSpec::authenticates) || !lets_anonymous_in;
        match self.address {
            ListenerAddress::Ip(address)
                if !address.ip().is_loopback() && !self.insecure && !authenticates =>
            {
                Err(SpecError::Exposed {
                    key: "mqtt.listeners",
                    address,
                })
            }
            _ => Ok(()),
        }
    }
}

impl FromStr for ListenerAddress {
    type Err = ListenerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            _ => match text.parse() {
                Ok(address) => Ok(Self::Ip(address)),
                Err(_) => Err(ListenerAddressError(text.to_owned())),
            },
        }
    }
}

impl TryFrom<String> for ListenerAddress {
    type Error = ListenerAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::parse_yaml;

    fn check(text: &str) -> Result<(), String> {
        let spec = parse_yaml::<ListenerSpec>(text).map_err(|error| error.to_string())?;
        spec.check(false).map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_work_is_taken() {
        let tls = "tls: {certificate: a, key: b";
        for text in [
            "address: '[::1]:1883'".to_owned(),
            "address: unix:/run/mqtt.sock".to_owned(),
            "{address: 127.0.0.1:8083, transport: websocket, path: /}".to_owned(),
            format!("{{address: 127.0.0.1:14567, transport: quic, {tls}}}}}"),
            // Who is not known is not let in, by whatever they are known.
            format!(
                "{{address: 0.0.0.0:8883, {tls}, client_ca: c, client_certificates: requested}}, certificate_user: uri}}"
            ),
            format!("{{address: 0.0.0.0:8883, {tls}, client_ca: c}}}}"),
        ] {
            assert_eq!(check(&text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_cannot_is_named() {
        let tls = "tls: {certificate: a, key: b}";
        for (text, why) in [
            ("address: localhost:1883".to_owned(), "not an IP address"),
            ("address: 'unix:'".to_owned(), "nor unix: and a path"),
            (
                "{address: 127.0.0.1:1, transport: quic}".to_owned(),
                "QUIC needs tls",
            ),
            (
                format!("{{address: 127.0.0.1:1, transport: quic, {tls}, proxy_protocol: true}}"),
                "PROXY protocol",
            ),
            (
                "{address: 127.0.0.1:1, transport: websocket, path: mqtt}".to_owned(),
                "begins with /",
            ),
            (
                "{address: 127.0.0.1:1, path: /mqtt}".to_owned(),
                "add transport: websocket",
            ),
            (
                format!("{{address: 0.0.0.0:8883, {tls}}}"),
                "insecure: true",
            ),
            (
                "{address: 0.0.0.0:8883, tls: {certificate: a, key: b, client_ca: c, client_certificates: requested}}".to_owned(),
                "insecure: true",
            ),
            (
                format!("{{address: 127.0.0.1:1, {tls}, certificate_user: uri}}"),
                "needs tls with client_ca",
            ),
            (
                format!("{{address: 127.0.0.1:1, {tls}, certificate_user: serial}}"),
                "serial",
            ),
            (
                "{address: 127.0.0.1:1, anonymous: false}".to_owned(),
                "nobody could come in",
            ),
            (
                "{address: 127.0.0.1:1, transport: web_socket}".to_owned(),
                "websocket",
            ),
        ] {
            let refused = check(&text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn who_is_anonymous_comes_in_where_it_is_said_or_nothing_else_can_be() {
        let check = |text: &str, knows_users| {
            let spec = parse_yaml::<ListenerSpec>(text).unwrap();
            (
                spec.lets_anonymous_in(knows_users),
                spec.check(knows_users).is_ok(),
            )
        };
        for (keys, alone, with_users) in [
            ("address: 127.0.0.1:1", (true, true), (false, true)),
            (
                "{address: 127.0.0.1:1, anonymous: true}",
                (true, true),
                (true, true),
            ),
            ("address: 0.0.0.0:1", (true, false), (false, true)),
            (
                "{address: 0.0.0.0:1, anonymous: true}",
                (true, false),
                (true, false),
            ),
            (
                "{address: 0.0.0.0:1, anonymous: true, insecure: true}",
                (true, true),
                (true, true),
            ),
            (
                "{address: 0.0.0.0:1, insecure: true}",
                (true, true),
                (false, true),
            ),
        ] {
            assert_eq!(check(keys, false), alone, "{keys}");
            assert_eq!(check(keys, true), with_users, "{keys}, with users");
        }
    }
}
