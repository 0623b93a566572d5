//! The whole of `up` in this process: a message's journey from an MQTT client to a Kafka consumer,
//! over real sockets, and over a restart.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tidegate_shared::id::TopicName;

use super::node::{Node, TOPIC};
use super::preflight;
use crate::arguments::{Arguments, Command, UpArguments};
use crate::kafka_client::{Consumed, Consumer, StartAt};

const DEADLINE: Duration = Duration::from_secs(60);

fn arguments(data: &Path, more: &[&str]) -> UpArguments {
    let data = data.to_str().unwrap();
    let any = "127.0.0.1:0";
    let mut line = vec!["tidegate", "up", "--data", data];
    for flag in ["--mqtt", "--kafka", "--bridge", "--http", "--edge-http"] {
        if !more.contains(&flag) {
            line.extend([flag, any]);
        }
    }
    line.extend(more);
    let Command::Up(up) = Arguments::try_parse_from(line).unwrap().command else {
        panic!("not up");
    };
    *up
}

/// Publishes with QoS 1 and returns when all are acknowledged.
async fn publish(node: &Node, topic: &str, values: impl IntoIterator<Item = u32>) {
    let mqtt = node.mqtt().unwrap();
    let options = MqttOptions::new("device", mqtt.ip().to_string(), mqtt.port());
    let (client, mut connection) = AsyncClient::new(options, 100);
    let mut waiting = 0;
    for value in values {
        let sent = client.publish(topic, QoS::AtLeastOnce, false, value.to_string());
        sent.await.unwrap();
        waiting += 1;
    }
    while waiting > 0 {
        if let Event::Incoming(Packet::PubAck(_)) = connection.poll().await.unwrap() {
            waiting -= 1;
        }
    }
}

async fn consume(node: &Node, count: usize) -> Vec<Consumed> {
    let topic = TopicName::new(TOPIC).unwrap();
    let consumer = Consumer::connect(node.kafka(), topic, StartAt::Beginning).await;
    let mut consumer = consumer.unwrap();
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(consumer.poll().await.unwrap());
    }
    all
}

#[tokio::test]
async fn a_message_makes_the_whole_journey_and_stays_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = arguments(folder.path(), &[]);
    let journey = async {
        let node = Box::pin(Node::start(&arguments)).await.unwrap();
        let places = node.places(&arguments);
        publish(&node, "plant/line1/temperature", 0..50).await;
        let first = consume(&node, 50).await;
        for (value, consumed) in first.iter().enumerate() {
            let record = &consumed.record;
            assert_eq!(record.key.as_deref(), Some(&b"plant/line1/temperature"[..]));
            assert_eq!(record.value.as_deref(), Some(value.to_string().as_bytes()));
            assert_eq!(consumed.offset.0, value as i64);
            let header = &record.headers[0];
            assert_eq!(&header.name[..], b"mqtt.topic");
        }
        Box::pin(node.shutdown()).await;

        let node = Box::pin(Node::start(&arguments)).await.unwrap();
        assert_eq!(node.places(&arguments).edge, places.edge);
        publish(&node, "plant/line1/temperature", 50..60).await;
        let all = consume(&node, 60).await;
        assert_eq!(all[..50], first);
        let values: Vec<_> = all
            .iter()
            .map(|c| c.record.value.clone().unwrap())
            .collect();
        let expected: Vec<_> = (0..60).map(|value: u32| value.to_string()).collect();
        assert_eq!(values, expected);
        Box::pin(node.shutdown()).await;
    };
    tokio::time::timeout(DEADLINE, journey).await.unwrap();
}

fn refusal(arguments: &UpArguments) -> String {
    let error = preflight::check(arguments).expect_err("it must be refused");
    let line = format!("{error:#}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[test]
fn a_port_in_use_is_said_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    for flag in ["--mqtt", "--kafka", "--http", "--edge-http"] {
        let line = refusal(&arguments(folder.path(), &[flag, &taken_address]));
        assert!(line.contains("in use") && line.contains(flag), "{line}");
    }
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let line = refusal(&arguments(folder.path(), &["--bridge", &taken_address]));
    assert!(
        line.contains("UDP port") && line.contains("--bridge"),
        "{line}"
    );
    drop(taken);
    preflight::check(&arguments(folder.path(), &["--bridge", &taken_address])).unwrap();
}

#[test]
fn an_address_for_others_must_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let line = refusal(&arguments(folder.path(), &["--mqtt", "0.0.0.0:0"]));
    assert!(
        line.contains("--mqtt") && line.contains("--insecure"),
        "{line}"
    );
    let open = ["--insecure", "--kafka", "0.0.0.0:0"];
    let line = refusal(&arguments(folder.path(), &open));
    assert!(line.contains("--kafka-advertised"), "{line}");
    let open = [&open[..], &["--kafka-advertised", "k:9092"]].concat();
    preflight::check(&arguments(folder.path(), &open)).unwrap();
}

#[test]
fn a_folder_that_cannot_be_used_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let line = refusal(&arguments(&file, &[]));
    assert!(line.contains("--data") && line.contains("file"), "{line}");
    let arguments = arguments(folder.path(), &[]);
    let held = preflight::check(&arguments).unwrap();
    let line = refusal(&arguments);
    assert!(line.contains("in use by another process"), "{line}");
    drop(held);
    preflight::check(&arguments).unwrap();
}
