//! The two nodes of `up`, started in their order and ended in the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, anyhow};
use sysinfo::System;
use tidegate_cloud::config::{BridgeConfig, HttpConfig, KafkaConfig};
use tidegate_cloud::{Cloud, Config};
use tidegate_edge::Edge;
use tidegate_shared::fleet::{
    EdgeSpec, HttpSpec, ListenerSpec, MqttSpec, UplinkSpec, reconnect_max,
};
use tidegate_shared::id::{EdgeId, TopicName};

use super::banner::Places;
use super::identity;
use crate::arguments::UpArguments;
use crate::kafka_client::{Consumer, StartAt};

/// The topic in which everything lands without a configuration.
pub(crate) const TOPIC: &str = "telemetry";

/// A running cloud and its edge.
#[derive(Debug)]
pub(crate) struct Node {
    cloud: Cloud,
    edge: Edge,
    edge_id: EdgeId,
    host: String,
    demo_consumer: Option<Consumer>,
}

impl Node {
    /// Starts both.
    ///
    /// # Errors
    /// As one line, with what to do about it.
    pub(crate) async fn start(arguments: &UpArguments) -> anyhow::Result<Self> {
        let config = cloud_config(arguments);
        let cloud_tls = config.tls_folder();
        let cloud = Box::pin(Cloud::start(config)).await?;
        let host = System::host_name().unwrap_or_default();
        let edge_tls = arguments.data.join("edge").join("tls");
        let (edge_id, files) = identity::ensure(&cloud_tls, &edge_tls, &host)?;
        // Before the edge has a chance to land anything: what lands from now on is counted.
        let demo_consumer = match arguments.demo {
            true => Some(demo_consumer(reachable(cloud.kafka_address())).await?),
            false => None,
        };
        let uplink = UplinkSpec {
            cloud: reachable(cloud.bridge_address()).to_string(),
            certificate: files.certificate,
            key: files.key,
            ca: files.ca,
            reconnect_max: reconnect_max(),
        };
        let edge = Box::pin(Edge::start(edge_spec(arguments, uplink))).await?;
        Ok(Self {
            cloud,
            edge,
            edge_id,
            host,
            demo_consumer,
        })
    }

    pub(crate) fn take_demo_consumer(&mut self) -> Option<Consumer> {
        self.demo_consumer.take()
    }

    /// What the demo calls this machine in its topics.
    pub(crate) fn host(&self) -> &str {
        match self.host.is_empty() {
            true => self.edge_id.as_str(),
            false => &self.host,
        }
    }

    pub(crate) fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Where a client on this machine finds the edge.
    pub(crate) fn mqtt(&self) -> anyhow::Result<SocketAddr> {
        let first = self.edge.mqtt_addresses().into_iter().next();
        first.map(reachable).context("the edge has no listener")
    }

    #[cfg(test)]
    pub(crate) fn kafka(&self) -> SocketAddr {
        reachable(self.cloud.kafka_address())
    }

    /// Where everything is, with the ports that were given where a flag said 0.
    pub(super) fn places(&self, arguments: &UpArguments) -> Places {
        Places {
            edge: self.edge_id.clone(),
            mqtt: self
                .edge
                .mqtt_addresses()
                .first()
                .copied()
                .unwrap_or(arguments.mqtt),
            kafka: self.cloud.kafka_address(),
            kafka_advertised: arguments.kafka_advertised.clone(),
            bridge: self.cloud.bridge_address(),
            http: self.cloud.http_address(),
            edge_http: self.edge.http_address(),
            data: arguments.data.clone(),
        }
    }

    /// Returns when one of the two cannot go on, with the reason.
    pub(crate) async fn failed(&self) -> String {
        tokio::select! {
            reason = self.edge.failed() => format!("the edge: {reason}"),
            reason = self.cloud.failed() => format!("the cloud: {reason}"),
        }
    }

    /// The edge first, so that it can say goodbye to the hub.
    pub(crate) async fn shutdown(self) {
        Box::pin(self.edge.shutdown()).await;
        Box::pin(self.cloud.shutdown()).await;
    }
}

async fn demo_consumer(kafka: SocketAddr) -> anyhow::Result<Consumer> {
    let topic = TopicName::new(TOPIC).context("the demo's topic")?;
    let connected = Consumer::connect(kafka, topic, StartAt::End).await;
    connected.map_err(|error| anyhow!("the demo's consumer: {error}"))
}

fn cloud_config(arguments: &UpArguments) -> Config {
    Config {
        data: arguments.data.join("cloud"),
        kafka: KafkaConfig {
            address: arguments.kafka,
            advertised: arguments.kafka_advertised.clone(),
            insecure: arguments.insecure,
            ..KafkaConfig::default()
        },
        bridge: BridgeConfig {
            address: arguments.bridge,
        },
        http: HttpConfig {
            address: arguments.http,
            insecure: arguments.insecure,
            ..HttpConfig::default()
        },
        object_store: arguments.object_store.clone(),
        wal: arguments.wal,
        ..Config::default()
    }
}

fn edge_spec(arguments: &UpArguments, uplink: UplinkSpec) -> EdgeSpec {
    EdgeSpec {
        data: arguments.data.join("edge"),
        mqtt: MqttSpec {
            listeners: vec![ListenerSpec::tcp(arguments.mqtt, arguments.insecure)],
            ..MqttSpec::default()
        },
        http: HttpSpec {
            address: arguments.edge_http,
            insecure: arguments.insecure,
        },
        uplink: Some(uplink),
        ..EdgeSpec::default()
    }
}

/// An address to connect to on this machine: "all addresses" is none.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
