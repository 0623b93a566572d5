//! Where Kafka clients and people connect, in which wrapping, and whether they must say who they are.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::ensure;
use serde::Deserialize;
use tidegate_shared::fleet::TlsSpec;
use tidegate_shared::scram::Mechanism;

use super::{loopback, split_host_port};
use crate::kafka::sasl::SaslMechanism;

/// The listeners for Kafka clients. Most have one, which is said here; `listeners` says them all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Default: `127.0.0.1:9092`.
    pub address: SocketAddr,
    /// `host:port` as clients reach it. Default: the address that is listened on.
    pub advertised: Option<String>,
    /// TLS 1.2 and 1.3. Default: none.
    pub tls: Option<TlsSpec>,
    /// Default: `none`.
    pub authentication: KafkaAuthentication,
    /// What clients can prove themselves by. Default: SCRAM-SHA-512 and SCRAM-SHA-256, and with TLS PLAIN too.
    pub sasl_mechanisms: Option<Vec<SaslMechanism>>,
    /// Allows an address beyond loopback although nobody is authenticated. Default: false.
    pub insecure: bool,
    /// All listeners, in place of the one that the keys above say.
    pub listeners: Vec<KafkaListenerConfig>,
    /// Makes a topic that a client asks for and that is not there, with the default of partitions (Kafka's
    /// `auto.create.topics.enable`). Default: true.
    pub auto_create_topics: bool,
}

/// One listener for Kafka clients; what each key means stands at [`KafkaConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaListenerConfig {
    pub address: SocketAddr,
    #[serde(default)]
    pub advertised: Option<String>,
    #[serde(default)]
    pub tls: Option<TlsSpec>,
    #[serde(default)]
    pub authentication: KafkaAuthentication,
    #[serde(default)]
    pub sasl_mechanisms: Option<Vec<SaslMechanism>>,
    #[serde(default)]
    pub insecure: bool,
}

/// How Kafka clients say who they are, beside their certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KafkaAuthentication {
    /// They need not. Who has a certificate (`tls.client_ca`) is known by it.
    #[default]
    None,
    /// By SASL, as users of this cloud.
    Sasl,
}

/// The listener for health, metrics and administration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Default: `127.0.0.1:8080`.
    pub address: SocketAddr,
    /// TLS 1.2 and 1.3. Default: none.
    pub tls: Option<TlsSpec>,
    /// Default: `none`.
    pub authentication: HttpAuthentication,
    /// Allows an address beyond loopback although nobody is authenticated. Default: false.
    pub insecure: bool,
}

/// How who asks by HTTP says who they are, beside their certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpAuthentication {
    /// They need not; a token or password that they send must be right all the same.
    #[default]
    None,
    /// By a bearer token or a password, as users of this cloud. Only `/healthz` and `/readyz` are for all.
    Users,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            address: loopback(9092),
            advertised: None,
            tls: None,
            authentication: KafkaAuthentication::default(),
            sasl_mechanisms: None,
            insecure: false,
            listeners: Vec::new(),
            auto_create_topics: true,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            address: loopback(8080),
            tls: None,
            authentication: HttpAuthentication::default(),
            insecure: false,
        }
    }
}

impl KafkaConfig {
    /// All listeners, at least one.
    pub fn all_listeners(&self) -> Vec<KafkaListenerConfig> {
        match self.listeners.is_empty() {
            false => self.listeners.clone(),
            true => vec![self.lone_listener()],
        }
    }

    fn lone_listener(&self) -> KafkaListenerConfig {
        KafkaListenerConfig {
            address: self.address,
            advertised: self.advertised.clone(),
            tls: self.tls.clone(),
            authentication: self.authentication,
            sasl_mechanisms: self.sasl_mechanisms.clone(),
            insecure: self.insecure,
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        let own = self.tls.iter_mut();
        let others = self.listeners.iter_mut();
        let others = others.filter_map(|listener| listener.tls.as_mut());
        own.chain(others).for_each(|tls| tls.resolve(folder));
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.listeners.is_empty() || self.lone_listener() == Self::default().lone_listener(),
            "kafka has listeners, and keys of one beside them: put its address, advertised, tls, authentication, \
             sasl_mechanisms and insecure into the list"
        );
        let all = self.all_listeners();
        for (at, listener) in all.iter().enumerate() {
            let key = match self.listeners.is_empty() {
                true => "kafka".to_owned(),
                false => format!("kafka.listeners {}", listener.address),
            };
            listener.check(&key)?;
            let is_twice = all[..at]
                .iter()
                .any(|other| other.address == listener.address && listener.address.port() != 0);
            ensure!(!is_twice, "{key}: the address is there twice");
        }
        Ok(())
    }
}

impl KafkaListenerConfig {
    /// What clients can prove themselves by.
    pub fn mechanisms(&self) -> Vec<SaslMechanism> {
        let default = || {
            let mut mechanisms = vec![
                SaslMechanism::Scram(Mechanism::Sha512),
                SaslMechanism::Scram(Mechanism::Sha256),
            ];
            // Without TLS anybody on the way would read the password.
            mechanisms.extend(self.tls.is_some().then_some(SaslMechanism::Plain));
            mechanisms
        };
        self.sasl_mechanisms.clone().unwrap_or_else(default)
    }

    /// Whether passwords can go over the wire in clear.
    pub(crate) fn shows_passwords(&self) -> bool {
        let is_sasl = self.authentication == KafkaAuthentication::Sasl;
        is_sasl && self.tls.is_none() && self.mechanisms().contains(&SaslMechanism::Plain)
    }

