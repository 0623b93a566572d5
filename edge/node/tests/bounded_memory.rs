//! What clients can make the node hold: messages are counted with all that they carry, and what is kept of
//! them waits for room as records do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::net::SocketAddr;

use support::{Client, metric, packet, start, string, wait_until};

/// "At most 64 MiB above idle".
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// MQTT 5, a clean session.
fn connect5(edge: SocketAddr, client_id: &str) -> Client {
    let mut body = string(b"MQTT");
    body.extend([5, 2, 0, 0, 0]);
    body.extend(string(client_id.as_bytes()));
    let mut client = Client::open(edge, &packet(0x10, &body));
    assert_eq!(client.packet().0, 0x20);
    client
}

/// A PUBLISH of QoS 0 with a payload of one byte, and four user properties of 65,000 bytes.
fn heavy(first: u8, topic: &str) -> Vec<u8> {
    let value = vec![b'x'; 65_000];
    let mut properties = Vec::new();
    for _ in 0..4 {
        properties.push(0x26);
        properties.extend(string(b"n"));
        properties.extend(string(&value));
    }
    let mut body = string(topic.as_bytes());
    let mut length = properties.len();
    while length >= 0x80 {
        body.push((length % 0x80) as u8 | 0x80);
        length /= 0x80;
    }
    body.push(length as u8);
    body.extend(properties);
    // Without a payload a retained message would be taken away.
    body.push(b'1');
    packet(first, &body)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB").trim();
    kib.parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn properties_count_where_messages_wait_and_where_they_are_retained() {
    let folder = tempfile::tempdir().unwrap();
    let edge = start(folder.path(), "routes: []\n").await;
    let (mqtt, http) = (edge.mqtt_addresses()[0], edge.http_address());
    let measured = tokio::task::spawn_blocking(move || {
        let before = resident_bytes();
        // Never reads.
        let mut stuck = connect5(mqtt, "stuck");
        stuck.send(&packet(0x82, b"\x00\x01\x00\x00\x03a/#\x00"));
        assert_eq!(stuck.packet().0, 0x90);
        let mut publisher = connect5(mqtt, "publisher");
        for _ in 0..1_500 {
            publisher.0.write_all(&heavy(0x30, "a/b")).unwrap();
        }
        publisher.ping();
        wait_until("some are dropped", || {
            metric(http, "tidegate_mqtt_messages_dropped_total") > 0
        });
        // Each on a topic of its own: past the bound they are not retained.
        for topic in 0..1_500 {
            let topic = format!("r/{topic}");
            publisher.0.write_all(&heavy(0x31, &topic)).unwrap();
        }
        publisher.ping();
        let retained = metric(http, "tidegate_mqtt_retained_messages ");
        (resident_bytes().saturating_sub(before), retained)
    });
    let (grown, retained) = measured.await.unwrap();
    assert!(retained < 300, "{retained} messages of 260 kB are retained");
    // What is retained has a bound of its own, 64 MiB.
    assert!(
        grown < 3 * GROWTH_BYTES_MAX,
        "{} MiB more than before",
        grown >> 20
    );
    edge.shutdown().await;
}
