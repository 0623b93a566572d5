//! The cloud node's YAML file: parsed once, into types with their defaults.

mod authorization;
mod listeners;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tidegate_cloud_protocol::acls::Policy;
use tidegate_shared::fleet::{ByteSize, Span, parse_yaml};
use tidegate_shared::id::TopicName;

pub use crate::kafka::sasl::SaslMechanism;
use crate::limits::{
    LOG_LINGER, LOG_LINGER_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, TOPIC_PARTITIONS_DEFAULT,
    TOPIC_PARTITIONS_MAX,
};
use crate::store::StoreUrl;
pub use listeners::{
    HttpAuthentication, HttpConfig, KafkaAuthentication, KafkaConfig, KafkaListenerConfig,
};

pub use authorization::AuthorizationConfig;

/// `cloud.yaml`. Every key can be left out; one that is not known is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder that holds everything. Default: `tidegate-cloud`.
    pub data: PathBuf,
    pub kafka: KafkaConfig,
    pub bridge: BridgeConfig,
    pub http: HttpConfig,
    pub authorization: AuthorizationConfig,
    /// Where segments lie, as a URL: `file:///…`, `s3://bucket/prefix`, `memory://`. Default: the folder
    /// `objects` in `data`.
    pub object_store: Option<String>,
    /// What makes what lands durable. Default: `local`.
    pub wal: WalConfig,
    /// With `wal: object`: what comes after an object of the log is gathered for so long into the next one.
    /// Default: 250ms.
    pub wal_linger: Span,
    pub pack: PackConfig,
    /// How long an object stays after another has taken its place; a copy of `data` can be restored for so
    /// long. Default: 1h.
    pub restore_window: Span,
    /// Topics made at the start where they are missing. Default: `telemetry` with 12 partitions.
    pub topics: Vec<TopicConfig>,
}

/// What makes what lands durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalConfig {
    /// An fsync of a file in `data`.
    #[default]
    Local,
    /// A PUT to the object store: no disk of this machine holds anything that is needed.
    Object,
}

impl FromStr for WalConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Local),
            "object" => Ok(Self::Object),
            _ => Err(format!("wal is {text:?}; local and object are possible")),
        }
    }
}

/// The listener for edges (QUIC).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BridgeConfig {
    /// Default: `127.0.0.1:7443`. Any address will do: edges are known by their certificates.
    pub address: SocketAddr,
}

/// When what has landed is packed into segments.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PackConfig {
    /// Once it has lain so long. Default: 60s.
    pub max_age: Span,
    /// Once a partition has so much; no segment is larger. Default: 64MiB.
    pub segment_size: ByteSize,
}

/// A topic made at the start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    pub name: TopicName,
    /// Default: 12.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// Where its segments lie, as a URL; the topic's `storage.url`. Default: where those of others lie.
    #[serde(default)]
    pub object_store: Option<String>,
}

impl TopicConfig {
    /// As the topic's `storage.url` shows it.
    pub(crate) fn store_url(&self) -> anyhow::Result<Option<String>> {
        let Some(url) = &self.object_store else {
            return Ok(None);
        };
        let url = url.parse::<StoreUrl>();
        let url = url.with_context(|| format!("object_store of topic {}", self.name))?;
        ensure!(
            !url.is_memory(),
            "object_store of topic {} is memory://, and what it has there would be gone with the process: name a folder or a bucket",
            self.name
        );
        Ok(Some(url.absolute()))
    }
}