    fn check(&self, key: &str) -> anyhow::Result<()> {
        let by_certificate = self.tls.as_ref().is_some_and(TlsSpec::authenticates);
        let is_sasl = self.authentication == KafkaAuthentication::Sasl;
        ensure!(
            self.insecure || self.address.ip().is_loopback() || is_sasl || by_certificate,
            "{key}.address {} can be reached from other machines, and clients are not \
             authenticated: listen on 127.0.0.1, add authentication: sasl or tls.client_ca, or set {key}.insecure: true",
            self.address
        );
        ensure!(
            is_sasl || self.sasl_mechanisms.is_none(),
            "{key} has sasl_mechanisms, and no SASL: add authentication: sasl, or leave them out"
        );
        ensure!(
            !self.mechanisms().is_empty(),
            "{key}.sasl_mechanisms is empty: leave it out, or name one"
        );
        check_client_ca(key, self.tls.as_ref())?;
        if let Some(advertised) = &self.advertised {
            split_host_port(advertised)?;
        }
        Ok(())
    }
}

impl HttpConfig {
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(tls) = &mut self.tls {
            tls.resolve(folder);
        }
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        let by_certificate = self.tls.as_ref().is_some_and(TlsSpec::authenticates);
        let by_users = self.authentication == HttpAuthentication::Users;
        ensure!(
            self.insecure || self.address.ip().is_loopback() || by_users || by_certificate,
            "http.address {} can be reached from other machines, and nobody is authenticated: listen on 127.0.0.1, \
             add authentication: users or tls.client_ca, or set http.insecure: true",
            self.address
        );
        check_client_ca("http", self.tls.as_ref())
    }
}

fn check_client_ca(key: &str, tls: Option<&TlsSpec>) -> anyhow::Result<()> {
    let asks = tls.is_some_and(|tls| tls.client_certificates != Default::default());
    let has_ca = tls.is_some_and(|tls| tls.client_ca.is_some());
    ensure!(
        has_ca || !asks,
        "{key}.tls has client_certificates, and no client_ca that they would be of"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const TLS: &str = "tls: {certificate: a, key: b}";

    fn refused(yaml: &str) -> String {
        format!("{:#}", Config::parse(yaml).unwrap_err())
    }

    #[test]
    fn the_old_keys_are_one_listener() {
        let config = Config::parse("kafka: {address: 127.0.0.1:1, advertised: 'a:2'}").unwrap();
        let [listener] = &config.kafka.all_listeners()[..] else {
            panic!("it is one");
        };
        assert_eq!(listener.address, loopback(1));
        assert_eq!(listener.advertised.as_deref(), Some("a:2"));
    }

    #[test]
    fn an_exposed_listener_knows_who_comes_or_says_insecure() {
        let address = "address: 0.0.0.0:9092";
        let error = refused(&format!("kafka: {{{address}}}"));
        assert!(error.contains("kafka.insecure: true"), "{error}");
        let error = refused(&format!("kafka: {{listeners: [{{{address}, {TLS}}}]}}"));
        assert!(error.contains("authentication: sasl"), "{error}");
        assert!(refused("http: {address: 0.0.0.0:1}").contains("authentication: users"));
        let requested = "client_ca: c, client_certificates: requested";
        refused(&format!(
            "kafka: {{{address}, tls: {{certificate: a, key: b, {requested}}}}}"
        ));
        for yaml in [
            format!("kafka: {{{address}, insecure: true}}"),
            format!("kafka: {{{address}, authentication: sasl}}"),
            format!("kafka: {{{address}, tls: {{certificate: a, key: b, client_ca: c}}}}"),
            format!(
                "kafka: {{listeners: [{{address: 127.0.0.1:9092}}, {{{address}, {TLS}, authentication: sasl}}]}}"
            ),
            format!("http: {{address: 0.0.0.0:1, {TLS}, authentication: users}}"),
        ] {
            assert!(Config::parse(&yaml).is_ok(), "{yaml}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let twice = "kafka: {listeners: [{address: 127.0.0.1:1}, {address: 127.0.0.1:1}]}";
        assert!(refused(twice).contains("twice"));
        let both = "kafka: {address: 127.0.0.1:2, listeners: [{address: 127.0.0.1:1}]}";
        assert!(refused(both).contains("put its address"));
        let no_sasl = "kafka: {sasl_mechanisms: [PLAIN]}";
        assert!(refused(no_sasl).contains("add authentication: sasl"));
        let unknown = "kafka: {authentication: sasl, sasl_mechanisms: [GSSAPI]}";
        assert!(refused(unknown).contains("SCRAM-SHA-512"));
        refused("kafka: {authentication: sasl, sasl_mechanisms: []}");
        let no_ca = "http: {tls: {certificate: a, key: b, client_certificates: requested}}";
        assert!(refused(no_ca).contains("client_ca"));
    }

    #[test]
    fn passwords_go_in_clear_only_where_that_is_said() {
        let of = |yaml: &str| Config::parse(yaml).unwrap().kafka.all_listeners().remove(0);
        let plain = of("kafka: {authentication: sasl}");
        assert!(!plain.mechanisms().contains(&SaslMechanism::Plain));
        assert!(!plain.shows_passwords());
        let tls = of(&format!("kafka: {{authentication: sasl, {TLS}}}"));
        assert!(tls.mechanisms().contains(&SaslMechanism::Plain) && !tls.shows_passwords());
        let said = of("kafka: {authentication: sasl, sasl_mechanisms: [PLAIN]}");
        assert!(said.shows_passwords());
    }
}
