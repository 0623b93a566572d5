//! The cloud's TCP listeners as they are bound, before anybody is served.

use std::io;
use std::net::SocketAddr;

use anyhow::anyhow;
use tokio::net::TcpListener;

use crate::config::{
    HttpAuthentication, HttpConfig, KafkaAuthentication, KafkaConfig, KafkaListenerConfig,
    split_host_port,
};
use crate::kafka;
use crate::tls::Tls;

/// A listener for Kafka clients that is bound, and what it is to be.
pub(crate) struct KafkaListener {
    pub(crate) listener: TcpListener,
    /// With the port that was given.
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Tls>,
    config: KafkaListenerConfig,
}

impl KafkaListener {
    pub(crate) async fn bind_all(config: &KafkaConfig) -> anyhow::Result<Vec<Self>> {
        let mut listeners = Vec::new();
        for config in config.all_listeners() {
            let tls = Tls::load(config.tls.as_ref(), "kafka", &[])?;
            let listener = bind("kafka", config.address).await?;
            let address = listener.local_addr()?;
            if config.shows_passwords() {
                tracing::warn!(
                    %address,
                    "kafka: SASL PLAIN without TLS: anybody on the way can read passwords; add tls, or leave PLAIN out of sasl_mechanisms"
                );
            }
            listeners.push(Self {
                listener,
                address,
                tls,
                config,
            });
        }
        Ok(listeners)
    }

    /// What its connections need beside what all share.
    pub(crate) fn context(&self, shared: &kafka::Context) -> anyhow::Result<kafka::Context> {
        let (advertised_host, advertised_port) = match &self.config.advertised {
            Some(advertised) => split_host_port(advertised)?,
            None => (self.address.ip().to_string(), self.address.port()),
        };
        let is_sasl = self.config.authentication == KafkaAuthentication::Sasl;
        let gate = is_sasl.then(|| kafka::Gate {
            mechanisms: self.config.mechanisms().into(),
        });
        Ok(kafka::Context {
            advertised_host,
            advertised_port,
            gate,
            ..shared.clone()
        })
    }
}

/// Tells where tokens and passwords go over the wire in clear.
pub(crate) fn warn_of_http(config: &HttpConfig) {
    let knows_users = config.authentication == HttpAuthentication::Users;
    if knows_users && config.tls.is_none() && !config.address.ip().is_loopback() {
        tracing::warn!(
            address = %config.address,
            "http: users without TLS: anybody on the way can read tokens and passwords; add tls"
        );
    }
}

pub(crate) async fn bind(listener: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => anyhow!(
                "port {} is in use on {}: stop what listens there, or set {listener}.address",
                address.port(),
                address.ip()
            ),
            _ => anyhow!("cannot listen on {address} ({listener}.address): {error}"),
        })
}
