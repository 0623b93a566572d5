//! What `up` says once everything answers: where things are, and two lines to paste.

use std::net::SocketAddr;
use std::path::PathBuf;

use tidegate_shared::id::EdgeId;

use super::node::{TOPIC, reachable};
use crate::terminal::Terminal;

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) edge: EdgeId,
    pub(super) mqtt: SocketAddr,
    pub(super) kafka: SocketAddr,
    pub(super) kafka_advertised: Option<String>,
    pub(super) bridge: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) edge_http: SocketAddr,
    pub(super) data: PathBuf,
}

pub(super) fn text(places: &Places, terminal: &Terminal) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let kafka = match &places.kafka_advertised {
        Some(advertised) => format!("consumers read here; they are sent to {advertised}"),
        None => "consumers read here".to_owned(),
    };
    let rows = [
        (
            "MQTT",
            places.mqtt.to_string(),
            "devices publish here".to_owned(),
        ),
        ("Kafka", places.kafka.to_string(), kafka),
        (
            "Bridge",
            places.bridge.to_string(),
            format!("edge {} to cloud, QUIC with mutual TLS", places.edge),
        ),
        (
            "HTTP",
            places.http.to_string(),
            "the cloud's /healthz and /metrics".to_owned(),
        ),
        (
            "HTTP",
            places.edge_http.to_string(),
            "the edge's".to_owned(),
        ),
    ];
    let width = rows.iter().map(|(_, address, _)| address.len()).max();
    let width = width.unwrap_or_default();
    let mut lines = vec![
        terminal.bold(&format!("Tidegate {version} is up: a cloud and one edge")),
        String::new(),
    ];
    for (name, address, note) in rows {
        let note = terminal.dim(&note);
        lines.push(format!("  {name:<8}{address:<width$}  {note}"));
    }
    lines.push(format!("  {:<8}{}", "Data", places.data.display()));
    let (publish, consume) = (publish_line(places), consume_line(places));
    lines.extend([
        String::new(),
        "Publish, and read it back (paste into other terminals):".to_owned(),
        format!("  {}", terminal.bold(&publish)),
        format!("  {}", terminal.bold(&consume)),
        String::new(),
        terminal.dim("Ctrl-C stops; everything is kept."),
    ]);
    lines.join("\n")
}

fn publish_line(places: &Places) -> String {
    let address = reachable(places.mqtt);
    let (host, port) = (address.ip(), address.port());
    format!("mosquitto_pub -h {host} -p {port} -q 1 -t plant/line1/temperature -m 21.5")
}

fn consume_line(places: &Places) -> String {
    let address = reachable(places.kafka);
    format!("kcat -b {address} -t {TOPIC} -C -o beginning -f '%p %o %k = %s\\n'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mqtt: &str, kafka: &str) -> Places {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Places {
            edge: EdgeId::new("plant-7").unwrap(),
            mqtt: mqtt.parse().unwrap(),
            kafka: kafka.parse().unwrap(),
            kafka_advertised: None,
            bridge: loopback(7443),
            http: loopback(8080),
            edge_http: loopback(8081),
            data: "./tidegate-data".into(),
        }
    }

    #[test]
    fn the_lines_to_paste_have_the_real_ports() {
        let places = places("0.0.0.0:11883", "127.0.0.1:19092");
        assert_eq!(
            publish_line(&places),
            "mosquitto_pub -h 127.0.0.1 -p 11883 -q 1 -t plant/line1/temperature -m 21.5"
        );
        assert_eq!(
            consume_line(&places),
            r"kcat -b 127.0.0.1:19092 -t telemetry -C -o beginning -f '%p %o %k = %s\n'"
        );
    }

    #[test]
    fn it_is_short_and_aligned() {
        let text = text(&places("[::1]:1883", "127.0.0.1:9092"), &Terminal::new());
        assert!(text.lines().count() <= 15, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        let column = |word: &str| text.lines().find_map(|line| line.find(word)).unwrap();
        assert_eq!(
            column("devices publish"),
            column("consumers read"),
            "{text}"
        );
    }
}
