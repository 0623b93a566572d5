//! Where an edge takes messages from by itself: a plant's existing MQTT broker, as a client of it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::{ListenerAddress, ListenerSpec, Span, SpecError, Transport};
use crate::topic::TopicFilter;

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// In logs and metrics, and in the client id; no two sources have the same.
    pub name: SourceName,
    pub mqtt: MqttSourceSpec,
}

/// A broker, and what is taken from it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSourceSpec {
    /// `mqtt://HOST[:1883]`, or `mqtts://HOST[:8883]`.
    pub server: MqttServer,
    /// Names the session that the broker keeps: nobody else may have it. Default: `tidegate-NAME-` and the
    /// beginning of the journal's id, which a node keeps as long as its data.
    #[serde(default)]
    pub client_id: Option<String>,
    #[serde(default)]
    pub user: Option<String>,
    /// A file with the password, in its first line, read at each attempt to connect. Relative paths start at the
    /// configuration file's folder.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Default: 5.
    #[serde(default)]
    pub version: MqttVersion,
    pub subscribe: Vec<SourceSubscription>,
    /// How long the broker keeps the session while the node is away; of MQTT 5 alone. Default: `7d`.
    #[serde(default = "session_expiry")]
    pub session_expiry: Span,
    /// With `mqtts://`. Default: the system's certificate authorities, and no certificate of the node's own.
    #[serde(default)]
    pub tls: SourceTlsSpec,
    /// The longest pause between attempts to connect. Default: `30s`.
    #[serde(default = "super::reconnect_max")]
    pub reconnect_max: Span,
}

/// What is subscribed to, and which topics it becomes here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSubscription {
    /// As the broker knows the topics.
    pub filter: TopicFilter,
    /// 0 or 1. Default: 1.
    #[serde(default = "at_least_once")]
    pub qos: u8,
    /// Taken away from the topic; the filter begins with it. Default: nothing.
    #[serde(default)]
    pub remote_prefix: String,
    /// Put before what is left. Default: nothing.
    #[serde(default)]
    pub local_prefix: String,
}

/// PEM files, read at each attempt to connect. Relative paths start at the configuration file's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceTlsSpec {
    /// Who vouches for the broker.
    pub ca: Option<PathBuf>,
    /// The node's own, and its key.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// The protocol's version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "VersionScalar")]
pub enum MqttVersion {
    V311,
    #[default]
    V5,
}

/// Up to 32 characters of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct SourceName(String);

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MqttServer {
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
    pub is_secure: bool,
}

/// A value of a source that can't be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    #[error("{0:?} is no name of a source: it takes up to 32 characters of a-z, 0-9, - and _")]
    Name(String),
    #[error(
        "{0:?} is no server, such as mqtt://broker.local:1883 or mqtts://broker.local; a name goes to user, and a password to password_file"
    )]
    Server(String),
    #[error("{0:?} is no version of MQTT: there are 5 and 3.1.1")]
    Version(String),
}

const NAME_BYTES_MAX: usize = 32;
/// What brokers take at least, and most take more.
const CLIENT_ID_BYTES_MAX: usize = 128;
const SUBSCRIPTIONS_MAX: usize = 1_000;
const SOURCES_MAX: usize = 64;

const SESSION_EXPIRY_RANGE: [Span; 2] = [
    Span(Duration::from_secs(60)),
    Span(Duration::from_secs(u32::MAX as u64 - 1)),
];

fn session_expiry() -> Span {
    Span(Duration::from_secs(7 * 86_400))
}

fn at_least_once() -> u8 {
    1
}

impl SourceSpec {
    /// The same with paths that start at `folder`, where they are relative.
    pub fn resolve(&mut self, folder: &Path) {
        let MqttSourceSpec {
            password_file, tls, ..
        } = &mut self.mqtt;
        let SourceTlsSpec {
            ca,
            certificate,
            key,
        } = tls;
        for path in [password_file, ca, certificate, key].into_iter().flatten() {
            *path = folder.join(&path);
        }
    }

    fn check(&self, listeners: &[ListenerSpec]) -> Result<(), SpecError> {
        let refuse = |why: String| Err(SpecError::Source(self.name.clone(), why));
        let mqtt = &self.mqtt;
        if let Some(id) = &mqtt.client_id
            && (id.is_empty() || id.len() > CLIENT_ID_BYTES_MAX || id.contains('\0'))
        {
            return refuse(format!(
                "client_id must have 1 to {CLIENT_ID_BYTES_MAX} bytes"
            ));
        }
        if mqtt.password_file.is_some() && mqtt.user.is_none() {
            return refuse("password_file needs user".to_owned());
        }
        if mqtt.tls != SourceTlsSpec::default() && !mqtt.server.is_secure {
            return refuse("tls is for mqtts://: the server is mqtt://".to_owned());
        }
        if mqtt.server.is_secure && mqtt.server.host.contains(':') {
            return refuse("mqtts:// needs a name or an IPv4 address".to_owned());
        }
        if mqtt.tls.certificate.is_some() != mqtt.tls.key.is_some() {
            return refuse("tls: certificate and key go together".to_owned());
        }
        let [min, max] = SESSION_EXPIRY_RANGE;
        if !(min..=max).contains(&mqtt.session_expiry) {
            return refuse("session_expiry must lie between 1m and 136 years".to_owned());
        }
        if let Some(why) = super::spec::reconnect_refused(mqtt.reconnect_max) {
            return refuse(format!("reconnect_max {why}"));
        }
        if mqtt.subscribe.is_empty() || mqtt.subscribe.len() > SUBSCRIPTIONS_MAX {
            return refuse(format!(
                "subscribe must have 1 to {SUBSCRIPTIONS_MAX} entries"
            ));
        }
        let mut filters = BTreeSet::new();
        for subscription in &mqtt.subscribe {
            let filter = &subscription.filter;
            if let Some(why) = subscription.refused() {
                return refuse(format!("filter {:?}: {why}", filter.as_str()));
            }
            if !filters.insert(filter) {
                return refuse(format!("filter {:?} is there twice", filter.as_str()));
            }
        }
        if listeners.iter().any(|own| mqtt.server.is_own(own)) {
            return refuse("server is this node itself".to_owned());
        }
        Ok(())
    }
}

