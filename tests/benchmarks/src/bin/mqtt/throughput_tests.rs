//! Whole runs against the sink: they end with all that was sent, and not with less.

use std::net::{SocketAddr, TcpListener};

use super::*;

/// A sink that ends with the test's process.
fn sink(lose_each: Option<u64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || crate::sink::serve(&listener, lose_each));
    address
}

fn arguments(address: SocketAddr, version: Version, clients: (usize, usize), qos: u8) -> Arguments {
    Arguments {
        broker: crate::Broker {
            address,
            pid: None,
            version,
        },
        publishers: clients.0,
        subscribers: clients.1,
        payload_bytes: 300,
        qos,
        under_way: 30,
        warm_up_seconds: 0.0,
        seconds: 0.0,
        messages: Some(3_000),
    }
}

#[test]
fn a_run_ends_when_everybody_has_everything() {
    for version in [Version::V3, Version::V5] {
        for clients in [(1, 1), (10, 1), (1, 10), (10, 10)] {
            for qos in 0..=2 {
                let address = sink(None);
                let report = run(arguments(address, version, clients, qos)).unwrap();
                let times = if clients == (1, 10) { 10 } else { 1 };
                assert_eq!(
                    report["deliveries"],
                    3_000 * times,
                    "{clients:?}, QoS {qos}"
                );
            }
        }
    }
}

#[test]
fn a_lost_message_ends_the_run_with_an_error() {
    for qos in 0..=2 {
        let address = sink(Some(1_000));
        let error = run(arguments(address, Version::V3, (1, 1), qos)).unwrap_err();
        assert_eq!(error.to_string(), "message 1000 came instead of 999");
    }
}
