//! What listeners and their clients may take: past it a connection is closed, a client is slowed, a filter is
//! refused; and the figures say so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read;
use std::time::{Duration, Instant};

use support::{Client, counted, metric, publish, spec, subscribe, wait_until};
use tempfile::tempdir;
use tidegate_edge::Edge;
use tidegate_shared::fleet::{ByteSize, EdgeSpec, LimitsSpec};

/// Two listeners, the second of which has these limits.
fn limited(folder: &std::path::Path, limits: LimitsSpec) -> EdgeSpec {
    let mut spec = spec(folder, "");
    let mut listener = spec.mqtt.listeners[0].clone();
    listener.limits = limits;
    spec.mqtt.listeners.push(listener);
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_has_so_many_connections_and_another_is_not_concerned() {
    let folder = tempdir().unwrap();
    let limits = LimitsSpec {
        connections_max: Some(1),
        ..LimitsSpec::default()
    };
    let edge = Edge::start(limited(folder.path(), limits)).await.unwrap();
    let [open, narrow] = edge.mqtt_addresses()[..] else {
        panic!("two listeners");
    };
    let (first, _) = Client::connect(narrow, "first", true);
    let mut refused = Client::open(narrow, b"");
    assert_eq!(refused.0.read(&mut [0]).unwrap(), 0, "it is closed");
    let (mut other, _) = Client::connect(open, "other", true);
    other.ping();
    let refusals = "tidegate_mqtt_closed_total{name=\"too_many_of_listener\"}";
    assert_eq!(metric(edge.http_address(), refusals), 1);
    for listener in [open, narrow] {
        let connections = format!("tidegate_mqtt_listener_connections{{listener=\"{listener}\"}}");
        assert_eq!(metric(edge.http_address(), &connections), 1);
    }
    drop(first);
    wait_until("a place is free", || {
        let mut next = Client::open(narrow, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01n");
        matches!(next.0.read(&mut [0]), Ok(1))
    });
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_fast_is_slowed_and_loses_nothing() {
    let folder = tempdir().unwrap();
    let limits = LimitsSpec {
        messages_per_second_max: Some(20),
        ..LimitsSpec::default()
    };
    let edge = Edge::start(limited(folder.path(), limits)).await.unwrap();
    let (mut fast, _) = Client::connect(edge.mqtt_addresses()[1], "fast", true);
    let started = Instant::now();
    for id in 1..=40 {
        fast.send(&publish(0x32, "t", id, b"x"));
    }
    let pauses = "tidegate_mqtt_rate_pauses_total{name=\"messages_per_second_max\"}";
    wait_until("it is paused", || {
        counted(edge.http_address(), pauses) >= Some(1)
    });
    for id in 1..=40_u16 {
        assert_eq!(fast.packet(), (0x40, id.to_be_bytes().to_vec()));
    }
    // 20 at once, and the others at their pace.
    assert!(started.elapsed() >= Duration::from_millis(900));
    let paused = "tidegate_mqtt_rate_paused_clients";
    wait_until("it is read from", || {
        metric(edge.http_address(), paused) == 0
    });
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_packets_are_bounded_by_listener() {
    let folder = tempdir().unwrap();
    let limits = LimitsSpec {
        subscriptions_max: Some(2),
        packet_bytes_max: Some(ByteSize(1024)),
        ..LimitsSpec::default()
    };
    let edge = Edge::start(limited(folder.path(), limits)).await.unwrap();
    let [open, narrow] = edge.mqtt_addresses()[..] else {
        panic!("two listeners");
    };
    for (clean, name) in [(true, "live"), (false, "stored")] {
        let (mut client, _) = Client::connect(narrow, name, clean);
        client.send(&subscribe(1, &["a", "b", "a", "c"], 1));
        assert_eq!(client.packet(), (0x90, vec![0, 1, 1, 1, 1, 0x80]), "{name}");
    }
    // Also what is below $broadcast and $direct, but for what a client has of itself.
    let (mut client, _) = Client::connect(narrow, "addressed", false);
    let filters = [
        "$broadcast/a",
        "$direct/x/#",
        "$direct/addressed/#",
        "$direct/y/#",
    ];
    client.send(&subscribe(1, &filters, 1));
    assert_eq!(client.packet(), (0x90, vec![0, 1, 1, 1, 1, 0x80]));
    let large = publish(0x32, "t", 1, &[0; 1024]);
    let (mut client, _) = Client::connect(open, "open", true);
    client.send(&large);
    assert_eq!(client.packet().0, 0x40);
    let (mut client, _) = Client::connect(narrow, "narrow", true);
    client.send(&large);
    assert_eq!(client.0.read(&mut [0]).unwrap_or(0), 0, "it is closed");
    edge.shutdown().await;
}
