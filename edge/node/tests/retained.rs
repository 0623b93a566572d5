//! Retained messages as clients see them: the newest wins, and none costs memory that its subscriber does
//! not read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use support::{Client, publish, spec, subscribe};
use tidegate_edge::Edge;

const RETAINED: usize = 20_000;
/// Of one SUBSCRIBE.
const FILTERS: usize = 500;
/// "Bounded memory".
const MEMORY_BYTES_MAX: usize = 64 << 20;

async fn with_edge(more: &str, script: impl FnOnce(SocketAddr, SocketAddr) + Send + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(spec(folder.path(), more)).await.unwrap();
    let (mqtt, http) = (edge.mqtt_addresses()[0], edge.http_address());
    tokio::task::spawn_blocking(move || script(mqtt, http))
        .await
        .unwrap();
    edge.shutdown().await;
}

/// Of this process, the edge in it.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() << 10
}

fn retain_many(client: &mut Client) {
    let topics = (0..RETAINED).map(|number| format!("m/{number:05}"));
    let packets: Vec<_> = topics.map(|topic| publish(0x31, &topic, 0, b"x")).collect();
    client.send(&packets.concat());
    client.ping();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_asks_much_and_reads_nothing_costs_little() {
    with_edge("", |mqtt, _| {
        let (mut publisher, _) = Client::connect(mqtt, "publisher", true);
        retain_many(&mut publisher);
        let before = resident_bytes();
        let (mut subscriber, _) = Client::connect(mqtt, "subscriber", true);
        // Each of them is another filter, and matches everything: with QoS 1 the window is full soon.
        let filters: Vec<_> = (0..FILTERS)
            .map(|n| ["#", "m/#", "+/#", "m/+"][n % 4])
            .collect();
        subscriber.send(&subscribe(1, &filters, 1));
        let (first, codes) = subscriber.packet();
        assert_eq!((first, codes.len()), (0x90, 2 + FILTERS));
        // A bystander is served meanwhile.
        publisher.ping();
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes for one subscriber");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_all_that_its_filters_match() {
    with_edge("", |mqtt, _| {
        let (mut publisher, _) = Client::connect(mqtt, "publisher", true);
        retain_many(&mut publisher);
        for clean in [true, false] {
            let (mut subscriber, _) = Client::connect(mqtt, "subscriber", clean);
            subscriber.send(&subscribe(1, &["m/#", "m/#", "nothing/#", "m/00007"], 0));
            assert_eq!(subscriber.packet().0, 0x90);
            let mut topics: Vec<_> = (0..=RETAINED)
                .map(|_| {
                    let (first, body) = subscriber.packet();
                    assert_eq!(first & 0xf1, 0x31);
                    body[2..9].to_vec()
                })
                .collect();
            topics.sort();
            topics.dedup();
            assert_eq!(topics.len(), RETAINED, "one topic comes by two filters");
            subscriber.ping();
        }
    })
    .await;
}
