//! What a client's filters may take, whether or not its session outlives the connection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use support::{Client, packet, start, string};

const FILTER_BYTES: usize = 60_000;
/// `SESSION_SUBSCRIPTIONS_BYTES_MAX` by `FILTER_BYTES`.
const GRANTED: usize = 17;
const ASKED: usize = 20;
/// Small ones, so many at once: each 64 changes the session's row is written anew.
const SMALL: usize = 5_000;

/// MQTT 3.1.1 or 5, with a clean session or one that stays.
fn connect(edge: SocketAddr, version: u8, clean: bool) -> Client {
    let mut body = string(b"MQTT");
    body.extend([version, if clean { 2 } else { 0 }, 0, 0]);
    if version == 5 {
        let expiry = b"\x05\x11\x00\x00\x0e\x10";
        body.extend_from_slice(if clean { b"\0" } else { expiry });
    }
    body.extend(string(format!("client-{version}-{clean}").as_bytes()));
    let mut client = Client::open(edge, &packet(0x10, &body));
    let (first, answer) = client.packet();
    assert_eq!((first, answer[1]), (0x20, 0));
    client
}

fn subscribe(client: &mut Client, version: u8, filters: &[String]) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend((version == 5).then_some(0));
    for filter in filters {
        body.extend(string(filter.as_bytes()));
        body.push(1);
    }
    client.send(&packet(0x82, &body));
    let (first, answer) = client.packet();
    assert_eq!(first, 0x90);
    answer[if version == 5 { 3 } else { 2 }..].to_vec()
}

/// Each group looks at what each commit brings: so many a client may have.
#[tokio::test(flavor = "multi_thread")]
async fn shared_subscriptions_of_one_client_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let edge = start(folder.path(), "").await;
    let at = edge.mqtt_addresses()[0];
    let filters: Vec<_> = (0..70).map(|nth| format!("$share/{nth}/a")).collect();
    for clean in [true, false] {
        let mut client = connect(at, 5, clean);
        let codes = subscribe(&mut client, 5, &filters);
        assert!(codes[..64].iter().all(|code| *code == 1), "{codes:?}");
        assert!(codes[64..].iter().all(|code| *code == 0x97), "{codes:?}");
        let again = subscribe(&mut client, 5, &filters[..1]);
        assert_eq!(again, [1], "there is one already");
    }
    edge.shutdown().await;
}

fn unsubscribe(client: &mut Client, version: u8, filter: &str) {
    let mut body = vec![0, 1];
    body.extend((version == 5).then_some(0));
    body.extend(string(filter.as_bytes()));
    client.send(&packet(0xa2, &body));
    assert_eq!(client.packet().0, 0xb0);
}

fn check(edge: SocketAddr, version: u8, clean: bool) {
    let refused = if version == 5 { 0x97 } else { 0x80 };
    let mut client = connect(edge, version, clean);
    let large = |number: usize| format!("{number:04}/{}", "x".repeat(FILTER_BYTES - 5));
    let filters: Vec<_> = (0..ASKED).map(large).collect();
    let (first, second) = filters.split_at(ASKED / 2);
    let mut codes = subscribe(&mut client, version, first);
    codes.extend(subscribe(&mut client, version, second));
    let expected = (0..ASKED).map(|number| if number < GRANTED { 1 } else { refused });
    assert_eq!(codes, expected.collect::<Vec<_>>());
    // What is there may be asked for again, and what is given up makes room.
    assert_eq!(subscribe(&mut client, version, &filters[..1]), [1]);
    assert_eq!(
        subscribe(&mut client, version, &filters[ASKED - 1..]),
        [refused]
    );
    unsubscribe(&mut client, version, &filters[0]);
    assert_eq!(subscribe(&mut client, version, &filters[ASKED - 1..]), [1]);
    assert_eq!(subscribe(&mut client, version, &filters[..1]), [refused]);
    client.ping();
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_bounded_in_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let edge = start(folder.path(), "").await;
    let address = edge.mqtt_addresses()[0];
    let script = move || {
        for version in [4, 5] {
            check(address, version, true);
            check(address, version, false);
        }
    };
    tokio::task::spawn_blocking(script).await.unwrap();
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_filters_at_once_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for life in 0..2 {
        let edge = start(folder.path(), "").await;
        let address = edge.mqtt_addresses()[0];
        let script = move || {
            let (mut client, present) = Client::connect(address, "dev", false);
            assert_eq!(present, life == 1);
            if life == 0 {
                let filters: Vec<_> = (0..SMALL).map(|number| format!("small/{number}")).collect();
                let codes = subscribe(&mut client, 4, &filters);
                assert_eq!(codes, vec![1; SMALL]);
            }
            let (mut publisher, _) = Client::connect(address, "publisher", true);
            for topic in ["small/0".to_owned(), format!("small/{}", SMALL - 1)] {
                publisher.send(&support::publish(0x32, &topic, 1, b"x"));
                assert_eq!(publisher.packet().0, 0x40);
                let (first, body) = client.packet();
                assert_eq!(
                    (first & 0xf0, &body[2..2 + topic.len()]),
                    (0x30, topic.as_bytes())
                );
            }
        };
        tokio::task::spawn_blocking(script).await.unwrap();
        edge.shutdown().await;
    }
}