fn default_partitions() -> u32 {
    TOPIC_PARTITIONS_DEFAULT
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Default for Config {
    fn default() -> Self {
        let name = TopicName::new("telemetry").expect("it is a name");
        Self {
            data: PathBuf::from("tidegate-cloud"),
            kafka: KafkaConfig::default(),
            bridge: BridgeConfig::default(),
            http: HttpConfig::default(),
            authorization: AuthorizationConfig::default(),
            object_store: None,
            wal: WalConfig::default(),
            wal_linger: Span(LOG_LINGER),
            pack: PackConfig::default(),
            restore_window: Span(Duration::from_secs(3_600)),
            topics: vec![TopicConfig {
                name,
                partitions: default_partitions(),
                object_store: None,
            }],
        }
    }
}

impl Default for PackConfig {
    fn default() -> Self {
        Self {
            max_age: Span(Duration::from_secs(60)),
            segment_size: ByteSize(64 << 20),
        }
    }
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            address: loopback(7443),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// With the file's path, and the line where the YAML is at fault.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let config = Self::parse(&text).with_context(|| format!("{}", path.display()));
        let mut config = config?;
        // Relative paths of certificates start at the file's folder.
        let folder = path.parent().unwrap_or(Path::new(""));
        config.kafka.resolve(folder);
        config.http.resolve(folder);
        Ok(config)
    }

    /// Reads and checks YAML.
    pub fn parse(yaml: &str) -> anyhow::Result<Self> {
        let config: Self = parse_yaml(yaml)?;
        config.check()?;
        Ok(config)
    }

    /// What holds beside the rules about who may do what.
    pub fn policy(&self) -> Policy {
        self.authorization.policy(self.authenticates())
    }

    /// Whether any listener knows who its clients are.
    fn authenticates(&self) -> bool {
        let mut listeners = self.kafka.all_listeners().into_iter();
        let is_known = |one: KafkaListenerConfig| {
            let has_ca = one.tls.is_some_and(|tls| tls.client_ca.is_some());
            has_ca || one.authentication == KafkaAuthentication::Sasl
        };
        listeners.any(is_known) || self.http.authentication == HttpAuthentication::Users
    }

    /// Where the CA and the hub's certificate lie.
    pub fn tls_folder(&self) -> PathBuf {
        self.data.join("tls")
    }

    /// The object store that is meant.
    ///
    /// # Errors
    /// The URL is none, or of a kind that this build does not have.
    pub fn store_url(&self) -> anyhow::Result<StoreUrl> {
        match &self.object_store {
            Some(url) => url.parse().context("object_store"),
            None => {
                let folder = std::path::absolute(self.data.join("objects"))?;
                Ok(StoreUrl::folder(&folder))
            }
        }
    }

    /// Refuses what cannot work or would be unsafe.
    pub fn check(&self) -> anyhow::Result<()> {
        self.kafka.check()?;
        self.http.check()?;
        self.authorization.check()?;
        self.store_url()?;
        ensure!(
            self.wal_linger.0 <= LOG_LINGER_MAX,
            "wal_linger is {:?}; {LOG_LINGER_MAX:?} at most is possible",
            self.wal_linger.0
        );
        ensure!(
            (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.pack.segment_size.0),
            "pack.segment_size is {} bytes; {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} are possible",
            self.pack.segment_size.0
        );
        for topic in &self.topics {
            topic.store_url()?;
            ensure!(
                (1..=TOPIC_PARTITIONS_MAX).contains(&topic.partitions),
                "topic {} has {} partitions; 1 to {TOPIC_PARTITIONS_MAX} are possible",
                topic.name,
                topic.partitions
            );
        }
        Ok(())
    }
}

/// Takes `host:port` apart; an IPv6 host stands in brackets.
pub(crate) fn split_host_port(value: &str) -> anyhow::Result<(String, u16)> {
    let parsed = value.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((host.to_owned(), port.parse().ok()?))
    });
    match parsed {
        Some((host, port)) if !host.is_empty() && port != 0 => Ok((host, port)),
        _ => bail!("kafka.advertised {value:?} is not host:port, such as kafka.example.com:9092"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("{}").unwrap(), Config::default());
        let config = Config::parse("topics: [{name: a}, {name: b, partitions: 3}]").unwrap();
        assert_eq!(config.topics[0].partitions, 12);
        assert_eq!(config.topics[1].partitions, 3);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = Config::parse("data: /tmp/x\nkafka:\n  adress: 127.0.0.1:1\n").unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("adress") && text.contains('3'), "{text}");
    }

    #[test]
    fn partitions_and_advertised_are_checked() {
        assert!(Config::parse("topics: [{name: a, partitions: 0}]").is_err());
        assert!(Config::parse("topics: [{name: a/b}]").is_err());
        assert!(Config::parse("kafka: {advertised: nowhere}").is_err());
        assert_eq!(split_host_port("[::1]:9092").unwrap(), ("::1".into(), 9092));
    }
}
