//! A will that a full journal has no space for is kept when its client's session has ended, over a restart
//! too, and comes once there is space.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{Client, DEADLINE, metric, packet, start, string, subscribe, wait_until};

const FILLING_BYTES: usize = 256 << 10;
const SMALL_BYTES: usize = 16 << 10;
/// More than what still fits in when `SMALL_BYTES` do not.
const WILL_BYTES: usize = 60_000;
/// No checkpoint frees anything any more.
const FULL_FOR: Duration = Duration::from_secs(3);
const SESSIONS: &str = "tidegate_mqtt_sessions ";
const ONLINE: &str = "tidegate_mqtt_clients_online ";

/// What does not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = bytes as u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes / 8).flat_map(step).collect()
}

/// MQTT 5, with a will or without.
fn connect(mqtt: SocketAddr, client_id: &str, will: Option<&[u8]>) -> Client {
    let mut body = string(b"MQTT");
    body.extend([5, if will.is_some() { 0x0e } else { 0x02 }, 0, 0, 0]);
    body.extend(string(client_id.as_bytes()));
    if let Some(payload) = will {
        body.push(0);
        body.extend(string(b"will"));
        body.extend(string(payload));
    }
    let mut client = Client::open(mqtt, &packet(0x10, &body));
    let (first, answer) = client.packet();
    assert_eq!((first, answer[1]), (0x20, 0));
    client
}

fn is_taken(client: &mut Client, payload: &[u8]) -> bool {
    let body = [&string(b"filling")[..], b"\0\x01\0", payload].concat();
    client.send(&packet(0x32, &body));
    let (first, answer) = client.packet();
    assert_eq!(first, 0x40);
    answer.get(2).is_none_or(|code| *code < 0x80)
}

fn fill(mqtt: SocketAddr) {
    let mut client = connect(mqtt, "filling", None);
    let (large, small) = (noise(FILLING_BYTES), noise(SMALL_BYTES));
    while is_taken(&mut client, &large) {}
    let (deadline, mut full_since) = (Instant::now() + DEADLINE, Instant::now());
    while full_since.elapsed() < FULL_FOR {
        assert!(Instant::now() < deadline, "the journal takes everything");
        if is_taken(&mut client, &small) {
            full_since = Instant::now();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_outlives_its_session_and_a_restart_until_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let journal = |mib: usize| format!("journal:\n  bytes_max: {mib}MiB\n  free_disk_min: 0\n");
    let will = noise(WILL_BYTES);
    let edge = start(folder.path(), &journal(64)).await;
    let (mqtt, http, payload) = (edge.mqtt_addresses()[0], edge.http_address(), will.clone());
    let script = move || {
        let (mut subscriber, _) = Client::connect(mqtt, "subscriber", false);
        subscriber.send(&subscribe(1, &["will"], 1));
        assert_eq!(subscriber.packet().0, 0x90);
        drop(subscriber);
        // Before the journal is full: a session's row may take what is spare, and messages then fit behind it.
        let dying = connect(mqtt, "dying", Some(&payload));
        fill(mqtt);
        drop(dying);
        wait_until("the end", || metric(http, ONLINE) == 0);
        assert_eq!(metric(http, SESSIONS), 2, "one is there for its will");
    };
    tokio::task::spawn_blocking(script).await.unwrap();
    edge.shutdown().await;
    let edge = start(folder.path(), &journal(128)).await;
    let (mqtt, http) = (edge.mqtt_addresses()[0], edge.http_address());
    let script = move || {
        let (mut subscriber, present) = Client::connect(mqtt, "subscriber", false);
        assert!(present);
        let (first, body) = subscriber.packet();
        assert_eq!(first & 0xf0, 0x30);
        assert!(body.ends_with(&will));
        wait_until("the session's end", || metric(http, SESSIONS) == 1);
        subscriber.ping();
    };
    tokio::task::spawn_blocking(script).await.unwrap();
    edge.shutdown().await;
}
