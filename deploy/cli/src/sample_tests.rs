//! The sample YAML in `deploy/` must be what it says: readable, safe, and all defaults.

use std::net::{Ipv4Addr, SocketAddr};

use tidegate_shared::fleet::{EdgeSpec, ListenerAddress, Transport, parse_yaml, reconnect_max};

const EDGE: &str = include_str!("../../edge.yaml");

/// Turns on the settings that are turned off, `#key: value` or `#  key: value`; prose has one space
/// after its `#`.
fn switch_on(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let off = line.strip_prefix('#').filter(|rest| {
            let mut words = rest.split_whitespace();
            let word = words.find(|word| *word != "-").unwrap_or_default();
            word.ends_with(':') && (!rest.starts_with(' ') || rest.starts_with("  "))
        });
        off.unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_edge_sample_is_the_default_and_an_uplink() {
    let mut spec = parse_yaml::<EdgeSpec>(EDGE).unwrap();
    spec.check().unwrap();
    let uplink = spec.uplink.take().expect("a sample of an uplink");
    assert_eq!(uplink.cloud, "127.0.0.1:7443");
    assert_eq!(uplink.reconnect_max, reconnect_max());
    assert_eq!(spec, EdgeSpec::default());
}

#[test]
fn what_the_edge_sample_has_turned_off_can_be_turned_on() {
    let spec = parse_yaml::<EdgeSpec>(&switch_on(EDGE)).unwrap();
    spec.check().unwrap();
    assert!(!spec.streams.is_empty(), "the streams section is read");
    assert_eq!(spec.mqtt.listeners.len(), 7);
    for key in [
        "data",
        "mqtt",
        "listeners",
        "address",
        "insecure",
        "tls",
        "client_ca",
        "transport",
        "path",
        "proxy_protocol",
        "packet_bytes_max",
        "connections_max",
        "limits",
        "inflight_max",
        "bytes_per_second_max",
        "acl",
        "anonymous",
        "certificate_user",
        "failures_free",
        "jwt",
        "user_claim",
        "users",
        "keep_alive_max",
        "redirect",
        "permanent",
        "when",
        "http",
        "journal",
        "commit_linger",
        "commit_bytes_max",
        "bytes_max",
        "routes",
        "filter",
        "stream",
        "key",
        "streams",
        "topic",
        "compression",
        "uplink",
        "cloud",
        "certificate",
        "ca",
        "reconnect_max",
        "headers",
    ] {
        assert!(
            EDGE.contains(&format!("{key}:")),
            "edge.yaml does not show {key}"
        );
    }
}

/// `deploy/docs/mqtt-clients.md` has lines to paste that know the server's CA and have no certificate.
#[test]
fn the_edge_sample_has_the_listeners_that_clients_are_told_of() {
    let spec = parse_yaml::<EdgeSpec>(&switch_on(EDGE)).unwrap();
    for (port, has_tls, transport) in [
        (1883, false, Transport::Tcp),
        (8883, true, Transport::Tcp),
        (8083, false, Transport::Websocket),
        (8084, true, Transport::Websocket),
    ] {
        let mut listeners = spec.mqtt.listeners.iter();
        let told = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = listeners
            .find(|listener| listener.address == ListenerAddress::Ip(told))
            .unwrap_or_else(|| panic!("a listener on {told}"));
        assert_eq!(listener.transport, transport, "{told}");
        assert_eq!(listener.tls.is_some(), has_tls, "{told}");
        let client_ca = listener.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
        assert_eq!(client_ca, None, "{told}");
    }
}

#[cfg(feature = "up")]
#[test]
fn the_cloud_sample_is_the_default() {
    use tidegate_cloud::Config;
    const CLOUD: &str = include_str!("../../cloud.yaml");
    assert_eq!(Config::parse(CLOUD).unwrap(), Config::default());
    let on = Config::parse(&switch_on(CLOUD)).unwrap();
    assert!(on.kafka.advertised.is_some(), "advertised is shown");
    assert!(
        on.kafka.tls.is_some_and(|tls| tls.authenticates()),
        "tls is shown"
    );
    assert!(on.http.tls.is_some(), "tls is shown");
    for key in [
        "data",
        "kafka",
        "address",
        "insecure",
        "advertised",
        "authentication",
        "listeners",
        "bridge",
        "http",
        "topics",
        "name",
        "partitions",
    ] {
        assert!(
            CLOUD.contains(&format!("{key}:")),
            "cloud.yaml does not show {key}"
        );
    }
}
