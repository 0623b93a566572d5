//! Topic aliases on the wire: a client that allows them is sent each topic once, also what its session has
//! of the journal, and anew on each connection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use support::{Client, packet, publish, start, string};
use tempfile::tempdir;

/// MQTT 5, a session that stays for an hour, at most two aliases.
fn open(edge: SocketAddr) -> Client {
    let mut body = string(b"MQTT");
    body.extend(b"\x05\x00\x00\x00\x08\x11\x00\x00\x0e\x10\x22\x00\x02");
    body.extend(string(b"reader"));
    let mut client = Client::open(edge, &packet(0x10, &body));
    let (first, body) = client.packet();
    assert_eq!((first, body[1]), (0x20, 0));
    client
}

/// The topic and the alias of the next message, which it acknowledges.
fn next(client: &mut Client) -> (String, u8) {
    let (first, body) = client.packet();
    assert_eq!(first & 0xf6, 0x32, "a PUBLISH of QoS 1");
    let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8(body[2..end].to_vec()).unwrap();
    client.send(&packet(0x40, &body[end..end + 2]));
    assert_eq!(
        body[end + 2..end + 5],
        [3, 0x23, 0],
        "one property, the alias"
    );
    (topic, body[end + 5])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_topic_comes_once_on_each_connection() {
    let folder = tempdir().unwrap();
    let edge = start(folder.path(), "").await;
    let address = edge.mqtt_addresses()[0];
    let (mut publisher, _) = Client::connect(address, "publisher", true);
    let mut publishes = |topics: &[&str]| {
        for topic in topics {
            publisher.send(&publish(0x32, topic, 1, b"x"));
            assert_eq!(publisher.packet().0, 0x40);
        }
    };
    let mut reader = open(address);
    reader.send(&packet(0x82, b"\x00\x01\x00\x00\x01#\x01"));
    assert_eq!(reader.packet().0, 0x90);
    publishes(&["plant/1", "plant/1", "plant/2", "plant/1"]);
    let came = [(); 4].map(|()| next(&mut reader));
    let known = |alias| (String::new(), alias);
    let named = |topic: &str, alias| (topic.to_owned(), alias);
    let first = [named("plant/1", 1), known(1), named("plant/2", 2), known(1)];
    assert_eq!(came, first);
    reader.ping();
    drop(reader);
    let mut reader = open(address);
    publishes(&["plant/2", "plant/2"]);
    let came = [(); 2].map(|()| next(&mut reader));
    assert_eq!(came, [named("plant/2", 1), known(1)]);
    drop(reader);
    edge.shutdown().await;
}
