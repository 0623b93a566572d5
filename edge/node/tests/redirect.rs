//! A node that sends its clients to another: when they come, or when it stops. And the keep alive that it
//! tells them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::{Client, packet, spec, string};
use tempfile::tempdir;
use tidegate_edge::Edge;
use tidegate_shared::fleet::{RedirectSpec, RedirectWhen, Span};

/// CONNECT of this level; a keep alive of 600 s.
fn connect(level: u8, client_id: &str) -> Vec<u8> {
    let mut body = string(b"MQTT");
    body.extend([level, 2, 0x02, 0x58]);
    if level == 5 {
        body.push(0);
    }
    body.extend(string(client_id.as_bytes()));
    packet(0x10, &body)
}

fn redirect(when: RedirectWhen) -> RedirectSpec {
    RedirectSpec {
        server: "b:1".to_owned(),
        permanent: when == RedirectWhen::Always,
        when,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_new_is_taken_and_all_are_told_where_to_go() {
    let folder = tempdir().unwrap();
    let mut spec = spec(folder.path(), "");
    spec.mqtt.redirect = Some(redirect(RedirectWhen::Always));
    let edge = Edge::start(spec).await.unwrap();
    let address = edge.mqtt_addresses()[0];
    let answer = Client::open(address, &connect(5, "five")).packet();
    assert_eq!(answer, (0x20, b"\x00\x9d\x06\x1c\x00\x03b:1".to_vec()));
    let answer = Client::open(address, &connect(4, "four")).packet();
    assert_eq!(answer, (0x20, vec![0, 3]));
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_at_the_end_is_told_where_to_go() {
    let folder = tempdir().unwrap();
    let mut spec = spec(folder.path(), "");
    spec.mqtt.redirect = Some(redirect(RedirectWhen::Shutdown));
    spec.mqtt.keep_alive_max = Some(Span(Duration::from_secs(300)));
    let edge = Edge::start(spec).await.unwrap();
    let mut client = Client::open(edge.mqtt_addresses()[0], &connect(5, "five"));
    let (first, body) = client.packet();
    assert_eq!((first, body[1]), (0x20, 0));
    // [MQTT-3.2.2-21]: Server Keep Alive
    assert!(
        body.windows(3).any(|part| part == b"\x13\x01\x2c"),
        "{body:02x?}"
    );
    edge.shutdown().await;
    let farewell = client.packet();
    assert_eq!(farewell, (0xe0, b"\x9c\x06\x1c\x00\x03b:1".to_vec()));
}
