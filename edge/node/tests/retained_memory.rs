//! What a subscriber costs in memory that asks for much and takes little. A process of its own: its size is
//! what is measured.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{Client, publish, start, subscribe};

const RETAINED: usize = 20_000;
/// Of one SUBSCRIBE.
const FILTERS: usize = 500;
/// "Bounded memory".
const MEMORY_BYTES_MAX: usize = 64 << 20;

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
    let folder = tempfile::tempdir().unwrap();
    let edge = start(folder.path(), "").await;
    let mqtt = edge.mqtt_addresses()[0];
    let script = move || {
        let (mut publisher, _) = Client::connect(mqtt, "publisher", true);
        retain_many(&mut publisher);
        let before = resident_bytes();
        let (mut subscriber, _) = Client::connect(mqtt, "subscriber", true);
        // All of them match everything.
        let filters: Vec<_> = (0..FILTERS)
            .map(|n| ["#", "m/#", "+/#", "m/+"][n % 4])
            .collect();
        subscriber.send(&subscribe(1, &filters, 1));
        let (first, codes) = subscriber.packet();
        assert_eq!((first, codes.len()), (0x90, 2 + FILTERS));
        assert_eq!(subscriber.packet().0 & 0xf0, 0x30);
        // It reads no more. A bystander is served meanwhile.
        publisher.ping();
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes for one subscriber");
    };
    tokio::task::spawn_blocking(script).await.unwrap();
    edge.shutdown().await;
}
