//! The command line, parsed into types. Flag beats environment beats default.

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::acl::AclArguments;
use crate::cloud::CloudArguments;
use crate::edge::EdgeArguments;
use crate::group::GroupArguments;
use crate::offsets::OffsetsArguments;
use crate::topic::TopicArguments;
use crate::user::UserArguments;
use crate::whereabouts::WhereArguments;

#[cfg(feature = "up")]
use std::{net::SocketAddr, path::PathBuf};
#[cfg(feature = "up")]
use tidegate_cloud::config::WalConfig;

/// What clap says when only `tidegate` was typed: the help.
pub(crate) const NOTHING_ASKED: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Tidegate: messages from devices at the edge to Kafka clients in the cloud, over links that come
/// and go.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole product on this machine: a cloud and one edge, in this process.
    #[cfg(feature = "up")]
    Up(Box<UpArguments>),
    /// Where a message of an edge is: journalled, waiting and for what, landed, read, or lost
    Where(Box<WhereArguments>),
    /// Kafka's offsets and the edges', from one to the other
    Offsets(OffsetsArguments),
    /// The edges that the cloud knows
    Edge(EdgeArguments),
    /// The topics of the cloud
    Topic(TopicArguments),
    /// The consumer groups of the cloud
    Group(GroupArguments),
    /// Who may come in to Kafka and HTTP
    User(UserArguments),
    /// Who may do what in the cloud
    Acl(Box<AclArguments>),
    /// The cloud's own state
    Cloud(CloudArguments),
}

/// What `tidegate up` can be told.
#[cfg(feature = "up")]
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct UpArguments {
    /// Publish this host's own readings (load, memory, disks, network, temperatures) each second,
    /// and count them on their way
    #[arg(long)]
    pub(crate) demo: bool,
    /// The folder that keeps everything
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./tidegate-data",
        env = "TIDEGATE_DATA"
    )]
    pub(crate) data: PathBuf,
    /// Where the cloud's segments lie: file:///…, s3://bucket/prefix, memory://; a folder of the data
    /// folder where it is left out
    #[arg(long, value_name = "URL", env = "TIDEGATE_CLOUD_OBJECT_STORE")]
    pub(crate) object_store: Option<String>,
    /// What makes durable what lands in the cloud: local (an fsync in the data folder) or object (a PUT to
    /// the object store)
    #[arg(
        long,
        value_name = "WAL",
        default_value = "local",
        env = "TIDEGATE_CLOUD_WAL"
    )]
    pub(crate) wal: WalConfig,
    /// Where devices connect by MQTT
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883", value_parser = address)]
    pub(crate) mqtt: SocketAddr,
    /// Where Kafka clients connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092", value_parser = address)]
    pub(crate) kafka: SocketAddr,
    /// The address that Kafka clients are told to use; the one of --kafka where it is left out
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    pub(crate) kafka_advertised: Option<String>,
    /// Where edges reach the cloud by QUIC (UDP)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443", value_parser = address)]
    pub(crate) bridge: SocketAddr,
    /// The cloud's health and metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub(crate) http: SocketAddr,
    /// The edge's health and metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081", value_parser = address)]
    pub(crate) edge_http: SocketAddr,
    /// Allow addresses beyond loopback for MQTT, Kafka and HTTP, although nobody is authenticated
    /// there
    #[arg(long)]
    pub(crate) insecure: bool,
    /// What is logged to stderr: error, warn, info, debug, trace, or a filter such as
    /// tidegate_edge=debug
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "warn",
        env = "TIDEGATE_LOG"
    )]
    pub(crate) log: String,
}

#[cfg(feature = "up")]
fn address(value: &str) -> Result<SocketAddr, String> {
    let parsed = value.parse();
    parsed.map_err(|_| "give an IP address and a port, such as 127.0.0.1:1883".to_owned())
}

#[cfg(feature = "up")]
fn host_port(value: &str) -> Result<String, String> {
    let parsed = value
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()));
    match parsed {
        Some((host, Ok(1..))) if !host.is_empty() => Ok(value.to_owned()),
        _ => Err("give a host and a port, such as kafka.example.com:9092".to_owned()),
    }
}

/// clap's message without its usage and its heading: what is wrong, what was perhaps meant, and
/// where help is.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let kept = text.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let mut line = String::new();
    for part in kept {
        let part = part.strip_prefix("error: ").unwrap_or(part);
        let part = part.strip_prefix("tip: ").unwrap_or(part);
        if !line.is_empty() {
            line.push_str(if line.ends_with(':') { " " } else { "; " });
        }
        line.push_str(part);
    }
    line.push_str(" (see tidegate --help)");
    line
}

#[cfg(all(test, feature = "up"))]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<UpArguments, String> {
        let words = std::iter::once("tidegate").chain(line.split_whitespace());
        match Arguments::try_parse_from(words) {
            Ok(Arguments {
                command: Command::Up(up),
            }) => Ok(*up),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(one_line(&error)),
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ports_on_loopback() {
        let up = parse("up").unwrap();
        let ports = [up.mqtt, up.kafka, up.bridge, up.http, up.edge_http];
        assert!(ports.iter().all(|address| address.ip().is_loopback()));
        assert_eq!(
            ports.map(|address| address.port()),
            [1883, 9092, 7443, 8080, 8081]
        );
        assert_eq!(up.data, PathBuf::from("./tidegate-data"));
        assert_eq!(
            (up.demo, up.insecure, up.log.as_str()),
            (false, false, "warn")
        );
    }

    #[test]
    fn every_flag_is_taken() {
        let up = parse(
            "up --demo --data /tmp/x --mqtt [::1]:1 --kafka 127.0.0.1:2 --kafka-advertised k:3 \
             --bridge 127.0.0.1:4 --http 127.0.0.1:5 --edge-http 127.0.0.1:6 --log info",
        )
        .unwrap();
        assert!(up.demo && up.mqtt.is_ipv6());
        assert_eq!(up.kafka_advertised.as_deref(), Some("k:3"));
        assert_eq!(up.edge_http.port(), 6);
    }

    #[test]
    fn a_mistake_is_one_line_that_says_what_to_do() {
        let bad = parse("up --mqtt nowhere").unwrap_err();
        assert!(bad.contains("nowhere") && bad.contains("--mqtt"), "{bad}");
        assert!(bad.contains("such as 127.0.0.1:1883"), "{bad}");
        let bad = parse("up --kafka-advertised kafka").unwrap_err();
        assert!(bad.contains("kafka.example.com:9092"), "{bad}");
        let unknown = parse("up --demmo").unwrap_err();
        assert!(
            unknown.contains("--demmo") && unknown.contains("--demo"),
            "{unknown}"
        );
        for line in [bad, unknown, parse("down").unwrap_err()] {
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn the_command_line_is_whole() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