/// Each by itself, and all together.
pub(super) fn check(sources: &[SourceSpec], listeners: &[ListenerSpec]) -> Result<(), SpecError> {
    let mut names = BTreeSet::new();
    for source in sources {
        source.check(listeners)?;
        if !names.insert(&source.name) {
            let why = "two sources have this name".to_owned();
            return Err(SpecError::Source(source.name.clone(), why));
        }
        if names.len() > SOURCES_MAX {
            let why = format!("there are more than {SOURCES_MAX} sources");
            return Err(SpecError::Source(source.name.clone(), why));
        }
    }
    Ok(())
}

impl SourceSubscription {
    /// Why it can't be.
    fn refused(&self) -> Option<&'static str> {
        let filter = self.filter.as_str();
        let wild = |prefix: &str| prefix.contains(['+', '#', '\0']);
        match () {
            () if filter.starts_with("$share/") => Some(
                "a shared subscription is not for a source: who shares it would have part of the messages",
            ),
            () if self.qos == 2 => Some(
                "a source takes QoS 0 and 1: the broker then sends what was published with 2 as 1",
            ),
            () if self.qos > 2 => Some("qos is 0 or 1"),
            () if wild(&self.remote_prefix) || wild(&self.local_prefix) => {
                Some("a prefix has no + or #")
            }
            () if !filter.starts_with(&self.remote_prefix) => {
                Some("it does not begin with remote_prefix")
            }
            () if self.local_prefix.starts_with('$') => {
                Some("local_prefix begins with $: such topics have a meaning of their own here")
            }
            () if self.local_prefix.is_empty()
                && filter[self.remote_prefix.len()..].starts_with('$') =>
            {
                Some("topics that begin with $ need a local_prefix, such as 'plant/'")
            }
            () => None,
        }
    }

    /// The topic here of one that matches the filter.
    pub fn local_topic(&self, remote: &str) -> String {
        let rest = remote.strip_prefix(self.remote_prefix.as_str());
        format!("{}{}", self.local_prefix, rest.unwrap_or(remote))
    }
}

impl MqttServer {
    /// Whether this listener takes connections there, as far as the configuration tells.
    fn is_own(&self, listener: &ListenerSpec) -> bool {
        let ListenerAddress::Ip(address) = listener.address else {
            return false;
        };
        if listener.transport != Transport::Tcp || address.port() != self.port {
            return false;
        }
        match self.host.parse::<IpAddr>() {
            Ok(host) => host == address.ip() || address.ip().is_unspecified() && host.is_loopback(),
            Err(_) => {
                self.host == "localhost"
                    && (address.ip().is_loopback() || address.ip().is_unspecified())
            }
        }
    }
}

impl SourceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for MqttServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(formatter, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(formatter, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl TryFrom<String> for SourceName {
    type Error = SourceError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let is_fine = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        match !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_fine) {
            true => Ok(Self(name)),
            false => Err(SourceError::Name(name)),
        }
    }
}

impl FromStr for MqttServer {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What stands before a host may be a password.
        let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
        let refused = || SourceError::Server(shown.to_owned());
        let (rest, is_secure) = match (text.strip_prefix("mqtt://"), text.strip_prefix("mqtts://"))
        {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(refused()),
        };
        let (host, port) = match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, port))) => (host, port),
            Some(None) => return Err(refused()),
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(refused());
        }
        let port = match (port.strip_prefix(':'), port) {
            (Some(port), _) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(refused)?,
            (None, "") if is_secure => 8883,
            (None, "") => 1883,
            _ => return Err(refused()),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            is_secure,
        })
    }
}

impl TryFrom<String> for MqttServer {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// YAML may give 5 as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum VersionScalar {
    Number(u64),
    Text(String),
}

impl TryFrom<VersionScalar> for MqttVersion {
    type Error = SourceError;

    fn try_from(scalar: VersionScalar) -> Result<Self, Self::Error> {
        let text = match scalar {
            VersionScalar::Number(number) => number.to_string(),
            VersionScalar::Text(text) => text,
        };
        match text.as_str() {
            "5" | "5.0" => Ok(Self::V5),
            "3.1.1" => Ok(Self::V311),
            _ => Err(SourceError::Version(text)),
        }
    }
}

#[cfg(test)]
mod tests;
